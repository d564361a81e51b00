"""Pictures of what networks predict: for a few fixed images, every task by every network beside image and ground truth.

What is drawn is what is scored: batches, padding, resizing, autocast and `decode` are those of `evaluate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from kdam_ray.data.colours import class_names, coloured, coloured_prediction, depth_range
from kdam_ray.data.loader import Batching, whole_batch
from kdam_ray.data.source import Batch, Source
from kdam_ray.learning.evaluate import inner, logits_of
from kdam_ray.learning.figure import Block, Legend, Panel, draw_blocks
from kdam_ray.models.heads import decode, resize
from kdam_ray.tasks import IGNORE, Dataset, Task

SUMMARY_SIDE = 384  # longest side of a cell of a summary, pixels

TaskMaps = Mapping[str, np.ndarray | None]  # by task; None: the network's output is not finite
Columns = Mapping[str, TaskMaps]  # by title


def fixed_indices(length: int, count: int) -> list[int]:
    """At most `count` indices below `length`, evenly spread, the same every time."""
    count = min(length, count)
    return [(2 * number + 1) * length // (2 * count) for number in range(count)]


def draw(
    networks: Mapping[str, nn.Module],
    source: Source,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    image_size: tuple[int, int],
    tasks: Sequence[str],
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> Image.Image:
    """One block an image: beside it ground truth and each network, a row a task; beneath it what the colours mean.

    Args:
        networks: by the column's title, in order; each is left in the mode it was found in, without gradients.
        source: the evaluation split.
        dataset: the dataset's row.
        indices: which samples, see `fixed_indices`.
        image_size: (height, width); smaller images are padded up to it for the network, and the padding is cut off.
        tasks: names of the tasks to show, the rows; a network without one of them, or a sample without its label, has a
            gap.
        device: where the networks are.
        precision: fp32 or bf16 (autocast).

    Raises:
        ValueError: no index or no task; a task that the dataset does not have.
    """
    if not indices or not tasks:
        raise ValueError("indices and tasks: at least one of each is needed for a picture")
    rows, blocks = [dataset.task(name) for name in tasks], []
    for index in indices:
        sample, identity = source[index], source.name(index)
        labelled = [task.name for task in rows if task.name in sample]
        batch = whole_batch(sample, Batching(labelled, image_size, 1, device=device))
        size = sample["image"].shape[:2]
        columns: dict[str, TaskMaps] = {}
        for title, network in networks.items():
            logits = logits_of(network, batch["image"], device=device, precision=precision)
            columns[title] = {task.name: _predicted(logits, task, batch, size) for task in rows if task.name in logits}
        truth = {task.name: _truth(batch[task.name], task, size) for task in rows if task.name in batch}
        blocks.append(
            block(
                f"{dataset.name}, image {identity.removeprefix(dataset.name + '/')}",
                sample["image"],
                rows,
                dataset,
                truth=truth,
                columns=columns,
            )
        )
    return draw_blocks(blocks)


def _predicted(logits: Mapping[str, Tensor], task: Task, batch: Batch, size: tuple[int, int]) -> np.ndarray | None:
    if not torch.isfinite(logits[task.name]).all():
        return None
    full = resize(logits[task.name].float(), batch["image"].shape[-2:])
    return inner(decode(task.kind, full), size)[0].cpu().numpy()


def _truth(label: Tensor, task: Task, size: tuple[int, int]) -> np.ndarray:
    """A batch's label as a sample holds it."""
    array = inner(label, size)[0].cpu().numpy()
    return (
        np.moveaxis(array, 0, -1) if task.kind == "normals" else array[0] if task.kind in ("depth", "edge") else array
    )


def block(
    title: str,
    image: np.ndarray,
    rows: Sequence[Task],
    dataset: Dataset,
    *,
    truth: Mapping[str, np.ndarray] | None,
    columns: Columns,
) -> Block:
    """One image's part of a picture.

    Args:
        title: names the image.
        image: [H, W, 3] uint8.
        rows: the tasks.
        dataset: names the classes.
        truth: by task, as a `Sample` holds them; None: there is no such column.
        columns: by title, by task: as `decode` gives them; None instead of an array: not finite.

    Returns:
        depth has one scale for the whole row, that of the ground truth where there is one.
    """
    truths = truth or {}
    limits = _limits(truths, columns)
    grid = []
    for number, task in enumerate(rows):
        known = truths.get(task.name)
        row = [
            _cell(
                None if known is None else coloured(known, task, dataset, depth=limits),
                "no label",
                "ground truth",
                task,
            )
        ]
        row += [_prediction_cell(maps, title, task, dataset, limits) for title, maps in columns.items()]
        grid.append([cell if number == 0 else replace(cell, caption="") for cell in row[truth is None :]])
    shown = [[truths.get(task.name), *(maps.get(task.name) for maps in columns.values())] for task in rows]
    legends = [_legend(task, dataset, maps, limits) for task, maps in zip(rows, shown, strict=True)]
    return Block(title, image, grid, [task.name for task in rows], legends, labelled=truth is not None)


def summary(title: str, image: np.ndarray, predictions: Mapping[str, np.ndarray], dataset: Dataset) -> Image.Image:
    """One image and everything that is predicted of it, two tasks a row.

    Args:
        title: names the image.
        image: [H, W, 3] uint8.
        predictions: by task, as `decode` gives them, of one image.
        dataset: names the classes.
    """
    tasks = [task for task in dataset.tasks if task.name in predictions]
    limits = _limits({}, {"": predictions})
    cells = [_prediction_cell(predictions, task.name, task, dataset, limits) for task in tasks]
    grid = [cells[start : start + 2] for start in range(0, len(cells), 2)]
    legends = [_legend(task, dataset, [predictions[task.name]], limits) for task in tasks]
    return draw_blocks([Block(title, image, grid, [""] * len(grid), legends, labelled=False)], side=SUMMARY_SIDE)


def _prediction_cell(maps: TaskMaps, title: str, task: Task, dataset: Dataset, limits: tuple[float, float]) -> Panel:
    found = maps.get(task.name)
    gap = "not finite" if task.name in maps else "not learnt"
    return _cell(None if found is None else coloured_prediction(found, task, dataset, depth=limits), gap, title, task)


def _cell(pixels: np.ndarray | None, gap: str, caption: str, task: Task) -> Panel:
    return Panel(pixels, gap, caption, smooth=task.kind in ("edge", "saliency"))


def _limits(truth: Mapping[str, np.ndarray], columns: Columns) -> tuple[float, float]:
    known = [truth["depth"]] if "depth" in truth and (truth["depth"] > 0).any() else []
    return depth_range(known or [found for maps in columns.values() if (found := maps.get("depth")) is not None])


def _legend(task: Task, dataset: Dataset, maps: Sequence[np.ndarray | None], limits: tuple[float, float]) -> Legend:
    known = [np.unique(array) for array in maps if array is not None and task.kind == "classes"]
    labels = sorted({int(label) for array in known for label in array} - {IGNORE})
    return Legend(task, class_names(task, dataset), labels, limits)
