"""Procedural rooms as a Source: splits, fingerprints, and a cache that many processes may fill at once.

python -m pytest tests/data/rooms/test_split.py
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.rooms import pool as rooms_pool
from kdam_ray.data.rooms import split as rooms
from kdam_ray.data.rooms.render import render
from kdam_ray.data.rooms.split import Rooms
from kdam_ray.tasks import DATASETS

SIZE = (24, 32)
TASKS = ("semseg", "depth", "normals", "edge")


def make(split: Any = "train", images: int = 6, **changes: Any) -> Any:
    chosen: Any = {"images": images, "image_size": SIZE, "tasks": TASKS}
    return Rooms(split, **chosen | changes)


def equal(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[field], other[field]) for field in one)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_splits_and_seeds_share_no_image() -> None:
    images = [
        make(split, seed=seed)[i]["image"].tobytes() for split in ("train", "val") for seed in (0, 1) for i in range(6)
    ]
    assert len(set(images)) == len(images)


def test_a_smaller_split_is_the_beginning_of_a_larger_one() -> None:
    assert equal(make(images=4)[3], make(images=6)[3])


def test_samples_hold_the_tasks_and_nothing_else() -> None:
    assert set(make()[0]) == {"image", *TASKS}
    both = [open_source(Wanted(DATASETS[name], "val", 2, SIZE)) for name in ("rooms", "rooms_pascal")]
    assert [set(source[0]) - {"image"} for source in both] == [
        {task.name for task in DATASETS[n].tasks} for n in ("rooms", "rooms_pascal")
    ]
    assert len(both[0]) == 2


def test_the_fingerprint_is_what_pixels_follow_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = make().fingerprint
    assert make(tasks=("sal",), cache=tmp_path).fingerprint == base
    others = [make("val"), make(images=7), make(seed=1), make(image_size=(24, 33))]
    monkeypatch.setattr(rooms, "VERSION", rooms.VERSION + 1)
    prints = {base, make().fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 6
    assert list(tmp_path.iterdir()) == []


def test_the_cache_holds_what_is_rendered(tmp_path: Path) -> None:
    cached, fresh = make(cache=tmp_path), make()
    assert all(equal(cached[i], fresh[i]) for i in range(6))
    assert isinstance(cached._arrays["image"], np.memmap)
    assert leftovers(tmp_path) == []


def test_rendered_once_for_all_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(make(cache=tmp_path).prepare()) == [1, 2, 3, 4, 5, 6]
    monkeypatch.setattr(rooms, "render_all", None)
    again = make(cache=tmp_path, tasks=("human_parts", "sal"))
    assert list(again.prepare()) == []
    assert set(again[5]) == {"image", "human_parts", "sal"}


def test_worker_processes_render_the_same_bytes(tmp_path: Path) -> None:
    done = list(rooms_pool.render_all(tmp_path, seed=9, images=7, image_size=SIZE, processes=2))
    assert done == list(range(1, 8))
    for field in rooms_pool.FIELDS:
        array = np.load(tmp_path / f"{field}.npy")
        np.testing.assert_array_equal(array, np.stack([render(9, index, image_size=SIZE)[field] for index in range(7)]))


def test_workers_do_not_import_torch() -> None:
    """It would cost each of them two seconds."""
    code = rooms_pool.WORKER.split("for _ in")[0] + "import json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert "kdam_ray.data.rooms.pool" in loaded
    assert "torch" not in loaded


RACER = """
import hashlib, sys
from pathlib import Path
from kdam_ray.data.rooms.split import Rooms
source = Rooms("train", images=70, image_size=(24, 32), tasks=("semseg",), cache=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
rendered = len(list(source.prepare()))
print(rendered, hashlib.sha256(b"".join(source[i]["image"].tobytes() for i in range(70))).hexdigest())
"""


def test_two_processes_fill_one_cache(tmp_path: Path) -> None:
    """Both start together; one renders, both read the same."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [racer.stdout and racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate()[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert sorted(int(rendered) for rendered, _ in answers) == [0, 70]
    expected = hashlib.sha256(b"".join(render(0, i, image_size=SIZE)["image"].tobytes() for i in range(70))).hexdigest()
    assert {found for _, found in answers} == {expected}
    assert leftovers(tmp_path) == []


def test_without_locks_the_first_to_finish_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def no_locks(*_: Any) -> None:
        raise OSError("no locks on this file system")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    one, other = make(cache=tmp_path), make(cache=tmp_path)
    steps = one.prepare(), other.prepare()
    assert [next(step) for step in steps] == [1, 1]
    assert [list(step)[-1] for step in steps] == [6, 6]
    assert equal(one[2], other[2])
    assert leftovers(tmp_path) == []


def test_who_stops_listening_leaves_nothing(tmp_path: Path) -> None:
    steps = make(images=64, cache=tmp_path).prepare()
    next(steps)
    steps.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_dead_worker_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms_pool, "WORKER", "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="ended with 3"):
        list(rooms_pool.render_all(tmp_path, seed=0, images=64, image_size=SIZE, processes=2))


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    source = make(cache=tmp_path)
    _ = source[0]
    (source.folder / "depth.npy").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"depth\.npy: .*delete its folder"):
        make(cache=tmp_path)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": ("semseg", "flow")}, "'flow' is not one of rooms: semseg, human_parts"),
        ({"split": "dev"}, "split: 'dev'"),
        ({"images": 0}, r"images \(0\)"),
        ({"image_size": (0, 5)}, r"image_size \(0, 5\)"),
        ({"seed": -1}, r"seed \(-1\)"),
    ],
)
def test_bad_arguments_are_named(changes: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**changes)


def test_a_source_ends() -> None:
    with pytest.raises(IndexError, match="rooms/train/6"):
        make()[6]
    assert len(list(make())) == 6


def test_the_test_split_has_images_of_its_own() -> None:
    splits = {split: make(split=split) for split in ("train", "val", "test")}
    assert len({source.fingerprint for source in splits.values()}) == 3
    images = [source[0]["image"].tobytes() for source in splits.values()]
    assert len(set(images)) == 3
    assert splits["test"].name(0) == "rooms/test/0"
    assert {make(split="test", seed=seed).stream for seed in range(50)}.isdisjoint(
        {make(split=split, seed=seed).stream for split in ("train", "val") for seed in range(50)}
    )
