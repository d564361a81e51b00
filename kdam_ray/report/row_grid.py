"""A table of the paper beside our runs, as a `formats.Grid` and as one JSON document."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from kdam_ray.paper import printed_deltas
from kdam_ray.report.difference_grid import Column, Compared, compared_grid
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.rows import Comparison, Measured, PaperTable
from kdam_ray.report.tables import ARROWS, DELTA, DIGITS, NOT_OUR_DATA, TITLES, column_title, ours

FAILED_SHOWN = 6
LABEL_METRICS = (
    "mIoU",
    "maxF",
)  # of pixels right and wrong: equal to the last digit where one answer is given everywhere
UNLEARNT = 3  # fewer networks that score alike may be chance


def grid(shown: PaperTable) -> Grid:
    """Ours (mean ± standard deviation over seeds), the paper's, and on the paper's own data the difference."""
    names = _names(shown)
    per_task = ("ours", "paper", "diff") if _same_data(shown) else ("ours", "paper")
    groups = [("", len(names) + 1), *((column_title(task), len(per_task)) for task in shown.tasks)]
    header = [*names, "n", *(name for _ in shown.tasks for name in per_task)]
    if shown.has_delta:
        groups.append(("Δ ↑ %", 3))
        header += ["ours", "printed", "recomputed"]
    if _has_cost(shown):
        groups += [("params M", 2), ("GMACs", 2)]
        header += ["ours", "paper"] * 2
    rows = tuple(_row(shown, row) for row in shown.rows)
    return Grid(_caption(shown), tuple(header), len(names), rows, tuple(notes(shown)), tuple(groups))


def _caption(shown: PaperTable) -> str:
    return f"Table {shown.table.number} on {shown.dataset}" + (
        " (smoke: the numbers mean nothing)" if shown.smoke else ""
    )


def _names(shown: PaperTable) -> list[str]:
    return [
        "model",
        "network",
        *(["pair"] if shown.table.number == "4" else ["epochs"] if shown.table.number == "7" else []),
    ]


def _name_cells(shown: PaperTable, row: Measured) -> list[Cell]:
    cells = [Cell(row.row.model + (f", {row.part}" if row.part else "")), Cell(row.network)]
    if shown.table.number == "4":
        cells.append(Cell(row.row.group))
    if shown.table.number == "7":
        cells.append(Cell(f"{row.epochs} (paper {row.row.fact('epochs')})"))
    return cells


def _same_data(shown: PaperTable) -> bool:
    return shown.dataset == shown.table.dataset


def _has_cost(shown: PaperTable) -> bool:
    return any(row.row.fact("params") is not None for row in shown.rows)


def _row(shown: PaperTable, row: Measured) -> tuple[Cell, ...]:
    cells = [*_name_cells(shown, row), Cell(str(len(row.seeds)))]
    for index, task in enumerate(shown.tasks):
        value = shown.number(row, task.metric_key)
        text = ours(value, DIGITS[task.unit], of=len(row.seeds))
        if value is None and task not in shown.tasks_of(row):
            text = "-"
        provisional = value is not None and (task.metric_key in row.provisional or bool(row.unfinished))
        cells.append(Cell(text, shown.is_best(row, task.metric_key), provisional))
        printed = row.row.printed.split()[index]
        cells.append(Cell(printed))
        if _same_data(shown):
            cells.append(Cell("" if value is None or value.diff is None else f"{value.diff:+.{DIGITS[task.unit]}f}"))
    cells += _delta_cells(shown, row) if shown.has_delta else []
    return (*cells, *(_cost_cells(row) if _has_cost(shown) else []))


def _delta_cells(shown: PaperTable, row: Measured) -> list[Cell]:
    value, recomputed = shown.number(row, DELTA), shown.printed(row, DELTA)
    wrong = any(not delta.follows for delta in printed_deltas([shown.table]) if delta.row is row.row)
    partial = value is not None and (len(shown.tasks_of(row)) < len(shown.tasks) or bool(row.unfinished))
    return [
        Cell(ours(value, 2, signed=True, of=len(row.seeds)), shown.is_best(row, DELTA), partial),
        Cell(row.row.printed_delta or "-", is_flagged=wrong),
        Cell("-" if recomputed is None else f"{recomputed + 0.0:.2f}"),
    ]


def _cost_cells(row: Measured) -> list[Cell]:
    params, macs = (None if value is None else value / scale for value, scale in ((row.params, 1e6), (row.macs, 1e9)))
    found = (params, row.row.fact("params"), macs, row.row.fact("gmacs"))
    return [Cell("-" if value is None else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}") for value in found]


def notes(shown: PaperTable) -> list[str]:
    """What the table may be read for."""
    said = [
        "Ours: mean ± standard deviation over n seeds. Bold (asterisks in text): best of its column among multi-task rows on one backbone."
    ]
    if not _same_data(shown):
        said.append(NOT_OUR_DATA.format(theirs=shown.table.dataset, ours=shown.dataset))
    if shown.stand_ins:
        instead = ", ".join(f"{ours} for {theirs}" for theirs, ours in shown.stand_ins.items())
        said.append(f"In the place of the paper's networks: {instead}.")
    if shown.has_delta:
        said.append(
            "Δ: mean signed change over the tasks against the single-task row of the same backbone, each seed against its means."
        )
    if any(not delta.follows for delta in printed_deltas([shown.table])):
        said.append("† at a printed Δ: it does not follow from the printed row, whatever the rounding of its digits.")
    if any(len(shown.tasks_of(row)) < len(shown.tasks) for row in shown.rows):
        said.append("† at a Δ of ours: over the tasks that the row has.")
    if any(row.provisional for row in shown.rows):
        said.append(
            "† at a metric: boundaries at 25 thresholds on at most 100 images, not the last epoch's full protocol."
        )
    said += _states(shown) + ([] if shown.smoke else _unlearnt(shown))
    if _has_cost(shown) and any(row.params is not None for row in shown.rows):
        said.append(
            "GMACs: of one image, ours of our data set's size, the paper's of 425x560; on HRNet18 with products inside attention."
        )
    if shown.cost is not None and shown.cost.runs:
        said.append(f"Cost of its runs, without the teachers that are in no row: {shown.cost.text()}.")
    return [*said, *_pairing(shown)]


def _states(shown: PaperTable) -> list[str]:
    """Which runs the table is without, and why."""
    said = []
    if missing := shown.missing:
        said.append(
            f"{len(missing)} of {len(shown.rows)} rows are missing: no run of theirs has finished with numbers."
        )
    going_on = [f"{_title(shown, row)} ({_seeds(row.unfinished)})" for row in shown.rows if row.unfinished]
    if going_on:
        said.append(
            f"† also: unfinished, at the last epoch that was evaluated, never bold and in no comparison: {'; '.join(going_on)}."
        )
    failed = [
        f"{_title(shown, row)} seed {seed} ({why})" for row in shown.rows for seed, why in sorted(row.failed.items())
    ]
    if failed:
        said.append(f"Failed, so without numbers: {'; '.join(failed[:FAILED_SHOWN])}{_more(failed, FAILED_SHOWN)}.")
    unseen = [f"{_title(shown, row)} ({_seeds(row.unseen)})" for row in shown.rows if row.unseen]
    if unseen:
        said.append(f"Finished, but not evaluated at that epoch (--evaluate-every): {'; '.join(unseen)}.")
    return said


def _unlearnt(shown: PaperTable) -> list[str]:
    """Columns of labels in which most networks score alike to the last digit, as they do that give one answer
    everywhere.
    """
    said = []
    for task in (task for task in shown.tasks if task.metric in LABEL_METRICS):
        key = task.metric_key
        values = {
            (*row.run_ids.get(seed, ()), row.epochs): found
            for row in shown.rows
            for seed, found in row.values(key).items()
        }
        for value, times in Counter(values.values()).most_common(1):
            if times >= UNLEARNT and 2 * times > len(values):
                score = f"{value:.{DIGITS[task.unit]}f} {task.unit}"
                said.append(f"{TITLES[task.name]}: {times} of {len(values)} networks have {score} to the last digit")
    return (
        [f"{'; '.join(said)}: they give one answer everywhere, have not learnt it, and nothing is to be compared."]
        if said
        else []
    )


def _more(items: Sequence[str], shown: int) -> str:
    return f"; and {len(items) - shown} more" if len(items) > shown else ""


def _seeds(seeds: Collection[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}"


def _title(shown: PaperTable, row: Measured) -> str:
    """A row in a sentence: its names, unlike any other's."""
    return " ".join(cell.text for cell in _name_cells(shown, row))


