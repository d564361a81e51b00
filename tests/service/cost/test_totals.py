"""What runs have cost together, and what a sweep has over its calls, interrupted ones among them.

python -m pytest tests/service/cost/test_totals.py
"""

import zlib
from dataclasses import dataclass

import pytest
from fakes import make_run

from kdam_ray.config import Run, Sweep, change
from kdam_ray.service import ledger
from kdam_ray.service.cost.totals import Spent, spent
from kdam_ray.service.plan import Planner
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.result import SweepResult


@dataclass
class Record:
    run: Run
    metrics: dict[str, float]


def costs(seconds: float, tflop: float, kwh: float | None = None) -> dict[str, float]:
    known = {"cost/wall_s": 2 * seconds, "cost/device_s": seconds, "cost/tflop": tflop}
    return known if kwh is None else known | {"cost/kwh": kwh}


# ----------------------------------------------------------------------------------------------------------- of records
def test_each_run_is_counted_once():
    one, two = make_run(seed=1), make_run(seed=2)
    link = Record(one, costs(1800, 5.0))  # a copy, made before it went on
    found = spent(
        [link, Record(one, {"val/semseg/mIoU": 3.0} | costs(3600, 10.0)), Record(two, costs(1800, 2.0)), link]
    )
    assert found == Spent(runs=2, wall_s=10800, device_hours=1.5, tflop=12.0, kwh=None)
    assert found.text() == "2 runs: 1.5 device-hours, 12 TFLOP, energy: no counter"


def test_energy_is_that_of_all_or_of_none():
    one, two = make_run(seed=1), make_run(seed=2)
    whole = spent([Record(one, costs(1, 1, 0.25)), Record(two, costs(1, 1, 0.5))])
    assert whole.kwh == 0.75
    assert whole.text().endswith("energy: 0.75 kWh")
    assert spent([Record(one, costs(1, 1, 0.25)), Record(two, costs(1, 1))]).kwh is None


def test_runs_without_a_record_of_their_cost_are_named():
    found = spent([Record(make_run(seed=1), costs(3600, 1.0)), Record(make_run(seed=2), {"val/semseg/mIoU": 1.0})])
    assert (found.runs, found.unknown) == (1, 1)
    assert found.text().startswith("1 run (and 1 whose cost was not recorded): 1 device-hours")
    assert found.as_json() == {"runs": 1, "wall_s": 7200, "device_hours": 1.0, "tflop": 1.0, "kwh": None, "unknown": 1}


def test_nothing_costs_nothing():
    assert spent([]) == Spent(0, 0, 0.0, 0, None)


# ----------------------------------------------------------------------------------------------------------- of a sweep
CELLS = ({}, {"seed": 1})


class Calls:
    """Calls of one sweep, whose training is told instead of done."""

    def __init__(self, place, name: str):
        self.place, self.tracking, self.storage = place, Tracking(place), Storage(place.storage)
        self.sweep = Sweep(name=name, base=make_run(epochs=4, data_seed=zlib.crc32(name.encode())), cells=CELLS)
        self.parent = self.tracking.open_parent(self.sweep)

    def look(self):
        return Planner(self.sweep, self.place, self.tracking).look([])

    def open(self):
        """Returns the estimate of what is left."""
        plan = self.look()
        ledger.open_call(self.storage, self.tracking, self.parent, plan)
        return plan

    def train(self, changes, epoch: int, cost: dict[str, float], *, ends: bool = False) -> None:
        run = change(self.sweep.base, changes)
        mlflow_run = self.tracking.open_member(run, sweep=self.sweep.name, parent=self.parent)
        self.tracking.log_epoch(mlflow_run, cost, epoch)
        if ends:
            self.tracking.end_member(mlflow_run, "finished")

    def close(self, wall_s: float | None):
        ledger.close_call(self.storage, self.tracking, self.parent, self.look(), wall_s=wall_s)

    @property
    def recorded(self):
        return ledger.recorded(self.tracking, self.parent)


