"""Plots of a search: what it tried, and what mattered among it.

A trial is a mapping {"params": {"distill.beta": 0.3, ...}, "value": 1.2 or None, "state": "finished", "pruned" or
"failed"}, whatever study it comes from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from kdam_ray.report.drawing.plots import BLUE, PALE, PAPER, in_style, legend, say
from kdam_ray.service.search.importance import CHANCE, LOGARITHMIC, Importances, TrialRecord, importances, value_of

# from grey to blue, darker steadily: seen on white and on dark, in grey print and by the colour-blind
COLOURS = LinearSegmentedColormap.from_list("better", ["#a3a3a3", BLUE])
OBJECTIVE = "Delta against the teacher (%) ↑"
ORDER = {"finished": 0, "pruned": 1, "failed": 2}
TICK_STYLE: dict[str, Any] = {
    "textcoords": "offset points", "ha": "right", "va": "center", "fontsize": 7.5, "zorder": 5,
    "bbox": {"facecolor": PAPER, "alpha": 0.75, "pad": 0.6, "linewidth": 0},
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------ what was tried
@dataclass(frozen=True)
class ParallelAxis:
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
def parallel_coordinates(trials: Sequence[TrialRecord], *, objective: str = OBJECTIVE) -> Figure:
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
    axes.set(
        xlim=(-0.45, len(scales) - 0.6), ylim=(-0.04, 1.04), yticks=[], xticks=range(len(scales)),
        xticklabels=[scale.name for scale in scales],
    )  # fmt: skip
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.grid(False)
    if not trials:
        say(axes, "no trial")
        return figure
    axes.vlines(range(len(scales)), 0, 1, color="black", linewidth=0.8, zorder=4)
    for place, scale in enumerate(scales):
        for height, text in scale.ticks:
            axes.annotate(text, (place, height), (-4, 0), **TICK_STYLE)
    colours = _colours(values)
    for index in sorted(range(len(trials)), key=lambda i: (values[i] is not None, values[i] or 0.0)):
        heights = [scale.heights[index] for scale in scales]
        axes.plot(range(len(scales)), heights, **_trial_look(trials[index], values[index], colours))
    if differ:
        figure.colorbar(colours, ax=axes, label=objective, pad=0.02, aspect=30)
    legend(figure, _counts(trials, values, colours))
    return figure


def _colours(values: Sequence[float | None]) -> ScalarMappable:
    known = [value for value in values if value is not None] or [0.0]
    low, high = min(known), max(known)
    return ScalarMappable(Normalize(low, high if high > low else low + 1e-6 + abs(low) * 1e-6), COLOURS)


def _trial_look(trial: TrialRecord, value: float | None, colours: ScalarMappable) -> dict[str, Any]:
    if value is not None:
        colour = tuple(colours.to_rgba(np.array([value]))[0])
        return {"color": colour, "linewidth": 1.5, "marker": "o", "markersize": 3, "zorder": 3}
    dash = "--" if trial.get("state") == "pruned" else ":"
    return {"color": PALE, "linewidth": 0.9, "linestyle": dash, "marker": "o", "markersize": 2.5, "zorder": 2}


def _counts(
    trials: Sequence[TrialRecord], values: Sequence[float | None], colours: ScalarMappable
) -> dict[str, Line2D]:
    """How many trials ended how, with the look of their lines."""
    kinds: dict[str, list[TrialRecord]] = {}
    for trial, value in zip(trials, values, strict=True):
        kinds.setdefault("finished" if value is not None else str(trial.get("state") or "open"), []).append(trial)
    middle = sum(colours.get_clim()) / 2  # type: ignore[arg-type]
    return {
        f"{len(found)} {kind}": Line2D([], [], **_trial_look(found[0], middle if kind == "finished" else None, colours))
        for kind, found in sorted(kinds.items(), key=lambda item: ORDER.get(item[0], len(ORDER)))
    }


def _scale(name: str, values: Sequence[Any]) -> ParallelAxis:
    """Heights and ticks of one axis: logarithmic, linear, or one step for each word."""
    short = name.removeprefix("distill.")
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) < sum(v is not None and v == v for v in values):  # words, or both
        words = sorted({str(value) for value in values if value is not None})
        place = {word: (index + 0.5) / len(words) for index, word in enumerate(words)}
        return ParallelAxis(
            short, tuple((place[w], w) for w in words), tuple(math.nan if v is None else place[str(v)] for v in values)
        )
    if not numbers:
        return ParallelAxis(short, (), (math.nan,) * len(values))
    low, high = min(numbers), max(numbers)
    if low == high:
        return ParallelAxis(
            short, ((0.5, f"{low:.4g}"),), tuple(math.nan if v is None or v != v else 0.5 for v in values)
        )
    logarithmic = name.rpartition(".")[2] in LOGARITHMIC and low > 0
    place_of = math.log if logarithmic else float

    def height(value: float) -> float:
        return (place_of(value) - place_of(low)) / (place_of(high) - place_of(low))

    known = [float(v) if v is not None and math.isfinite(v) else None for v in values]
    label = f"{short} (log)" if logarithmic else short
    ticks = tuple(
        (height(tick), f"{tick:g}".replace("-", "−")) for tick in _round_ticks(low, high, logarithmic=logarithmic)
    )
    return ParallelAxis(label, ticks, tuple(math.nan if v is None else height(v) for v in known))


def _round_ticks(low: float, high: float, *, logarithmic: bool) -> list[float]:
    """Round numbers from low to high; the ends themselves where fewer than two are."""
    subs = (1.0,) if logarithmic and high / low > 1e3 else (1.0, 2.0, 5.0)
    locator = LogLocator(subs=subs) if logarithmic else MaxNLocator(6, steps=[1, 2, 5, 10])
    inside = [round(float(tick), 12) for tick in locator.tick_values(low, high) if low <= tick <= high]
    return inside if len(inside) > 1 else [float(f"{low:.3g}"), float(f"{high:.3g}")]


# ------------------------------------------------------------------------------------------------------- what mattered
@in_style
def importance(
    trials: Sequence[TrialRecord], *, objective: str = OBJECTIVE, found: Importances | None = None
) -> Figure:
    """Bars of `importances` (`found`, where known), with what chance alone reaches; too few trials are said."""
    found = found or importances(trials)
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
    axes.set(
        yticks=range(len(names)), xlim=(0, 1.02),
        yticklabels=[f"{name.removeprefix('distill.')}  {share:.2f}" for name, share in found.shares.items()],
        xlabel=f"share of the variance (fANOVA, {found.trials} finished trials)\nof {objective}",
    )  # fmt: skip
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    legend(figure, {"share": bars, f"{CHANCE:.0%} of shuffled objectives stay below": mark})
    return figure
