"""One run as it is recorded: what differs from the recipe, its seeds, its scores by epoch, what to do next.

python -m pytest tests/report/test_one_run.py
"""

import shutil
from dataclasses import replace

import pytest
from recorded import small_sweep

from kdam_ray.config import Place, change
from kdam_ray.recipes import recipe
from kdam_ray.report.one_run import (
    OneRun,
    from_recipe,
    grouped,
    run_document,
    run_grids,
    sweep_document,
    sweep_grids,
    varied_and_shared,
)  # fmt: skip
from kdam_ray.service.records.listing import find_members, sweep_of
from kdam_ray.service.records.tracking import Tracking


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, empty_mlflow):
    folder = tmp_path_factory.mktemp("one")
    shutil.copy(empty_mlflow, folder)
    place = Place(storage=str(folder))
    sweep, _, runs = small_sweep(place, "one_run")
    tracking = Tracking(place)
    (member,) = find_members(tracking, runs["kd"].run_id)
    histories = {"val/semseg/mIoU": {1: 10.0, 2: 12.0}, "val/edge/odsF_25": {1: 50.0}, "val/edge/odsF": {2: 57.0}}
    return OneRun(member, sweep_of(tracking, member), histories, None, "/runs/epoch_0002", "http://page"), sweep, runs


def text_of(grids):
    return {
        grid.title: [" ".join(cell.text + "†" * cell.is_flagged for cell in row) for row in grid.rows] for grid in grids
    }


def test_what_differs_from_the_recipe_stands_first():
    student = recipe("rooms").student
    run = change(student, {"optim.lr": 0.003, "seed": 2, "dataset_hash": "feed"})
    assert from_recipe(run) == ("student of rooms", {"optim.lr": (0.003, student.optim.lr), "seed": (2, 0)})
    named, differs = from_recipe(recipe("rooms", smoke=True).teacher)
    assert (named, differs) == ("teacher of rooms, smoke", {})


def test_every_field_stands_in_a_group(recorded):
    run = recorded[0].run
    told = ", ".join(grouped(run).values())
    assert "image_size 32x32" in told
    assert "tasks semseg depth normals edge" in told
    assert "optim.lr" in told
    assert "contexts" not in told


def test_a_run_says_where_it_stands(recorded):
    one, sweep, runs = recorded
    shown = text_of(run_grids(one, one.member.seen + 60))
    facts = shown[f"Run {one.run.run_id}: b1 T3 s0"]
    assert facts[0] == "state finished, epoch 2 of 2, last sign of life 60 s ago"
    assert any(line.startswith(f"sweep {sweep.sweep_id}") for line in facts)
    (seeds,) = (line for line in facts if line.startswith("seeds"))
    assert seeds.startswith("seeds 5 recorded, Δ teacher -2.50 ±0.71: 0 ")
    assert shown["Scores by epoch"] == ["1 10.00 - - 50.00† - -", "2 12.00 - - 57.00 - -"]
    document = run_document(one, one.member.seen)
    assert document["commands"][2] == f"kdam compare {one.run.run_id} {runs['plain'].run_id}"
    assert document["by_epoch"]["2"] == {"val/semseg/mIoU": 12.0, "val/edge/odsF": 57.0}
    assert document["recipe"] is not None


def test_why_it_failed_is_said(recorded):
    one, _, runs = recorded
    failed = next(each for each in one.sweep.members if each.found.run == runs["failed"])
    facts = text_of(run_grids(replace(one, member=failed, checkpoint="none"), failed.seen))
    assert "why NaN in semseg" in facts[f"Run {failed.found.run.run_id}: b1 T3 s13"]


def test_a_sweep_says_what_its_members_differ_in(recorded):
    one, sweep, runs = recorded
    varied, shared = varied_and_shared(list(runs.values()))
    assert varied["seed"] == "0, 1, 2, 3, 13"
    assert varied["distill.method"] == "plain_kd, none"
    assert "epochs" not in varied
    assert shared["data"].startswith("dataset rooms, train_images 8")
    shown = text_of(sweep_grids(one.sweep, "http://page", one.sweep.seen))
    facts = shown[f"Sweep {sweep.sweep_id}: kdam/rooms/one_run"]
    assert facts[0] == "members 1 training, 4 finished, 1 pruned, 1 failed"
    assert facts[1] == f"failed {runs['failed'].run_id} NaN in semseg"
    assert any(line.startswith("ahead ") and "(2 seeds)" in line for line in facts)
    assert sweep_document(one.sweep, "", one.sweep.seen)["kind"] == "sweep"
