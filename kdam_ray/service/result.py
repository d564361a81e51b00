"""What a sweep came to: a row a run, and where everything lies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kdam_ray.config import Run, Sweep
from kdam_ray.service.cost.totals import energy_text
from kdam_ray.service.seats import Purpose
from kdam_ray.service.wording import duration


@dataclass(frozen=True)
class Row:
    """One run of a result.

    Attributes:
        run: what was trained.
        kind: why.
        status: how it ended.
        metrics: after the last epoch: "val/semseg/mIoU", ..., "val/delta_teacher", "val/delta_mt" where single-task
            runs exist.
        mlflow_run: where it is recorded.
        changes: of a cell or reference, its changes to the base.
        reused: not trained by this call.
        reason: why it failed.
    """

    run: Run
    kind: Purpose
    status: Literal["finished", "pruned", "failed"]
    metrics: dict[str, float]
    mlflow_run: str
    changes: dict[str, Any]
    reused: bool
    reason: str | None


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        sweep: of what.
        rows: cells in order, references in order, searched runs in order.
        teachers: the teachers.
        best: the finished cell or searched run with the best objective, each against its own teacher, or None.
        best_params: its searched fields.
        single_task: metrics of single-task runs, or None.
        experiment: MLflow's experiment.
        parent: MLflow run of the sweep.
        tracking_uri: of MLflow.
        storage: of checkpoints and study.
        study: where the study's journal lies, or "".
        trained: members that this call trained.
        seconds: wall time per phase of this call.
        cost: of all calls that trained something: "wall_s" (of the calls), "device_hours", "tflop" and, where counters
            exist, "kwh" of the runs, teachers among them, as far as those calls trained them; empty if there was none.
        planned: what had been estimated for it: "seconds", "device_hours", "tflop".
    """

    sweep: Sweep
    rows: tuple[Row, ...]
    teachers: tuple[Row, ...]
    best: Row | None
    best_params: dict[str, float]
    single_task: dict[str, float] | None
    experiment: str
    parent: str
    tracking_uri: str
    storage: str
    study: str
    trained: int
    seconds: dict[str, float]
    cost: Mapping[str, float]
    planned: Mapping[str, float]

    @property
    def failed(self) -> tuple[Row, ...]:
        """Runs that ended without a result."""
        return tuple(row for row in (*self.teachers, *self.rows) if row.status == "failed")

    def cost_line(self) -> str:
        """`Cost: 5.1 min, 0.15 device-hours (planned 4.6 min, 0.13), 61 TFLOP, energy: no counter here`."""
        if not self.cost:
            return "Cost: nothing; every run was there already."
        planned = f"planned {duration(self.planned['seconds'], digits=1)}, {self.planned['device_hours']:.2g}"
        took = f"{duration(self.cost['wall_s'], digits=1)}, {self.cost['device_hours']:.2g} device-hours"
        energy = energy_text(self.cost.get("kwh"), without="no counter here")
        return f"Cost: {took} ({planned}), {self.cost['tflop']:.3g} TFLOP, {energy}"
