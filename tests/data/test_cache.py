"""Decoded samples in a memory map: the same samples, built once, damage noticed.

python -m pytest tests/data/test_cache.py
"""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging_files import write_packaging

from kdam_ray.data.cache import cached
from kdam_ray.data.packaged.nyud import open_nyud
from kdam_ray.data.source import Sample

Usage = namedtuple("Usage", "total used free")


class Slow:
    """Counts its decodings in a file, which processes share."""

    decodes_files = True
    fingerprint = "slow"

    def __init__(self, log: Path, seconds: float = 0.0, images: int = 6) -> None:
        self.log, self.seconds, self.images = log, seconds, images

    def __len__(self) -> int:
        return self.images

    def name(self, index: int) -> str:
        return f"slow-{index}"

    def __getitem__(self, index: int) -> Sample:
        time.sleep(self.seconds)
        with self.log.open("a") as file:
            file.write(f"{index}\n")
        rng, size = np.random.default_rng(index), (5 + index, 7)  # sizes differ, and are odd
        return {
            "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8), "depth": rng.random(size, np.float32),
            "normals": rng.normal(size=(*size, 3)).astype(np.float16),
        }  # fmt: skip


def same(left: Any, right: Any) -> bool:
    return list(left) == list(right) and all(
        left[k].dtype == right[k].dtype and np.array_equal(left[k], right[k]) for k in left
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


def decoded(log: Path) -> int:
    return len(log.read_text().splitlines())


def test_samples_are_views_of_the_map_and_nothing_is_decoded_twice(tmp_path: Path, log: Path) -> None:
    plain = Slow(tmp_path / "other")
    for _ in range(2):
        source = cached(Slow(log), tmp_path / "cache", image_size=None)
        for index in (3, 0, 1, 2, 4, 5, 3):
            assert same(source[index], plain[index])
            for array in source[index].values():
                assert not array.flags.writeable
                assert not array.flags.owndata
                assert array.flags.aligned
    assert decoded(log) == 6
    assert (len(source), source.name(2), source.fingerprint) == (6, "slow-2", "slow")
    with pytest.raises(IndexError):
        source[6]


def test_a_packaging_behind_the_cache_is_the_packaging(tmp_path: Path) -> None:
    root = write_packaging(tmp_path / "root", 3, 1)
    for size in (None, (16, 24)):
        source = open_nyud(root, "train", image_size=size)
        behind: Any = cached(source, tmp_path / "cache", image_size=size)
        assert all(same(source[index], behind[index]) for index in range(3))
        assert behind.fingerprint == source.fingerprint
        assert same(behind.labels(0, ["normals"]), source.labels(0, ["normals"]))
        assert np.array_equal(behind.regions(0), source.regions(0))
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 2  # one a size
    assert not hasattr(behind, "nothing")


def test_what_decodes_no_files_or_has_no_folder_stays_as_it_is(tmp_path: Path, log: Path) -> None:
    source = Slow(log)
    assert cached(source, None, image_size=None) is source
    source.decodes_files = False
    assert cached(source, tmp_path, image_size=None) is source


def _read(folder: Path, log: Path, results: Any) -> None:
    source = cached(Slow(log, seconds=0.1), folder, image_size=None)
    results.put({index: source[index]["depth"].sum().item() for index in range(len(source))})


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path, log: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    readers = [context.Process(target=_read, args=(tmp_path / "cache", log, results)) for _ in range(2)]
    for reader in readers:
        reader.start()
    left, right = results.get(timeout=60), results.get(timeout=60)
    for reader in readers:
        reader.join()
    assert left == right
    assert decoded(log) == 6


class Stuck(Slow):
    """Never gets past its third image."""

    def __getitem__(self, index):
        if index == 3:
            time.sleep(3600)
        return super().__getitem__(index)


def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(tmp_path: Path, log: Path) -> None:
    context = multiprocessing.get_context("fork")
    stuck = cached(Stuck(log), tmp_path / "cache", image_size=None)
    builder = context.Process(target=stuck.__getitem__, args=(5,))
    builder.start()
    deadline = time.monotonic() + 30
    while decoded(log) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert len(list((tmp_path / "cache").glob("*.part"))) == 1
    assert not list((tmp_path / "cache").glob("*.arrow"))
    source = cached(Slow(log), tmp_path / "cache", image_size=None)  # nor is the lock left
    assert same(source[5], Slow(tmp_path / "other")[5])
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_build_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Slow, index: int) -> Sample:
        if index == 4:
            raise ValueError("images/0004.png: cannot be decoded")
        return decode(self, index)

    decode = Slow.__getitem__
    monkeypatch.setattr(Slow, "__getitem__", broken)
    with pytest.raises(ValueError, match=r"images/0004\.png"):
        cached(Slow(log), tmp_path / "cache", image_size=None)[0]
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize("keep", [0, 100, -8])
def test_a_cut_file_is_made_again(tmp_path: Path, log: Path, keep: int) -> None:
    source: Any = cached(Slow(log), tmp_path / "cache", image_size=None)
    source.prepare()
    source.path.write_bytes(source.path.read_bytes()[:keep])
    assert same(cached(Slow(log), tmp_path / "cache", image_size=None)[2], Slow(tmp_path / "other")[2])
    assert decoded(log) == 12


