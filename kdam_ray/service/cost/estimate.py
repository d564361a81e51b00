"""What runs cost before they have run: operations by the networks' own count, time by measured rates."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kdam_ray.config import Run
from kdam_ray.service.records import Storage
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

# Operations a second of one worker. The GPU's is from published throughput; what its steps take beyond is not known.
RATE = {"cpu": 1e11, "gpu": 2e13}
# Seconds that a training step takes on a CPU core beyond its operations, of four tasks, by decoder: small networks
# spend most of their time in the overhead of many operators. Both from benchmarks/results/systems-2026-11-23.md; good
# to a factor of two.
STEP_S = {
    "mt_baseline": 0.018, "cross_stitch": 0.022, "nddr_cnn": 0.025, "pad_net": 0.026, "pap": 0.035, "psd": 0.069,
    "mti_net": 0.137, "atrc": 0.112, "context_search": 0.384, "mtformer": 0.074, "mqtransformer": 0.120, "demt": 0.077,
    "invpt": 0.063,
}  # fmt: skip
# more for each task beyond four, with a teacher, for each task over several ranks
TASK_S, TAUGHT_S, EXCHANGE_S = 0.002, 0.008, 0.006


@dataclass(frozen=True)
class Operations:
    """Operations of one epoch of a run; two a multiply-accumulate, backward twice forward.

    Attributes:
        train: its own network, on every batch.
        evaluation: its own network, on the evaluation images.
        teacher: its teacher's forward on every batch, which all of a cohort that are taught share; 0 without one.
    """

    train: float
    evaluation: float
    teacher: float


class Counted(NamedTuple):
    """Size of one network: parameters; multiply-accumulates of one image without and with attention's products."""

    params: int
    macs: int
    all_macs: int


class Costs:
    """Counts what runs will cost; the networks' counts are kept in the cache, for counting imports timm.

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

    def network(self, run: Run, backbone: str, decoder: str) -> Counted:
        """Size of a network for the run's tasks, and what one image of the run's size costs in it."""
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
        forward, images = 2.0 * self.network(run, run.student, run.decoder).all_macs, run.steps_per_epoch * run.batch
        teacher = 2.0 * self.network(run, run.teacher, run.teacher_decoder).all_macs * images if run.teacher else 0.0
        return Operations(train=3 * forward * images, evaluation=forward * run.val_images, teacher=teacher)

    def member(self, run: Run, epochs: int) -> float:
        """Operations of the last `epochs` epochs of a run, its share of the teacher apart."""
        once = self.epoch(run)
        return once.train * epochs + once.evaluation * self._evaluations(run, epochs)

    def cohort(self, runs: Sequence[Run], epochs: Sequence[int]) -> float:
        """Operations of a cohort, the last `epochs` of each run: its members, and one teacher forward a batch."""
        pairs = list(zip(runs, epochs, strict=True))
        taught = max((self.epoch(run).teacher * count for run, count in pairs), default=0.0)
        return sum(self.member(run, count) for run, count in pairs) + taught

    def seconds(self, runs: Sequence[Run], epochs: Sequence[int], *, ranks: int, gpus: bool) -> float:
        """How long a cohort takes for the last `epochs` of each run, on its ranks.

        Evaluation costs a third of training, image for image.
        """
        operations = self.cohort(runs, epochs)
        if gpus:
            return operations / (RATE["gpu"] * ranks)
        total = operations / (RATE["cpu"] * ranks)
        for run, count in zip(runs, epochs, strict=True):
            alone = STEP_S[run.decoder] + TASK_S * (len(run.tasks) - 4)
            step = alone + TAUGHT_S * bool(run.teacher) + EXCHANGE_S * len(run.tasks) * (ranks > 1)
            evaluated = alone / 3 * self._evaluations(run, count) * run.val_images / run.batch / ranks
            total += step * count * run.steps_per_epoch + evaluated
        return total

    def _evaluations(self, run: Run, epochs: int) -> int:
        return sum(run.is_evaluated(run.epochs - left, self._every) for left in range(epochs))


def needed(present: Mapping[str, Operations], evaluated: Collection[str]) -> dict[str, float]:
    """What one epoch of a cohort takes, in operations per member; the taught share one teacher's forward equally.

    Args:
        present: members that take part.
        evaluated: those that are evaluated at its end.
    """
    taught = max(sum(once.teacher > 0 for once in present.values()), 1)
    return {
        name: once.train + once.evaluation * (name in evaluated) + once.teacher / taught
        for name, once in present.items()
    }
