"""A table of runs as a `formats.Grid`: columns that say of each row what stands there, and its paired differences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.tables import ARROWS, DELTA, DIGITS, TITLES, Comparison, RunTable, SeedRow
from kdam_ray.tasks import Task

DELTA_TITLE = "Δ ↑ %"
COMPARED_NOTE = (
    "Paired by seed; n: seeds that both have. p: of the paired t-test, corrected for all tests of this table (Holm); "
    "the intervals are of one comparison, not corrected, so one can exclude 0 where p says chance."
)


@dataclass(frozen=True)
class Column:
    """A column of a grid.

    Attributes:
        group: title over it and its neighbours that have the same.
        name: its own.
        cell: of what a row shows.
    """

    group: str
    name: str
    cell: Callable[[Any], Cell]


def texts(names: Mapping[str, Callable[[Any], str]], group: str = "") -> list[Column]:
    """Columns of mere text, by name."""

    def column(name: str, text: Callable[[Any], str]) -> Column:
        return Column(group, name, lambda row: Cell(text(row)))

    return [column(name, text) for name, text in names.items()]


def grid_of(
    title: str, names: int, columns: Sequence[Column], rows: Sequence[Any], notes: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> Grid:  # fmt: skip
    """The grid; the first `names` columns hold names."""
    groups = tuple((group, len(list(same))) for group, same in groupby(column.group for column in columns))
    cells = tuple(tuple(column.cell(row) for column in columns) for row in rows)
    header = tuple(column.name for column in columns)
    found = tuple(_runs(row) for row in rows)
    return Grid(
        title, header, names, cells, tuple(notes), groups if len(groups) > 1 else (), tuple(heads),
        found if any(found) else (),
    )  # fmt: skip


def _runs(row: Any) -> tuple[str, ...]:
    """The run_ids behind a row of seeds, each once; none behind another."""
    ids = row.run_ids.values() if isinstance(row, SeedRow) else ()
    return tuple(dict.fromkeys(run_id for of_seed in ids for run_id in of_seed))


def column_title(task: Task) -> str:
    """`SemSeg mIoU ↑ %`."""
    return f"{TITLES[task.name]} {task.metric} {ARROWS[task.higher_is_better]} {task.unit}"


def short_titles(table: RunTable) -> dict[str, str]:
    """{"semseg/mIoU": "SemSeg ↑ %", ...}, Delta's too where the table has one."""
    titles = (f"{TITLES[task.name]} {ARROWS[task.higher_is_better]} {task.unit}" for task in table.tasks)
    return dict(zip(table.keys, (*titles, DELTA_TITLE), strict=False))


def digits_of(table: RunTable, key: str) -> int:
    """How many digits a column is shown with."""
    return next((DIGITS[task.unit] for task in table.tasks if task.metric_key == key), 2)


def counted(row: SeedRow) -> str:
    """How many seeds have numbers."""
    return str(len(row.seeds))


def ours(table: RunTable, key: str, group: str, name: str = "ours") -> Column:
    """Our number: "missing" without a value, "-" where the row does not learn that task."""

    def cell(row: SeedRow) -> Cell:
        value = table.number(row, key)
        if value is None:
            learnt = key == DELTA or key in {task.metric_key for task in table.tasks_of(row)}
            return Cell("missing" if learnt else "-")
        text = value.text(digits_of(table, key), signed=key == DELTA, of=len(row.seeds))
        return Cell(text, table.is_best(row, key), table.is_marked(row, key))

    return Column(group, name, cell)


def task_columns(table: RunTable, task: Task, *, with_paper: bool, with_diff: bool) -> list[Column]:
    """The columns of one task: ours, the paper's and the difference."""
    key = task.metric_key

    def printed(row: SeedRow) -> str:
        return table.as_printed(row).get(key, "-")

    def difference(row: SeedRow) -> str:
        value = table.difference(row, key)
        return "" if value is None else f"{value:+.{digits_of(table, key)}f}"

    beside = {"paper": printed} if with_paper else {}
    beside |= {"diff": difference} if with_diff else {}
    return [ours(table, key, column_title(task)), *texts(beside, column_title(task))]


# --------------------------------------------------------------------------------------------------------- differences
Compared = dict[str, Comparison]  # of one row, by column; what is missing is left out


def compared_grid(
    table: RunTable, title: str, names: Mapping[str, Callable[[Comparison], str]], *, fewest: int = 1
) -> Grid | None:
    """Mean difference with its 95 % interval, and p; without both where there was no test.

    Args:
        table: whose comparisons.
        title: above the grid.
        names: header -> text of the first columns.
        fewest: pairs that a row must have in some column.

    Returns:
        None where no row has them.
    """
    by_row: dict[int, Compared] = {}
    for item in table.comparisons:
        by_row.setdefault(id(item.row), {})[item.key] = item
    rows = [found for found in by_row.values() if _pairs(found) >= fewest]
    columns = texts({name: _of_any(text) for name, text in names.items()} | {"n": lambda found: str(_pairs(found))})
    for key, group in short_titles(table).items():
        columns += _difference_columns(key, group, digits_of(table, key))
    return grid_of(title, len(names), columns, rows, (COMPARED_NOTE,)) if rows else None


def _of_any(text: Callable[[Comparison], str]) -> Callable[[Compared], str]:
    return lambda found: text(next(iter(found.values())))


def _pairs(found: Compared) -> int:
    return max(item.difference.pairs for item in found.values())


def _difference_columns(key: str, group: str, digits: int) -> list[Column]:
    def interval(found: Compared) -> str:
        if key not in found:
            return "missing"
        difference = found[key].difference
        text = f"{difference.mean:+.{digits}f}"
        if difference.low is not None and difference.high is not None:
            text += f" [{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"
        return text + f" (n {difference.pairs})" * (difference.pairs != _pairs(found))

    def p(found: Compared) -> str:
        value = found[key].p_corrected if key in found else None
        return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"

    return texts({"mean [95 % interval]": interval, "p": p}, group)
