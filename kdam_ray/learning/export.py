"""A trained network to take away: weights, a card that tells of them, an ONNX graph that needs none of this code.

The graph gives each task's logits as they are before `models.heads.decode`: what evaluation scores is one argmax,
softmax or sigmoid away, and the card says which.
"""

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from kdam_ray.config import Run
from kdam_ray.data.colours import class_names
from kdam_ray.data.transforms import MEAN, STD
from kdam_ray.files import file_digest
from kdam_ray.learning import checkpoint
from kdam_ray.learning.graph import RANDOM_IMAGES, TOLERANCE, Deployed, check_graph, write_graph
from kdam_ray.tasks import DATASETS, Dataset, Kind, Task

READABLE = 0o644
WEIGHTS, GRAPH, CARD = "weights.safetensors", "model.onnx", "card.json"
READING: dict[Kind, str] = {
    "classes": "argmax over the channels is the class",
    "saliency": "softmax over the channels; channel 1 is the probability of salient",
    "depth": "metres; below 0 counts as 0",
    "normals": "vector in the camera frame, any length",
    "edge": "sigmoid is the probability of an edge",
}
PACKAGES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Trained:
    """What a folder of training or of an export holds.

    Attributes:
        network: on the CPU.
        run: that trained it.
        metrics: "val/semseg/mIoU", ... at its epoch; {} where none are recorded.
        epoch: how many it has behind it; None in exports older than this record.
    """

    network: nn.Module
    run: Run
    metrics: dict[str, Any]
    epoch: int | None

    @property
    def unfinished(self) -> str | None:
        """One line for whoever may take it for the run's result; None if it is that."""
        if self.epoch is None or self.epoch >= self.run.epochs:
            return None
        return f"run {self.run.run_id} has not finished: epoch {self.epoch} of {self.run.epochs}"


def write_export(
    folder: Path,
    network: nn.Module,
    run: Run,
    *,
    metrics: Mapping[str, float],
    epoch: int | None = None,
    size: tuple[int, int] | None = None,
    images: Mapping[str, np.ndarray] | None = None,
    graph: bool = True,
) -> dict[str, Any]:
    """Writes `weights.safetensors`, `model.onnx` and `card.json`: all or nothing, the graph only if it is right.

    Args:
        folder: that appears; an export that is there is replaced, what lies beside its files stays.
        network: on the CPU; left in eval mode.
        run: that trained it.
        metrics: "val/semseg/mIoU", ... as its checkpoint records them.
        epoch: how many the network has behind it, see `Trained`.
        size: (height, width) of the graph's images; None: the run's.
        images: by name, real ones [size, 3] uint8 that the graph is checked on beside random ones.
        graph: without it weights and card alone, whose "onnx" is then null.

    Returns:
        the card.

    Raises:
        ValueError: `folder` holds something else or cannot be written to; the network cannot be exported, or the graph
            differs; says where and by how much.
    """
    folder = folder.resolve()  # "." has no name of its own
    _refuse_foreign(folder)
    size = size or run.image_size
    # inside a folder that is there: it may be a mount, or where the caller stands, which nothing can be renamed to
    partial = (folder if folder.is_dir() else folder.parent) / f".{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        network = network.cpu().float().eval()
        facts = _facts(run, size)
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()},
            partial / WEIGHTS,
            facts,
        )
        (partial / WEIGHTS).chmod(READABLE)  # safetensors writes for the owner alone
        card = _card(run) | _standing(run, metrics, epoch)
        if graph:
            card["onnx"] = _write_graph(network, run, size, partial / GRAPH, facts, images or {})
        card["files"] = {
            path.name: {"sha256": file_digest(path), "bytes": path.stat().st_size} for path in sorted(partial.iterdir())
        }
        (partial / CARD).write_text(json.dumps(card, indent=1))
        _appear(partial, folder)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"out: {folder} cannot be written to ({error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def open_network(folder: Path) -> Trained:
    """The network in a folder that training or `write_export` wrote, and what is recorded of it.

    Raises:
        ValueError: it is neither; a file is missing, altered or does not fit the recorded run; names the file.
    """
    if (folder / CARD).is_file():
        record, path = checkpoint.read_record(folder / CARD), folder / CARD
        if not (folder / WEIGHTS).is_file() or file_digest(folder / WEIGHTS) != record["files"].get(WEIGHTS, {}).get(
            "sha256"
        ):
            raise ValueError(f"{folder / WEIGHTS}: missing, or not the file whose SHA-256 {CARD} holds")
    elif (folder / checkpoint.MANIFEST).is_file():
        record, path = checkpoint.verify(folder, files=(WEIGHTS,)), folder / checkpoint.MANIFEST
    else:
        newest = max(folder.glob("epoch_[0-9]*"), default=None)
        wanted = f"{checkpoint.MANIFEST} (written by training) nor {CARD} (by `kdam export`)"
        raise ValueError(
            f"checkpoint: {folder} holds neither {wanted}"
            + (f"; give one of its epochs, as {newest}" if newest else "")
        )
    run, metrics, epoch = checkpoint.recorded_run(record, path), record.get("metrics", {}), record.get("epoch")
    if not isinstance(metrics, dict) or not isinstance(epoch, int | None):
        raise ValueError(
            f"{path}: metrics should be numbers by name and epoch a number, not {metrics!r:.40} and {epoch!r:.40}"
        )
    return Trained(checkpoint.rebuilt(run, folder / WEIGHTS), run, metrics, epoch)


