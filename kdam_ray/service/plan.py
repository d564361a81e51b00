"""What a sweep still has to do, found out without Ray and without torch."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from kdam_ray.config import Place, Run, Sweep, change
from kdam_ray.service.cost.estimate import Costs
from kdam_ray.service.cost.pace import Pace, pace_of
from kdam_ray.service.deltas import OBJECTIVE
from kdam_ray.service.layout import Layout, layout
from kdam_ray.service.records import Found, Storage, Tracking, epochs_done, is_ready
from kdam_ray.service.search.confirmation import further_runs, most_further_runs
from kdam_ray.service.search.study import Study, Trial
from kdam_ray.service.seats import DRAWN_COHORT, Purpose, Seat, pack
from kdam_ray.service.wording import count, duration
from kdam_ray.titles import titled

Standing = Literal["finished", "pruned", "failed", "unfinished", "new", "blocked"]
DONE = ("finished", "pruned", "failed")
LEFT = ("unfinished", "new")
DRAWN = "?"  # in the place of a run_id that the search has still to draw
FURTHER = "seed"  # in the place of a further seed's, of a point of which it is not yet known that it comes out first
START_S = 15.0  # planning; Ray, Tune and MLflow
GROUP_S = 15.0  # workers that start together, once for the teachers and once for the students

Load = tuple[list[Run], list[int]]  # members of a cohort, and the epochs that each has left


@dataclass(frozen=True)
class Planned:
    """A run that the sweep needs, and what of it is left.

    Attributes:
        run: what is trained.
        purpose: why.
        status: what MLflow has of it; "finished", "pruned" and "failed" ones are not trained, nor are "blocked" ones,
            whose teacher has failed.
        changes: of a cell or reference, its changes to the base.
        steps: optimiser steps left.
        flops: operations left, the shared teacher apart.
        trial: its trial in the study, if it has one.
        record: MLflow's, if it has one.
    """

    run: Run
    purpose: Purpose
    status: Standing
    changes: Mapping[str, Any]
    steps: int = 0
    flops: float = 0.0
    trial: Trial | None = None
    record: Found | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep still has to do.

    Attributes:
        sweep: of what.
        place: where.
        teachers: the teachers' runs.
        runs: cells and references in order, each run once, then the searched ones that have been drawn, then the
            further seeds that confirm the points that came out first.
        searched: runs that the search has still to draw.
        confirming: most runs that confirm points, while it is not known which.
        cohorts: run_ids per cohort still to train, "?" for what is still to be drawn, "seed" for a further seed of a
            point that is not known yet.
        workers: training processes.
        side_by_side: cohorts that train at the same time.
        steps: optimiser steps left, of all members.
        flops: operations left.
        pace: of this machine; in `seconds` and `device_hours` already.
        seconds: a rough estimate.
        device_hours: of training and evaluation, all workers together; as rough, and without what starting up takes
            (data, imports), which outweighs everything else in a tiny sweep.
    """

    sweep: Sweep
    place: Place
    teachers: tuple[Planned, ...]
    runs: tuple[Planned, ...]
    searched: int
    confirming: int
    cohorts: tuple[tuple[str, ...], ...]
    workers: int
    side_by_side: int
    steps: int
    flops: float
    pace: Pace
    seconds: float
    device_hours: float

    @property
    def complete(self) -> bool:
        """Nothing is left to train."""
        return not self.cohorts

    def text(self) -> str:
        """The plan for people, a line a member."""
        base, left = self.sweep.base, sum(item.status in LEFT for item in self.runs)
        schedule = (
            f"{count(base.epochs, 'epoch')} of {base.train_images} images, batch {base.batch}, {base.optim.name}, "
            f"lr {base.optim.lr:g}, {base.image_size[0]}x{base.image_size[1]} pixels"
        )
        lines = [
            f"sweep {self.sweep.name} on {base.dataset}, {count(self.workers, 'worker')}",
            f"  base: {base.student} + {base.decoder}, {schedule}",
            *(f"  teacher {_named(item.run)}: {item.status}, {item.steps} steps left" for item in self.teachers),
            f"  {count(len(self.runs), 'run')} in all, {left} of them to train; "
            f"{self.searched} more to be drawn by the search"
            + f", then {count(self.confirming, 'further seed')} of what comes out first"
            * bool(self.confirming),
        ]
        if blocked := sum(item.status == "blocked" for item in self.runs):
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
        yet = {DRAWN: "to be drawn by the search", FURTHER: "a further seed of a point that comes out first"}
        return yet.get(run_id, f"{run_id}  a teacher")

    def as_json(self) -> dict[str, Any]:
        """The plan for programs."""
        runs = [
            {"run_id": i.run.run_id, "kind": i.purpose, "status": i.status, "steps": i.steps, "flops": i.flops}
            for i in (*self.teachers, *self.runs)
        ]
        return {
            "sweep": self.sweep.name, "runs": runs, "searched": self.searched, "confirming": self.confirming,
            "cohorts": [list(cohort) for cohort in self.cohorts], "workers": self.workers,
            "side_by_side": self.side_by_side, "steps": self.steps, "flops": self.flops, "seconds": self.seconds,
            "device_hours": self.device_hours,
        }  # fmt: skip


