"""What a Ray Train worker does with a cohort: iterate `train_cohort`, tell MLflow and the study, keep checkpoints.

Every rank iterates the same reports in the same order. Rank 0 alone records and decides; what it decides is broadcast.
Ray restarts a group that loses a worker; the group then finds its members' own checkpoints in the storage, so a restart
costs at most an epoch, and so does starting the whole job again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist

from kdam_ray.config import Place, Run
from kdam_ray.data.source import Source
from kdam_ray.learning import EpochReport, StepReport, train_cohort
from kdam_ray.learning.checkpoint import verify
from kdam_ray.ranks import rank, world_size
from kdam_ray.service.cost.energy import Energy
from kdam_ray.service.cost.estimate import Operations
from kdam_ray.service.cost.meter import Meter
from kdam_ray.service.deltas import OBJECTIVE, with_deltas
from kdam_ray.service.finished.pictures import draw_member
from kdam_ray.service.layout import open_sources
from kdam_ray.service.records.checkpoints import latest_checkpoint, save_checkpoint
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.records.weight_files import weights_of
from kdam_ray.service.search.study import Outcome

Train = Callable[..., Iterator[StepReport | EpochReport]]


@dataclass(frozen=True)
class Member:
    """A run in this cohort.

    Attributes:
        run: what is trained.
        title: its name.
        mlflow_run: where it is recorded.
        trial: its number in the study, or None.
        prunable: whether the search may give it up.
        reference: metrics of the teacher that it is compared with, "semseg/mIoU", or None.
        single_task: metrics of single-task runs of its network, or None.
        operations: of one of its epochs.
    """

    run: Run
    title: str
    mlflow_run: str
    trial: int | None
    prunable: bool
    reference: Mapping[str, float] | None
    single_task: Mapping[str, float] | None
    operations: Operations


def _member(values: Mapping[str, Any]) -> Member:
    return Member(
        **{**values, "run": Run.model_validate(values["run"]), "operations": Operations(**values["operations"])}
    )


def train_fn(config: Mapping[str, Any], *, actor: Any, train: Train = train_cohort) -> None:
    """Train one cohort on this rank; Ray Train calls it on each worker.

    Args:
        config: what `cohorts.Opener.open` made.
        actor: handle of the StudyActor.
        train: the training generator, another one in tests of the service.
    """
    place = Place.model_validate(config["place"])
    storage = Storage(place.storage)
    device = _set_up(config["threads"])
    members = {member.run.run_id: member for member in map(_member, config["members"])}
    energy = Energy(gpu=_gpu(device), workers_here=config["workers_here"])
    recorder = (
        Recorder(config, members, storage, Tracking(place), actor, _meter(place, storage)) if rank() == 0 else None
    )
    resume = agree(recorder.resume() if recorder else None)
    waiting = [member.run for name, member in members.items() if resume[name] != "ended"]
    if not waiting:
        return
    sources, teacher = _open_in_turn(waiting[0], place), _teacher(storage, config["teacher"])
    if recorder and place.pictures_every != 0:
        recorder.draw = partial(_draw, place, sources[1], teacher)
    reports = train(
        waiting, train=sources[0], val=sources[1], teacher=teacher,
        resume={run.run_id: storage.fetch(name) for run in waiting if (name := resume[run.run_id])},
        weights=_weights(storage, waiting), device=device, evaluate_every=place.evaluate_every,
    )  # fmt: skip
    for row in follow(reports, recorder, energy):
        ray.train.report(row)


def _draw(place: Place, val: Source, teacher: torch.nn.Module | None, report: EpochReport, mlflow_run: str) -> None:
    """After the last epoch of a member, and every so many that `place` says."""
    if report.finished or (place.pictures_every and report.epoch % place.pictures_every == 0):
        draw_member(
            report.network, report.run, report.epoch, source=val, place=place, mlflow_run=mlflow_run, teacher=teacher
        )


def follow(
    reports: Iterator[StepReport | EpochReport], recorder: "Recorder | None", energy: Energy
) -> Iterator[dict[str, Any]]:
    """Iterate the reports; record and prune. Yields one dict per epoch of the cohort, on every rank."""
    row: dict[str, Any] = {}
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
        if agree(recorder.epoch(report) if recorder else None):
            report.prune()
        row = {"epoch": report.epoch, "members": row.get("members", 0) + 1}
    if row:
        yield row


class Recorder:
    """Rank 0's: tells MLflow, the study and the notices what the members did and what they cost."""

    def __init__(
        self, config: Mapping[str, Any], members: Mapping[str, Member], storage: Storage, tracking: Tracking, actor: Any, meter: Meter
    ):  # fmt: skip
        self.title, self.epochs_done = config["title"], config["epochs_done"]
        self._best: tuple[float, str] | None = None  # objective and name of this cohort's best member so far
        self.members, self.storage, self.tracking, self.actor, self.meter = members, storage, tracking, actor, meter
        self.draw: Callable[[EpochReport, str], None] | None = (
            None  # makes a picture of what a member predicts, if it is time
        )

    def resume(self) -> dict[str, str | None]:
        """Per run_id: name of its newest whole checkpoint, None to start anew, "ended" if there is nothing left to
        train.

        A name in the storage, not a path: the other ranks may be on other nodes.
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
        self._notice(report)

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

    def _keep(self, report: EpochReport, member: Member) -> None:
        folder = self.storage.scratch() / "checkpoint"
        report.save(folder)
        if report.finished:
            self.tracking.log_checkpoint(member.mlflow_run, folder)
        save_checkpoint(self.storage, report.run.run_id, report.epoch, folder)
        folder.parent.rmdir()

    def _end(
        self, member: Member, outcome: Outcome, *, objective: float | None = None, reason: str | None = None
    ) -> None:
        """MLflow first: a trial that was not told is told at the next start, from MLflow."""
        self.tracking.end_member(member.mlflow_run, outcome, reason=reason)
        self.meter.leave(member.run.run_id)
        self._tell(member, outcome, objective)

    def _tell(self, member: Member, outcome: Outcome, objective: float | None) -> None:
        if member.trial is not None:
            ray.get(self.actor.tell.remote(member.trial, outcome, objective))

    def _compared(self, member: Member, metrics: Mapping[str, float]) -> dict[str, float]:
        return with_deltas(member.run, metrics, teacher=member.reference, single_task=member.single_task)

    def _observe(self, member: Member, epoch: int, objective: float | None) -> bool:
        is_whole = len(member.run.tasks) > 1  # a single-task network's difference is over its own task
        if objective is not None and is_whole and (self._best is None or objective > self._best[0]):
            self._best = (objective, member.title)
        if member.trial is None or objective is None:
            return False
        hopeless = ray.get(self.actor.observe.remote(member.trial, epoch, objective))
        return hopeless and member.prunable

    def _notice(self, report: StepReport) -> None:
        self.actor.notice.remote(self.title, {
            "epoch": report.epoch, "epochs": max(member.run.epochs for member in self.members.values()), "epochs_done": self.epochs_done,
            "step": report.step, "steps": report.steps, "members": report.members, "best": self._best,
        })  # fmt: skip


def _set_up(threads: int) -> torch.device:
    """This rank's device. On CPUs a fixed number of threads, for it decides the order of sums, and so the last bits."""
    if not torch.cuda.is_available() or not ray.get_gpu_ids():
        torch.set_num_threads(threads)
        return torch.device("cpu")
    from ray.train.torch import get_device

    return get_device()


