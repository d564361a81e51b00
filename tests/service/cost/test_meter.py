"""What runs cost: measured while they run, kept over interruption.

python -m pytest tests/service/cost/test_meter.py
"""

from types import SimpleNamespace

import pytest
from fakes import NAN_SEED, fake_train, make_run

from kdam_ray.config import Place
from kdam_ray.learning import StepReport
from kdam_ray.service.cost.estimate import Operations
from kdam_ray.service.cost.meter import Meter
from kdam_ray.service.pool.assignment import Assignment, Order
from kdam_ray.service.pool.coordinator import LocalCoordinator
from kdam_ray.service.pool.worker import Recorder, follow
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking

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
    """What a worker does with a cohort, without Ray; stops at a step of epoch `until` as if it had been killed."""
    opened = {run.run_id: tracking.open_member(run, sweep="costs") for run in runs}
    orders = tuple(Order(run=run, title=run.run_id, mlflow_run=opened[run.run_id], operations=LIGHT) for run in runs)
    assignment = Assignment(title="cohort", about="", members=orders, place=Place(storage=storage.root))
    meter = Meter(ranks=1, evaluate_every=1, notes=storage.cache() / "unrecorded", clock=clock)
    recorder = Recorder(assignment, storage, tracking, LocalCoordinator(storage), meter)
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
    return opened


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
