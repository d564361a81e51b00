"""What a search for contexts came to: python -m pytest tests/service/finished/test_chosen_contexts.py"""

import json

import pytest
import torch
from fakes import make_run

from kdam_ray.learning import checkpoint
from kdam_ray.models import network_of
from kdam_ray.service.finished.chosen_contexts import NAME, searched_contexts
from kdam_ray.service.records.checkpoints import save_checkpoint
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking

RUN = make_run(decoder="context_search", student="resnet_w8", data_seed=91)


def test_what_the_last_checkpoint_chose_is_recorded_with_its_run(place, tmp_path):
    storage, tracking = Storage(place.storage), Tracking(place)
    torch.manual_seed(0)
    network = network_of(RUN)
    manifest = {"run": RUN.model_dump(mode="json"), "run_id": RUN.run_id, "epoch": RUN.epochs, "metrics": {}}
    folder = storage.scratch() / "checkpoint"
    checkpoint.write(folder, weights=network.state_dict(), state={}, manifest=manifest)
    save_checkpoint(storage, RUN.run_id, RUN.epochs, folder)
    mlflow_run = tracking.open_member(RUN, sweep="contexts")
    tracking.end_member(mlflow_run, "finished")
    document = searched_contexts(RUN, place)
    assert document == {
        "run_id": RUN.run_id,
        "contexts": network.decoder.chosen(),
        "probabilities": network.decoder.probabilities(),
    }
    assert set(document["contexts"]) == set(RUN.tasks)
    path = tracking.client.download_artifacts(mlflow_run, NAME, str(tmp_path))
    with open(path) as recorded:
        assert json.load(recorded) == document


def test_a_run_without_its_last_checkpoint_is_named(place):
    with pytest.raises(ValueError, match=f"no whole checkpoint of run {RUN.run_id} at epoch {RUN.epochs}"):
        searched_contexts(RUN, place)
