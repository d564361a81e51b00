"""Plots of runs: over epochs (Table 7, learning curves), what a search tried and what mattered, what distillation
gains.

In the look of `report.plots`. A trial is a mapping {"params": {"distill.beta": 0.3, ...}, "value": 1.2 or None,
"state": "finished", "pruned" or "failed"}, whatever study it comes from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kdam_ray import paper
from kdam_ray.report.drawing.plots import (
    BLUE,
    columns,
    draw_numbers,
    draw_printed,
    in_style,
    legend,
    log_axis,
    look,
    own_ticks,
    round_ticks,
    say,
)
from kdam_ray.report.gain import GainTable
from kdam_ray.report.significance import Difference
from kdam_ray.report.tables import DELTA, Number
from kdam_ray.service.search.importance import CHANCE, LOGARITHMIC, Trial, importances, value_of
from kdam_ray.tasks import Task

COLOURS = "cividis"  # grows steadily in brightness: readable in grey and by the colour-blind
OBJECTIVE = "Delta against the teacher (%) ↑"
PALE = "#c4c4c4"
ORDER = {"finished": 0, "pruned": 1, "failed": 2}

History = Mapping[str, Sequence[tuple[float, float]]]


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
    figure = Figure(figsize=(2.35 * max(1, len(labels)), 2.9), layout="constrained")
    handles: dict[str, Any] = {}
    for axes, (key, label) in zip(
        figure.subplots(1, max(1, len(labels)), squeeze=False)[0], labels.items(), strict=False
    ):
        drawn = {
            one.label: draw_numbers(axes, one.values.get(key, {}), **look(index)) for index, one in enumerate(series)
        }
        handles |= {name: line for name, line in drawn.items() if line is not None}
        printed = (
            {row.fact("epochs"): table.metrics(row)[key] for row in table.rows} if comparable and key != DELTA else {}
        )
        found, used = draw_printed(axes, printed, same_scale=dataset == table.dataset, x_label="epochs, paper")
        handles |= found
        if used is not axes:
            own_ticks(used, printed)
        if not any(drawn.values()):
            say(axes)
        axes.set(xlabel="epochs", ylabel=label)
        own_ticks(axes, [epochs for one in series for epochs in one.values.get(key, {})])
    legend(figure, handles)
    return figure


# ----------------------------------------------------------------------------------------------------- learning curves
@in_style
def learning_curves(histories: Mapping[str, History], tasks: Sequence[Task], *, loss: str = "train/loss") -> Figure:
    """One panel for each task and one for the loss, a line for each member of a cohort; their names stand below all
    panels.

    Args:
        histories: name of the member -> metric as MLflow has it ("val/semseg/mIoU", "train/loss") -> (epoch, value) in
            any order.
        tasks: the panels.
        loss: metric of the last panel, drawn on a logarithmic axis where it spans more than a factor of ten.
    """
    panels = {f"val/{key}": label for key, label in columns(tasks, delta=False).items()} | {
        loss: f"{loss.replace('/', ' ')} ↓"
    }
    wide = min(3, len(panels))
    rows, below = math.ceil(len(panels) / wide), math.ceil(len(histories) / _in_a_row(histories))
    figure = Figure(figsize=(2.5 * wide, 2.1 * rows + 0.17 * below + 0.1), layout="constrained")
    cells = list(figure.subplots(rows, wide, squeeze=False, sharex=False).flat)
    handles: dict[str, Any] = {}
    for axes, (metric, label) in zip(cells, panels.items(), strict=False):
        watched, words = _watched(metric, histories)
        axes.set(xlabel="epoch" + words, ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for index, (name, history) in enumerate(histories.items()):
            if (line := _member(axes, history.get(watched, ()), index)) is not None:
                handles.setdefault(name, line)
            if watched != metric:
                _member(axes, history.get(metric, ()), index, linestyle="none", markerfacecolor="white", markersize=5)
        points = [
            point for history in histories.values() for name in {metric, watched} for point in history.get(name, ())
        ]
        values = [value for _, value in points if math.isfinite(value)]
        if not values:
            say(axes, "nothing recorded")
        elif metric == loss and min(values) > 0 and max(values) > 10 * min(values):
            log_axis(axes.yaxis, ())
    for axes in cells[len(panels) :]:
        axes.set_axis_off()
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=_in_a_row(histories), fontsize=7.5
        )
    return figure


def _in_a_row(histories: Mapping[str, Any]) -> int:
    """How many names fit beside each other below the panels."""
    return max(1, min(6, 110 // (max(map(len, histories), default=0) + 8)))


def _watched(metric: str, histories: Mapping[str, History]) -> tuple[str, str]:
    """The metric to follow: boundaries are watched at fewer thresholds ("val/edge/odsF_25") until the last epoch; and
    what to say.
    """
    found = {name for history in histories.values() for name in history if name.startswith(f"{metric}_")}
    return next(
        ((name, f"; {name.removeprefix(f'{metric}_')} thresholds, hollow: all") for name in sorted(found)), (metric, "")
    )


def _member(axes: Axes, points: Sequence[tuple[float, float]], index: int, **more: Any) -> Any:
    """A line; what is not finite is a gap, and markers keep a lonely epoch visible. None: it has no finite value."""
    known = sorted((epoch, value if math.isfinite(value) else math.nan) for epoch, value in points)
    if all(math.isnan(value) for _, value in known):
        return None
    style = look(index) | {"markersize": 3.0, "linewidth": 1.0, "markevery": max(1, len(known) // 8)} | more
    (line,) = axes.plot([epoch for epoch, _ in known], [value for _, value in known], **style)
    return line


# -------------------------------------------------------------------------------------------------------- what was
# tried
@dataclass(frozen=True)
class Scale:
    """A parameter's own vertical axis.

    Attributes:
        name: below it.
        ticks: (height from 0 to 1, text).
        heights: of each trial; NaN: it has no such value.
    """

    name: str
    ticks: tuple[tuple[float, str], ...]
    heights: tuple[float, ...]


@in_style
def parallel_coordinates(trials: Sequence[Trial], *, objective: str = OBJECTIVE) -> Figure:
    """What a search tried: an axis for each parameter and one for the objective, a line for each trial.

    Finished trials are coloured by the objective, the best on top; pruned ones are pale and dashed, failed ones pale
    and dotted, and neither reaches the objective. beta, T, alpha and learning rates are logarithmic.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial["params"]))
    values = [value_of(trial) for trial in trials]
    differ = len({value for value in values if value is not None}) > 1
    scales = [_scale(name, [trial["params"].get(name) for trial in trials]) for name in names]
    scales.append(_scale("objective" if differ else objective, values))
    figure = Figure(figsize=(max(4.5, 1.5 * len(scales) + 1), 3.1), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.45, len(scales) - 0.6), ylim=(-0.04, 1.04), yticks=[], xticks=range(len(scales)))
    axes.set_xticklabels([scale.name for scale in scales])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.grid(False)
    if not trials:
        say(axes, "no trial")
        return figure
    axes.vlines(range(len(scales)), 0, 1, color="black", linewidth=0.8, zorder=4)
    for place, scale in enumerate(scales):
        for height, text in scale.ticks:
            axes.annotate(text, (place, height), (-4, 0), textcoords="offset points", ha="right", va="center", fontsize=7.5, zorder=5,
                          bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.6, "linewidth": 0})  # fmt: skip
    colours = _colours(values)
    for index in sorted(range(len(trials)), key=lambda i: (values[i] is not None, values[i] or 0.0)):
        axes.plot(
            range(len(scales)),
            [scale.heights[index] for scale in scales],
            **_trial_look(trials[index], values[index], colours),
        )
    if differ:
        figure.colorbar(colours, ax=axes, label=objective, pad=0.02, aspect=30)
    legend(figure, _counts(trials, values, colours))
    return figure


