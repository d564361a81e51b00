"""The score of one answer for every pixel: what a network must beat to have learnt anything."""

import torch
from torch import Tensor, nn

from kdam_ray.config import Place, Run
from kdam_ray.data.loader import Batching, val_batches
from kdam_ray.data.source import Source
from kdam_ray.learning.evaluate import Candidate, evaluate
from kdam_ray.service.layout import open_sources
from kdam_ray.tasks import DATASETS, IGNORE, Task

KINDS = ("classes", "saliency", "depth", "normals")  # a map without a line in it has no boundaries to score
BATCH = 64


class Constant(nn.Module):
    """A network that gives the same logits everywhere, whatever it sees.

    Args:
        logits: by task, [C].
    """

    def __init__(self, logits: dict[str, Tensor]) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> by task [B, C, 1, 1]."""
        return {name: one[None, :, None, None].expand(len(image), -1, 1, 1) for name, one in self.logits.items()}


def constant_scores(run: Run, place: Place) -> dict[str, float]:
    """{"semseg/mIoU": ...} of the constant that suits the evaluation split itself, by the metrics of every network.

    The most frequent class, the mean depth, the mean direction, all salient: no network is told so much, and one that
    stays behind it has learnt nothing that helps. Two passes over the labels, on the CPU.

    Args:
        run: whose data and tasks.
        place: where they are.

    Raises:
        ValueError: the images cannot be read.
    """
    dataset = DATASETS[run.dataset]
    tasks = [task for task in dataset.tasks if task.name in run.tasks and task.kind in KINDS]
    if not tasks:
        return {}
    source = open_sources(run, place)[1]
    network = Constant(_logits(source, tasks, run.image_size))
    candidate = Candidate(network, [task.name for task in tasks])
    return evaluate({"": candidate}, source, dataset, image_size=run.image_size)[""]


def _logits(source: Source, tasks: list[Task], image_size: tuple[int, int]) -> dict[str, Tensor]:
    """What the constant answers: sums over all labels, of which only the direction or the largest matters."""
    sums = {task.name: torch.zeros(task.channels, dtype=torch.float64) for task in tasks}
    pixels = dict.fromkeys(sums, 0)
    how = Batching(sorted(sums), image_size, BATCH)
    for batch in val_batches(source, how):
        for task in tasks:
            label = batch[task.name]
            if task.kind == "classes":
                sums[task.name] += label[label != IGNORE].long().bincount(minlength=task.channels)
            elif task.kind in ("depth", "normals"):  # 0 where there is none
                sums[task.name] += label.double().sum((0, 2, 3))
                pixels[task.name] += int((label != 0).any(1).sum())
    return {name: (total / max(1, pixels[name])).float() for name, total in sums.items()}
