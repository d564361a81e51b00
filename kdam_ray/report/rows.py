"""A table of the paper made of our runs: what its rows are measured against, who competes, what distillation changed.

Pure functions of what was measured; `recorded` finds it, `row_grid` shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdam_ray import paper
from kdam_ray.cells import baseline_of
from kdam_ray.report.tables import DELTA, RunTable, SeedRow
from kdam_ray.service.cost.totals import Spent
from kdam_ray.tasks import Task

NO_TABLE = paper.Table("", "", (), ())


@dataclass(frozen=True)
class PaperTable(RunTable):
    """A printed table and what was measured for it.

    Attributes:
        table: as printed.
        cost: what its runs have cost, wherever they were trained; None: not looked up.
    """

    table: paper.Table = NO_TABLE
    cost: Spent | None = None

    @classmethod
    def of(
        cls, table: paper.Table, dataset: str, rows: Sequence[SeedRow], stand_ins: Mapping[str, str], *,
        smoke: bool = False, cost: Spent | None = None,
    ) -> "PaperTable":  # fmt: skip
        """The columns are the paper's; the procedural data sets have the same."""
        return cls(table.tasks, tuple(rows), dataset, stand_ins, smoke, table.dataset, table, cost)

    @property
    def missing(self) -> tuple[SeedRow, ...]:
        """Rows of which no run has numbers."""
        return tuple(row for row in self.rows if not row.seeds)

    @property
    def measured(self) -> bool:
        """Some run of some row has numbers."""
        return len(self.missing) < len(self.rows)

    @property
    def has_delta(self) -> bool:
        """Whether it has single-task rows."""
        return any(row.printed.is_single_task for row in self.rows)

    def tasks_of(self, row: SeedRow) -> tuple[Task, ...]:
        """The tasks that a row's networks learn; of a row that does not say those that any of its seeds has, or all."""
        known = set(row.keys) or {key for metrics in row.by_seed.values() for key in metrics}
        return tuple(task for task in self.tasks if task.metric_key in known) or self.tasks

    def single_task(self, row: SeedRow) -> SeedRow:
        """The single-task row of its printed group; where the print names no backbone of ours, of its network."""
        alone = [other for other in self.rows if other.printed.is_single_task]
        of_group = (other for other in alone if other.printed.group == row.printed.group)
        return next(of_group, None) or next((other for other in alone if other.network == row.network), SeedRow("", {}))

    def reference(self, row: SeedRow) -> dict[str, float]:
        """Means of the finished seeds of the single-task row."""
        return self.means(self.single_task(row).ended)

    def printed(self, row: SeedRow, key: str) -> float | None:
        """What the paper's row says; of Delta what follows from it."""
        if key != DELTA:
            return super().printed(row, key)
        recomputed = paper.recomputed_delta(self.table, row.printed)
        return None if recomputed is None else recomputed[0]

    def peers(self, row: SeedRow) -> tuple[str, str]:
        """Rows on the same backbone."""
        return self.single_task(row).printed.group or row.printed.group, row.part

    def competes(self, row: SeedRow, key: str) -> bool:
        """Multi-task rows that have ended do; a Delta over few tasks never does."""
        return super().competes(row, key) and not row.printed.is_single_task and not self._is_over_few(row, key)

    def is_marked(self, row: SeedRow, key: str) -> bool:
        """Whether a row goes on, a metric is provisional or a Delta is over few tasks."""
        return bool(row.unfinished) or key in row.provisional or self._is_over_few(row, key)

    def _is_over_few(self, row: SeedRow, key: str) -> bool:
        return key == DELTA and len(self.tasks_of(row)) < len(self.tasks)

    def rival(self, row: SeedRow) -> SeedRow | None:
        """The row that a distilled one is compared with."""
        printed = baseline_of(self.table, row.printed)
        return next((other for other in self.rows if other.printed is printed and other.part == row.part), None)
