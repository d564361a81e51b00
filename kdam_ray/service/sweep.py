"""A sweep from beginning to end: what it needs, what of that is already there, training the rest, the result.

`plan` looks and starts nothing, without Ray and torch. `run_sweep` trains what is missing: teachers, then the table's
cells and references, then what the search draws between them, then further seeds of what came out first. Called again
with the same arguments it finds everything and does not start Ray (law 8).
"""

import contextlib
import functools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from kdam_ray.config import Place, Run, Sweep
from kdam_ray.service import ledger
from kdam_ray.service.deltas import OBJECTIVE, SingleTasks, TeacherScores, with_deltas
from kdam_ray.service.finished.models import keep_model
from kdam_ray.service.layout import layout, resolve
from kdam_ray.service.plan import DONE, Plan, Planned, Planner, known_runs, plan, seats
from kdam_ray.service.records import Found, Storage, Tracking, is_ready
from kdam_ray.service.result import RunResult, SweepResult
from kdam_ray.service.search.study import Outcome, searched_params, study_name
from kdam_ray.service.seats import Seat, pack
from kdam_ray.service.wording import count, duration, say
from kdam_ray.titles import titled

if TYPE_CHECKING:
    from kdam_ray.service.pool.cohorts import Opener
    from kdam_ray.service.pool.protocols import Coordinator, Train

UNENDED = "its training did not end; run the sweep again"

__all__ = ["Plan", "Planned", "RunResult", "SweepResult", "plan", "resolve", "run_sweep"]


def run_sweep(sweep: Sweep, place: Place, *, teachers: Sequence[Run] = (), train: "Train | None" = None) -> SweepResult:
    """Train what is missing of a sweep; progress on stderr.

    Args:
        sweep: what. Its runs are resolved (`resolve`).
        place: where.
        teachers: the Runs of the teachers that members name by `teacher_run`; trained if they are missing.
        train: another training generator, in tests.

    Raises:
        ValueError: bad input, before Ray starts.
    """
    work = _Work(sweep, place, train)
    before = Planner(sweep, place, work.tracking).look(teachers)
    if before.complete:
        say(f"sweep {sweep.name}: everything is there already")
    else:
        work.train_missing(before)
    work.enter("result")
    return work.result(before, Planner(sweep, place, work.tracking).look(teachers))


