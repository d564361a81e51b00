"""A folder of predictions, as any code base may write it: one file per task and image.

| file | content |
|---|---|
| `semseg/<id>.png`, `human_parts/<id>.png` | uint8 class ids from 0 |
| `sal/<id>.png`, `edge/<id>.png` | uint8, floor(255 * probability) |
| `depth/<id>.npy` | float [H, W], metres |
| `normals/<id>.npy` | float [H, W, 3], any length |
| `normals/<id>.png` | uint8 RGB, n = 2 v / 255 - 1, as the data sets store their labels |

Sizes are those of the image; padding is cut off.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kdam_ray.data.packaged.file_kinds import UNREADABLE
from kdam_ray.tasks import Kind, Task

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "classes": (".png",), "saliency": (".png",), "depth": (".npy",), "normals": (".npy", ".png"), "edge": (".png",),
}  # fmt: skip
NAMED = 5  # files that a message lists before it counts the rest


@dataclass(frozen=True)
class Inventory:
    """What is in a folder of predictions.

    Attributes:
        files: task -> id -> file.
        missing: files that should be there, by the name they should have.
        extra: files whose id is none of the split's.
    """

    files: dict[str, dict[str, Path]]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def take_inventory(folder: Path, tasks: Sequence[Task], ids: Sequence[str]) -> Inventory:
    """Which predictions there are; a task without a folder is not scored and misses nothing.

    Args:
        folder: of the predictions.
        tasks: of the dataset.
        ids: of the split.

    Raises:
        ValueError: no such folder, a folder for none of the tasks, or an id with two files.
    """
    if not folder.is_dir():
        raise ValueError(f"predictions: {folder} is no folder")
    present = [task for task in tasks if (folder / task.name).is_dir()]
    if not present:
        raise ValueError(f"predictions: {folder} holds none of the folders {', '.join(task.name for task in tasks)}")
    wanted, files, missing, extra = set(ids), {}, [], []
    for task in present:
        found: dict[str, Path] = {}
        for path in sorted((folder / task.name).iterdir()):
            if path.suffix not in SUFFIXES[task.kind] or path.stem not in wanted:
                extra.append(f"{task.name}/{path.name}")
            elif path.stem in found:
                raise ValueError(
                    f"predictions: {path} stands beside {found[path.stem].name}; one file per image and task"
                )
            else:
                found[path.stem] = path
        files[task.name] = found
        missing += [f"{task.name}/{identity}{SUFFIXES[task.kind][0]}" for identity in ids if identity not in found]
    return Inventory(files, tuple(missing), tuple(extra))


def read_prediction(path: Path, task: Task, size: tuple[int, int]) -> np.ndarray:
    """One prediction in the form that `models.heads.decode` gives.

    Args:
        path: the file.
        task: whose it is.
        size: (height, width) that it must have.

    Returns:
        classes: int64 [H, W]; saliency: float32 [H, W], probability; edge: uint8 [H, W]; depth: float [1, H, W];
        normals: float [3, H, W].

    Raises:
        ValueError: unreadable, of another size or type, NaN or infinite, or a class that does not exist; names the
            file.
    """
    array = _array(path) if path.suffix == ".npy" else _pixels(path)
    channels = 3 if task.kind == "normals" else 1
    shape = (*size, 3) if channels == 3 else size
    if array.shape != shape:
        raise ValueError(
            f"{path}: is {size_text(array.shape)}, but should be {size_text(shape)} (height x width), "
            "the size of its image"
        )
    if path.suffix == ".npy":
        if array.dtype.kind != "f":
            raise ValueError(f"{path}: holds {array.dtype}; {task.name} should be floating point")
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: holds NaN or infinite values")
        return array[None] if channels == 1 else np.moveaxis(array, -1, 0)
    if task.kind == "normals":
        return np.moveaxis(array.astype(np.float32) * np.float32(2 / 255) - 1, -1, 0)
    if task.kind == "classes":
        if array.max() >= task.channels:
            raise ValueError(
                f"{path}: holds class {array.max()}; {task.name} has {task.channels}, 0 to {task.channels - 1}"
            )
        return array.astype(np.int64)
    return array.astype(np.float32) / np.float32(255) if task.kind == "saliency" else array


def write_prediction(folder: Path, task: Task, identity: str, prediction: np.ndarray) -> Path:
    """Writes what `read_prediction` reads; folders are made.

    Args:
        folder: of the predictions.
        task: whose it is.
        identity: of the image.
        prediction: as `models.heads.decode` gives it, of one image.

    Returns:
        The file.
    """
    path = folder / task.name / f"{identity}{SUFFIXES[task.kind][0]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if task.kind in ("depth", "normals"):
        np.save(path, prediction[0] if task.kind == "depth" else np.moveaxis(prediction, 0, -1))
    else:
        stored = prediction * np.float32(255) if task.kind == "saliency" else prediction
        Image.fromarray(stored.astype(np.uint8)).save(path)
    return path


def listed(names: Iterable[str]) -> str:
    """The first few names and how many more there are."""
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _pixels(path: Path) -> np.ndarray:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.mode not in ("L", "P", "RGB"):
                raise ValueError(f"mode {image.mode}")
            return np.asarray(image)
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as an 8-bit PNG image ({error})") from None


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as a .npy array ({error})") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: is an archive, not one .npy array")
    return array


def size_text(shape: Sequence[int]) -> str:
    """A size as messages name it: `425 x 560`."""
    return " x ".join(map(str, shape))
