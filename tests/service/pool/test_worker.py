"""A real sweep, killed in the middle and taken up again: laws 2, 6 and 8 through Ray, MLflow and the storage.

python -m pytest tests/service/pool/test_worker.py
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fakes import TASKS

from kdam_ray.config import Optim, Place, Run, Sweep, change
from kdam_ray.learning import EpochReport, checkpoint, train_cohort
from kdam_ray.models import Teacher
from kdam_ray.service.layout import open_sources
from kdam_ray.service.records.checkpoints import epochs_done, latest_checkpoint
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.sweep import resolve, run_sweep

pytestmark = pytest.mark.slow

PATIENCE_S = 240
RUN_IT = """
import sys
from kdam_ray.config import Place, Run, Sweep
from kdam_ray.service.sweep import run_sweep
models = zip((Sweep, Place, Run), sys.argv[1:], strict=True)
sweep, place, teacher = (model.model_validate_json(text) for model, text in models)
run_sweep(sweep, place, teachers=[teacher])
"""


def tiny_sweep(place: Place) -> tuple[Sweep, Run]:
    """Four members of three epochs of four steps, and their teacher, trained by two ranks."""
    small = Run(
        dataset="rooms", image_size=(32, 32), train_images=16, val_images=8, batch=4, epochs=2, tasks=TASKS,
        student="resnet_w8", optim=Optim(name="adamw", lr=5e-3, clip_norm=10.0),
    )  # fmt: skip
    teacher = resolve(small, place, teacher=True)
    taught = {
        "student": "swin_w12",
        "teacher": "resnet_w8",
        "teacher_run": teacher.run_id,
        "distill": {"method": "kdam"},
        "epochs": 3,
    }
    alone = {"teacher": None, "teacher_run": None, "distill": {}}
    base = resolve(change(small, taught), place)
    sweep = Sweep(
        name="killed",
        base=base,
        cells=({}, {"distill.beta": 2.0}),
        references=(alone,),
        space={"distill.beta": (0.1, 16.0)},
        trials=1,
    )
    return sweep, teacher


def run_until(sweep: Sweep, place: Place, teacher: Run, reached) -> None:
    """Run the sweep in a process of its own and kill that as soon as `reached()`."""
    command = [sys.executable, "-c", RUN_IT, *(model.model_dump_json() for model in (sweep, place, teacher))]
    log = Path(place.storage).with_suffix(".log")
    with log.open("w") as stderr:
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=stderr)
    deadline = time.monotonic() + PATIENCE_S
    while not (there := reached()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert there, log.read_text()


@pytest.fixture(scope="module")
def taken_up(ray_session, mlflow_uri, tmp_path_factory):
    place = Place(
        storage=str(tmp_path_factory.mktemp("killed") / "runs"),
        tracking_uri=mlflow_uri,
        workers=2,
        gpus=False,
        pictures_every=0,
    )
    sweep, teacher = tiny_sweep(place)
    storage = Storage(place.storage)
    run_until(sweep, place, teacher, lambda: epochs_done(storage, sweep.base.run_id) >= 1)
    before = Tracking(place).find([sweep.base.run_id, teacher.run_id])
    assert before[teacher.run_id].status == "finished"
    assert before[sweep.base.run_id].status == "unfinished"
    taught_by = (latest_checkpoint(storage, teacher.run_id) / "weights.safetensors").read_bytes()
    result = run_sweep(sweep, place, teachers=[teacher])
    return sweep, place, teacher, before, taught_by, result


@pytest.fixture
def one_thread():
    """As a worker on CPUs has: another number would sum in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_it_ends_as_if_nothing_had_happened(taken_up):
    """Law 2, and law 1 beside it: bit for bit what each member learns alone, in one go, in this process."""
    sweep, place, teacher, _, _, result = taken_up
    assert [row.status for row in result.rows] == ["finished"] * 4
    storage = Storage(place.storage)
    train, val = open_sources(sweep.base, place)
    network = Teacher(checkpoint.load_network(latest_checkpoint(storage, teacher.run_id)))
    for row in result.rows[:3]:
        reports = [
            report
            for report in train_cohort([row.run], train=train, val=val, teacher=network)
            if isinstance(report, EpochReport)
        ]
        alone = reports[-1].metrics
        assert {name: row.metrics[name] for name in alone} == alone


def test_nothing_finished_is_trained_again(taken_up):
    """Law 8: the teacher stands, the members go on in the MLflow runs that they had."""
    sweep, place, teacher, before, _, result = taken_up
    assert result.teachers[0].reused
    assert result.rows[0].mlflow_run == before[sweep.base.run_id].mlflow_run
    client = Tracking(place).client
    experiment = client.get_experiment_by_name("kdam/rooms/killed").experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{result.parent}'")
    assert len(children) == len({child.data.tags["kdam.run_id"] for child in children}) == 4
    (teachers,) = client.search_runs(
        [client.get_experiment_by_name("kdam/rooms/teachers").experiment_id], f"tags.`kdam.run_id` = '{teacher.run_id}'"
    )
    assert teachers.info.status == "FINISHED"
    assert {item.step for item in client.get_metric_history(result.rows[0].mlflow_run, "train/loss")} == {1, 2, 3}


def test_the_teacher_is_what_it_was(taken_up):
    """Law 6."""
    _, place, teacher, _, taught_by, _ = taken_up
    assert (
        Path(latest_checkpoint(Storage(place.storage), teacher.run_id)) / "weights.safetensors"
    ).read_bytes() == taught_by
