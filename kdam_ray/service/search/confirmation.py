"""Further seeds for the points that one seed put first: what a search calls best must not be one seed's luck.

The highest of many noisy numbers is high by chance too (the winner's curse). So when every cell and every drawn run has
ended, the points that came out first are trained at further seeds, and only a point that has all of them is called
best, by its mean. Which points those are hangs on the base's seed alone: on nothing that the further seeds change, so
the same command finds the same points again (law 8).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kdam_ray.config import Run, Sweep, change
from kdam_ray.service.search.study import searched_params

SEEDS = 3  # of a confirmed point, the first among them


@dataclass(frozen=True)
class Point:
    """A point of the searched space and what it came to.

    Attributes:
        run: at the base's seed.
        values: seed -> objective, of the runs that have finished.
    """

    run: Run
    values: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over its seeds."""
        return sum(self.values.values()) / len(self.values)

    @property
    def is_confirmed(self) -> bool:
        """Whether it has as many seeds as the word best needs."""
        return len(self.values) >= SEEDS


def points_of(sweep: Sweep, objectives: Iterable[tuple[Run, float]]) -> list[Point]:
    """The points that finished runs belong to, the highest mean first; runs that are no point of the space are none's.

    Args:
        sweep: whose space.
        objectives: finished runs and their objectives.
    """
    found: dict[str, tuple[Run, dict[int, float]]] = {}
    for run, value in objectives:
        first = change(run, {"seed": sweep.base.seed})
        if value == value and searched_params(sweep, first) is not None:
            found.setdefault(first.run_id, (first, {}))[1][run.seed] = value
    points = [Point(run, values) for run, values in found.values()]
    return sorted(points, key=lambda point: (-point.mean, point.run.run_id))


def further_runs(sweep: Sweep, objectives: Iterable[tuple[Run, float]]) -> list[Run]:
    """What confirms the points that came out first at the base's seed: their runs at every other seed.

    Args:
        sweep: says how many points.
        objectives: finished runs and their objectives; of other seeds than the base's they do not count.
    """
    seed = sweep.base.seed
    first = points_of(sweep, ((run, value) for run, value in objectives if run.seed == seed))[: sweep.confirmed]
    return [change(point.run, {"seed": seed + more}) for point in first for more in range(1, SEEDS)]


def most_further_runs(sweep: Sweep) -> int:
    """How many those can be, before it is known which."""
    return sweep.confirmed * (SEEDS - 1) if sweep.space else 0
