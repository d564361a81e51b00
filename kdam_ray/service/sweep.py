"""A sweep from beginning to end: what it needs, what of that is already there, training the rest, the result.

`plan` looks and starts nothing. `run_sweep` trains what is missing: teachers, then the table's cells and references,
then what the search draws between them. Called again with the same arguments it finds everything and does not start Ray
(law 8).
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from kdam_ray.config import Place, Run, Sweep, titled
from kdam_ray.service import ledger
from kdam_ray.service.deltas import OBJECTIVE, SingleTasks, TeacherScores, with_deltas
from kdam_ray.service.layout import layout, resolve
from kdam_ray.service.plan import DONE, Plan, Planned, look, seats
from kdam_ray.service.pool.cohorts import Opener
from kdam_ray.service.pool.launch import session, train_seats
from kdam_ray.service.pool.protocols import Coordinator, Train
from kdam_ray.service.pool.ray_coordinator import coordinating
from kdam_ray.service.records.checkpoints import is_ready
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Found, Tracking
from kdam_ray.service.result import Row, SweepResult
from kdam_ray.service.search.study import searched_params, study_name
from kdam_ray.service.seats import Seat, pack
from kdam_ray.service.teachers import train_teachers
from kdam_ray.service.wording import say

__all__ = ["Plan", "Planned", "Row", "SweepResult", "plan", "resolve", "run_sweep"]


def plan(sweep: Sweep, place: Place, *, teachers: Sequence[Run] = ()) -> Plan:
    """What `run_sweep` with the same arguments would have to do. Starts neither Ray nor MLflow's database.

    Raises:
        ValueError: bad input, in one line that names the field.
    """
    return look(sweep, place, teachers, Tracking(place))


def run_sweep(sweep: Sweep, place: Place, *, teachers: Sequence[Run] = (), train: Train | None = None) -> SweepResult:
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
    with work.phase("look"):
        before = look(sweep, place, teachers, work.tracking)
    if before.complete:
        say(f"sweep {sweep.name}: everything is there already")
    else:
        work.train_missing(before)
    with work.phase("result"):
        return work.result(before, look(sweep, place, teachers, work.tracking))


class _Work:
    """One call of `run_sweep`: its connections and its clock."""

    def __init__(self, sweep: Sweep, place: Place, train: Train | None):
        self.sweep, self.place, self.train = sweep, place, train
        self.storage, self.tracking = Storage(place.storage), Tracking(place)
        self.seconds: dict[str, float] = {}
        self.started = time.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 2)

    def train_missing(self, known: Plan) -> None:
        """Everything that needs Ray. MLflow's database is made while Ray starts: each takes seconds."""
        self.storage.tidy()
        arranged = layout(self.place)
        connecting = threading.Thread(target=lambda: self.tracking.client)
        connecting.start()
        with self.phase("start Ray and MLflow"):
            context = session(arranged)
            context.__enter__()
            connecting.join()
        try:
            parent = self.tracking.open_parent(self.sweep)
            ledger.open_call(self.storage, self.tracking, parent, known)
            with self.phase("teachers"):
                wanted = [item for item in known.teachers if item.status != "failed"]  # a failed one would fail again
                missing = [
                    item.run for item in wanted if not is_ready(item.run, item.record, self.storage, verified=True)
                ]
                train_teachers(missing, self.place, self.tracking, train=self.train)
            with self.phase("students"):
                self._train_students(known, parent)
        finally:
            with self.phase("stop Ray"):
                context.__exit__(*sys.exc_info())

    def _train_students(self, known: Plan, parent: str) -> None:
        teachers = self.tracking.find([item.run.run_id for item in known.teachers])
        lost = lost_teachers(known, teachers)
        for reason in lost.values():
            say(f"students left out: {reason}")
        waiting, arranged = seats(known, lost=lost), layout(self.place)
        draws = 0 if self.sweep.base.teacher_run in lost else known.searched
        if not waiting and not draws:
            return
        opener = Opener(
            self.place, self.tracking, self.sweep, parent,
            teachers=teacher_scores(known, teachers), single_tasks=SingleTasks(self.tracking.single_task_reference),
            teacher_epochs={name: record.run.epochs for name, record in teachers.items() if name not in lost},
        )  # fmt: skip
        with coordinating(study_name(self.sweep), self.storage, self.sweep) as coordinator:
            told = [self._into_study(coordinator, seat) for seat in waiting]
            self._tell_what_is_known(coordinator, known, opener)
            side_by_side = arranged.side_by_side(self.sweep.base)
            cohorts = pack(told, side_by_side=side_by_side, cohort_size=self.place.cohort_size)
            train_seats(opener, cohorts, coordinator=coordinator, draws=draws, train=self.train)

    def _into_study(self, coordinator: Coordinator, seat: Seat) -> Seat:
        """Give a cell that is a point of the searched space its trial."""
        if seat.trial is not None or searched_params(self.sweep, seat.run) is None:
            return seat
        return replace(seat, trial=coordinator.take(seat.run))

    def _tell_what_is_known(self, coordinator: Coordinator, known: Plan, opener: Opener) -> None:
        """Trials whose run ended without the study hearing of it: found in MLflow, told without training."""
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
        """Rows from what MLflow has now; ends the sweep's parent run."""
        parent = self.tracking.open_parent(self.sweep)
        trained = {item.run.run_id for item in before.runs if item.status in DONE}
        teacher_records = self.tracking.find([item.run.run_id for item in after.teachers])
        single_tasks = SingleTasks(self.tracking.single_task_reference)
        references, lost = teacher_scores(after, teacher_records), lost_teachers(after, teacher_records)

        def row(item: Planned, changes: dict[str, Any]) -> Row:
            reason = lost.get(item.run.teacher_run or "")
            compared = {"teacher": references.of(item.run), "single_task": single_tasks.of(item.run)}
            return _row(item, changes, reused=item.run.run_id in trained, reason=reason, **compared)

        for item in after.runs:
            if item.record is not None:
                self.tracking.link_member(
                    item.record, sweep=self.sweep, parent=parent, title=titled(item.run, self.sweep.base)
                )
        planned = {item.run.run_id: item for item in after.runs}
        rows = tuple(row(planned[run.run_id], changes) for run, changes in _in_order(self.sweep))
        rows += tuple(row(item, {}) for item in after.runs if item.kind == "searched")
        before_teachers = {item.run.run_id for item in before.teachers if item.status in DONE}
        teachers = tuple(
            _row(
                item, {}, reused=item.run.run_id in before_teachers, teacher=None, single_task=single_tasks.of(item.run)
            )
            for item in after.teachers
        )
        ledger.close_call(
            self.storage,
            self.tracking,
            parent,
            after,
            wall_s=None if before.complete else time.monotonic() - self.started,
        )
        return self._close(parent, rows, teachers, single_tasks.of(self.sweep.base))

    def _close(
        self, parent: str, rows: tuple[Row, ...], teachers: tuple[Row, ...], single_task: Mapping[str, float] | None
    ) -> SweepResult:
        candidates = [
            row for row in rows if row.kind != "reference" and row.status == "finished" and OBJECTIVE in row.metrics
        ]
        best = max(candidates, key=lambda row: row.metrics[OBJECTIVE], default=None)
        failed = any(row.status == "failed" for row in (*rows, *teachers))
        self.tracking.end_parent(parent, {"best/delta_teacher": best.metrics[OBJECTIVE]} if best else {}, failed)
        params = (best and searched_params(self.sweep, best.run)) or {}
        study = self.storage.uri(f"studies/{study_name(self.sweep)}.journal") if self.sweep.space else ""
        return SweepResult(
            self.sweep, rows, teachers, best, params, dict(single_task) if single_task else None,
            f"kdam/{self.sweep.base.dataset}/{self.sweep.name}", parent, self.tracking.uri, self.storage.root, study,
            len({row.run.run_id for row in rows if not row.reused and row.mlflow_run}), self.seconds,
            *ledger.recorded(self.tracking, parent),
        )  # fmt: skip


