"""Checkpoints that are whole or not there, the newest two, and the one before a damaged one.

python -m pytest tests/service/records/test_checkpoints.py
"""

import os
from pathlib import Path

import pytest
import torch
from fakes import make_run
from pyarrow import fs

from kdam_ray.config import Place
from kdam_ray.learning import checkpoint
from kdam_ray.service.records.checkpoints import epochs_done, latest_checkpoint, save_checkpoint
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.weight_files import store_weights, weights_of


class Bucket(Storage):
    """The code path of S3, over a folder: files without folders, and no rename."""

    def __init__(self, root: Path):
        super().__init__("s3://bucket/prefix")
        self.folder = root
        self.written: list[str] = []

    @property
    def _remote(self):
        return self

    def cache(self):
        return self.folder.with_name("cache")

    def open_output_stream(self, name):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written.append(path.name)
        return fs.LocalFileSystem().open_output_stream(str(path))

    def __getattr__(self, name):
        return getattr(fs.SubTreeFileSystem(str(self.folder), fs.LocalFileSystem()), name)


@pytest.fixture(params=["local", "s3"])
def storage(tmp_path, request):
    return Storage(str(tmp_path / "runs")) if request.param == "local" else Bucket(tmp_path / "runs")


def folder_of(storage: Storage) -> Path:
    return storage.local or storage.folder


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


def test_what_else_lies_beside_checkpoints_is_passed_over(storage):
    keep(storage, "abc", 1)
    (folder_of(storage) / "checkpoints/abc/notes").mkdir()
    (folder_of(storage) / "checkpoints/abc/epoch_last.txt").touch()
    assert epochs_done(storage, "abc") == 1
    assert checkpoint.verify(latest_checkpoint(storage, "abc"))["epoch"] == 1
    for epoch in (2, 3):
        keep(storage, "abc", epoch)
    kept = [path.name for path in (folder_of(storage) / "checkpoints/abc").iterdir() if path.name[-1].isdigit()]
    assert sorted(kept) == ["epoch_0002", "epoch_0003"]


@pytest.mark.parametrize("victim", ["weights.safetensors", "state.pt", "manifest.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(storage, victim):
    keep(storage, "abc", 1)
    keep(storage, "abc", 2)
    assert checkpoint.verify(latest_checkpoint(storage, "abc"))["epoch"] == 2
    path = folder_of(storage) / "checkpoints/abc/epoch_0002" / victim
    path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint.verify(latest_checkpoint(storage, "abc"))["epoch"] == 1
    assert latest_checkpoint(storage, "abc", epoch=2) is None
    (folder_of(storage) / "checkpoints/abc/epoch_0001" / victim).unlink()
    assert latest_checkpoint(storage, "abc") is None


def test_in_a_bucket_the_manifest_comes_last(tmp_path):
    storage = Bucket(tmp_path)
    keep(storage, "abc", 1)
    assert storage.written[-1] == "manifest.json"
    assert storage.exists("checkpoints/abc/epoch_0001")
    (tmp_path / "checkpoints/abc/epoch_0001/manifest.json").unlink()  # as if the upload had been cut short
    assert not storage.exists("checkpoints/abc/epoch_0001")
    assert storage.list("checkpoints/abc") == []
    with pytest.raises(FileNotFoundError):
        storage.fetch("checkpoints/abc/epoch_0001")


def test_saving_replaces_whole(tmp_path):
    storage = Storage(str(tmp_path))
    keep(storage, "abc", 1)
    first = (folder_of(storage) / "checkpoints/abc/epoch_0001/weights.safetensors").stat().st_ino
    keep(storage, "abc", 1)
    assert (folder_of(storage) / "checkpoints/abc/epoch_0001/weights.safetensors").stat().st_ino != first
    assert [path.name for path in (storage.local / "checkpoints/abc").iterdir()] == ["epoch_0001"]


def test_what_is_half_written_is_not_listed(storage):
    keep(storage, "abc", 1)
    (folder_of(storage) / "checkpoints/abc/.epoch_0002.77").mkdir()
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
    with pytest.raises(ValueError, match="safetensors"):
        store_weights(place, Path(__file__))


def test_what_a_killed_process_left_is_tidied_away_later(tmp_path):
    storage = Storage(str(tmp_path))
    storage.tidy()  # nothing there yet
    old, new = storage.scratch(), storage.scratch()
    os.utime(old, (0, 0))
    storage.tidy()
    assert not old.exists()
    assert new.exists()