def _colours(values: Sequence[float | None]) -> ScalarMappable:
    known = [value for value in values if value is not None] or [0.0]
    low, high = min(known), max(known)
    return ScalarMappable(Normalize(low, high if high > low else low + 1e-6 + abs(low) * 1e-6), COLOURS)


def _trial_look(trial: Trial, value: float | None, colours: ScalarMappable) -> dict[str, Any]:
    if value is not None:
        return {
            "color": tuple(colours.to_rgba(np.array([value]))[0]),
            "linewidth": 1.5,
            "marker": "o",
            "markersize": 3,
            "zorder": 3,
        }
    dash = "--" if trial.get("state") == "pruned" else ":"
    return {"color": PALE, "linewidth": 0.9, "linestyle": dash, "marker": "o", "markersize": 2.5, "zorder": 2}


def _counts(trials: Sequence[Trial], values: Sequence[float | None], colours: ScalarMappable) -> dict[str, Line2D]:
    """How many trials ended how, with the look of their lines."""
    kinds: dict[str, list[Trial]] = {}
    for trial, value in zip(trials, values, strict=True):
        kinds.setdefault("finished" if value is not None else str(trial.get("state") or "open"), []).append(trial)
    middle = sum(colours.get_clim()) / 2  # type: ignore[arg-type]
    return {
        f"{len(found)} {kind}": Line2D([], [], **_trial_look(found[0], middle if kind == "finished" else None, colours))
        for kind, found in sorted(kinds.items(), key=lambda item: ORDER.get(item[0], len(ORDER)))
    }


def _scale(name: str, values: Sequence[Any]) -> Scale:
    """Heights and ticks of one axis: logarithmic, linear, or one step for each word."""
    short = name.removeprefix("distill.")
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) < sum(v is not None and v == v for v in values):  # words, or both
        words = sorted({str(value) for value in values if value is not None})
        place = {word: (index + 0.5) / len(words) for index, word in enumerate(words)}
        return Scale(
            short, tuple((place[w], w) for w in words), tuple(math.nan if v is None else place[str(v)] for v in values)
        )
    if not numbers:
        return Scale(short, (), (math.nan,) * len(values))
    low, high = min(numbers), max(numbers)
    if low == high:
        return Scale(short, ((0.5, f"{low:.4g}"),), tuple(math.nan if v is None or v != v else 0.5 for v in values))
    logarithmic = name.rpartition(".")[2] in LOGARITHMIC and low > 0
    place_of = math.log if logarithmic else float

    def height(value: float) -> float:
        return (place_of(value) - place_of(low)) / (place_of(high) - place_of(low))

    known = [float(v) if v is not None and math.isfinite(v) else None for v in values]
    label = f"{short} (log)" if logarithmic else short
    ticks = tuple(
        (height(tick), f"{tick:g}".replace("-", "−")) for tick in round_ticks(low, high, logarithmic=logarithmic)
    )
    return Scale(label, ticks, tuple(math.nan if v is None else height(v) for v in known))


