"""What an export says of its network, where it may be written, and what is told of a folder that cannot be opened.

The graph stands in; tests/learning/test_graph.py makes real ones: python -m pytest tests/learning/test_taken_away.py
"""

import json
import os

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from kdam_ray.learning import checkpoint
from kdam_ray.learning.export import open_network, write_export
from kdam_ray.models import network_of

FILES = ["card.json", "model.onnx", "weights.safetensors"]


@pytest.fixture(autouse=True)
def stand_in_graph(monkeypatch):
    nothing_differs = {"largest_difference": {"semseg": 0.0}}
    monkeypatch.setattr(
        "kdam_ray.learning.export.write_graph", lambda deployed, path, *_: bool(path.write_bytes(b"graph"))
    )
    monkeypatch.setattr("kdam_ray.learning.export.check_graph", lambda *_, **__: nothing_differs)


@pytest.fixture(scope="module")
def trained():
    run = tiny.make_run(student="resnet_w8", epochs=4)
    torch.manual_seed(5)
    return network_of(run).eval(), run


@pytest.fixture
def half_trained(trained, tmp_path):
    """A checkpoint of epoch 3 of 4."""
    network, run = trained
    folder = tmp_path / run.run_id / "epoch_0003"
    manifest = {
        "run": run.model_dump(mode="json"),
        "run_id": run.run_id,
        "epoch": 3,
        "metrics": {"val/depth/rmse": 0.5},
    }
    folder.parent.mkdir()
    checkpoint.write(folder, weights=network.state_dict(), state={}, manifest=manifest)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_half_trained_network_says_so_and_its_export_too(half_trained, tmp_path):
    found = open_network(half_trained)
    assert (found.epoch, found.unfinished) == (3, f"run {found.run.run_id} has not finished: epoch 3 of 4")
    write_export(tmp_path / "out", found.network, found.run, metrics=found.metrics, epoch=found.epoch)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["epoch"], card["epochs"], card["finished"]) == (3, 4, False)
    again = open_network(tmp_path / "out")
    assert (again.unfinished, again.metrics) == (found.unfinished, {"val/depth/rmse": 0.5})


def test_a_finished_one_has_nothing_to_add(trained, tmp_path):
    network, run = trained
    card = write_export(tmp_path / "out", network, run, metrics={"val/depth/rmse": float("nan")}, epoch=4)
    assert card["finished"] is True
    assert open_network(tmp_path / "out").unfinished is None
    assert json.loads((tmp_path / "out" / "card.json").read_text(), parse_constant=pytest.fail)["metrics"] == {
        "val/depth/rmse": None
    }


def test_a_card_from_before_epochs_were_recorded_opens(trained, tmp_path):
    network, run = trained
    write_export(tmp_path / "out", network, run, metrics={}, epoch=3)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    for name in ("epoch", "epochs", "finished", "metrics"):
        del card[name]
    (tmp_path / "out" / "card.json").write_text(json.dumps(card))
    found = open_network(tmp_path / "out")
    assert (found.epoch, found.unfinished, found.metrics) == (None, None, {})


def test_the_empty_folder_one_stands_in_is_written_to(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # an earlier export is replaced
        write_export(tmp_path.__class__("."), *trained, metrics={})
        assert sorted(os.listdir(".")) == FILES  # not a deleted folder: a shell still stands in it
    open_network(tmp_path)


def test_what_lies_beside_an_earlier_export_stays(trained, tmp_path):
    write_export(tmp_path / "out", *trained, metrics={}, epoch=1)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    write_export(tmp_path / "out", *trained, metrics={}, epoch=2)
    assert names(tmp_path / "out") == sorted([*FILES, "notes.txt"])
    assert open_network(tmp_path / "out").epoch == 2
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("out", ["/proc/there", "file/below"])
def test_a_place_that_cannot_be_written_to_is_named(trained, tmp_path, out):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ValueError, match=rf"out: .*{out} cannot be written to"):
        write_export(tmp_path / out, *trained, metrics={})
    assert names(tmp_path) == ["file"]


def test_what_mlflow_keeps_of_a_checkpoint_is_enough(half_trained):
    (half_trained / "state.pt").unlink()
    assert open_network(half_trained).epoch == 3


def test_the_folder_of_a_run_is_answered_with_its_newest_epoch(half_trained):
    with pytest.raises(ValueError, match=r"holds neither manifest\.json .*; give one of its epochs, as .*epoch_0003$"):
        open_network(half_trained.parent)


def changed(folder, **values):
    path = folder / "manifest.json"
    record = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1, 2]", r"manifest\.json: not written by training"),
        ('{"name": "an app", "icons": []}', r"manifest\.json: not written by training"),
        ('{"files": ["a", "b"]}', r"manifest\.json: not written by training"),
        ('{"files": {"weights.safetensors": "a hash"}}', r"manifest\.json: not written by training"),
        ('{"files"', r"manifest\.json: cannot be read as JSON"),
    ],
)
def test_a_manifest_of_something_else_is_named(half_trained, content, says):
    (half_trained / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=says):
        open_network(half_trained)


@pytest.mark.parametrize("name", ["manifest.json", "card.json"])
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"run": None}, "holds no run"),
        ({"run": {"colour": "red"}}, r"its run is none that this version of kdam_ray knows: .*colour"),
        ({"metrics": [1]}, "metrics should be numbers by name"),
        ({"epoch": "three"}, "metrics should be numbers by name and epoch a number, not .* 'three'"),
    ],
)
def test_what_a_manifest_or_card_lacks_is_named(half_trained, name, values, says):
    changed(half_trained, **values)
    (half_trained / "manifest.json").rename(half_trained / name)  # a card's weights are recorded alike
    with pytest.raises(ValueError, match=rf"{name}: {says}"):
        open_network(half_trained)


def test_weights_of_another_network_are_named_with_the_first_misfit(half_trained):
    wider = tiny.make_run(student="resnet_w16").model_dump(mode="json")
    changed(half_trained, run=wider)
    with pytest.raises(
        ValueError, match=r"weights\.safetensors: not the weights of resnet_w16 .*: \S+ is \[.*\] and should be \[.*\]$"
    ):
        open_network(half_trained)


@pytest.mark.parametrize(("change", "says"), [("drop", "is missing$"), ("add", "extra is not in that network$")])
def test_missing_and_foreign_weights_are_named(trained, half_trained, change, says):
    weights = load_file(half_trained / "weights.safetensors")
    if change == "add":
        weights["extra"] = torch.zeros(1)
    else:
        weights.popitem()
    save_file(weights, half_trained / "weights.safetensors")
    with pytest.raises(ValueError, match=says):
        checkpoint.rebuilt(trained[1], half_trained / "weights.safetensors")
