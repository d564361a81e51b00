"""What runs cost: counted before they run, measured while they do, kept over interruption.

python -m pytest tests/service/cost/test_meter.py
"""

from types import SimpleNamespace

import pytest
from fakes import NAN_SEED, fake_train, make_run, taught_by

from kdam_ray.config import Sweep, change
from kdam_ray.learning import StepReport
from kdam_ray.service.cost.estimate import EXCHANGE_S, RATE, STEP_S, TASK_S, Costs, Counted, Operations, needed
from kdam_ray.service.cost.meter import Meter
from kdam_ray.service.plan import GROUP_S, START_S
from kdam_ray.service.pool.worker import Member, Recorder, follow
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.sweep import plan
from kdam_ray.zoo import DECODERS

ALONE = {"distill": {}, "teacher": None, "teacher_run": None}
HEAVY, LIGHT = (
    Operations(train=30e12, evaluation=10e12, teacher=0.0),
    Operations(train=15e12, evaluation=5e12, teacher=0.0),
)
TAUGHT = Operations(train=15e12, evaluation=5e12, teacher=8e12)


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def runs_of(count: int, **changes):
    return [make_run(seed=seed, epochs=4, **changes) for seed in range(count)]


def metered(clock, folder, *members, ranks=1, every=1, done=0) -> Meter:
    """A meter with (run, operations) on it."""
    meter = Meter(ranks=ranks, evaluate_every=every, notes=folder / "notes", clock=clock)
    for run, operations in members:
        meter.join(run, operations, done=done, recorded={})
    return meter


# ------------------------------------------------------------------------------------------------------------- counted
def test_counts_are_kept_and_a_damaged_file_is_counted_again(tmp_path):
    storage, run = Storage(str(tmp_path)), make_run()
    counted = Costs(storage).forward(run, run.student, run.decoder)
    (kept,) = storage.cache().glob("*.json")
    assert [Counted(*known).all_macs for known in Costs(storage)._known.values()] == [counted]
    kept.write_text(kept.read_text()[:-5])  # a process killed while it wrote
    assert Costs(storage).forward(run, run.student, run.decoder) == counted


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
        2 * costs.forward(taught, "resnet_w8", "mt_baseline") * taught.steps_per_epoch * taught.batch
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


def test_the_estimate_knows_ranks_and_lanes(place):
    """On two workers a teacher of two ranks holds both, and two students go side by side."""
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
        assert found.device_hours == pytest.approx((taught * ranks + 2 * student) / 3600)
        assert found.seconds == pytest.approx(START_S + 2 * GROUP_S + taught + student)


def test_a_run_that_is_teacher_and_cell_is_trained_and_counted_once(place):
    peer = make_run(data_seed=64)
    found = plan(Sweep(name="both", base=taught_by(peer), cells=({}, ALONE)), place, teachers=[peer])
    assert [item.run for item in found.runs] == [taught_by(peer), peer]
    assert found.cohorts == ((peer.run_id,), (taught_by(peer).run_id,))
    assert found.steps == 2 * peer.epochs * peer.steps_per_epoch


# ------------------------------------------------------------------------------------------------------------ measured
def test_what_was_spent_is_shared_by_operations_and_nothing_is_lost(clock, tmp_path):
    a, b, c = runs_of(3)
    meter = metered(clock, tmp_path, (a, HEAVY), (b, LIGHT), (c, TAUGHT), ranks=2)
    for epoch, seconds in ((1, 10.0), (2, 7.0)):
        clock.now += seconds
        meter.end_epoch(epoch, joules=3.6e6 * (clock.now - 100))
    totals = [meter.total(run.run_id) for run in (a, b, c)]
    assert [costs["cost/wall_s"] for costs in totals] == [17.0] * 3
    assert sum(costs["cost/device_s"] for costs in totals) == pytest.approx(2 * 17)
    assert sum(costs["cost/kwh"] for costs in totals) == pytest.approx(17)
    assert [costs["cost/tflop"] for costs in totals] == pytest.approx([80, 40, 56])
    for name in ("cost/device_s", "cost/kwh"):
        assert [costs[name] / totals[0][name] for costs in totals] == pytest.approx([1, 40 / 80, 56 / 80])


