"""Writes any source as Parquet shards, resumable and reproducible; `reader` says what they look like and reads them.

The same source gives the same bytes: nothing in a shard depends on time, place or the number of threads. A shard
appears under its name when it is whole; until dataset.json is written, <split>.unfinished.json lists those that are,
and a run that was cut short goes on behind them.
"""

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from kdam_ray.data.packaged.packaging import Packaged, find_file
from kdam_ray.data.rooms.split import Rooms
from kdam_ray.data.shards.manifest import FORMAT, MANIFEST, UNFINISHED, Manifest, is_plain, parse_manifest, shard_name
from kdam_ray.data.source import Sample, Source, Split
from kdam_ray.files import file_digest, remembered_hashes
from kdam_ray.machine import usable_cpus
from kdam_ray.tasks import Dataset

PER_SHARD = 128  # NYUD-v2: 7 shards of about 160 MB
PER_GROUP = 8  # images read at once
PNG_LEVEL, ZSTD_LEVEL = 4, 9  # measured on photographs: level 6 of PNG takes 2.4 times as long for 2 % less


class Store(Protocol):
    """Where shards go; `service.storage.Storage` is one, local or on S3. Files appear under their names whole."""

    def read_bytes(self, name: str) -> bytes | None: ...

    def digest(self, name: str) -> str | None:
        """SHA-256 of a file; None where there is none."""
        ...

    def save_file(self, path: Path, name: str) -> None: ...

    def remove_file(self, name: str) -> None: ...

    def scratch(self) -> Path:
        """A fresh local folder."""
        ...


def write_shards(
    source: Source,
    dataset: Dataset,
    split: Split,
    store: Store,
    *,
    per_shard: int = PER_SHARD,
    left_out: Sequence[str] = (),
) -> Iterator[int]:
    """Writes what is missing of a split; shards that are there and whole are kept.

    Args:
        source: the split, not resized.
        dataset: its row.
        split: "train" or "val".
        store: gets the shards and their manifest, beside those of the other split.
        per_shard: images of a shard.
        left_out: ids that the manifest names as not used.

    Yields:
        how many images are done.

    Raises:
        ValueError: a sample that is not as it should be, or shards of something else in the store.
    """
    if isinstance(source, Packaged) and source.image_size is not None:
        raise ValueError("image_size: shards are written from images at their own size")
    ids = [source.name(index) for index in range(len(source))]
    if odd := [identity for identity in ids if not is_plain(identity)]:
        raise ValueError(f"{odd[0]!r} is not an id; an id is a relative path without . and ..")
    prefixes = prefix_fingerprints(source)
    facts = _facts(source, dataset, prefixes[-1])
    known = _known(store, dataset, split, facts)
    rows: list[dict[str, Any]] = []
    count = -(-len(ids) // per_shard)
    work = store.scratch()
    try:
        for number in range(count):
            name = shard_name(split, number, count)
            mine = range(number * per_shard, min((number + 1) * per_shard, len(ids)))
            row = known.get(name)
            if row is None or row["ids"] != [ids[i] for i in mine] or store.digest(name) != row["sha256"]:
                footer = {"format": FORMAT, "dataset": dataset.name, "split": split, "shard": number}
                _write(work / name, source, mine, facts | footer)
                row = {
                    "name": name, "bytes": (work / name).stat().st_size, "sha256": file_digest(work / name),
                    "ids": [ids[i] for i in mine], "fingerprints": [prefixes[i] for i in mine],
                }  # fmt: skip
                store.save_file(work / name, name)
                (work / name).unlink()
            rows.append(row)
            _save(store, work, UNFINISHED.format(split=split), {"facts": facts, "shards": rows})
            yield mine.stop
        _finish(store, work, dataset, split, facts | {"left_out": list(left_out), "shards": rows})
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):
            work.parent.rmdir()  # nothing else lies there


def prefix_fingerprints(source: Source) -> list[str]:
    """The fingerprint that a source of the first 1, 2, ... images would have; files are hashed once."""
    if isinstance(source, Packaged):
        found = _of_files(source)
    elif isinstance(source, Rooms):
        options = {"image_size": source.image_size, "tasks": source.fields[1:], "seed": source.seed}
        found = [Rooms(source.split, images=n + 1, **options).fingerprint for n in range(len(source))]  # type: ignore[arg-type]
    else:  # what a part of it would say is not known
        found = [hashlib.sha256(f"{source.fingerprint} {n + 1}".encode()).hexdigest() for n in range(len(source) - 1)]
        found.append(source.fingerprint)
    assert found[-1] == source.fingerprint
    return found


def _of_files(source: Packaged) -> list[str]:
    """`Packaged.fingerprint` of every beginning."""
    paths = [
        find_file(source.packaging, source.root, key, identity)
        for identity in source.ids
        for key in source.packaging.files
    ]
    hashes = iter(zip(paths, remembered_hashes(source.root, paths, source.cache), strict=True))
    whole, found = hashlib.sha256(), []
    for _ in source.ids:
        for _ in source.packaging.files:
            path, digest = next(hashes)
            whole.update(f"{path.relative_to(source.root).as_posix()} {digest}\n".encode())
        found.append(whole.copy().hexdigest())
    return found


