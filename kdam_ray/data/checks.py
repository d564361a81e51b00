"""What a sample must be, checked on its values: what headers cannot tell, and what nothing later would notice."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from kdam_ray.data.source import Sample
from kdam_ray.tasks import IGNORE, Dataset, Task

FARTHEST = 100.0  # metres; beyond it a depth map is in other units
UNIT_TOLERANCE = 0.01  # of the length of a normal; float16 rounds by 0.001
FIELDS: dict[str, tuple[type, tuple[int, ...]]] = {
    "image": (np.uint8, (3,)),
    "semseg": (np.uint8, ()),
    "human_parts": (np.uint8, ()),
    "sal": (np.uint8, ()),
    "depth": (np.float32, ()),
    "normals": (np.float16, (3,)),
    "edge": (np.uint8, ()),
}  # fmt: skip


def sample_problems(sample: Sample, dataset: Dataset) -> list[str]:
    """Everything about a sample that is not as `data.source` says; empty if it is as it should be.

    Args:
        sample: one image and its maps, [H, W, ...].
        dataset: whose tasks it must have.
    """
    missing = [f"has no {task.name} map" for task in dataset.tasks if task.name not in sample]
    wrong = [
        problem
        for name, array in sample.items()
        if (problem := _of_another_form(name, array, sample["image"].shape[:2]))
    ]
    if missing or wrong:
        return missing + wrong
    return [
        f"{task.name} {problem}" for task in dataset.tasks for problem in VALUES[task.kind](sample[task.name], task)
    ]


def _of_another_form(name: str, array: np.ndarray, size: tuple[int, ...]) -> str | None:
    dtype, tail = FIELDS[name]
    if array.dtype == dtype and array.shape == (*size, *tail):
        return None
    return f"{name} is {array.dtype} {array.shape}; it should be {np.dtype(dtype)} {(*size, *tail)}"


def _wrong_classes(labels: np.ndarray, task: Task) -> Iterator[str]:
    yield from _others(labels, range(task.channels))


def _wrong_edges(labels: np.ndarray, task: Task) -> Iterator[str]:
    del task
    yield from _others(labels, range(2))


def _others(labels: np.ndarray, allowed: Sequence[int]) -> Iterator[str]:
    counts = np.bincount(labels.ravel(), minlength=256)
    counts[[*allowed, IGNORE]] = 0
    if counts.any():
        label, last = int(np.flatnonzero(counts)[0]), allowed[-1]
        yield f"holds label {label} ({counts[label]} pixels); labels should be 0 to {last}, or {IGNORE} (ignored)"


def _wrong_depth(depth: np.ndarray, task: Task) -> Iterator[str]:
    del task
    if not np.isfinite(depth).all() or depth.min(initial=0) < 0:
        yield "holds values that are negative or not finite; it should be metres, 0 where it is missing"
    elif depth.max(initial=0) > FARTHEST:
        yield f"reaches {depth.max():g}; it should be metres, at most {FARTHEST:g}"


def _wrong_normals(normals: np.ndarray, task: Task) -> Iterator[str]:
    del task
    squares = np.einsum("hwc,hwc->hw", normals, normals, dtype=np.float32)
    off = (np.abs(squares - 1) > 2 * UNIT_TOLERANCE) & (squares != 0)  # d(n^2) = 2 n dn
    if not np.isfinite(squares).all():
        yield "holds values that are not finite; it should be unit vectors, zero where it is invalid"
    elif off.any():
        yield f"holds {off.sum()} vectors that are not of length 1, such as {squares[off][0] ** 0.5:.3g}"


VALUES: dict[str, Callable[[np.ndarray, Task], Iterator[str]]] = {
    "classes": _wrong_classes,
    "saliency": _wrong_classes,
    "depth": _wrong_depth,
    "normals": _wrong_normals,
    "edge": _wrong_edges,
}
