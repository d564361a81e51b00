"""The one process that job, trials and workers of a sweep share: its study, its queue of cohorts, its notices."""

from collections.abc import Mapping
from typing import Any

from kdam_ray.config import Run, Sweep
from kdam_ray.service.pool.cohort_queue import CohortQueue
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.search.study import Outcome, Study


class StudyActor:
    """The one process that job, trials and workers share.

    It owns the study, the queue of cohorts (see `CohortQueue` for those methods) and the notices that progress is
    printed from. A sweep that searches nothing has no study, and a teacher neither.
    """

    def __init__(self, storage: str, sweep: dict[str, Any] | None):
        model = Sweep.model_validate(sweep) if sweep is not None else None
        self._study = Study(Storage(storage), model) if model is not None and model.space else None
        self._notices: dict[str, dict[str, Any]] = {}
        self._queue = CohortQueue()

    def take(self, run: Mapping[str, Any]) -> int | None:
        return self._study.take(Run.model_validate(run)) if self._study else None

    def draw(self) -> tuple[int, dict[str, Any]] | None:
        trial = self._study.draw() if self._study else None
        return (trial.number, trial.run.model_dump(mode="json")) if trial else None

    def tell(self, number: int, outcome: Outcome, value: float | None = None) -> None:
        if self._study:
            self._study.tell(number, outcome, value)

    def observe(self, number: int, epoch: int, value: float) -> bool:
        return self._study.observe(number, epoch, value) if self._study else False

    def notice(self, cohort: str, what: Mapping[str, Any]) -> None:
        """Where a cohort is, said by its rank 0."""
        self._notices[cohort] = dict(what)

    def notices(self) -> dict[str, dict[str, Any]]:
        return self._notices

    def submit(self, config: Mapping[str, Any]) -> None:
        self._queue.submit(config)

    def state(self, cohort: str) -> str:
        return self._queue.state(cohort)

    def take_cohort(self, lane: str) -> tuple[Mapping[str, Any] | None, bool]:
        """(what the lane trains next, or None; whether there will never be more)."""
        return self._queue.take(lane), self._queue.closed

    def over(self, cohort: str, why_it_died: str | None = None) -> None:
        self._queue.over(cohort, why_it_died)

    def lane_died(self, lane: str, why: str) -> bool:
        return self._queue.lane_died(lane, why)

    def give_up(self, why: str) -> None:
        self._queue.give_up(why)

    def close(self) -> None:
        self._queue.close()

    def deaths(self) -> dict[str, str]:
        """Why cohorts that were given up were."""
        return self._queue.deaths
