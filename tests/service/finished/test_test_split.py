"""Finished runs on the test split: python -m pytest tests/service/finished/test_test_split.py"""

import dataclasses
import zlib

import fakes
import pytest
import torch

from kdam_ray.config import Place, Sweep
from kdam_ray.learning import checkpoint
from kdam_ray.models import network_of
from kdam_ray.service.finished import test_split as unseen
from kdam_ray.service.records.checkpoints import checkpoint_name, save_checkpoint
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking


@pytest.fixture
def recorded(tmp_path, mlflow_uri, monkeypatch):
    """Two finished runs with checkpoints and one that is not finished; a small test split."""
    place = Place(storage=str(tmp_path / "runs"), tracking_uri=mlflow_uri)
    tracking, storage = Tracking(place), Storage(place.storage)
    first = zlib.crc32(str(tmp_path).encode())  # the records are shared by all tests
    runs = [fakes.make_run(seed=first + offset) for offset in range(3)]
    tracking.open_parent(Sweep(name="unseen", base=runs[0], cells=()))
    for run in runs:
        torch.manual_seed(run.seed)
        folder = tmp_path / "made" / run.run_id
        manifest = {"run": run.model_dump(mode="json"), "run_id": run.run_id, "epoch": run.epochs, "metrics": {}}
        checkpoint.write(folder, weights=network_of(run).state_dict(), state={}, manifest=manifest)
        save_checkpoint(storage, run.run_id, run.epochs, folder)
        member = tracking.open_member(run, sweep="unseen")
        if run is not runs[2]:
            tracking.end_member(member, "finished")
    opened = []
    open_source = unseen.open_source

    def open_few(wanted, **options):
        opened.append((wanted.split, wanted.images))
        return open_source(dataclasses.replace(wanted, images=wanted.images or 6), **options)

    monkeypatch.setattr(unseen, "open_source", open_few)
    return place, runs, opened


@pytest.mark.slow
def test_finished_runs_are_scored_once_and_recorded(recorded):
    place, runs, opened = recorded
    found = unseen.score_unseen(runs, place)
    assert list(found) == [run.run_id for run in runs[:2]]
    assert found[runs[0].run_id] != found[runs[1].run_id]
    assert {"semseg/mIoU", "depth/rmse", "normals/mErr", "edge/odsF"} <= found[runs[0].run_id].keys()
    record = Tracking(place).find_finished(runs[0].run_id)
    assert record.metrics["test/semseg/mIoU"] == found[runs[0].run_id]["semseg/mIoU"]
    assert opened == [("test", None)]
    assert unseen.score_unseen(runs, place) == found
    assert opened == [("test", None)], "the second time nothing is evaluated"


def test_a_run_whose_checkpoint_is_gone_is_left_out(recorded):
    place, runs, _ = recorded
    Storage(place.storage).remove(checkpoint_name(runs[0].run_id, runs[0].epochs))
    assert list(unseen.score_unseen(runs, place)) == [runs[1].run_id]