def _refuse_foreign(folder: Path) -> None:
    is_ours = not folder.exists() or (folder / CARD).is_file()
    if not is_ours and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise ValueError(
            f"out: {folder} is there and holds no {CARD}; give a new folder, or one that was exported before"
        )


def _standing(run: Run, metrics: Mapping[str, float], epoch: int | None) -> dict[str, Any]:
    """Progress and scores of the network: {"epoch": 3, "epochs": 4, "finished": False, "metrics": ...}, NaN as None."""
    known = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    return {
        "epoch": epoch,
        "epochs": run.epochs,
        "finished": None if epoch is None else epoch >= run.epochs,
        "metrics": known,
    }


def _facts(run: Run, size: tuple[int, int]) -> dict[str, str]:
    """What weights and graph say of themselves when they are separated from the card."""
    return {
        "format": "pt", "made_by": "kdam_ray", "more": CARD,
        "run_id": run.run_id, "backbone": run.student, "decoder": run.decoder,
        "dataset": run.dataset, "tasks": " ".join(run.tasks), "image_size": f"{size[0]}x{size[1]}",
        "normalisation": f"RGB 0 .. 1, mean {MEAN}, std {STD}",
    }  # fmt: skip


def _card(run: Run) -> dict[str, Any]:
    dataset = DATASETS[run.dataset]
    return {
        "run_id": run.run_id,
        "backbone": run.student,
        "decoder": run.decoder,
        "dataset": run.dataset,
        "tasks": [_task(dataset.task(name), dataset) for name in run.tasks],
        "image_size": list(run.image_size),
        "normalisation": {"mean": MEAN, "std": STD, "of": "RGB values in 0 .. 1"},
        "output_resolution": {WEIGHTS: "a quarter of the image, rounded up", GRAPH: "the image's"},
        "onnx": None,
        "versions": {package.name: package.version for package in metadata.distributions() if package.name in PACKAGES},
        "run": run.model_dump(mode="json"),
    }


def _write_graph(
    network: nn.Module, run: Run, size: tuple[int, int], path: Path, facts: dict[str, str],
    images: Mapping[str, np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    """Writes the graph. Returns what the card says of it."""
    deployed = Deployed(network, run.tasks, size)
    dynamic = write_graph(deployed, path, run.decoder, facts)
    checked = check_graph(deployed, path, images=images, dynamic=dynamic)
    batch: str | int = "batch" if dynamic else 1
    channels = {name: DATASETS[run.dataset].task(name).channels for name in run.tasks}
    return {
        "input": {
            "image": [batch, 3, *size], "type": "float32", "values": "RGB, 0 .. 255; the graph normalises them",
        },
        "outputs": {name: [batch, channels[name], *size] for name in run.tasks},
        "dynamic_batch": dynamic,
        "checked": {"tolerance": TOLERANCE, **checked, "random_images": RANDOM_IMAGES, "images": list(images)},
    }  # fmt: skip


def _task(task: Task, dataset: Dataset) -> dict[str, Any]:
    row = {"name": task.name, "kind": task.kind, "channels": task.channels, "metric": task.metric, "unit": task.unit}
    classes = {"classes": list(class_names(task, dataset))} if task.kind in ("classes", "saliency") else {}
    return row | {"higher_is_better": task.higher_is_better, "reading": READING[task.kind]} | classes


def _appear(partial: Path, folder: Path) -> None:
    """Gives the files their place.

    In a folder that is there the card comes last, whose hashes tell if it came to only some of them.
    """
    if folder.exists():
        if not (partial / GRAPH).exists():
            (folder / GRAPH).unlink(missing_ok=True)  # of an earlier export: it would not be of these weights
        for path in sorted(partial.iterdir(), key=lambda path: path.name == CARD):
            path.replace(folder / path.name)
    else:
        partial.rename(folder)