def _pairing(shown: PaperTable) -> list[str]:
    """Which rows could not be compared with their baselines."""
    shared = {
        _title(shown, row): len({*row.ended.seeds} & {*rival.ended.seeds})
        for row in shown.rows if (rival := shown.baseline(row)) is not None and row.ended.seeds and rival.ended.seeds
    }  # fmt: skip
    if shared and max(shared.values()) == 1 and all(len(row.seeds) <= 1 for row in shown.rows):
        return ["One seed: no interval and no test; differences between rows may be chance."]
    lacking = [f"{name} ({'one seed' if count else 'no seed'} shared)" for name, count in shared.items() if count < 2]
    return (
        [f"Not tested against their baselines, which needs two shared seeds: {'; '.join(lacking)}."] if lacking else []
    )


def comparison_grid(shown: PaperTable) -> Grid | None:
    """Every distilled row against its baseline, paired by seed; None: nothing to compare, or one seed only."""
    by_row: dict[int, list[Comparison]] = {}
    for item in shown.comparisons:
        by_row.setdefault(id(item.row), []).append(item)
    rows = [
        Compared(
            (f"{items[0].row.row.model} − {items[0].baseline.row.model}", _on(shown, items[0].row)),
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


def _on(shown: PaperTable, row: Measured) -> str:
    """What a comparison is of: the network that was trained, and in Table 4 who taught it."""
    return f"{row.network}, {row.row.group}" if shown.table.number == "4" else row.network


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
        "epochs": row.epochs, "params": row.params, "macs": row.macs,
        **{f"paper_{name}": value for name, value in row.row.facts}, "paper_epochs": row.row.fact("epochs"),
        "seeds": row.seeds, "unfinished": sorted(row.unfinished), "failed": dict(row.failed),
        "run_ids": {seed: list(ids) for seed, ids in row.run_ids.items()},
        "metrics": {task.metric_key: _json_number(shown, row, task.metric_key) for task in shown.tasks},
        "delta_mt": _json_number(shown, row, DELTA, with_paper=False) | {
            "paper_printed": None if printed_delta is None else float(printed_delta), "paper_recomputed": shown.printed(row, DELTA),
            "follows": None if delta is None else delta.follows,
        },
        "provisional": sorted({*row.provisional, *(shown.keys if row.unfinished else ())}),
    }  # fmt: skip


def _json_number(shown: PaperTable, row: Measured, key: str, *, with_paper: bool = True) -> dict[str, Any]:
    value = shown.number(row, key)
    found = (
        {"mean": None, "std": None, "n": 0} if value is None else {"mean": value.mean, "std": value.std, "n": value.n}
    )
    return found | (
        {"paper": shown.printed(row, key), "diff": value.diff if value and _same_data(shown) else None}
        if with_paper
        else {}
    )


def _json_comparison(item: Comparison) -> dict[str, Any]:
    found = item.difference
    return {
        "model": item.row.row.model, "against": item.baseline.row.model, "group": item.row.row.group, "backbone": item.row.network,
        "metric": item.key,
        "mean": found.mean, "low": found.low, "high": found.high, "p": found.p, "p_corrected": item.p_corrected, "pairs": found.pairs,
    }  # fmt: skip


def grids(shown: PaperTable) -> list[Grid]:
    """The table, and the comparisons where there are some."""
    compared = comparison_grid(shown)
    return [grid(shown)] + ([compared] if compared else [])
