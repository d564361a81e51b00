"""Plots of the tables: beta and T, accuracy against cost. Plain numbers in, a matplotlib `Figure` out.

Drawn for print: Okabe and Ito's colours, which colour-blind readers tell apart, with a marker and a dash of their own,
so that a grey print can be read too. What is missing is a gap, a single seed has no error bar, and the paper's points,
which are of another data set, stand on axes of their own. `report.curves` draws epochs, searches and differences so
too.

Only `Figure` objects and a style of our own for the time of a call: nothing touches pyplot or the caller's settings.
"""

import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from kdam_ray import paper
from kdam_ray.report.beta_temp import FIXED_BETA, FIXED_TEMPERATURE, BetaTempTable
from kdam_ray.report.tables import ARROWS, DELTA, TITLES, Number
from kdam_ray.tasks import Task

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
PALETTE = (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    BLACK,
    VERMILLION,
)  # the paper's own points are vermillion; yellow is too pale for print
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
GREY = "#767676"
DPI = 200  # of a PNG
STYLE: list[Any] = ["default", {
    "font.size": 9, "axes.labelsize": 9, "axes.titlesize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8.5,
    "legend.frameon": False, "lines.linewidth": 1.4, "lines.markersize": 4.5, "errorbar.capsize": 2.5, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "axes.unicode_minus": True,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "text.parse_math": False, "savefig.dpi": DPI, "svg.fonttype": "none",
    "svg.hashsalt": "kdam_ray",
}]  # fmt: skip
in_style = matplotlib.style.context(
    STYLE
)  # a decorator: the settings hold during the call, the caller's come back after it


# -------------------------------------------------------------------------------------------------------------- files
def as_svg(figure: Figure) -> str:
    """The same text for the same figure: fixed ids, no date, letters as text (drawn in DejaVu Sans, or what a viewer
    has).
    """
    target = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.style.context(STYLE):
        figure.savefig(target, format="svg", metadata=nothing)
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines()) + "\n"


