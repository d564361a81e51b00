"""Runs packed into cohorts, and cohorts handed to Ray Tune: one Tune trial is one cohort.

The cells of a table come first, then what the study draws. Tune is told nothing of single members: each is told to the
study by its worker as soon as it ends, and everything that must survive a crash is in the study and in MLflow.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.tune.search import Searcher

from kdam_ray.config import Run
from kdam_ray.service.seats import Seat, alike


class CohortSearch(Searcher):
    """Hands out cohorts: first the packed ones, then what the study draws.

    Args of the constructor:
        cohorts: fixed runs and searched ones taken up again.
        draws: how many runs are to be drawn after those.
        drawn_size: members of a drawn cohort.
        actor: handle of the StudyActor.
        open_cohort: makes the worker's configuration of a cohort (opens its MLflow runs).
        close_cohort: told the seats of a cohort that is over, and why if it died, so that none of its MLflow runs stays
            open.
    """

    def __init__(
        self,
        cohorts: Sequence[Sequence[Seat]],
        *,
        draws: int,
        drawn_size: int,
        actor: Any,
        open_cohort: Callable[[Sequence[Seat]], dict[str, Any]],
        close_cohort: Callable[[Sequence[Seat], str | None], None],
    ):
        super().__init__(metric="members", mode="max")  # Tune wants one in every result; nothing is decided by it
        self._waiting = [list(cohort) for cohort in cohorts]
        self._draws, self._drawn_size = draws, drawn_size
        self._actor, self._open, self._close = actor, open_cohort, close_cohort
        self._live: dict[str, tuple[str, list[Seat]]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """The next cohort as {"members": [...], ...}; FINISHED when there is none."""
        seats = self._waiting.pop(0) if self._waiting else self._draw()
        if not seats:
            return Searcher.FINISHED
        config = self._open(seats)
        self._live[trial_id] = (config["title"], seats)
        return config

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        title, seats = self._live.pop(trial_id, ("", []))
        self._close(seats, ray.get(self._actor.deaths.remote()).get(title))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what a resumed sweep needs is in the study and in MLflow, not in Tune's own state."""

    def _draw(self) -> list[Seat]:
        """The next searched cohort; drawn runs that cannot share one (their teachers differ) wait for their turn."""
        seats: list[Seat] = []
        while self._draws and len(seats) < self._drawn_size:
            self._draws -= 1
            drawn = ray.get(self._actor.draw.remote())
            if drawn is not None:
                seats.append(Seat(Run.model_validate(drawn[1]), "searched", trial=drawn[0]))
        first, *others = alike(seats) or [[]]
        self._waiting += others
        return first
