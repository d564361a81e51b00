"""Table 5 from MLflow alone: the newest sweep, what has finished of it, its teacher and its single-task references.

python -m pytest tests/report/test_beta_temp.py
"""

import pytest

from kdam_ray.config import Distill, Place, Sweep, change
from kdam_ray.recipes import recipe
from kdam_ray.report.beta_temp import recorded
from kdam_ray.report.beta_temp_grid import as_grids, as_report
from kdam_ray.report.from_mlflow import made
from kdam_ray.service.records.tracking import Tracking

KEYS = ("semseg/mIoU", "depth/rmse", "normals/mErr", "edge/odsF")
ALONE = {"distill": Distill().model_dump(), "teacher": None, "teacher_run": None}


@pytest.fixture
def tracking(own_mlflow):
    return Tracking(Place(storage=str(own_mlflow.parent), tracking_uri=f"sqlite:///{own_mlflow}"))


def record(tracking, run, sweep, values, *, parent=None, status="finished"):
    child = tracking.open_member(run, sweep=sweep, parent=parent)
    tracking.log_epoch(child, {f"val/{key}": value for key, value in zip(KEYS, values, strict=True)}, run.epochs)
    if status:
        tracking.end_member(child, status, reason="nan" if status == "failed" else None)
    return child


def record_sweep(tracking, mIoU, epochs, **changes):
    """Three no-KD seeds and three cells: one finished, one still running, one failed."""
    teacher = change(recipe("rooms").teacher, {"epochs": epochs})
    record(tracking, teacher, "teachers", (50.0 + epochs, 0.5, 20.0, 80.0))
    base = change(
        recipe("rooms").student,
        {
            "epochs": epochs,
            "teacher": teacher.student,
            "teacher_run": teacher.run_id,
            "distill": {"method": "plain_kd"},
        }
        | changes,
    )
    parent = tracking.open_parent(Sweep(name="beta_temp", table=5, base=base, cells=({},)))
    for seed in range(3):
        record(
            tracking, change(base, ALONE | {"seed": seed}), "beta_temp", (10.0 + seed, 1.0, 30.0, 70.0), parent=parent
        )
    record(tracking, change(base, {"distill.beta": 2.0}), "beta_temp", (mIoU, 1.0, 30.0, 70.0), parent=parent)
    record(
        tracking, change(base, {"distill.beta": 4.0}), "beta_temp", (77.0, 1.0, 30.0, 70.0), parent=parent, status=None
    )
    record(
        tracking,
        change(base, {"distill.beta": 8.0}),
        "beta_temp",
        (78.0, 1.0, 30.0, 70.0),
        parent=parent,
        status="failed",
    )
    return base


def last(tracking, **options):
    return recorded(tracking, "rooms", "beta_temp", tracking.parents("rooms", "beta_temp")[0].mlflow_run, **options)


def line(results, label):
    return next(row for row in results.rows if row.label == label)


def number_of(results, label, key):
    return results.number(line(results, label), key)


def test_two_sweeps_of_one_experiment_do_not_mix(tracking):
    record_sweep(tracking, 20.0, epochs=5)
    record_sweep(tracking, 30.0, epochs=6)
    results = last(tracking)
    assert number_of(results, "beta 2", "semseg/mIoU").mean == 30.0
    assert {row.epochs for row in results.rows if row.run_ids} == {6}
    assert number_of(results, "teacher resnet_w16", "semseg/mIoU").mean == 56.0
    assert number_of(results, "no KD (3 seeds)", "semseg/mIoU").n == 3
    assert line(results, "beta 4").run_ids == {}  # still running
    assert line(results, "beta 8").run_ids == {}  # failed
    assert [row["reason"] for row in as_report(results)[1]["failed"]] == ["nan"]
    assert "missing" in as_report(results)[0]


def test_further_seeds_of_a_point_are_read_back_as_one_row_and_confirm_it(tracking):
    base = record_sweep(tracking, 20.0, epochs=5)
    parent = tracking.parents("rooms", "beta_temp")[0].mlflow_run
    for name, seeds in (("beta", (1, 2)), ("temperature", (0, 1, 2))):  # a cell, and a searched point
        point = {"distill.beta": 2.0} if name == "beta" else {"distill.beta": 2.5, "distill.temperature": 2.5}
        for seed in seeds:
            run = change(base, point | {"seed": seed})
            child = record(tracking, run, "beta_temp", (20.0 + seed + (name == "beta"), 1.0, 30.0, 70.0), parent=parent)
            tracking.log_epoch(child, {"val/delta_teacher": -5.0 - seed}, 5)
    results = last(tracking)
    assert number_of(results, "beta 2", "semseg/mIoU").n == 3
    assert number_of(results, "β 2.5 T 2.5", "semseg/mIoU").n == 3
    assert [row.label for row in results.confirmed] == ["β 2.5 T 2.5", "beta 2"]
    assert "Best of 2 confirmed at 3 seeds or more" in as_report(results)[0].replace("\n  ", " ")


