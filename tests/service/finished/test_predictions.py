"""Predictions of a finished run, as files: python -m pytest tests/service/finished/test_predictions.py"""

import numpy as np
import pytest
import torch
from fakes import make_run

from kdam_ray.data.predictions import read_prediction, take_inventory
from kdam_ray.learning import checkpoint
from kdam_ray.models import network_of
from kdam_ray.service.finished.predictions import save_predictions
from kdam_ray.service.layout import open_sources
from kdam_ray.service.records.checkpoints import save_checkpoint
from kdam_ray.service.records.storage import Storage
from kdam_ray.tasks import DATASETS

RUN = make_run(student="resnet_w8", data_seed=92)


@pytest.mark.slow
def test_every_image_of_the_evaluation_has_its_maps_and_the_run_its_metrics(place, tmp_path):
    storage = Storage(place.storage)
    torch.manual_seed(0)
    manifest = {"run": RUN.model_dump(mode="json"), "run_id": RUN.run_id, "epoch": RUN.epochs, "metrics": {}}
    folder = storage.scratch() / "checkpoint"
    checkpoint.write(folder, weights=network_of(RUN).state_dict(), state={}, manifest=manifest)
    save_checkpoint(storage, RUN.run_id, RUN.epochs, folder)
    metrics = save_predictions(RUN, place, tmp_path / "out")
    assert set(metrics) >= {"semseg/mIoU", "depth/rmse", "normals/mErr", "edge/odsF"}
    val = open_sources(RUN, place)[1]
    rooms = DATASETS["rooms"]
    tasks = [rooms.task(name) for name in RUN.tasks]
    ids = [val.name(index).rpartition("/")[2] for index in range(len(val))]
    inventory = take_inventory(tmp_path / "out", tasks, ids)
    assert inventory.missing == inventory.extra == ()
    errors = []
    for index, name in enumerate(ids):
        truth = val[index]["depth"].astype(np.float64)
        depth = read_prediction(inventory.files["depth"][name], rooms.task("depth"), truth.shape)[0]
        errors.append(((np.maximum(depth, 0) - truth) ** 2)[truth > 0])
    assert metrics["depth/rmse"] == pytest.approx(np.sqrt(np.concatenate(errors).mean()), rel=1e-6)


def test_a_run_without_its_last_checkpoint_is_named(place, tmp_path):
    with pytest.raises(ValueError, match=f"no whole checkpoint of run {RUN.run_id} at epoch {RUN.epochs}"):
        save_predictions(RUN, place, tmp_path / "out")
    assert not (tmp_path / "out").exists()