def test_without_a_counter_there_is_no_energy(clock, tmp_path):
    (run,) = runs_of(1)
    meter = metered(clock, tmp_path, (run, LIGHT))
    clock.now += 1
    meter.end_epoch(1, None)
    meter.end_epoch(2, 3.6e6)  # half of it would look like all
    assert "cost/kwh" not in meter.total(run.run_id)


def test_the_energy_of_a_cut_epoch_counts_too(clock, tmp_path):
    (run,) = runs_of(1)
    first = metered(clock, tmp_path, (run, LIGHT))
    first.beat(1, 0.5, 3.6e6)
    again = metered(clock, tmp_path, (run, LIGHT))  # another process, whose counter starts anew
    again.end_epoch(1, 2 * 3.6e6)
    assert again.total(run.run_id)["cost/kwh"] == pytest.approx(3)


def test_who_has_left_and_who_has_not_come_yet_pay_nothing(clock, tmp_path):
    a, b = runs_of(2)
    meter = metered(clock, tmp_path, (a, LIGHT))
    meter.join(b, LIGHT, done=1, recorded={"cost/wall_s": 5.0, "cost/device_s": 5.0, "cost/tflop": 2.0})
    clock.now += 4
    meter.end_epoch(1, None)
    assert meter.total(b.run_id)["cost/device_s"] == 5.0  # it has its first epoch behind it
    clock.now += 6
    meter.end_epoch(2, None)
    meter.leave(a.run_id)
    clock.now += 2
    meter.end_epoch(3, None)
    assert (meter.total(a.run_id)["cost/device_s"], meter.total(b.run_id)["cost/device_s"]) == pytest.approx(
        (4 + 3, 5 + 3 + 2)
    )


def test_evaluation_is_paid_for_where_there_is_one(clock, tmp_path):
    (run,) = runs_of(1)
    meter = metered(clock, tmp_path, (run, HEAVY), every=3)
    seen = []
    for epoch in range(1, 5):
        before = meter.total(run.run_id).get("cost/tflop", 0.0)
        meter.end_epoch(epoch, None)
        seen.append(meter.total(run.run_id)["cost/tflop"] - before)
    assert seen == pytest.approx([30, 30, 40, 40])  # after the third, and after the last


def test_a_repeated_epoch_costs_twice(clock, tmp_path):
    """Recorded, but its checkpoint was lost: the next attempt has one epoch less behind it."""
    (run,) = runs_of(1)
    first = metered(clock, tmp_path, (run, LIGHT))
    for epoch in (1, 2):
        clock.now += 10
        first.end_epoch(epoch, None)
    again = Meter(ranks=1, evaluate_every=1, notes=tmp_path / "elsewhere", clock=clock)
    again.join(run, LIGHT, done=1, recorded={"val/semseg/mIoU": 3.0} | first.total(run.run_id))
    clock.now += 10
    again.end_epoch(2, None)
    assert again.total(run.run_id) == pytest.approx({"cost/wall_s": 30.0, "cost/device_s": 30.0, "cost/tflop": 60.0})


def test_an_epoch_that_is_cut_counts_as_far_as_it_came(clock, tmp_path):
    """Killed two thirds through its second epoch; MLflow has only the first."""
    a, b = runs_of(2)
    first = metered(clock, tmp_path, (a, LIGHT), (b, LIGHT))
    clock.now += 10
    first.end_epoch(1, None)
    recorded = first.total(a.run_id)
    clock.now += 6
    first.beat(2, 2 / 3, None)
    clock.now += 50  # nobody knows of these
    again = Meter(ranks=1, evaluate_every=1, notes=tmp_path / "notes", clock=clock)
    again.join(a, LIGHT, done=1, recorded=recorded)
    assert again.total(a.run_id) == pytest.approx({"cost/wall_s": 16.0, "cost/device_s": 8.0, "cost/tflop": 20 + 10})
    again.end_epoch(2, None)
    again.leave(a.run_id)
    assert [path.stem for path in (tmp_path / "notes").iterdir()] == [b.run_id]


