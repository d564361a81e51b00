"""Deltas of a run's metrics: python -m pytest tests/service/test_deltas.py"""

import pytest
from fakes import make_run, taught_by

from kdam_ray.config import change
from kdam_ray.recipes import recipe
from kdam_ray.service.deltas import OBJECTIVE, SingleTasks, TeacherScores, with_deltas

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


def among(*finished, given, named):
    return TeacherScores.among(
        {run.run_id: {"val/semseg/mIoU": float(run.epochs)} for run in finished},
        given=[run.run_id for run in given],
        named={run.teacher_run for run in named},
    )


FIRST, SECOND = make_run(student="resnet_w8", epochs=2), make_run(student="resnet_w8", epochs=3)
STUDENTS = taught_by(FIRST), taught_by(SECOND)


def test_each_student_is_compared_with_its_own_teacher():
    known = among(FIRST, SECOND, given=(FIRST, SECOND), named=STUDENTS)
    assert [known.of(run) for run in STUDENTS] == [{"semseg/mIoU": 2.0}, {"semseg/mIoU": 3.0}]
    assert known.of(make_run()) is None  # taught by nobody, and there are two to choose from


@pytest.mark.parametrize(("given", "named"), [((FIRST, SECOND), STUDENTS[:1]), ((FIRST,), ())])
def test_without_a_teacher_the_only_one_is_the_reference(given, named):
    """One that its members name; where they name none, the one that was given."""
    assert among(FIRST, SECOND, given=given, named=named).of(make_run()) == {"semseg/mIoU": 2.0}


def test_a_teacher_that_has_not_finished_is_no_reference():
    known = among(SECOND, given=(FIRST, SECOND), named=STUDENTS)
    assert known.of(STUDENTS[0]) is None
    assert known.of(make_run()) is None


def test_each_student_is_compared_with_single_tasks_of_its_own_network():
    asked = []

    def look(run):
        asked.append(run)
        return {"semseg/mIoU": float(run.epochs)} if run.student == "swin_w12" else None

    known = SingleTasks(look)
    small = make_run(epochs=3)
    alike = [
        small,
        change(small, {"seed": 4}),
        change(small, {"task_factors": {"semseg": 2.0}}),
        taught_by(FIRST, epochs=3),
    ]
    assert [known.of(run) for run in alike] == [{"semseg/mIoU": 3.0}] * 4
    assert known.of(change(small, {"epochs": 5})) == {"semseg/mIoU": 5.0}
    assert known.of(FIRST) is None
    assert [(run.student, run.epochs) for run in asked] == [("swin_w12", 3), ("swin_w12", 5), ("resnet_w8", 2)]


def test_where_pairs_are_searched_all_are_compared_with_one_teacher():
    strong, weak = make_run(student="resnet_w16"), make_run(student="resnet_w8")
    finished = {strong.run_id: {"val/semseg/mIoU": 50.0}, weak.run_id: {"val/semseg/mIoU": 20.0}}
    both = {strong.run_id, weak.run_id}
    own = TeacherScores.among(finished, given=both, named=both)
    assert own.of(taught_by(weak)) == {"semseg/mIoU": 20.0}
    common = TeacherScores.among(finished, given=both, named=both, common=strong.run_id)
    assert common.of(taught_by(weak)) == common.of(taught_by(strong)) == {"semseg/mIoU": 50.0}