def plan(sweep: Sweep, place: Place, *, teachers: Sequence[Run] = ()) -> Plan:
    """What `run_sweep` with the same arguments would have to do. Starts neither Ray nor MLflow's database.

    Raises:
        ValueError: bad input, in one line that names the field.
    """
    return Planner(sweep, place, Tracking(place)).look(teachers)


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


class Planner:
    """Makes the plan of one sweep from MLflow's records, the checkpoints and the study."""

    def __init__(self, sweep: Sweep, place: Place, tracking: Tracking):
        self.sweep, self.place, self.tracking = sweep, place, tracking
        self.storage = Storage(place.storage)
        self.costs = Costs(self.storage, evaluate_every=place.evaluate_every)
        self.records: dict[str, Found] = {}

    def look(self, given: Sequence[Run]) -> Plan:
        """The plan; reads MLflow and the study if they exist, creates neither.

        Args:
            given: the teachers' runs.

        Raises:
            ValueError: bad input: a change, a teacher that is neither given nor known, more ranks than workers.
        """
        sweep, runs = self.sweep, known_runs(self.sweep)
        known_study = sweep.space and Study.exists(self.storage, sweep)
        told = Study(self.storage, sweep).trials() if known_study else []
        trials = [trial for trial in told if trial.searched]
        self.records = self.tracking.find([run.run_id for run, _, _ in runs] + [trial.run.run_id for trial in trials])
        once = {run.run_id: self.planned(run, kind, changes) for run, kind, changes in reversed(runs)}
        known = [once[run_id] for run_id in dict.fromkeys(run.run_id for run, _, _ in runs)]
        drawn = [self.planned(trial.run, "searched", {}, trial) for trial in trials if trial.run.run_id not in once]
        teachers = self.teachers(given, [item.run for item in known])
        lost = {item.run.run_id for item in teachers if item.status == "failed"}
        draws = 0 if sweep.base.teacher_run in lost else max(0, sweep.trials - len(trials))
        now = [_blocked(item, lost) for item in (*known, *drawn)]
        first_seed = (item for item in now if item.purpose != "reference" and item.run.seed == sweep.base.seed)
        settled = not draws and not any(item.status in LEFT for item in first_seed)
        further = self.further(now, told) if settled else []
        most = 0 if settled or sweep.base.teacher_run in lost else most_further_runs(sweep)
        return self.plan(teachers, [*now, *(_blocked(item, lost) for item in further)], draws, most)

    def further(self, runs: Sequence[Planned], told: Sequence[Trial]) -> list[Planned]:
        """Further seeds of the points that came out first, when the search has ended, and those recorded of others.

        A point that has them already, from a call that confirmed more or drew less, keeps them: its first seed alone
        would be the luck that they took away.

        What the study was told goes before what was recorded, which in another sweep may be against another teacher.
        """
        values = {trial.run.run_id: trial.value for trial in told if trial.value is not None}
        judged = [
            (item.run, value)
            for item in runs
            if item.status == "finished" and item.purpose != "reference" and item.record is not None
            and (value := values.get(item.run.run_id, item.record.metrics.get(OBJECTIVE))) is not None
        ]  # fmt: skip
        known = {item.run.run_id for item in runs}
        chosen = {run.run_id for run in further_runs(self.sweep, judged)}
        every = further_runs(self.sweep.model_copy(update={"confirmed": len(judged)}), judged)
        more = [run for run in every if run.run_id not in known]
        self.records |= self.tracking.find([run.run_id for run in more])
        planned = [self.planned(run, "confirmation", {}) for run in more]
        return [item for item in planned if item.run.run_id in chosen or item.status == "finished"]

    def planned(self, run: Run, purpose: Purpose, changes: Mapping[str, Any], trial: Trial | None = None) -> Planned:
        """What is left of a run."""
        record = self.records.get(run.run_id)
        done = epochs_done(self.storage, run.run_id)
        status: Standing = record.status if record else ("unfinished" if done else "new")
        if purpose == "teacher" and not is_ready(run, record, self.storage, verified=False) and status != "failed":
            status = "unfinished" if done else "new"
        if status == "pruned" and purpose != "searched":
            status = "unfinished"  # the search gave it up; a table wants it whole
        if status in DONE:
            return Planned(run, purpose, status, changes, trial=trial, record=record)
        left = run.epochs - min(done, run.epochs)
        steps, flops = left * run.steps_per_epoch, self.costs.member(run, left)
        return Planned(run, purpose, status, changes, steps, flops, trial, record)

    def teachers(self, given: Sequence[Run], students: Sequence[Run]) -> list[Planned]:
        """Those that the students name, and those that are given."""
        to_train = {run.run_id: run for run in given}
        needed = {run.teacher_run: None for run in (self.sweep.base, *students) if run.distill.needs_teacher}
        if None in needed:
            raise ValueError(
                f"teacher_run: sweep {self.sweep.name} has a run that distils but does not say from which run"
            )
        names = [*dict.fromkeys(str(name) for name in (*needed, *to_train))]
        self.records |= self.tracking.find(names)
        for name in names:
            record = self.records.get(name)
            if name not in to_train and not (record and record.status == "finished"):
                raise ValueError(
                    f"teacher_run: {name} is neither a finished run in MLflow nor given as a teacher to train"
                )
        return [self.planned(to_train.get(name) or self.records[name].run, "teacher", {}) for name in names]

    def plan(self, teachers: Sequence[Planned], runs: Sequence[Planned], draws: int, further: int) -> Plan:
        """What is left, packed into cohorts, and what that will take."""
        base, arranged = self.sweep.base, layout(self.place)
        side_by_side = arranged.side_by_side(base)
        left = seats(runs, teachers, self.storage)
        packed = pack(left, side_by_side=side_by_side, cohort_size=self.place.cohort_size)
        drawn = drawn_cohorts(draws, self.place, side_by_side)
        confirming = further_cohorts(further, self.place, side_by_side)
        taught = [item for item in teachers if item.status in LEFT]
        cohorts: list[tuple[str, ...]] = [
            *((item.run.run_id,) for item in taught),
            *(tuple(seat.run.run_id for seat in cohort) for cohort in packed),
            *((DRAWN,) * members for members in drawn),
            *((FURTHER,) * members for members in confirming),
        ]
        students: list[Load] = [
            *(([seat.run for seat in each], [seat.run.epochs - seat.epochs_done for seat in each]) for each in packed),
            *(([base] * members, [base.epochs] * members) for members in (*drawn, *confirming)),
        ]
        timed = self._timed(taught, students, arranged)
        pace = pace_of(self.storage, workers=arranged.workers, gpus=arranged.gpus)
        once = {item.run.run_id: item.steps for item in (*teachers, *runs)}  # a run may be a teacher and a cell
        seconds = sum(  # of cohorts that start together, as many at a time as there are lanes
            max(max(times), sum(times) / max(1, arranged.workers // ranks)) + GROUP_S for ranks, times in timed
        )
        return Plan(
            sweep=self.sweep, place=self.place, teachers=tuple(teachers), runs=tuple(runs), searched=draws,
            confirming=further, cohorts=tuple(cohorts), workers=arranged.workers, side_by_side=side_by_side,
            steps=sum(once.values()) + (draws + further) * base.epochs * base.steps_per_epoch,
            flops=sum(item.flops for item in taught) + sum(self.costs.cohort(*load) for load in students),
            pace=pace, seconds=(seconds + START_S) * pace.factor if cohorts else 0.0,
            device_hours=sum(ranks * sum(times) for ranks, times in timed) * pace.factor / 3600,
        )  # fmt: skip

    def _timed(
        self, taught: Sequence[Planned], students: Sequence[Load], arranged: Layout
    ) -> list[tuple[int, list[float]]]:
        """(ranks, seconds of each) of the cohorts that start together: teachers of equal ranks, then the students."""
        alike: dict[int, list[Load]] = {}
        for item in taught:
            epochs = item.steps // item.run.steps_per_epoch
            alike.setdefault(arranged.ranks(item.run), []).append(([item.run], [epochs]))
        starts = [*alike.items(), *([(arranged.ranks(self.sweep.base), students)] if students else [])]
        return [
            (ranks, [self.costs.seconds(*load, ranks=ranks, gpus=arranged.gpus) for load in loads])
            for ranks, loads in starts
        ]


def _blocked(item: Planned, lost: Collection[str]) -> Planned:
    """Nothing of it can be trained if its teacher has failed."""
    is_lost = item.run.teacher_run in lost and item.status in LEFT
    return replace(item, status="blocked", steps=0, flops=0.0) if is_lost else item


def _named(teacher: Run) -> str:
    alone = f" on {teacher.tasks[0]} alone" if len(teacher.tasks) == 1 else ""
    return f"{teacher.student}{alone} ({teacher.run_id})"


def seats(
    runs: Sequence[Planned], teachers: Sequence[Planned], storage: Storage, *, lost: Collection[str] = ()
) -> list[Seat]:
    """What is left of the known runs; searched ones that were cut short come first.

    Without students of `lost` teachers, and without runs that are teachers too: those have been trained by then.
    """
    elsewhere = {item.run.run_id for item in teachers}
    mine = (item for item in runs if item.status in LEFT and item.run.run_id not in elsewhere)
    left = sorted((i for i in mine if i.run.teacher_run not in lost), key=lambda item: item.purpose != "searched")
    return [
        Seat(i.run, i.purpose, i.trial.number if i.trial else None, epochs_done(storage, i.run.run_id)) for i in left
    ]


def drawn_cohorts(draws: int, place: Place, side_by_side: int) -> list[int]:
    """Members of each cohort that the search draws; the last may be smaller than the others."""
    size = max(1, min(place.cohort_size or DRAWN_COHORT, DRAWN_COHORT, math.ceil(draws / side_by_side)))
    return [min(size, draws - start) for start in range(0, draws, size)]


def further_cohorts(runs: int, place: Place, side_by_side: int) -> list[int]:
    """Members of each cohort of further seeds, as `pack` makes them of runs of one teacher."""
    number = max(math.ceil(runs / (place.cohort_size or max(runs, 1))), min(side_by_side, runs))
    return [len(range(index, runs, number)) for index in range(number)]
