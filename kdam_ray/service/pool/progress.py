"""Where a sweep is, as plain lines on stderr that read well in a log: a callback of Ray Tune in the driver's process."""

import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from kdam_ray.service.wording import count, duration, say, tail

EVERY_S = 8.0


class Progress(tune.Callback):
    """Prints each cohort's notices about every eight seconds, the best member so far, and what the whole has still to
    go.

    Args of the constructor:
        actor: handle of the StudyActor, which keeps the notices.
        flops: operations still to do, of all cohorts.
        costs: operations per cohort's title; filled while cohorts are opened.
    """

    def __init__(self, actor: Any, *, flops: float, costs: dict[str, float]):
        self._actor, self._flops, self._costs = actor, flops, costs
        self._notices: dict[str, dict] = {}
        self._shown: dict[str, tuple] = {}
        self._ended: set[str] = set()
        self._pending: Any = None
        self._asked = 0.0
        self._started: float | None = None

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Called some times a second by Tune's loop; never waits."""
        now = time.monotonic()
        if self._pending is None and now - self._asked > EVERY_S:
            self._pending, self._asked = self._actor.notices.remote(), now
        if self._pending is not None and ray.wait([self._pending], timeout=0)[0]:
            self._notices, self._pending = ray.get(self._pending), None
            self._print()

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        say(f"{trial.config['title']}: {trial.config['about']}")

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        title = trial.config["title"]
        self._notices, deaths = ray.get([self._actor.notices.remote(), self._actor.deaths.remote()])
        self._ended.add(title)
        why = deaths.get(title)
        say(f"{title}: FAILED\n{tail(why)}" if why else f"{title}: done{self._best()}{self._left()}")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """The driver itself died; Tune has the error in a file beside the trial."""
        errors = Path(trial.local_path or "") / "error.txt"
        say(f"{trial.config['title']}: FAILED\n{tail(errors.read_text() if errors.exists() else 'its driver died')}")

    def _print(self) -> None:
        for title, what in self._notices.items():
            mark = (what["epoch"], what["step"])
            if title in self._ended or self._shown.get(title) == mark:
                continue
            self._started = self._started or time.monotonic() - EVERY_S / 2
            self._shown[title] = mark
            say(
                f"{title}: epoch {what['epoch']}/{what['epochs']}, step {what['step']}/{what['steps']}, "
                f"{count(what['members'], 'member')}{self._best()}{self._left()}"
            )

    def _left(self) -> str:
        done = sum(self._costs.get(title, 0.0) * _share(what) for title, what in self._notices.items())
        if not done or self._started is None:
            return ""
        rate = done / (time.monotonic() - self._started)
        return f"; about {duration((self._flops - done) / rate)} left"

    def _best(self) -> str:
        best = max((tuple(what["best"]) for what in self._notices.values() if what["best"]), default=None)
        return f"; best so far {best[1]}: {best[0]:+.1f} % to the teacher" if best else ""


def _share(what: dict[str, Any]) -> float:
    done = what["epoch"] - 1 + what["step"] / what["steps"] - what["epochs_done"]
    return done / max(what["epochs"] - what["epochs_done"], 1)
