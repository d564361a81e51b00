"""A cohort trained in this process, without Ray: recorded, stored and resumed as a worker does it.

python -m pytest tests/service/pool/test_run_here.py
"""

import sys

import pytest
import torch
from fakes import NAN_SEED, fake_train, make_run, taught_by
from pydantic import ValidationError

from kdam_ray.config import Place, Run, Sweep
from kdam_ray.service.pool.assignment import Assignment, Notice
from kdam_ray.service.pool.cohorts import Opener
from kdam_ray.service.pool.worker import run_here
from kdam_ray.service.records.checkpoints import epochs_done, latest_checkpoint
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.seats import Seat


def opened(place: Place, *runs: Run) -> Assignment:
    sweep = Sweep(name="here", base=runs[0], cells=({},))
    return Opener(place, Tracking(place), sweep).open([Seat(run, "cell") for run in runs])


@pytest.fixture
def without_ray(monkeypatch) -> None:
    """Whoever imports Ray fails."""
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.setitem(sys.modules, name, None)


def test_what_is_trained_here_is_recorded_as_a_worker_does_it(place, request):
    runs = [make_run(seed=seed, epochs=3, data_seed=91) for seed in (0, NAN_SEED)]
    assignment = opened(place, *runs)
    request.getfixturevalue("without_ray")
    threads = torch.get_num_threads()
    coordinator = run_here(assignment, train=fake_train)
    assert torch.get_num_threads() == threads
    good, bad = (Tracking(place).find([run.run_id])[run.run_id] for run in runs)
    assert (good.status, bad.status, bad.reason) == ("finished", "failed", "the training loss became nan")
    assert good.metrics["val/semseg/mIoU"] == 10 + 3
    assert good.metrics["cost/device_s"] > 0
    assert latest_checkpoint(Storage(place.storage), runs[0].run_id, epoch=3) is not None
    assert coordinator.notices() == {
        "cohort 1 of 1": Notice(epoch=3, epochs=3, epochs_done=0, step=1, steps=1, members=1, best=None)
    }


def test_it_goes_on_where_it_was_stopped(place):
    """Law 8: what has ended is not trained again, and what is half done goes on in the same MLflow run."""
    (run,) = runs = [make_run(epochs=3, data_seed=92)]
    assignment = opened(place, *runs)

    def stopped(*args, **values):
        for report in fake_train(*args, **values):
            if report.epoch == 2:
                raise KeyboardInterrupt
            yield report

    with pytest.raises(KeyboardInterrupt):
        run_here(assignment, train=stopped)
    assert epochs_done(Storage(place.storage), run.run_id) == 1
    run_here(assignment, train=fake_train)
    history = Tracking(place).client.get_metric_history(assignment.members[0].mlflow_run, "train/loss")
    assert [(item.step, item.value) for item in history] == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    run_here(assignment, train=lambda *_, **__: pytest.fail("trained"))


def test_the_real_training_needs_no_ray_either(place, request):
    (run,) = runs = [make_run(epochs=1, student="resnet_w8", data_seed=93)]
    assignment = opened(place, *runs)
    request.getfixturevalue("without_ray")
    run_here(assignment)
    assert Tracking(place).find([run.run_id])[run.run_id].status == "finished"


def test_an_assignment_travels_as_plain_data(place):
    teacher = make_run(student="resnet_w8", data_seed=94)
    sweep = Sweep(name="here", base=taught_by(teacher), cells=({},))
    opener = Opener(place, Tracking(place), sweep, teacher_epochs={teacher.run_id: 2})
    assignment = opener.open([Seat(sweep.base, "searched", trial=3, epochs_done=1)])
    assert assignment.teacher is not None
    assert (assignment.teacher.run_id, assignment.teacher.epochs) == (teacher.run_id, 2)
    assert (assignment.members[0].trial, assignment.members[0].prunable) == (3, True)
    plain = assignment.model_dump(mode="json")
    assert type(plain) is dict
    assert Assignment.model_validate(plain) == assignment
    with pytest.raises(ValidationError, match="titel"):
        Assignment.model_validate(plain | {"titel": "misspelt"})
