"""A grid of paired differences: one row for each pair of things that are compared, two columns for each metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.significance import Difference

NOTE = (
    "Paired by seed; n: seeds that both have. p: of the paired t-test, corrected for all tests of this table (Holm); the intervals are of "
    "one comparison, not corrected, so one can exclude 0 where p says chance."
)


@dataclass(frozen=True)
class Column:
    """A metric: its title with arrow and unit, and how many digits it is shown with."""

    title: str
    digits: int


@dataclass(frozen=True)
class Compared:
    """What is compared.

    Attributes:
        names: cells before the numbers, as many for each row.
        found: key of the metric -> (difference, corrected p); what is missing is left out.
    """

    names: tuple[str, ...]
    found: Mapping[str, tuple[Difference, float | None]]

    @property
    def pairs(self) -> int:
        return max((difference.pairs for difference, _ in self.found.values()), default=0)


def compared_grid(title: str, names: Sequence[str], columns: Mapping[str, Column], rows: Sequence[Compared]) -> Grid:
    """Mean difference with its 95 % interval, and p; without both where there was no test.

    Args:
        title: above it.
        names: of the first columns.
        columns: by key of the metric, in order.
        rows: what is compared.
    """
    header = (*names, "n", *(name for _ in columns for name in ("mean [95 % interval]", "p")))
    groups = (("", len(names) + 1), *((column.title, 2) for column in columns.values()))
    cells = tuple(
        (*map(Cell, row.names), Cell(str(row.pairs)), *(cell for key, column in columns.items() for cell in _pair(row, key, column.digits)))
        for row in rows
    )  # fmt: skip
    return Grid(title, header, len(names), cells, (NOTE,), groups)


def _pair(row: Compared, key: str, digits: int) -> tuple[Cell, Cell]:
    if key not in row.found:
        return Cell("missing"), Cell("")
    found, p = row.found[key]
    text = f"{found.mean:+.{digits}f}"
    if found.low is not None and found.high is not None:
        text += f" [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
    text += f" (n {found.pairs})" * (found.pairs != row.pairs)
    return Cell(text), Cell("" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}")
