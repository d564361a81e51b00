"""Curves: Table 5 over beta and T, Table 7 over the epochs, and what a cohort learnt epoch by epoch.

The paper's points, which are of another data set, stand on axes of their own.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from kdam_ray import paper
from kdam_ray.report.beta_temp import FIXED_BETA, FIXED_TEMPERATURE, RULE, BetaTempTable
from kdam_ray.report.drawing.plots import (
    BLACK,
    BLUE,
    DASHES,
    VERMILLION,
    columns,
    draw_numbers,
    in_style,
    legend,
    log_axis,
    look,
    panels,
    say,
)  # fmt: skip
from kdam_ray.report.tables import DELTA, Number
from kdam_ray.tasks import Task

PRINTED = {"color": VERMILLION, "marker": "s", "markerfacecolor": "white", "linestyle": DASHES[2], "linewidth": 1.0}
RING: dict[str, Any] = {"color": BLACK, "markersize": 9, "markerfacecolor": "none", "markeredgewidth": 0.8, "zorder": 4}
PRINTED_ON = "paper, NYUD-v2 (own scale)"  # Tables 5 and 7

History = Mapping[str, Sequence[tuple[float, float]]]


# -------------------------------------------------------------------------------------------------------------- Table 5
VARIED = {
    "5a": ("beta", f"β  (T = {FIXED_TEMPERATURE:g}, α = 1)"),
    "5b": ("temperature", f"T  (β = {FIXED_BETA:g}, α = 1)"),
}


@in_style
def beta_temp_curves(results: BetaTempTable) -> Figure:
    """Table 5 as curves: beta above, T below, a column for each task and for the Delta.

    Ours with the spread over seeds where a cell has several; the mean of the runs without distillation as a line, the
    band in which one run may be by chance (`BetaTempTable.band`: what the tables do not mark); the paper's points on
    the right, on the same axis only if ours are of the paper's data set. A ring is around the one run that is in both.
    """
    labels = columns(results.tasks)
    figure = Figure(figsize=(2.3 * len(labels), 4.6), layout="constrained")
    grid = figure.subplots(len(VARIED), len(labels), squeeze=False, sharey="col")
    handles: dict[str, Any] = {}
    rights: dict[str, list[Axes]] = {key: [] for key in labels}
    for row, (part, (fact, x_label)) in zip(grid, VARIED.items(), strict=True):
        lines = {line.facts[fact]: line for line in results.rows if line.part == part and fact in line.facts}
        for axes, (key, label) in zip(row, labels.items(), strict=True):
            handles |= _band(axes, results.number(results.untaught, key), results.band(key))
            printed = {x: value for x, line in lines.items() if (value := results.printed(line, key)) is not None}
            found, used = _draw_printed(axes, printed, same_scale=results.dataset == paper.TABLE_5A.dataset)
            points = {x: results.number(line, key) for x, line in lines.items()}
            handles |= _cells(axes, points) | found
            handles |= _shared(axes, {x: points[x] for x, line in lines.items() if results.twin(line) is not None})
            rights[key] += [used] if used is not axes else []
            axes.set(xlabel=x_label, ylabel=label)
            log_axis(axes.xaxis, lines)
            axes.tick_params(axis="x", labelsize=7.5)
    for first, *others in filter(None, rights.values()):
        for other in others:
            other.sharey(first)
            first.relim()
            first.autoscale_view(scalex=False)
    legend(figure, handles)
    return figure


def _band(axes: Axes, value: Number | None, band: tuple[float, float] | None) -> dict[str, Any]:
    """The mean of the runs without distillation, and where one run may be by chance."""
    if value is None:
        return {}
    line = axes.axhline(value.mean, color=BLACK, linestyle=DASHES[1], linewidth=1.0, zorder=1)
    if band is None:
        return {"no KD, one seed" if value.n == 1 else f"no KD, {value.n} seeds alike": line}
    shade = axes.axhspan(*band, color=BLACK, alpha=0.13, linewidth=0, zorder=0)
    return {f"no KD, mean ± {RULE} of {value.n} seeds (outside: † in the tables)": (shade, line)}


def _shared(axes: Axes, points: Mapping[float, Number | None]) -> dict[str, Any]:
    """A ring around the run that stands in both rows of panels."""
    known = [(x, value.mean) for x, value in points.items() if value is not None]
    if not known:
        return {}
    (ring,) = axes.plot(*zip(*known, strict=True), marker="o", linestyle="none", **RING)
    return {f"β = {FIXED_BETA:g}, T = {FIXED_TEMPERATURE:g}: one run": ring}


def _cells(axes: Axes, points: Mapping[float, Number | None]) -> dict[str, Any]:
    line = draw_numbers(axes, points, color=BLUE, marker="o", linestyle="-", zorder=3)
    if line is None:
        say(axes, has_x=bool(points))
        return {}
    several = any(value is not None and value.std is not None for value in points.values())
    return {"ours, mean ± std over seeds" if several else "ours, one seed each": line}


# -------------------------------------------------------------------------------------------------------------- Table 7
@dataclass(frozen=True)
class Series:
    """A line of Table 7.

    Attributes:
        label: "a schedule of its own", "one long run, sampled".
        values: metric key (or "delta_mt") -> epochs -> number over seeds; None: missing.
    """

    label: str
    values: Mapping[str, Mapping[float, Number | None]]


@in_style
def epochs_curve(series: Sequence[Series], tasks: Sequence[Task], *, dataset: str) -> Figure:
    """Table 7: each metric against the epochs trained.

    Args:
        series: separate schedules, and one long run sampled on its way.
        tasks: the panels; a Delta is drawn where a series has one.
        dataset: of ours. The paper's points share axes with its own data set only; else they have an axis of epochs
            above and one of the metric on the right. With other tasks than the paper's they are left out.
    """
    table = paper.TABLE_7
    comparable = [task.name for task in tasks] == [task.name for task in table.tasks]
    labels = columns(tasks, delta=any(DELTA in one.values for one in series))
    figure, cells = panels(len(labels), wide=len(labels), size=(2.35, 2.9))
    handles: dict[str, Any] = {}
    for axes, (key, label) in zip(cells, labels.items(), strict=True):
        drawn = {
            one.label: draw_numbers(axes, one.values.get(key, {}), **look(index)) for index, one in enumerate(series)
        }
        handles |= {name: line for name, line in drawn.items() if line is not None}
        printed = {}
        if comparable and key != DELTA:
            printed = {row.fact("epochs"): table.metrics(row)[key] for row in table.rows}
        found, used = _draw_printed(axes, printed, same_scale=dataset == table.dataset, x_label="epochs, paper")
        handles |= found
        if used is not axes:
            _own_ticks(used, printed)
        if not any(drawn.values()):
            say(axes)
        axes.set(xlabel="epochs", ylabel=label)
        _own_ticks(axes, [epochs for one in series for epochs in one.values.get(key, {})])
    legend(figure, handles)
    return figure


# ----------------------------------------------------------------------------------------------------- learning curves
@in_style
def learning_curves(histories: Mapping[str, History], tasks: Sequence[Task], *, loss: str = "train/loss") -> Figure:
    """A panel for each task and one for the loss, a line for each member of a cohort; their names stand below.

    Args:
        histories: name of the member -> metric as MLflow has it ("val/semseg/mIoU", "train/loss") -> (epoch, value) in
            any order.
        tasks: the panels.
        loss: metric of the last panel, drawn on a logarithmic axis where it spans more than a factor of ten.
    """
    labels = {f"val/{key}": label for key, label in columns(tasks, delta=False).items()}
    labels[loss] = f"{loss.replace('/', ' ')} ↓"
    in_a_row = max(1, min(6, 110 // (max(map(len, histories), default=0) + 8)))  # names beside each other
    frame = (0, 0.17 * math.ceil(len(histories) / in_a_row) + 0.1)  # the names stand below
    figure, cells = panels(len(labels), wide=3, size=(2.5, 2.1), frame=frame)
    handles: dict[str, Any] = {}
    for axes, (metric, label) in zip(cells, labels.items(), strict=True):
        watched, words = _watched(metric, histories)
        axes.set(xlabel="epoch" + words, ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for index, (name, history) in enumerate(histories.items()):
            if (line := _member(axes, history.get(watched, ()), index)) is not None:
                handles.setdefault(name, line)
            if watched != metric:
                _member(axes, history.get(metric, ()), index, linestyle="none", markerfacecolor="white", markersize=5)
        points = [history.get(name, ()) for history in histories.values() for name in {metric, watched}]
        values = [value for _, value in itertools.chain(*points) if math.isfinite(value)]
        if not values:
            say(axes, "nothing recorded")
        elif metric == loss and min(values) > 0 and max(values) > 10 * min(values):
            log_axis(axes.yaxis, ())
    legend(figure, handles, columns=in_a_row, is_below=True, fontsize=7.5)
    return figure


def _watched(metric: str, histories: Mapping[str, History]) -> tuple[str, str]:
    """The metric to follow, and what to say of it.

    Boundaries are watched at fewer thresholds ("val/edge/odsF_25") until the last epoch.
    """
    found = sorted({name for history in histories.values() for name in history if name.startswith(f"{metric}_")})
    return (found[0], f"; {found[0].removeprefix(f'{metric}_')} thresholds, hollow: all") if found else (metric, "")


def _member(axes: Axes, points: Sequence[tuple[float, float]], index: int, **more: Any) -> Any:
    """A line; what is not finite is a gap, and markers keep a lonely epoch visible. None: it has no finite value."""
    known = sorted((epoch, value if math.isfinite(value) else math.nan) for epoch, value in points)
    if all(math.isnan(value) for _, value in known):
        return None
    style = look(index) | {"markersize": 3.0, "linewidth": 1.0, "markevery": max(1, len(known) // 8)} | more
    (line,) = axes.plot([epoch for epoch, _ in known], [value for _, value in known], **style)
    return line


def _own_ticks(axes: Axes, values: Iterable[float]) -> None:
    """The values themselves as ticks of the x axis, while they are few."""
    if 0 < len(found := sorted(set(values))) <= 7:
        axes.xaxis.set_major_locator(FixedLocator(found))


# ------------------------------------------------------------------------------------------------- the paper's points
def _draw_printed(
    axes: Axes, points: Mapping[float, float], *, same_scale: bool, x_label: str | None = None
) -> tuple[dict[str, Any], Axes]:
    """The paper's points; the legend's entry, and the axes they stand on: their own unless the scale is the same."""
    if not points:
        return {}, axes
    where, name = axes, "paper"
    if not same_scale:
        where = _own_axes(axes, PRINTED_ON, x_label=x_label)
        name = f"{PRINTED_ON}, axes {'above and ' if x_label else ''}on the right"
    known = sorted(points.items())
    (line,) = where.plot([x for x, _ in known], [y for _, y in known], zorder=2, **PRINTED)
    return {name: line}, where


def _own_axes(axes: Axes, label: str, *, x_label: str | None = None) -> Axes:
    """Axes over `axes` with a scale of their own on the right, and above if `x_label` says what that is.

    Both have the paper's colour.
    """
    own = axes.twinx()
    own.set_ylabel(label, color=VERMILLION, fontsize=8)
    sides = [(own, "right")]
    if x_label is not None:
        own = own.twiny()
        own.set_xlabel(x_label, color=VERMILLION, fontsize=8)
        sides.append((own, "top"))
    for coloured, side in sides:
        coloured.spines[side].set(visible=True, color=VERMILLION)
        coloured.tick_params(axis="y" if side == "right" else "x", colors=VERMILLION)
        coloured.grid(False)
    return own
