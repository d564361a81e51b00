"""A table of the paper made of our runs: means over seeds, Delta_mt from the rows, and what distillation changed,
paired.

Pure functions of what was measured; `recorded` finds it, `row_grid` shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from kdam_ray import paper
from kdam_ray.cells import baseline_of
from kdam_ray.metrics import delta_mt
from kdam_ray.paper import SINGLE_TASK
from kdam_ray.report.significance import Difference, holm, paired
from kdam_ray.report.tables import DELTA, Number, number
from kdam_ray.service.cost.totals import Spent
from kdam_ray.tasks import Task


@dataclass(frozen=True)
class Measured:
    """One row.

    Attributes:
        row: as printed.
        part: "" or "one run": looked at within a longer run.
        network: backbone that was trained.
        epochs: after how many.
        by_seed: seed -> metrics by `Task.metric_key`; of a single-task row those of its networks together.
        run_ids: seed -> its runs.
        provisional: metric keys that are not what the last epoch's full protocol would give.
        unfinished: seeds of which some run goes on; what it has so far is in `by_seed`.
        failed: seed -> why a run of it failed; pruned and diverged ones give no numbers.
        unseen: seeds whose runs have finished without being evaluated after that epoch.
        keys: metric keys of the tasks that its networks learn; empty: those that any seed has.
        params: learnt numbers of its networks; None: not counted.
        macs: multiply-accumulates of one image, counted as the paper counts that row (`kdam_ray.report.costs`); None:
            not counted.
    """

    row: paper.Row
    part: str
    network: str
    epochs: int
    by_seed: Mapping[int, Mapping[str, float]]
    run_ids: Mapping[int, Sequence[str]]
    provisional: frozenset[str] = frozenset()
    unfinished: frozenset[int] = frozenset()
    failed: Mapping[int, str] = field(default_factory=dict)
    unseen: frozenset[int] = frozenset()
    keys: tuple[str, ...] = ()
    params: int | None = None
    macs: int | None = None

    @property
    def seeds(self) -> list[int]:
        """Those with numbers."""
        return sorted(seed for seed, metrics in self.by_seed.items() if metrics)

    @property
    def ended(self) -> "Measured":
        """The same without the seeds that go on."""
        return replace(
            self, by_seed={seed: metrics for seed, metrics in self.by_seed.items() if seed not in self.unfinished}
        )

    def values(self, key: str) -> dict[int, float]:
        """seed -> value of a metric, of the seeds that have it."""
        return {seed: metrics[key] for seed, metrics in self.by_seed.items() if key in metrics}


@dataclass(frozen=True)
class PaperTable:
    """A printed table and what was measured for it.

    Attributes:
        table: as printed.
        dataset: of ours.
        rows: in printed order.
        stand_ins: the paper's backbones -> ours, where they differ.
        smoke: the numbers mean nothing.
        cost: what its runs have cost, wherever they were trained; None: not looked up.
    """

    table: paper.Table
    dataset: str
    rows: tuple[Measured, ...]
    stand_ins: Mapping[str, str]
    smoke: bool = False
    cost: Spent | None = None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The columns; the procedural data sets have the paper's."""
        return self.table.tasks

    @property
    def missing(self) -> tuple[Measured, ...]:
        """Rows of which no run has numbers."""
        return tuple(row for row in self.rows if not any(row.by_seed.values()))

    @property
    def measured(self) -> bool:
        """Some run of some row has numbers."""
        return len(self.missing) < len(self.rows)

    def tasks_of(self, row: Measured) -> tuple[Task, ...]:
        """The tasks that a row's networks learn; of a row that does not say those that any of its seeds has, or all."""
        known = set(row.keys) or {key for metrics in row.by_seed.values() for key in metrics}
        return tuple(task for task in self.tasks if task.metric_key in known) or self.tasks

    def group(self, row: Measured) -> str:
        """The printed group; of a row whose backbone the print does not name, that of the single-task row on its
        network.
        """
        alone = [other for other in self.rows if other.row.model == SINGLE_TASK]
        if any(other.row.group == row.row.group for other in alone):
            return row.row.group
        return next((other.row.group for other in alone if other.network == row.network), row.row.group)

    def reference(self, row: Measured) -> dict[str, float] | None:
        """Means of the finished seeds of this row's group's single-task row;

        None: there is none, or it lacks a task of `row`.
        """
        alone = next(
            (
                other.ended
                for other in self.rows
                if other.row.model == SINGLE_TASK and other.row.group == self.group(row)
            ),
            None,
        )
        means = (
            {task.metric_key: number(list(alone.values(task.metric_key).values())) for task in self.tasks_of(row)}
            if alone
            else {}
        )
        known = {key: value.mean for key, value in means.items() if value is not None and value.mean != 0}
        return known if known and known.keys() == means.keys() else None

    def values(self, row: Measured, key: str) -> dict[int, float]:
        """seed -> value of a metric, or of Delta_mt in percent: each seed against the same single-task means."""
        if key != DELTA:
            return row.values(key)
        reference, tasks = self.reference(row), self.tasks_of(row)
        if reference is None:
            return {}
        return {
            seed: delta_mt(metrics, reference, tasks)
            for seed, metrics in row.by_seed.items()
            if metrics.keys() >= reference.keys()
        }

    def number(self, row: Measured, key: str) -> Number | None:
        """Mean over the seeds, beside the printed number (of Delta the one recomputed from the printed row)."""
        return number(list(self.values(row, key).values()), self.printed(row, key))

    def printed(self, row: Measured, key: str) -> float | None:
        """What the paper's row says; of Delta what follows from it."""
        if key != DELTA:
            return self.table.metrics(row.row).get(key)
        recomputed = paper.recomputed_delta(self.table, row.row)
        return None if recomputed is None else recomputed[0]

    @property
    def has_delta(self) -> bool:
        return any(row.row.model == SINGLE_TASK for row in self.rows)

    @property
    def keys(self) -> list[str]:
        """Metric keys in order, then Delta's where the table has single-task rows."""
        return [task.metric_key for task in self.tasks] + [DELTA] * self.has_delta

    def higher_is_better(self, key: str) -> bool:
        return next((task.higher_is_better for task in self.tasks if task.metric_key == key), True)

    def is_best(self, row: Measured, key: str) -> bool:
        """Whether its mean is the best of its column among the multi-task rows on the same backbone that have ended.

        A Delta over few tasks never is.
        """
        mine = self.number(row, key)
        if mine is None or not self._competes(row, key):
            return False
        rivals = [
            o for o in self.rows if (self.group(o), o.part) == (self.group(row), row.part) and self._competes(o, key)
        ]
        means = [value.mean for other in rivals if (value := self.number(other, key)) is not None]
        return len(set(means)) > 1 and mine.mean == (max(means) if self.higher_is_better(key) else min(means))

    def _competes(self, row: Measured, key: str) -> bool:
        return (
            row.row.model != SINGLE_TASK
            and not row.unfinished
            and (key != DELTA or len(self.tasks_of(row)) == len(self.tasks))
        )

    def baseline(self, row: Measured) -> Measured | None:
        """The row that a distilled one is compared with."""
        printed = baseline_of(self.table, row.row)
        return next((other for other in self.rows if other.row is printed and other.part == row.part), None)

    @cached_property
    def comparisons(self) -> tuple["Comparison", ...]:
        """Every distilled row against its baseline, over the finished seeds that both have."""
        found = []
        for row in self.rows:
            if (rival := self.baseline(row)) is not None:
                pairs = ((key, paired(self.values(row.ended, key), self.values(rival.ended, key))) for key in self.keys)
                found += [(row, rival, key, difference) for key, difference in pairs if difference is not None]
        corrected = holm([difference.p for *_, difference in found])
        return tuple(Comparison(*item, p) for item, p in zip(found, corrected, strict=True))


@dataclass(frozen=True)
class Comparison:
    """A distilled row against its baseline in one column;

    `p_corrected` for the number of all tests of the table (Holm).

    None where there was no test: fewer than two pairs.
    """

    row: Measured
    baseline: Measured
    key: str
    difference: Difference
    p_corrected: float | None