def test_a_damaged_note_is_no_note(clock, tmp_path):
    (run,) = runs_of(1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / f"{run.run_id}.json").write_text('{"cost/wall_s": 3')
    meter = Meter(ranks=1, evaluate_every=1, notes=tmp_path / "notes", clock=clock)
    meter.join(run, LIGHT, done=0, recorded={"cost/wall_s": 2.0})
    assert meter.total(run.run_id) == {"cost/wall_s": 2.0}


# ------------------------------------------------------------------------------------------------------------ recorded
class Ticking:
    """Reports of the fake training, each a second after the one before."""

    def __init__(self, reports, clock):
        self.reports, self.clock = reports, clock

    def __iter__(self):
        for report in self.reports:
            self.clock.now += 1
            yield report


def train_through(tracking, storage, clock, runs, *, until=None, joules=lambda: None):
    """What a worker does with a cohort, without Ray; stops at a StepReport of epoch `until` as if it had been killed."""
    members = {
        run.run_id: Member(run, run.run_id, tracking.open_member(run, sweep="costs"), None, False, None, None, LIGHT) for run in runs
    }  # fmt: skip
    actor = SimpleNamespace(notice=SimpleNamespace(remote=lambda *_: None))
    meter = Meter(ranks=1, evaluate_every=1, notes=storage.cache() / "unrecorded", clock=clock)
    recorder = Recorder({"title": "cohort", "epochs_done": 0}, members, storage, tracking, actor, meter)
    resume = {name: storage.fetch(found) for name, found in recorder.resume().items() if found not in (None, "ended")}
    reports = fake_train(
        runs, train=[1], val=[1], teacher=None, resume=resume, weights={}, device="cpu", evaluate_every=1
    )

    def cut():
        for report in reports:
            yield report
            if isinstance(report, StepReport) and report.epoch == until:
                return

    for _ in follow(iter(Ticking(cut(), clock)), recorder, SimpleNamespace(joules=joules)):
        pass
    return {run.run_id: members[run.run_id].mlflow_run for run in runs}


def history(tracking, mlflow_run, name):
    return [(item.step, item.value) for item in tracking.client.get_metric_history(mlflow_run, name)]


def test_costs_are_recorded_each_epoch_and_go_on_after_an_interruption(place, clock):
    tracking, storage = Tracking(place), Storage(place.storage)
    a, b = (make_run(seed=seed, epochs=3, data_seed=61) for seed in (0, 1))
    train_through(
        tracking, storage, clock, [a, b], until=2
    )  # 1 s to the step, 1 s to a's report, 1 s to b's; then 1 s more
    recorded = train_through(tracking, storage, clock, [a, b])
    wall = history(tracking, recorded[a.run_id], "cost/wall_s")
    assert wall == [(1, 2.0), (2, 4.0 + 2.0), (3, 6.0 + 3.0)]  # the cut second epoch had taken 2 seconds
    device = [dict(history(tracking, recorded[run.run_id], "cost/device_s"))[3] for run in (a, b)]
    assert device == pytest.approx([4.5, 4.5])
    assert history(tracking, recorded[a.run_id], "cost/tflop")[-1] == (3, pytest.approx(3 * 20 + 15))
    assert history(tracking, recorded[a.run_id], "cost/kwh") == []
    assert not list((storage.cache() / "unrecorded").iterdir())


def test_a_member_that_diverges_has_cost_something(place, clock):
    tracking, storage = Tracking(place), Storage(place.storage)
    run = make_run(seed=NAN_SEED, epochs=3, data_seed=62)
    recorded = train_through(tracking, storage, clock, [run], joules=lambda: 3.6e6 * clock.now)
    assert tracking.outcome(recorded[run.run_id])[0] == "failed"
    assert history(tracking, recorded[run.run_id], "cost/wall_s") == [(1, 2.0), (2, 4.0)]
    assert [step for step, _ in history(tracking, recorded[run.run_id], "cost/kwh")] == [1, 2]
