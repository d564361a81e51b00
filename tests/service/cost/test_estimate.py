"""What runs will cost: counted before they run.

python -m pytest tests/service/cost/test_estimate.py
"""

import pytest
from fakes import make_run, taught_by

from kdam_ray.config import Sweep, change
from kdam_ray.service.cost import pace
from kdam_ray.service.cost.estimate import EXCHANGE_S, RATE, STEP_S, TASK_S, Costs, Counted, Operations, needed
from kdam_ray.service.plan import GROUP_S, START_S
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.sweep import plan
from kdam_ray.zoo import DECODERS

ALONE = {"distill": {}, "teacher": None, "teacher_run": None}
HEAVY = Operations(train=30e12, evaluation=10e12, teacher=0.0)
TAUGHT = Operations(train=15e12, evaluation=5e12, teacher=8e12)


def test_counts_are_kept_and_a_damaged_file_is_counted_again(tmp_path):
    storage, run = Storage(str(tmp_path)), make_run()
    counted = Costs(storage).network(run, run.student, run.decoder).all_macs
    (kept,) = storage.cache().glob("*.json")
    assert [Counted(*known).all_macs for known in Costs(storage)._known.values()] == [counted]
    kept.write_text(kept.read_text()[:-5])  # a process killed while it wrote
    assert Costs(storage).network(run, run.student, run.decoder).all_macs == counted


def test_an_epoch_without_evaluation_costs_less(tmp_path):
    storage, run = Storage(str(tmp_path)), make_run(epochs=5)
    once = Costs(storage).epoch(run)
    assert once.evaluation / once.train == pytest.approx(run.val_images / (3 * run.steps_per_epoch * run.batch))
    assert Costs(storage).member(run, 5) == pytest.approx(5 * (once.train + once.evaluation))
    seldom = Costs(storage, evaluate_every=2)
    assert seldom.member(run, 5) == pytest.approx(
        5 * once.train + 3 * once.evaluation
    )  # after epochs 2, 4 and the last
    assert seldom.member(run, 2) == pytest.approx(2 * once.train + 2 * once.evaluation)  # 4 and the last are left


def test_a_cohort_pays_for_one_teacher(tmp_path):
    costs, teacher = Costs(Storage(str(tmp_path))), make_run(student="resnet_w8")
    taught, alone = taught_by(teacher), make_run(seed=5)
    shared = costs.epoch(taught).teacher
    assert shared == pytest.approx(
        2 * costs.network(taught, "resnet_w8", "mt_baseline").all_macs * taught.steps_per_epoch * taught.batch
    )
    both = costs.cohort([taught, change(taught, {"seed": 1}), alone], [2, 2, 2])
    assert both == pytest.approx(2 * costs.member(taught, 2) + costs.member(alone, 2) + 2 * shared)


def test_those_who_are_taught_share_the_teacher_equally():
    shares = needed({"a": TAUGHT, "b": TAUGHT, "c": HEAVY}, {"a", "c"})
    assert shares == {"a": 24e12, "b": 19e12, "c": 40e12}
    assert sum(shares.values()) == 2 * 15e12 + 5e12 + 8e12 + 40e12


def test_a_cpu_takes_time_for_steps_and_operations_and_a_gpu_for_operations(tmp_path):
    costs, run = Costs(Storage(str(tmp_path)), evaluate_every=3), make_run(epochs=3)
    operations, steps, evaluated = costs.member(run, 3), 3 * run.steps_per_epoch, run.val_images / run.batch / 3
    known = STEP_S["mt_baseline"] + TASK_S * (len(run.tasks) - 4)
    assert costs.seconds([run], [3], ranks=1, gpus=False) == pytest.approx(
        operations / RATE["cpu"] + known * (steps + evaluated)
    )
    exchanged = EXCHANGE_S * len(run.tasks) * steps
    in_two = (operations / RATE["cpu"] + known * evaluated) / 2 + known * steps + exchanged
    assert costs.seconds([run], [3], ranks=2, gpus=False) == pytest.approx(in_two)
    assert costs.seconds([run, run], [3, 3], ranks=4, gpus=True) == pytest.approx(2 * operations / (4 * RATE["gpu"]))


def test_systems_of_many_small_operators_take_longer_than_their_operations_say(tmp_path):
    costs = Costs(Storage(str(tmp_path)))
    plain, psd = make_run(), make_run(decoder="psd")
    factor = costs.member(psd, 1) / costs.member(plain, 1)
    times = [costs.seconds([run], [1], ranks=1, gpus=False) for run in (plain, psd)]
    assert times[1] > 1.5 * factor * times[0]
    assert set(STEP_S) == set(DECODERS)


def test_the_estimate_knows_ranks_and_lanes_and_the_machines_pace(place, monkeypatch):
    """On two workers a teacher of two ranks holds both, and two students go side by side."""
    monkeypatch.setattr(pace, "measured", lambda workers: 3.0)
    teacher = make_run(student="resnet_w8", epochs=50, data_seed=63)
    plans = [
        plan(Sweep(name="estimate", base=taught_by(own, epochs=50), cells=({}, {"seed": 1})), place, teachers=[own])
        for own in (teacher, change(teacher, {"batch_norm_ranks": 2}))
    ]
    costs = Costs(Storage(place.storage))
    operations = costs.member(teacher, 50) + 2 * costs.cohort([plans[0].sweep.base], [50])
    student = costs.seconds([plans[0].sweep.base], [50], ranks=1, gpus=False)
    for found, ranks in zip(plans, (1, 2), strict=True):
        taught = costs.seconds([teacher], [50], ranks=ranks, gpus=False)
        assert found.flops == pytest.approx(operations)
        assert found.device_hours == pytest.approx(3 * (taught * ranks + 2 * student) / 3600)
        assert found.seconds == pytest.approx(3 * (START_S + 2 * GROUP_S + taught + student))


def test_a_run_that_is_teacher_and_cell_is_trained_and_counted_once(place):
    peer = make_run(data_seed=64)
    found = plan(Sweep(name="both", base=taught_by(peer), cells=({}, ALONE)), place, teachers=[peer])
    assert [item.run for item in found.runs] == [taught_by(peer), peer]
    assert found.cohorts == ((peer.run_id,), (taught_by(peer).run_id,))
    assert found.steps == 2 * peer.epochs * peer.steps_per_epoch
