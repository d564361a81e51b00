"""Where a sweep is, as plain lines on stderr that read well in a log: a callback of Ray Tune in the job's process."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from kdam_ray.service.pool.assignment import Assignment, Notice
from kdam_ray.service.pool.protocols import Coordinator
from kdam_ray.service.wording import count, duration, say, tail

EVERY_S = 8.0


class Progress(tune.Callback):
    """Prints where each cohort is about every eight seconds, the best member so far, and what is left of the whole.

    Args of the constructor:
        coordinator: keeps the notices.
        flops: operations still to do, of all cohorts.
        costs: operations per cohort's title; filled while cohorts are opened.
    """

    def __init__(self, coordinator: Coordinator, *, flops: float, costs: Mapping[str, float]):
        self._coordinator, self._flops, self._costs = coordinator, flops, costs
        self._notices: Mapping[str, Notice] = {}
        self._shown: dict[str, tuple[int, int]] = {}
        self._ended: set[str] = set()
        self._asking = False
        self._asked = 0.0
        self._started: float | None = None

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called some times a second by Tune's loop; never waits."""
        now = time.monotonic()
        if not self._asking and now - self._asked > EVERY_S:
            self._asking, self._asked = True, now
        if self._asking and (notices := self._coordinator.notices_by_now()) is not None:
            self._notices, self._asking = notices, False
            self._print()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cohort is handed to the lanes."""
        assignment = Assignment.model_validate(trial.config)
        say(f"{assignment.title}: {assignment.about}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cohort is over, trained or given up."""
        title = Assignment.model_validate(trial.config).title
        self._notices = self._coordinator.notices()
        self._ended.add(title)
        why = self._coordinator.deaths().get(title)
        say(f"{title}: FAILED\n{tail(why)}" if why else f"{title}: done{self._best()}{self._left()}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The driver itself died; Tune has the error in a file beside the trial."""
        title, errors = Assignment.model_validate(trial.config).title, Path(trial.local_path or "") / "error.txt"
        say(f"{title}: FAILED\n{tail(errors.read_text() if errors.exists() else 'its driver died')}")

    def _print(self) -> None:
        for title, notice in self._notices.items():
            mark = (notice.epoch, notice.step)
            if title in self._ended or self._shown.get(title) == mark:
                continue
            self._started = self._started or time.monotonic() - EVERY_S / 2
            self._shown[title] = mark
            say(
                f"{title}: epoch {notice.epoch}/{notice.epochs}, step {notice.step}/{notice.steps}, "
                f"{count(notice.members, 'member')}{self._best()}{self._left()}"
            )

    def _left(self) -> str:
        done = sum(self._costs.get(title, 0.0) * notice.share for title, notice in self._notices.items())
        if not done or self._started is None:
            return ""
        rate = done / (time.monotonic() - self._started)
        return f"; about {duration((self._flops - done) / rate)} left"

    def _best(self) -> str:
        best = max((notice.best for notice in self._notices.values() if notice.best), default=None)
        return f"; ahead so far {best[1]}: {best[0]:+.1f} % to the teacher" if best else ""
