"""NYUD-v2 in the packaging that ATRC, DeMT and InvPT train on (one folder per map, PNG and .npy, id lists in gt_sets).

    images/<id>.png          RGB
    segmentation/<id>.png    uint8, 0 = void, 1 .. 40
    depth/<id>.npy           float, metres, 0 = missing
    normals/<id>.png         uint8, n = 2 v / 255 - 1; (0, 0, 0) = invalid
    edge/<id>.png            uint8, value / 255
    gt_sets/train.txt, gt_sets/val.txt    one id a line

Everything that headers tell is checked when a split is opened, because training starts long after; the rest when a file is read.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from kdam_ray.data.source import Sample, Split

CLASSES = 40
FILES = {
    "image": ("images", ".png"),
    "semseg": ("segmentation", ".png"),
    "depth": ("depth", ".npy"),
    "normals": ("normals", ".png"),
    "edge": ("edge", ".png"),
}  # fmt: skip
MODES = {"image": ("RGB",), "semseg": ("L", "P"), "normals": ("RGB",), "edge": ("L", "1")}
KEPT_BYTES = 2 * 2**30
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)  # what PIL and numpy raise on bad files


class Nyud:
    """One split, decoded on demand and kept in memory as far as `kept_bytes` reaches; the oldest used go first."""

    decodes_files = True

    def __init__(
        self,
        root: str | Path,
        split: Split,
        *,
        images: int | None = None,
        image_size: tuple[int, int] | None = None,
        cache: Path | None = None,
        kept_bytes: int = KEPT_BYTES,
    ):
        """Opens the split and checks the files of every image that is used.

        Args:
            root: folder of the packaging.
            split: "train" or "val".
            images: how many, the first of the list; None: all.
            image_size: (height, width) that samples are resized to; None: as they are.
            cache: folder where hashes of files are remembered; None: nowhere.
            kept_bytes: decoded samples held in memory, bytes.

        Raises:
            ValueError: a folder, list or file is missing or is not what it should be; names it.
        """
        self.root = Path(root).expanduser()
        self.image_size, self.cache, self.kept_bytes = image_size, cache, kept_bytes
        _check_folders(self.root)
        self.ids = _first(read_ids(self.root / "gt_sets" / f"{split}.txt"), images, split)
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
            sample = self._decode(self.ids[index])
            self._bytes += _size_of(sample)
        self._kept[index] = sample
        while self._bytes > self.kept_bytes:
            self._bytes -= _size_of(self._kept.pop(next(iter(self._kept))))
        return sample

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the ids in their order and the contents of their files."""
        paths = [self._path(field, identity) for identity in self.ids for field in FILES]
        hashes = remembered_hashes(self.root, paths, self.cache)
        lines = (f"{path.relative_to(self.root).as_posix()} {digest}\n" for path, digest in zip(paths, hashes, strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _path(self, field: str, identity: str) -> Path:
        folder, suffix = FILES[field]
        return self.root / folder / f"{identity}{suffix}"

    def _check_files(self, identity: str) -> None:
        sizes = {field: _size_in_header(field, self._path(field, identity)) for field in FILES}
        for field, size in sizes.items():
            if size != sizes["image"]:
                height, width = sizes["image"]
                raise ValueError(
                    f"{self._path(field, identity)}: is {size[0]} x {size[1]} (height x width), but "
                    f"{self._path('image', identity)} is {height} x {width}; all maps of an image must have its size"
                )

    def _decode(self, identity: str) -> Sample:
        sample = {field: read(self._path(field, identity)) for field, read in READERS.items()}
        size = sample["image"].shape[:2]
        for field, array in sample.items():
            if array.shape[:2] != size:
                raise ValueError(
                    f"{self._path(field, identity)}: is {array.shape[:2]}, its image {size}; it has changed since it was checked"
                )
        return sample if self.image_size is None else resized(sample, self.image_size)


def read_ids(path: Path) -> list[str]:
    """The ids of a list, in its order.

    Raises:
        ValueError: the list is missing, empty, or holds an id twice or one that is no plain file name; names list and line.
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
            raise ValueError(f"{path}, line {number}: {identity!r} is not an id; an id is a file name without folder and ending")
        if identity in seen:
            raise ValueError(f"{path}, line {number}: {identity!r} stands in line {seen[identity]} already; an id may stand there once")
        seen[identity] = number
    if not seen:
        raise ValueError(f"{path}: holds no ids; it should hold one a line")
    return list(seen)


def _first(ids: list[str], images: int | None, split: str) -> list[str]:
    if images is not None and not 1 <= images <= len(ids):
        raise ValueError(f"{split}_images: {images} are asked for, but gt_sets/{split}.txt lists {len(ids)}; use 1 to {len(ids)}")
    return ids[:images]


def _check_folders(root: Path) -> None:
    if not root.is_dir():
        raise ValueError(
            f"root: {root} is no folder; give the folder that holds {', '.join(folder for folder, _ in FILES.values())}, gt_sets"
        )
    for folder in (*(folder for folder, _ in FILES.values()), "gt_sets"):
        if not (root / folder).is_dir():
            raise ValueError(f"root: {root} has no folder {folder}/, which the NYUD packaging has")


def _size_in_header(field: str, path: Path) -> tuple[int, int]:
    """(height, width) without decoding; the kind of file and its type are checked on the way."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file, but its id is in the list; add the file or take the id out of gt_sets")
    if field == "depth":
        return _open_depth(path).shape
    with _open_png(field, path) as image:
        return image.height, image.width


def _open_png(field: str, path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=("PNG",))
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as a PNG image ({error})") from None
    if image.mode not in MODES[field]:
        image.close()
        raise ValueError(f"{path}: is a PNG of mode {image.mode}; {FILES[field][0]} should be 8 bit {' or '.join(MODES[field])}")
    return image


def _open_depth(path: Path) -> np.ndarray:
    try:
        depth = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as a .npy array ({error})") from None
    if not isinstance(depth, np.ndarray) or depth.dtype.kind != "f" or depth.ndim != 2:
        kind = f"{depth.dtype} {depth.shape}" if isinstance(depth, np.ndarray) else "an archive"
        raise ValueError(f"{path}: is {kind}; depth should be a float array (height, width) in metres")
    return depth


def _pixels(field: str, path: Path) -> np.ndarray:
    with _open_png(field, path) as image:
        try:
            return np.asarray(image)
        except UNREADABLE as error:
            raise ValueError(f"{path}: cannot be decoded, the file may be cut off or damaged ({error})") from None


def _read_image(path: Path) -> np.ndarray:
    return _pixels("image", path)


def _read_semseg(path: Path) -> np.ndarray:
    stored = _pixels("semseg", path)
    if stored.max() > CLASSES:
        raise ValueError(f"{path}: holds label {stored.max()}; labels should be 0 (void) to {CLASSES}")
    return stored - np.uint8(1)  # wraps: void becomes 255, which is IGNORE


def _read_depth(path: Path) -> np.ndarray:
    depth = np.array(_open_depth(path), dtype=np.float32)
    if not np.isfinite(depth).all() or depth.min() < 0:
        raise ValueError(f"{path}: holds values that are negative or not finite; depth should be metres, 0 where it is missing")
    return depth


def _read_normals(path: Path) -> np.ndarray:
    stored = _pixels("normals", path)
    normals = stored.astype(np.float32) * np.float32(2 / 255) - 1
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)  # 8 bits leave lengths of 0.99 to 1.01; no code decodes to zero
    normals[~stored.any(-1)] = 0
    return normals.astype(np.float16)