def test_single_task_runs_become_the_reference_once_complete(tracking):
    base = record_sweep(tracking, 20.0, epochs=5)
    assert last(tracking).delta_kind == "no KD"
    for task, key in zip(base.tasks, KEYS, strict=True):
        run = change(base, ALONE | {"tasks": (task,)})
        child = tracking.open_member(run, sweep="student")
        tracking.log_epoch(
            child,
            {f"val/{key}": {"semseg/mIoU": 10.0, "depth/rmse": 1.0, "normals/mErr": 30.0, "edge/odsF": 70.0}[key]},
            5,
        )
        tracking.end_member(child, "finished")
    results = last(tracking)
    assert results.delta_kind == "single-task"
    assert results.number(line(results, "beta 2"), "delta_mt").mean == pytest.approx(100 / 4)


def test_a_sweep_whose_tasks_have_factors_is_shown(tracking):
    """Its single-task references learn without them."""
    record_sweep(tracking, 20.0, epochs=5, task_factors={"depth": 2.0})
    results = last(tracking)
    assert results.delta_kind == "no KD"
    assert results.number(line(results, "beta 2"), "semseg/mIoU").mean == 20.0


def test_unfinished_runs_are_shown_where_asked_and_decide_nothing(tracking):
    record_sweep(tracking, 20.0, epochs=5)
    finished, shown = last(tracking), last(tracking, partial=True)
    cell = line(shown, "beta 4")
    assert shown.number(cell, "semseg/mIoU").mean == 77.0
    assert "beta 4 (1 unfinished)" in [row[0].text for row in as_grids(shown)[0].rows]
    assert not shown.is_resolved(line(shown, "beta 8"), "semseg/mIoU")  # failed: still missing
    text, document = as_report(shown)
    assert "beta 4 (1 unfinished)" in text
    assert not any("77" in cell for cell in text.split() if "†" in cell)
    assert document["notes"] == as_report(finished)[1]["notes"]  # best point, what one seed resolves
    assert [row["unfinished"] for row in document["rows"] if row["model"] == "beta 4"] == [list(cell.run_ids[0])]


def test_a_sweep_of_which_nothing_has_ended_says_what_to_ask_for(tracking):
    base = recipe("rooms").student
    tracking.open_parent(Sweep(name="beta_temp", table=5, base=base, cells=({},)))
    with pytest.raises(
        ValueError,
        match=r"table 5: no finished run in sweep [0-9a-f]{32}, experiment kdam/rooms/beta_temp of sqlite:[^;]*$",
    ):
        last(tracking)
    parent = tracking.parents("rooms", "beta_temp")[0].mlflow_run
    record(tracking, base, "beta_temp", (10.0, 1.0, 30.0, 70.0), parent=parent, status=None)
    with pytest.raises(ValueError, match="1 have not ended: --partial shows those"):
        last(tracking)


def test_an_older_sweep_is_shown_by_name(tracking):
    record_sweep(tracking, 20.0, epochs=5)
    record_sweep(tracking, 30.0, epochs=6)
    (new, old) = [parent.mlflow_run for parent in tracking.parents("rooms", "beta_temp")]
    values = {}
    for name in (None, old):
        _, document = made("5", "rooms", tracking, smoke=False, partial=False, sweep_run=name)
        values[document["sweep"]] = next(row for row in document["rows"] if row["model"] == "beta 2")["metrics"][
            "semseg/mIoU"
        ]["mean"]
        assert len(document["other_sweeps"]) == 1
    assert values == {new: 30.0, old: 20.0}
    with pytest.raises(
        ValueError,
        match=rf"sweep: 'x' is no sweep for table 5 in kdam/rooms/beta_temp; there are: {new} \(20.*{old} \(20",
    ):
        made("5", "rooms", tracking, smoke=False, partial=False, sweep_run="x")


def test_nothing_recorded_is_said_with_where_it_was_looked_for(tmp_path):
    tracking = Tracking(Place(storage=str(tmp_path / "runs"), tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db"))
    with pytest.raises(
        ValueError,
        match=r"table 5: nothing is recorded in experiment kdam/rooms/beta_temp of sqlite:.*kdam sweep-beta-temp",
    ):
        made("5", "rooms", tracking, smoke=False, partial=False)
    assert not (tmp_path / "runs").exists()
