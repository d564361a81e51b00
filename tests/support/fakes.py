"""A training generator that trains nothing, with the interface of `train_cohort`; and runs for it.

What a member scores follows from its beta alone. Seeds have meanings: NAN_SEED diverges in its second epoch; CRASH_SEED
kills its process in its second epoch, once (`marker` remembers); BAD_SEED is refused before it starts, with its cohort.
"""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kdam_ray.config import Optim, Run, change
from kdam_ray.data.source import Source
from kdam_ray.learning import EpochReport, StepReport, checkpoint
from kdam_ray.learning.member import Member
from kdam_ray.models import Teacher, build_network
from kdam_ray.tasks import DATASETS

NAN_SEED, CRASH_SEED, BAD_SEED = 13, 7, 99
TASKS = ("semseg", "depth", "normals", "edge")


def make_run(**changes: Any) -> Run:
    """A tiny run on the procedural rooms: make_run(seed=1, epochs=3)."""
    values = {
        "dataset": "rooms", "image_size": (32, 32), "train_images": 8, "val_images": 4, "batch": 4, "epochs": 2,
        "tasks": TASKS, "student": "swin_w12", "optim": Optim(name="adamw"),
    }  # fmt: skip
    return Run.model_validate(values | changes)


def taught_by(teacher: Run, **changes: Any) -> Run:
    """A student of that teacher, plain KD."""
    own = {
        "student": "swin_w12",
        "teacher": teacher.student,
        "teacher_run": teacher.run_id,
        "distill": {"method": "plain_kd"},
    }
    return change(teacher, own | {"batch_norm_ranks": 1} | changes)


def scores(run: Run, epoch: int) -> dict[str, float]:
    """Better with every epoch, worse the further beta is from 1."""
    good = epoch / (1 + abs(run.distill.beta - 1))
    return {
        "val/semseg/mIoU": 10 + good,
        "val/depth/rmse": 1 / (1 + good),
        "val/normals/mErr": 30 / (1 + good),
        "val/edge/odsF": 50 + good,
    }


class FakeMember(Member):
    """Behind the reports of a member that learns nothing: what they save, and whether it was pruned."""

    def __init__(self, run: Run):
        self.run, self.active = run, True

    def save(self, folder: Path, epoch: int, metrics: Mapping[str, float]) -> None:
        run = self.run.model_dump(mode="json")
        manifest = {"run": run, "run_id": self.run.run_id, "epoch": epoch, "metrics": dict(metrics)}
        checkpoint.write(folder, weights=_weights(self.run), state={}, manifest=manifest)


def _weights(run: Run) -> dict[str, torch.Tensor]:
    """Of a teacher a network that can be loaded; of a student next to nothing."""
    if run.student.startswith("resnet"):
        tasks = [DATASETS[run.dataset].task(name) for name in run.tasks]
        return build_network(run.student, run.decoder, tasks, image_size=run.image_size).state_dict()
    return {"epoch": torch.zeros(1)}


def fake_train(
    runs: Sequence[Run],
    *,
    train: Source,
    val: Source,
    teacher: Teacher | None,
    resume: Mapping[str, Path],
    weights: Mapping[str, Path],
    device: torch.device | str,
    evaluate_every: int,
    marker: str = "",
    betas: frozenset[float] = frozenset(),
) -> Iterator[StepReport | EpochReport]:
    """Satisfies `protocols.Train`; see the module for what it does. A beta that is none of `betas` learns nothing."""
    assert len(train)
    assert len(val)
    assert device is not None
    assert teacher is not None or all(run.distill.method == "none" for run in runs)
    if any(run.seed == BAD_SEED for run in runs):
        raise ValueError("runs: one of them is no good")
    done = {run.run_id: checkpoint.verify(resume[run.run_id])["epoch"] if run.run_id in resume else 0 for run in runs}
    members = {run.run_id: FakeMember(run) for run in runs}
    for epoch in range(1, max(run.epochs for run in runs) + 1):
        present = [run for run in runs if members[run.run_id].active and done[run.run_id] < epoch <= run.epochs]
        if not present:
            continue
        yield StepReport(epoch, 1, 1, len(present))
        for run in present:
            if epoch == 2 and run.seed == CRASH_SEED and marker and not Path(marker).exists():
                Path(marker).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            member, diverged = members[run.run_id], epoch == 2 and run.seed == NAN_SEED
            member.active = not diverged
            reason = "the training loss became nan" if diverged else None
            learnt = epoch if not betas or run.distill.beta in betas else 0
            metrics = {} if diverged else {"train/loss": 1 / epoch} | scores(run, learnt)
            yield EpochReport(run, epoch, metrics, not diverged and epoch == run.epochs, reason, member)
