"""Deltas of a run's metrics: python -m pytest tests/service/test_compare.py"""

import pytest

from kdam_ray.recipes import recipe
from kdam_ray.service.compare import OBJECTIVE, with_deltas

RUN = recipe("rooms").student
TEACHER = {"semseg/mIoU": 20.0, "depth/rmse": 1.0, "normals/mErr": 30.0, "edge/odsF": 80.0}


def recorded(**edge):
    return {
        "val/semseg/mIoU": 10.0,
        "val/depth/rmse": 2.0,
        "val/normals/mErr": 30.0,
        **{f"val/edge/{key}": value for key, value in edge.items()},
    }


def test_the_objective_is_the_mean_signed_difference_to_the_teacher():
    found = with_deltas(RUN, recorded(odsF=60.0), teacher=TEACHER, single_task=None)
    assert found[OBJECTIVE] == pytest.approx((-50 - 100 + 0 - 25) / 4)
    assert "val/delta_mt" not in found


def test_before_the_last_epoch_a_look_at_boundaries_takes_the_place_of_odsf():
    found = with_deltas(RUN, recorded(odsF_25=60.0), teacher=TEACHER, single_task=TEACHER)
    assert found[OBJECTIVE] == found["val/delta_mt"] == pytest.approx((-50 - 100 + 0 - 25) / 4)
    assert "val/edge/odsF" not in found


def test_the_full_metric_goes_before_the_look():
    found = with_deltas(RUN, recorded(odsF=60.0, odsF_25=0.0), teacher=TEACHER, single_task=None)
    assert found[OBJECTIVE] == pytest.approx((-50 - 100 + 0 - 25) / 4)


def test_without_a_task_there_is_no_difference():
    assert OBJECTIVE not in with_deltas(RUN, recorded(), teacher=TEACHER, single_task=None)
