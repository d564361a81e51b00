"""Evaluation of several networks on one pass over the images, summed over ranks."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kdam_ray.data.loader import Batching, val_batches
from kdam_ray.data.predictions import write_prediction
from kdam_ray.data.source import Source
from kdam_ray.metrics import BoundaryF, Metric, build_metric
from kdam_ray.models.heads import resize
from kdam_ray.ranks import rank, world_size
from kdam_ray.tasks import Dataset

MONITOR_IMAGES = 100  # on which boundaries are looked at while training goes on
LARGEST_BATCH_PIXELS = 2**20  # an evaluation batch holds about as many pixels as four NYUD images


def evaluate(
    networks: Mapping[str, nn.Module],
    source: Source,
    dataset: Dataset,
    tasks: Mapping[str, Sequence[str]],
    *,
    image_size: tuple[int, int],
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    monitored: Collection[str] = (),
    predictions: Mapping[str, Path] | None = None,
) -> dict[str, dict[str, float]]:
    """Metrics of each network on every image of `source`, in eval mode, at the images' own size.

    Args:
        networks: by any key; each is left in the mode it was found in.
        source: the evaluation split; each rank takes its share, no image is counted twice.
        dataset: the dataset's row.
        tasks: per key, the names of the tasks to score.
        image_size: (height, width); smaller images are padded up to it, and the padding counts nowhere.
        device: where the networks are.
        precision: fp32 or bf16 (autocast).
        monitored: keys that only want a look while they train: boundaries at 25 thresholds on at most 100 images,
            evenly spread, under names of their own (`edge/odsF_25`). Everything else is as for the others.
        predictions: per key of some of the networks, a folder that gets each image's predictions (`data.predictions`),
            at the image's own size; each rank writes its share.

    Returns:
        Per key {"semseg/mIoU": ..., ...}, equal on every rank, in the units the paper prints. A network whose outputs
        are not finite somewhere is left out.
    """
    metrics = {
        key: {name: build_metric(dataset.task(name), dataset, monitor=key in monitored) for name in tasks[key]}
        for key in networks
    }
    stride = -(-len(source) // MONITOR_IMAGES)
    modes = {key: network.training for key, network in networks.items()}
    diverged: set[str] = set()
    names = sorted({name for key in networks for name in tasks[key]})
    index = len(source) * rank() // world_size()  # of the batch's first image
    batch_size = max(1, LARGEST_BATCH_PIXELS // (image_size[0] * image_size[1]))
    try:
        for network in networks.values():
            network.eval()
        how = Batching(names, image_size, min(batch_size, 64), rank=rank(), world=world_size(), device=device)
        for batch in val_batches(source, how):
            image = batch["image"]
            for key, network in networks.items():
                if key in diverged:
                    continue
                with torch.inference_mode(), autocast(device, precision):
                    logits = network(image)
                if not all(torch.isfinite(logits[name]).all() for name in tasks[key]):
                    diverged.add(key)
                    continue
                size = (image.shape[-2], image.shape[-1])
                full = {name: resize(logits[name].float(), size) for name in tasks[key]}
                for name, metric in metrics[key].items():
                    few = (
                        slice(-index % stride, None, stride)
                        if key in monitored and isinstance(metric, BoundaryF)
                        else slice(None)
                    )
                    if len(full[name][few]):
                        metric.update(full[name][few], batch[name][few])
                if predictions and key in predictions:
                    _write(
                        predictions[key],
                        source,
                        index,
                        {name: metrics[key][name].predict(full[name]) for name in full},
                        dataset,
                    )
            index += len(image)
    finally:
        for key, network in networks.items():
            network.train(modes[key])
    for local in _gather(sorted(diverged)):
        diverged.update(local)
    return {key: _compute(per_task) for key, per_task in metrics.items() if key not in diverged}


def _write(folder: Path, source: Source, first: int, predictions: Mapping[str, Tensor], dataset: Dataset) -> None:
    """Predictions of consecutive images, [B, ..., H, W] each, without the padding of images smaller than the batch."""
    for name, batch in predictions.items():
        for offset, prediction in enumerate(batch.cpu().numpy()):
            size = source[first + offset]["image"].shape[:2]
            top, left = ((have - want) // 2 for have, want in zip(prediction.shape[-2:], size, strict=True))
            own = prediction[..., top : top + size[0], left : left + size[1]]
            write_prediction(folder, dataset.task(name), Path(source.name(first + offset)).name, own)


def autocast(device: torch.device | str, precision: str):
    """bf16 autocast on that device, or nothing for fp32."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def _compute(per_task: Mapping[str, Metric]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, metric in per_task.items():
        _sum_over_ranks(metric)
        values |= {f"{name}/{key}": value for key, value in metric.compute().items()}
    return values


def _sum_over_ranks(metric: Metric) -> None:
    """Merge the other ranks' sums into this metric."""
    for other, state in enumerate(_gather(metric.state())):
        if other != rank():
            metric.merge(state)


def _gather(value: Any) -> list[Any]:
    """Every rank's value, in the order of ranks; small things, once per evaluation."""
    gathered = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(gathered, value)
    return gathered
