"""A finished member as a model of MLflow: kept once, opened without pickled code, registered on request.

python -m pytest tests/service/finished/test_models.py
"""

import mlflow
import numpy as np
import pytest
import torch
from fakes import make_run

from kdam_ray.learning import checkpoint
from kdam_ray.learning.graph import Deployed
from kdam_ray.models import build_network
from kdam_ray.service.finished.models import keep_model
from kdam_ray.service.records import Storage, Tracking, save_checkpoint
from kdam_ray.tasks import DATASETS

RUN = make_run(seed=31, tasks=("semseg", "depth"), student="resnet_w8")


@pytest.fixture
def kept(place):
    """A member that has finished, with its checkpoint: (storage, tracking, its MLflow run, network)."""
    storage, tracking = Storage(place.storage), Tracking(place)
    tasks = [DATASETS["rooms"].task(name) for name in RUN.tasks]
    network = build_network(RUN.student, RUN.decoder, tasks, image_size=RUN.image_size).eval()
    folder = storage.scratch() / "checkpoint"
    manifest = {"run": RUN.model_dump(mode="json"), "run_id": RUN.run_id, "epoch": RUN.epochs, "metrics": {}}
    checkpoint.write(folder, weights=network.state_dict(), state={}, manifest=manifest)
    save_checkpoint(storage, RUN.run_id, RUN.epochs, folder)
    mlflow_run = tracking.open_member(RUN, sweep="models")
    tracking.log_epoch(mlflow_run, {"val/depth/rmse": 1.5}, RUN.epochs)
    tracking.end_member(mlflow_run, "finished")
    return storage, tracking, mlflow_run, network


def test_a_model_predicts_as_the_network_does_and_is_kept_once(kept):
    storage, tracking, mlflow_run, network = kept
    model_id = keep_model(RUN, mlflow_run, storage, tracking)
    assert keep_model(RUN, mlflow_run, storage, tracking) == model_id == tracking.model_of(mlflow_run)
    known = tracking.client.get_logged_model(model_id)
    assert (str(known.status), known.source_run_id) == ("READY", mlflow_run)
    assert [(metric.key, metric.value) for metric in known.metrics] == [("val/depth/rmse", 1.5)]
    assert len(tracking.client.get_metric_history(mlflow_run, "val/depth/rmse")) == 1
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, *RUN.image_size)).astype(np.float32)
    loaded = mlflow.pyfunc.load_model(known.artifact_location)
    assert [column.shape for column in loaded.metadata.signature.inputs.inputs] == [(-1, 3, *RUN.image_size)]
    with torch.no_grad():
        wanted = Deployed(network, RUN.tasks, RUN.image_size)(torch.as_tensor(images))
    for (task, values), right in zip(loaded.predict({"image": images}).items(), wanted, strict=True):
        assert task in RUN.tasks
        np.testing.assert_array_equal(values, right.numpy())
    assert tracking.register(model_id, "rooms") == "1"


def test_without_its_checkpoint_a_member_is_kept_as_no_model(kept):
    storage, tracking, _, _ = kept
    other = make_run(seed=32)
    assert keep_model(other, tracking.open_member(other, sweep="models"), storage, tracking) is None
