"""A grid of paired differences: one row for each pair of things that are compared, two columns for each metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.significance import Difference

NOTE = "Paired by seed; the paired t-test's p, corrected for all comparisons of this table (Holm). n: seeds that both have."


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
    found: Mapping[str, tuple[Difference, float]]

    @property
    def pairs(self) -> int:
        return max((difference.pairs for difference, _ in self.found.values()), default=0)


def compared_grid(title: str, names: Sequence[str], columns: Mapping[str, Column], rows: Sequence[Compared]) -> Grid:
    """Mean difference with its 95 % interval, and p; without both for a single pair.

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
    if found.pairs == 1:
        return Cell(f"{found.mean:+.{digits}f}"), Cell("")
    text = f"{found.mean:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
    return Cell(text), Cell("<0.001" if p < 0.001 else f"{p:.3f}")
