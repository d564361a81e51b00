"""What a sweep still has to do, found out without Ray; and what comes out of it."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from kdam_ray.config import Place, Run, Sweep, change, titled
from kdam_ray.service.cost.estimate import Costs
from kdam_ray.service.layout import layout
from kdam_ray.service.records.checkpoints import epochs_done, is_ready
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Found, Tracking
from kdam_ray.service.search.study import Study, Trial
from kdam_ray.service.seats import DRAWN_COHORT, Purpose, Seat, pack
from kdam_ray.service.wording import count, duration

State = Literal["finished", "pruned", "failed", "unfinished", "new", "blocked"]
DONE = ("finished", "pruned", "failed")
LEFT = ("unfinished", "new")
START_S = 15.0  # planning; Ray, Tune and MLflow
GROUP_S = 15.0  # workers that start together, once for the teachers and once for the students


@dataclass(frozen=True)
class Planned:
    """A run that the sweep needs, and what of it is left.

    Attributes:
        run: what is trained.
        kind: why.
        status: what MLflow has of it; "finished", "pruned" and "failed" ones are not trained, nor are "blocked" ones,
            whose teacher has failed.
        changes: of a cell or reference, its changes to the base.
        steps: optimiser steps left.
        flops: operations left, the shared teacher apart.
        trial: its trial in the study, if it has one.
        record: MLflow's, if it has one.
    """

    run: Run
    kind: Purpose
    status: State
    changes: Mapping[str, Any]
    steps: int
    flops: float
    trial: Trial | None = None
    record: Found | None = None


@dataclass(frozen=True)
class Plan:
    """What a sweep still has to do.

    Attributes:
        sweep: of what.
        place: where.
        teachers: the teachers' runs.
        runs: cells and references in order, each run once, then the searched ones that have been drawn.
        searched: runs that the search has still to draw.
        cohorts: run_ids per cohort still to train, "?" for what is still to be drawn.
        workers: training processes.
        side_by_side: cohorts that train at the same time.
        steps: optimiser steps left, of all members.
        flops: operations left.
        seconds: a rough estimate, good to a factor of two.
        device_hours: of training and evaluation, all workers together; as rough, and without what starting up takes
            (data, imports), which outweighs everything else in a tiny sweep.
    """

    sweep: Sweep
    place: Place
    teachers: tuple[Planned, ...]
    runs: tuple[Planned, ...]
    searched: int
    cohorts: tuple[tuple[str, ...], ...]
    workers: int
    side_by_side: int
    steps: int
    flops: float
    seconds: float
    device_hours: float

    @property
    def complete(self) -> bool:
        """Nothing is left to train."""
        return not self.cohorts

    def text(self) -> str:
        """For people."""
        left = [item for item in self.runs if item.status in LEFT]
        lines = [f"sweep {self.sweep.name} on {self.sweep.base.dataset}, {count(self.workers, 'worker')}"]
        base = self.sweep.base
        schedule = f"{count(base.epochs, 'epoch')} of {base.train_images} images, batch {base.batch}, {base.optim.name}"
        schedule += f", lr {base.optim.lr:g}, {base.image_size[0]}x{base.image_size[1]} pixels"
        lines.append(f"  base: {base.student} + {base.decoder}, {schedule}")
        for item in self.teachers:
            alone = f" on {item.run.tasks[0]} alone" if len(item.run.tasks) == 1 else ""
            lines.append(
                f"  teacher {item.run.student}{alone} ({item.run.run_id}): {item.status}, {item.steps} steps left"
            )
        blocked = sum(item.status == "blocked" for item in self.runs)
        lines.append(
            f"  {count(len(self.runs), 'run')} in all, {len(left)} of them to train; {self.searched} more to be drawn by the search"
        )
        if blocked:
            lines.append(f"  {count(blocked, 'run')} cannot be trained: their teacher has failed")
        for number, cohort in enumerate(self.cohorts, start=1):
            lines.append(f"  cohort {number}: {count(len(cohort), 'member')}{', trained together' * (len(cohort) > 1)}")
            lines += [f"    {self._member(run_id)}" for run_id in cohort]
        time = f"roughly {duration(self.seconds)} ({self.device_hours:.2g} device-hours)"
        lines.append(f"  left: {self.steps} steps, {self.flops / 1e12:.3g} TFLOP (10^12 operations), {time}")
        return "\n".join(lines)

    def _member(self, run_id: str) -> str:
        """Which it is: what it differs in from the base."""
        run = next((item.run for item in self.runs if item.run.run_id == run_id), None)
        if run is not None:
            return f"{run_id}  {titled(run, self.sweep.base)}"
        return (
            f"{run_id}  a teacher"
            if any(item.run.run_id == run_id for item in self.teachers)
            else "to be drawn by the search"
        )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        runs = [
            {
                "run_id": item.run.run_id,
                "kind": item.kind,
                "status": item.status,
                "steps": item.steps,
                "flops": item.flops,
            }
            for item in (*self.teachers, *self.runs)
        ]
        return {
            "sweep": self.sweep.name, "runs": runs, "searched": self.searched, "cohorts": [list(cohort) for cohort in self.cohorts],
            "workers": self.workers, "side_by_side": self.side_by_side, "steps": self.steps, "flops": self.flops, "seconds": self.seconds,
            "device_hours": self.device_hours,
        }  # fmt: skip


def known_runs(sweep: Sweep) -> list[tuple[Run, Purpose, dict[str, Any]]]:
    """Cells, then references, in order, with their changes; the same run may stand there twice.

    Raises:
        ValueError: a change that no Run can have; names the field.
    """
    kinds: tuple[tuple[Purpose, Sequence[dict[str, Any]]], ...] = (
        ("cell", sweep.cells),
        ("reference", sweep.references),
    )
    if sweep.trials and not sweep.space:
        raise ValueError(f"trials: {sweep.trials} runs are to be searched, but the space is empty")
    for name, (low, high) in sweep.space.items():
        if low >= high:
            raise ValueError(f"space: {name} goes from {low} to {high}; the first must be smaller")
        change(sweep.base, {name: low})
    known = [(change(sweep.base, changes), kind, changes) for kind, rows in kinds for changes in rows]
    for run, _, changes in known:
        if run.batch_norm_ranks != sweep.base.batch_norm_ranks:
            raise ValueError(
                f"batch_norm_ranks: {changes} wants other worker groups than the base; make it a sweep of its own"
            )
    return known


def look(sweep: Sweep, place: Place, teachers: Sequence[Run], tracking: Tracking) -> Plan:
    """The plan; reads MLflow and the study if they exist, creates neither.

    Raises:
        ValueError: bad input: a change, a teacher that is neither given nor known, more ranks than workers.
    """
    storage = Storage(place.storage)
    runs = known_runs(sweep)
    trials = (
        [trial for trial in Study(storage, sweep).trials() if trial.searched]
        if sweep.space and Study.exists(storage, sweep)
        else []
    )
    records = tracking.find([run.run_id for run, _, _ in runs] + [trial.run.run_id for trial in trials])
    planned = _Planner(storage, records, Costs(storage, evaluate_every=place.evaluate_every))
    once = {run.run_id: planned(run, kind, changes) for run, kind, changes in reversed(runs)}
    known = [once[run_id] for run_id in dict.fromkeys(run.run_id for run, _, _ in runs)]
    drawn = [planned(trial.run, "searched", {}, trial) for trial in trials if trial.run.run_id not in once]
    taught = _plan_teachers(sweep, teachers, tracking, [item.run for item in known], planned)
    lost = {item.run.run_id for item in taught if item.status == "failed"}
    draws = 0 if sweep.base.teacher_run in lost else max(0, sweep.trials - len(trials))
    return _sum_up(sweep, place, taught, [_blocked(item, lost) for item in (*known, *drawn)], draws, planned.costs)


def _blocked(item: Planned, lost: Collection[str]) -> Planned:
    """`item`, or what has become of it when its teacher is lost."""
    if item.run.teacher_run in lost and item.status in LEFT:
        return replace(item, status="blocked", steps=0, flops=0.0)
    return item


class _Planner:
    """Run -> Planned, from MLflow's records and the checkpoints."""

    def __init__(self, storage: Storage, records: Mapping[str, Found], costs: Costs):
        self.storage, self.records, self.costs = storage, dict(records), costs

    def __call__(self, run: Run, kind: Purpose, changes: Mapping[str, Any], trial: Trial | None = None) -> Planned:
        record = self.records.get(run.run_id)
        done = epochs_done(self.storage, run.run_id)
        status: State = record.status if record else ("unfinished" if done else "new")
        if kind == "teacher" and not is_ready(run, record, self.storage, verified=False) and status != "failed":
            status = "unfinished" if done else "new"
        if status == "pruned" and kind != "searched":
            status = "unfinished"  # the search gave it up; a table wants it whole
        if status in DONE:
            return Planned(run, kind, status, changes, 0, 0.0, trial, record)
        left = run.epochs - min(done, run.epochs)
        return Planned(
            run, kind, status, changes, left * run.steps_per_epoch, self.costs.member(run, left), trial, record
        )


