"""Teachers: found by run_id, or trained through the same path as any cohort, then found."""

from collections.abc import Sequence

from kdam_ray.config import Place, Run
from kdam_ray.service.layout import layout
from kdam_ray.service.pool.cohorts import Opener
from kdam_ray.service.pool.launch import session, train_seats
from kdam_ray.service.pool.protocols import Train
from kdam_ray.service.pool.ray_coordinator import coordinating
from kdam_ray.service.records import Storage, Tracking, epochs_done, is_ready
from kdam_ray.service.result import RunResult
from kdam_ray.service.seats import Seat
from kdam_ray.service.wording import say


def find_or_train(run: Run, place: Place, *, train: Train | None = None) -> RunResult:
    """The teacher of that Run (resolved by `layout.resolve`); trained if it is missing.

    Args:
        run: the teacher's.
        place: where.
        train: another training generator, in tests.

    Raises:
        ValueError: bad input, before Ray starts.
    """
    tracking = Tracking(place)
    record = tracking.find([run.run_id]).get(run.run_id)
    reused = is_ready(run, record, Storage(place.storage), verified=True)
    if not reused:
        with session(layout(place)):
            train_teachers([run], place, tracking, train=train)
        record = tracking.find([run.run_id]).get(run.run_id)
    ended = record is not None and record.status == "finished"
    return RunResult(
        run=run,
        purpose="teacher",
        status="finished" if ended else "failed",
        metrics=record.metrics if record else {},
        mlflow_run=record.mlflow_run if record else "",
        reused=reused,
        reason=None if ended else (record and record.reason) or "its training did not end",
    )


def train_teachers(runs: Sequence[Run], place: Place, tracking: Tracking, *, train: Train | None = None) -> None:
    """Train teachers, each a cohort of its own; those of equally many ranks share their worker groups.

    Ray must be there.
    """
    storage, arranged = Storage(place.storage), layout(place)
    by_ranks: dict[int, list[Seat]] = {}
    for run in runs:
        if record := tracking.find_finished(run.run_id):
            tracking.reopen(record.mlflow_run, {})  # it is trained again because its checkpoint is gone or damaged
        say(f"teacher {run.student}: {run.epochs} epochs of {run.steps_per_epoch} steps, run {run.run_id}")
        seat = Seat(run, "teacher", epochs_done=epochs_done(storage, run.run_id))
        by_ranks.setdefault(arranged.ranks(run), []).append(seat)
    for seats in by_ranks.values():
        with coordinating(f"teacher-{seats[0].run.run_id}", storage) as coordinator:
            train_seats(Opener(place, tracking), [[seat] for seat in seats], coordinator=coordinator, train=train)
