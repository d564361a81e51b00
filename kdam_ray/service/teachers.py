"""Teachers: found by run_id, or trained through the same path as any cohort, then found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ray

from kdam_ray.config import Place, Run
from kdam_ray.service.cost.estimate import Costs
from kdam_ray.service.layout import Layout, layout
from kdam_ray.service.pool.cohorts import Opener, start_actor, train_seats
from kdam_ray.service.pool.launch import session
from kdam_ray.service.records.checkpoints import checkpoint_name, epochs_done, is_ready
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Found, Tracking
from kdam_ray.service.seats import Seat
from kdam_ray.service.wording import say

EXPERIMENT = "teachers"


@dataclass(frozen=True)
class Teacher:
    """A teacher that has been trained.

    Attributes:
        run_id: its Run's.
        metrics: "val/semseg/mIoU", ... after the last epoch.
        checkpoint: folder or URI of the final checkpoint.
        mlflow_run: where it is recorded.
        reused: found, not trained by this call.
        failed: why there is no such teacher after all, or None.
    """

    run_id: str
    metrics: dict[str, float]
    checkpoint: str
    mlflow_run: str
    reused: bool
    failed: str | None = None


def find_or_train(run: Run, place: Place, *, train: Callable | None = None) -> Teacher:
    """The teacher of that Run (resolved by `layout.resolve`); trained if it is missing.

    Args:
        run: the teacher's.
        place: where.
        train: another training generator, in tests.

    Raises:
        ValueError: bad input, before Ray starts.
    """
    tracking, storage, plan = Tracking(place), Storage(place.storage), layout(place)
    record = tracking.find([run.run_id]).get(run.run_id)
    reused = is_ready(run, record, storage, verified=True)
    if not reused:
        with session(plan):
            train_teachers([run], place, plan, tracking, train=train)
        record = tracking.find([run.run_id]).get(run.run_id)
    return describe(run, record, storage, reused=reused)


def describe(run: Run, record: Found | None, storage: Storage, *, reused: bool) -> Teacher:
    """The teacher as it is recorded now."""
    failed = (
        None if record and record.status == "finished" else (record and record.reason) or "its training did not end"
    )
    name = storage.uri(checkpoint_name(run.run_id, run.epochs))
    return Teacher(
        run.run_id, record.metrics if record else {}, name, record.mlflow_run if record else "", reused, failed
    )


def train_teachers(
    runs: Sequence[Run], place: Place, plan: Layout, tracking: Tracking, *, train: Callable | None = None
) -> None:
    """Train teachers, each a cohort of its own; those of equally many ranks share their worker groups.

    Ray must be there.
    """
    storage = Storage(place.storage)
    alike: dict[int, list[Seat]] = {}
    for run in runs:
        if record := tracking.find_finished(run.run_id):
            tracking.reopen(record.mlflow_run, {})  # it is trained again because its checkpoint is gone or damaged
        say(f"teacher {run.student}: {run.epochs} epochs of {run.steps_per_epoch} steps, run {run.run_id}")
        alike.setdefault(plan.ranks(run), []).append(Seat(run, "teacher", epochs_done=epochs_done(storage, run.run_id)))
    for seats in alike.values():
        opener = Opener(place, plan, tracking, Costs(storage, evaluate_every=place.evaluate_every), EXPERIMENT)
        actor = start_actor(f"teacher-{seats[0].run.run_id}", storage, None)
        try:
            train_seats(
                opener,
                [[seat] for seat in seats],
                actor=actor,
                side_by_side=plan.side_by_side(seats[0].run),
                train=train,
            )
        finally:
            ray.kill(actor)
