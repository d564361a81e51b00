"""Who may ask what of the process that a sweep shares, and what a training generator is.

Imports neither Ray nor torch, so that planning and tests can import it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from kdam_ray.config import Run
    from kdam_ray.data.source import Source
    from kdam_ray.learning import EpochReport, StepReport
    from kdam_ray.models import Teacher
    from kdam_ray.service.pool.assignment import Assignment, Notice
    from kdam_ray.service.search.study import Outcome, Trial

CohortState = Literal["waiting", "training", "over"]


class Train(Protocol):
    """A training generator: `learning.train_cohort`, or another one in tests of the service."""

    def __call__(
        self,
        runs: Sequence[Run],
        *,
        train: Source,
        val: Source,
        teacher: Teacher | None,
        resume: Mapping[str, Path],
        weights: Mapping[str, Path],
        device: torch.device | str,
        evaluate_every: int,
    ) -> Iterator[StepReport | EpochReport]:
        """Reports of the members, in the same order on every rank; see `train_cohort` for the arguments."""


class Coordinator(Protocol):
    """The study, the queue of cohorts and the notices that the job, Tune's trials and the workers of a sweep share."""

    # --- the study: asked by the job (take, draw) and by rank 0 of each cohort (tell, observe)

    def take(self, run: Run) -> int | None:
        """Open a trial for a cell of the table; its number, or None where nothing is searched."""

    def draw(self) -> Trial | None:
        """Open a trial at the next point of the search; None where there is no new one."""

    def tell(self, number: int, outcome: Outcome, value: float | None = None) -> None:
        """Close a trial."""

    def observe(self, number: int, epoch: int, value: float) -> bool:
        """Record the objective after an epoch; whether the trial is hopeless."""

    # --- notices: from rank 0 of each cohort to the lines on stderr

    def notice(self, title: str, notice: Notice) -> None:
        """Say where a cohort is; never waits."""

    def notices(self) -> Mapping[str, Notice]:
        """The last notice of each cohort, by title."""

    def notices_by_now(self) -> Mapping[str, Notice] | None:
        """The same without waiting: None while the answer is on its way, so ask again."""

    # --- the queue: asked by Tune's trials (submit, state) and by lanes

    def submit(self, assignment: Assignment) -> None:
        """A trial brings its cohort; bringing it twice changes nothing."""

    def state(self, title: str) -> CohortState:
        """What has become of a cohort."""

    def take_cohort(self, lane: str) -> tuple[Assignment | None, bool]:
        """What the lane trains next, or None; and whether there will never be more."""

    def over(self, title: str, why_it_died: str | None = None) -> None:
        """A cohort has been trained, or will not be."""

    def lane_died(self, lane: str, why: str) -> bool:
        """A lane has used up Ray Train's own restarts; whether starting it anew makes sense."""

    def give_up(self, why: str) -> None:
        """There is no lane any more, neither for what waits nor for what is still to come."""

    def close(self) -> None:
        """Nothing more will be submitted: lanes without work may end."""

    def deaths(self) -> Mapping[str, str]:
        """Why cohorts that were given up were, by title."""
