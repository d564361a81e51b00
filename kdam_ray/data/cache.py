"""Decoded samples of a split in one memory-mapped Arrow file that a node's processes share: an epoch decodes nothing.

`cached(source, folder, ...)` reads like the source. The file, <folder>/samples-<key>.arrow, is built at the first read,
image by image, so that memory holds one of them: one process builds under a lock, the others wait. It appears under its
name when it is whole, and the key follows from the source's fingerprint and the size, so that other data is another
file. Every record has a checksum, which is compared when a process first reads it.

Deleting the files is safe at any time, also under a running training (its processes keep theirs open); they are made
again. They are large (NYUD-v2: 2.8 GB for training, PASCAL-Context 13 GB), so the folder should be on a disk of the
node. Where the disk has no room, the source is read instead, and a warning says so.
"""

import hashlib
import json
import shutil
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kdam_ray.data.source import Sample, Size, Source
from kdam_ray.files import one_maker, written_whole

VERSION = 1
SPARE = 1.1  # of the expected size must be free
LARGE_BYTES = 2**18  # a sample from which on reading ahead in a thread pays


def cached(source: Source, folder: Path | None, *, image_size: Size | None) -> Source:
    """The source behind a cache, if it decodes files and there is a folder; else itself.

    Args:
        source: a split.
        folder: of the cached files; made if missing.
        image_size: (height, width) that the source resizes to; None: it does not.
    """
    if folder is None or not getattr(source, "decodes_files", False):
        return source
    return Cached(source, folder, image_size=image_size)


class Cached:
    """A source whose samples are read-only views of a memory map; everything else is the source's own."""

    def __init__(self, source: Source, folder: Path, *, image_size: Size | None) -> None:
        """Nothing is decoded yet; see `cached`."""
        self.source, self.folder, self.image_size = source, Path(folder), image_size
        self._reader: Any = None
        self._fields: dict[str, list] = {}
        self._no_room = False
        self._checked: set[int] = set()

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def __getattr__(self, name: str) -> Any:
        """`labels`, `regions`, ... where the source has them."""
        if name.startswith("_") or name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    @property
    def decodes_files(self) -> bool:
        """Whether reading ahead pays: a small sample is read in a few microseconds."""
        sample = self[0]
        return self._no_room or sum(array.nbytes for array in sample.values()) > LARGE_BYTES

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        facts = [VERSION, self.fingerprint, self.image_size and list(self.image_size)]
        return self.folder / f"samples-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}.arrow"

    def __getitem__(self, index: int) -> Sample:
        """One sample, from the file or, where that has no room, from the source.

        Raises:
            ValueError: a file of the source that cannot be decoded, or a damaged cache; names it.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        if self._reader is None and not self._no_room:
            self.prepare()
        if self._no_room:
            return self.source[index]
        try:
            return self._sample(index)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ValueError(
                f"{self.path}: image {index} cannot be read ({error}); delete the file, it will be made again"
            ) from None

    def prepare(self) -> None:
        """Builds the file if it is missing or not whole, and opens it.

        Raises:
            ValueError: a file of the source that cannot be decoded; names it.
        """
        self._reader = self._opened()
        if self._reader is not None:
            return
        with one_maker(self.path):
            self._reader = self._opened()  # somebody else may have built it meanwhile
            if self._reader is None:
                self._build()
                self._reader = self._opened()
        if self._reader is None and not self._no_room:
            raise ValueError(f"{self.path}: was written but cannot be read; delete it, or free room on its disk")

    def _opened(self) -> Any:
        """A reader of the file; None where there is none or it is not whole."""
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        except (OSError, pa.ArrowException):
            return None
        facts = json.loads((reader.schema.metadata or {}).get(b"kdam", b"{}"))
        self._fields = facts.get("fields", {})
        return reader if facts.get("images") == len(self) == reader.num_record_batches else None

    def _build(self) -> None:
        for left in self.folder.glob(
            f".{self.path.name}.*.part"
        ):  # by a build that was killed: this one holds the lock
            left.unlink(missing_ok=True)
        first = self.source[0]
        needed = int(SPARE * len(self) * sum(array.nbytes for array in first.values()))
        if shutil.disk_usage(self.folder).free < needed:
            warnings.warn(
                f"{self.folder} has no room for {needed / 1e9:.1f} GB of decoded images; "
                "they are decoded anew each time",
                stacklevel=3,
            )
            self._no_room = True
            return
        with written_whole(self.path) as part:
            self._write(part, first)

    def _write(self, part: Path, first: Sample) -> None:
        fields = {name: [str(array.dtype), *array.shape[2:]] for name, array in first.items()}
        numbers = [("height", pa.int32()), ("width", pa.int32()), ("crc", pa.uint32())]
        schema = pa.schema(
            [*numbers, *((name, pa.large_binary()) for name in fields)],
            metadata={"kdam": json.dumps({"images": len(self), "fields": fields})},
        )
        with part.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
            for index in range(len(self)):
                writer.write_batch(_record(first if index == 0 else self.source[index], schema))

    def _sample(self, index: int) -> Sample:
        """The sample in a batch of one record, so that every array begins at an aligned address."""
        batch = self._reader.get_batch(index)
        height, width, crc = (batch.column(number)[0].as_py() for number in range(3))
        buffers = {name: batch.column(name)[0].as_buffer() for name in self._fields}
        if index not in self._checked:
            if _checksum(buffers.values()) != crc:
                raise ValueError("its checksum is wrong")
            self._checked.add(index)
        return {
            name: np.frombuffer(buffers[name], dtype).reshape(height, width, *tail)
            for name, (dtype, *tail) in self._fields.items()
        }


def _record(sample: Sample, schema: pa.Schema) -> pa.RecordBatch:
    """A sample as a batch of one row, without copying its maps."""
    buffers = [pa.py_buffer(np.ascontiguousarray(sample[name])) for name in schema.names[3:]]
    height, width = sample["image"].shape[:2]
    columns = [
        pa.array([value], kind.type) for value, kind in zip((height, width, _checksum(buffers)), schema, strict=False)
    ]
    for buffer in buffers:
        offsets = pa.py_buffer(np.array([0, buffer.size], np.int64))
        columns.append(pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, buffer]))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _checksum(buffers: Iterable[pa.Buffer]) -> int:
    crc = 0
    for buffer in buffers:
        crc = zlib.crc32(buffer, crc)
    return crc
