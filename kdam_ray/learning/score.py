"""Scoring a folder of predictions against a packaging: the evaluation of training, without a network.

Images are independent: each is scored by itself in a pool of processes, the sums are merged (law 5), so that the number
of processes changes nothing but the time.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from kdam_ray.data.predictions import Inventory, read_prediction
from kdam_ray.metrics import BoundaryF, Convention, MeanIoU, Metric, build_metric, true_boundaries, warm_up
from kdam_ray.tasks import Dataset, Kind, Task


class Labelled(Protocol):
    """A split whose labels can be read without its images (`data.packaging`)."""

    ids: list[str]

    def size(self, index: int) -> tuple[int, int]: ...

    def labels(self, index: int, names: Sequence[str]) -> dict[str, np.ndarray]: ...

    def regions(self, index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Request:
    """What is scored, and how.

    Attributes:
        dataset: the dataset's row.
        source: the split.
        inventory: the predictions.
        convention: whose definitions.
        edge_ids: images on which boundaries are scored; None: all.
        edge_truth: "regions": from what the published evaluator takes (`Labelled.regions`); "label": from the label
            that networks are trained on.
    """

    dataset: Dataset
    source: Labelled
    inventory: Inventory
    convention: Convention = "atrc"
    edge_ids: frozenset[str] | None = None
    edge_truth: str = "regions"


@dataclass
class ImageScore:
    """One image's part.

    Attributes:
        identity: of the image.
        values: "semseg/mIoU" -> value of this image alone.
        states: task -> the metric's sums.
        problems: files that could not be scored, each in one line.
    """

    identity: str
    values: dict[str, float] = field(default_factory=dict)
    states: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass
class Scores:
    """Scores of the whole split.

    Attributes:
        metrics: "semseg/mIoU" -> value, in the paper's units.
        per_image: id -> the same of that image alone; mIoU then is the mean over the classes that occur in it.
        per_class: task -> class -> IoU in percent, None where a class occurs nowhere.
        images: images with at least one scored prediction.
        problems: files that could not be scored.
    """

    metrics: dict[str, float]
    per_image: dict[str, dict[str, float]]
    per_class: dict[str, dict[str, float | None]]
    images: int
    problems: list[str]


def score_images(request: Request, *, processes: int) -> Iterator[ImageScore]:
    """One ImageScore an image, as they become ready, in the order of the split.

    Args:
        request: what.
        processes: side by side; 1: in this one.
    """
    indices = range(len(request.source.ids))
    if processes <= 1:
        yield from (_score_image(request, index) for index in indices)
        return
    if "edge" in request.inventory.files:
        warm_up()  # compiled once, before the processes need it
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(processes, len(indices)), initializer=_start, initargs=(request,)) as pool:
        yield from pool.imap(_score_index, indices, chunksize=4)


def total(request: Request, parts: Sequence[ImageScore]) -> Scores:
    """All images together: sums merged, divided once."""
    metrics: dict[str, Metric] = {}
    for part in parts:
        for name, state in part.states.items():
            metrics.setdefault(name, _metric(request, name)).merge(state)
    values = {f"{name}/{key}": value for name, metric in metrics.items() for key, value in metric.compute().items()}
    classes = {name: metric.per_class() for name, metric in metrics.items() if isinstance(metric, MeanIoU)}
    return Scores(
        metrics=values,
        per_image={part.identity: part.values for part in parts if part.values},
        per_class={
            name: dict(zip(_class_names(request.dataset, name), row, strict=True)) for name, row in classes.items()
        },
        images=sum(bool(part.states) for part in parts),
        problems=[problem for part in parts for problem in part.problems],
    )


def _class_names(dataset: Dataset, name: str) -> Sequence[str]:
    count = dataset.task(name).channels
    return dataset.classes if name == "semseg" and len(dataset.classes) == count else [str(n) for n in range(count)]


# labels as a packaging gives them -> as metrics take them, of one image
LABEL_SHAPES: dict[Kind, Callable[[np.ndarray], np.ndarray]] = {
    "classes": lambda label: label.astype(np.int64),
    "saliency": lambda label: label.astype(np.int64),
    "edge": lambda label: label.astype(np.float32)[None],
    "depth": lambda label: label[None],
    "normals": lambda label: np.moveaxis(label, -1, 0),
}

_REQUEST: list[Request] = []  # of this process of the pool


def _start(request: Request) -> None:
    torch.set_num_threads(1)
    _REQUEST[:] = [request]


def _score_index(index: int) -> ImageScore:
    return _score_image(_REQUEST[0], index)


def _score_image(request: Request, index: int) -> ImageScore:
    part = ImageScore(request.source.ids[index])
    size = None
    for name, files in request.inventory.files.items():
        path = files.get(part.identity)
        if path is None or (name == "edge" and request.edge_ids is not None and part.identity not in request.edge_ids):
            continue
        try:
            size = size or request.source.size(index)
            metric = _scored(
                request, request.dataset.task(name), index, read_prediction(path, request.dataset.task(name), size)
            )
        except ValueError as error:
            part.problems.append(str(error))
            continue
        part.states[name] = metric.state()
        part.values |= {f"{name}/{key}": value for key, value in metric.compute_image().items()}
    return part


def _scored(request: Request, task: Task, index: int, prediction: np.ndarray) -> Metric:
    metric = _metric(request, task.name)
    if isinstance(metric, BoundaryF) and request.edge_truth == "regions":
        metric.update_boundary(prediction, true_boundaries(request.source.regions(index), "seg2bmap"))
        return metric
    label = np.asarray(request.source.labels(index, [task.name])[task.name])
    shaped = LABEL_SHAPES[task.kind](label)
    metric.update_with(*(torch.from_numpy(np.array(array)[None]) for array in (prediction, shaped)))
    return metric


def _metric(request: Request, name: str) -> Metric:
    return build_metric(request.dataset.task(name), request.dataset, convention=request.convention)
