"""`kdam predict` and `kdam export`: any image in, predictions that can be scored out; a mistake is one line.

python -m pytest tests/test_predict_job.py
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from said import without_progress

from kdam_ray.__main__ import main
from kdam_ray.config import Run
from kdam_ray.data.predictions import read_prediction, take_inventory
from kdam_ray.learning import checkpoint
from kdam_ray.learning.export import open_network
from kdam_ray.learning.infer import predict, read_picture
from kdam_ray.models import network_of
from kdam_ray.tasks import DATASETS

ROOT = Path(__file__).parents[1]
PASCAL = DATASETS["rooms_pascal"]
TASKS = [task.name for task in PASCAL.tasks]


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """A storage with the checkpoint of one run of all five tasks of PASCAL-Context."""
    run = Run.model_validate({
        "dataset": "rooms_pascal", "image_size": (48, 64), "train_images": 8, "val_images": 4, "batch": 4, "epochs": 3,
        "tasks": TASKS, "student": "resnet_w8",
    })  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("storage")
    target = folder / "checkpoints" / run.run_id / "epoch_0003"
    target.parent.mkdir(parents=True)
    manifest = {"run": run.model_dump(mode="json"), "run_id": run.run_id, "epoch": 3, "metrics": {"val/sal/maxF": 50.0}}
    checkpoint.write(target, weights=network_of(run).state_dict(), state={}, manifest=manifest)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A grey photograph, a small one with transparency, and one that is larger than what the network shall see."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, shape in (("grey.png", (60, 90)), ("small.webp", (20, 31, 4)), ("large.jpg", (150, 200, 3))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / name)
    return folder


def job(monkeypatch, capsys, name, *arguments):
    """Runs a job's main in this process. Returns (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["kdam", name, *map(str, arguments)])
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, without_progress(captured.err)


def only_run(storage):
    return next((storage / "checkpoints").iterdir()).name


def test_predictions_can_be_scored_and_looked_at(monkeypatch, capsys, storage, images, tmp_path):
    files = sorted(images.iterdir())
    arguments = (
        *files,
        "--run",
        only_run(storage),
        "--storage",
        storage,
        "--out",
        tmp_path,
        "--max-side",
        100,
        "--device",
        "cpu",
    )
    code, out, errors = job(monkeypatch, capsys, "predict", *arguments)
    assert code == 0, errors
    assert "3 images" in out
    assert "large.jpg: reduced from 150 x 200 to 75 x 100" in errors
    inventory = take_inventory(tmp_path, PASCAL.tasks, [path.stem for path in files])
    assert inventory.missing == inventory.extra == ()
    for path in files:
        size = read_picture(path).size
        for task in PASCAL.tasks:
            assert read_prediction(inventory.files[task.name][path.stem], task, size).size
            with Image.open(tmp_path / "coloured" / task.name / f"{path.stem}.png") as coloured:
                assert coloured.size == size[::-1]
        assert (tmp_path / "summary" / f"{path.stem}.png").is_file()


def test_predictions_are_the_networks(monkeypatch, capsys, storage, images, tmp_path):
    folder = storage / "checkpoints" / only_run(storage) / "epoch_0003"
    code, out, _ = job(
        monkeypatch, capsys, "predict", images / "grey.png", "--checkpoint", folder, "--out", tmp_path, "--json"
    )
    row = json.loads(out)["images"][0]
    assert code == 0
    assert row["size"] == [60, 90]
    trained = open_network(folder)
    assert trained.metrics == {"val/sal/maxF": 50.0}
    wanted = predict(
        trained.network, read_picture(images / "grey.png"), PASCAL, TASKS, image_size=trained.run.image_size
    )
    for task in PASCAL.tasks:
        stored = read_prediction(Path(row["files"][task.name]), task, (60, 90))
        tolerance = 1 / 255 if task.name == "sal" else 1e-6  # as 8 bits
        np.testing.assert_allclose(stored, wanted[task.name], atol=tolerance)


@pytest.mark.parametrize(
    "graph", ["stands in", pytest.param("made", marks=pytest.mark.slow)]
)  # tests/learning/test_graph.py makes one
def test_an_export_predicts_the_same(monkeypatch, capsys, storage, images, tmp_path, graph):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if graph == "stands in":
        monkeypatch.setattr(
            "kdam_ray.learning.export.write_graph", lambda deployed, path, *_: bool(path.write_bytes(b"graph"))
        )
        differs = {"largest_difference": dict.fromkeys(TASKS, 0.0)}
        monkeypatch.setattr("kdam_ray.learning.export.check_graph", lambda deployed, *_, **__: differs)
    out, exported = tmp_path / "out", tmp_path / "exported"
    code, text, errors = job(
        monkeypatch, capsys, "export", "--run", only_run(storage), "--storage", storage, "--out", exported
    )
    assert (code, errors) == (0, "")
    assert "checked on 3 random images and on rooms" in text
    for name, given in (
        ("trained", storage / "checkpoints" / only_run(storage) / "epoch_0003"),
        ("exported", exported),
    ):
        assert (
            job(monkeypatch, capsys, "predict", images / "grey.png", "--checkpoint", given, "--out", out / name)[0] == 0
        )
    files = [path.relative_to(out / "trained") for path in (out / "trained").rglob("*.*")]
    assert len(files) == 2 * len(TASKS) + 1
    for path in files:
        assert (out / "trained" / path).read_bytes() == (out / "exported" / path).read_bytes()