def save(figure: Figure, folder: Path | str, name: str) -> tuple[Path, Path]:
    """Writes `<folder>/<name>.png` (200 dpi) and `.svg`, the folder too where there is none. Returns both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with matplotlib.style.context(STYLE):
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    svg.write_text(as_svg(figure), encoding="utf-8")
    return png, svg


# --------------------------------------------------------------------------------------------------------------- parts
def columns(tasks: Iterable[Task], *, delta: bool = True) -> dict[str, str]:
    """Metric key -> label of its axis, with unit and direction: {"depth/rmse": "Depth rmse (m) ↓", ..., "delta_mt":
    "Delta (%) ↑"}.
    """
    labels = {
        task.metric_key: f"{TITLES[task.name]} {task.metric} ({task.unit}) {ARROWS[task.higher_is_better]}"
        for task in tasks
    }
    return labels | ({DELTA: f"Delta (%) {ARROWS[True]}"} if delta else {})


def look(index: int) -> dict[str, Any]:
    """Colour, dash and marker of the n-th line of a figure; 28 differ in colour and dash, 70 in colour and marker."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": DASHES[(index % len(PALETTE) + index // len(PALETTE)) % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def say(axes: Axes, text: str = "no finished run", *, has_x: bool = False) -> None:
    """Words where nothing can be drawn; no ticks that look like data, unless there is a line or x means something all
    the same.
    """
    if not axes.lines:
        axes.grid(False)
        axes.tick_params(axis="y", length=0, labelleft=False)
        axes.tick_params(axis="x", **({} if has_x else {"length": 0, "labelbottom": False}))
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=8.5, wrap=True)


def draw_numbers(axes: Axes, points: Mapping[float, Number | None], **style: Any) -> Line2D | None:
    """A line through the means with the standard deviations over seeds as bars.

    A missing point is a gap, a single seed has no bar.

    Args:
        axes: where.
        points: x -> number.
        style: of the line.

    Returns:
        The line, or None if there is nothing to draw.
    """
    known = sorted(points.items())
    if not any(points.values()):
        return None
    (line,) = axes.plot(
        [x for x, _ in known], [math.nan if value is None else value.mean for _, value in known], **style
    )
    bars = [(x, value.mean, value.std) for x, value in known if value is not None and value.std is not None]
    if bars:
        x, y, std = zip(*bars, strict=True)
        axes.errorbar(x, y, yerr=std, fmt="none", ecolor=line.get_color(), elinewidth=1.1, label="_seeds")
    return line


def log_axis(axis: Any, values: Iterable[float], *, most: int = 8, apart: float = 0.07) -> None:
    """A logarithmic axis whose ticks are the values themselves while they are few; those too close to the last have no
    text.
    """
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    values, texts, last = sorted(set(values)), [], -math.inf
    for value in values:
        clear = math.log(value) - last > apart * math.log(values[-1] / values[0])
        texts.append(f"{value:g}" if clear or len(values) == 1 else "")
        last = math.log(value) if clear else last
    few = 0 < len(values) <= most
    axis.set_major_locator(FixedLocator(values) if few else LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter(texts) if few else FuncFormatter(lambda value, _: f"{value:g}"))


def own_ticks(axes: Axes, values: Iterable[float]) -> None:
    """The values themselves as ticks of the x axis, while they are few."""
    if 0 < len(found := sorted(set(values))) <= 7:
        axes.xaxis.set_major_locator(FixedLocator(found))


def round_ticks(low: float, high: float, *, logarithmic: bool) -> list[float]:
    """Round numbers from low to high; the ends themselves where fewer than two are."""
    subs = (1.0,) if logarithmic and high / low > 1e3 else (1.0, 2.0, 5.0)
    locator = LogLocator(subs=subs) if logarithmic else MaxNLocator(6, steps=[1, 2, 5, 10])
    inside = [round(float(tick), 12) for tick in locator.tick_values(low, high) if low <= tick <= high]
    return inside if len(inside) > 1 else [float(f"{low:.3g}"), float(f"{high:.3g}")]


def _own_axes(axes: Axes, label: str, *, x_label: str | None = None) -> Axes:
    """Axes over `axes` with a scale of their own on the right, and above it if `x_label` says what that is; both in the
    paper's colour.
    """
    right = axes.twinx()
    right.set_ylabel(label, color=VERMILLION, fontsize=8)
    right.spines["right"].set(visible=True, color=VERMILLION)
    right.tick_params(axis="y", colors=VERMILLION)
    right.grid(False)
    if x_label is None:
        return right
    top = right.twiny()
    top.set_xlabel(x_label, color=VERMILLION, fontsize=8)
    top.spines["top"].set(visible=True, color=VERMILLION)
    top.tick_params(axis="x", colors=VERMILLION)
    top.grid(False)
    return top


PRINTED = {"color": VERMILLION, "marker": "s", "markerfacecolor": "white", "linestyle": DASHES[2], "linewidth": 1.0}
PRINTED_ON = "paper, NYUD-v2 (own scale)"  # Tables 5 and 7


def legend(figure: Figure, handles: Mapping[str, Any], *, columns: int = 4) -> None:
    """One legend for all panels; text -> what it explains."""
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside upper center", ncols=min(columns, len(handles))
        )


# -------------------------------------------------------------------------------------------------------------- Table 5
PARTS = {
    "5a": ("beta", f"β  (T = {FIXED_TEMPERATURE:g}, α = 1)"),
    "5b": ("temperature", f"T  (β = {FIXED_BETA:g}, α = 1)"),
}


@in_style
def beta_temp_curves(results: BetaTempTable) -> Figure:
    """Table 5 as curves: beta above, T below, a column for each task and for the Delta.

    Ours with the spread over seeds where a cell has several; the mean of the runs without distillation as a line, its
    standard deviation as a band; the paper's points on the right, on the same axis only if ours are of the paper's data
    set.
    """
    labels = columns(results.tasks)
    figure = Figure(figsize=(2.3 * len(labels), 4.6), layout="constrained")
    grid = figure.subplots(len(PARTS), len(labels), squeeze=False, sharey="col")
    handles: dict[str, Any] = {}
    rights: dict[str, list[Axes]] = {key: [] for key in labels}
    for row, (part, (fact, x_label)) in zip(grid, PARTS.items(), strict=True):
        lines = {line.facts[fact]: line for line in results.rows if line.part == part and fact in line.facts}
        for axes, (key, label) in zip(row, labels.items(), strict=True):
            handles |= _band(axes, results.number(results.untaught, key))
            printed = {x: value for x, line in lines.items() if (value := results.printed(line, key)) is not None}
            found, used = draw_printed(axes, printed, same_scale=results.dataset == paper.TABLE_5A.dataset)
            handles |= _cells(axes, {x: results.number(line, key) for x, line in lines.items()}) | found
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


