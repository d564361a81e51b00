"""What runs cost before they have run: operations by the networks' own count, time by a measured rate."""

import json
from collections.abc import Sequence

from kdam_ray.config import Run
from kdam_ray.service.storage import Storage
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

# Operations a second that small networks reach, one worker: measured on one core of the machine of the default sweep,
# and taken from published throughput for GPUs. Good to a factor of two.
RATE = {"cpu": 2.5e10, "gpu": 2e13}


class Costs:
    """Operations of runs; the networks' counts are kept in the cache, for counting imports timm and takes seconds."""

    def __init__(self, storage: Storage):
        self._path = storage.cache() / "costs.json"
        try:
            self._known: dict[str, int] = json.loads(self._path.read_text())
        except (OSError, ValueError):  # not there yet, or half of it: it can be counted again
            self._known = {}

    def forward(self, run: Run, backbone: str, decoder: str) -> int:
        """Multiply-accumulates of one image through a network for the run's tasks and size."""
        key = json.dumps([backbone, BACKBONES[backbone].hidden, decoder, run.tasks, run.image_size])
        if key not in self._known:
            from kdam_ray.models import network_cost

            tasks = [DATASETS[run.dataset].task(name) for name in run.tasks]
            self._known[key] = network_cost(backbone, decoder, tasks, image_size=run.image_size).all_macs
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._known))
        return self._known[key]

    def member(self, run: Run, epochs: int) -> float:
        """Operations of `epochs` epochs of a run, its share of the teacher apart: two a multiply-accumulate, backward twice forward."""
        forward = self.forward(run, run.student, run.decoder)
        return 2.0 * forward * epochs * (3 * run.steps_per_epoch * run.batch + run.val_images)

    def cohort(self, runs: Sequence[Run], epochs: Sequence[int]) -> float:
        """Operations of a cohort: its members, and one teacher forward a batch."""
        taught = [(run, count) for run, count in zip(runs, epochs, strict=True) if run.teacher]
        total = sum(self.member(run, count) for run, count in zip(runs, epochs, strict=True))
        if not taught:
            return total
        run, epochs_taught = taught[0][0], max(count for _, count in taught)
        assert run.teacher is not None
        return total + 2.0 * self.forward(run, run.teacher, run.teacher_decoder) * epochs_taught * run.steps_per_epoch * run.batch
