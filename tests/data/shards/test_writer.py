"""Parquet shards: nothing lost, the same bytes twice, resumable, hostile files named.

python -m pytest tests/data/shards/test_writer.py
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packaging_files import write_packaging

from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.packaged.export import export_packaging
from kdam_ray.data.packaged.nyud import open_nyud
from kdam_ray.data.packaged.packaging import Packaged
from kdam_ray.data.packaged.pascal import open_pascal
from kdam_ray.data.rooms.split import Rooms
from kdam_ray.data.shards.manifest import MANIFEST
from kdam_ray.data.shards.reader import Shards
from kdam_ray.data.shards.writer import prefix_fingerprints, write_shards
from kdam_ray.data.source import Split
from kdam_ray.service.records.storage import Storage
from kdam_ray.tasks import DATASETS

NYUD = DATASETS["nyud"]
COUNTS: dict[Split, int] = {"train": 11, "val": 3}  # with 4 images a shard: 3 shards and one


def write(
    source: Any, folder: Path, split: Any = "train", dataset: Any = NYUD, per_shard: Any = 4, **options: Any
) -> Any:
    return list(write_shards(source, dataset, split, Storage(str(folder)), per_shard=per_shard, **options))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(left: Any, right: Any) -> bool:
    return list(left) == list(right) and all(
        left[k].dtype == right[k].dtype and np.array_equal(left[k], right[k]) for k in left
    )


@pytest.fixture(scope="module")
def packaging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packaging(tmp_path_factory.mktemp("data") / "nyud", COUNTS["train"], COUNTS["val"])


@pytest.fixture(scope="module")
def written(packaging: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for split in COUNTS:
        write(open_nyud(packaging, split), folder, split)
    return folder


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(written, tmp_path / "shards"))


def rooms(name: str, split: Any = "train", images: int = 5) -> Any:
    return Rooms(split, images=images, image_size=(24, 32), tasks=[task.name for task in DATASETS[name].tasks])


@pytest.mark.parametrize("split", COUNTS)
def test_shards_are_the_packaging(packaging: Path, written: Path, split: Any) -> None:
    source, shards = open_nyud(packaging, split), Shards(written, split, NYUD)
    assert len(shards) == len(source) == COUNTS[split]
    assert shards.fingerprint == source.fingerprint
    for index in (*range(len(source)), 0, len(source) - 1, 1):  # in order and not
        assert shards.name(index) == source.name(index)
        assert shards.size(index) == source.size(index)
        assert same(source[index], shards[index])
        names = ["normals", "depth"]
        assert same(source.labels(index, names), shards.labels(index, names))
        assert shards.labels(index, ["normals"])["normals"].dtype == np.float32
        assert same({"": source.regions(index)}, {"": shards.regions(index)})
    with pytest.raises(IndexError):
        shards[len(source)]


@pytest.mark.parametrize("images", [1, 4, 5, 11])
def test_the_first_images_are_those_of_the_packaging(packaging: Path, written: Path, images: int) -> None:
    source, shards = open_nyud(packaging, "train", images=images), Shards(written, "train", NYUD, images=images)
    assert (len(shards), shards.fingerprint, shards.ids) == (images, source.fingerprint, source.ids)


def test_only_the_shards_of_the_first_images_are_needed(shards: Path) -> None:
    (shards / "train-00002-of-00003.parquet").unlink()
    assert len(Shards(shards, "train", NYUD, images=8)) == 8
    with pytest.raises(ValueError, match="train-00002"):
        Shards(shards, "train", NYUD, images=9)


def test_resized_as_the_packaging_is(packaging: Path, written: Path) -> None:
    source, shards = open_nyud(packaging, "val", image_size=(20, 30)), Shards(written, "val", NYUD, image_size=(20, 30))
    assert all(same(source[index], shards[index]) for index in range(len(source)))
    with pytest.raises(ValueError, match="own size"):
        write(source, written, "val")


def test_opening_goes_by_the_manifest(packaging: Path, written: Path, tmp_path: Path) -> None:
    wanted = Wanted(NYUD, "val", 2, (32, 48))
    sources = [open_source(wanted, root=str(root), cache=tmp_path) for root in (packaging, written)]
    assert sources[0].fingerprint == sources[1].fingerprint
    assert same(sources[0][1], sources[1][1])


def test_pascal_with_its_label_maps(tmp_path: Path) -> None:
    dataset = DATASETS["rooms_pascal"]
    export_packaging(rooms("rooms_pascal"), dataset, tmp_path / "root", "train")
    source = open_pascal(tmp_path / "root", "train")
    write(source, tmp_path / "shards", dataset=DATASETS["pascal"])
    shards = Shards(tmp_path / "shards", "train", DATASETS["pascal"])
    assert shards.rows.regions == "column"
    for index in range(len(source)):
        assert same(source[index], shards[index])
        assert same({"": source.regions(index)}, {"": shards.regions(index)})


@pytest.mark.parametrize("name", ["rooms", "rooms_pascal"])
def test_rooms_as_shards_are_the_same_rooms(name: str, tmp_path: Path) -> None:
    source = rooms(name)
    write(source, tmp_path, dataset=DATASETS[name])
    for images in (3, 5):
        shards: Any = open_source(Wanted(DATASETS[name], "train", images, (24, 32)), root=str(tmp_path))
        assert shards.fingerprint == rooms(name, images=images).fingerprint
    assert all(same(source[index], shards[index]) for index in range(5))
    assert shards.name(2) == source.name(2)
    with pytest.raises(ValueError, match="image_size"):
        open_source(Wanted(DATASETS[name], "train", 3, (48, 64)), root=str(tmp_path))
    with pytest.raises(ValueError, match="full precision"):
        shards.labels(0, ["normals"])
    with pytest.raises(ValueError, match="regions"):
        shards.regions(0)


def test_the_bytes_are_the_same_twice_and_after_an_interruption(packaging: Path, written: Path, tmp_path: Path) -> None:
    source = open_nyud(packaging, "train")
    begun: Any = write_shards(source, NYUD, "train", Storage(str(tmp_path)), per_shard=4)
    next(begun)
    next(begun)
    begun.close()  # killed between two shards
    assert not (tmp_path / MANIFEST).exists()
    with pytest.raises(ValueError, match="cut short"):
        open_source(Wanted(NYUD, "train", 1, (32, 48)), root=str(tmp_path))
    kept = tmp_path / "train-00000-of-00003.parquet"
    before = kept.stat().st_ino
    damaged = tmp_path / "train-00001-of-00003.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert write(source, tmp_path) == [4, 8, 11]
    write(open_nyud(packaging, "val"), tmp_path, "val")
    assert kept.stat().st_ino == before  # not written again
    assert files(tmp_path) == files(written)


def test_writing_again_mends_and_keeps(packaging: Path, written: Path, shards: Path) -> None:
    nodes = {path.name: path.stat().st_ino for path in shards.iterdir()}
    damaged = shards / "train-00001-of-00003.parquet"
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    write(open_nyud(packaging, "train"), shards)
    assert files(shards) == files(written)
    changed = {path.name for path in shards.iterdir() if path.stat().st_ino != nodes[path.name]}
    assert changed == {damaged.name, MANIFEST}


def test_other_shard_sizes_replace_the_old_ones(packaging: Path, shards: Path) -> None:
    write(open_nyud(packaging, "train"), shards, per_shard=6)
    names = sorted(path.name for path in shards.glob("train*"))
    assert names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert len(Shards(shards, "train", NYUD)) == 11


def test_nothing_else_is_overwritten(packaging: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other data"):
        write(open_nyud(packaging, "train", images=3), shards)
    with pytest.raises(ValueError, match="holds shards of nyud"):
        write(rooms("rooms"), shards, dataset=DATASETS["rooms"])


def test_left_out_ids_are_in_the_manifest(packaging: Path, tmp_path: Path) -> None:
    write(open_nyud(packaging, "val"), tmp_path, "val", left_out=["0099"])
    assert json.loads((tmp_path / MANIFEST).read_text())["splits"]["val"]["left_out"] == ["0099"]


def test_any_reader_of_parquet_has_the_arrays(packaging: Path, written: Path) -> None:
    table = pq.read_table(written / "val-00000-of-00001.parquet")
    facts = json.loads(table.schema.metadata[b"kdam"])
    assert (facts["format"], facts["dataset"], facts["split"], facts["size"]) == (1, "nyud", "val", [32, 48])
    assert list(facts["fields"]) == ["depth", "edge", "image", "normals", "semseg"]
    row = table.to_pylist()[1]
    assert row["image"][:4] == b"\x89PNG"
    depth = np.frombuffer(row["depth"], "float32").reshape(row["height"], row["width"])
    assert np.array_equal(depth, np.load(packaging / "depth" / f"{row['id']}.npy"))


def test_every_beginning_of_a_packaging_has_its_fingerprint(packaging: Path) -> None:
    prefixes = prefix_fingerprints(open_nyud(packaging, "train"))
    assert prefixes == [open_nyud(packaging, "train", images=n + 1).fingerprint for n in range(COUNTS["train"])]


# ---- what others may hand us


def rewritten(folder: Path, change: Any) -> None:
    """The first shard with a changed table, and a manifest that vouches for it."""
    path = folder / "val-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table), path)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["splits"]["val"]["shards"][0] |= {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size,
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))


def with_column(name: str, values: Any) -> Any:
    def change(table: Any) -> Any:
        return table.set_column(
            table.schema.get_field_index(name), name, pa.array(values, table.schema.field(name).type)
        )

    return change


def truncated(folder: Path) -> None:
    path = folder / "val-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def flipped(folder: Path) -> None:
    path = folder / "val-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def missing(folder: Path) -> None:
    (folder / "val-00000-of-00001.parquet").unlink()


def empty(folder: Path) -> None:
    (folder / "val-00000-of-00001.parquet").write_bytes(b"")


def no_parquet(folder: Path) -> None:
    path = folder / "val-00000-of-00001.parquet"
    path.write_bytes(b"x" * 5000)
    rewritten_hash(folder, path)


def rewritten_hash(folder: Path, path: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    row = manifest["splits"]["val"]["shards"][0]
    row |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def label_200(folder: Path) -> None:
    rewritten(folder, with_column("semseg", [bytes([200]) * (32 * 48)] * 3))


def short_map(folder: Path) -> None:
    rewritten(folder, with_column("depth", [b"\0" * 40] * 3))


def no_image(folder: Path) -> None:
    rewritten(folder, with_column("image", [b"GIF89a"] * 3))


def huge(folder: Path) -> None:
    rewritten(folder, with_column("height", [2**30] * 3))


def negative(folder: Path) -> None:
    rewritten(folder, with_column("width", [-48] * 3))


def null(folder: Path) -> None:
    rewritten(folder, with_column("edge", [None] * 3))


def other_ids(folder: Path) -> None:
    rewritten(folder, with_column("id", ["0000", "0001", "0002"]))


def other_footer(folder: Path) -> None:
    rewritten(folder, lambda table: table.replace_schema_metadata({"kdam": "{}"}))


def no_column(folder: Path) -> None:
    rewritten(folder, lambda table: table.drop_columns(["normals"]))


def manifest_with(change: Any) -> Any:
    def spoil(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        change(manifest, manifest["splits"]["val"]["shards"][0])
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return spoil


def linked_out(folder: Path) -> None:
    path = folder / "val-00000-of-00001.parquet"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


PARQUET = "val-00000-of-00001.parquet"
HOSTILE = {
    "truncated": (truncated, (PARQUET, "bytes")),
    "flipped": (flipped, (PARQUET, "SHA-256")),
    "missing": (missing, (PARQUET, "no such file")),
    "empty": (empty, (PARQUET, "0 bytes")),
    "no_parquet": (no_parquet, (PARQUET, "cannot be read as a shard")),
    "label_200": (label_200, (PARQUET, "0011", "semseg", "label 200")),
    "short_map": (short_map, (PARQUET, "0011", "depth")),
    "no_image": (no_image, (PARQUET, "0011", "image")),
    "huge": (huge, (PARQUET, "0011", str(2**30))),
    "negative": (negative, (PARQUET, "0011", "-48")),
    "null": (null, (PARQUET, "0011", "edge")),
    "other_ids": (other_ids, (PARQUET, "0011", "0000")),
    "other_footer": (other_footer, (PARQUET, "footer")),
    "no_column": (no_column, (PARQUET, "normals")),
    "linked_out": (linked_out, (PARQUET, "link")),
    "wrong_hash": (manifest_with(lambda m, row: row.update(sha256="0" * 64)), (PARQUET, "SHA-256")),
    "no_hash": (manifest_with(lambda m, row: row.update(sha256="../x")), (MANIFEST, "sha256")),
    "traversal": (
        manifest_with(lambda m, row: row.update(ids=["../../x", "0012", "0013"])), (MANIFEST, "../../x", "not an id"),
    ),
    "absolute": (manifest_with(lambda m, row: row.update(ids=["/etc/x", "0012", "0013"])), (MANIFEST, "/etc/x")),
    "twice": (manifest_with(lambda m, row: row.update(ids=["0012", "0012", "0013"])), (MANIFEST, "twice")),
    "name": (manifest_with(lambda m, row: row.update(name="../val.parquet")), (MANIFEST, "../val.parquet")),
    "format": (manifest_with(lambda m, row: m.update(format=7)), (MANIFEST, "format 7")),
    "dataset": (manifest_with(lambda m, row: m.update(dataset="pascal")), ("pascal", "nyud")),
    "field": (manifest_with(lambda m, row: m["splits"]["val"]["fields"].pop("depth")), ("val", "depth")),
    "unknown": (manifest_with(lambda m, row: row.update(extra=1)), (MANIFEST, "extra")),
    "no_json": (lambda folder: (folder / MANIFEST).write_text("{"), (MANIFEST,)),
    "a_list": (lambda folder: (folder / MANIFEST).write_text("[]"), (MANIFEST,)),
    "bytes": (lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe\0"), (MANIFEST,)),
    "zero": (lambda folder: (folder / MANIFEST).write_bytes(b""), (MANIFEST,)),
}  # fmt: skip


@pytest.mark.parametrize("spoil", HOSTILE)
def test_hostile_shards_are_refused_in_one_line_that_names_them(shards: Path, spoil: Any) -> None:
    how, words = HOSTILE[spoil]
    how(shards)
    with pytest.raises(ValueError) as error:  # noqa: PT011  the words follow
        Shards(shards, "val", NYUD)[0]
    line = str(error.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_too_many_images_and_missing_splits_are_refused(written: Path, tmp_path: Path, packaging: Path) -> None:
    with pytest.raises(ValueError, match="train_images: 12 are asked for"):
        Shards(written, "train", NYUD, images=12)
    write(open_nyud(packaging, "val"), tmp_path, "val")
    with pytest.raises(ValueError, match="no shards of train"):
        Shards(tmp_path, "train", NYUD)


def test_ids_that_lead_elsewhere_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packaging: Path
) -> None:
    monkeypatch.setattr(Packaged, "name", lambda self, index: "../x")
    with pytest.raises(ValueError, match="not an id"):
        write(open_nyud(packaging, "val"), tmp_path, "val")
