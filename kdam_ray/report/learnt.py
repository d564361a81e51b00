"""What nobody has learnt: the columns of a table whose numbers are not worth reading."""

import math
from collections.abc import Mapping

from kdam_ray.report.table_grid import digits_of
from kdam_ray.report.tables import TITLES, RunTable


def unlearnt(table: RunTable, constant: Mapping[str, float]) -> list[str]:
    """A sentence on the columns in which no row is better than one answer everywhere.

    The measure is the best constant (`kdam_ray.service.finished.constant`), scored by the same metric on the same
    images: a mean that does not beat it shows nothing learnt, whatever the spread. It is absolute: that no two rows can
    be told apart would not say so, for they may have learnt the same. Boundaries have no constant, and nothing is said
    of them.

    Args:
        table: every row counts that has a number, the teacher's too.
        constant: by metric key.
    """
    said = []
    for task in table.tasks:
        key = task.metric_key
        means = [value.mean for row in table.rows if (value := table.number(row, key)) is not None]
        score = constant.get(key, math.nan)
        beaten = any(mean > score if task.higher_is_better else mean < score for mean in means)
        if means and math.isfinite(score) and not beaten:
            said.append(f"{TITLES[task.name]} ({score:.{digits_of(table, key)}f} {task.unit})")
    why = "nobody has learnt that, and nothing in such a column is to be compared"
    return [f"No row is better than one answer everywhere in {', '.join(said)}: {why}."] if said else []
