"""A table of the paper beside our runs, as a `formats.Grid` and as one JSON document."""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from kdam_ray.paper import Delta, printed_deltas
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.rows import PaperTable
from kdam_ray.report.table_grid import (
    DELTA_TITLE,
    Column,
    compared_grid,
    counted,
    grid_of,
    ours,
    task_columns,
    texts,
)
from kdam_ray.report.tables import DELTA, DIGITS, TITLES, Comparison, Number, SeedRow

FAILED_SHOWN = 6
LABEL_METRICS = ("mIoU", "maxF")  # of pixels right and wrong: equal to the last digit where all answers are the same
UNLEARNT = 3  # fewer networks that score alike may be chance


def grid(shown: PaperTable) -> Grid:
    """Ours (mean ± standard deviation over seeds), the paper's, and on the paper's own data the difference."""
    names = _names(shown)
    columns = texts(names | {"n": counted})
    for task in shown.tasks:
        columns += task_columns(shown, task, with_paper=True, with_diff=shown.same_data)
    if shown.has_delta:
        columns += _delta_columns(shown)
    if _has_cost(shown):
        params = {"ours": lambda row: _cost(row.params, 1e6), "paper": lambda row: _cost(row.printed.fact("params"))}
        macs = {"ours": lambda row: _cost(row.macs, 1e9), "paper": lambda row: _cost(row.printed.fact("gmacs"))}
        columns += [*texts(params, "params M"), *texts(macs, "GMACs")]
    return grid_of(caption(shown), len(names), columns, shown.rows, notes(shown), _unlearnt(shown))


def caption(shown: PaperTable) -> str:
    """Which table, on which data."""
    return shown.caption(f"Table {shown.table.number} on {shown.dataset}")


def _names(shown: PaperTable) -> dict[str, Callable[[SeedRow], str]]:
    """Header -> what tells a row from the others."""
    names: dict[str, Callable[[SeedRow], str]] = {
        "model": lambda row: row.label + (f", {row.part}" if row.part else ""),
        "network": lambda row: row.network,
    }
    if shown.table.has_pairs:
        names["pair"] = lambda row: row.printed.group
    if shown.table.varies_epochs:
        names["epochs"] = lambda row: f"{row.epochs} (paper {row.printed.fact('epochs')})"
    return names


def _has_cost(shown: PaperTable) -> bool:
    return any(row.printed.fact("params") is not None for row in shown.rows)


def _delta_columns(shown: PaperTable) -> list[Column]:
    def printed(row: SeedRow) -> Cell:
        delta = _printed_delta(shown, row)
        return Cell(row.printed.printed_delta or "-", is_flagged=delta is not None and not delta.follows)

    def recomputed(row: SeedRow) -> str:
        value = shown.printed(row, DELTA)
        return "-" if value is None else f"{value + 0.0:.2f}"

    beside = (Column(DELTA_TITLE, "printed", printed), *texts({"recomputed": recomputed}, DELTA_TITLE))
    return [ours(shown, DELTA, DELTA_TITLE), *beside]


def _printed_delta(shown: PaperTable, row: SeedRow) -> Delta | None:
    return next((delta for delta in printed_deltas([shown.table]) if delta.row is row.printed), None)


def _cost(value: float | None, scale: float = 1.0) -> str:
    if value is None:
        return "-"
    return f"{value / scale:.2f}" if value / scale >= 0.1 else f"{value / scale:.2g}"


# --------------------------------------------------------------------------------------------------------------- notes
def notes(shown: PaperTable) -> list[str]:
    """What the table may be read for."""
    instead = ", ".join(f"{net} for {theirs}" for theirs, net in shown.stand_ins.items())
    said = (
        (True, "Ours: mean ± standard deviation over n seeds. Bold (asterisks in text): best of its column among "
               "multi-task rows on one backbone."),
        *((True, note) for note in shown.data_notes),
        (instead, f"In the place of the paper's networks: {instead}."),
        (shown.has_delta, "Δ: mean signed change over the tasks against the single-task row of the same backbone, each "
                          "seed against its means."),
        (any(not delta.follows for delta in printed_deltas([shown.table])),
         "† at a printed Δ: it does not follow from the printed row, whatever the rounding of its digits."),
        (any(len(shown.tasks_of(row)) < len(shown.tasks) for row in shown.rows),
         "† at a Δ of ours: over the tasks that the row has."),
        (any(row.provisional for row in shown.rows),
         "† at a metric: boundaries at 25 thresholds on at most 100 images, not the last epoch's full protocol."),
        *((True, note) for note in _states(shown)),
        (_has_cost(shown) and any(row.params is not None for row in shown.rows),
         "GMACs: of one image, ours of our data set's size, the paper's of 425x560; on HRNet18 with products inside "
         "attention."),
        (shown.cost is not None and shown.cost.runs,
         f"Cost of its runs, without the teachers that are in no row: {shown.cost and shown.cost.text()}."),
        *((True, note) for note in _pairing(shown)),
    )  # fmt: skip
    return [sentence for holds, sentence in said if holds]