def _band(axes: Axes, value: Number | None) -> dict[str, Any]:
    """The mean of the runs without distillation, with its standard deviation."""
    if value is None:
        return {}
    line = axes.axhline(value.mean, color=BLACK, linestyle=DASHES[1], linewidth=1.0, zorder=1)
    if value.std is None:
        return {"no KD, one seed": line}
    band = axes.axhspan(value.mean - value.std, value.mean + value.std, color=BLACK, alpha=0.13, linewidth=0, zorder=0)
    return {f"no KD, mean ± std of {value.n} seeds": (band, line)}


def _cells(axes: Axes, points: Mapping[float, Number | None]) -> dict[str, Any]:
    line = draw_numbers(axes, points, color=BLUE, marker="o", linestyle="-", zorder=3)
    if line is None:
        say(axes, has_x=bool(points))
        return {}
    several = any(value is not None and value.std is not None for value in points.values())
    return {"ours, mean ± std over seeds" if several else "ours, one seed each": line}


def draw_printed(
    axes: Axes, points: Mapping[float, float], *, same_scale: bool, x_label: str | None = None
) -> tuple[dict[str, Any], Axes]:
    """The paper's points; the legend's entry, and the axes that they stand on: their own unless the scale is the same."""
    if not points:
        return {}, axes
    if same_scale:
        where, name = axes, "paper"
    else:
        where, name = (
            _own_axes(axes, PRINTED_ON, x_label=x_label),
            f"{PRINTED_ON}, axes {'above and ' if x_label else ''}on the right",
        )
    known = sorted(points.items())
    (line,) = where.plot([x for x, _ in known], [y for _, y in known], zorder=2, **PRINTED)
    return {name: line}, where


# ---------------------------------------------------------------------------------------------------------------- cost
@dataclass(frozen=True)
class Costed:
    """A network in the plane of cost and accuracy.

    Attributes:
        label: beside its point.
        kind: "teacher", "baseline", "distilled" (a student with a teacher), "system" (anything else that is compared).
        gmacs: of one image, billions of multiply-accumulates.
        values: metric key -> number over seeds (`tables.number` makes one from values); None: missing.
        baseline: label of the point from which an arrow leads here; "": none does.
    """

    label: str
    kind: Literal["teacher", "baseline", "distilled", "system"]
    gmacs: float
    values: Mapping[str, Number | None]
    baseline: str = ""


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "teacher": ("teacher", {"color": BLACK, "marker": "*", "markersize": 9}),
    "baseline": ("without distillation", {"color": BLUE, "marker": "o", "markersize": 5}),
    "distilled": ("distilled", {"color": VERMILLION, "marker": "^", "markersize": 6}),
    "system": (
        "other systems, single tasks",
        {"color": GREEN, "marker": "s", "markersize": 4.5, "markerfacecolor": "white"},
    ),
}


@in_style
def accuracy_against_cost(points: Sequence[Costed], tasks: Sequence[Task]) -> Figure:
    """Each metric against multiply-accumulates: what a student costs, where its teacher stands, what distillation
    moves.

    Error bars are standard deviations over seeds. A point without that metric, or without a cost, is in no panel of it.
    """
    rows, wide = max(1, math.ceil(len(tasks) / 2)), min(2, max(1, len(tasks)))
    figure = Figure(figsize=(3.45 * wide, 2.7 * rows + 0.3), layout="constrained")
    panels = list(figure.subplots(rows, wide, squeeze=False).flat)
    handles: dict[str, Any] = {}
    placed = []
    for axes, (key, label) in zip(panels, columns(tasks, delta=False).items(), strict=False):
        axes.set(xlabel="multiply-accumulates of one image (G), log", ylabel=label)
        axes.margins(0.14)
        placed.append((axes, _draw_costed(axes, points, key, handles)))
        log_axis(axes.xaxis, ())
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    legend(figure, {name: handles[name] for name, _ in KINDS.values() if name in handles})
    names = _names(figure, points)
    figure.draw_without_rendering()  # fixes the panels, in which the names then find their places
    for axes, spots in placed:
        _name_points(axes, spots, names)
    return figure


Spots = dict[str, tuple[Costed, Number]]


