"""Reads datasets of Parquet shards as a `Source`; `writer` writes them, `manifest` is their dataset.json.

    <split>-00000-of-00007.parquet   128 images each, in the split's order, 8 a row group
    dataset.json                     per split: fingerprint, ids, size and SHA-256 of each shard; written last

A row holds id, height, width, the image as PNG and every map as its raw bytes [height, width, ...], little endian;
Parquet compresses the latter (zstd), so any reader of Parquet has them. Raw and compressed by zstd, a class map of
NYUD-v2 is smaller than its PNG (2.6 against 3.9 kB) and is read ten times as fast; an image is half as large as PNG.

Nothing is lost, and the fingerprint is that of the source they were written from, also of its first n images: training
on shards is the same Run, bit for bit. Where the source had labels at full precision and regions, the shards have them.
"""

import io
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from kdam_ray.data.checks import FIELDS, sample_problems
from kdam_ray.data.packaged.file_kinds import UNREADABLE, one_line
from kdam_ray.data.packaged.packaging import resized
from kdam_ray.data.shards.manifest import MANIFEST, Shard, read_manifest
from kdam_ray.data.source import Sample, Split
from kdam_ray.files import remembered_hashes
from kdam_ray.tasks import Dataset

LARGEST = 2**14  # pixels of an image's side