def _states(shown: PaperTable) -> list[str]:
    """Which runs the table is without, and why."""
    rows = [(_title(shown, row), row) for row in shown.rows]
    missing = len(shown.missing)
    going_on = "; ".join(f"{name} ({_seeds(row.unfinished)})" for name, row in rows if row.unfinished)
    failed = [f"{name} seed {seed} ({why})" for name, row in rows for seed, why in sorted(row.failed.items())]
    more = f"; and {len(failed) - FAILED_SHOWN} more" if len(failed) > FAILED_SHOWN else ""
    unseen = "; ".join(f"{name} ({_seeds(row.unseen)})" for name, row in rows if row.unseen)
    said = (
        (missing, f"{missing} of {len(shown.rows)} rows are missing: no run of theirs has finished with numbers."),
        (going_on, "† also: unfinished, at the last epoch that was evaluated, never bold and in no comparison: "
                   f"{going_on}."),
        (failed, f"Failed, so without numbers: {'; '.join(failed[:FAILED_SHOWN])}{more}."),
        (unseen, f"Finished, but not evaluated at that epoch (--evaluate-every): {unseen}."),
    )  # fmt: skip
    return [sentence for holds, sentence in said if holds]


def _unlearnt(shown: PaperTable) -> list[str]:
    """Columns of labels in which most networks score alike to the last digit, as those do that give one answer.

    Nothing is said of numbers that mean nothing.
    """
    said = []
    for task in (task for task in shown.tasks if task.metric in LABEL_METRICS and not shown.smoke):
        values = {
            (*row.run_ids.get(seed, ()), row.epochs): found
            for row in shown.rows
            for seed, found in row.values(task.metric_key).items()
        }
        for value, times in Counter(values.values()).most_common(1):
            if times >= UNLEARNT and 2 * times > len(values):
                score = f"{value:.{DIGITS[task.unit]}f} {task.unit}"
                said.append(f"{TITLES[task.name]}: {times} of {len(values)} networks have {score} to the last digit")
    why = "they give one answer everywhere, have not learnt it, and nothing is to be compared."
    return [f"{'; '.join(said)}: {why}"] if said else []


def _seeds(seeds: Collection[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}"


def _title(shown: PaperTable, row: SeedRow) -> str:
    """A row in a sentence: its names, unlike any other's."""
    return " ".join(text(row) for text in _names(shown).values())


def _pairing(shown: PaperTable) -> list[str]:
    """Which rows could not be compared with their baselines."""
    shared = {
        _title(shown, row): len({*row.ended.seeds} & {*rival.ended.seeds})
        for row in shown.rows
        if (rival := shown.rival(row)) is not None and row.ended.seeds and rival.ended.seeds
    }
    if shared and max(shared.values()) == 1 and all(len(row.seeds) <= 1 for row in shown.rows):
        return ["One seed: no interval and no test; differences between rows may be chance."]
    lacking = [f"{name} ({'one seed' if count else 'no seed'} shared)" for name, count in shared.items() if count < 2]
    why = "Not tested against their baselines, which needs two shared seeds"
    return [f"{why}: {'; '.join(lacking)}."] if lacking else []


# -------------------------------------------------------------------------------------------------- all of it, and json
def grids(shown: PaperTable) -> list[Grid]:
    """The table, and the comparisons where there are some."""
    compared = comparison_grid(shown)
    return [grid(shown)] + ([compared] if compared else [])


def comparison_grid(shown: PaperTable) -> Grid | None:
    """Every distilled row against its baseline, paired by seed; None: nothing to compare, or one seed only."""
    pair = ", {}" if shown.table.has_pairs else ""  # who taught it
    names: dict[str, Callable[[Comparison], str]] = {
        "distilled − baseline": lambda item: f"{item.row.label} − {item.rival.label}",
        "on": lambda item: item.row.network + pair.format(item.row.printed.group),
    }
    return compared_grid(shown, f"What distillation changed in Table {shown.table.number}", names, fewest=2)


def document(shown: PaperTable) -> dict[str, Any]:
    """The table as a JSON document."""
    return {
        "table": shown.table.number,
        "dataset": shown.dataset,
        "smoke": shown.smoke,
        "stand_ins": dict(shown.stand_ins),
        "rows": [_json_row(shown, row) for row in shown.rows],
        "cost": shown.cost and shown.cost.as_json(),
        "comparisons": [
            {
                "model": item.row.label, "against": item.rival.label, "group": item.row.printed.group,
                "backbone": item.row.network, "metric": item.key, **item.as_json(),
            } for item in shown.comparisons
        ],
        "notes": [*_unlearnt(shown), *notes(shown)],
    }  # fmt: skip


def _json_row(shown: PaperTable, row: SeedRow) -> dict[str, Any]:
    delta, printed_delta = _printed_delta(shown, row), row.printed.printed_delta
    return {
        "model": row.label, "group": row.printed.group, "part": row.part, "backbone": row.network,
        "epochs": row.epochs, "params": row.params, "macs": row.macs,
        **{f"paper_{name}": value for name, value in row.printed.facts}, "paper_epochs": row.printed.fact("epochs"),
        "seeds": row.seeds, "unfinished": sorted(row.unfinished), "failed": dict(row.failed),
        "run_ids": {seed: list(ids) for seed, ids in row.run_ids.items()},
        "metrics": {
            task.metric_key: _json_number(shown.number(row, task.metric_key)) | {
                "paper": shown.printed(row, task.metric_key), "diff": shown.difference(row, task.metric_key),
            } for task in shown.tasks
        },
        "delta_mt": _json_number(shown.number(row, DELTA)) | {
            "paper_printed": None if printed_delta is None else float(printed_delta),
            "paper_recomputed": shown.printed(row, DELTA), "follows": delta and delta.follows,
        },
        "provisional": sorted({*row.provisional, *(shown.keys if row.unfinished else ())}),
    }  # fmt: skip


def _json_number(value: Number | None) -> dict[str, Any]:
    return {"mean": None, "std": None, "n": 0} if value is None else value.as_json()
