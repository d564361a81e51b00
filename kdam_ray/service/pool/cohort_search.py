"""Cohorts handed to Ray Tune: one Tune trial is one cohort.

The cells of a table come first, then what the study draws, then further seeds of the points that came out first, which
are not known before the others have ended. Tune is told nothing of single members: each is told to the study by its
worker as soon as it ends, and everything that must survive a crash is in the study and in MLflow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher

from kdam_ray.service.pool.cohorts import Opener
from kdam_ray.service.pool.protocols import Coordinator
from kdam_ray.service.seats import Seat, alike, pack


def _nobody() -> list[Seat]:
    return []


@dataclass(frozen=True)
class ToCome:
    """What a sweep trains after the runs that are known when it starts.

    Attributes:
        draws: runs like the sweep's base that the study draws.
        further: most runs that `choose` can name; 0: it is not asked.
        choose: asked once, when all others have ended: further seeds of the points that came out first.
    """

    draws: int = 0
    further: int = 0
    choose: Callable[[], list[Seat]] = _nobody


class CohortSearch(Searcher):
    """Hands out cohorts: first the packed ones, then what the study draws, then what is chosen in the end.

    Args of the constructor:
        cohorts: fixed runs and searched ones taken up again.
        opener: makes the assignment of a cohort; told when it is over.
        coordinator: draws, and knows why cohorts died.
        drawn: members of each cohort that is to be drawn after those.
        choose: seats to train when all those have ended; None: there are none.
    """

    def __init__(
        self,
        cohorts: Sequence[Sequence[Seat]],
        *,
        opener: Opener,
        coordinator: Coordinator,
        drawn: Sequence[int],
        choose: Callable[[], list[Seat]] | None = None,
    ):
        super().__init__(metric="members", mode="max")  # Tune wants one in every result; nothing is decided by it
        self._waiting = [list(cohort) for cohort in cohorts]
        self._opener, self._coordinator = opener, coordinator
        self._draws, self._drawn_size = sum(drawn), max(drawn, default=0)
        self._choose = choose
        self._live: dict[str, tuple[str, list[Seat]]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next cohort's assignment as Tune wants it, a plain dict.

        FINISHED when there is none; None: there may be one when those that are being trained have ended.
        """
        seats = self._waiting.pop(0) if self._waiting else self._draw()
        if not seats and self._choose is not None:
            if self._live:
                return None
            seats = self._chosen(self._choose)
        if not seats:
            return Searcher.FINISHED
        assignment = self._opener.open(seats)
        self._live[trial_id] = (assignment.title, seats)
        return assignment.model_dump(mode="json")

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A cohort is over: what it left open in MLflow is ended."""
        title, seats = self._live.pop(trial_id, ("", []))
        self._opener.close(seats, self._coordinator.deaths().get(title))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what a resumed sweep needs is in the study and in MLflow, not in Tune's own state."""

    def _draw(self) -> list[Seat]:
        """The next searched cohort; drawn runs that cannot share one (their teachers differ) wait for their turn."""
        seats: list[Seat] = []
        while self._draws and len(seats) < self._drawn_size:
            self._draws -= 1
            if (drawn := self._coordinator.draw()) is not None:
                seats.append(Seat(drawn.run, "searched", trial=drawn.number))
        first, *others = alike(seats) or [[]]
        self._waiting += others
        return first

    def _chosen(self, choose: Callable[[], list[Seat]]) -> list[Seat]:
        """The first cohort of what is chosen in the end; the others wait."""
        self._choose, found = None, choose()
        if not found:
            return []
        side_by_side = self._opener.arranged.side_by_side(found[0].run)
        first, *others = pack(found, side_by_side=side_by_side, cohort_size=self._opener.place.cohort_size)
        self._waiting += others
        return first