def test_calls_add_up_and_one_that_trains_nothing_changes_nothing(place):
    calls = Calls(place, "adds_up")
    first = calls.open()
    for changes in CELLS:
        calls.train(changes, 4, costs(1800, 5.0), ends=True)
    calls.close(wall_s=100.0)
    cost, planned = calls.recorded
    assert cost == {"wall_s": 100.0, "device_hours": 1.0, "tflop": 10.0}
    assert planned == {"seconds": first.seconds, "device_hours": first.device_hours, "tflop": first.flops / 1e12}
    calls.close(wall_s=5.0)
    assert calls.recorded == (cost, planned)
    calls.sweep = calls.sweep.model_copy(update={"cells": (*CELLS, {"seed": 2})})
    second = calls.open()
    calls.train({"seed": 2}, 4, costs(3600, 5.0), ends=True)
    calls.close(wall_s=50.0)
    cost, planned = calls.recorded
    assert cost == {"wall_s": 150.0, "device_hours": 2.0, "tflop": 15.0}
    assert planned["seconds"] == pytest.approx(first.seconds + second.seconds)
    assert second.flops == pytest.approx(first.flops / 2)


def test_a_killed_call_is_paid_for_and_not_estimated_twice(place):
    calls = Calls(place, "killed_call")
    first = calls.open()
    calls.train({}, 4, costs(3600, 5.0), ends=True)
    calls.train({"seed": 1}, 2, costs(1800, 2.0))
    calls.sweep = calls.sweep.model_copy(update={"cells": (*CELLS, {"seed": 2})})
    calls.open()  # the call before never ended
    cost, planned = calls.recorded
    assert cost == {"wall_s": 7200.0, "device_hours": 1.5, "tflop": 7.0}
    second = calls.look()
    new = change(calls.sweep.base, {"seed": 2}).run_id
    share = next(item.steps for item in second.runs if item.run.run_id == new) / second.steps
    assert planned["seconds"] == pytest.approx(first.seconds + share * second.seconds)
    for changes, cost in (({"seed": 1}, costs(5400, 6.0)), ({"seed": 2}, costs(3600, 5.0))):
        calls.train(changes, 4, cost, ends=True)
    calls.close(wall_s=60.0)
    assert calls.recorded[0] == {"wall_s": 7260.0, "device_hours": 3.5, "tflop": 16.0}


def test_a_call_killed_at_its_very_end_is_paid_for_by_one_that_finds_everything(place):
    calls = Calls(place, "killed_late")
    calls.open()
    for changes in CELLS:
        calls.train(changes, 4, costs(900, 5.0), ends=True)
    calls.close(wall_s=None)
    assert calls.recorded[0] == {"wall_s": 1800.0, "device_hours": 0.5, "tflop": 10.0}


def test_what_others_have_trained_is_not_paid_for_again(place):
    calls = Calls(place, "begun_before")
    calls.train({}, 2, costs(3600, 7.0, 1.0))
    calls.open()
    calls.train({}, 4, costs(5400, 9.0, 1.5), ends=True)
    calls.close(wall_s=10.0)
    assert calls.recorded[0] == {"wall_s": 10.0, "device_hours": 0.5, "tflop": 2.0, "kwh": 0.5}


# ----------------------------------------------------------------------------------------------------------- for people
def line(cost, planned) -> str:
    sweep = Sweep(name="line", base=make_run(), cells=())
    return SweepResult(
        sweep=sweep, rows=(), teachers=(), single_task=None, parent="", tracking_uri="", storage="", seconds={},
        cost=cost, planned=planned,
    ).cost_line()  # fmt: skip


def test_the_line_for_people():
    cost, planned = (
        {"wall_s": 306, "device_hours": 0.15, "tflop": 61.2},
        {"seconds": 276, "device_hours": 0.13, "tflop": 60},
    )
    assert (
        line(cost, planned)
        == "Cost: 5.1 min, 0.15 device-hours (planned 4.6 min, 0.13), 61.2 TFLOP, energy: no counter here"
    )
    assert line(cost | {"kwh": 0.0123}, planned).endswith("energy: 0.0123 kWh")
    assert line({}, {}) == "Cost: nothing; every run was there already."