# ------------------------------------------------------------------------------------------------------- what mattered


@in_style
def importance(trials: Sequence[Trial], *, objective: str = OBJECTIVE) -> Figure:
    """Bars of `importances`, with what chance alone reaches; too few trials are said in words."""
    found = importances(trials)
    figure = Figure(figsize=(4.8, 0.36 * max(2, len(found.shares)) + 1.1), layout="constrained")
    axes = figure.subplots()
    if found.excuse:
        say(axes, found.excuse)
        axes.set_axis_off()
        return figure
    names = list(found.shares)
    bars = axes.barh(range(len(names)), list(found.shares.values()), height=0.55, color=BLUE, alpha=0.85)
    (mark,) = axes.plot(
        [found.by_chance[name] for name in names],
        range(len(names)),
        "|",
        color="black",
        markersize=15,
        markeredgewidth=1.6,
    )
    axes.set(yticks=range(len(names)), xlim=(0, 1.02))
    axes.set_yticklabels([f"{name.removeprefix('distill.')}  {share:.2f}" for name, share in found.shares.items()])
    axes.set_xlabel(f"share of the variance (fANOVA, {found.trials} finished trials)\nof {objective}")
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    legend(figure, {"share": bars, f"{CHANCE:.0%} of shuffled objectives stay below": mark})
    return figure


# ---------------------------------------------------------------------------------------------------------------- gain
def differences(study: GainTable) -> dict[str, dict[str, Difference | None]]:
    """{"KDAM - no KD": {"semseg/mIoU": difference, ...}}: what `gain` draws, of every variant that has a rival."""
    found: dict[str, dict[str, Difference | None]] = {
        f"{row.label} − {row.against}": dict.fromkeys(study.keys) for row in study.rows if row.against
    }
    for item in study.comparisons:
        found[f"{item.row.label} − {item.rival.label}"][item.key] = item.difference
    return found


@in_style
def gain(differences: Mapping[str, Mapping[str, Difference | None]], tasks: Sequence[Task]) -> Figure:
    """Forest plot: paired differences with 95 % intervals, a row for each comparison, a panel for each metric.

    A filled point has an interval without zero, not corrected for the number of comparisons; a single pair has no
    interval.

    Args:
        differences: name of the comparison -> metric key (or "delta_mt") -> difference; `differences` makes them of a
            study.
        tasks: the panels; a Delta is drawn where there is one.
    """
    has_delta = any(DELTA in found for found in differences.values())
    labels = columns(tasks, delta=has_delta)
    higher = {task.metric_key: task.higher_is_better for task in tasks} | {DELTA: True}
    figure = Figure(
        figsize=(1.75 * max(1, len(labels)) + 1.3, 0.34 * max(2, len(differences)) + 1.2), layout="constrained"
    )
    panels = figure.subplots(1, max(1, len(labels)), squeeze=False, sharey=True)[0]
    handles: dict[str, Any] = {}
    for axes, (key, label) in zip(panels, labels.items(), strict=False):
        found = {row: one[key] for row, one in enumerate(differences.values()) if one.get(key) is not None}
        for row, difference in found.items():
            handles |= _interval(axes, row, difference)  # type: ignore[arg-type]
        if found:
            axes.axvline(0, color="black", linewidth=0.9, zorder=1)
        else:
            say(axes, "no pair")
        better = "better →" if higher[key] else "← better"
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(
            title=label[:-2],
            xlabel=f"difference ({better})",
            yticks=range(len(differences)),
            yticklabels=list(differences),
        )
        axes.set_ylim(len(differences) - 0.4, -0.6)
        axes.margins(x=0.12)
        axes.grid(False, axis="y")
    legend(figure, handles)
    return figure


def _interval(axes: Axes, row: int, difference: Difference) -> dict[str, Any]:
    if not math.isfinite(difference.mean):
        return {}
    bounded, resolved = False, False
    if difference.low is not None and difference.high is not None:
        bounded, resolved = True, not difference.low <= 0 <= difference.high
        axes.hlines(row, difference.low, difference.high, color=BLUE, linewidth=1.6, zorder=2)
    style: dict[str, Any] = {
        "marker": "o" if bounded else "D",
        "markerfacecolor": BLUE if resolved else "white",
        "linestyle": "none",
    }
    (point,) = axes.plot([difference.mean], [row], color=BLUE, zorder=3, **style)
    if not bounded:
        return {"no interval: one pair": point}
    return {f"95 % interval with{'out' if resolved else ''} 0 (not corrected)": point}
