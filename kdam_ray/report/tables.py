"""The one model of a table of runs: rows of seeds, numbers with spread, Delta_mt, best of a column, pairs by seed.

Pure functions of runs and their metrics. `beta_temp` (Table 5), `rows` (the paper's other tables) and `gain` (the
study) fill it, `table_grid` shows it. Deltas are always recomputed: the paper's printed ones often do not follow from
its rows (`kdam_ray.paper`).
"""

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kdam_ray.config import Run
from kdam_ray.metrics import delta_mt
from kdam_ray.paper import Row
from kdam_ray.report.significance import Difference, holm, paired
from kdam_ray.report.titles import ARROWS, DIGITS, TITLES
from kdam_ray.service.deltas import scores
from kdam_ray.tasks import DATASETS, Task

DELTA = "delta_mt"  # the Delta's key beside the metric keys
NOT_PRINTED = Row("", "", "")  # stands beside a row that the paper does not have


@dataclass(frozen=True)
class Number:
    """A mean over seeds, with the paper's number where it has one; std is None for a single seed."""

    mean: float
    std: float | None
    n: int
    paper: float | None = None

    @property
    def diff(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.paper is None else self.mean - self.paper

    def text(self, digits: int, *, signed: bool = False, of: int | None = None) -> str:
        """`11.72±0.07`; no spread of a single seed; `11.72 (n 1)` where that is not the row's n, `of`."""
        spread = "" if self.std is None else f"±{self.std:.{digits}f}"
        text = f"{self.mean:{'+z' if signed else 'z'}.{digits}f}{spread}"
        return text if of in (None, self.n) else f"{text} (n {self.n})"

    def as_json(self) -> dict[str, Any]:
        """Mean, spread and count."""
        return {"mean": self.mean, "std": self.std, "n": self.n}


def number(values: Sequence[float], paper: float | None = None) -> Number | None:
    """Mean and standard deviation (n - 1) of finite values; None if there are none."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return None
    return Number(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values), paper)


@dataclass(frozen=True)
class SeedRow:
    """A row: what one way to train came to at each seed, and what stands beside it.

    Attributes:
        label: how the row is called.
        by_seed: seed -> metrics by `Task.metric_key`; of a single-task row those of its networks together.
        against: label of the row that it is compared with; "": none, or the table knows better.
        run_ids: seed -> its runs.
        part: of its table: "5a", "searched"; "one run": looked at within a longer run.
        network: backbone that was trained.
        epochs: after how many.
        facts: what makes it this row: {"beta": 0.1, "temperature": 3.0}.
        printed: the paper's row beside it.
        keys: metric keys of the tasks that its networks learn; empty: not said.
        provisional: metric keys that are not what the last epoch's full protocol would give.
        unfinished: seeds of which some run goes on; what it has so far is in `by_seed`.
        failed: seed -> why a run of it failed; pruned and diverged ones give no numbers.
        unseen: seeds whose runs have finished without being evaluated after that epoch.
        params: learnt numbers of its networks; None: not counted.
        macs: multiply-accumulates of one image, counted as the paper counts that row (`kdam_ray.report.costs`); None:
            not counted.
    """

    label: str
    by_seed: Mapping[int, Mapping[str, float]]
    against: str = ""
    run_ids: Mapping[int, Sequence[str]] = field(default_factory=dict)
    part: str = ""
    network: str = ""
    epochs: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    printed: Row = NOT_PRINTED
    keys: tuple[str, ...] = ()
    provisional: frozenset[str] = frozenset()
    unfinished: frozenset[int] = frozenset()
    failed: Mapping[int, str] = field(default_factory=dict)
    unseen: frozenset[int] = frozenset()
    params: int | None = None
    macs: int | None = None

    @property
    def seeds(self) -> list[int]:
        """Seeds that have numbers, ascending."""
        return sorted(seed for seed, metrics in self.by_seed.items() if metrics)

    @property
    def ended(self) -> "SeedRow":
        """This row without the seeds whose runs go on."""
        kept = {seed: metrics for seed, metrics in self.by_seed.items() if seed not in self.unfinished}
        return replace(self, by_seed=kept, unfinished=frozenset())

    @property
    def first_runs(self) -> Sequence[str]:
        """The run_ids of its first seed."""
        return next(iter(self.run_ids.values()), ())

    def values(self, key: str) -> dict[int, float]:
        """seed -> value of a metric, of the seeds that have it."""
        return {seed: metrics[key] for seed, metrics in self.by_seed.items() if key in metrics}


@dataclass(frozen=True)
class Comparison:
    """A row against its rival in one column, over the finished seeds that both have.

    Attributes:
        row: the row.
        rival: what it is compared with.
        key: of the column.
        difference: row minus rival; positive is larger, whatever is better.
        p_corrected: for the number of all tests of the table (Holm); None where there was no test: too few pairs.
    """

    row: SeedRow
    rival: SeedRow
    key: str
    difference: Difference
    p_corrected: float | None

    def as_json(self) -> dict[str, Any]:
        """The difference, its interval, its tests and how many pairs they have."""
        found = self.difference
        return {
            "mean": found.mean, "low": found.low, "high": found.high, "p": found.p, "p_corrected": self.p_corrected,
            "pairs": found.pairs,
        }  # fmt: skip


@dataclass(frozen=True)
class RunTable:
    """Rows with what is needed to read them; each kind of table says what its rows are measured against and beside.

    Attributes:
        tasks: the columns.
        rows: in printed order.
        dataset: of ours.
        stand_ins: the paper's backbones -> ours, where they differ.
        smoke: the numbers mean nothing.
        printed_on: data set of the paper's numbers beside ours; "": there are none.
    """

    tasks: tuple[Task, ...]
    rows: tuple[SeedRow, ...]
    dataset: str = ""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    smoke: bool = False
    printed_on: str = ""

    # what each kind of table says itself
    @property
    def has_delta(self) -> bool:
        """Whether it shows Deltas."""
        return True

    def reference(self, row: SeedRow) -> Mapping[str, float]:
        """What a row's Delta is measured against, by metric key; a metric that is not known is left out."""
        raise NotImplementedError

    def tasks_of(self, row: SeedRow) -> tuple[Task, ...]:
        """The tasks that a row's Delta is over."""
        return self.tasks

    def rival(self, row: SeedRow) -> SeedRow | None:
        """The row that another is compared with, seed by seed."""
        return next((other for other in self.rows if other.label == row.against), None)

    def peers(self, row: SeedRow) -> Hashable:
        """What the rows have in common among which the best of a column is looked for."""
        return row.part

    def competes(self, row: SeedRow, key: str) -> bool:
        """Whether it can be the best of a column: nothing that goes on can."""
        return not row.unfinished

    def is_marked(self, row: SeedRow, key: str) -> bool:
        """Whether a note explains this number of ours."""
        return False

    # what follows from it
    @property
    def keys(self) -> list[str]:
        """Metric keys in order, then Delta's where the table has one."""
        return [task.metric_key for task in self.tasks] + [DELTA] * self.has_delta

    @property
    def same_data(self) -> bool:
        """Ours are of the paper's data: a difference means something."""
        return self.dataset == self.printed_on

    @property
    def data_notes(self) -> list[str]:
        """The warning where the paper's numbers are of other data."""
        if self.same_data or not any(row.printed.printed for row in self.rows):
            return []
        return [
            f"The paper's numbers are of {self.printed_on}, ours of {self.dataset}: they stand beside each other to be "
            "read, not to be compared."
        ]

    def caption(self, title: str) -> str:
        """A title, with a warning where the numbers mean nothing."""
        return title + (" (smoke: the numbers mean nothing)" if self.smoke else "")

    def values(self, row: SeedRow, key: str) -> dict[int, float]:
        """seed -> value of a metric, or of Delta_mt in percent: each seed against the same reference.

        No Delta exists against 0, nor of a seed that lacks a task.
        """
        if key != DELTA:
            return row.values(key)
        tasks = self.tasks_of(row)
        needed = {task.metric_key for task in tasks}
        reference = {name: value for name, value in self.reference(row).items() if value != 0}
        if not needed <= reference.keys():
            return {}
        whole = {seed: metrics for seed, metrics in row.by_seed.items() if metrics.keys() >= needed}
        return {seed: delta_mt(metrics, reference, tasks) for seed, metrics in whole.items()}

    def number(self, row: SeedRow, key: str) -> Number | None:
        """Mean over the seeds, beside the printed number; None: missing."""
        return number(list(self.values(row, key).values()), self.printed(row, key))

    def difference(self, row: SeedRow, key: str) -> float | None:
        """Ours minus the paper's, on its own data only."""
        value = self.number(row, key)
        return value.diff if value is not None and self.same_data else None

    def means(self, row: SeedRow) -> dict[str, float]:
        """The mean over the seeds of each metric that any of them has."""
        numbers = {task.metric_key: number(list(row.values(task.metric_key).values())) for task in self.tasks}
        return {key: value.mean for key, value in numbers.items() if value is not None}

    def as_printed(self, row: SeedRow) -> dict[str, str]:
        """{"semseg/mIoU": "44.42", ...}: the paper's row with its digits, without what it leaves out."""
        printed = zip(self.tasks, row.printed.printed.split(), strict=False)
        return {task.metric_key: text for task, text in printed if text != "-"}

    def printed(self, row: SeedRow, key: str) -> float | None:
        """What the paper's row says."""
        text = self.as_printed(row).get(key)
        return None if text is None else float(text)

    def higher_is_better(self, key: str) -> bool:
        """The direction of a column."""
        return next((task.higher_is_better for task in self.tasks if task.metric_key == key), True)

    def foremost(self, rows: Sequence[SeedRow], key: str) -> tuple[SeedRow, ...]:
        """The rows with the best mean of a column among `rows`; none where all are equal."""
        means = [(row, value.mean) for row in rows if (value := self.number(row, key)) is not None]
        known = [mean for _, mean in means]
        if len(set(known)) < 2:
            return ()
        best = max(known) if self.higher_is_better(key) else min(known)
        return tuple(row for row, mean in means if mean == best)

    def best(self, peers: Hashable, key: str) -> tuple[SeedRow, ...]:
        """What is called best of a column, in bold and in words: the foremost among peers of those that compete."""
        beside = [row for row in self.rows if self.peers(row) == peers and self.competes(row, key)]
        return self.foremost(beside, key)

    def is_best(self, row: SeedRow, key: str) -> bool:
        """Whether it is called best of its column among its peers."""
        return any(one is row for one in self.best(self.peers(row), key))

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every row that has a rival against it, in each column."""
        pairs = [(row, rival) for row in self.rows if (rival := self.rival(row)) is not None]
        found = [
            (row, rival, key, difference)
            for row, rival in pairs
            for key in self.keys
            if (difference := paired(self.values(row.ended, key), self.values(rival.ended, key))) is not None
        ]
        corrected = holm([difference.p for *_, difference in found])
        return tuple(Comparison(*item, p) for item, p in zip(found, corrected, strict=True))


def metric_lines(run: Run, recorded: Mapping[str, float]) -> list[str]:
    """One line per task of a single run, from metrics as MLflow has them."""
    metrics, lines = scores(recorded), []
    for task in (DATASETS[run.dataset].task(name) for name in run.tasks):
        if task.metric_key in metrics:
            value = f"{metrics[task.metric_key]:.{DIGITS[task.unit]}f} {task.unit}"
            lines.append(f"  {TITLES[task.name]:<8} {task.metric} {ARROWS[task.higher_is_better]} {value}")
    return lines
