"""dataset.json: which shards there are, what is in each, and the fingerprints of what they were written from."""

import json
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from kdam_ray.config import Frozen, explain
from kdam_ray.data.source import Size, Split, use_all
from kdam_ray.tasks import Dataset

FORMAT = 1

MANIFEST = "dataset.json"

UNFINISHED = "{split}.unfinished.json"

MADE_AT_A_SIZE = ("rooms", "rooms_pascal")  # other datasets are resized when they are read, if at all

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def shard_name(split: str, number: int, count: int) -> str:
    return f"{split}-{number:05d}-of-{count:05d}.parquet"


class Shard(Frozen):
    """One shard: a file of some images.

    Attributes:
        name: of the file.
        bytes: its size.
        sha256: of the file.
        ids: of its images, in order.
        fingerprints: of the split's images up to each of them.
    """

    name: str
    bytes: Annotated[int, Field(ge=1)]
    sha256: Digest
    ids: Annotated[tuple[str, ...], Field(min_length=1)]
    fingerprints: tuple[str, ...]

    @model_validator(mode="after")
    def _consistent(self) -> "Shard":
        for identity in self.ids:
            if not is_plain(identity):
                raise ValueError(f"{self.name}: {identity!r} is not an id; an id is a relative path without . and ..")
        if len(self.fingerprints) != len(self.ids):
            raise ValueError(f"{self.name}: {len(self.ids)} ids, but {len(self.fingerprints)} fingerprints")
        return self


class SplitShards(Frozen):
    """The shards of one split.

    Attributes:
        fingerprint: of the source it was written from.
        fields: per column its numpy type and, after x, the length of its last axis: float32x3; "png" for the image.
        size: (height, width) of the images; None where they differ.
        exact: the maps are the labels at full precision too.
        regions: where the boundary evaluator's truth is: the edge map, a column, or nowhere.
        left_out: ids that the source lists but that could not be used.
        shards: the files.
    """

    fingerprint: Annotated[str, Field(min_length=1)]
    fields: dict[str, str]
    size: Size | None
    exact: bool
    regions: Literal["edge", "column", "none"]
    left_out: tuple[str, ...] = ()
    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]

    @property
    def ids(self) -> list[str]:
        return [identity for shard in self.shards for identity in shard.ids]

    def fingerprint_of(self, images: int) -> str:
        """The fingerprint of the first `images`."""
        return [digest for shard in self.shards for digest in shard.fingerprints][images - 1]

    def needed(self, images: int) -> list[Shard]:
        """The shards that hold the first `images`."""
        starts = accumulate((len(shard.ids) for shard in self.shards), initial=0)
        return [shard for shard, start in zip(self.shards, starts, strict=False) if start < images]


class Manifest(Frozen):
    """What dataset.json holds."""

    format: Literal[1]
    dataset: str
    splits: dict[Split, SplitShards]

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        for split, rows in self.splits.items():
            for number, shard in enumerate(rows.shards):
                if shard.name != shard_name(split, number, len(rows.shards)):
                    raise ValueError(
                        f"shard {number} of {split} is called {shard.name!r}, "
                        f"not {shard_name(split, number, len(rows.shards))}"
                    )
            if len(set(rows.ids)) < len(rows.ids):
                raise ValueError(f"{split}: an id is there twice")
        return self

    def split(
        self, split: Split, dataset: Dataset, images: int | None, source: str, image_size: Size | None = None
    ) -> SplitShards:
        """The split, if it is there, of that dataset, and large enough.

        Args:
            split: "train" or "val".
            dataset: that is wanted.
            images: how many are; None: all.
            source: what messages call the shards.
            image_size: (height, width) that images must have if they were made at a size; None: any.

        Raises:
            ValueError: names what is wrong.
        """
        if self.dataset != dataset.name:
            raise ValueError(f"root: {source} holds shards of {self.dataset}, not of {dataset.name}")
        if split not in self.splits:
            raise ValueError(f"root: {source} has no shards of {split}; `kdam prepare-data` writes them")
        rows = self.splits[split]
        lacking = [name for name in ("image", *(task.name for task in dataset.tasks)) if name not in rows.fields]
        if lacking:
            raise ValueError(f"root: {source}: the shards of {split} have no column {lacking[0]}; write them again")
        if images is not None and not 1 <= images <= len(rows.ids):
            whole = {str(name): len(other.ids) for name, other in self.splits.items() if name in ("train", "val")}
            raise ValueError(
                f"{split}_images: {images} are asked for, but {source} holds {len(rows.ids)}; {use_all(whole)}"
            )
        if image_size is not None and self.dataset in MADE_AT_A_SIZE and rows.size != tuple(image_size):
            raise ValueError(
                f"image_size: {source} holds {dataset.name} of {rows.size} pixels, but {tuple(image_size)} is asked for"
            )
        return rows


def is_plain(identity: str) -> bool:
    """A relative path that leads nowhere else: it names files of predictions too."""
    parts = identity.split("/")
    return not any(character in identity for character in "\\\0\n\r") and not any(
        part == "" or part.startswith(".") for part in parts
    )


def parse_manifest(text: bytes, source: str) -> Manifest:
    """The manifest in the bytes of a dataset.json, which messages call `source`.

    Raises:
        ValueError: it is none; names `source`.
    """
    try:
        document = json.loads(text)
        if isinstance(document, dict) and document.get("format") not in (None, FORMAT):
            raise ValueError(f"is of format {document['format']}; this version reads {FORMAT}")
        return Manifest.model_validate(document)
    except ValidationError as error:
        raise ValueError(f"{source}: is no manifest of shards ({explain(error)})") from None
    except ValueError as error:  # of json and unicode too
        raise ValueError(f"{source}: {error}; it should be what `kdam prepare-data` writes") from None


def is_shards(root: str | Path) -> bool:
    """Does a folder hold shards, whole or not?"""
    root = Path(root).expanduser()
    return any(
        (root / name).is_file() for name in (MANIFEST, *(UNFINISHED.format(split=split) for split in get_args(Split)))
    )


def read_manifest(root: Path) -> Manifest:
    """The manifest of a folder of shards.

    Raises:
        ValueError: there is none, or it is damaged; names the file.
    """
    path = root / MANIFEST
    try:
        return parse_manifest(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise ValueError(
            f"{path}: is missing: writing these shards was cut short; run `kdam prepare-data` again, it goes on"
        ) from None
