"""What the job, Tune's trials and the workers of a sweep share: its study, its queue of cohorts, its notices."""

from kdam_ray.config import Run, Sweep
from kdam_ray.service.pool.assignment import Notice
from kdam_ray.service.pool.cohort_queue import CohortQueue
from kdam_ray.service.records import Storage
from kdam_ray.service.search.study import Outcome, Study, Trial


class LocalCoordinator(CohortQueue):
    """The coordinator as a plain object: in a Ray actor (`ray_coordinator`), or in the process that asks.

    What its methods answer stands in `protocols.Coordinator`. It is the queue of cohorts, and it owns the study and the
    notices that progress is printed from. A sweep that searches nothing has no study, and a teacher neither.

    Args of the constructor:
        storage: where the study's journal lies.
        sweep: whose study; None: nothing is searched.
    """

    def __init__(self, storage: Storage, sweep: Sweep | None = None):
        super().__init__()
        self._study = Study(storage, sweep) if sweep is not None and sweep.space else None
        self._notices: dict[str, Notice] = {}

    def take(self, run: Run) -> int | None:
        return self._study.take(run) if self._study else None

    def draw(self) -> Trial | None:
        return self._study.draw() if self._study else None

    def tell(self, number: int, outcome: Outcome, value: float | None = None) -> None:
        if self._study:
            self._study.tell(number, outcome, value)

    def observe(self, number: int, epoch: int, value: float) -> bool:
        return self._study.observe(number, epoch, value) if self._study else False

    def notice(self, title: str, notice: Notice) -> None:
        self._notices[title] = notice

    def notices(self) -> dict[str, Notice]:
        return self._notices

    notices_by_now = notices
