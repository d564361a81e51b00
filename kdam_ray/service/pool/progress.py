"""Where a sweep is, on stderr: bars on a terminal, lines in a log; a callback of Ray Tune in the job's process."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from kdam_ray.service.pool.assignment import Assignment, Notice
from kdam_ray.service.pool.bars import Bars
from kdam_ray.service.pool.protocols import Coordinator
from kdam_ray.service.wording import count, duration, say, tail

EVERY_S = 8.0  # between lines of a cohort
DRAWN_S = 1.0  # between looks where bars are drawn
ALL = "all"


class Progress(tune.Callback):
    """Shows where each cohort is, the best member so far, and what is left of the whole.

    As a line about every eight seconds, or as bars. While nothing has been trained it says what is waited for.

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
        self._bars: Bars | None = None
        self._waiting = False

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps its callbacks in a file; bars are this process's."""
        return self.__dict__ | {"_bars": None}

    def close(self) -> None:
        """Nothing more is shown."""
        if self._bars is not None:
            self._bars.close()
            self._bars = None

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called some times a second by Tune's loop; never waits."""
        now = time.monotonic()
        if not self._asking and now - self._asked > (DRAWN_S if self._bars else EVERY_S):
            self._asking, self._asked = True, now
        if self._asking and (notices := self._coordinator.notices_by_now()) is not None:
            self._notices, self._asking = notices, False
            self._draw() if self._bars else self._print()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cohort is handed to the lanes."""
        assignment = Assignment.model_validate(trial.config)
        say(f"{assignment.title}: {assignment.about}")
        self._waiting = not self._shown
        if self._bars is None and Bars.wanted():
            self._bars = Bars()
        if self._bars is not None:
            self._bars.show(assignment.title, 0.0, "waits for its workers, which start and open the data")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cohort is over, trained or given up."""
        title = Assignment.model_validate(trial.config).title
        self._notices = self._coordinator.notices()
        self._ended.add(title)
        if self._bars is not None:
            self._bars.end(title)
        why = self._coordinator.deaths().get(title)
        say(f"{title}: FAILED\n{tail(why)}" if why else f"{title}: done{self._best()}{self._left()}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The driver itself died; Tune has the error in a file beside the trial."""
        title, errors = Assignment.model_validate(trial.config).title, Path(trial.local_path or "") / "error.txt"
        say(f"{title}: FAILED\n{tail(errors.read_text() if errors.exists() else 'its driver died')}")

    def _draw(self) -> None:
        """The bars as they are now."""
        assert self._bars is not None
        for title, notice in self._notices.items():
            if title not in self._ended:
                self._started = self._started or time.monotonic() - DRAWN_S
                said = f"epoch {notice.epoch}/{notice.epochs}, {count(notice.members, 'member')}"
                self._bars.show(title, notice.share, said)
        if done := self._done():
            self._bars.show(ALL, min(1.0, done / self._flops), f"{self._left()}{self._best()}".removeprefix("; "))

    def _print(self) -> None:
        """A line for each cohort that has come further."""
        if self._waiting and not self._notices:
            self._waiting = False
            say("the workers start and open the data; what is not there yet is rendered or decoded once")
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

    def _done(self) -> float:
        return sum(self._costs.get(title, 0.0) * notice.share for title, notice in self._notices.items())

    def _left(self) -> str:
        done = self._done()
        if not done or self._started is None:
            return ""
        rate = done / (time.monotonic() - self._started)
        return f"; about {duration((self._flops - done) / rate)} left"

    def _best(self) -> str:
        best = max((notice.best for notice in self._notices.values() if notice.best), default=None)
        return f"; ahead so far {best[1]}: {best[0]:+.1f} % to the teacher" if best else ""
