"""A table of runs: numbers over seeds, the paper's beside them, Delta_mt from the rows, and what chance alone would do.

Pure functions of runs and their metrics; `beta_temp` says which runs make Table 5. Deltas are always recomputed: the
paper's printed ones often do not follow from its rows (`kdam_ray.paper`).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kdam_ray.config import Run
from kdam_ray.metrics import delta_mt
from kdam_ray.paper import TABLES
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.formats import as_text as as_text_table
from kdam_ray.service.deltas import full_names
from kdam_ray.tasks import DATASETS, Task

TITLES = {
    "semseg": "SemSeg",
    "human_parts": "PartSeg",
    "sal": "Sal",
    "depth": "Depth",
    "normals": "Normal",
    "edge": "Bound",
}
DIGITS = {"%": 2, "m": 4, "deg": 2}  # as the paper prints
ARROWS = {True: "↑", False: "↓"}
DELTA = "delta_mt"  # the Delta's key beside the metric keys
PAPER_DATA = TABLES["5a"].dataset
NOT_OUR_DATA = (
    "The paper's numbers are of {theirs}, ours of {ours}: they stand beside each other to be read, not to be compared."
)
RESOLVED = 2 * math.sqrt(
    2
)  # two runs that differ by chance alone differ by more standard deviations in about 5 % of cases


@dataclass(frozen=True)
class Scored:
    """A run and its last metrics.

    Attributes:
        run: the run.
        metrics: by `Task.metric_key`, in the paper's units.
        is_finished: otherwise they are of the last epoch that was evaluated.
    """

    run: Run
    metrics: Mapping[str, float]
    is_finished: bool = True

    @classmethod
    def of(cls, run: Run, recorded: Mapping[str, float], *, is_finished: bool = True) -> "Scored":
        """From metrics as MLflow has them ("val/semseg/mIoU"); of an unfinished run a look at boundaries counts as
        their metric.
        """
        metrics = {key.removeprefix("val/"): value for key, value in recorded.items() if key.startswith("val/")}
        return cls(run, metrics if is_finished else full_names(metrics), is_finished)


@dataclass(frozen=True)
class Number:
    """A mean over seeds, with the paper's number where it has one; std is None for a single seed."""

    mean: float
    std: float | None
    n: int
    paper: float | None = None

    @property
    def diff(self) -> float | None:
        return None if self.paper is None else self.mean - self.paper


@dataclass(frozen=True)
class Line:
    """One row.

    Attributes:
        label: how the row is called.
        part: the table it stands in: "5a", "5b", "teacher", "reference", "searched".
        facts: what makes it this row: {"beta": 0.1, "temperature": 3.0}.
        runs: its runs, one a seed; none: the row is missing.
        printed: the paper's row as printed, by `Task.metric_key`; empty: it has none.
    """

    label: str
    part: str
    facts: Mapping[str, Any]
    runs: tuple[Scored, ...]
    printed: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """None of its runs goes on."""
        return all(scored.is_finished for scored in self.runs)

    @property
    def name(self) -> str:
        """The label, and how many of its runs go on."""
        going_on = sum(not scored.is_finished for scored in self.runs)
        return f"{self.label} ({going_on} unfinished)" if going_on else self.label

    def number(self, key: str) -> Number | None:
        """Mean over the seeds of one metric; None: missing."""
        printed = self.printed.get(key)
        return number(
            [scored.metrics[key] for scored in self.runs if key in scored.metrics],
            None if printed is None else float(printed),
        )


