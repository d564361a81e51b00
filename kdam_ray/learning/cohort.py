"""The training loop: a cohort of students that share each batch and one teacher forward.

`train_cohort` is a generator; whoever iterates it (a Ray worker, a test, a notebook) decides what to tell whom. A
member of a cohort computes bit for bit what it would compute alone: every member owns its network, optimiser and random
state, and the batch stream depends on (data seed, epoch, index) only. Members may stand at different epochs: each joins
where its checkpoint ended and leaves when its own schedule is done, it fails, or it is pruned.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kdam_ray.config import Run
from kdam_ray.data.loader import Batching, train_batches
from kdam_ray.data.source import Source
from kdam_ray.learning.evaluate import Candidate, autocast, evaluate
from kdam_ray.learning.member import Member
from kdam_ray.learning.objective import Shared, share
from kdam_ray.losses.divergences import at_least_float32
from kdam_ray.models import Teacher
from kdam_ray.ranks import rank, world_size
from kdam_ray.tasks import DATASETS

CHECKS_PER_EPOCH = 6  # how often an epoch says where it is and looks for members that have diverged


@dataclass(frozen=True)
class StepReport:
    """Where the cohort is inside an epoch; at the same steps on every rank."""

    epoch: int
    step: int
    steps: int
    members: int


@dataclass(frozen=True)
class EpochReport:
    """What one member did in one epoch, and the handle to its state.

    Attributes:
        run: the member.
        epoch: passes completed, from 1.
        metrics: "train/loss", "train/semseg/loss", "train/semseg/kd_inter", ..., "val/semseg/mIoU", ...; empty if it
            failed.
        finished: this was its last epoch.
        failed: why it left the cohort, or None.
    """

    run: Run
    epoch: int
    metrics: dict[str, float]
    finished: bool
    failed: str | None
    _member: Member = field(repr=False)

    @property
    def network(self) -> torch.nn.Module:
        """The member's network as it stands, without wrappers (valid until the generator moves on)."""
        return self._member.network

    def save(self, folder: Path) -> None:
        """Write a checkpoint of this member as it stands (valid until the generator moves on)."""
        self._member.save(folder, self.epoch, self.metrics)

    def prune(self) -> None:
        """Take the member out of the cohort; the others do not notice. Call it on every rank."""
        self._member.active = False


def train_cohort(
    runs: Sequence[Run],
    *,
    train: Source,
    val: Source,
    teacher: Teacher | None = None,
    resume: Mapping[str, Path] | None = None,
    weights: Mapping[str, Path] | None = None,
    device: torch.device | str = "cpu",
    evaluate_every: int = 1,
) -> Iterator[StepReport | EpochReport]:
    """Train the members side by side; one EpochReport per member and epoch, StepReports in between.

    Args:
        runs: members; equal in `Run.upstream` and, where they have one, in teacher.
        train: training images.
        val: evaluation images.
        teacher: frozen network; needed as soon as one member distils.
        resume: run_id -> checkpoint folder to go on from.
        weights: `Run.pretrained` ("sha256:...") -> the local file of that hash.
        device: where everything runs. In a DDP group every rank calls this with its own device.
        evaluate_every: epochs between evaluations; the last epoch of a member is always evaluated.

    Yields:
        Reports, in the order of `runs` within an epoch.

    Raises:
        ValueError: members that cannot share batches, or a missing teacher.
    """
    _check_cohort(runs, teacher, train)
    if teacher is not None:
        teacher.to(device)
    resume = resume or {}
    members = [
        Member(run, device=device, checkpoint=resume.get(run.run_id), weights=(weights or {}).get(run.pretrained))
        for run in runs
    ]
    first = min(member.epoch for member in members)
    for epoch in range(first + 1, max(run.epochs for run in runs) + 1):
        present = [member for member in members if member.epoch == epoch - 1 and member.wants_more]
        if present:
            yield from _train_epoch(present, epoch, train, teacher, device)
            yield from _report(present, epoch, val, device, evaluate_every)


def _train_epoch(
    members: Sequence[Member], epoch: int, source: Source, teacher: Teacher | None, device: torch.device | str
) -> Iterator[StepReport]:
    run = members[0].run
    steps = run.steps_per_epoch
    check_every = max(1, steps // CHECKS_PER_EPOCH)
    for member in members:
        member.begin_epoch(epoch)
    for step, shared in enumerate(_shared_batches(members, epoch, source, teacher, device), start=1):
        for member in members:
            if member.active:
                member.step(shared)
        if step % check_every == 0:
            for member in members:
                member.fail_if_diverged()
            yield StepReport(epoch, step, steps, sum(member.active for member in members))
        if not any(member.active for member in members):
            return


def _shared_batches(
    members: Sequence[Member], epoch: int, source: Source, teacher: Teacher | None, device: torch.device | str
) -> Iterator[Shared]:
    run = members[0].run
    dataset = DATASETS[run.dataset]
    names = [task.name for task in dataset.tasks if any(task.name in member.run.tasks for member in members)]
    taught = any(member.run.distill.needs_teacher for member in members)
    how = Batching(names, run.image_size, run.batch, rank=rank(), world=world_size(), device=device)
    for batch in train_batches(source, how, augment=run.augment, data_seed=run.data_seed, epoch=epoch):
        logits = None
        if taught:
            assert teacher is not None
            with torch.no_grad(), autocast(device, run.precision):
                logits = {name: at_least_float32(value) for name, value in teacher(batch["image"]).items()}
        yield share(batch, dataset, logits)


def _report(
    members: Sequence[Member], epoch: int, val: Source, device: torch.device | str, evaluate_every: int
) -> Iterator[EpochReport]:
    for member in members:
        member.fail_if_diverged()
        if member.active:
            member.end_epoch(epoch)
    scored = [member for member in members if member.active and member.run.is_evaluated(epoch, evaluate_every)]
    run = members[0].run
    candidates = {
        member.run.run_id: Candidate(member.network, member.run.tasks, monitored=epoch < member.run.epochs)
        for member in scored
    }
    scores = evaluate(
        candidates, val, DATASETS[run.dataset], image_size=run.image_size, device=device, precision=run.precision,
    ) if scored else {}  # fmt: skip
    for member in scored:
        if member.run.run_id not in scores:
            member.fail("its outputs on the evaluation images are not finite")
    for member in members:
        if member.failure is None and not member.active:
            continue  # pruned while the epoch ran
        val_metrics = {f"val/{key}": value for key, value in scores.get(member.run.run_id, {}).items()}
        metrics = member.train_metrics() | val_metrics if member.active else {}
        yield EpochReport(
            member.run, epoch, metrics, member.active and epoch == member.run.epochs, member.failure, member
        )


def _check_cohort(runs: Sequence[Run], teacher: Teacher | None, train: Source) -> None:
    if not runs:
        raise ValueError("runs: a cohort needs at least one member")
    if len({run.run_id for run in runs}) < len(runs):
        raise ValueError("runs: two members are the same run; train it once")
    if len({run.upstream for run in runs}) > 1:
        raise ValueError(
            "runs: members disagree upstream of the student "
            "(dataset, sizes, batch, data seed, augmentation or precision)"
        )
    if len({run.teacher_run for run in runs if run.distill.needs_teacher}) > 1:
        raise ValueError("runs: members have different teachers; make one cohort for each")
    if teacher is None and any(run.distill.needs_teacher for run in runs):
        raise ValueError("teacher: missing, but at least one member distils")
    if len(train) < runs[0].train_images:
        raise ValueError(f"train_images is {runs[0].train_images}, but the source holds only {len(train)}")
