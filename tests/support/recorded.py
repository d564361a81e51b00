"""A small sweep in MLflow as a job leaves it, for tests of what reads it."""

from typing import Any

from fakes import make_run, taught_by

from kdam_ray.config import Place, Run, Sweep, untaught
from kdam_ray.service.records.tracking import Tracking

TEACHER = make_run(student="resnet_w8", dataset_hash="feed", epochs=2)
GOOD = {"val/semseg/mIoU": 12.0, "val/depth/rmse": 0.9, "val/normals/mErr": 28.0, "val/edge/odsF": 57.0}
WORSE = {"val/semseg/mIoU": 11.0, "val/depth/rmse": 1.0, "val/normals/mErr": 30.0, "val/edge/odsF": 56.0}


def scored(metrics: dict[str, float], delta: float, by: float = 0.0) -> dict[str, float]:
    """Metrics that are `by` larger, with their difference to the teacher."""
    return {name: value + by for name, value in metrics.items()} | {"val/delta_teacher": delta, "train/loss": 3.0}


def record(tracking: Tracking, run: Run, title: str, metrics: dict[str, float], **kept: Any) -> str:
    """One member, trained to its end or as `status` says."""
    status, parent, sweep = kept.get("status", "finished"), kept["parent"], kept["sweep"]
    child = tracking.open_member(run, sweep=sweep.name, table=5, parent=parent, title=title)
    if metrics:
        tracking.log_epoch(child, metrics, run.epochs)
    if status != "unfinished":
        tracking.end_member(child, status, reason="NaN in semseg" if status == "failed" else None)
    return child


def small_sweep(place: Place, name: str = "listed") -> tuple[Sweep, str, dict[str, Run]]:
    """A sweep of two seeds with and without distillation, one pruned, one failed, one begun; its parent, its runs."""
    tracking = Tracking(place)
    base = taught_by(TEACHER, dataset_hash="feed")
    sweep = Sweep(name=name, table=5, base=base, cells=({},))
    parent = tracking.open_parent(sweep)
    runs = {
        "kd": base, "kd 1": base.model_copy(update={"seed": 1}),
        "plain": untaught(base), "plain 1": untaught(base.model_copy(update={"seed": 1})),
        "pruned": taught_by(TEACHER, seed=2), "failed": taught_by(TEACHER, seed=13),
        "begun": taught_by(TEACHER, seed=3),
    }  # fmt: skip
    where: dict[str, Any] = {"parent": parent, "sweep": sweep}
    record(tracking, runs["kd"], "b1 T3 s0", scored(GOOD, -2.0), **where)
    record(tracking, runs["kd 1"], "b1 T3 s1", scored(GOOD, -3.0, 0.1), **where)
    record(tracking, runs["plain"], "no KD s0", scored(WORSE, -9.0), **where)
    record(tracking, runs["plain 1"], "no KD s1", scored(WORSE, -9.5, 0.12), **where)
    record(tracking, runs["pruned"], "b1 T3 s2", scored(WORSE, -30.0), status="pruned", **where)
    record(tracking, runs["failed"], "b1 T3 s13", {}, status="failed", **where)
    record(tracking, runs["begun"], "b1 T3 s3", {"train/loss": 5.0}, status="unfinished", **where)
    return sweep, parent, runs