def number(values: Sequence[float], paper: float | None = None) -> Number | None:
    """Mean and standard deviation (n - 1) of finite values; None if there are none."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return None
    return Number(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values), paper)


@dataclass(frozen=True)
class Reference:
    """What Deltas are measured against.

    Attributes:
        kind: single-task runs, or the mean of the runs without distillation where there are none.
        metrics: by `Task.metric_key`.
    """

    kind: Literal["single-task", "no KD"]
    metrics: Mapping[str, float]

    @property
    def zeros(self) -> list[str]:
        """Metrics whose reference is 0: no relative change exists."""
        return [key for key, value in self.metrics.items() if value == 0]

    @property
    def sentence(self) -> str:
        if self.zeros:
            return f"Delta does not exist: the reference's {', '.join(self.zeros)} is 0 ({self.kind} runs)."
        if self.kind == "single-task":
            return (
                "Delta: mean signed change over the tasks against the single-task runs, in percent; positive is better."
            )
        return (
            "Delta: mean signed change over the tasks in percent, positive is better; no single-task reference, "
            "so against the mean of the no-KD runs."
        )


def reference_of(
    no_kd: Sequence[Scored], single_task: Mapping[str, float] | None, tasks: Sequence[Task]
) -> Reference | None:
    """The single-task metrics if they are complete, else the mean of the no-KD runs, else None."""
    keys = [task.metric_key for task in tasks]
    if single_task is not None and all(math.isfinite(single_task.get(key, math.nan)) for key in keys):
        return Reference("single-task", {key: single_task[key] for key in keys})
    means = {key: number([scored.metrics[key] for scored in no_kd if key in scored.metrics]) for key in keys}
    found = {key: value.mean for key, value in means.items() if value is not None}
    return Reference("no KD", found) if len(found) == len(keys) else None


@dataclass(frozen=True)
class Resultset:
    """Lines with what is needed to read them.

    Attributes:
        table: the paper's number of the table.
        dataset: the dataset of ours.
        heading: which systems and data ours and the paper's numbers are of.
        tasks: columns.
        lines: rows, in printed order.
        titles: title of each part.
        reference: of the Deltas, or None.
        no_kd: the runs without distillation, whose spread says what one seed can resolve.
        failed: {"run_id", "name", "reason"} of the runs that failed.
        searched: searched runs that are known; the lines have the best of them.
        stand_ins: the paper's networks -> those that were trained in their place.
        smoke: the numbers mean nothing.
    """

    table: str
    dataset: str
    heading: str
    tasks: tuple[Task, ...]
    lines: tuple[Line, ...]
    titles: Mapping[str, str]
    reference: Reference | None
    no_kd: tuple[Scored, ...]
    failed: Sequence[Mapping[str, str]] = ()
    searched: int = 0
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    smoke: bool = False

    @property
    def same_data(self) -> bool:
        """Ours are of the paper's data: a difference means something."""
        return self.dataset == PAPER_DATA

    def delta(self, scored: Scored) -> float | None:
        """Delta_mt of one run, percent; None: it or the reference lacks a metric, or the reference is 0."""
        if (
            self.reference is None
            or self.reference.zeros
            or any(task.metric_key not in scored.metrics for task in self.tasks)
        ):
            return None
        return delta_mt(scored.metrics, self.reference.metrics, self.tasks)

    def line_delta(self, line: Line) -> Number | None:
        """Delta_mt of a line: mean over its seeds, each against the same reference."""
        deltas = [self.delta(scored) for scored in line.runs]
        return number([value for value in deltas if value is not None])

    def limits(self) -> dict[str, float]:
        """Per column (metric keys, and "delta_mt"), the difference that one seed can resolve: 2 sqrt(2) sd of the no-KD
        runs.

        A column in which they do not differ at all has none: that says nothing of chance.
        """
        spread = Line("no KD", "reference", {}, self.no_kd)
        numbers = {task.metric_key: spread.number(task.metric_key) for task in self.tasks} | {
            DELTA: self.line_delta(spread)
        }
        return {key: RESOLVED * value.std for key, value in numbers.items() if value is not None and value.std}

    def value(self, line: Line, key: str) -> Number | None:
        return self.line_delta(line) if key == DELTA else line.number(key)

    def is_resolved(self, line: Line, key: str) -> bool:
        """Whether the line is further from the no-KD mean than one seed's chance."""
        ours, limit = self.value(line, key), self.limits().get(key)
        plain = self.value(Line("no KD", "reference", {}, self.no_kd), key)
        return ours is not None and plain is not None and limit is not None and abs(ours.mean - plain.mean) > limit


# --------------------------------------------------------------------------------------------------------------- grids
def grids(results: Resultset) -> list[Grid]:
    """A grid for each part: ours, the paper's where it has numbers, Delta.

    Bold: best of its column; a dagger: resolved by one seed.
    """
    parts = list(dict.fromkeys(line.part for line in results.lines))
    return [_grid(results, part) for part in parts]


def as_text(results: Resultset) -> str:
    """All parts under each other."""
    return "\n\n".join([results.heading, *map(as_text_table, grids(results))])


def _grid(results: Resultset, part: str) -> Grid:
    lines = [line for line in results.lines if line.part == part]
    columns = ("ours", "paper") if any(line.printed for line in results.lines) else ("ours",)
    groups = [("", 2), *((column_title(task), len(columns)) for task in results.tasks), ("Δ ↑ %", 1)]
    header = ("", "n", *(name for _ in results.tasks for name in columns), "ours")
    rows = tuple(_grid_row(results, line, lines, len(columns) > 1) for line in lines)
    title = results.titles[part] + (" (smoke: the numbers mean nothing)" if results.smoke else "")
    return Grid(title, header, 1, rows, groups=tuple(groups))


