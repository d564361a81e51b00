"""A trained network to take away: weights, a card that says what they are, and an ONNX graph that needs none of this code.

The graph gives each task's logits as they are before `Metric.predict`: what evaluation scores is one argmax, softmax or sigmoid
away, and the card says which.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from torch import nn

from kdam_ray.config import Run
from kdam_ray.data.colours import class_names
from kdam_ray.data.transforms import MEAN, STD
from kdam_ray.learning import checkpoint
from kdam_ray.learning.graph import RANDOM_IMAGES, TOLERANCE, Deployed, check_graph, write_graph
from kdam_ray.models import network_of
from kdam_ray.tasks import DATASETS, Dataset, Kind, Task

WEIGHTS, GRAPH, CARD = "weights.safetensors", "model.onnx", "card.json"
READING: dict[Kind, str] = {
    "classes": "argmax over the channels is the class",
    "saliency": "softmax over the channels; channel 1 is the probability of salient",
    "depth": "metres; below 0 counts as 0",
    "normals": "vector in the camera frame, any length",
    "edge": "sigmoid is the probability of an edge",
}
PACKAGES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")


def write_export(
    folder: Path,
    network: nn.Module,
    run: Run,
    *,
    metrics: Mapping[str, float],
    size: tuple[int, int] | None = None,
    images: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Writes `weights.safetensors`, `model.onnx` and `card.json`; all or nothing, and only if the graph computes the same.

    Args:
        folder: that appears; an export that is there is replaced.
        network: on the CPU; left in eval mode.
        run: that trained it.
        metrics: "val/semseg/mIoU", ... as its checkpoint records them.
        size: (height, width) of the graph's images; None: the run's.
        images: by name, real ones [size, 3] uint8 that the graph is checked on beside random ones.

    Returns:
        the card.

    Raises:
        ValueError: `folder` holds something else; the network cannot be exported, or the graph differs; says where and by how much.
    """
    if folder.exists() and not (folder / CARD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"out: {folder} is there and holds no {CARD}; give a new folder, or one that was exported before")
    size = size or run.image_size
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        network = network.cpu().float().eval()
        save_file({name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}, partial / WEIGHTS)
        deployed = Deployed(network, run.tasks, size)
        dynamic = write_graph(deployed, partial / GRAPH, run.decoder)
        checked = check_graph(deployed, partial / GRAPH, images=images or {}, dynamic=dynamic)
        card = _card(run, metrics, size, dynamic, checked, list(images or {}))
        card["files"] = {name: {"sha256": _sha256(partial / name), "bytes": (partial / name).stat().st_size} for name in (WEIGHTS, GRAPH)}
        (partial / CARD).write_text(json.dumps(card, indent=1))
        _appear(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def load_exported(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """(network on the CPU, card) of an export.

    Raises:
        ValueError: the card or the weights are missing or altered; names the file.
    """
    try:
        card = json.loads((folder / CARD).read_text())
        expected = card["files"][WEIGHTS]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / CARD}: not a readable card of an export ({error})") from None
    if not (folder / WEIGHTS).is_file() or _sha256(folder / WEIGHTS) != expected:
        raise ValueError(f"{folder / WEIGHTS}: missing, or not the file whose SHA-256 {CARD} holds")
    network = network_of(Run.model_validate(card["run"]))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network, card


def open_network(folder: Path) -> tuple[nn.Module, Run, dict[str, float]]:
    """(network on the CPU, its run, its metrics) of a folder that training or `write_export` wrote.

    Raises:
        ValueError: it is neither, or see `load_exported` and `checkpoint.verify`.
    """
    if (folder / CARD).is_file():
        network, card = load_exported(folder)
        return network, Run.model_validate(card["run"]), card["metrics"]
    if not (folder / checkpoint.MANIFEST).is_file():
        raise ValueError(f"checkpoint: {folder} holds neither {checkpoint.MANIFEST} (written by training) nor {CARD} (by jobs/export.py)")
    manifest = checkpoint.verify(folder)
    return checkpoint.load_network(folder), Run.model_validate(manifest["run"]), manifest.get("metrics", {})


def _card(
    run: Run, metrics: Mapping[str, float], size: tuple[int, int], dynamic: bool, checked: Mapping[str, float], images: list[str]
) -> dict[str, Any]:
    dataset = DATASETS[run.dataset]
    batch: str | int = "batch" if dynamic else 1
    return {
        "run_id": run.run_id,
        "backbone": run.student,
        "decoder": run.decoder,
        "dataset": run.dataset,
        "tasks": [_task(dataset.task(name), dataset) for name in run.tasks],
        "metrics": dict(metrics),
        "image_size": list(run.image_size),
        "normalisation": {"mean": MEAN, "std": STD, "of": "RGB values in 0 .. 1"},
        "output_resolution": {WEIGHTS: "a quarter of the image, rounded up", GRAPH: "the image's"},
        "onnx": {
            "input": {"image": [batch, 3, *size], "type": "float32", "values": "RGB, 0 .. 255; the graph normalises them"},
            "outputs": {name: [batch, dataset.task(name).channels, *size] for name in run.tasks},
            "dynamic_batch": dynamic,
            "checked": {"tolerance": TOLERANCE, "largest_difference": checked, "random_images": RANDOM_IMAGES, "images": images},
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "run": run.model_dump(mode="json"),
    }  # fmt: skip


def _task(task: Task, dataset: Dataset) -> dict[str, Any]:
    row = {"name": task.name, "kind": task.kind, "channels": task.channels, "metric": task.metric, "unit": task.unit}
    classes = {"classes": list(class_names(task, dataset))} if task.kind in ("classes", "saliency") else {}
    return row | {"higher_is_better": task.higher_is_better, "reading": READING[task.kind]} | classes


def _appear(partial: Path, folder: Path) -> None:
    if folder.exists():
        replaced = partial.with_suffix(".replaced")
        folder.rename(replaced)
        partial.rename(folder)
        shutil.rmtree(replaced)
    else:
        partial.rename(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
