"""The kinds of file that packagings hold (PNG, JPEG, .npy, .mat), opened so that a bad one is named in one line.

Each kind is a row of data: `size` looks at the header alone, `read` gives the content; see `packaging.FileKind`.
Nothing that is stored in a file is ever executed: no pickles, no MATLAB objects.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# what PIL and numpy raise on bad files
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
NUMBERS = "fiub"  # numpy's kinds: floating, signed, unsigned, bool


def one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@dataclass(frozen=True)
class ImageFile:
    """A PNG or JPEG image, read as an array [H, W] or [H, W, 3].

    Attributes:
        modes: what PIL calls the pixels that it may have; palettes are read by index.
        format: PNG or JPEG.
        colour: turn other modes into RGB.
    """

    modes: tuple[str, ...]
    format: str = "PNG"
    colour: bool = False

    def open(self, path: Path) -> Image.Image:
        try:
            image = Image.open(path, formats=(self.format,))
        except UNREADABLE as error:
            raise ValueError(f"{path}: cannot be read as a {self.format} image ({one_line(error)})") from None
        if image.mode not in self.modes:
            image.close()
            wanted = " or ".join(self.modes)
            raise ValueError(
                f"{path}: is a {self.format} of mode {image.mode}; {path.parent.name} should be 8 bit {wanted}"
            )
        return image

    def size(self, path: Path) -> tuple[int, int]:
        with self.open(path) as image:
            return image.height, image.width

    def read(self, path: Path) -> np.ndarray:
        with self.open(path) as image:
            try:
                return np.asarray(image.convert("RGB") if self.colour else image)
            except UNREADABLE as error:
                raise ValueError(
                    f"{path}: cannot be decoded, the file may be cut off or damaged ({one_line(error)})"
                ) from None


@dataclass(frozen=True)
class ArrayFile:
    """A .npy array of numbers.

    Attributes:
        axes: its shape in words, (height, width) or (height, width, 3).
        types: kinds of number it may hold, see `NUMBERS`.
    """

    axes: str = "(height, width)"
    types: str = NUMBERS

    def open(self, path: Path) -> np.ndarray:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except UNREADABLE as error:
            raise ValueError(f"{path}: cannot be read as a .npy array ({one_line(error)})") from None
        if not isinstance(array, np.ndarray) or array.dtype.kind not in self.types or not self._fits(array.shape):
            is_a = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
            word = "a float array" if self.types == "f" else "an array of numbers"
            raise ValueError(f"{path}: is {is_a}; {path.parent.name} should be {word} {self.axes}")
        return array

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 2 if self.axes == "(height, width)" else len(shape) == 3 and shape[2] == 3

    def size(self, path: Path) -> tuple[int, int]:
        height, width = self.open(path).shape[:2]
        return height, width

    def read(self, path: Path) -> np.ndarray:
        return np.array(self.open(path))


@dataclass(frozen=True)
class MatlabFile:
    """One variable of a MATLAB file (up to version 7), read as scipy gives it.

    Attributes:
        key: name of the variable.
        is_map: it is an array of numbers (height, width); otherwise a structure, whose header tells no size.
    """

    key: str
    is_map: bool = True

    def size(self, path: Path) -> tuple[int, int] | None:
        from scipy.io import whosmat

        headers = {name: shape for name, shape, _ in self._scipy(whosmat, path)}
        if self.key not in headers:
            raise ValueError(f"{path}: has no variable {self.key}; it has {', '.join(headers) or 'none'}")
        if not self.is_map:
            return None
        if len(headers[self.key]) != 2:
            raise ValueError(f"{path}: its {self.key} is {headers[self.key]}; it should be (height, width)")
        height, width = headers[self.key]
        return height, width

    def read(self, path: Path) -> Any:
        from scipy.io import loadmat

        content = self._scipy(loadmat, path, variable_names=[self.key])
        if self.key not in content:
            raise ValueError(f"{path}: has no variable {self.key}")
        value = content[self.key]
        if self.is_map and (not isinstance(value, np.ndarray) or value.dtype.kind not in NUMBERS or value.ndim != 2):
            raise ValueError(f"{path}: its {self.key} is no array of numbers (height, width)")
        return value

    @staticmethod
    def _scipy(function: Callable[..., Any], path: Path, **options: Any) -> Any:
        try:
            return function(path, **options)
        except NotImplementedError:
            raise ValueError(f"{path}: is a MATLAB 7.3 file; save it with -v7") from None
        except Exception as error:  # damaged files make scipy raise whatever its parser stumbles over
            raise ValueError(
                f"{path}: cannot be read as a MATLAB file, it may be cut off or damaged ({one_line(error)})"
            ) from None