def _plan_teachers(
    sweep: Sweep, teachers: Sequence[Run], tracking: Tracking, runs: Sequence[Run], planned: _Planner
) -> list[Planned]:
    given = {run.run_id: run for run in teachers}
    needed = dict.fromkeys(run.teacher_run for run in (sweep.base, *runs) if run.distill.needs_teacher) | dict.fromkeys(
        given
    )
    if None in needed:
        raise ValueError(f"teacher_run: sweep {sweep.name} has a run that distils but does not say from which run")
    planned.records |= tracking.find([run_id for run_id in needed if run_id])
    for run_id in needed:
        record = planned.records.get(str(run_id))
        if run_id not in given and not (record and record.status == "finished"):
            raise ValueError(
                f"teacher_run: {run_id} is neither a finished run in MLflow nor given as a teacher to train"
            )
    return [planned(given.get(str(run_id)) or planned.records[str(run_id)].run, "teacher", {}) for run_id in needed]


def seats(plan: Plan, *, lost: Collection[str] = ()) -> list[Seat]:
    """What is left of the known runs; searched ones that were cut short come first.

    Without students of `lost` teachers, and without runs that are teachers too: those have been trained by then.
    """
    storage = Storage(plan.place.storage)
    teachers = {item.run.run_id for item in plan.teachers}
    left = [
        item
        for item in plan.runs
        if item.status in LEFT and item.run.teacher_run not in lost and item.run.run_id not in teachers
    ]
    left.sort(key=lambda item: item.kind != "searched")
    return [Seat(i.run, i.kind, i.trial.number if i.trial else None, epochs_done(storage, i.run.run_id)) for i in left]


