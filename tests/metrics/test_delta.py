"""Delta_mt by hand and against a row of the paper: python -m pytest tests/metrics/test_delta.py"""

import math

import pytest

from kdam_ray.metrics import delta_mt
from kdam_ray.tasks import DATASETS

TASKS = DATASETS["nyud"].tasks
KEYS = [task.metric_key for task in TASKS]
REFERENCE = dict(zip(KEYS, (40.0, 0.5, 20.0, 80.0), strict=True))


def test_signs_follow_the_metrics_directions():
    better = {"semseg/mIoU": 44.0, "depth/rmse": 0.4, "normals/mErr": 19.0, "edge/odsF": 80.0, "edge/AP": 1.0}
    assert delta_mt(better, REFERENCE, TASKS) == pytest.approx((10 + 20 + 5 + 0) / 4)
    assert delta_mt(REFERENCE, REFERENCE, TASKS) == 0


@pytest.mark.parametrize(
    ("row", "printed"), [((47.90, 0.6053, 21.17, 76.90), -1.96), ((49.41, 0.564, 20.60, 77.3), 1.38)]
)
def test_rows_of_the_paper(row, printed):
    """Table 1, Swin-S on NYUD-v2, multi-task without and with KDAM, whose printed Deltas do follow from their rows."""
    single_task = dict(zip(KEYS, (48.92, 0.5804, 20.94, 77.20), strict=True))
    # inputs are printed to 3 or 4 digits
    assert delta_mt(dict(zip(KEYS, row, strict=True)), single_task, TASKS) == pytest.approx(printed, abs=0.04)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_one_metric_that_rises_moves_delta_its_own_way(task):
    risen = REFERENCE | {task.metric_key: 1.2 * REFERENCE[task.metric_key]}
    assert delta_mt(risen, REFERENCE, TASKS) == pytest.approx(5 if task.higher_is_better else -5)


def test_only_the_tasks_asked_for_count():
    assert delta_mt({"depth/rmse": 1.0}, REFERENCE, [DATASETS["nyud"].task("depth")]) == pytest.approx(-100)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="normals/mErr is missing from the reference; there are: semseg/mIoU"):
        delta_mt(REFERENCE, {"semseg/mIoU": 1.0, "depth/rmse": 1.0}, TASKS)
    with pytest.raises(ValueError, match="semseg/mIoU is missing from the metrics; there are: none"):
        delta_mt({}, REFERENCE, TASKS)
    with pytest.raises(ValueError, match="at least one task"):
        delta_mt(REFERENCE, REFERENCE, [])


def test_a_reference_of_zero_gives_nan():
    assert math.isnan(delta_mt(REFERENCE, REFERENCE | {"edge/odsF": 0.0}, TASKS))
