"""What every dataset looks like to the rest of the core: a `Source` of samples; and how one is opened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from kdam_ray.tasks import Dataset

Split = Literal["train", "val", "test"]

Sample = dict[str, np.ndarray]
"""One image and its labels; only the dataset's tasks are present.

"image" [H, W, 3] uint8 RGB; "semseg", "human_parts", "sal" [H, W] uint8, 255 = ignore; "depth" [H, W] float32 metres,
0 = invalid; "normals" [H, W, 3] float16 unit vectors in the camera frame, zero = invalid; "edge" [H, W] uint8 0 / 1,
255 = ignore. Whoever receives a sample only reads it: a source may hand out the same arrays again.
"""

Batch = dict[str, Tensor]
"""Samples of equal size, on the device that was asked for.

"image" float32 [B, 3, H, W], normalised, 0 in the padding; class maps int64 [B, H, W], 255 = ignore; "depth" float32
[B, 1, H, W], 0 = invalid; "normals" float32 [B, 3, H, W], zero = invalid; "edge" float32 [B, 1, H, W] 0 / 1, 255 =
ignore.
"""


class Source(Protocol):
    """A split of a dataset, read by index.

    A source whose attribute `decodes_files` is true takes long enough per sample that the loader reads it ahead in a
    thread; it is read by one thread at a time.
    """

    @property
    def fingerprint(self) -> str:
        """Hex digest that changes whenever an image or a label does."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def name(self, index: int) -> str:
        """How messages call that sample."""
        ...


def open_source(
    dataset: Dataset,
    split: Split,
    *,
    images: int | None,
    image_size: tuple[int, int],
    resize: bool,
    root: str | None,
    cache: Path | None,
) -> Source:
    """The samples of one split, checked as far as can be done without decoding them.

    Args:
        dataset: the dataset's row.
        split: "train", "val", or "test" where the dataset has one.
        images: how many, the first ones of the split; None: all.
        image_size: (height, width) in pixels that procedural images are made at and `resize` resizes to.
        resize: resize every sample to `image_size` when it is read.
        root: folder of the dataset's packaging or of its shards; procedural datasets need none.
        cache: folder for what is dear to compute and may be lost, decoded images above all; None: nothing is kept.

    Raises:
        ValueError: the root is missing or does not hold what it should; names the field or the file.
    """
    splits = ("train", "val", "test") if dataset.test_images else ("train", "val")
    if split not in splits:
        raise ValueError(f"split: {split!r} is not one of: {', '.join(splits)}")
    from kdam_ray.data.cache import cached
    from kdam_ray.data.shards.manifest import is_shards
    from kdam_ray.data.shards.reader import open_shards

    opener = open_shards if root and is_shards(root) else OPENERS[dataset.name]
    source = opener(dataset, split, images=images, image_size=image_size, resize=resize, root=root, cache=cache)
    return cached(source, cache, image_size=image_size if resize else None)


def _open_nyud(dataset: Dataset, split: Split, *, images, image_size, resize, root, cache) -> Source:
    from kdam_ray.data.packaged.nyud import open_nyud

    if not root:
        raise ValueError(
            "root: nyud is read from files; give the folder that holds images/, segmentation/, depth/, ... and gt_sets/"
        )
    return open_nyud(root, split, images=images, image_size=image_size if resize else None, cache=cache)


def _open_pascal(dataset: Dataset, split: Split, *, images, image_size, resize, root, cache) -> Source:
    from kdam_ray.data.packaged.pascal import open_pascal

    if not root:
        raise ValueError(
            "root: pascal is read from files; give the folder that holds JPEGImages/, semseg/, ... and ImageSets/"
        )
    return open_pascal(root, split, images=images, image_size=image_size if resize else None, cache=cache)


def _open_rooms(dataset: Dataset, split: Split, *, images, image_size, resize, root, cache) -> Source:
    from kdam_ray.data.rooms.split import Rooms

    if images is None:
        images = {"train": dataset.train_images, "val": dataset.val_images, "test": dataset.test_images}[split]
    return Rooms(
        split, images=images, image_size=image_size, tasks=tuple(task.name for task in dataset.tasks), cache=cache
    )


OPENERS: dict[str, Callable[..., Any]] = {
    "rooms": _open_rooms,
    "rooms_pascal": _open_rooms,
    "nyud": _open_nyud,
    "pascal": _open_pascal,
}  # fmt: skip