def _in_order(sweep: Sweep) -> list[tuple[Run, dict[str, Any]]]:
    from kdam_ray.service.plan import known_runs

    return [(run, changes) for run, _, changes in known_runs(sweep)]


def lost_teachers(known: Plan, records: Mapping[str, Found]) -> dict[str, str]:
    """Why nobody can be taught by them, by run_id: teachers that are to be trained, or were, and have not finished."""
    reasons = {}
    for name in (item.run.run_id for item in known.teachers):
        record = records.get(name)
        if record is None or record.status != "finished":
            reasons[name] = (
                f"its teacher {name} failed: {(record and record.reason) or 'its training did not end; run the sweep again'}"
            )
    return reasons


def teacher_scores(known: Plan, records: Mapping[str, Found]) -> TeacherScores:
    """Whom the members of a sweep are compared with."""
    finished = {name: record.metrics for name, record in records.items() if record.status == "finished"}
    given = [item.run.run_id for item in known.teachers]
    named = {run.teacher_run for run in (known.sweep.base, *(item.run for item in known.runs)) if run.teacher_run}
    common = known.sweep.base.teacher_run if known.sweep.choices else None
    return TeacherScores.among(finished, given=given, named=named, common=common)


def _row(
    item: Planned, changes: dict[str, Any], *, reused: bool, teacher: Any, single_task: Any, reason: str | None = None
) -> Row:
    """`reason`: why it could not be trained, if it was not."""
    if item.record is None or item.status not in DONE:
        mlflow_run, recorded = (item.record.mlflow_run, item.record.reason) if item.record else ("", None)
        why = reason or recorded or "its training did not end; run the sweep again"
        return Row(item.run, item.kind, "failed", {}, mlflow_run, changes, False, why)
    metrics = with_deltas(item.run, item.record.metrics, teacher=teacher, single_task=single_task)
    return Row(item.run, item.kind, item.status, metrics, item.record.mlflow_run, changes, reused, item.record.reason)  # type: ignore[arg-type]