def test_an_unfinished_run_is_told_of(monkeypatch, capsys, storage, images, tmp_path):
    monkeypatch.setattr(
        "kdam_ray.learning.export.write_graph", lambda deployed, path, *_: bool(path.write_bytes(b"graph"))
    )
    monkeypatch.setattr(
        "kdam_ray.learning.export.check_graph", lambda *_, **__: {"largest_difference": dict.fromkeys(TASKS, 0.0)}
    )
    whole = storage / "checkpoints" / only_run(storage) / "epoch_0003"
    weights, state, manifest = checkpoint.read(whole)
    half = tmp_path / "half"
    checkpoint.write(half, weights=weights, state=state, manifest=manifest | {"epoch": 2})
    line = f"run {only_run(storage)} has not finished: epoch 2 of 3\n"
    code, out, errors = job(
        monkeypatch, capsys, "export", "--checkpoint", half, "--out", tmp_path / "exported", "--json"
    )
    assert (code, errors) == (0, line)
    card = json.loads(out)
    assert (card["epoch"], card["epochs"], card["finished"]) == (2, 3, False)
    for given in (half, tmp_path / "exported"):
        code, out, errors = job(
            monkeypatch,
            capsys,
            "predict",
            images / "grey.png",
            "--checkpoint",
            given,
            "--out",
            tmp_path / "p",
            "--json",
        )
        assert (code, errors) == (0, line)
        assert [json.loads(out)[name] for name in ("epoch", "epochs")] == [2, 3]


def test_an_image_is_not_replaced_by_its_prediction(monkeypatch, capsys, storage, tmp_path):
    photograph = tmp_path / "summary" / "a.png"
    photograph.parent.mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(photograph)
    before = photograph.read_bytes()
    code, _, errors = job(
        monkeypatch, capsys, "predict", photograph, "--run", only_run(storage), "--storage", storage, "--out", tmp_path
    )
    assert code == 2
    assert "give another folder" in errors
    assert photograph.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["summary"]


MISTAKES = [
    # arguments behind an image and --out, words that the line must hold
    ((), ("--run or --checkpoint",)),
    (("--run", "0123456789ab", "--checkpoint", "there"), ("--run or --checkpoint",)),
    (("--run", "0123456789ab"), ("no whole checkpoint of run 0123456789ab",)),
    (("--run", "mine"), ("'mine'", "12 hex digits")),
    (("--checkpoint", "nowhere"), ("nowhere", "manifest.json")),
    (("--checkpoint", "nowhere", "--device", "tpu"), ("device", "'tpu'", "auto, cpu, cuda")),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_a_mistake_is_one_line(monkeypatch, capsys, images, tmp_path, arguments, words):
    given = (images / "grey.png", "--out", tmp_path / "out", "--storage", tmp_path, *arguments)
    code, out, errors = job(monkeypatch, capsys, "predict", *given)
    assert (code, out) == (2, "")
    assert len(errors.strip().splitlines()) == 1
    assert all(word in errors for word in words), errors
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be_used_are_named(monkeypatch, capsys, storage, images, tmp_path):
    (tmp_path / "grey.jpg").write_text("no image")
    common = ("--run", only_run(storage), "--storage", storage, "--out", tmp_path / "out")
    for given, words in (
        ([tmp_path / "grey.jpg"], "grey.jpg: cannot be read as an image"),
        ([images / "no.png"], "no.png is no file"),
        ([images], f"{images} is a folder; give its files, as {images}/*.png"),
        ([images / "grey.png", tmp_path / "grey.jpg"], "would write the same files"),
    ):
        code, _, errors = job(monkeypatch, capsys, "predict", *given, *common)
        assert code == 2
        assert words in errors
        assert len(errors.strip().splitlines()) == 1


def test_one_image_that_cannot_be_read_does_not_stop_the_others(monkeypatch, capsys, storage, images, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((images / "large.jpg").read_bytes()[:300])
    common = ("--run", only_run(storage), "--storage", storage, "--out", tmp_path / "out", "--json")
    code, out, errors = job(monkeypatch, capsys, "predict", broken, images / "grey.png", *common)
    assert code == 1
    assert f"error: {broken}: cannot be read as an image" in errors
    document = json.loads(out)
    assert [row["image"] for row in document["images"]] == [str(images / "grey.png")]
    assert list(document["failed"]) == [str(broken)]
    assert (tmp_path / "out" / "summary" / "grey.png").is_file()


def test_export_without_its_packages_says_what_to_install(monkeypatch, capsys, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    code, _, errors = job(monkeypatch, capsys, "export", "--run", "0123456789ab", "--out", tmp_path / "out")
    assert code == 2
    assert errors.strip() == "error: onnxscript is not installed; pip install 'kdam_ray[export]' brings it"


def test_an_image_far_larger_than_what_was_learnt_is_said(monkeypatch, capsys, storage, tmp_path):
    Image.fromarray(np.zeros((200, 260, 3), np.uint8)).save(tmp_path / "photo.png")
    given = (tmp_path / "photo.png", "--run", only_run(storage), "--storage", storage, "--out", tmp_path / "out")
    learnt = max(open_network(storage / "checkpoints" / only_run(storage) / "epoch_0003").run.image_size)
    code, _, errors = job(monkeypatch, capsys, "predict", *given)
    assert code == 0
    assert (
        f"shown at 200x260 pixels, learnt from 48x64; what looks wrong may be right with --max-side {learnt}" in errors
    )
    assert job(monkeypatch, capsys, "predict", *given, "--max-side", str(learnt))[2].count("learnt from") == 0
