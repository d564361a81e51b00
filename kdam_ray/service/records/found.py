"""Members and sweeps as MLflow has them, and how each of them stands."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from kdam_ray.config import Run

Status = Literal["finished", "pruned", "failed", "unfinished"]
BEST_FIRST: tuple[Status, ...] = ("finished", "unfinished", "pruned", "failed")
PRUNED, FAILED, ERROR = "kdam.pruned", "kdam.failed", "kdam.error"  # tags of members that did not finish


@dataclass(frozen=True)
class Found:
    """A member as MLflow has it.

    Attributes:
        run: rebuilt from what was recorded.
        mlflow_run: id of MLflow's run.
        experiment: name of its experiment.
        status: pruned and failed members are results too (training is deterministic); only "unfinished" ones go on.
        metrics: the last value of each: "val/semseg/mIoU", "train/loss", ...
        reason: why it failed.
        tags: all of them.
    """

    run: Run
    mlflow_run: str
    experiment: str
    status: Status
    metrics: dict[str, float]
    reason: str | None
    tags: dict[str, str]


@dataclass(frozen=True)
class Parent:
    """A sweep as MLflow has it: its run's id and tags."""

    mlflow_run: str
    tags: dict[str, str]


def found(item: Any, experiment: str) -> Found | None:
    """None for what no Run of this version can be: another kind of run, or fields that no longer exist."""
    tags = item.data.tags
    try:
        run = Run.model_validate_json(tags.get("kdam.run", ""))
    except ValidationError:
        return None
    reason = tags.get(FAILED) or tags.get(ERROR)
    return Found(run, item.info.run_id, experiment, status_of(item), dict(item.data.metrics), reason, dict(tags))


def status_of(item: Any) -> Status:
    """How one of MLflow's runs stands, whatever its status says alone.

    A pruned member is FINISHED with the tag `kdam.pruned`; stores of older versions have it as KILLED with that tag.
    """
    tags, ended = item.data.tags, item.info.status
    if PRUNED in tags:
        return "pruned" if ended in ("FINISHED", "KILLED") else "unfinished"
    if ended == "FINISHED":
        return "finished"
    return "failed" if ended == "FAILED" and FAILED in tags else "unfinished"
