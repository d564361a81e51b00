"""A table of the paper beside our runs, as a `formats.Grid` and as one JSON document."""

from typing import Any

from kdam_ray.paper import printed_deltas
from kdam_ray.report.compared import Column, Compared, compared_grid
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.rows import Comparison, Measured, PaperTable
from kdam_ray.report.tables import ARROWS, DELTA, DIGITS, TITLES, column_title, ours

NOT_OUR_DATA = "The paper's numbers are of {theirs}, ours of {ours}: they stand beside each other to be read, not to be compared."


def grid(shown: PaperTable) -> Grid:
    """Ours (mean ± standard deviation over seeds), the paper's, and on the paper's own data the difference."""
    names = _names(shown)
    same_data = shown.dataset == shown.table.dataset
    per_task = ("ours", "paper", "diff") if same_data else ("ours", "paper")
    groups = [("", len(names) + 1), *((column_title(task), len(per_task)) for task in shown.tasks)]
    header = [*names, "n", *(name for _ in shown.tasks for name in per_task)]
    if shown.has_delta:
        groups.append(("Δ ↑ %", 3))
        header += ["ours", "printed", "recomputed"]
    rows = tuple(_row(shown, row, same_data) for row in shown.rows)
    return Grid(_caption(shown), tuple(header), len(names), rows, tuple(notes(shown)), tuple(groups))


def _caption(shown: PaperTable) -> str:
    return f"Table {shown.table.number} on {shown.dataset}" + (" (smoke: the numbers mean nothing)" if shown.smoke else "")


def _names(shown: PaperTable) -> list[str]:
    return ["model", "network", *(["pair"] if shown.table.number == "4" else ["epochs"] if shown.table.number == "7" else [])]


def _name_cells(shown: PaperTable, row: Measured) -> list[Cell]:
    cells = [Cell(row.row.model + (f", {row.part}" if row.part else "")), Cell(row.network)]
    if shown.table.number == "4":
        cells.append(Cell(row.row.group))
    if shown.table.number == "7":
        cells.append(Cell(f"{row.epochs} (paper {row.row.fact('epochs')})"))
    return cells


def _row(shown: PaperTable, row: Measured, same_data: bool) -> tuple[Cell, ...]:
    cells = [*_name_cells(shown, row), Cell(_count(row))]
    for index, task in enumerate(shown.tasks):
        value = shown.number(row, task.metric_key)
        text = ours(value, DIGITS[task.unit])
        if value is None and task not in shown.tasks_of(row):
            text = "-"
        cells.append(Cell(text, shown.is_best(row, task.metric_key), task.metric_key in row.provisional))
        printed = row.row.printed.split()[index]
        cells.append(Cell(printed))
        if same_data:
            cells.append(Cell("" if value is None or value.diff is None else f"{value.diff:+.{DIGITS[task.unit]}f}"))
    return (*cells, *_delta_cells(shown, row)) if shown.has_delta else tuple(cells)


def _delta_cells(shown: PaperTable, row: Measured) -> list[Cell]:
    value, recomputed = shown.number(row, DELTA), shown.printed(row, DELTA)
    text = ours(value, 2, signed=True) if value is not None or shown.reference(row) is not None else "missing"
    few = value is not None and len(shown.tasks_of(row)) < len(shown.tasks)
    wrong = any(not delta.follows for delta in printed_deltas([shown.table]) if delta.row is row.row)
    return [
        Cell(text, shown.is_best(row, DELTA), few),
        Cell(row.row.printed_delta or "-", is_flagged=wrong),
        Cell("-" if recomputed is None else f"{recomputed + 0.0:.2f}"),
    ]


def _count(row: Measured) -> str:
    return str(sum(bool(metrics) for metrics in row.by_seed.values()))