def column_title(task: Task) -> str:
    """`SemSeg mIoU ↑ %`."""
    return f"{TITLES[task.name]} {task.metric} {ARROWS[task.higher_is_better]} {task.unit}"


def _grid_row(results: Resultset, line: Line, beside: Sequence[Line], with_paper: bool) -> tuple[Cell, ...]:
    cells = [Cell(line.name), Cell(str(len(line.runs)))]
    for task in results.tasks:
        cells.append(_cell(results, line, beside, task.metric_key, DIGITS[task.unit]))
        if with_paper:
            cells.append(Cell(line.printed.get(task.metric_key, "-")))
    return (*cells, _cell(results, line, beside, DELTA, 2))


def _cell(results: Resultset, line: Line, beside: Sequence[Line], key: str, digits: int) -> Cell:
    text = ours(results.value(line, key), digits, signed=key == DELTA, of=len(line.runs))
    return Cell(text, _is_best(results, line, beside, key), _is_marked(results, line, key))


def _is_best(results: Resultset, line: Line, beside: Sequence[Line], key: str) -> bool:
    """Of the cells and searched runs of its part that have ended; the rows to read them against are other things, and
    do not compete.
    """
    means = [value.mean for other in beside if other.has_ended and (value := results.value(other, key)) is not None]
    mine = results.value(line, key)
    if line.part == "reference" or not line.has_ended or mine is None or len(set(means)) < 2:
        return False
    higher = next((task.higher_is_better for task in results.tasks if task.metric_key == key), True)
    return mine.mean == (max(means) if higher else min(means))


def _is_marked(results: Resultset, line: Line, key: str) -> bool:
    """For what distillation did; the teacher is another network, the no-KD runs are what is compared with, the rest has
    ended.
    """
    distilled = line.facts.get("role") not in ("teacher", "no_kd") and line.has_ended
    return distilled and results.is_resolved(line, key)


def ours(value: Number | None, digits: int, *, signed: bool = False, of: int | None = None) -> str:
    """`11.72±0.07`; "missing" without a value, no spread of a single seed;

    `11.72 (n 1)` where that is not the row's n, `of`.
    """
    if value is None:
        return "missing"
    text = f"{value.mean:{'+z' if signed else 'z'}.{digits}f}" + (
        "" if value.std is None else f"±{value.std:.{digits}f}"
    )
    return text if of in (None, value.n) else f"{text} (n {value.n})"


def metric_lines(run: Run, recorded: Mapping[str, float]) -> list[str]:
    """One line per task of a single run, from metrics as MLflow has them."""
    scored = Scored.of(run, recorded)
    tasks = [DATASETS[run.dataset].task(name) for name in run.tasks]
    lines = []
    for task in tasks:
        if task.metric_key in scored.metrics:
            value = f"{scored.metrics[task.metric_key]:.{DIGITS[task.unit]}f} {task.unit}"
            lines.append(f"  {TITLES[task.name]:<8} {task.metric} {ARROWS[task.higher_is_better]} {value}")
    return lines


# ---------------------------------------------------------------------------------------------------------------- json
def as_json(results: Resultset) -> dict[str, Any]:
    """{"table", "dataset", "rows": [{"model", "seeds", "metrics": {"semseg/mIoU": {...}}, "delta_mt": {...}}], ...}."""
    return {
        "table": results.table,
        "dataset": results.dataset,
        "smoke": results.smoke,
        "stand_ins": dict(results.stand_ins),
        "heading": results.heading,
        "rows": [_json_row(results, line) for line in results.lines],
        "delta_reference": results.reference and results.reference.kind,
        "resolved_by_one_seed": results.limits(),
        "failed": [dict(row) for row in results.failed],
    }


def _json_row(results: Resultset, line: Line) -> dict[str, Any]:
    delta = results.line_delta(line)
    return {
        "part": line.part,
        "model": line.label,
        "backbone": line.runs[0].run.student if line.runs else None,
        **line.facts,
        "seeds": [scored.run.seed for scored in line.runs],
        "run_ids": [scored.run.run_id for scored in line.runs],
        "unfinished": [scored.run.run_id for scored in line.runs if not scored.is_finished],
        "metrics": {
            task.metric_key: _json_number(line.number(task.metric_key), same_data=results.same_data)
            for task in results.tasks
        },
        "delta_mt": delta and {"mean": delta.mean, "std": delta.std, "n": delta.n},
    }


def _json_number(value: Number | None, *, same_data: bool) -> dict[str, Any] | None:
    if value is None:
        return None
    return {
        "mean": value.mean,
        "std": value.std,
        "n": value.n,
        "paper": value.paper,
        "diff": value.diff if same_data else None,
    }
