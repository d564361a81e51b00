"""Delta_mt: the mean relative gain over single-task networks."""

import math
from collections.abc import Iterable, Mapping

from kdam_ray.tasks import Task


def delta_mt(metrics: Mapping[str, float], reference: Mapping[str, float], tasks: Iterable[Task]) -> float:
    """Delta_mt = 100 / N * sum over tasks of s_n (M_n - R_n) / R_n, s_n = +1 where higher is better, else -1.

    The paper prints the formula without the sign; its own numbers follow only with it (depth and normals negated), as
    in the works it compares with.

    Args:
        metrics: by `Task.metric_key`, in any unit; more keys do no harm.
        reference: the same of the single-task networks.
        tasks: the tasks to average over.

    Returns:
        Percent; positive is better than the reference. NaN where a reference is 0 (an odsF, say, of a network that
        finds no edge at all): a relative gain does not exist there, and one degenerate run shall not end a sweep.

    Raises:
        ValueError: no tasks, or a metric is missing; names the key.
    """
    gains = [_gain(metrics, reference, task) for task in tasks]
    if not gains:
        raise ValueError("delta_mt: needs at least one task")
    return 100 * sum(gains) / len(gains)


def _gain(metrics: Mapping[str, float], reference: Mapping[str, float], task: Task) -> float:
    key = task.metric_key
    for name, values in (("metrics", metrics), ("reference", reference)):
        if key not in values:
            raise ValueError(f"delta_mt: {key} is missing from the {name}; there are: {', '.join(values) or 'none'}")
    if reference[key] == 0:
        return math.nan
    gain = (metrics[key] - reference[key]) / reference[key]
    return gain if task.higher_is_better else -gain