def drawn_size(plan_draws: int, place: Place, side_by_side: int) -> int:
    """Members of a cohort that the search draws."""
    return max(1, min(place.cohort_size or DRAWN_COHORT, DRAWN_COHORT, math.ceil(plan_draws / side_by_side)))


def _sum_up(
    sweep: Sweep, place: Place, teachers: Sequence[Planned], runs: Sequence[Planned], draws: int, costs: Costs
) -> Plan:
    arranged = layout(place)
    side_by_side = arranged.side_by_side(sweep.base)
    bare = Plan(sweep, place, tuple(teachers), tuple(runs), draws, (), arranged.workers, side_by_side, 0, 0.0, 0.0, 0.0)
    packed = pack(seats(bare), side_by_side=side_by_side, cohort_size=place.cohort_size)
    size = drawn_size(draws, place, side_by_side)
    drawn = [min(size, draws - start) for start in range(0, draws, size)]
    taught = [item for item in teachers if item.status in LEFT]
    cohorts = [(item.run.run_id,) for item in taught] + [tuple(seat.run.run_id for seat in cohort) for cohort in packed]
    cohorts += [("?",) * members for members in drawn]
    students = [
        ([seat.run for seat in cohort], [seat.run.epochs - seat.epochs_done for seat in cohort]) for cohort in packed
    ]
    students += [([sweep.base] * members, [sweep.base.epochs] * members) for members in drawn]
    alike: dict[int, list[tuple[list[Run], list[int]]]] = {}  # ranks -> teachers, which start together
    for item in taught:
        alike.setdefault(arranged.ranks(item.run), []).append(([item.run], [item.steps // item.run.steps_per_epoch]))
    starts = [*alike.items()] + ([(arranged.ranks(sweep.base), students)] if students else [])
    timed = [
        (ranks, [costs.seconds(*cohort, ranks=ranks, gpus=arranged.gpus) for cohort in cohorts])
        for ranks, cohorts in starts
    ]
    once = {item.run.run_id: item.steps for item in (*teachers, *runs)}  # a run may be a teacher and a cell
    steps = sum(once.values()) + draws * sweep.base.epochs * sweep.base.steps_per_epoch
    flops = sum(item.flops for item in taught) + sum(costs.cohort(*cohort) for cohort in students)
    seconds = sum(_seconds(times, arranged.workers // ranks) for ranks, times in timed)
    return replace(
        bare, cohorts=tuple(cohorts), steps=steps, flops=flops, seconds=seconds + START_S if cohorts else 0.0,
        device_hours=sum(ranks * sum(times) for ranks, times in timed) / 3600,
    )  # fmt: skip


def _seconds(times: Sequence[float], lanes: int) -> float:
    """Of cohorts of so many seconds each, that many at a time."""
    return max(max(times), sum(times) / max(1, lanes)) + GROUP_S
