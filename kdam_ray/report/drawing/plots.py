"""The look of all plots, their files and the parts that they share; the modules beside this one draw with them.

Drawn for print: Okabe and Ito's colours, which colour-blind readers tell apart, with a marker and a dash of their own,
so that a grey print can be read too. What is missing is a gap, and a single seed has no error bar.

Only `Figure` objects and a style of our own for the time of a call: nothing touches pyplot or the caller's settings.
"""

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from kdam_ray.report.tables import ARROWS, DELTA, TITLES, Number
from kdam_ray.tasks import Task

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
# the paper's own points are vermillion; yellow is too pale for print
PALETTE = (BLUE, GREEN, ORANGE, PURPLE, SKY, BLACK, VERMILLION)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
GREY, GRID, PALE, PAPER = "#767676", "#e4e4e4", "#c4c4c4", "#ffffff"
DPI = 200  # of a PNG
STYLE: list[Any] = ["default", {
    "font.size": 9, "axes.labelsize": 9, "axes.titlesize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8.5, "legend.frameon": False, "lines.linewidth": 1.4, "lines.markersize": 4.5,
    "errorbar.capsize": 2.5, "axes.linewidth": 0.7, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "axes.unicode_minus": True, "grid.color": GRID,
    "grid.linewidth": 0.6, "text.parse_math": False, "savefig.dpi": DPI, "svg.fonttype": "none",
    "svg.hashsalt": "kdam_ray",
}]  # fmt: skip
# a decorator: the settings hold during the call, the caller's come back after it
in_style = matplotlib.style.context(STYLE)


@dataclass(frozen=True)
class Plot:
    """A figure and its words.

    Attributes:
        name: of its files.
        figure: what is drawn.
        caption: below it, what is drawn; its text for those who cannot see it, too.
        title: above it, what it found, in a sentence; "": nothing is said.
    """

    name: str
    figure: Figure
    caption: str
    title: str = ""


# -------------------------------------------------------------------------------------------------------------- files
def as_svg(figure: Figure) -> str:
    """The same text for the same figure: fixed ids, no date, letters as text.

    They are drawn in DejaVu Sans, or what a viewer has.
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
    """Metric key -> label of its axis, with unit and direction: {"depth/rmse": "Depth rmse (m) ↓", ...}."""
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
    """Words where nothing can be drawn.

    No ticks look like data, unless there is a line or x means something all the same.
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
    """A logarithmic axis whose ticks are the values themselves while they are few.

    Those too close to the last have no text.
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


def panels(
    count: int, *, wide: int, size: tuple[float, float], frame: tuple[float, float] = (0.0, 0.0), **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels; what is left of its last row is blank.

    Args:
        count: panels; of none one is left blank.
        wide: panels in a row, at most.
        size: width and height of a panel, inches.
        frame: what the figure has beyond its panels, inches.
        options: of `Figure.subplots`.
    """
    columns = max(1, min(wide, count))
    rows = max(1, math.ceil(count / columns))
    figure = Figure(figsize=(size[0] * columns + frame[0], size[1] * rows + frame[1]), layout="constrained")
    cells = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for axes in cells[count:]:
        axes.set_axis_off()
    return figure, cells[:count]


def legend(
    figure: Figure, handles: Mapping[str, Any], *, columns: int = 4, is_below: bool = False, **style: Any
) -> None:
    """One legend for all panels, above or below them; text -> what it explains."""
    if handles:
        style |= {"loc": f"outside {'lower' if is_below else 'upper'} center", "ncols": min(columns, len(handles))}
        figure.legend(list(handles.values()), list(handles), **style)