def test_a_flipped_bit_is_noticed(tmp_path: Path, log: Path) -> None:
    source: Any = cached(Slow(log), tmp_path / "cache", image_size=None)
    needle = source[4]["depth"].tobytes()
    content = source.path.read_bytes()
    place = content.index(needle)
    source.path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    again = cached(Slow(log), tmp_path / "cache", image_size=None)
    assert same(again[3], Slow(tmp_path / "other")[3])
    with pytest.raises(ValueError, match=r"samples-\w+\.arrow: image 4 .*checksum.*delete"):
        again[4]


def test_the_files_may_be_deleted_at_any_time(tmp_path: Path, log: Path) -> None:
    source = cached(Slow(log), tmp_path / "cache", image_size=None)
    before = source[1]["depth"]
    shutil.rmtree(tmp_path / "cache")
    assert np.array_equal(source[1]["depth"], before)
    assert same(cached(Slow(log), tmp_path / "cache", image_size=None)[1], source[1])


def test_without_room_the_source_is_read(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 10))
    source: Any = cached(Slow(log), tmp_path / "cache", image_size=None)
    with pytest.warns(UserWarning, match="no room"):
        assert same(source[1], Slow(tmp_path / "other")[1])
    assert source.decodes_files
    assert not list((tmp_path / "cache").glob("*.arrow"))


MEMORY = """
import resource, sys
import numpy as np
from pathlib import Path
from kdam_ray.data.cache import cached
from kdam_ray.data.shards.writer import write_shards
from kdam_ray.data.shards.reader import Shards
from kdam_ray.service.records.storage import Storage
from kdam_ray.tasks import DATASETS

class Images:
    fingerprint = "synthetic"
    def __len__(self): return 300
    def name(self, index): return f"{index:04d}"
    def size(self, index): return 425, 560
    def __getitem__(self, index):
        ramp = np.add.outer(np.arange(425), np.arange(560)) + index
        normals = np.zeros((425, 560, 3), np.float16)
        normals[..., 2] = 1
        return {"image": np.stack([ramp, ramp + 1, ramp * 2], -1).astype(np.uint8),
                "semseg": (ramp % 40).astype(np.uint8), "depth": (ramp / 100).astype(np.float32),
                "normals": normals, "edge": (ramp % 2).astype(np.uint8)}

folder, nyud = Path(sys.argv[1]), DATASETS["nyud"]
for _ in write_shards(Images(), nyud, "train", Storage(str(folder / "shards"))): pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
source = cached(Shards(folder / "shards", "train", nyud), folder / "cache", image_size=None)
source.prepare()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sample, expected = source[299], Images()[299]
assert all(np.array_equal(sample[name], expected[name]) for name in expected)
print(source.path.stat().st_size // 2**20)
"""


def test_three_hundred_images_are_written_and_cached_in_little_memory(tmp_path: Path) -> None:
    """1.1 GB decoded; the limit is on all that the process ever had, libraries (about 0.3 GiB) included."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    writing, building, size = map(int, done.stdout.split())
    assert size > 1000
    assert max(writing, building) < 1024, (writing, building)
