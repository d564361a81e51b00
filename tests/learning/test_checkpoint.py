"""Checkpoints are whole or refused: python -m pytest tests/learning/test_checkpoint.py"""

import json

import pytest
import torch

from kdam_ray.learning import EpochReport, checkpoint, train_cohort


@pytest.fixture
def saved(make_run, sources, tmp_path):
    run = make_run("none", epochs=1)
    for report in train_cohort([run], **sources):
        if isinstance(report, EpochReport):
            report.save(tmp_path / "epoch_0001")
    return run, tmp_path / "epoch_0001"


def test_a_checkpoint_rebuilds_its_network(saved):
    run, folder = saved
    manifest = checkpoint.verify(folder)
    assert (manifest["run_id"], manifest["epoch"]) == (run.run_id, 1)
    network = checkpoint.load_network(folder)
    weights, _, _ = checkpoint.read(folder)
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    assert network(torch.zeros(1, 3, 32, 48))["semseg"].shape == (1, 17, 8, 12)


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt"])
def test_an_altered_file_is_refused_by_name(saved, name):
    _, folder = saved
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=name):
        checkpoint.verify(folder)


def test_a_missing_file_or_cut_manifest_is_refused_by_name(saved):
    _, folder = saved
    (folder / "state.pt").unlink()
    with pytest.raises(ValueError, match=r"state\.pt: missing"):
        checkpoint.verify(folder)
    (folder / "manifest.json").write_text('{"files"')
    with pytest.raises(ValueError, match=r"manifest\.json"):
        checkpoint.verify(folder)


def test_writing_again_replaces_and_leaves_nothing_behind(saved):
    _, folder = saved
    checkpoint.write(folder, weights={"a": torch.ones(2)}, state={"b": 1}, manifest={"epoch": 2})
    assert checkpoint.verify(folder)["epoch"] == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_checkpoint_of_another_run_is_not_resumed(saved, make_run, sources):
    _, folder = saved
    other = make_run("none", seed=9)
    with pytest.raises(ValueError, match="not of"):
        next(train_cohort([other], **sources, resume={other.run_id: folder}))


def test_the_manifest_alone_tells_what_was_trained(saved):
    run, folder = saved
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["run"]["student"] == run.student
    assert set(manifest["files"]) == {"weights.safetensors", "state.pt"}
