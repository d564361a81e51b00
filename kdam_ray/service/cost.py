"""What runs cost before they have run: operations by the networks' own count, time by a measured rate."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kdam_ray.config import Run
from kdam_ray.service.storage import Storage
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

# Operations a second that small networks reach, one worker (a rank of a gloo group too): measured on one core of the
# machine of the default sweep, 3.7e10 for its teacher and 3.1e10 for its students, evaluation included; taken from
# published throughput for GPUs. Good to a factor of two.
RATE = {"cpu": 3.2e10, "gpu": 2e13}


@dataclass(frozen=True)
class Operations:
    """Of one epoch of a run; two a multiply-accumulate, backward twice forward.

    Attributes:
        train: its own network, on every batch.
        evaluation: its own network, on the evaluation images.
        teacher: its teacher's forward on every batch, which all of a cohort that are taught share; 0 without one.
    """

    train: float
    evaluation: float
    teacher: float


class Counted(NamedTuple):
    """Of one network: parameters; multiply-accumulates of one image without and with products inside attention."""

    params: int
    macs: int
    all_macs: int


class Costs:
    """Operations of runs; the networks' counts are kept in the cache, for counting imports timm and takes seconds.

    Args of the constructor:
        storage: of the cache.
        evaluate_every: epochs between evaluations (`Place.evaluate_every`).
    """

    def __init__(self, storage: Storage, *, evaluate_every: int = 1):
        self._path, self._every = storage.cache() / "networks.json", evaluate_every
        try:
            self._known: dict[str, list[int]] = json.loads(self._path.read_text())
        except (OSError, ValueError):  # not there yet, or half of it: it can be counted again
            self._known = {}

    def forward(self, run: Run, backbone: str, decoder: str) -> int:
        """Multiply-accumulates of one image through a network for the run's tasks and size."""
        return self.network(run, backbone, decoder).all_macs

    def network(self, run: Run, backbone: str, decoder: str) -> Counted:
        """Parameters too."""
        key = json.dumps([backbone, BACKBONES[backbone].hidden, decoder, run.tasks, run.image_size])
        if key not in self._known:
            from kdam_ray.models import network_cost

            tasks = [DATASETS[run.dataset].task(name) for name in run.tasks]
            cost = network_cost(backbone, decoder, tasks, image_size=run.image_size)
            self._known[key] = [cost.params, cost.macs, cost.all_macs]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._known))
        return Counted(*self._known[key])

    def epoch(self, run: Run) -> Operations:
        """One epoch of a run, evaluated at its end."""
        forward, images = 2.0 * self.forward(run, run.student, run.decoder), run.steps_per_epoch * run.batch
        teacher = 2.0 * self.forward(run, run.teacher, run.teacher_decoder) * images if run.teacher else 0.0
        return Operations(train=3 * forward * images, evaluation=forward * run.val_images, teacher=teacher)

    def member(self, run: Run, epochs: int) -> float:
        """Operations of the last `epochs` epochs of a run, its share of the teacher apart."""
        once = self.epoch(run)
        evaluations = sum(is_evaluated(run.epochs - left, run.epochs, self._every) for left in range(epochs))
        return once.train * epochs + once.evaluation * evaluations

    def cohort(self, runs: Sequence[Run], epochs: Sequence[int]) -> float:
        """Operations of a cohort, the last `epochs` of each run: its members, and one teacher forward a batch."""
        total = sum(self.member(run, count) for run, count in zip(runs, epochs, strict=True))
        return total + max((self.epoch(run).teacher * count for run, count in zip(runs, epochs, strict=True)), default=0.0)


def is_evaluated(epoch: int, epochs: int, every: int) -> bool:
    """Whether a run of `epochs` epochs is evaluated after that one."""
    return epoch % every == 0 or epoch == epochs


def needed(present: Mapping[str, Operations], evaluated: Collection[str]) -> dict[str, float]:
    """Operations of one epoch of a cohort per member; those who are taught share one teacher's forward equally.

    Args:
        present: members that take part.
        evaluated: those that are evaluated at its end.
    """
    taught = sum(once.teacher > 0 for once in present.values())
    return {
        name: once.train + once.evaluation * (name in evaluated) + once.teacher / max(taught, 1) for name, once in present.items()
    }  # fmt: skip
