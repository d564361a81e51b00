"""Whether a difference between two ways to train is more than chance: pairs of runs that share a seed."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student_t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """Of paired values, first minus second.

    Attributes:
        mean: over the pairs.
        low, high: 95 % interval of the mean, Student's t; infinite for a single pair.
        p: of the paired t-test, two-sided; 1 for a single pair.
        pairs: how many.
        wins: pairs in which the first is larger.
    """

    mean: float
    low: float
    high: float
    p: float
    pairs: int
    wins: int


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """The difference over the seeds that both have; None if they share none.

    Args:
        first: seed -> value.
        second: seed -> value.
    """
    differences = [first[seed] - second[seed] for seed in first if seed in second]
    if not differences:
        return None
    mean, count = statistics.fmean(differences), len(differences)
    wins = sum(value > 0 for value in differences)
    if count == 1:
        return Difference(mean, float("-inf"), float("inf"), 1.0, 1, wins)
    error = statistics.stdev(differences) / count**0.5
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0, count, wins)
    return Difference(mean, mean - half, mean + half, 2 * float(student_t.sf(abs(mean) / error, count - 1)), count, wins)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm's step-down), in their order; each at most 1."""
    order = sorted(range(len(p)), key=p.__getitem__)
    corrected, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected
