"""Whole sweeps through Tune and Train with a training that trains nothing: what is recorded, what is done again.

python -m pytest tests/service/test_sweep.py
"""

import functools
from dataclasses import replace

import fakes
import pytest
from fakes import BAD_SEED, CRASH_SEED, NAN_SEED, fake_train, make_run, taught_by

from kdam_ray.config import Sweep, change
from kdam_ray.service.pool import launch
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.sweep import plan, run_sweep
from kdam_ray.service.teachers import find_or_train

ALONE = {"distill": {}, "teacher": None, "teacher_run": None}
ALONE_IN_A_COHORT = {"seed": BAD_SEED, "data_seed": 1}
# enough to judge others by in either cohort
NEAR = tuple({"distill.beta": 1.0 + 0.01 * place} for place in range(1, 17))
CELLS = (
    {},
    {"distill.beta": 2.0},
    *NEAR,
    {"seed": NAN_SEED},
    {"seed": CRASH_SEED},
    ALONE_IN_A_COHORT,
)
AROUND_THE_CELLS = {"distill.beta": (1.0, 16.0)}


@pytest.fixture(scope="module")
def done(ray_session, mlflow_uri, tmp_path_factory):
    """One sweep with everything in it.

    A teacher, cells (one diverges, one is refused, one's worker dies), a reference, a search, further seeds of what
    came out first.
    """
    import ray.cloudpickle

    from kdam_ray.config import Place

    ray.cloudpickle.register_pickle_by_value(fakes)  # workers do not have the tests' folder
    folder = tmp_path_factory.mktemp("sweep")
    place = Place(storage=str(folder / "runs"), tracking_uri=mlflow_uri, workers=2, gpus=False, pictures_every=0)
    teacher = make_run(student="resnet_w8", batch_norm_ranks=2, data_seed=77)
    sweep = Sweep(
        name="whole",
        table=5,
        base=taught_by(teacher, epochs=3),
        cells=CELLS,
        references=(ALONE,),
        space=AROUND_THE_CELLS,
        trials=3,
        confirmed=2,
    )
    before = plan(sweep, place, teachers=[teacher])
    betas = frozenset(changes.get("distill.beta", 1.0) for changes in CELLS)  # what is drawn between them collapses
    train = functools.partial(fake_train, marker=str(folder / "crashed"), betas=betas)
    result = run_sweep(sweep, place, teachers=[teacher], train=train)
    assert (folder / "crashed").exists()
    return sweep, place, teacher, before, result


def test_the_plan_says_what_was_then_done(done):
    sweep, _, teacher, before, result = done
    assert before.cohorts[0] == (teacher.run_id,)
    half = len(CELLS) // 2  # without the one that is alone, with the reference
    assert sorted(map(len, before.cohorts)) == [1, 1, 1, 2, 2, 2, half, len(CELLS) - half]
    assert before.cohorts[-2:] == (("seed", "seed"), ("seed", "seed"))
    assert "3 more to be drawn by the search, then 4 further seeds of what comes out first" in before.text()
    assert (before.searched, before.confirming) == (3, 4)
    assert before.steps == teacher.epochs * 2 + (len(CELLS) + 8) * sweep.base.epochs * 2
    assert before.flops > 0
    assert before.seconds > 0
    assert {item.status for item in (*before.teachers, *before.runs)} == {"new"}
    assert result.trained == len(CELLS) + 8


def test_every_member_ends_as_it_should(done):
    """Law 7: one diverges, one is refused, one takes its worker with it; the others do not notice."""
    sweep, _, _, _, result = done
    known = len(CELLS) + 1
    assert [row.changes for row in result.rows[:known]] == [*CELLS, ALONE]
    purposes = ["cell"] * len(CELLS) + ["reference"] + ["searched"] * 3 + ["confirmation"] * 4
    assert [row.purpose for row in result.rows] == purposes
    by_seed = {row.run.seed: row for row in result.rows[: len(CELLS)]}
    assert (by_seed[NAN_SEED].status, by_seed[NAN_SEED].reason) == ("failed", "the training loss became nan")
    assert (by_seed[BAD_SEED].status, by_seed[BAD_SEED].reason) == ("failed", "runs: one of them is no good")
    assert result.failed == (by_seed[NAN_SEED], by_seed[BAD_SEED])
    for row in result.rows[:known]:
        if row not in result.failed:
            assert row.status == "finished"
            assert row.metrics["val/semseg/mIoU"] == pytest.approx(10 + 3 / (1 + abs(row.run.distill.beta - 1)))
            assert "val/delta_teacher" in row.metrics
    assert result.best.run == sweep.base
    assert result.found()["best"] == {"distill.beta": 1.0}


def test_what_came_out_first_gets_further_seeds_and_is_then_called_best(done):
    sweep, place, _, _, result = done
    judged = [row for row in result.rows if row.status == "finished" and row.purpose in ("cell", "searched")]
    judged = [row for row in judged if row.run.seed == 0]
    first = sorted(judged, key=lambda row: -row.metrics["val/delta_teacher"])[:2]
    further = [row for row in result.rows if row.purpose == "confirmation"]
    assert [row.run for row in further] == [change(row.run, {"seed": seed}) for row in first for seed in (1, 2)]
    assert {row.status for row in further} == {"finished"}
    assert [row["seeds"] for row in result.found()["confirmed"]] == [[0, 1, 2, CRASH_SEED], [0, 1, 2]]
    recorded = Tracking(place).outcome(result.parent)[1]
    assert (recorded["best/delta_teacher"], recorded["best/seeds"]) == (pytest.approx(result.best.mean), 4)
    assert "ahead/delta_teacher" not in recorded
    alone = replace(result, rows=tuple(row for row in result.rows if row.purpose != "confirmation"))
    assert (alone.best, alone.found()["best"], alone.ahead.run) == (None, {}, sweep.base)
    assert set(alone.found_metrics()) == {"ahead/delta_teacher", "ahead/seeds"}


def test_searched_members_are_pruned_and_cells_never(done):
    _, place, _, _, result = done
    pruned = [row for row in result.rows if row.status == "pruned"]
    assert pruned
    assert all(row.purpose == "searched" for row in pruned)
    client = Tracking(place).client
    for row in pruned:
        recorded = client.get_run(row.mlflow_run)
        assert recorded.info.status == "FINISHED"
        assert recorded.info.run_name.startswith("pruned ")
        assert recorded.data.tags["kdam.pruned"] == "true"
        assert len(client.get_metric_history(row.mlflow_run, "val/semseg/mIoU")) < 3


def test_what_mlflow_shows(done):
    _, place, teacher, _, result = done
    tracking = Tracking(place)
    client = tracking.client
    experiment = client.get_experiment_by_name("kdam/rooms/whole").experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{result.parent}'")
    assert {child.data.tags["kdam.run_id"] for child in children} == {row.run.run_id for row in result.rows}
    assert len(children) == len(result.rows)  # the crash made no second record
    base = client.get_run(result.rows[0].mlflow_run)
    assert base.info.status == "FINISHED"
    assert {item.path for item in client.list_artifacts(base.info.run_id, "checkpoint")} == {
        "checkpoint/weights.safetensors", "checkpoint/manifest.json",
    }  # fmt: skip
    assert [item.step for item in client.get_metric_history(base.info.run_id, "val/delta_teacher")] == [1, 2, 3]
    assert client.get_run(result.parent).info.status == "FAILED"  # one member has
    point = result.best or result.ahead
    assert tracking.model_of(next(row.mlflow_run for row in result.rows if row.run == point.run))
    assert not set(base.data.params) & set(client.get_run(result.parent).data.params)  # what differs, what does not
    (row,) = result.teachers
    assert (row.run, tracking.find_finished(teacher.run_id).experiment) == (teacher, "kdam/rooms/teachers")


def test_what_it_cost_is_what_its_runs_cost(done):
    """A first call: all that was ever spent on its runs, the lost ones and the teacher among them."""
    _, place, _, before, result = done
    finished = [row for row in (*result.teachers, *result.rows) if row.run.seed != BAD_SEED]
    recorded = [row.metrics if row.metrics else Tracking(place).outcome(row.mlflow_run)[1] for row in finished]
    assert all(0 < metrics["cost/device_s"] <= 2 * metrics["cost/wall_s"] for metrics in recorded)
    assert result.cost["device_hours"] == pytest.approx(sum(metrics["cost/device_s"] for metrics in recorded) / 3600)
    assert result.cost["tflop"] == pytest.approx(sum(metrics["cost/tflop"] for metrics in recorded))
    assert result.cost["wall_s"] > max(metrics["cost/wall_s"] for metrics in recorded)
    assert result.planned == pytest.approx(
        {"seconds": before.seconds, "device_hours": before.device_hours, "tflop": before.flops / 1e12}
    )  # fmt: skip
    parent = Tracking(place).outcome(result.parent)[1]
    assert {name.removeprefix("cost/") for name in parent if name.startswith("cost/")} == set(result.cost)
    once = result.rows[0].metrics["cost/tflop"]
    lost = next(row for row in result.rows if row.run.seed == CRASH_SEED).metrics["cost/tflop"]
    assert lost > once  # the epoch in which its worker died was begun twice


def test_the_same_again_trains_nothing_and_starts_nothing(done, monkeypatch):
    """Law 8; the one that was refused is left out, for that one would be tried again."""
    sweep, place, teacher, _, result = done
    monkeypatch.setattr(launch, "session", lambda *_: pytest.fail("Ray was started"))
    good = sweep.model_copy(update={"cells": CELLS[:-1]})
    again = run_sweep(good, place, teachers=[teacher], train=lambda *_, **__: pytest.fail("trained"))
    before = [row for row in result.rows if row.run.seed != BAD_SEED]
    assert again.trained == 0
    assert all(row.reused for row in (*again.rows, *again.teachers))
    assert [(row.run, row.status, row.metrics) for row in again.rows] == [
        (row.run, row.status, row.metrics) for row in before
    ]
    assert again.best.run == result.best.run
    assert again.parent != result.parent  # with a cell less it is another sweep, which has cost nothing
    assert (again.cost, again.planned) == ({}, {})
    once_more = run_sweep(good, place, teachers=[teacher], train=lambda *_, **__: pytest.fail("trained"))
    assert (once_more.parent, once_more.cost) == (again.parent, {})
    assert plan(good, place).complete  # the teacher is known by now and need not be given
    found = find_or_train(teacher, place)
    assert (found.reused, found.reason) == (True, None)


def test_another_sweep_shows_what_it_shares_without_training_it(done, monkeypatch):
    sweep, place, teacher, _, result = done
    monkeypatch.setattr(launch, "session", lambda *_: pytest.fail("Ray was started"))
    other = Sweep(name="shares", base=sweep.base, cells=({}, {"distill.beta": 2.0}), references=(ALONE,))
    shared = run_sweep(other, place, teachers=[teacher])
    shown = (0, 1, len(CELLS))
    assert [row.mlflow_run for row in shared.rows] == [result.rows[index].mlflow_run for index in shown]
    rows = Tracking(place).rows("rooms", "shares")
    assert {row.tags["kdam.link"] for row in rows} == {row.mlflow_run for row in shared.rows}
    assert {row.tags["mlflow.parentRunId"] for row in rows} == {shared.parent}


def test_only_what_is_missing_is_trained(done):
    """Law 8: one cell more costs one member more, and the one that was refused is tried again."""
    sweep, place, teacher, _, _ = done
    more = sweep.model_copy(update={"cells": (*CELLS, {"distill.beta": 1.25})})
    left = plan(more, place, teachers=[teacher])
    wanted = [change(sweep.base, changes).run_id for changes in (ALONE_IN_A_COHORT, {"distill.beta": 1.25})]
    assert left.cohorts == (*((run_id,) for run_id in wanted), ("seed", "seed"), ("seed", "seed"))
    assert (left.steps, left.searched) == (12 + 4 * 6, 0)
    assert left.confirming == 4  # the new cell may come out first


def test_bad_input_is_refused_before_anything_starts(place):
    base = taught_by(make_run(student="resnet_w8", data_seed=78))
    with pytest.raises(ValueError, match="teacher_run"):
        plan(Sweep(name="bad", base=base, cells=({},)), place)
    with pytest.raises(ValueError, match=r"distill\.gamma"):
        plan(Sweep(name="bad", base=base, cells=({"distill.gamma": 1},)), place)
    with pytest.raises(ValueError, match="space"):
        plan(Sweep(name="bad", base=base, cells=(), space={"distill.beta": (2.0, 1.0)}, trials=1), place)
    with pytest.raises(ValueError, match="trials"):
        plan(Sweep(name="bad", base=base, cells=(), trials=1), place)


@pytest.fixture(scope="module")
def several(ray_session, mlflow_uri, tmp_path_factory):
    """Three teachers, one of which diverges, a run that teaches nobody; students of each and one untaught."""
    import ray.cloudpickle

    from kdam_ray.config import Place

    ray.cloudpickle.register_pickle_by_value(fakes)
    place = Place(
        storage=str(tmp_path_factory.mktemp("several") / "runs"),
        tracking_uri=mlflow_uri,
        workers=1,  # a lane that a dozen processes need not start beside the first
        gpus=False,
        pictures_every=0,
    )
    good, better, bad = (
        make_run(student="resnet_w8", data_seed=79, **own) for own in ({}, {"epochs": 3}, {"seed": NAN_SEED})
    )
    alone = make_run(student="resnet_w8", data_seed=79, tasks=("semseg",))
    cells = ({}, {"teacher_run": better.run_id}, {"teacher_run": bad.run_id}, ALONE)
    sweep = Sweep(name="several", base=taught_by(good, epochs=2), cells=cells)
    teachers = [bad, good, better, alone]
    return sweep, place, teachers, run_sweep(sweep, place, teachers=teachers, train=fake_train)


def delta_to(teacher_epochs: int) -> float:
    """Of a fake student with beta 1 after two epochs."""
    own, reference = 2, teacher_epochs
    better_if_higher = [(10 + own) / (10 + reference) - 1, (50 + own) / (50 + reference) - 1]
    return 100 * (sum(better_if_higher) + 2 * (1 - (1 + reference) / (1 + own))) / 4


def test_each_student_is_measured_against_its_own_teacher(several):
    _, place, (bad, good, better, alone), result = several
    own, others, _, untaught = result.rows
    assert own.metrics["val/delta_teacher"] == pytest.approx(delta_to(2))
    assert others.metrics["val/delta_teacher"] == pytest.approx(delta_to(3))
    assert untaught.status == "finished"
    assert "val/delta_teacher" not in untaught.metrics
    for row in (own, others, untaught):  # what was recorded while it trained says the same
        recorded = Tracking(place).find([row.run.run_id])[row.run.run_id].metrics
        assert recorded.get("val/delta_teacher") == pytest.approx(row.metrics.get("val/delta_teacher"))
    assert {row.run.run_id: row.status for row in result.teachers} == {
        bad.run_id: "failed", good.run_id: "finished", better.run_id: "finished", alone.run_id: "finished",
    }  # fmt: skip


def test_a_failed_teacher_stops_its_own_students_only(several):
    _, _, (bad, *_), result = several
    lost = result.rows[2]
    assert (lost.status, lost.reason) == ("failed", f"its teacher {bad.run_id} failed: the training loss became nan")
    assert [row.status for row in result.rows] == ["finished", "finished", "failed", "finished"]
    assert result.trained == 3
    assert {row.run.run_id for row in result.failed} == {bad.run_id, lost.run.run_id}


def test_what_a_failed_teacher_blocks_is_not_tried_again(several, monkeypatch):
    sweep, place, teachers, result = several
    monkeypatch.setattr(launch, "session", lambda *_: pytest.fail("Ray was started"))
    left = plan(sweep, place, teachers=teachers)
    assert left.complete
    assert (left.steps, left.flops) == (0, 0)
    assert "1 run cannot be trained: their teacher has failed" in left.text()
    again = run_sweep(sweep, place, teachers=teachers)
    assert [(row.run, row.status, row.reason) for row in again.rows] == [
        (row.run, row.status, row.reason) for row in result.rows
    ]
    assert again.trained == 0
