"""Which plots and pictures belong to which table."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdam_ray import paper
from kdam_ray.config import Place, Run
from kdam_ray.report.beta_temp import FIXED_BETA, FIXED_TEMPERATURE, RULE, BetaTempTable
from kdam_ray.report.drawing import findings
from kdam_ray.report.drawing.cost_plane import Costed, PointKind, accuracy_against_cost
from kdam_ray.report.drawing.curves import Series, beta_temp_curves, epochs_curve, learning_curves
from kdam_ray.report.drawing.forest import differences, gain
from kdam_ray.report.drawing.plots import Plot
from kdam_ray.report.drawing.searches import importance, parallel_coordinates
from kdam_ray.report.drawing.sweep_report import Content
from kdam_ray.report.formats import Grid
from kdam_ray.report.gain import GainTable
from kdam_ray.report.gain import grids as gain_grids
from kdam_ray.report.learnt import unlearnt
from kdam_ray.report.row_grid import caption as caption_of
from kdam_ray.report.row_grid import grids
from kdam_ray.report.rows import PaperTable
from kdam_ray.report.tables import SeedRow, number
from kdam_ray.service.cost.estimate import Costs
from kdam_ray.service.deltas import LOOKED_AT, OBJECTIVE, scores
from kdam_ray.service.finished.constant import constant_scores
from kdam_ray.service.records import Storage, Tracking
from kdam_ray.service.result import RunResult, SweepResult
from kdam_ray.service.search.importance import importances, value_of
from kdam_ray.service.search.study import searched_params
from kdam_ray.titles import titled

MOST_CURVES = 24  # members whose learning curves are drawn
MOST_PICTURES = 6
MOST_BESIDE = 24  # further rows of which one image is shown
STAND_INS = "in the place of the paper's networks"


# ----------------------------------------------------------------------------------------------- Tables 1 to 4, 6, 7
def of_rows(shown: PaperTable, result: SweepResult, place: Place, extra: Sequence[Grid] = ()) -> Content:
    """Accuracy against cost (of Table 7 against epochs), what distillation changed, learning curves, pictures."""
    runs = {row.run.run_id: row for row in (*result.rows, *result.teachers) if row.status == "finished"}
    plots = [_epochs(shown)] if shown.table.varies_epochs else [_costs(shown, result, runs, place)]
    plots += [_gains(shown)] if shown.comparisons else []
    plots += [_curves(_labelled(shown, runs), shown.tasks, place)]
    plots += search_plots(result)
    pictured = _pictured(shown, runs)
    tables = with_heads(grids(shown), unlearnt(shown, _constant(result, place)))
    return Content(
        caption_of(shown), [*tables, *extra], plots, pictured, {STAND_INS: dict(shown.stand_ins)},
        _beside(_labelled(shown, runs).values(), pictured),
    )  # fmt: skip


def _name(shown: PaperTable, row: SeedRow) -> str:
    """A row's name, unlike any other's: with its network where the table has several."""
    parts = [row.label, *([row.network] if len({other.network for other in shown.rows}) > 1 else [])]
    parts += [f"by {row.printed.taught_by}"] if row.printed.taught_by else []
    parts += [f"{row.epochs} epochs"] if shown.table.varies_epochs else []
    return " ".join(parts) + (f" ({row.part})" if row.part else "")


def _costs(shown: PaperTable, result: SweepResult, runs: Mapping[str, RunResult], place: Place) -> Plot:
    costs = Costs(Storage(place.storage))
    points: dict[str, Costed] = {}
    for row in shown.rows:
        trained = [runs[run_id].run for run_id in row.first_runs if run_id in runs]
        if not trained or row.part:
            continue
        gmacs = sum(costs.network(run, run.student, run.decoder).all_macs for run in trained) / 1e9
        name, rival = _name(shown, row), shown.rival(row)
        values = {task.metric_key: shown.number(row, task.metric_key) for task in shown.tasks}
        points.setdefault(name, Costed(name, _kind(row.printed), gmacs, values, _name(shown, rival) if rival else ""))
    for teacher in (row for row in result.teachers if row.status == "finished" and len(row.run.tasks) > 1):
        own = scores(teacher.metrics)
        gmacs = costs.network(teacher.run, teacher.run.student, teacher.run.decoder).all_macs / 1e9
        values = {task.metric_key: number([own[task.metric_key]]) for task in shown.tasks if task.metric_key in own}
        if not any(point.kind == "teacher" and point.gmacs == gmacs for point in points.values()):
            name = f"teacher {teacher.run.student}"
            points[name] = Costed(name, "teacher", gmacs, values)
    caption = (
        "Each metric against the multiply-accumulates of one image, those inside attention too; "
        "bars: standard deviation."
    )
    drawn = list(points.values())
    title = findings.of_costs(drawn, shown.tasks)
    return Plot("accuracy_against_cost", accuracy_against_cost(drawn, shown.tasks), caption, title)


def _kind(row: paper.Row) -> PointKind:
    if row.is_teacher:
        return "teacher"
    if row.method:
        return "distilled"
    return "baseline" if row.model == "MT" else "system"


def _gains(shown: PaperTable) -> Plot:
    found: dict[str, dict[str, Any]] = {}
    for item in shown.comparisons:
        found.setdefault(f"{_name(shown, item.row)} − {item.rival.label}", {})[item.key] = item.difference
    caption = "Distilled rows minus their baselines, paired by seed, with 95 % intervals."
    return Plot("gain", gain(found, shown.tasks), caption, findings.of_comparisons(shown.comparisons, shown.tasks))


def _epochs(shown: PaperTable) -> Plot:
    series = []
    for part, label in (("", "a schedule of its own"), ("one run", "one long run, looked at on its way")):
        rows = [row for row in shown.rows if row.part == part]
        values = {
            task.metric_key: {float(row.epochs): shown.number(row, task.metric_key) for row in rows}
            for task in shown.tasks
        }
        series.append(Series(label, values))
    caption = "Table 7: each metric against the epochs trained."
    title = findings.of_epochs(series[0].values, shown.tasks)
    return Plot("epochs", epochs_curve(series, shown.tasks, dataset=shown.dataset), caption, title)


def _labelled(shown: PaperTable, runs: Mapping[str, RunResult]) -> dict[str, RunResult]:
    """The first seed of each row that learns several tasks."""
    rows = [row for row in shown.rows if not (row.printed.is_single_task or row.part)]
    first = {_name(shown, row): next(iter(row.first_runs), "") for row in rows}
    return {name: runs[run_id] for name, run_id in list(first.items())[:MOST_CURVES] if run_id in runs}


def _pictured(shown: PaperTable, runs: Mapping[str, RunResult]) -> list[Run]:
    """The first seed of the distilled rows, or of all where none is distilled; of Table 7 the longest."""
    labelled = _labelled(shown, runs)
    chosen = [row.run for name, row in labelled.items() if row.run.distill.method != "none"]
    if shown.table.varies_epochs:
        chosen = sorted(chosen, key=lambda run: run.epochs)[-1:]
    return (chosen or [row.run for row in labelled.values()])[:MOST_PICTURES]


# ------------------------------------------------------------------------------------------------------------- Table 5
def of_beta_temp(results: BetaTempTable, shown: Sequence[Grid], result: SweepResult, place: Place) -> Content:
    """Curves over beta and T, the search, learning curves of the cells; pictures of KDAM and of the point ahead."""
    rows = {row.run.run_id: row for row in result.rows if row.status == "finished"}
    caption = (
        f"Table 5: each metric against beta at T = {FIXED_TEMPERATURE:g} and against T at beta = {FIXED_BETA:g}. "
        f"Inside the band, {RULE} of the runs without distillation around their mean, a single run may be by chance: "
        "what lies outside it is marked † in the tables."
    )
    labelled: dict[str, RunResult] = {}
    for row in results.rows:
        twin, first = results.twin(row), next(iter(row.first_runs), "")
        if first in rows and (twin is None or twin.label not in labelled):
            labelled[row.label] = rows[first]
    plots = [Plot("beta_temp", beta_temp_curves(results), caption, findings.of_beta_temp(results))]
    plots += search_plots(result)
    plots.append(_curves(dict(list(labelled.items())[:MOST_CURVES]), results.tasks, place))
    pictured = [row.run for name, row in labelled.items() if name.startswith("KDAM")]
    point = result.best or result.ahead
    if point is not None and point.run not in pictured:
        pictured.append(point.run)
    tables = with_heads(shown, unlearnt(results, _constant(result, place)))
    return Content(
        results.caption(f"Table 5 on {results.dataset}"), tables, plots, pictured,
        {STAND_INS: dict(results.stand_ins)}, _beside(labelled.values(), pictured),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------- what is gained at all
def of_gain(study: GainTable, results: Sequence[SweepResult], place: Place) -> Content:
    """Every variant against its rival; learning curves and pictures of the first seed."""
    rows = [row for result in results for row in result.rows if row.status == "finished" and row.run.seed == 0]
    caption = "Each variant minus its rival, paired by seed, with 95 % intervals."
    title = findings.of_comparisons(study.comparisons, study.tasks)
    plots = [Plot("gain", gain(differences(study), study.tasks), caption, title)]
    bases = {row.run.run_id: result.sweep.base for result in results for row in result.rows}
    labelled = {titled(row.run, bases[row.run.run_id]): row for row in rows}
    plots.append(_curves(dict(list(labelled.items())[:MOST_CURVES]), study.tasks, place))
    pictured = [row.run for row in rows if row.run.distill.method != "none"][:MOST_PICTURES]
    recorded = {row.run.run_id: row.mlflow_run for result in results for row in (*result.rows, *result.teachers)}
    return Content(
        study.heading, gain_grids(study), plots, pictured, {}, _beside(labelled.values(), pictured), recorded
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- all
def with_heads(shown: Sequence[Grid], heads: Sequence[str]) -> list[Grid]:
    """The tables, with sentences at the head of the first."""
    return [replace(grid, heads=(*heads, *grid.heads)) if grid is shown[0] else grid for grid in shown]


def _constant(result: SweepResult, place: Place) -> dict[str, float]:
    """The scores of one answer everywhere; of images that cannot be read here nothing is known."""
    with contextlib.suppress(ValueError, OSError):
        return constant_scores(result.sweep.base, place)
    return {}


def _beside(rows: Iterable[RunResult], pictured: Sequence[Run]) -> list[Run]:
    """What else can be shown of rows, one image each."""
    shown = {run.run_id for run in pictured}
    return [row.run for row in rows if row.run.run_id not in shown][:MOST_BESIDE]


def search_plots(result: SweepResult) -> list[Plot]:
    """Parallel coordinates and importances, where something was searched."""
    trials = [
        {"params": params, "value": value if row.status == "finished" else None, "state": row.status}
        for row, value in ((row, row.metrics.get(OBJECTIVE)) for row in result.rows)
        if (params := searched_params(result.sweep, row.run)) is not None
    ]
    if not result.sweep.space or not trials:
        return []
    found = importances(trials)
    return [
        Plot(
            "search", parallel_coordinates(trials),
            "Every point of the searched space: the table's own cells and the drawn ones.",
            findings.of_search([value_of(trial) for trial in trials]),
        ),
        Plot(
            "importance", importance(trials, found=found), "What the objective hung on among those points.",
            findings.of_importance(found),
        ),
    ]  # fmt: skip


def _curves(rows: Mapping[str, RunResult], tasks: Sequence[Any], place: Place) -> Plot:
    """Learning curves of one run for each label."""
    tracking, histories = Tracking(place), {}
    looks = [f"val/{name}" for name in LOOKED_AT]
    for label, row in rows.items():
        wanted = [f"val/{task.metric_key}" for task in tasks] + looks + ["train/loss"]
        known = [name for name in wanted if name in row.metrics or name in looks]
        histories[label] = {name: sorted(tracking.history(row.mlflow_run, name).items()) for name in known}
    caption = (
        "Learning curves, the first seed of each row. Boundaries: a look at each epoch, the full score after the last."
    )
    return Plot("learning_curves", learning_curves(histories, tasks), caption, findings.of_histories(histories, tasks))
