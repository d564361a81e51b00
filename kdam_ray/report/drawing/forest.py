"""The forest plot of what distillation gains: paired differences with their intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdam_ray.report.drawing.plots import BLUE, columns, in_style, legend, panels, say
from kdam_ray.report.gain import GainTable
from kdam_ray.report.significance import Difference
from kdam_ray.report.tables import DELTA
from kdam_ray.tasks import Task


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
    size = (1.75, 0.34 * max(2, len(differences)))
    figure, cells = panels(len(labels), wide=len(labels), size=size, frame=(1.3, 1.2), sharey=True)
    handles: dict[str, Any] = {}
    for axes, (key, label) in zip(cells, labels.items(), strict=True):
        found = {row: one[key] for row, one in enumerate(differences.values()) if one.get(key) is not None}
        for row, difference in found.items():
            handles |= _interval(axes, row, difference)  # type: ignore[arg-type]
        if found:
            axes.axvline(0, color="black", linewidth=0.9, zorder=1)
        else:
            say(axes, "no pair")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(
            title=label[:-2], xlabel=f"difference ({'better →' if higher[key] else '← better'})",
            yticks=range(len(differences)), yticklabels=list(differences), ylim=(len(differences) - 0.4, -0.6),
        )  # fmt: skip
        axes.margins(x=0.12)
        axes.grid(False, axis="y")
    legend(figure, handles)
    return figure


def _interval(axes: Axes, row: int, difference: Difference) -> dict[str, Any]:
    if not math.isfinite(difference.mean):
        return {}
    marker, face, name = "D", "white", "no interval: one pair"
    if difference.low is not None and difference.high is not None:
        is_resolved = not difference.low <= 0 <= difference.high
        axes.hlines(row, difference.low, difference.high, color=BLUE, linewidth=1.6, zorder=2)
        marker, face = "o", BLUE if is_resolved else "white"
        name = f"95 % interval with{'out' if is_resolved else ''} 0 (not corrected)"
    style: dict[str, Any] = {"color": BLUE, "marker": marker, "markerfacecolor": face, "linestyle": "none", "zorder": 3}
    return {name: axes.plot([difference.mean], [row], **style)[0]}