def _facts(source: Source, dataset: Dataset, fingerprint: str) -> dict[str, Any]:
    """What a split's manifest and the footers of its shards say alike."""
    names = ("image", *(task.name for task in dataset.tasks))
    first = _maps(source, 0, names)
    regions = _regions(source, 0)
    kind = "none" if regions is None else "edge" if regions.dtype == bool else "column"
    stored = first | ({"regions": regions} if regions is not None and kind == "column" else {})
    return {
        "fingerprint": fingerprint,
        "fields": {name: "png" if name == "image" else _type(array) for name, array in stored.items()},
        "exact": hasattr(source, "labels"),
        "regions": kind,
        "size": _common_size(source),
    }


def _common_size(source: Source) -> list[int] | None:
    """[height, width] of all images; None where they differ."""
    if isinstance(source, Rooms):
        return list(source.image_size)
    if hasattr(source, "size"):  # from headers
        sizes = {tuple(source.size(index)) for index in range(len(source))}
    else:
        sizes = {source[index]["image"].shape[:2] for index in range(len(source))}
    return list(sizes.pop()) if len(sizes) == 1 else None


def _type(array: np.ndarray) -> str:
    return f"{array.dtype}x{array.shape[2]}" if array.ndim == 3 else str(array.dtype)


def _maps(source: Source, index: int, names: Sequence[str]) -> Sample:
    """Image and maps of a sample, at full precision where the source has that."""
    if hasattr(source, "labels"):
        return source.labels(index, names)
    sample = source[index]
    return {name: sample[name] for name in names}


def _regions(source: Source, index: int) -> np.ndarray | None:
    return source.regions(index) if hasattr(source, "regions") else None


def _known(store: Store, dataset: Dataset, split: Split, facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Shards of this very split that are there already, by name.

    Raises:
        ValueError: the store holds finished shards of something else.
    """
    text = store.read_bytes(MANIFEST)
    if text is not None:
        manifest = parse_manifest(text, MANIFEST)
        if manifest.dataset != dataset.name:
            raise ValueError(
                f"to: holds shards of {manifest.dataset} already; give another place to those of {dataset.name}"
            )
        there = manifest.splits.get(split)
        if there is not None and there.fingerprint != facts["fingerprint"]:
            raise ValueError(
                f"to: holds shards of {split} that were written from other data; give another place, or remove them"
            )
        if there is not None and all(there.model_dump(mode="json")[key] == value for key, value in facts.items()):
            return {row.name: row.model_dump(mode="json") for row in there.shards}
    try:
        begun = json.loads(store.read_bytes(UNFINISHED.format(split=split)) or b"{}")
        return {row["name"]: row for row in begun["shards"]} if begun.get("facts") == facts else {}
    except (ValueError, KeyError, TypeError):  # damaged: written anew
        return {}


def _finish(store: Store, work: Path, dataset: Dataset, split: Split, rows: dict[str, Any]) -> None:
    """The split's entry in the manifest, then what is not needed any more."""
    text = store.read_bytes(MANIFEST)
    before = parse_manifest(text, MANIFEST).splits if text is not None else {}
    document = {"format": FORMAT, "dataset": dataset.name, "splits": {**before, split: rows}}
    manifest = Manifest.model_validate(document).model_dump(mode="json")
    _save(store, work, MANIFEST, manifest)
    kept = {row["name"] for row in rows["shards"]}
    for row in before[split].shards if split in before else ():
        if row.name not in kept:
            store.remove_file(row.name)
    store.remove_file(UNFINISHED.format(split=split))


def _save(store: Store, work: Path, name: str, document: dict[str, Any]) -> None:
    path = work / "document.json"
    path.write_text(json.dumps(document, sort_keys=True, indent=1) + "\n")
    store.save_file(path, name)


def _write(path: Path, source: Source, indices: range, facts: dict[str, Any]) -> None:
    fields = facts["fields"]
    schema = pa.schema(
        [("id", pa.string()), ("height", pa.int32()), ("width", pa.int32()), *((name, pa.binary()) for name in fields)],
        metadata={"kdam": json.dumps(facts, sort_keys=True)},
    )
    packed = [name for name, kind in fields.items() if kind != "png"]
    compression = {name: "zstd" if name in packed else "none" for name in schema.names}
    with (
        pq.ParquetWriter(
            path, schema, compression=compression, compression_level=dict.fromkeys(packed, ZSTD_LEVEL),
            use_dictionary=False, write_statistics=False, write_page_checksum=True,
        ) as writer,
        ThreadPoolExecutor(usable_cpus()) as pool,
    ):  # fmt: skip
        for start in range(indices.start, indices.stop, PER_GROUP):
            group = range(start, min(start + PER_GROUP, indices.stop))
            rows = list(pool.map(_encoded, [_row(source, index, facts) for index in group]))
            writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=PER_GROUP)


def _row(source: Source, index: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Id and maps of one image.

    Raises:
        ValueError: they are not as the first image's.
    """
    maps = _maps(source, index, [name for name in facts["fields"] if name != "regions"])
    regions = _regions(source, index)
    if facts["regions"] == "column" and regions is not None:
        maps["regions"] = regions
    other = [name for name, array in maps.items() if facts["fields"][name] not in ("png", _type(array))]
    if other or (facts["regions"] == "edge" and regions is not None and not np.array_equal(regions, maps["edge"] == 1)):
        raise ValueError(
            f"{source.name(index)}: {other[0] if other else 'regions'} is of another kind than the first image's"
        )
    return {"id": source.name(index), "height": maps["image"].shape[0], "width": maps["image"].shape[1], **maps}


def _encoded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.tobytes() if isinstance(value, np.ndarray) else value
        for name, value in (row | {"image": _png(row["image"])}).items()
    }


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=PNG_LEVEL)
    return stream.getvalue()
