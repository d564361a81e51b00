"""What MLflow is told: names, tags, params once, one record per run, and whose child is shown where.

python -m pytest tests/service/records/test_tracking.py
"""

import pytest
from fakes import TASKS, make_run, taught_by

from kdam_ray.config import Place, Sweep, change, flatten, single_task
from kdam_ray.service.records.reading import tracking_uri
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.tasks import DATASETS

TEACHER = make_run(student="resnet_w8", dataset_hash="feed")


@pytest.fixture
def tracking(place):
    return Tracking(place)


def sweep(name: str, **changes) -> Sweep:
    return Sweep(name=name, table=5, base=taught_by(TEACHER, **changes), cells=({},))


def test_a_store_that_is_none_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database, and long enough that sqlite looks at it " * 20)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(
        ValueError, match=f"^tracking_uri: {uri} cannot be opened as MLflow's store: .*not a database.*$"
    ):
        Tracking(Place(tracking_uri=uri)).parents("rooms", "names")


def test_names_and_tags_are_those_of_the_design(tracking):
    of = sweep("names", seed=100)
    parent = tracking.open_parent(of)
    child = tracking.open_member(of.base, sweep=of.name, table=5, parent=parent, title="base")
    tracking.log_epoch(child, {"val/semseg/mIoU": 12.5, "train/loss": 3.0}, 1)
    tracking.log_epoch(child, {"val/semseg/mIoU": 13.5, "train/loss": 2.0}, 2)
    run = tracking.client.get_run(child)
    assert tracking.client.get_experiment(run.info.experiment_id).name == "kdam/rooms/names"
    wanted = {
        "mlflow.parentRunId": parent, "kdam.run_id": of.base.run_id, "kdam.sweep": "names", "kdam.table": "5",
        "kdam.teacher_run": TEACHER.run_id, "kdam.dataset_hash": "feed", "mlflow.runName": "base",
    }  # fmt: skip
    assert wanted.items() <= run.data.tags.items()
    assert run.data.tags["kdam.git_dirty"] in ("true", "false", "unknown")
    assert run.data.params == {name: str(value) for name, value in flatten(of.base).items()}
    assert run.data.params["distill.beta"] == "1.0"
    history = tracking.client.get_metric_history(child, "val/semseg/mIoU")
    assert [(item.step, item.value) for item in history] == [(1, 12.5), (2, 13.5)]


def test_an_unfinished_run_is_reopened_and_its_params_are_not_logged_again(tracking):
    run = taught_by(TEACHER, seed=101)
    first = tracking.open_member(run, sweep="reopen")
    tracking.client.set_terminated(first, "KILLED")  # as a user interrupt leaves it: not pruned, so unfinished
    assert tracking.find([run.run_id])[run.run_id].status == "unfinished"
    assert tracking.open_member(run, sweep="reopen") == first
    assert tracking.client.get_run(first).info.status == "RUNNING"
    assert tracking.find_finished(run.run_id) is None


def test_a_run_has_one_record_whatever_happens_to_it(tracking):
    run = taught_by(TEACHER, seed=106)
    first = tracking.open_member(run, sweep="once")
    for outcome in ("pruned", "failed"):
        tracking.end_member(first, outcome, reason="why")
        assert tracking.open_member(run, sweep="once") == first
        assert tracking.outcome(first) == ("unfinished", {})
        assert not {"kdam.pruned", "kdam.failed"} & tracking.client.get_run(first).data.tags.keys()
    tracking.end_member(first, "finished")  # by a worker that outlived its sweep, while the next one was starting
    assert tracking.open_member(run, sweep="once") == first
    assert tracking.outcome(first)[0] == "finished"


@pytest.mark.parametrize(("outcome", "ended"), [("finished", "FINISHED"), ("pruned", "FINISHED"), ("failed", "FAILED")])
def test_how_members_end(tracking, outcome, ended):
    run = taught_by(TEACHER, seed=102, data_seed=sum(ended.encode()))
    child = tracking.open_member(run, sweep="ends")
    tracking.end_member(child, outcome, reason="the loss became nan" if outcome == "failed" else None)
    found = tracking.find([run.run_id])[run.run_id]
    assert (found.status, found.run, found.mlflow_run) == (outcome, run, child)
    assert found.reason == ("the loss became nan" if outcome == "failed" else None)
    assert tracking.client.get_run(child).info.status == ended
    assert ("kdam.pruned" in found.tags) == (outcome == "pruned")


def test_a_member_of_another_sweep_is_linked_not_copied(tracking):
    one, two = sweep("one", seed=103), sweep("two", seed=103)
    child = tracking.open_member(one.base, sweep="one", table=5, parent=tracking.open_parent(one))
    tracking.log_epoch(child, {"val/semseg/mIoU": 20.0}, 2)
    tracking.end_member(child, "finished")
    record, parent = tracking.find_finished(one.base.run_id), tracking.open_parent(two)
    link = tracking.link_member(record, sweep=two, parent=parent)
    assert tracking.link_member(record, sweep=two, parent=parent) == link != child
    assert tracking.find_finished(one.base.run_id).mlflow_run == child  # a link is no second record
    (shown,) = tracking.rows("rooms", "two")
    assert (shown.metrics, shown.tags["kdam.link"], shown.tags["mlflow.parentRunId"]) == (
        {"val/semseg/mIoU": 20.0},
        child,
        parent,
    )
    assert tracking.client.get_run(child).data.tags["kdam.sweep"] == "one"
    assert tracking.link_member(record, sweep=one, parent=record.tags["mlflow.parentRunId"]) == child