def _read_edge(path: Path) -> np.ndarray:
    stored = _pixels("edge", path)
    return (stored >= 128 if stored.dtype == np.uint8 else stored).astype(np.uint8)


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    "image": _read_image,
    "semseg": _read_semseg,
    "depth": _read_depth,
    "normals": _read_normals,
    "edge": _read_edge,
}  # fmt: skip


def resized(sample: Sample, size: tuple[int, int]) -> Sample:
    """A sample at another size: the image filtered (bilinear, antialiased), labels by nearest pixel, edges kept connected.

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


def _size_of(sample: Sample) -> int:
    return sum(array.nbytes for array in sample.values())


def remembered_hashes(root: Path, paths: Iterable[Path], cache: Path | None) -> list[str]:
    """SHA-256 of each file, from memory where size and time of change are those of the last time.

    Args:
        root: folder that the paths are under.
        paths: files.
        cache: folder of the memory, which may be lost or damaged; None: hash everything.
    """
    memo = None if cache is None else cache / "hashes" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    known = {} if memo is None else _load_memo(memo)
    found: dict[str, list] = {}
    for path in paths:
        key, stat = path.relative_to(root).as_posix(), path.stat()
        state = [stat.st_size, stat.st_mtime_ns]
        entry = known.get(key)
        found[key] = entry if entry and entry[:2] == state else [*state, _hash(path)]
    if memo is not None and any(known.get(key) != entry for key, entry in found.items()):
        _save_memo(memo, known | found)
    return [entry[2] for entry in found.values()]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_memo(path: Path) -> dict[str, list]:
    try:
        memo = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {key: entry for key, entry in memo.items() if isinstance(entry, list) and len(entry) == 3} if isinstance(memo, dict) else {}


def _save_memo(path: Path, memo: dict[str, list]) -> None:
    """Written beside and renamed, since several processes may open the same root at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(memo))
    partial.replace(path)
