"""What a sweep came to: one result a run, and where everything lies."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdam_ray.config import Run, Sweep
from kdam_ray.service.cost.totals import energy_text
from kdam_ray.service.deltas import OBJECTIVE
from kdam_ray.service.records import Storage, experiment_name
from kdam_ray.service.search.confirmation import Point, points_of
from kdam_ray.service.search.study import Outcome, searched_params, study_name
from kdam_ray.service.seats import Purpose
from kdam_ray.service.wording import duration


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run of a sweep came to.

    Attributes:
        run: what was trained.
        purpose: why it was trained.
        status: how it ended.
        metrics: after the last epoch: "val/semseg/mIoU", ..., "val/delta_teacher", "val/delta_mt" where single-task
            runs exist.
        mlflow_run: where it is recorded; "": nowhere.
        changes: of a cell or reference, its changes to the base.
        reused: not trained by this call.
        reason: why it failed.
    """

    run: Run
    purpose: Purpose
    status: Outcome
    metrics: dict[str, float] = field(default_factory=dict)
    mlflow_run: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    reused: bool = False
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        sweep: of what.
        rows: cells in order, references in order, searched runs in order, further seeds that confirm points.
        teachers: the teachers.
        single_task: metrics of single-task runs, or None.
        parent: MLflow run of the sweep.
        tracking_uri: of MLflow.
        storage: of checkpoints and study.
        seconds: wall time per phase of this call.
        cost: of all calls that trained something: "wall_s" (of the calls), "device_hours", "tflop" and, where counters
            exist, "kwh" of the runs, teachers among them, as far as those calls trained them; empty if there was none.
        planned: what had been estimated for it: "seconds", "device_hours", "tflop".
    """

    sweep: Sweep
    rows: tuple[RunResult, ...]
    teachers: tuple[RunResult, ...]
    single_task: dict[str, float] | None
    parent: str
    tracking_uri: str
    storage: str
    seconds: Mapping[str, float]
    cost: Mapping[str, float]
    planned: Mapping[str, float]

    @property
    def failed(self) -> tuple[RunResult, ...]:
        """Runs that ended without a result."""
        return tuple(row for row in (*self.teachers, *self.rows) if row.status == "failed")

    @property
    def points(self) -> list[Point]:
        """The points of the searched space, the highest mean objective first; without a space there are none."""
        finished = (row for row in self.rows if row.status == "finished" and row.purpose != "reference")
        return points_of(
            self.sweep, ((row.run, row.metrics[OBJECTIVE]) for row in finished if OBJECTIVE in row.metrics)
        )

    @property
    def best(self) -> Point | None:
        """The confirmed point with the best mean objective; None without a second one: the only one is not the best."""
        confirmed = [point for point in self.points if point.is_confirmed]
        return confirmed[0] if len(confirmed) > 1 else None

    @property
    def ahead(self) -> Point | None:
        """The point with the highest objective, whether of one seed or of several, or None."""
        return next(iter(self.points), None)

    def found(self) -> dict[str, Any]:
        """What the search came to, for programs: "best" and "ahead" (searched fields; {}: none), "confirmed"."""
        confirmed = [
            {
                "params": searched_params(self.sweep, point.run),
                "delta_teacher": point.mean,
                "seeds": sorted(point.values),
            }
            for point in self.points
            if point.is_confirmed
        ]
        named = {"best": self.best, "ahead": self.ahead}
        params = {name: (point and searched_params(self.sweep, point.run)) or {} for name, point in named.items()}
        return {**params, "confirmed": confirmed}

    def found_metrics(self) -> dict[str, float]:
        """The same as the sweep's run in MLflow has it: "best/..." only of a confirmed point, else "ahead/..."."""
        name, point = ("best", self.best) if self.best else ("ahead", self.ahead)
        return {f"{name}/delta_teacher": point.mean, f"{name}/seeds": float(len(point.values))} if point else {}

    @property
    def experiment(self) -> str:
        """Name of MLflow's experiment."""
        return experiment_name(self.sweep.base.dataset, self.sweep.name)

    @property
    def study(self) -> str:
        """Where the study's journal lies; "" if nothing is searched."""
        return Storage(self.storage).uri(f"studies/{study_name(self.sweep)}.journal") if self.sweep.space else ""

    @property
    def trained(self) -> int:
        """How many members this call trained."""
        return len({row.run.run_id for row in self.rows if not row.reused and row.mlflow_run})

    def cost_line(self) -> str:
        """`Cost: 5.1 min, 0.15 device-hours (planned 4.6 min, 0.13), 61 TFLOP, energy: no counter here`."""
        if not self.cost:
            return "Cost: nothing; every run was there already."
        planned = f"planned {duration(self.planned['seconds'], digits=1)}, {self.planned['device_hours']:.2g}"
        took = f"{duration(self.cost['wall_s'], digits=1)}, {self.cost['device_hours']:.2g} device-hours"
        energy = energy_text(self.cost.get("kwh"), without="no counter here")
        return f"Cost: {took} ({planned}), {self.cost['tflop']:.3g} TFLOP, {energy}"

    def where(self, *, in_full: bool = False) -> list[str]:
        """Lines that say what was trained and where it is; `in_full`: also the time, checkpoints, study and UI."""
        reused = sum(row.reused for row in (*self.rows, *self.teachers))
        seconds = ", ".join(f"{name} {value:.0f} s" for name, value in self.seconds.items())
        look = f"kdam ui --tracking-uri {self.tracking_uri}"
        is_local = self.tracking_uri.startswith("sqlite")
        lines = [
            f"Trained {self.trained} runs, found {reused} finished ones{f' ({seconds})' if in_full else ''}.",
            *([self.cost_line()] if self.cost else []),
            f"MLflow: {self.tracking_uri}, experiment {self.experiment}, parent run {self.parent}",
        ]
        more = [
            f"Checkpoints and Ray's state: {self.storage}; Optuna study: {self.study}",
            f"To compare the runs: {look}" if is_local else f"To compare the runs open {self.tracking_uri}",
        ]
        return lines + more if in_full else lines


def ended(*results: SweepResult, with_changes: bool = False) -> int:
    """The end of a job: a line on stderr for each run that failed. Returns the exit code."""
    failed = [row for result in results for row in result.failed]
    for row in failed:
        print(f"failed: {row.run.run_id}{f' {row.changes}' if with_changes else ''}: {row.reason}", file=sys.stderr)
    return 1 if failed else 0
