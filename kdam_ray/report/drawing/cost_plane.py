"""Accuracy against cost: students, teachers and other systems in one plane, and what distillation moves."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kdam_ray.report.drawing.plots import (
    BLACK,
    BLUE,
    DASHES,
    GREEN,
    GREY,
    VERMILLION,
    columns,
    draw_numbers,
    in_style,
    legend,
    log_axis,
    panels,
    say,
)  # fmt: skip
from kdam_ray.report.tables import Number
from kdam_ray.tasks import Task

PointKind = Literal["teacher", "baseline", "distilled", "system"]


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
    kind: PointKind
    gmacs: float
    values: Mapping[str, Number | None]
    baseline: str = ""


KINDS: dict[PointKind, tuple[str, dict[str, Any]]] = {
    "teacher": ("teacher", {"color": BLACK, "marker": "*", "markersize": 9}),
    "baseline": ("without distillation", {"color": BLUE, "marker": "o", "markersize": 5}),
    "distilled": ("distilled", {"color": VERMILLION, "marker": "^", "markersize": 6}),
    "system": (
        "other systems, single tasks",
        {"color": GREEN, "marker": "s", "markersize": 4.5, "markerfacecolor": "white"},
    ),
}
# from a baseline to what is distilled; from a name to a point that is far
ARROW = {
    "arrowstyle": "-|>", "color": VERMILLION, "linewidth": 1.1, "shrinkA": 3, "shrinkB": 3, "mutation_scale": 8,
}  # fmt: skip
THREAD = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2, "relpos": (0.5, 0.5)}


@in_style
def accuracy_against_cost(points: Sequence[Costed], tasks: Sequence[Task]) -> Figure:
    """Each metric against multiply-accumulates: what students and teachers cost, and what distillation moves.

    Error bars are standard deviations over seeds. A point without that metric, or without a cost, is in no panel of it.
    """
    figure, cells = panels(len(tasks), wide=2, size=(3.45, 2.7), frame=(0, 0.3))
    handles: dict[str, Any] = {}
    placed = []
    for axes, (key, label) in zip(cells, columns(tasks, delta=False).items(), strict=True):
        axes.set(xlabel="multiply-accumulates of one image (G), log", ylabel=label)
        axes.margins(0.14)
        placed.append((axes, _draw_costed(axes, points, key, handles)))
        log_axis(axes.xaxis, ())
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
            ends: dict[str, Any] = {"xy": (point.gmacs, value.mean), "xytext": (start.gmacs, level.mean)}
            axes.annotate("", **ends, arrowprops=ARROW, zorder=2)
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
    legend(figure, explained, columns=wide, is_below=True, handlelength=0, handletextpad=0)
    return numbers


Box = tuple[float, float, float, float]  # left, bottom, right, top; points
NAME_SIZE = 7.0
NAME_STYLE: dict[str, Any] = {
    "textcoords": "offset points", "fontsize": NAME_SIZE, "va": "bottom", "zorder": 4, "in_layout": False,
}  # fmt: skip
NAMED = 8  # points; more are numbered
RINGS = (6, 14, 22, 30, 38)  # from a point to its name, points; beyond the first a thin line leads there
AROUND = (
    (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1),
    (-1, 1), (-1, -1), (1, 0.5), (1, -0.5), (-1, 0.5), (-1, -0.5),
)  # fmt: skip


def _name_points(axes: Axes, spots: Spots, names: Mapping[str, str]) -> None:
    """Writes each name at that of sixty places around its point which overlaps least with what is drawn."""
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
        style = (
            NAME_STYLE | {"color": KINDS[point.kind][1]["color"]} | ({"arrowprops": THREAD} if far > RINGS[0] else {})
        )
        axes.annotate(names[name], (point.gmacs, value.mean), corner, **style)


def _box(corners: Any, grown: float) -> Box:
    (left, bottom), (right, top) = np.sort(corners, axis=0).tolist()
    return left - grown, bottom - grown, right + grown, top + grown


def _overlap(one: Box, other: Box) -> float:
    """Area, square points."""
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
