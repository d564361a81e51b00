"""What every data set looks like to the rest of the core: a `Source` of samples. Imports nothing heavy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Split = Literal["train", "val", "test"]

Size = tuple[int, int]
"""(height, width), pixels."""

Sample: TypeAlias = dict[str, "np.ndarray"]
"""One image and its labels; only the dataset's tasks are present.

"image" [H, W, 3] uint8 RGB; "semseg", "human_parts", "sal" [H, W] uint8, 255 = ignore; "depth" [H, W] float32 metres,
0 = invalid; "normals" [H, W, 3] float16 unit vectors in the camera frame, zero = invalid; "edge" [H, W] uint8 0 / 1,
255 = ignore. Whoever receives a sample only reads it: a source may hand out the same arrays again.
"""

Batch: TypeAlias = dict[str, "Tensor"]
"""Samples of equal size, on the device that was asked for.

"image" float32 [B, 3, H, W], normalised, 0 in the padding; class maps int64 [B, H, W], 255 = ignore; "depth" float32
[B, 1, H, W], 0 = invalid; "normals" float32 [B, 3, H, W], zero = invalid; "edge" float32 [B, 1, H, W] 0 / 1, 255 =
ignore.
"""


class Source(Protocol):
    """A split of a dataset, read by index.

    A source whose attribute `decodes_files` is true takes long enough per sample that the loader reads it ahead in a
    thread; it is read by one thread at a time.
    """

    @property
    def fingerprint(self) -> str:
        """Hex digest that changes whenever an image or a label does."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def name(self, index: int) -> str:
        """What messages call that sample."""
        ...


def use_all(images: Mapping[str, int]) -> str:
    """What to ask for, of data that are not the official splits: `all there are: --train-images 62 --val-images 40`."""
    return "all there are: " + " ".join(f"--{name}-images {number}" for name, number in images.items())
