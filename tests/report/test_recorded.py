"""Table 5 from MLflow alone: the newest sweep, what has finished of it, its teacher and its single-task references.

python -m pytest tests/report/test_recorded.py
"""

import pytest

from kdam_ray.config import Distill, Place, Sweep, change
from kdam_ray.recipes import recipe
from kdam_ray.report.beta_temp import as_report, recorded
from kdam_ray.service.tracking import Tracking

KEYS = ("semseg/mIoU", "depth/rmse", "normals/mErr", "edge/odsF")
ALONE = {"distill": Distill().model_dump(), "teacher": None, "teacher_run": None}


@pytest.fixture
def tracking(tmp_path):
    return Tracking(Place(storage=str(tmp_path / "runs"), tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db"))


def record(tracking, run, sweep, values, *, parent=None, status="finished"):
    child = tracking.open_member(run, sweep=sweep, parent=parent)
    tracking.log_epoch(child, {f"val/{key}": value for key, value in zip(KEYS, values, strict=True)}, run.epochs)
    if status:
        tracking.end_member(child, status, reason="nan" if status == "failed" else None)
    return child


def record_sweep(tracking, mIoU, epochs):
    """Three no-KD seeds and three cells: one finished, one still running, one failed."""
    teacher = change(recipe("rooms").teacher, {"epochs": epochs})
    record(tracking, teacher, "teachers", (50.0 + epochs, 0.5, 20.0, 80.0))
    base = change(
        recipe("rooms").student,
        {"epochs": epochs, "teacher": teacher.student, "teacher_run": teacher.run_id, "distill": {"method": "plain_kd"}},
    )
    parent = tracking.open_parent(Sweep(name="beta_temp", table=5, base=base, cells=({},)))
    for seed in range(3):
        record(tracking, change(base, ALONE | {"seed": seed}), "beta_temp", (10.0 + seed, 1.0, 30.0, 70.0), parent=parent)
    record(tracking, change(base, {"distill.beta": 2.0}), "beta_temp", (mIoU, 1.0, 30.0, 70.0), parent=parent)
    record(tracking, change(base, {"distill.beta": 4.0}), "beta_temp", (77.0, 1.0, 30.0, 70.0), parent=parent, status=None)
    record(tracking, change(base, {"distill.beta": 8.0}), "beta_temp", (78.0, 1.0, 30.0, 70.0), parent=parent, status="failed")
    return base


def line(results, label):
    return next(line for line in results.lines if line.label == label)


def test_two_sweeps_of_one_experiment_do_not_mix(tracking):
    record_sweep(tracking, 20.0, epochs=5)
    record_sweep(tracking, 30.0, epochs=6)
    results = recorded(tracking, "rooms", "beta_temp")
    assert line(results, "beta 2").number("semseg/mIoU").mean == 30.0
    assert {scored.run.epochs for one in results.lines for scored in one.runs} == {6}
    assert line(results, "teacher resnet_w16").number("semseg/mIoU").mean == 56.0
    assert line(results, "no KD (3 seeds)").number("semseg/mIoU").n == 3
    assert line(results, "beta 4").runs == ()  # still running
    assert line(results, "beta 8").runs == ()  # failed
    assert "missing" in as_report(results)[0]


def test_single_task_runs_become_the_reference_once_complete(tracking):
    base = record_sweep(tracking, 20.0, epochs=5)
    assert recorded(tracking, "rooms", "beta_temp").reference.kind == "no KD"
    for task, key in zip(base.tasks, KEYS, strict=True):
        run = change(base, ALONE | {"tasks": (task,)})
        child = tracking.open_member(run, sweep="student")
        tracking.log_epoch(child, {f"val/{key}": {"semseg/mIoU": 10.0, "depth/rmse": 1.0, "normals/mErr": 30.0, "edge/odsF": 70.0}[key]}, 5)
        tracking.end_member(child, "finished")
    results = recorded(tracking, "rooms", "beta_temp")
    assert results.reference.kind == "single-task"
    assert results.line_delta(line(results, "beta 2")).mean == pytest.approx(100 / 4)


def test_nothing_recorded_is_said_with_where_it_was_looked_for(tracking, tmp_path):
    with pytest.raises(ValueError, match=r"no finished run in experiment kdam/rooms/beta_temp of sqlite:.*jobs/sweep_beta_temp"):
        recorded(tracking, "rooms", "beta_temp")
    assert not (tmp_path / "runs").exists()