class _Work:
    """One call of `run_sweep`: its connections and its clock."""

    def __init__(self, sweep: Sweep, place: Place, train: "Train | None"):
        self.sweep, self.place, self.train = sweep, place, train
        self.storage, self.tracking = Storage(place.storage), Tracking(place)
        self.seconds: dict[str, float] = {}
        self.started = self.entered = time.monotonic()
        self.phase = "look"

    def enter(self, phase: str) -> None:
        """One phase is over, the next begins."""
        now = time.monotonic()
        self.seconds[self.phase] = round(now - self.entered, 2)
        self.phase, self.entered = phase, now

    def train_missing(self, known: Plan) -> None:
        """Everything that needs Ray. MLflow's database is made while Ray starts: each takes seconds."""
        say(f"sweep {self.sweep.name}: {self._missing(known)}; starts Ray and MLflow")

        from kdam_ray.service.pool.launch import session

        self.enter("start Ray and MLflow")
        self.storage.tidy()
        arranged = layout(self.place)
        connecting = threading.Thread(target=lambda: self.tracking.client)
        connecting.start()
        with session(arranged):
            connecting.join()
            parent = self.tracking.open_parent(self.sweep)
            try:
                self._train(known, parent)
            except BaseException:  # an interrupt too: nobody trains it from here on
                with contextlib.suppress(Exception):  # what happened first is what is to be heard of
                    self.tracking.interrupt_parent(parent)
                raise

    def _train(self, known: Plan, parent: str) -> None:
        from kdam_ray.service.teachers import train_teachers

        ledger.open_call(self.storage, self.tracking, parent, known)
        self.enter("teachers")
        wanted = [item for item in known.teachers if item.status != "failed"]  # a failed one would fail again
        missing = [item.run for item in wanted if not is_ready(item.run, item.record, self.storage, verified=True)]
        train_teachers(missing, self.place, self.tracking, train=self.train)
        self.enter("students")
        self._train_students(known, parent)
        self.enter("stop Ray")

    @staticmethod
    def _missing(known: Plan) -> str:
        """`17 runs to train in 3 cohorts, roughly 4 min`."""
        runs = sum(len(cohort) for cohort in known.cohorts)
        cohorts = count(len(known.cohorts), "cohort")
        return f"{count(runs, 'run')} to train in {cohorts}, roughly {duration(known.seconds)}"

    def _train_students(self, known: Plan, parent: str) -> None:
        from kdam_ray.service.pool.cohort_search import ToCome
        from kdam_ray.service.pool.cohorts import Opener
        from kdam_ray.service.pool.launch import train_seats
        from kdam_ray.service.pool.ray_coordinator import coordinating

        teachers = self.tracking.find([item.run.run_id for item in known.teachers])
        lost = lost_teachers(known, teachers)
        for reason in lost.values():
            say(f"students left out: {reason}")
        waiting, arranged = seats(known.runs, known.teachers, self.storage, lost=lost), layout(self.place)
        to_come = ToCome()
        if self.sweep.base.teacher_run not in lost:
            to_come = ToCome(known.searched, known.confirming, functools.partial(self._further, known))
        if not waiting and not to_come.draws and not to_come.further:
            return
        opener = Opener(
            self.place, self.tracking, self.sweep, parent,
            teachers=teacher_scores(known, teachers), single_tasks=SingleTasks(self.tracking.single_task_reference),
            teacher_epochs={name: record.run.epochs for name, record in teachers.items() if name not in lost},
        )  # fmt: skip
        with coordinating(study_name(self.sweep), self.storage, self.sweep) as coordinator:
            told = [  # cells that are points of the searched space get their trials
                replace(seat, trial=coordinator.take(seat.run))
                if seat.trial is None and searched_params(self.sweep, seat.run) is not None
                else seat
                for seat in waiting
            ]
            self._tell_what_is_known(coordinator, known, opener)
            cohorts = pack(
                told, side_by_side=arranged.side_by_side(self.sweep.base), cohort_size=self.place.cohort_size
            )
            train_seats(opener, cohorts, coordinator=coordinator, to_come=to_come, train=self.train)

    def _further(self, known: Plan) -> list[Seat]:
        """Further seeds of what came out first, now that all else has ended."""
        now = Planner(self.sweep, self.place, self.tracking).look([item.run for item in known.teachers])
        return seats([item for item in now.runs if item.purpose == "confirmation"], now.teachers, self.storage)

    def _tell_what_is_known(self, coordinator: "Coordinator", known: Plan, opener: "Opener") -> None:
        """Tell the study of trials whose run ended without its hearing of it, as MLflow has them."""
        for item in known.runs:
            if item.status not in DONE or item.record is None or (item.trial and item.trial.outcome):
                continue
            if item.trial is None and searched_params(self.sweep, item.run) is None:
                continue
            number = item.trial.number if item.trial else coordinator.take(item.run)
            metrics = with_deltas(item.run, item.record.metrics, teacher=opener.teachers.of(item.run), single_task=None)
            assert number is not None, "a sweep whose space has points has a study"
            coordinator.tell(number, item.status, metrics.get(OBJECTIVE))  # type: ignore[arg-type]

    # --- the result

    def result(self, before: Plan, after: Plan) -> SweepResult:
        """What MLflow has now, run by run; ends the sweep's parent run."""
        parent = self.tracking.open_parent(self.sweep)
        known = self.tracking.find([item.run.run_id for item in after.teachers])
        scores, lost = teacher_scores(after, known), lost_teachers(after, known)
        single_tasks = SingleTasks(self.tracking.single_task_reference)
        there = {item.run.run_id for item in before.runs if item.status in DONE}

        def result_of(item: Planned, changes: dict[str, Any], reused: bool) -> RunResult:
            if item.record is None or item.status not in DONE:  # it could not be trained, or its training did not end
                mlflow_run, recorded = (item.record.mlflow_run, item.record.reason) if item.record else ("", None)
                return RunResult(
                    run=item.run, purpose=item.purpose, status="failed", mlflow_run=mlflow_run, changes=changes,
                    reason=lost.get(item.run.teacher_run or "") or recorded or UNENDED,
                )  # fmt: skip
            against = None if item.purpose == "teacher" else scores.of(item.run)
            return RunResult(
                run=item.run, purpose=item.purpose, status=cast(Outcome, item.status),
                mlflow_run=item.record.mlflow_run,
                metrics=with_deltas(
                    item.run, item.record.metrics, teacher=against, single_task=single_tasks.of(item.run)
                ),
                changes=changes, reused=reused, reason=item.record.reason,
            )  # fmt: skip

        for item in after.runs:
            if item.record is not None:
                self.tracking.link_member(
                    item.record, sweep=self.sweep, parent=parent, title=titled(item.run, self.sweep.base)
                )
        planned = {item.run.run_id: item for item in after.runs}
        wanted = [(planned[run.run_id], changes) for run, _, changes in known_runs(self.sweep)]
        wanted += [(item, {}) for item in after.runs if item.purpose in ("searched", "confirmation")]
        rows = tuple(result_of(item, changes, item.run.run_id in there) for item, changes in wanted)
        there = {item.run.run_id for item in before.teachers if item.status in DONE}
        teachers = tuple(result_of(item, {}, item.run.run_id in there) for item in after.teachers)
        wall_s = None if before.complete else time.monotonic() - self.started
        ledger.close_call(self.storage, self.tracking, parent, after, wall_s=wall_s)
        single_task = single_tasks.of(self.sweep.base)
        self.enter("closed")
        cost, estimate = ledger.recorded(self.tracking, parent)
        result = SweepResult(
            sweep=self.sweep, rows=rows, teachers=teachers, single_task=dict(single_task) if single_task else None,
            parent=parent, tracking_uri=self.tracking.shown, storage=self.storage.root,
            seconds=self.seconds, cost=cost, planned=estimate,
        )  # fmt: skip
        if point := result.best or result.ahead:
            (mlflow_run,) = {row.mlflow_run for row in result.rows if row.run == point.run}
            keep_model(point.run, mlflow_run, self.storage, self.tracking)
        self.tracking.end_parent(parent, result.found_metrics(), failed=bool(result.failed))
        return result


def lost_teachers(known: Plan, records: Mapping[str, Found]) -> dict[str, str]:
    """Why some cannot teach, by run_id: teachers that are to be trained, or were, and have not finished."""
    reasons = {}
    for name in (item.run.run_id for item in known.teachers):
        record = records.get(name)
        if record is None or record.status != "finished":
            reasons[name] = f"its teacher {name} failed: {(record and record.reason) or UNENDED}"
    return reasons


def teacher_scores(known: Plan, records: Mapping[str, Found]) -> TeacherScores:
    """Whom the members of a sweep are compared with."""
    finished = {name: record.metrics for name, record in records.items() if record.status == "finished"}
    given = [item.run.run_id for item in known.teachers]
    named = {run.teacher_run for run in (known.sweep.base, *(item.run for item in known.runs)) if run.teacher_run}
    common = known.sweep.base.teacher_run if known.sweep.choices else None
    return TeacherScores.among(finished, given=given, named=named, common=common)
