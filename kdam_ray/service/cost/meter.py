"""What runs have really cost, measured while they train.

A run's metrics `cost/wall_s` (time while it was being trained), `cost/device_s` (its share of the workers' time),
`cost/tflop` (operations, as counted) and, where counters exist, `cost/kwh` grow from epoch to epoch and go on where an
interrupted attempt ended: an epoch that was lost and repeated has cost twice.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kdam_ray.config import Run
from kdam_ray.service.cost.estimate import Operations, needed
from kdam_ray.service.cost.totals import NAMES, costs_of, plus

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class _Metered:
    """A member on the meter: its run, operations of an epoch, epochs behind it when it joined."""

    run: Run
    operations: Operations
    done: int


class Meter:
    """Measures on rank 0 what the members of one cohort cost.

    The time from the end of an epoch to the end of the next belongs to the members of the next: t seconds on r ranks
    are t * r device-seconds, shared in proportion to the operations that each needed, as joules are; the shares sum to
    what was spent. A member that diverges within an epoch pays for the whole of it. What is stored after a cohort's
    very last epoch is in nobody's cost.

    An epoch that is cut short never becomes a metric. What it had cost by its last `beat` is in a small file per member
    in this machine's cache and counts when the run goes on here.

    Args of the constructor:
        ranks: workers that train the cohort.
        evaluate_every: epochs between evaluations.
        notes: folder of those files.
        clock: seconds, another one in tests; starts to count now.
    """

    def __init__(self, *, ranks: int, evaluate_every: int, notes: Path, clock: Callable[[], float] = time.monotonic):
        self._ranks, self._every, self._notes, self._clock = ranks, evaluate_every, notes, clock
        self._members: dict[str, _Metered] = {}
        self._spent: dict[str, dict[str, float]] = {}
        self._mark, self._joules = clock(), 0.0

    def join(self, run: Run, operations: Operations, *, done: int, recorded: Mapping[str, float]) -> None:
        """A member takes part, with `done` epochs behind it and its last recorded metrics.

        Costs only grow, so of record and note the larger is the newer.
        """
        known = (costs_of(recorded), self._note(run.run_id))
        self._members[run.run_id] = _Metered(run, operations, done)
        self._spent[run.run_id] = {
            name: max(each.get(name, 0.0) for each in known) for name in NAMES if any(name in each for each in known)
        }

    def beat(self, epoch: int, share: float, joules: float | None) -> None:
        """Note what an epoch has cost so far; `share` of its steps are done, `joules` as for `end_epoch`."""
        for name, more in self._shares(epoch, self._clock(), joules, evaluated=False, share=share).items():
            self._write(name, plus(self._spent[name], more))

    def end_epoch(self, epoch: int, joules: float | None) -> None:
        """An epoch is over; `joules` of all ranks since the cohort began, None where nothing counts them."""
        now = self._clock()
        for name, more in self._shares(epoch, now, joules, evaluated=True, share=1.0).items():
            self._spent[name] = plus(self._spent[name], more)
            self._write(name, self._spent[name])
        self._mark, self._joules = now, joules or self._joules

    def total(self, run_id: str) -> dict[str, float]:
        """{"cost/wall_s": ...} of a member until the end of its last epoch, earlier attempts included."""
        return dict(self._spent[run_id])

    def leave(self, run_id: str) -> None:
        """A member takes part no longer, and its costs are recorded."""
        self._members.pop(run_id, None)
        self._path(run_id).unlink(missing_ok=True)

    def _shares(
        self, epoch: int, now: float, joules: float | None, *, evaluated: bool, share: float
    ) -> dict[str, dict[str, float]]:
        """Per member, what the time and energy since the last epoch come to."""
        present = {name: one for name, one in self._members.items() if one.done < epoch <= one.run.epochs}
        scored = {name for name, one in present.items() if evaluated and one.run.is_evaluated(epoch, self._every)}
        operations = needed({name: one.operations for name, one in present.items()}, scored)
        everything, seconds = sum(operations.values()), now - self._mark
        shares = {}
        for name, flops in operations.items():
            part = flops / everything
            shares[name] = {
                "cost/wall_s": seconds,
                "cost/device_s": seconds * self._ranks * part,
                "cost/tflop": flops * share / 1e12,
            }
            if joules is not None:
                shares[name]["cost/kwh"] = (joules - self._joules) / JOULES_PER_KWH * part
        return shares

    def _path(self, run_id: str) -> Path:
        return self._notes / f"{run_id}.json"

    def _note(self, run_id: str) -> dict[str, float]:
        try:
            return costs_of(json.loads(self._path(run_id).read_text()))
        except (OSError, ValueError):  # none, or half of one
            return {}

    def _write(self, run_id: str, costs: Mapping[str, float]) -> None:
        self._notes.mkdir(parents=True, exist_ok=True)
        self._path(run_id).write_text(json.dumps(costs))
