"""Pictures of finished runs, beside teacher and baseline, as artifacts of their MLflow runs.

python -m pytest tests/service/finished/test_pictures.py
"""

import pytest
import torch
from fakes import make_run
from PIL import Image

from kdam_ray.config import Place, change
from kdam_ray.learning import checkpoint
from kdam_ray.models import network_of
from kdam_ray.service.finished.pictures import draw_member, draw_runs, title_of
from kdam_ray.service.layout import open_sources
from kdam_ray.service.records.checkpoints import checkpoint_of, save_checkpoint
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking

TEACHER = make_run(student="resnet_w8", seed=41)
ALONE = make_run(seed=42)
STUDENT = change(ALONE, {"teacher": "resnet_w8", "teacher_run": TEACHER.run_id, "distill": {"method": "kdam"}})
LONELY = change(STUDENT, {"seed": 43})  # nobody trained the same seed without a teacher


@pytest.fixture(scope="module")
def finished(tmp_path_factory, mlflow_uri):
    """A place where a teacher, two students of it and one baseline have been trained; their MLflow runs by run_id."""
    place = Place(storage=str(tmp_path_factory.mktemp("finished")), tracking_uri=mlflow_uri, workers=1, gpus=False)
    return place, {run.run_id: train(run, place) for run in (TEACHER, ALONE, STUDENT, LONELY)}


def train(run, place, *, kept=True):
    """As if it had been trained: a checkpoint and a finished record. Returns MLflow's id."""
    storage, tracking = Storage(place.storage), Tracking(place)
    if kept:
        folder = storage.scratch() / "checkpoint"
        torch.manual_seed(run.seed)
        manifest = {"run": run.model_dump(mode="json"), "run_id": run.run_id, "epoch": run.epochs, "metrics": {}}
        checkpoint.write(folder, weights=network_of(run).state_dict(), state={}, manifest=manifest)
        save_checkpoint(storage, run.run_id, run.epochs, folder)
    mlflow_run = tracking.open_member(run, sweep="pictures")
    tracking.end_member(mlflow_run, "finished")
    return mlflow_run


def artifacts(place, mlflow_run):
    return [item.path for item in Tracking(place).client.list_artifacts(mlflow_run, "pictures")]


def test_a_student_stands_beside_teacher_and_baseline(finished, tmp_path):
    place, mlflow_runs = finished
    (drawn,) = draw_runs([STUDENT], place, images=2, folder=tmp_path)
    assert drawn.columns == ("teacher resnet_w8", "baseline swin_w12", "student swin_w12 + kdam")
    assert drawn.reason is None
    assert drawn.mlflow_run == mlflow_runs[STUDENT.run_id]
    assert artifacts(place, drawn.mlflow_run) == ["pictures/epoch_0002.png"]
    assert drawn.path == tmp_path / STUDENT.run_id / "epoch_0002.png"
    downloaded = Tracking(place).client.download_artifacts(drawn.mlflow_run, "pictures/epoch_0002.png", str(tmp_path))
    with Image.open(downloaded) as here, Image.open(drawn.path) as there:
        assert here.size == there.size
        assert here.height > here.width / 2  # two blocks


def test_columns_that_cannot_be_had_are_left_out(finished):
    place, _ = finished
    lonely, teacher = draw_runs([LONELY, TEACHER], place, images=1)
    assert lonely.columns == ("teacher resnet_w8", "student swin_w12 + kdam")
    assert teacher.columns == ("resnet_w8",)
    assert teacher.path is None


def test_what_is_drawn_is_not_drawn_again_unless_asked(finished):
    place, _ = finished
    draw_runs([ALONE], place, images=1)
    (second,) = draw_runs([ALONE], place, images=1)
    assert second.reason == "has pictures/epoch_0002.png already"
    (third,) = draw_runs([ALONE], place, images=1, again=True)
    assert third.reason is None


def test_runs_that_cannot_be_drawn_say_why(finished):
    place, _ = finished
    without = make_run(seed=44)
    train(without, place, kept=False)
    untrained, lost = draw_runs([make_run(seed=45), without], place, images=1)
    assert "no finished record" in untrained.reason
    assert "no whole checkpoint of epoch 2" in lost.reason


def test_a_member_is_drawn_while_it_trains(finished, place):
    run = make_run(seed=46, epochs=9)
    mlflow_run = Tracking(place).open_member(run, sweep="pictures")
    network = network_of(run).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    draw_member(network, run, 5, source=open_sources(run, finished[0])[1], place=place, mlflow_run=mlflow_run, images=1)
    assert artifacts(place, mlflow_run) == ["pictures/epoch_0005.png"]
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_titles_tell_runs_apart():
    titles = [title_of(run) for run in (ALONE, STUDENT, change(STUDENT, {"decoder": "pad_net"}))]
    assert titles == ["swin_w12", "student swin_w12 + kdam", "student swin_w12 pad_net + kdam"]


def test_a_checkpoint_is_found_by_either_id(finished):
    place, mlflow_runs = finished
    folder = checkpoint_of(STUDENT.run_id, place)
    assert folder.name == "epoch_0002"
    assert checkpoint_of(mlflow_runs[STUDENT.run_id], place) == folder


@pytest.mark.parametrize("name", ["0123456789ab", "0" * 32, "student"])
def test_a_run_that_is_not_there_is_refused_by_name(finished, name):
    with pytest.raises(ValueError, match=f"run: .*{name}"):
        checkpoint_of(name, finished[0])
