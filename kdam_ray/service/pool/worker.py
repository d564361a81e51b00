"""What a worker does with a cohort: iterate `train_cohort`, tell MLflow and the study, keep checkpoints.

Every rank iterates the same reports in the same order. Rank 0 alone records and decides; what it decides is broadcast.
Ray restarts a group that loses a worker; the group then finds its members' own checkpoints in the storage, so a restart
costs at most an epoch, and so does starting the whole job again. Nothing here needs Ray: `lanes.serve` calls
`train_assignment` on each of its workers, and `run_here` calls it in this process.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from kdam_ray.config import Place, Run
from kdam_ray.data.source import Source
from kdam_ray.learning import EpochReport, StepReport, train_cohort
from kdam_ray.learning.checkpoint import load_network, verify
from kdam_ray.models import Teacher
from kdam_ray.ranks import rank, world_size
from kdam_ray.service.cost.energy import Energy
from kdam_ray.service.cost.meter import Meter
from kdam_ray.service.deltas import OBJECTIVE, with_deltas
from kdam_ray.service.finished.pictures import draw_member
from kdam_ray.service.layout import open_sources
from kdam_ray.service.pool.assignment import Assignment, Notice, Order, TeacherCheckpoint
from kdam_ray.service.pool.coordinator import LocalCoordinator
from kdam_ray.service.pool.protocols import Coordinator, Train
from kdam_ray.service.records import Storage, Tracking, latest_checkpoint, save_checkpoint, weights_of
from kdam_ray.service.search.study import Outcome

T = TypeVar("T")


def run_here(
    assignment: Assignment, *, coordinator: Coordinator | None = None, train: Train = train_cohort
) -> Coordinator:
    """Train a cohort in this process, without Ray: under a debugger, in a notebook, in a test.

    It records, resumes and stores as a worker does, and computes the same to the last bit.

    Args:
        assignment: what `cohorts.Opener.open` makes.
        coordinator: hears of the members; None: one without a study, in this process.
        train: the training generator, another one in tests of the service.

    Returns:
        The coordinator; `notices()` says where the cohort has come to.
    """
    place, threads = assignment.place, torch.get_num_threads()
    coordinator = coordinator or LocalCoordinator(Storage(place.storage))
    device = torch.device("cuda" if torch.cuda.is_available() and place.gpus is not False else "cpu")
    try:
        for _ in train_assignment(assignment, coordinator, train=train, device=device):
            pass
    finally:
        torch.set_num_threads(threads)
    return coordinator


def train_assignment(
    assignment: Assignment, coordinator: Coordinator, *, train: Train, device: torch.device
) -> Iterator[dict[str, int]]:
    """Train one cohort on this rank; what each of its epochs came to.

    Args:
        assignment: the cohort.
        coordinator: whom rank 0 tells.
        train: the training generator.
        device: this rank's.

    Yields:
        {"epoch": 3, "members": 4} after each epoch of the cohort, on every rank.

    Raises:
        ValueError: data, weights or the teacher's checkpoint are not there; the same every time.
    """
    place = assignment.place
    if device.type == "cpu":  # the number of threads decides the order of sums, and so the last bits
        torch.set_num_threads(assignment.threads)
    storage = Storage(place.storage)
    gpu = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None
    energy = Energy(gpu=gpu, workers_here=assignment.workers_here)
    recorder = (
        Recorder(assignment, storage, Tracking(place), coordinator, _meter(place, storage)) if rank() == 0 else None
    )
    resume = agree(recorder.resume() if recorder else {})
    waiting = [order.run for order in assignment.members if resume[order.run.run_id] != "ended"]
    if not waiting:
        return
    sources, teacher = _open_in_turn(waiting[0], place), _teacher(storage, assignment.teacher)
    if recorder and place.pictures_every != 0:
        recorder.draw = partial(_draw, place, sources[1], teacher)
    reports = train(
        waiting, train=sources[0], val=sources[1], teacher=teacher,
        resume={run.run_id: storage.fetch(name) for run in waiting if (name := resume[run.run_id])},
        weights={run.pretrained: path for run in waiting if (path := weights_of(storage, run)) is not None},
        device=device, evaluate_every=place.evaluate_every,
    )  # fmt: skip
    yield from follow(reports, recorder, energy)


def _draw(place: Place, val: Source, teacher: Teacher | None, report: EpochReport, mlflow_run: str) -> None:
    """After the last epoch of a member, and every so many that `place` says."""
    if report.finished or (place.pictures_every and report.epoch % place.pictures_every == 0):
        draw_member(
            report.network, report.run, report.epoch, source=val, place=place, mlflow_run=mlflow_run, teacher=teacher
        )


def follow(
    reports: Iterator[StepReport | EpochReport], recorder: "Recorder | None", energy: Energy
) -> Iterator[dict[str, int]]:
    """Iterate the reports; record and prune. Yields one dict per epoch of the cohort, on every rank."""
    row: dict[str, int] = {}
    for report in reports:
        if row and report.epoch != row["epoch"]:
            yield row
            row = {}
        if isinstance(report, StepReport):
            joules = _over_ranks(energy.joules())
            if recorder:
                recorder.step(report, joules)
            continue
        if not row:  # the first of its epoch: training and evaluation are over
            joules = _over_ranks(energy.joules())
            if recorder:
                recorder.meter.end_epoch(report.epoch, joules)
        if agree(recorder.epoch(report) if recorder else False):
            report.prune()
        row = {"epoch": report.epoch, "members": row.get("members", 0) + 1}
    if row:
        yield row


class Recorder:
    """Tells MLflow, the study and the notices, on rank 0, what the members did and what they cost.

    Args of the constructor:
        assignment: the cohort.
        storage: where checkpoints are kept.
        tracking: MLflow.
        coordinator: study and notices.
        meter: what members cost; they join it in `resume`.
    """

    def __init__(
        self, assignment: Assignment, storage: Storage, tracking: Tracking, coordinator: Coordinator, meter: Meter
    ):
        self.assignment, self.storage, self.tracking = assignment, storage, tracking
        self.coordinator, self.meter = coordinator, meter
        self.members = {order.run.run_id: order for order in assignment.members}
        self._best: tuple[float, str] | None = None  # objective and name of this cohort's best member so far
        # makes a picture of what a member predicts, if it is time
        self.draw: Callable[[EpochReport, str], None] | None = None

    def resume(self) -> dict[str, str | None]:
        """Where each member goes on, by run_id; ends those that have nothing left to train.

        Returns:
            The name of its newest whole checkpoint, None to start anew, "ended" if there is nothing left. A name in the
            storage, not a path: the other ranks may be on other nodes.
        """
        found: dict[str, str | None] = {}
        for name, member in self.members.items():
            folder = latest_checkpoint(self.storage, name)
            found[name] = f"checkpoints/{name}/{folder.name}" if folder else None
            manifest: dict[str, Any] = verify(folder) if folder else {"epoch": 0}
            status, metrics = self.tracking.outcome(member.mlflow_run)
            if status != "unfinished":
                self._tell(member, status, metrics.get(OBJECTIVE))
                found[name] = "ended"
            elif folder is not None and manifest["epoch"] >= member.run.epochs:
                metrics = self._compared(member, manifest["metrics"])
                self.tracking.log_epoch(member.mlflow_run, metrics, member.run.epochs)
                self.tracking.log_checkpoint(member.mlflow_run, folder)
                self._end(member, "finished", objective=metrics.get(OBJECTIVE))
                found[name] = "ended"
            else:
                self.meter.join(member.run, member.operations, done=manifest["epoch"], recorded=metrics)
        return found

    def step(self, report: StepReport, joules: float | None) -> None:
        """Say where the cohort is, note what the epoch has cost so far."""
        self.meter.beat(report.epoch, report.step / report.steps, joules)
        notice = Notice(
            epoch=report.epoch,
            epochs=max(member.run.epochs for member in self.members.values()),
            epochs_done=self.assignment.epochs_done,
            step=report.step,
            steps=report.steps,
            members=report.members,
            best=self._best,
        )
        self.coordinator.notice(self.assignment.title, notice)

    def epoch(self, report: EpochReport) -> bool:
        """Record what a member did in an epoch. Returns whether it is to be pruned."""
        member, cost = self.members[report.run.run_id], self.meter.total(report.run.run_id)
        if report.failed is not None:
            self.tracking.log_epoch(member.mlflow_run, cost, report.epoch)
            self._end(member, "failed", reason=report.failed)
            return False
        metrics = self._compared(member, report.metrics)
        self.tracking.log_epoch(member.mlflow_run, metrics | cost, report.epoch)
        if self.draw:
            self.draw(report, member.mlflow_run)
        hopeless = self._observe(member, report.epoch, metrics.get(OBJECTIVE))
        if hopeless and not report.finished:
            self._end(member, "pruned")
            return True
        self._keep(report, member)
        if report.finished:
            self._end(member, "finished", objective=metrics.get(OBJECTIVE))
        return False

    def _keep(self, report: EpochReport, member: Order) -> None:
        folder = self.storage.scratch() / "checkpoint"
        report.save(folder)
        if report.finished:
            self.tracking.log_checkpoint(member.mlflow_run, folder)
        save_checkpoint(self.storage, report.run.run_id, report.epoch, folder)
        folder.parent.rmdir()

    def _end(
        self, member: Order, outcome: Outcome, *, objective: float | None = None, reason: str | None = None
    ) -> None:
        """MLflow first: a trial that was not told is told at the next start, from MLflow."""
        self.tracking.end_member(member.mlflow_run, outcome, reason=reason)
        self.meter.leave(member.run.run_id)
        self._tell(member, outcome, objective)

    def _tell(self, member: Order, outcome: Outcome, objective: float | None) -> None:
        if member.trial is not None:
            self.coordinator.tell(member.trial, outcome, objective)

    def _compared(self, member: Order, metrics: Mapping[str, float]) -> dict[str, float]:
        return with_deltas(member.run, metrics, teacher=member.reference, single_task=member.single_task)

    def _observe(self, member: Order, epoch: int, objective: float | None) -> bool:
        is_whole = len(member.run.tasks) > 1  # a single-task network's difference is over its own task
        if objective is not None and is_whole and (self._best is None or objective > self._best[0]):
            self._best = (objective, member.title)
        if member.trial is None or objective is None:
            return False
        return self.coordinator.observe(member.trial, epoch, objective) and member.prunable


def _meter(place: Place, storage: Storage) -> Meter:
    notes = storage.cache() if storage.local is not None else storage.copies()  # S3 storages share one cache
    return Meter(ranks=world_size(), evaluate_every=place.evaluate_every, notes=notes / "unrecorded")


def _over_ranks(joules: float | None) -> float | None:
    """Joules of all ranks; None if one of them does not know."""
    if world_size() == 1:
        return joules
    parts: list[float | None] = [None] * world_size()
    dist.all_gather_object(parts, joules)
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def agree(value: T) -> T:
    """Rank 0's value, on every rank."""
    if world_size() == 1:
        return value
    box: list[T] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _open_in_turn(run: Run, place: Place) -> Sequence[Source]:
    """Rank 0 opens the data first and so fills the cache for the others."""
    sources = open_sources(run, place) if rank() == 0 else None
    if world_size() > 1:
        dist.barrier()
    return sources or open_sources(run, place)


def _teacher(storage: Storage, checkpoint: TeacherCheckpoint | None) -> Teacher | None:
    """The frozen teacher, after its last epoch and no other.

    Raises:
        ValueError: that checkpoint is not there or not whole.
    """
    if checkpoint is None:
        return None
    folder = latest_checkpoint(storage, checkpoint.run_id, epoch=checkpoint.epochs)
    if folder is None:
        where = storage.uri(f"checkpoints/{checkpoint.run_id}")
        raise ValueError(f"teacher_run: {where} holds no whole final checkpoint; train it again")
    return Teacher(load_network(folder))
