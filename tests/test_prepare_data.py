"""`kdam prepare-data` as a person runs it, and what it finds in spoilt data.

python -m pytest tests/test_prepare_data.py
"""

import hashlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging_files import write_packaging
from PIL import Image
from said import lines_of

from kdam_ray.data.examine import Examination
from kdam_ray.data.opening import Wanted
from kdam_ray.data.packaged.nyud import open_nyud
from kdam_ray.data.packaged.pascal import open_pascal
from kdam_ray.data.rooms.split import Rooms
from kdam_ray.data.shards.manifest import MANIFEST
from kdam_ray.data.shards.reader import Shards
from kdam_ray.tasks import DATASETS

ROOT = Path(__file__).parents[1]
NYUD = DATASETS["nyud"]


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """The job in this process: prepare(...) -> (exit code, stdout, lines of stderr)."""

    def call(*arguments: Any) -> Any:
        monkeypatch.setattr(sys, "argv", ["prepare_data.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "jobs" / "prepare_data.py"), run_name="__main__")
        said = capfd.readouterr()
        return stop.value.code, said.out, lines_of(said.err)

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ids 0000 to 0005 for training, 0006 and 0007 for evaluation."""
    return write_packaging(tmp_path / "nyud", 6, 2)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_what_is_written_is_the_packaging_and_the_same_twice(prepare: Any, root: Path, tmp_path: Path) -> None:
    documents = []
    for name in ("first", "second"):
        code, out, errors = prepare(
            "--dataset", "nyud", "--root", root, "--to", tmp_path / name, "--shard-images", 4, "--json"
        )
        assert (code, errors) == (0, [])
        documents.append(json.loads(out))
    assert hashes(tmp_path / "first") == hashes(tmp_path / "second")
    document = documents[0]
    assert document["written"] == "shards"
    split: Any
    for split, count in (("train", 6), ("val", 2)):
        row = document["splits"][split]
        assert (row["listed"], row["images"], row["problems"]) == (count, count, {})
        assert (
            row["fingerprint"]
            == open_nyud(root, split).fingerprint
            == Shards(tmp_path / "first", split, NYUD).fingerprint
        )
        assert row["shards"].items() <= hashes(tmp_path / "first").items()
        assert any("official split has" in note for note in row["notes"])
    assert documents[0]["splits"] == documents[1]["splits"]


def test_one_split_after_the_other_is_both_at_once(prepare: Any, root: Path, tmp_path: Path) -> None:
    assert prepare("--dataset", "nyud", "--root", root, "--to", tmp_path / "both")[0] == 0
    for split in ("val", "train"):
        assert prepare("--dataset", "nyud", "--root", root, "--to", tmp_path / "one", "--split", split)[0] == 0
    assert hashes(tmp_path / "both") == hashes(tmp_path / "one")


def test_a_killed_run_is_taken_up(root: Path, tmp_path: Path) -> None:
    """Killed for real, at its second shard."""
    code = (
        "import os, runpy, sys; from kdam_ray.data.shards import writer as shard_writer; write = shard_writer._write\n"
        "def second(path, *a):\n    os._exit(9) if '00001-of' in path.name else write(path, *a)\n"
        "shard_writer._write = second; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    job = [str(ROOT / "jobs/prepare_data.py"), "--dataset", "nyud", "--root", str(root), "--shard-images", "2", "--to"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code, *job, str(tmp_path / "cut")], env=environment, timeout=120)
    assert killed.returncode == 9
    assert sorted(path.name for path in (tmp_path / "cut").glob("[!s]*")) == [
        "train-00000-of-00003.parquet",
        "train.unfinished.json",
    ]
    node = (tmp_path / "cut" / "train-00000-of-00003.parquet").stat().st_ino
    for name in ("cut", "whole"):
        subprocess.run(
            [sys.executable, *job, str(tmp_path / name)], env=environment, timeout=120, check=True, capture_output=True
        )
    assert (tmp_path / "cut" / "train-00000-of-00003.parquet").stat().st_ino == node
    left = tmp_path / "cut" / "scratch"  # of the killed one; taken away when it is old
    assert hashes_of_files(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert left.is_dir()


def hashes_of_files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def spoil(root: Path) -> None:
    """Every kind of damage, in training images 0001 to 0004."""
    (root / "depth" / "0001.npy").unlink()
    labels = np.zeros((32, 48), np.uint8)
    labels[3, 4] = 200
    Image.fromarray(labels).save(root / "segmentation" / "0001.png")
    (root / "images" / "0002.png").write_bytes(b"")
    np.save(root / "depth" / "0002.npy", np.full((32, 48), np.nan, np.float32))
    Image.new("L", (40, 30)).save(root / "edge" / "0003.png")
    np.save(root / "depth" / "0004.npy", np.full((32, 48), 2500.0, np.float32))
    path = root / "normals" / "0004.png"
    path.write_bytes(path.read_bytes()[:-200])


SPOILT: dict[str, list[tuple[str, ...]]] = {
    "0001": [("segmentation/0001.png", "label 200"), ("depth/0001.npy", "no such file")],
    "0002": [("images/0002.png", "cannot be read"), ("depth/0002.npy", "not finite")],
    "0003": [("edge/0003.png", "(30, 40)", "(32, 48)")],
    "0004": [("normals/0004.png", "cut off")],
}


def test_every_problem_is_listed_by_file_and_nothing_is_written(prepare: Any, root: Path, tmp_path: Path) -> None:
    spoil(root)
    code, out, errors = prepare("--dataset", "nyud", "--root", root, "--to", tmp_path / "to", "--json")
    assert code == 2
    assert errors[-1] == "error: 4 of 8 images cannot be used; --skip-bad leaves them out"
    assert len(errors) == 1 + sum(map(len, SPOILT.values()))
    problems = json.loads(out)["splits"]["train"]["problems"]
    assert problems.keys() == SPOILT.keys()
    for identity, expected in SPOILT.items():
        assert len(problems[identity]) == len(expected)
        for words, line in zip(expected, problems[identity], strict=True):
            assert all(word in line for word in words), line
    assert not (tmp_path / "to").exists()


def test_bad_images_can_be_left_out(prepare: Any, root: Path, tmp_path: Path) -> None:
    spoil(root)
    code, out, errors = prepare("--dataset", "nyud", "--root", root, "--to", tmp_path / "to", "--skip-bad", "--json")
    assert code == 0
    assert all(line.startswith("left out: ") for line in errors)
    row = json.loads(out)["splits"]["train"]
    assert (row["listed"], row["images"], row["left_out"]) == (6, 2, sorted(SPOILT))
    assert Shards(tmp_path / "to", "train", NYUD).ids == ["0000", "0005"]
    # as if the list had never named them
    (root / "gt_sets/train.txt").write_text("0000\n0005\n")
    assert open_nyud(root, "train").fingerprint == row["fingerprint"]


def test_depth_in_other_units_is_a_problem(prepare: Any, root: Path) -> None:
    np.save(root / "depth" / "0004.npy", np.full((32, 48), 2500.0, np.float32))
    code, _, errors = prepare("--dataset", "nyud", "--root", root)
    assert code == 2
    assert "0004" in errors[0]
    assert "2500" in errors[0]


def test_the_first_image_may_be_the_bad_one(root: Path) -> None:
    for path in root.glob("*/0000.*"):
        path.unlink()
    found = Examination(Wanted(NYUD, "train", None, (32, 48)), root=str(root))
    assert [index for index, sample in found if sample is None] == [0]
    assert len(found.problems["0000"]) == 5


def test_normals_that_are_no_unit_vectors_are_noted(tmp_path: Path) -> None:
    root = write_packaging(tmp_path / "nyud", 2, 1)
    unit = np.zeros((32, 48, 3), np.uint8)
    unit[..., 2] = 255
    unit[..., :2] = 128
    Image.fromarray(unit).save(root / "normals" / "0001.png")
    found = Examination(Wanted(NYUD, "train", None, (32, 48)), root=str(root))
    assert all(sample is not None for _, sample in found)
    odd = [note for note in found.notes if "length 1" in note]
    assert len(odd) == 1
    assert "0000.png" in odd[0]


def test_damaged_shards_are_examined_too(prepare: Any, root: Path, tmp_path: Path) -> None:
    prepare("--dataset", "nyud", "--root", root, "--to", tmp_path / "to")
    assert prepare("--dataset", "nyud", "--root", tmp_path / "to")[0] == 0
    path = tmp_path / "to" / "val-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    code, _, errors = prepare("--dataset", "nyud", "--root", tmp_path / "to")
    assert code == 2
    assert path.name in errors[0]


@pytest.mark.parametrize(
    ("dataset", "reader", "name"), [("rooms", open_nyud, "nyud"), ("rooms_pascal", open_pascal, "pascal")]
)
def test_rooms_as_a_packaging(prepare: Any, tmp_path: Path, dataset: Any, reader: Any, name: str) -> None:
    options = (
        "--dataset",
        dataset,
        "--image-size",
        24,
        32,
        "--images",
        3,
        "--export",
        "packaging",
        "--to",
        tmp_path / "to",
    )
    assert prepare(*options)[0] == 0
    rooms = Rooms("val", images=3, image_size=(24, 32), tasks=("semseg",))
    source = reader(tmp_path / "to", "val")
    if name == "nyud":  # PNG keeps images, and classes whatever their number
        assert all(np.array_equal(source[index]["image"], rooms[index]["image"]) for index in range(3))
    assert prepare("--dataset", name, "--root", tmp_path / "to", "--to", tmp_path / "shards")[0] == 0
    assert Shards(tmp_path / "shards", "val", DATASETS[name]).fingerprint == source.fingerprint
    code, _, errors = prepare(*options)
    assert (code, len(errors)) == (2, 1)
    assert "empty folder" in errors[0]


def test_rooms_as_shards(prepare: Any, tmp_path: Path) -> None:
    splits: tuple[Any, ...] = ("train", "val", "test")
    assert (
        prepare("--dataset", "rooms", "--image-size", 24, 32, "--images", 3, "--to", tmp_path, "--split", *splits)[0]
        == 0
    )
    for split in splits:
        rooms = Rooms(split, images=3, image_size=(24, 32), tasks=[task.name for task in DATASETS["rooms"].tasks])
        assert Shards(tmp_path, split, DATASETS["rooms"]).fingerprint == rooms.fingerprint


@pytest.mark.parametrize("dataset", ["rooms", "rooms_pascal"])
def test_statistics_and_contact_sheet(prepare: Any, tmp_path: Path, dataset: Any) -> None:
    options = (
        "--dataset",
        dataset,
        "--image-size",
        24,
        32,
        "--images",
        7,
        "--split",
        "val",
        "--stats",
        "--to",
        tmp_path,
    )
    code, out, _ = prepare(*options)
    assert code == 0
    assert "semseg: " in out
    code, out, _ = prepare(*options, "--json")
    row = json.loads(out)["splits"]["val"]
    tasks = [task.name for task in DATASETS[dataset].tasks]
    rooms = Rooms("val", images=7, image_size=(24, 32), tasks=tasks)
    labels = np.stack([rooms[index]["semseg"] for index in range(7)])
    share = (labels == 0).sum() / (labels != 255).sum()
    assert row["stats"]["semseg"]["classes"]["wall"] == pytest.approx(share)
    assert sum(row["stats"]["semseg"]["classes"].values()) == pytest.approx(1)
    if dataset == "rooms":
        depth = np.stack([rooms[index]["depth"] for index in range(7)])
        low, high = (np.float64(end) for end in row["stats"]["depth"]["range"])
        assert (low, high) == (depth[depth > 0].min(), depth.max())
        assert sum(row["stats"]["depth"]["shares"]) == pytest.approx(1)
    with Image.open(tmp_path / "contact_sheet_val.png") as sheet:
        pixels = np.asarray(sheet)
    assert row["contact_sheet"] == str(tmp_path / "contact_sheet_val.png")
    assert pixels.shape[1] > pixels.shape[0] / 2
    cell = pixels.shape[1] // (1 + len(tasks))
    for column in range(1 + len(tasks)):  # no map is blank
        assert pixels[:, column * cell : (column + 1) * cell].reshape(-1, 3).std(0).max() > 5, ["image", *tasks][column]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "coco"), ("dataset", "'coco'", "rooms, rooms_pascal, nyud, pascal")),
        (("--dataset", "nyud"), ("root", "nyud")),
        (("--dataset", "nyud", "--root", "/nowhere"), ("root", "/nowhere")),
        (("--dataset", "rooms", "--root", "/nowhere"), ("root", "procedural")),
        (("--dataset", "rooms", "--split", "test2"), ("split", "'test2'")),
        (("--dataset", "nyud", "--root", "/nowhere", "--split", "test"), ("split", "'test'", "train, val")),
        (("--dataset", "rooms", "--export", "zip", "--to", "x"), ("export", "'zip'")),
        (("--dataset", "rooms", "--export", "packaging"), ("to", "folder")),
        (("--dataset", "rooms", "--export", "packaging", "--to", "s3://bucket/x"), ("to", "folder")),
        (("--dataset", "rooms", "--to", "gs://bucket/x"), ("to", "gs://bucket/x")),
        (("--dataset", "rooms", "--images", "0"), ("images",)),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_flags_are_refused_in_one_line(
    prepare: Any, arguments: Any, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, errors = prepare(*arguments)
    assert (code, out, len(errors)) == (2, "", 1), errors
    assert errors[0].startswith("error: ")
    assert all(word in errors[0] for word in words), errors[0]
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_something_else_is_not_touched(prepare: Any, root: Path, tmp_path: Path) -> None:
    assert prepare("--dataset", "rooms", "--image-size", 24, 32, "--images", 2, "--to", tmp_path / "to")[0] == 0
    before = (tmp_path / "to" / MANIFEST).read_bytes()
    code, _, errors = prepare("--dataset", "nyud", "--root", root, "--to", tmp_path / "to")
    assert (code, len(errors)) == (2, 1)
    assert "holds shards of rooms" in errors[0]
    assert (tmp_path / "to" / MANIFEST).read_bytes() == before
