"""Where a step of the default sweep goes, and what sharing batches and teacher is worth.

    python benchmarks/cohort.py            # one thread, as a worker of the sweep has; about three minutes

Two tables: milliseconds per step by phase, for a cohort of nine plain-KD students and for one alone; and a cohort
against the same students one after the other, interleaved in one process, as a ratio.
"""

import argparse
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator

import torch

from kdam_ray.config import Run, change
from kdam_ray.data.loader import Batching, train_batches
from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.source import Source, Split
from kdam_ray.learning.evaluate import Candidate, evaluate
from kdam_ray.learning.member import Member
from kdam_ray.learning.objective import objective, share
from kdam_ray.models import Teacher, build_network
from kdam_ray.recipes import recipe
from kdam_ray.tasks import DATASETS

DATASET = DATASETS["rooms"]
IMAGES = 160  # 20 steps
SPLITS: tuple[tuple[Split, int], ...] = (("train", IMAGES), ("val", 200))


class Clock:
    """Seconds per phase, read off between laps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now


def students(count: int) -> list[Run]:
    """Plain KD at T = 3, one seed each."""
    base = change(
        recipe("rooms").student, {"train_images": IMAGES, "teacher": "resnet_w16", "distill": {"method": "plain_kd"}}
    )
    return [change(base, {"seed": seed}) for seed in range(count)]


def steps(members: list[Member], teacher: Teacher, batches: Iterable, clock: Clock) -> int:
    """One epoch; what `Member.step` does, with laps in between. Returns the number of steps."""
    done = 0
    for batch in timed(iter(batches), clock):
        logits = teacher(batch["image"])
        clock.lap("teacher forward")
        shared = share(batch, DATASET, logits)
        clock.lap("masks")
        for member in members:
            predicted = member.network(shared.image)
            clock.lap("student forward")
            loss, _ = objective(member.run, predicted, shared)
            clock.lap("objective")
            loss.backward()
            clock.lap("backward")
            torch.nn.utils.clip_grad_norm_(member.network.parameters(), 10.0)
            for optimiser in member.optimisers.values():
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            clock.lap("clip and AdamW")
        done += 1
    return done


def timed(batches: Iterator, clock: Clock) -> Iterator:
    clock.lap("rest")
    for batch in batches:
        clock.lap("augmented batch")
        yield batch


def by_phase(count: int, teacher: Teacher, source: Source) -> dict[str, float]:
    """Milliseconds per step of each phase."""
    members = [Member(run, device="cpu") for run in students(count)]
    clock = Clock()
    for epoch in (0, 1):  # the first warms up
        clock = Clock()
        how = Batching(members[0].run.tasks, (48, 64), 8)
        batches = train_batches(source, how, augment="paper", data_seed=0, epoch=epoch)
        done = steps(members, teacher, batches, clock)
    return {phase: 1000 * value / done for phase, value in clock.seconds.items() if phase != "rest"}


def one_epoch(runs: list[Run], teacher: Teacher, source: Source) -> float:
    """Seconds of training, without set-up and evaluation."""
    from kdam_ray.learning.cohort import _train_epoch

    members = [Member(run, device="cpu") for run in runs]
    start = time.perf_counter()
    for _ in _train_epoch(members, 1, source, teacher, "cpu"):
        pass
    return time.perf_counter() - start


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--members", type=int, default=9)
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    teacher = Teacher(build_network("resnet_w16", "mt_baseline", DATASET.tasks, image_size=(48, 64)))
    source, val = (open_source(Wanted(DATASET, split, images, (48, 64))) for split, images in SPLITS)
    print(
        f"{platform.machine()}, {options.threads} thread(s), torch {torch.__version__}; ms per step of batch 8 at 48x64"
    )
    tables = {count: by_phase(count, teacher, source) for count in (options.members, 1)}
    for phase in tables[1]:
        print(f"{phase:18s}" + "".join(f"{table[phase]:10.1f}" for table in tables.values()))
    print(
        f"{'sum':18s}"
        + "".join(f"{sum(table.values()):10.1f}" for table in tables.values())
        + f"   ({options.members} members, 1)"
    )
    member = Member(students(1)[0], device="cpu")
    for _ in range(2):  # the first loads what is compiled
        start = time.perf_counter()
        evaluate({"one": Candidate(member.network, member.run.tasks)}, val, DATASET, image_size=(48, 64))
    milliseconds = 1000 * (time.perf_counter() - start)
    print(f"evaluation of one member on 200 images, all metrics, odsF at 101 thresholds: {milliseconds:.0f} ms")
    ratios = []
    for _ in range(5):
        together = one_epoch(students(options.members), teacher, source)
        alone = [one_epoch([run], teacher, source) for run in students(min(3, options.members))]
        ratios.append(options.members * statistics.median(alone) / together)
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"{options.members} students one by one / as a cohort: {spread}")


if __name__ == "__main__":
    main()
