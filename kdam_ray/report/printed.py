"""The paper's own tables, with every Delta recomputed from its row and those flagged that do not follow from it."""

from collections.abc import Sequence
from typing import Any

from kdam_ray.paper import Delta, Row, Table, printed_deltas, recomputed_delta
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.tables import ARROWS, TITLES
from kdam_ray.tasks import Task

FACTS = {
    "params": "params M",
    "gmacs": "GMACs",
    "teacher": "teacher",
    "beta": "beta",
    "temperature": "T",
    "epochs": "epochs",
}


def grid(table: Table) -> Grid:
    """One printed table; no best of a column is marked, for the print mixes groups."""
    facts = [name for name in FACTS if any(row.fact(name) is not None for row in table.rows)]
    deltas = {id(delta.row): delta for delta in printed_deltas([table])}
    has_delta = any(row.printed_delta is not None for row in table.rows)
    names = ("model", "group", *(FACTS[name] for name in facts))
    header = (*names, *map(column, table.tasks), *(("Δ ↑", "Δ recomputed") if has_delta else ()))
    rows = tuple(
        (Cell(row.model), Cell(row.group), *(_fact(name, row) for name in facts), *map(Cell, row.printed.split()),
         *(_deltas(table, row, deltas.get(id(row))) if has_delta else ()))
        for row in table.rows
    )  # fmt: skip
    wrong = sum(not delta.follows for delta in deltas.values())
    note = (
        f"† {wrong} of {len(deltas)} printed Deltas do not follow from their rows, "
        "whatever the rounding of the printed digits."
    )
    return Grid(f"Table {table.number} as printed ({table.dataset})", header, 2, rows, (note,) if wrong else ())


def column(task: Task) -> str:
    """`SemSeg mIoU ↑`."""
    return f"{TITLES[task.name]} {task.metric} {ARROWS[task.higher_is_better]}"


def _fact(name: str, row: Row) -> Cell:
    value = row.fact(name)
    if value is None:
        return Cell("")
    digits = ".2f" if name in ("params", "gmacs") else "g" if isinstance(value, float) else ""
    return Cell(format(value, digits))


def _deltas(table: Table, row: Row, delta: Delta | None) -> tuple[Cell, Cell]:
    computed = recomputed_delta(table, row)
    return (
        Cell(row.printed_delta or "", is_flagged=delta is not None and not delta.follows),
        Cell("" if computed is None else f"{computed[0] + 0.0:.2f}"),
    )


def document(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """The printed tables with their recomputed Deltas, for programs."""
    return [
        {"table": table.number, "dataset": table.dataset, "rows": [_row(table, row) for row in table.rows]}
        for table in tables
    ]


def _row(table: Table, row: Row) -> dict[str, Any]:
    computed = recomputed_delta(table, row)
    delta = next((delta for delta in printed_deltas([table]) if delta.row is row), None)
    return {
        "model": row.model, "group": row.group, **dict(row.facts), "metrics": table.metrics(row),
        "delta_mt": {
            "paper_printed": None if row.printed_delta is None else float(row.printed_delta),
            "paper_recomputed": None if computed is None or row.is_single_task else computed[0],
            "follows": None if delta is None else delta.follows,
        },
    }  # fmt: skip
