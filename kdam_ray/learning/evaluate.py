"""Evaluation of several networks on one pass over the images, summed over ranks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from kdam_ray.data.loader import Batching, val_batches
from kdam_ray.data.predictions import write_prediction
from kdam_ray.data.source import Size, Source
from kdam_ray.metrics import BoundaryF, Metric, build_metric
from kdam_ray.models.heads import decode, resize
from kdam_ray.ranks import rank, world_size
from kdam_ray.tasks import Dataset

Canvas = TypeVar("Canvas", Tensor, np.ndarray)

MONITOR_IMAGES = 100  # on which boundaries are looked at while training goes on
LARGEST_BATCH_PIXELS = 2**20  # an evaluation batch holds about as many pixels as four NYUD images


@dataclass(frozen=True)
class Candidate:
    """A network to be scored, and what of it.

    Attributes:
        network: where `evaluate` is told it is; is left in the mode it was found in.
        tasks: names of the tasks to score.
        monitored: it trains on and only wants a look: boundaries at 25 thresholds on at most 100 images, evenly spread,
            under names of their own (`edge/odsF_25`). Everything else is as for the others.
        predictions: a folder that gets each image's predictions (`data.predictions`), at the image's own size; each
            rank writes its share. None: they are not kept.
    """

    network: nn.Module
    tasks: Sequence[str]
    monitored: bool = False
    predictions: Path | None = None


def evaluate(
    candidates: Mapping[str, Candidate],
    source: Source,
    dataset: Dataset,
    *,
    image_size: tuple[int, int],
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> dict[str, dict[str, float]]:
    """Metrics of each network on every image of `source`, in eval mode, at the images' own size.

    Args:
        candidates: by any key.
        source: the evaluation split; each rank takes its share, no image is counted twice.
        dataset: the dataset's row.
        image_size: (height, width); smaller images are padded up to it, and the padding counts nowhere.
        device: where the networks are.
        precision: fp32 or bf16 (autocast).

    Returns:
        Per key {"semseg/mIoU": ..., ...}, equal on every rank, in the units the paper prints. A network whose outputs
        are not finite somewhere is left out.
    """
    metrics = {
        key: {name: build_metric(dataset.task(name), dataset, monitor=one.monitored) for name in one.tasks}
        for key, one in candidates.items()
    }
    stride = -(-len(source) // MONITOR_IMAGES)
    diverged: set[str] = set()
    names = sorted({name for one in candidates.values() for name in one.tasks})
    index = len(source) * rank() // world_size()  # of the batch's first image
    batch_size = max(1, LARGEST_BATCH_PIXELS // (image_size[0] * image_size[1]))
    how = Batching(names, image_size, min(batch_size, 64), rank=rank(), world=world_size(), device=device)
    with eval_mode(one.network for one in candidates.values()):
        for batch in val_batches(source, how):
            for key, one in candidates.items():
                if key in diverged:
                    continue
                full = _full_logits(one, batch["image"], device, precision)
                if full is None:
                    diverged.add(key)
                    continue
                looked_at = slice(-index % stride, None, stride) if one.monitored else slice(None)
                for name, metric in metrics[key].items():
                    few = looked_at if isinstance(metric, BoundaryF) else slice(None)
                    if len(full[name][few]):
                        metric.update(full[name][few], batch[name][few])
                if one.predictions is not None:
                    _write(one.predictions, source, index, full, dataset)
            index += len(batch["image"])
    diverged.update(*_gather(sorted(diverged)))
    return {key: _compute(per_task) for key, per_task in metrics.items() if key not in diverged}


def _full_logits(one: Candidate, image: Tensor, device: torch.device | str, precision: str) -> dict[str, Tensor] | None:
    """Logits by task, [B, C, H, W] at the image's size; None where a network's output is not finite."""
    with torch.inference_mode(), autocast(device, precision):
        logits = one.network(image)
    if not all(torch.isfinite(logits[name]).all() for name in one.tasks):
        return None
    return {name: resize(logits[name].float(), image.shape[-2:]) for name in one.tasks}


def _write(folder: Path, source: Source, first: int, logits: Mapping[str, Tensor], dataset: Dataset) -> None:
    """Predictions from logits [B, C, H, W] of consecutive images, without the padding up to the batch's size."""
    for name, batch in logits.items():
        for offset, prediction in enumerate(decode(dataset.task(name).kind, batch).cpu().numpy()):
            own = inner(prediction, source[first + offset]["image"].shape[:2])
            write_prediction(folder, dataset.task(name), Path(source.name(first + offset)).name, own)


def logits_of(network: nn.Module, image: Tensor, *, device: torch.device | str, precision: str) -> dict[str, Tensor]:
    """Raw outputs in eval mode without gradients; the network's mode is put back."""
    with eval_mode([network]), torch.inference_mode(), autocast(device, precision):
        return dict(network(image))


@contextmanager
def eval_mode(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Networks in eval mode for as long as the block lasts; their modes are put back."""
    modes = [(network, network.training) for network in networks]
    try:
        for network, _ in modes:
            network.eval()
        yield
    finally:
        for network, mode in modes:
            network.train(mode)


def inner(x: Canvas, size: Size) -> Canvas:
    """What lies in the middle, [..., height, width]: a canvas without its padding."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[-2:], size, strict=True))
    return x[..., top : top + size[0], left : left + size[1]]


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager:
    """bf16 autocast on that device, or nothing for fp32."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def _compute(per_task: Mapping[str, Metric]) -> dict[str, float]:
    """The values of all metrics, each after the other ranks' sums have been merged into it."""
    values: dict[str, float] = {}
    for name, metric in per_task.items():
        for other, state in enumerate(_gather(metric.state())):
            if other != rank():
                metric.merge(state)
        values |= {f"{name}/{key}": value for key, value in metric.compute().items()}
    return values


def _gather(value: Any) -> list[Any]:
    """Every rank's value, in the order of ranks; small things, once per evaluation."""
    gathered = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(gathered, value)
    return gathered
