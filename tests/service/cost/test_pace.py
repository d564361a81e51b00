"""How fast the machine is: measured before anything was trained, then what training took.

python -m pytest tests/service/cost/test_pace.py
"""

import pytest

from kdam_ray.service.cost import pace
from kdam_ray.service.cost.pace import Pace, measured, pace_of, remember
from kdam_ray.service.records.storage import Storage

TWO = Pace("2 CPUs", 1.0)


@pytest.fixture
def storage(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "measured", lambda workers: 10.0 * workers)
    return Storage(str(tmp_path))


def test_measured_until_something_was_trained(storage):
    assert pace_of(storage, workers=2, gpus=False) == Pace("2 CPUs", 20.0)
    assert pace_of(storage, workers=2, gpus=True) == Pace("2 GPUs", 1.0)


def test_the_median_of_the_last_sweeps(storage):
    for wall_s in (9000, 600, 900, 750, 300, 660):  # the first is too long ago
        remember(storage, TWO, estimated_s=300, wall_s=wall_s, done=1.0)
    assert pace_of(storage, workers=2, gpus=False).factor == 2.2
    assert pace_of(storage, workers=3, gpus=False).factor == 30.0


def test_what_is_remembered_is_relative_to_no_pace_at_all(storage):
    """Or each sweep would correct the correction."""
    remember(storage, Pace("2 CPUs", 4.0), estimated_s=1200, wall_s=600, done=1.0)
    assert pace_of(storage, workers=2, gpus=False).factor == 2.0


def test_a_pruned_part_is_taken_off_the_estimate(storage):
    remember(storage, TWO, estimated_s=400, wall_s=600, done=0.75)
    assert pace_of(storage, workers=2, gpus=False).factor == 2.0


@pytest.mark.parametrize(("estimated_s", "done"), [(60, 1.0), (1000, 0.2)])
def test_short_and_broken_off_sweeps_say_nothing(storage, estimated_s, done):
    remember(storage, TWO, estimated_s=estimated_s, wall_s=5, done=done)
    assert pace_of(storage, workers=2, gpus=False).factor == 20.0


def test_a_damaged_file_is_no_memory(storage):
    remember(storage, TWO, estimated_s=300, wall_s=600, done=1.0)
    (storage.cache() / "pace.json").write_text("{")
    assert pace_of(storage, workers=2, gpus=False).factor == 20.0


def test_a_machine_measures_itself_in_all_its_workers(monkeypatch):
    rounds = []
    monkeypatch.setattr(pace, "_round", lambda: rounds.append(1) or 3 * pace.REFERENCE_S)
    assert measured.__wrapped__(2) == pytest.approx(3.0)
    assert len(rounds) == 2 * pace.ROUNDS


def test_the_measurement_takes_processor_time():
    assert pace._round() > 0