def test_a_link_follows_what_it_links_to(tracking):
    one, two = sweep("goes_on", seed=108), sweep("looks_on", seed=108)
    child = tracking.open_member(one.base, sweep="goes_on", parent=tracking.open_parent(one))
    tracking.log_epoch(child, {"val/semseg/mIoU": 20.0}, 1)
    parent = tracking.open_parent(two)
    link = tracking.link_member(tracking.find([one.base.run_id])[one.base.run_id], sweep=two, parent=parent)
    assert [row.status for row in tracking.rows("rooms", "looks_on")] == ["unfinished"]
    tracking.log_epoch(child, {"val/semseg/mIoU": 30.0}, 2)
    tracking.end_member(child, "failed", reason="nan")
    assert tracking.link_member(tracking.find([one.base.run_id])[one.base.run_id], sweep=two, parent=parent) == link
    (shown,) = tracking.rows("rooms", "looks_on")
    assert (shown.status, shown.metrics, shown.reason) == ("failed", {"val/semseg/mIoU": 30.0}, "nan")
    tracking.open_member(one.base, sweep="goes_on")  # tried again
    tracking.end_member(child, "finished")
    tracking.link_member(tracking.find_finished(one.base.run_id), sweep=two, parent=parent)
    (shown,) = tracking.rows("rooms", "looks_on")
    assert (shown.status, shown.reason) == ("finished", None)


def test_a_member_that_another_sweep_began_is_shown_where_it_ended(tracking):
    one, two = sweep("began", seed=107), sweep("ended", seed=107)
    child = tracking.open_member(one.base, sweep="began", parent=tracking.open_parent(one))
    parent = tracking.open_parent(two)
    assert tracking.open_member(two.base, sweep="ended", parent=parent) == child  # one record, in the first experiment
    tracking.end_member(child, "finished")
    tracking.link_member(tracking.find_finished(two.base.run_id), sweep=two, parent=parent)
    (shown,) = tracking.rows("rooms", "ended")
    assert (shown.run, shown.status, shown.tags["mlflow.parentRunId"]) == (two.base, "finished", parent)


def test_the_same_sweep_has_one_parent(tracking):
    of = sweep("parents", seed=104)
    parent = tracking.open_parent(of)
    tracking.end_parent(parent, {}, failed=False)
    assert tracking.open_parent(of.model_copy(update={"trials": 3})) == parent
    assert (
        tracking.open_parent(of.model_copy(update={"cells": ({}, {"seed": 1})})) == parent
    )  # more seeds are more of the same
    assert tracking.open_parent(sweep("parents", seed=104, data_seed=1)) != parent
    assert tracking.open_parent(of.model_copy(update={"cells": ({}, {"distill.beta": 2.0})})) != parent
    assert tracking.open_parent(of.model_copy(update={"cells": ({"teacher_run": "0" * 12},)})) != parent


def test_single_task_reference_is_the_mean_over_seeds_and_all_tasks_or_nothing(tracking):
    student = taught_by(TEACHER, data_seed=9)
    alone = change(student, {"distill": {}, "teacher": None, "teacher_run": None})
    for number, task in enumerate(student.tasks):
        assert tracking.single_task_reference(student) is None
        for seed in (0, 1):
            single = tracking.open_member(change(alone, {"tasks": (task,), "seed": seed}), sweep="single")
            key = {"semseg": "semseg/mIoU", "depth": "depth/rmse", "normals": "normals/mErr", "edge": "edge/odsF"}[task]
            tracking.log_epoch(single, {f"val/{key}": 10.0 * number + seed}, 2)
            tracking.end_member(single, "finished")
    assert tracking.single_task_reference(student) == {
        "semseg/mIoU": 0.5,
        "depth/rmse": 10.5,
        "normals/mErr": 20.5,
        "edge/odsF": 30.5,
    }
    assert tracking.single_task_reference(change(student, {"epochs": 7})) is None


def test_factors_on_tasks_change_nothing_of_the_single_task_reference(tracking):
    """A run with factors is compared like one without; a single task with one was trained otherwise and is none."""
    student = make_run(data_seed=10)
    weighted = change(student, {"task_factors": {"depth": 2.0, "edge": 0.5}})
    other = change(single_task(weighted, "depth"), {"task_factors": {"depth": 2.0}})
    for run in (*(single_task(weighted, task) for task in TASKS), other):
        mlflow_run = tracking.open_member(run, sweep="factors")
        value = 20.0 if run == other else 10.0
        tracking.log_epoch(mlflow_run, {f"val/{DATASETS['rooms'].task(run.tasks[0]).metric_key}": value}, 2)
        tracking.end_member(mlflow_run, "finished")
    alike = {"semseg/mIoU": 10.0, "depth/rmse": 10.0, "normals/mErr": 10.0, "edge/odsF": 10.0}
    assert tracking.single_task_reference(student) == alike
    assert tracking.single_task_reference(weighted) == alike


def test_where_runs_are_recorded(tmp_path, monkeypatch):
    place = Place(storage=str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(place) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking_uri(place) == "http://server:5000"
    assert tracking_uri(place.model_copy(update={"tracking_uri": "sqlite:////x.db"})) == "sqlite:////x.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///here/mlflow.db")  # relative; workers run in other folders
    assert tracking_uri(place) == f"sqlite:///{tmp_path}/here/mlflow.db"


def test_looking_creates_no_database(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking = Tracking(Place(storage=str(tmp_path)))
    assert tracking.find(["0123456789ab"]) == {}
    assert tracking.single_task_reference(make_run()) is None
    assert tracking.rows("rooms", "none") == []
    assert not list(tmp_path.iterdir())