def notes(shown: PaperTable) -> list[str]:
    """What the table may be read for."""
    said = ["Ours: mean ± standard deviation over n seeds. Bold: the best of its column among multi-task rows on one backbone."]
    if shown.dataset != shown.table.dataset:
        said.append(NOT_OUR_DATA.format(theirs=shown.table.dataset, ours=shown.dataset))
    if shown.stand_ins:
        instead = ", ".join(f"{ours} for {theirs}" for theirs, ours in shown.stand_ins.items())
        said.append(f"In the place of the paper's networks: {instead}.")
    if shown.has_delta:
        said.append("Δ: mean signed change over the tasks against the single-task row of the same backbone, each seed against its means.")
    if any(not delta.follows for delta in printed_deltas([shown.table])):
        said.append("† at a printed Δ: it does not follow from the printed row, whatever the rounding of its digits.")
    if any(len(shown.tasks_of(row)) < len(shown.tasks) for row in shown.rows):
        said.append("† at a Δ of ours: over the tasks that the row has.")
    if any(row.provisional for row in shown.rows):
        why = "boundaries at 25 thresholds on at most 100 images, or an unfinished run"
        said.append(f"† at a metric: not a last epoch's full protocol: {why}.")
    if shown.cost is not None and shown.cost.runs:
        said.append(f"Cost of its runs, without the teachers that are in no row: {shown.cost.text()}.")
    if missing := shown.missing:
        said.append(f"{len(missing)} of {len(shown.rows)} rows are missing: no run of theirs has ended.")
    if all(item.difference.pairs == 1 for item in shown.comparisons) and shown.comparisons:
        said.append("One seed: no interval and no test; differences between rows may be chance.")
    return said


def comparison_grid(shown: PaperTable) -> Grid | None:
    """Every distilled row against its baseline, paired by seed; None: nothing to compare, or one seed only."""
    by_row: dict[int, list[Comparison]] = {}
    for item in shown.comparisons:
        by_row.setdefault(id(item.row), []).append(item)
    rows = [
        Compared(
            (f"{items[0].row.row.model} − {items[0].baseline.row.model}", items[0].row.row.group),
            {item.key: (item.difference, item.p_corrected) for item in items},
        )
        for items in by_row.values()
    ]
    if all(row.pairs <= 1 for row in rows):
        return None
    columns = {
        task.metric_key: Column(f"{TITLES[task.name]} {ARROWS[task.higher_is_better]} {task.unit}", DIGITS[task.unit])
        for task in shown.tasks
    }
    columns |= {DELTA: Column("Δ ↑ %", 2)} if shown.has_delta else {}
    title = f"What distillation changed in Table {shown.table.number}"
    return compared_grid(title, ("distilled − baseline", "on"), columns, [row for row in rows if row.pairs > 1])


def document(shown: PaperTable) -> dict[str, Any]:
    """The same for programs."""
    return {
        "table": shown.table.number,
        "dataset": shown.dataset,
        "smoke": shown.smoke,
        "stand_ins": dict(shown.stand_ins),
        "rows": [_json_row(shown, row) for row in shown.rows],
        "cost": shown.cost and shown.cost.as_json(),
        "comparisons": [_json_comparison(item) for item in shown.comparisons],
        "notes": notes(shown),
    }


def _json_row(shown: PaperTable, row: Measured) -> dict[str, Any]:
    delta = next((delta for delta in printed_deltas([shown.table]) if delta.row is row.row), None)
    printed_delta = row.row.printed_delta
    return {
        "model": row.row.model, "group": row.row.group, "part": row.part, "backbone": row.network,
        **dict(row.row.facts), "epochs": row.epochs, "paper_epochs": row.row.fact("epochs"),
        "seeds": sorted(row.by_seed), "run_ids": {seed: list(ids) for seed, ids in row.run_ids.items()},
        "metrics": {task.metric_key: _json_number(shown, row, task.metric_key) for task in shown.tasks},
        "delta_mt": _json_number(shown, row, DELTA, with_paper=False) | {
            "paper_printed": None if printed_delta is None else float(printed_delta), "paper_recomputed": shown.printed(row, DELTA),
            "follows": None if delta is None else delta.follows,
        },
        "provisional": sorted(row.provisional),
    }  # fmt: skip


def _json_number(shown: PaperTable, row: Measured, key: str, *, with_paper: bool = True) -> dict[str, Any]:
    value = shown.number(row, key)
    found = {"mean": None, "std": None, "n": 0} if value is None else {"mean": value.mean, "std": value.std, "n": value.n}
    return found | ({"paper": shown.printed(row, key), "diff": value and value.diff} if with_paper else {})


def _json_comparison(item: Comparison) -> dict[str, Any]:
    found = item.difference
    return {
        "model": item.row.row.model, "against": item.baseline.row.model, "group": item.row.row.group, "metric": item.key,
        "mean": found.mean, "low": found.low, "high": found.high, "p": found.p, "p_corrected": item.p_corrected, "pairs": found.pairs,
    }  # fmt: skip


def grids(shown: PaperTable) -> list[Grid]:
    """The table, and the comparisons where there are some."""
    compared = comparison_grid(shown)
    return [grid(shown)] + ([compared] if compared else [])
