"""Whether a difference between two ways to train is more than chance: pairs of runs that share a seed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student_t

CONFIDENCE = 0.95
ROUNDING = 1e-12  # of the largest value; differences that vary by less than this are the same number


@dataclass(frozen=True)
class Difference:
    """The difference of paired values, first minus second.

    Attributes:
        mean: over the pairs.
        low, high: 95 % interval of the mean, Student's t; None where there is no test.
        p: of the paired t-test, two-sided; None where there is no test: one pair, or pairs that all differ by the same.
        pairs: how many.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    pairs: int


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """The difference over the seeds at which both are finite; None if there is none.

    Args:
        first: seed -> value.
        second: seed -> value.
    """
    pairs = [
        (first[seed], second[seed]) for seed in first if seed in second and math.isfinite(first[seed] - second[seed])
    ]
    differences = [one - other for one, other in pairs]
    if not differences:
        return None
    mean, count = statistics.fmean(differences), len(differences)
    error = statistics.stdev(differences) / count**0.5 if count > 1 else 0.0
    if error <= ROUNDING * max(abs(value) for pair in pairs for value in pair):
        return Difference(mean, None, None, None, count)
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    p = 2 * float(student_t.sf(abs(mean) / error, count - 1))
    return Difference(mean, mean - half, mean + half, p, count)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm's step-down), in their order, each at most 1.

    None stays None and does not count.
    """
    tests = sorted((value, index) for index, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, index) in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - rank) * value))
        corrected[index] = largest
    return corrected
