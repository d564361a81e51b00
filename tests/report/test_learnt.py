"""What nobody has learnt: a column in which no row beats one answer everywhere.

python -m pytest tests/report/test_learnt.py
"""

import math

import pytest

from kdam_ray.report.learnt import unlearnt
from kdam_ray.report.rows import PaperTable
from kdam_ray.report.tables import SeedRow
from kdam_ray.tasks import DATASETS

ROOMS = DATASETS["rooms"].tasks
CONSTANT = {"semseg/mIoU": 2.5, "depth/rmse": 1.25, "normals/mErr": 60.0}  # boundaries have none


def table(**rows):
    """Rows by label: mIoU, rmse, mErr, odsF of one or several seeds."""
    keys = [task.metric_key for task in ROOMS]
    made = [
        SeedRow(label, {seed: dict(zip(keys, values, strict=True)) for seed, values in enumerate(seeds)})
        for label, seeds in rows.items()
    ]
    return PaperTable(ROOMS, tuple(made))


def test_a_column_in_which_no_row_is_better_is_named_with_the_score_to_beat():
    said = unlearnt(table(plain=[(2.5, 1.3, 50.0, 1.0)], teacher=[(2.4, 1.2, 70.0, 1.0)]), CONSTANT)
    assert said == [
        "No row is better than one answer everywhere in SemSeg (2.50 %): nobody has learnt that, and nothing in such a "
        "column is to be compared."
    ]


def test_one_row_that_is_better_is_enough_and_means_count_not_single_seeds():
    assert unlearnt(table(plain=[(2.0, 1.0, 59.0, 0.0)], teacher=[(3.0, 9.0, 90.0, 0.0)]), CONSTANT) == []
    (said,) = unlearnt(table(plain=[(3.0, 1.0, 10.0, 0.0), (1.0, 1.0, 10.0, 0.0)]), CONSTANT)
    assert "SemSeg" in said  # 3 and 1: 2 on average


@pytest.mark.parametrize("constant", [{}, {"semseg/mIoU": math.nan}])
def test_nothing_is_said_where_the_constant_is_not_known_or_nothing_was_measured(constant):
    assert unlearnt(table(), CONSTANT) == []
    assert unlearnt(table(plain=[(0.0, 9.0, 90.0, 0.0)]), constant) == []
