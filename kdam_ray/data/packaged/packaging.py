"""Datasets that are folders of files: lists of ids, checks before training, decoding on demand, memory, fingerprints.

What differs between packagings is data, a `Packaging`: which folders and endings there are, what kind of file each is,
how its content becomes an array, and which files a map is made of. `Packaged` is one split of any of them, as a
`Source`.

Everything that headers tell is checked when a split is opened, because training starts long after; the rest when a file
is read. Nothing is ever written into the root, and nothing outside of it is read: an id is a plain file name, a link
must stay inside.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from kdam_ray.data.packaged.file_kinds import one_line
from kdam_ray.data.source import Sample, Size, Split, use_all
from kdam_ray.files import remembered_hashes

STORED = {"normals": np.float16}  # in samples; `labels` gives them as they were read


class FileKind(Protocol):
    """How one sort of file is opened; both raise a ValueError of one line that names the file."""

    def size(self, path: Path) -> Size | None:
        """(height, width) from the header, whose types are checked; None where it does not tell."""
        ...

    def read(self, path: Path) -> Any:
        """The content."""
        ...


def unchanged(content: np.ndarray) -> np.ndarray:
    return content


@dataclass(frozen=True)
class File:
    """One file per image.

    Attributes:
        folders: where it lies, under the root; of several, the first that has it.
        suffix: its ending, with the dot.
        kind: how it is opened.
        decode: from content to an array [H, W, ...]; a ValueError says what is wrong with it. An empty array, whose
            size is not checked, says that the image has none.
    """

    folders: tuple[str, ...]
    suffix: str
    kind: FileKind
    decode: Callable[[Any], np.ndarray] = unchanged


@dataclass(frozen=True)
class Map:
    """One map of a sample.

    Attributes:
        files: keys of `Packaging.files` that it is made of.
        make: from their arrays to the map [H, W, ...], at full precision.
    """

    files: tuple[str, ...]
    make: Callable[..., np.ndarray] = unchanged


@dataclass(frozen=True)
class Packaging:
    """One packaging.

    Attributes:
        name: how messages call it.
        lists: folder of train.txt and val.txt.
        files: one row per file of an image, "image" among them.
        maps: one row per map of a sample, "image" among them.
        regions: what the published boundary evaluator takes the true boundary from.
    """

    name: str
    lists: str
    files: dict[str, File]
    maps: dict[str, Map]
    regions: Map

    @property
    def folders(self) -> dict[str, tuple[str, ...]]:
        """The folders of each file of an image; that of the lists last."""
        return {key: file.folders for key, file in self.files.items()} | {"lists": (self.lists,)}


class Packaged:
    """One split, decoded on demand and kept in memory as far as `kept_bytes` reaches; the oldest used go first."""

    decodes_files = True
    kept_bytes = 2 * 2**30  # of decoded samples in memory

    def __init__(
        self,
        packaging: Packaging,
        root: str | Path,
        split: Split,
        *,
        images: int | None = None,
        image_size: Size | None = None,
        cache: Path | None = None,
    ):
        """Opens the split and checks the files of every image that is used.

        Args:
            packaging: the packaging.
            root: its folder.
            split: "train" or "val".
            images: how many, the first of the list; None: all.
            image_size: (height, width) that samples are resized to; None: as they are.
            cache: folder where hashes of files are remembered; None: nowhere.

        Raises:
            ValueError: a folder, list or file is missing or is not what it should be; names it.
        """
        self.packaging, self.root = packaging, Path(root).expanduser()
        self.image_size, self.cache = image_size, cache
        check_folders(packaging, self.root)
        self.ids = first_ids(packaging, self.root, split, images)
        for identity in self.ids:
            self._check_files(identity)
        self._kept: dict[int, Sample] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, index: int) -> str:
        return self.ids[index]

    def __getitem__(self, index: int) -> Sample:
        """Decodes one sample, or takes it from memory.

        Raises:
            ValueError: a file that cannot be read, or holds what it must not; names it.
        """
        sample = self._kept.pop(index, None)
        if sample is None:
            sample = self._sample(self.ids[index])
            self._bytes += bytes_of(sample)
        self._kept[index] = sample
        while self._bytes > self.kept_bytes:
            self._bytes -= bytes_of(self._kept.pop(next(iter(self._kept))))
        return sample

    def labels(self, index: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Labels at the image's own size and full precision, normals float32; only files that they need are decoded.

        Args:
            index: of the image.
            names: of the maps.

        Raises:
            ValueError: a map that there is none of, or a file that cannot be read; names it.
        """
        unknown = [name for name in names if name not in self.packaging.maps]
        if unknown:
            raise ValueError(
                f"names: {unknown[0]!r} is not one of {self.packaging.name}: {', '.join(self.packaging.maps)}"
            )
        return self._made(self.ids[index], {name: self.packaging.maps[name] for name in names})

    def regions(self, index: int) -> np.ndarray:
        """What the published boundary evaluator takes the true boundary from, [H, W] bool or int32, unresized."""
        return self._made(self.ids[index], {"regions": self.packaging.regions})["regions"]

    def size(self, index: int) -> Size:
        """(height, width) of the image as it is stored, from its header."""
        return self._image_size(self.ids[index])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the ids in their order and the contents of their files."""
        paths = [self._path(key, identity) for identity in self.ids for key in self.packaging.files]
        hashes = remembered_hashes(self.root, paths, self.cache)
        lines = (
            f"{path.relative_to(self.root).as_posix()} {digest}\n" for path, digest in zip(paths, hashes, strict=True)
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _path(self, key: str, identity: str) -> Path:
        return find_file(self.packaging, self.root, key, identity)

    def _image_size(self, identity: str) -> Size:
        path = self._path("image", identity)
        size = self.packaging.files["image"].kind.size(path)
        assert size is not None  # every header of an image tells it
        return size

    def _check_files(self, identity: str) -> None:
        height, width = self._image_size(identity)
        for key, file in self.packaging.files.items():
            path = self._path(key, identity)
            size = file.kind.size(path)
            if size not in (None, (height, width)):
                raise ValueError(
                    f"{path}: is {size[0]} x {size[1]} (height x width), but "
                    f"{self._path('image', identity)} is {height} x {width}; all maps of an image must have its size"
                )

    def _sample(self, identity: str) -> Sample:
        made = self._made(identity, self.packaging.maps)
        sample = {name: array.astype(STORED.get(name, array.dtype), copy=False) for name, array in made.items()}
        return sample if self.image_size is None else resized(sample, self.image_size)

    def _made(self, identity: str, maps: dict[str, Map]) -> dict[str, np.ndarray]:
        size = self._image_size(identity)
        keys = dict.fromkeys(key for row in maps.values() for key in row.files)
        arrays = {key: self._array(key, identity, size) for key in keys}
        return {name: row.make(*(arrays[key] for key in row.files)) for name, row in maps.items()}

    def _array(self, key: str, identity: str, size: Size) -> np.ndarray:
        path, file = self._path(key, identity), self.packaging.files[key]
        content = file.kind.read(path)
        try:
            array = file.decode(content)
        except ValueError as error:
            raise ValueError(f"{path}: {one_line(error)}") from None
        if array.size and array.shape[:2] != size:
            raise ValueError(
                f"{path}: is {array.shape[:2]}, its image {size} (height, width); "
                "all maps of an image must have its size"
            )
        return array


def check_folders(packaging: Packaging, root: Path) -> None:
    """Whether the root has the packaging's folders, none of which leads out of it.

    Raises:
        ValueError: one is missing, or is a link that leads out of the root; names it.
    """
    needed = list(dict.fromkeys(packaging.folders.values()))
    if not root.is_dir():
        raise ValueError(
            f"root: {root} is no folder; give the folder that holds {', '.join(' or '.join(row) for row in needed)}"
        )
    for alternatives in needed:
        if not any((root / folder).is_dir() for folder in alternatives):
            names = " or ".join(f"{folder}/" for folder in alternatives)
            raise ValueError(f"root: {root} has no folder {names}, which the {packaging.name} packaging has")
        for folder in alternatives:
            _stay_inside(root / folder, root)


def _stay_inside(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{path}: is a link that leads out of {root}; a packaging should hold its own files")


def find_file(packaging: Packaging, root: Path, key: str, identity: str) -> Path:
    """Where a file of an image lies; folders are taken as checked.

    Raises:
        ValueError: it is missing, or is a link that leads out of the root; names it.
    """
    file = packaging.files[key]
    paths = [root / folder / f"{identity}{file.suffix}" for folder in file.folders]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        others = "".join(f", nor {path}" for path in paths[1:])
        raise ValueError(
            f"{paths[0]}: no such file{others}, but its id is in the list; "
            f"add the file or take the id out of {packaging.lists}"
        )
    if found.is_symlink():
        _stay_inside(found, root)
    return found


def first_ids(packaging: Packaging, root: Path, split: Split, images: int | None) -> list[str]:
    """The first `images` ids of a split's list, or all.

    Raises:
        ValueError: more than there are, or less than one; or see `read_ids`.
    """
    path = root / packaging.lists / f"{split}.txt"
    _stay_inside(path, root)
    ids = read_ids(path)
    if images is not None and not 1 <= images <= len(ids):
        whole = {name: len(read_ids(root / packaging.lists / f"{name}.txt")) for name in ("train", "val")}
        raise ValueError(
            f"{split}_images: {images} are asked for, but {packaging.lists}/{split}.txt lists {len(ids)}; "
            f"{use_all(whole)}"
        )
    return ids[:images]


def read_ids(path: Path) -> list[str]:
    """The ids of a list, in its order.

    Raises:
        ValueError: the list is missing, empty, or holds an id twice or one that is no plain file name; names list and
            line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such list; it should hold one image id a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a text file of ids ({error})") from None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        identity = line.strip()
        if not identity:
            continue
        if identity.startswith(".") or any(character in identity for character in "/\\\0"):
            raise ValueError(
                f"{path}, line {number}: {identity!r} is not an id; an id is a file name without folder and ending"
            )
        if identity in seen:
            raise ValueError(
                f"{path}, line {number}: {identity!r} stands in line {seen[identity]} already; "
                "an id may stand there once"
            )
        seen[identity] = number
    if not seen:
        raise ValueError(f"{path}: holds no ids; it should hold one a line")
    return list(seen)


def resized(sample: Sample, size: Size) -> Sample:
    """A sample at another size: image filtered (bilinear, antialiased), labels by nearest pixel, edges kept connected.

    Depth and normals keep their values: the scene stays where it is, only the sampling changes.

    Args:
        sample: maps [H, W].
        size: (height, width), pixels.
    """
    height, width = sample["image"].shape[:2]
    rows, columns = np.arange(size[0]) * height // size[0], np.arange(size[1]) * width // size[1]
    maps = {name: array.take(rows, 0).take(columns, 1) for name, array in sample.items() if name != "image"}
    # one pixel wide contours would fall between the pixels taken: a pixel is edge if any of those it stands for is
    y, x = np.nonzero(sample["edge"] == 1)
    maps["edge"][y * size[0] // height, x * size[1] // width] = 1
    image = Image.fromarray(sample["image"]).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return {"image": np.asarray(image), **maps}


def bytes_of(sample: Sample) -> int:
    return sum(array.nbytes for array in sample.values())