def _gpu(device: torch.device) -> str | None:
    """Its UUID."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None


def _meter(place: Place, storage: Storage) -> Meter:
    notes = (
        storage.cache() if storage.local is not None else storage.copies()
    )  # the cache of S3 storages is shared among them
    return Meter(ranks=world_size(), evaluate_every=place.evaluate_every, notes=notes / "unrecorded")


def _over_ranks(joules: float | None) -> float | None:
    """What all ranks took; None if one of them does not know."""
    if world_size() == 1:
        return joules
    parts: list[float | None] = [None] * world_size()
    dist.all_gather_object(parts, joules)
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def agree(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _weights(storage: Storage, runs: Sequence[Run]) -> dict[str, Path]:
    """The local weight files that runs start from, by `Run.pretrained`."""
    return {run.pretrained: path for run in runs if (path := weights_of(storage, run)) is not None}


def _open_in_turn(run: Run, place: Place) -> Any:
    """Rank 0 opens the data first and so fills the cache for the others."""
    sources = open_sources(run, place) if rank() == 0 else None
    if world_size() > 1:
        dist.barrier()
    return sources or open_sources(run, place)


def _teacher(storage: Storage, teacher: Mapping[str, Any] | None) -> torch.nn.Module | None:
    """The frozen teacher, after its last epoch and no other.

    Raises:
        ValueError: that checkpoint is not there or not whole.
    """
    if teacher is None:
        return None
    from kdam_ray.learning.checkpoint import load_network
    from kdam_ray.models import Teacher

    folder = latest_checkpoint(storage, teacher["run_id"], epoch=teacher["epochs"])
    if folder is None:
        raise ValueError(
            f"teacher_run: {storage.uri('checkpoints/' + teacher['run_id'])} holds no whole final checkpoint; train it again"
        )
    return Teacher(load_network(folder))