def _draw_costed(axes: Axes, points: Sequence[Costed], key: str, handles: dict[str, Any]) -> Spots:
    """Points, level of the teachers and arrows of one panel; what was drawn, by label."""
    costed = [point for point in points if 0 < point.gmacs < math.inf]
    spots = {
        point.label: (point, value)
        for point in costed
        if (value := point.values.get(key)) and math.isfinite(value.mean)
    }
    for point, value in spots.values():
        name, style = KINDS[point.kind]
        handles[name] = draw_numbers(axes, {point.gmacs: value}, linestyle="none", zorder=3, **style)
        if point.kind == "teacher":
            axes.axhline(value.mean, color=BLACK, linestyle=DASHES[2], linewidth=0.8, zorder=1)
        if point.baseline in spots:
            start, level = spots[point.baseline]
            arrow = {
                "arrowstyle": "-|>",
                "color": VERMILLION,
                "linewidth": 1.1,
                "shrinkA": 3,
                "shrinkB": 3,
                "mutation_scale": 8,
            }
            axes.annotate(
                "", xy=(point.gmacs, value.mean), xytext=(start.gmacs, level.mean), arrowprops=arrow, zorder=2
            )
    if not spots:
        say(axes)
    return spots


def _names(figure: Figure, points: Sequence[Costed]) -> dict[str, str]:
    """What stands beside each point: its label, or where there are many a number that is explained below the panels."""
    if len(points) <= NAMED:
        return {point.label: point.label for point in points}
    numbers = {point.label: str(number) for number, point in enumerate(points, start=1)}
    explained = {f"{number}  {label}": Line2D([], [], linestyle="none") for label, number in numbers.items()}
    wide = max(1, min(5, 90 // (max(map(len, explained)) + 2)))
    figure.legend(
        list(explained.values()),
        list(explained),
        loc="outside lower center",
        ncols=wide,
        handlelength=0,
        handletextpad=0,
    )
    return numbers


Box = tuple[float, float, float, float]  # left, bottom, right, top; points
NAME_SIZE = 7.0
NAMED = 8  # points; more are numbered
RINGS = (6, 14, 22, 30, 38)  # from a point to its name, points; beyond the first a thin line leads there
AROUND = (
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    (1, 1),
    (1, -1),
    (-1, 1),
    (-1, -1),
    (1, 0.5),
    (1, -0.5),
    (-1, 0.5),
    (-1, -0.5),
)


def _name_points(axes: Axes, spots: Spots, names: Mapping[str, str]) -> None:
    """Writes each name at that of sixty places around its point which overlaps least with what is drawn and the frame."""
    scale = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    frame = _box(axes.get_window_extent().get_points() * scale, 0)
    at = {name: axes.transData.transform((point.gmacs, value.mean)) * scale for name, (point, value) in spots.items()}
    taken = [_box([place, place], 4) for place in at.values()]
    for name, (point, value) in spots.items():
        ends = [(point.gmacs, value.mean + side * (value.std or 0)) for side in (-1, 1)]
        taken.append(_box(axes.transData.transform(ends) * scale, 1.5))
        taken += [_box([at[point.baseline], at[name]], 1.5)] if point.baseline in spots else []
        taken += [(frame[0], at[name][1] - 1, frame[2], at[name][1] + 1)] if point.kind == "teacher" else []
    for name, (point, value) in spots.items():
        width, height = 0.56 * NAME_SIZE * len(names[name]), 1.15 * NAME_SIZE
        costs = {}
        for far, (dx, dy) in itertools.product(RINGS, AROUND):
            corner = (dx * far + (dx - 1) / 2 * width, dy * far + (dy - 1) / 2 * height)
            box = _box([at[name] + corner, at[name] + corner + (width, height)], 1.5)
            outside = _overlap(box, box) - _overlap(box, frame)
            costs[corner, box, far] = round(sum(_overlap(box, other) for other in taken) + 3 * outside + far)
        corner, box, far = min(costs, key=lambda place: costs[place])
        taken.append(box)
        text: dict[str, Any] = {
            "textcoords": "offset points",
            "fontsize": NAME_SIZE,
            "va": "bottom",
            "zorder": 4,
            "in_layout": False,
        }
        if far > RINGS[0]:
            text["arrowprops"] = {
                "arrowstyle": "-",
                "color": GREY,
                "linewidth": 0.5,
                "shrinkA": 0,
                "shrinkB": 2,
                "relpos": (0.5, 0.5),
            }
        axes.annotate(names[name], (point.gmacs, value.mean), corner, color=KINDS[point.kind][1]["color"], **text)


def _box(corners: Any, grown: float) -> Box:
    (left, bottom), (right, top) = np.sort(corners, axis=0).tolist()
    return left - grown, bottom - grown, right + grown, top + grown


def _overlap(one: Box, other: Box) -> float:
    """Area, square points."""
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
