"""Checkpoints that are whole or not there, the newest two, and the one before a damaged one.

python -m pytest tests/service/test_storage.py
"""

import pytest
import torch
from fakes import make_run

from kdam_ray.config import Place
from kdam_ray.learning import checkpoint
from kdam_ray.service.storage import Storage, epochs_done, latest_checkpoint, save_checkpoint, store_weights, weights_of


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "runs"))


def keep(storage: Storage, run_id: str, epoch: int) -> None:
    folder = storage.scratch() / "checkpoint"
    checkpoint.write(folder, weights={"w": torch.full((3,), float(epoch))}, state={}, manifest={"epoch": epoch})
    save_checkpoint(storage, run_id, epoch, folder)


def test_the_newest_two_are_kept(storage):
    for epoch in (1, 2, 3, 10):
        keep(storage, "abc", epoch)
    assert storage.list("checkpoints/abc") == ["epoch_0003", "epoch_0010"]
    assert epochs_done(storage, "abc") == 10
    assert epochs_done(storage, "other") == 0


@pytest.mark.parametrize("victim", ["weights.safetensors", "state.pt", "manifest.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(storage, victim):
    keep(storage, "abc", 1)
    keep(storage, "abc", 2)
    assert checkpoint.verify(latest_checkpoint(storage, "abc"))["epoch"] == 2
    path = storage.local / "checkpoints/abc/epoch_0002" / victim
    path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint.verify(latest_checkpoint(storage, "abc"))["epoch"] == 1
    assert latest_checkpoint(storage, "abc", epoch=2) is None
    (storage.local / "checkpoints/abc/epoch_0001" / victim).unlink()
    assert latest_checkpoint(storage, "abc") is None


def test_saving_replaces_whole(storage):
    keep(storage, "abc", 1)
    first = (storage.local / "checkpoints/abc/epoch_0001/weights.safetensors").stat().st_ino
    keep(storage, "abc", 1)
    assert (storage.local / "checkpoints/abc/epoch_0001/weights.safetensors").stat().st_ino != first
    assert [path.name for path in (storage.local / "checkpoints/abc").iterdir()] == ["epoch_0001"]


def test_what_is_half_written_is_not_listed(storage):
    keep(storage, "abc", 1)
    (storage.local / "checkpoints/abc/.epoch_0002.77").mkdir()
    assert storage.list("checkpoints/abc") == ["epoch_0001"]


@pytest.mark.parametrize("root", ["s3://", "gs://bucket/x", "http://host"])
def test_a_root_that_is_no_storage_is_refused(root):
    with pytest.raises(ValueError, match="storage"):
        Storage(root)


def test_weight_files_are_found_by_their_hash(tmp_path):
    place = Place(storage=str(tmp_path / "runs"))
    file = tmp_path / "net.pth"
    file.write_bytes(b"weights")
    run = make_run(pretrained=store_weights(place, file))
    assert weights_of(Storage(place.storage), run).read_bytes() == b"weights"
    assert weights_of(Storage(place.storage), make_run()) is None
    with pytest.raises(ValueError, match="pretrained"):
        weights_of(Storage(str(tmp_path / "elsewhere")), run)
    with pytest.raises(ValueError, match="not a file"):
        store_weights(place, tmp_path / "missing")
