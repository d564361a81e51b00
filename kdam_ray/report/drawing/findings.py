"""What a plot found, as the sentence above it: computed from the numbers that are drawn, never more than they resolve.

What differs from no distillation is judged by `BetaTempTable.band`, as the marks of the tables are, and paired
differences by their corrected p.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kdam_ray.report.beta_temp import BetaTempTable
from kdam_ray.report.beta_temp_grid import by_chance
from kdam_ray.report.significance import CONFIDENCE
from kdam_ray.report.tables import DELTA, TITLES, Comparison
from kdam_ray.service.search.importance import Importances
from kdam_ray.tasks import Task

NAMED = 3  # comparisons that a title names; more are counted


def names(tasks: Sequence[Task]) -> dict[str, str]:
    """Metric key -> its name in a sentence."""
    return {task.metric_key: TITLES[task.name] for task in tasks} | {DELTA: "Delta"}


def of_beta_temp(results: BetaTempTable) -> str:
    """In which columns how many cells lie outside the band, beside how many chance alone would put there."""
    cells, limits = results.cells, results.limits()
    if not limits or not cells:
        return "No difference from no distillation can be told from chance: its spread between seeds is not known"
    outside: list[str] = []
    none: list[str] = []
    for key, name in names(results.tasks).items():
        sides = [results.side(row, key) for row in cells]
        found = [f"{side} at {count}" for side in ("better", "worse") if (count := sides.count(side))]  # type: ignore[arg-type]
        if found:  # one verb for all
            outside.append(f"{name} is {' and '.join(found)}" if not outside else f"{name} {' and '.join(found)}")
        elif key in limits:
            none.append(name)
    if not outside:
        return f"No cell of {len(cells)} differs from no distillation by more than chance"
    rest = f"; {_listed(none)} at none" if none else ""
    chance = f"chance alone puts about {by_chance(results):.1f} there in each"
    return f"Against no distillation, {_listed(outside)} of {len(cells)} cells{rest} ({chance})"


def of_comparisons(comparisons: Sequence[Comparison], tasks: Sequence[Task]) -> str:
    """Which paired differences are more than chance, corrected for all tests of the table."""
    tested = [item for item in comparisons if item.p_corrected is not None]
    if not tested:
        return "No difference is tested: that takes pairs of two seeds or more"
    called = names(tasks)
    directions = {task.metric_key: task.higher_is_better for task in tasks}
    found = [
        f"{item.row.label} is {'better' if (item.difference.mean > 0) == directions.get(item.key, True) else 'worse'} "
        f"than {item.rival.label} in {called[item.key]}"
        for item in tested
        if item.p_corrected is not None and item.p_corrected < 1 - CONFIDENCE
    ]
    if not found:
        return f"None of {len(tested)} differences is more than chance (corrected for their number)"
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{'; '.join(found[:NAMED])}{more}: {len(found)} of {len(tested)} differences are more than chance"


def of_epochs(values: Mapping[str, Mapping[float, Any]], tasks: Sequence[Task]) -> str:
    """In which metrics the longest schedule has the best mean."""
    called = names(tasks)
    best: list[str] = []
    other: list[str] = []
    for task in tasks:
        means = {epochs: number.mean for epochs, number in values.get(task.metric_key, {}).items() if number}
        if len(means) > 1:
            first = (max if task.higher_is_better else min)(means, key=lambda epochs: means[epochs])
            (best if first == max(means) else other).append(called[task.metric_key])
    if not best and not other:
        return "Fewer than two schedules have finished"
    if not best:
        return f"The longest schedule has the best mean in no metric ({_listed(other)})"
    return f"The longest schedule has the best mean in {_listed(best)}" + (
        f", not in {_listed(other)}" if other else ""
    )


def of_costs(points: Sequence[Any], tasks: Sequence[Task]) -> str:
    """What a teacher costs beside the cheapest network, and in how many metrics its mean is the best."""
    costed = [point for point in points if 0 < point.gmacs < math.inf]
    teachers = [point for point in costed if point.kind == "teacher"]
    if not teachers or len(costed) == len(teachers):
        return "No teacher and student have a cost"
    teacher = min(teachers, key=lambda point: point.gmacs)  # several single-task ones cost more together
    times = teacher.gmacs / min(point.gmacs for point in costed)
    ahead = []
    for task in tasks:
        means = {point.label: value.mean for point in costed if (value := point.values.get(task.metric_key))}
        if teacher.label in means and len(means) > 1:
            best = (max if task.higher_is_better else min)(means.values())
            ahead.append(means[teacher.label] == best)
    return (
        f"{teacher.label} costs {times:.2g} times what the cheapest network does; "
        f"its mean is the best in {sum(ahead)} of {len(ahead)} metrics"
    )


def of_histories(histories: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], tasks: Sequence[Task]) -> str:
    """How many runs were at their best after their last epoch, so that a longer schedule might gain."""
    called, said = names(tasks), []
    for task in tasks:
        known = [one for history in histories.values() if len(one := history.get(f"val/{task.metric_key}", ())) > 1]
        direction = 1 if task.higher_is_better else -1
        still = sum(direction * one[-1][1] > max(direction * value for _, value in one[:-1]) for one in known)
        if known:
            said.append(f"{called[task.metric_key]} {still} of {len(known)}")
    if not said:
        return "One epoch each: nothing to follow"
    return f"Runs that were at their best after the last epoch: {', '.join(said)}"


def of_search(values: Sequence[float | None]) -> str:
    """How many points finished, and over what range their objectives are."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return f"None of {len(values)} points finished"
    return (
        f"{len(known)} of {len(values)} points finished; "
        f"their Delta against the teacher is {min(known):.1f} to {max(known):.1f} %"
    )


def of_importance(found: Importances) -> str:
    """Which parameters explain more than shuffled objectives do."""
    if found.excuse:
        return "Too little is known to say which parameter matters"
    above = [name for name, share in found.shares.items() if share > found.by_chance[name]]
    if not above:
        return "No parameter explains more of the objective than chance does"
    return f"More than chance is explained by {_listed([name.removeprefix('distill.') for name in above])}"


def _listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