class Shards:
    """One split of a folder of shards."""

    decodes_files = True

    def __init__(
        self,
        folder: str | Path,
        split: Split,
        dataset: Dataset,
        *,
        images: int | None = None,
        image_size: tuple[int, int] | None = None,
        cache: Path | None = None,
    ):
        """Opens the split and checks the files of the images that are used, by SHA-256.

        Args:
            folder: of the shards.
            split: "train" or "val".
            dataset: that they must hold.
            images: how many, the first ones; None: all.
            image_size: (height, width) that samples are resized to; None: as they are.
            cache: folder where hashes of files are remembered; None: nowhere.

        Raises:
            ValueError: a file is missing or is not what the manifest says; names it.
        """
        self.folder, self.dataset, self.image_size = Path(folder).expanduser(), dataset, image_size
        self.rows = read_manifest(self.folder).split(split, dataset, images, str(self.folder))
        self.ids = self.rows.ids[:images]
        self._shards = self.rows.needed(len(self.ids))
        check_files(self.folder, self._shards, cache)
        self._place = [(number, row) for number, shard in enumerate(self._shards) for row in range(len(shard.ids))]
        self._open: tuple[int, pq.ParquetFile] | None = None
        self._group: tuple[tuple[int, int], pa.Table] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, index: int) -> str:
        return self.ids[index]

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the first `len(self)` images of the source that the shards were written from."""
        return self.rows.fingerprint_of(len(self))

    def __getitem__(self, index: int) -> Sample:
        """Decodes one sample. In order is fastest: the row group that was read last is kept.

        Raises:
            ValueError: the shard is damaged, or holds what a sample must not; names it and the image.
        """
        row = self._row(index)
        sample: Sample = {
            name: self._array(row, name, index).astype(FIELDS[name][0], copy=False) for name in self._names
        }
        if problems := sample_problems(sample, self.dataset):
            raise ValueError(f"{self._where(index)}: {problems[0]}")
        return sample if self.image_size is None else resized(sample, self.image_size)

    def labels(self, index: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Labels at the image's own size and full precision, as the packaging has them.

        Raises:
            ValueError: a map that there is none of, or shards whose source had no labels at full precision.
        """
        unknown = [name for name in names if name not in self._names]
        if unknown:
            raise ValueError(f"names: {unknown[0]!r} is not one of {self.folder}: {', '.join(self._names)}")
        self._needs(self.rows.exact, "labels at full precision")
        row = self._row(index)
        return {name: self._array(row, name, index) for name in names}

    def regions(self, index: int) -> np.ndarray:
        """What the published boundary evaluator takes the true boundary from, [H, W] bool or int32."""
        self._needs(self.rows.regions != "none", "regions")
        row = self._row(index)
        return (
            self._array(row, "edge", index) == 1 if self.rows.regions == "edge" else self._array(row, "regions", index)
        )

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image as it is stored."""
        if self.rows.size is not None:
            return self.rows.size
        row = self._row(index)
        return row["height"], row["width"]

    @property
    def _names(self) -> list[str]:
        return ["image", *(task.name for task in self.dataset.tasks)]

    def _needs(self, there: bool, what: str) -> None:
        if not there:
            raise ValueError(
                f"root: the shards in {self.folder} have no {what}, as what they were written from had none"
            )

    def _where(self, index: int) -> str:
        return f"{self.folder / self._shards[self._place[index][0]].name}: {self.ids[index]}"

    def _row(self, index: int) -> dict[str, Any]:
        """Columns of one image; bytes are buffers."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.folder}: image {index} of {len(self)}")
        number, row = self._place[index]
        try:
            file = self._file(number)
            per_group = file.metadata.row_group(0).num_rows
            table = self._read(number, row // per_group)
            values = {name: table.column(name).chunk(0)[row % per_group] for name in table.column_names}
        except (pa.ArrowException, OSError, IndexError, KeyError) as error:
            path = self.folder / self._shards[number].name
            raise ValueError(
                f"{path}: cannot be read as a shard, it may be cut off or damaged ({one_line(error)})"
            ) from None
        if (found := values["id"].as_py()) != self.ids[index]:
            raise ValueError(f"{self._where(index)}: the shard holds {found!r} there; {MANIFEST} is of other shards")
        return {
            name: value.as_buffer() if pa.types.is_binary(value.type) else value.as_py()
            for name, value in values.items()
        }

    def _file(self, number: int) -> pq.ParquetFile:
        if self._open is None or self._open[0] != number:
            path = self.folder / self._shards[number].name
            file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
            facts = json.loads((file.schema_arrow.metadata or {}).get(b"kdam", b"{}"))
            if facts.get("fingerprint") != self.rows.fingerprint or file.metadata.num_rows != len(
                self._shards[number].ids
            ):
                raise ValueError(f"{path}: is not the shard that {MANIFEST} describes; its footer tells of another")
            self._open = (number, file)
        return self._open[1]

    def _read(self, number: int, group: int) -> pa.Table:
        if self._group is None or self._group[0] != (number, group):
            self._group = (
                (number, group),
                self._file(number).read_row_group(group, use_threads=False).combine_chunks(),
            )
        return self._group[1]

    def _array(self, row: dict[str, Any], name: str, index: int) -> np.ndarray:
        """One map [H, W, ...] as it is stored."""
        height, width, content = row["height"], row["width"], row.get(name)
        if not 1 <= height <= LARGEST or not 1 <= width <= LARGEST or content is None:
            raise ValueError(
                f"{self._where(index)}: has no {name}, or is {height} x {width}; a side should be 1 to {LARGEST}"
            )
        try:
            if self.rows.fields[name] == "png":
                return _rgb(content, (height, width))
            dtype, _, last = self.rows.fields[name].partition("x")
            return np.frombuffer(content, np.dtype(dtype)).reshape(height, width, *((int(last),) if last else ()))
        except (*UNREADABLE, TypeError) as error:
            raise ValueError(f"{self._where(index)}: {name} cannot be decoded ({one_line(error)})") from None


def _rgb(content: pa.Buffer, size: tuple[int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        if image.mode != "RGB" or (image.height, image.width) != size:
            raise ValueError(f"is {image.mode} {image.height} x {image.width}, not RGB {size[0]} x {size[1]}")
        return np.asarray(image)


def check_files(folder: Path, shards: Sequence[Shard], cache: Path | None) -> None:
    """Are the files there, and what the manifest says?

    Raises:
        ValueError: one is not; names it.
    """
    paths = [folder / shard.name for shard in shards]
    for path, shard in zip(paths, shards, strict=True):
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file, but {MANIFEST} lists it; fetch it, or run `kdam prepare-data` again"
            )
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path}: is a link that leads out of {folder}")
        if path.stat().st_size != shard.bytes:
            raise ValueError(
                f"{path}: has {path.stat().st_size} bytes, but {MANIFEST} says {shard.bytes}; "
                "it is cut off or another file"
            )
    for path, shard, digest in zip(paths, shards, remembered_hashes(folder, paths, cache), strict=True):
        if digest != shard.sha256:
            raise ValueError(
                f"{path}: its SHA-256 begins {digest[:12]}, but {MANIFEST} says {shard.sha256[:12]}; "
                "it is damaged or another file"
            )
