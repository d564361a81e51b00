"""How fast this machine is, as a factor on what is estimated for the machine of `benchmarks/results/`.

Known from sweeps that were trained here, wall time against estimate, the median of the last few; before the first, on
CPUs, from a measurement of some 50 ms. Neither needs torch.
"""

import json
import statistics
import threading
import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from kdam_ray.files import written_whole
from kdam_ray.service.records import Storage

REFERENCE_S = 0.00215  # of `_round` on that machine
ROUNDS = 20
REMEMBERED = 5  # sweeps
LONG_S = 120.0  # a shorter estimate is ruled by what starting takes
MOST_DONE = 0.5  # share of what was estimated that a sweep must have trained for its time to say something


@dataclass(frozen=True)
class Pace:
    """What the times of the estimate are multiplied by.

    Attributes:
        workers: whom it holds for, "2 CPUs".
        factor: above 1 where a machine is slower than that of the estimate.
    """

    workers: str
    factor: float


def pace_of(storage: Storage, *, workers: int, gpus: bool) -> Pace:
    """The pace of that many workers of this machine; 1 for GPUs on which nothing has been trained yet."""
    name = f"{workers} {'GPUs' if gpus else 'CPUs'}"
    known = _remembered(storage).get(name)
    if known:
        return Pace(name, statistics.median(known))
    return Pace(name, 1.0 if gpus else measured(workers))


@cache
def measured(workers: int) -> float:
    """Time of some arithmetic in as many threads as there are workers, against the reference.

    All at once, for two processors that are threads of one core are slow only together. Of each thread its own
    processor time counts, the best round: what else runs on the machine now will not run later.
    """
    best: list[float] = []

    def measure() -> None:
        best.append(min(_round() for _ in range(ROUNDS)))

    threads = [threading.Thread(target=measure) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.mean(best) / REFERENCE_S


def remember(storage: Storage, pace: Pace, *, estimated_s: float, wall_s: float, done: float) -> None:
    """Keep what a sweep has taken.

    Args:
        storage: in whose cache.
        pace: that its estimate was made with.
        estimated_s: seconds, by that pace.
        wall_s: seconds that it took.
        done: share of the estimated operations that were carried out: searched runs may be pruned, others fail.
    """
    expected = estimated_s / pace.factor * done
    if expected < LONG_S or done < MOST_DONE:
        return
    known = _remembered(storage)
    known[pace.workers] = [*known.get(pace.workers, ()), round(wall_s / expected, 3)][-REMEMBERED:]
    with written_whole(storage.cache() / "pace.json") as beside:
        beside.write_text(json.dumps(known))


def _remembered(storage: Storage) -> dict[str, list[float]]:
    try:
        return dict(json.loads((storage.cache() / "pace.json").read_text()))
    except (OSError, ValueError):  # nothing trained yet, or a damaged file: it will be written anew
        return {}


def _round() -> float:
    """Seconds of this thread's processor for what a training step does most: short passes over small maps."""
    a = np.linspace(-1, 1, 24576, dtype=np.float32)
    out = np.empty_like(a)
    start = time.thread_time()
    for _ in range(100):
        np.exp(a, out=out)
        np.multiply(out, a, out=out)
        np.add(out, a, out=out)
        out.sum()
    return time.thread_time() - start
