"""How the split of a data set is opened, whatever holds it; torch and the decoders come with the first image."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kdam_ray.data.source import Size, Source, Split
from kdam_ray.tasks import Dataset


@dataclass(frozen=True)
class Wanted:
    """The images of a data set that are asked for.

    Attributes:
        dataset: the dataset's row.
        split: "train", "val", or "test" where the dataset has one.
        images: how many, the first ones of the split; None: all.
        image_size: (height, width) in pixels that procedural images are made at and `resize` resizes to.
        resize: resize every sample to `image_size` when it is read.
    """

    dataset: Dataset
    split: Split
    images: int | None
    image_size: Size
    resize: bool = False

    @property
    def resized_to(self) -> Size | None:
        """(height, width) that samples are resized to; None: they are as they are stored."""
        return self.image_size if self.resize else None


def official_images(dataset: Dataset, split: Split) -> int:
    """How many images the published split has."""
    return {"train": dataset.train_images, "val": dataset.val_images, "test": dataset.test_images}[split]


def open_source(wanted: Wanted, *, root: str | None = None, cache: Path | None = None) -> Source:
    """The samples that are asked for, checked as far as can be done without decoding them.

    Args:
        wanted: which they are.
        root: folder of the dataset's packaging or of its shards; procedural datasets need none.
        cache: folder for what is dear to compute and may be lost, decoded images above all; None: nothing is kept.

    Raises:
        ValueError: the root is missing or does not hold what it should; names the field or the file.
    """
    splits = ("train", "val", "test") if wanted.dataset.test_images else ("train", "val")
    if wanted.split not in splits:
        raise ValueError(f"split: {wanted.split!r} is not one of: {', '.join(splits)}")
    from kdam_ray.data.cache import cached
    from kdam_ray.data.shards.manifest import is_shards

    source = (_open_shards if root and is_shards(root) else OPENERS[wanted.dataset.name])(wanted, root, cache)
    return cached(source, cache, image_size=wanted.resized_to)


def _open_shards(wanted: Wanted, root: str | None, cache: Path | None) -> Source:
    from kdam_ray.data.shards.manifest import MADE_AT_A_SIZE, read_manifest
    from kdam_ray.data.shards.reader import Shards

    folder, dataset, images = Path(root or ".").expanduser(), wanted.dataset, wanted.images
    read_manifest(folder).split(wanted.split, dataset, images, str(folder), wanted.image_size)
    size = None if dataset.name in MADE_AT_A_SIZE else wanted.resized_to
    return Shards(folder, wanted.split, dataset, images=images, image_size=size, cache=cache)


def _open_nyud(wanted: Wanted, root: str | None, cache: Path | None) -> Source:
    from kdam_ray.data.packaged.nyud import open_nyud

    if not root:
        raise ValueError(
            "root: nyud is read from files; give the folder that holds images/, segmentation/, depth/, ... and gt_sets/"
        )
    return open_nyud(root, wanted.split, images=wanted.images, image_size=wanted.resized_to, cache=cache)


def _open_pascal(wanted: Wanted, root: str | None, cache: Path | None) -> Source:
    from kdam_ray.data.packaged.pascal import open_pascal

    if not root:
        raise ValueError(
            "root: pascal is read from files; give the folder that holds JPEGImages/, semseg/, ... and ImageSets/"
        )
    return open_pascal(root, wanted.split, images=wanted.images, image_size=wanted.resized_to, cache=cache)


def _open_rooms(wanted: Wanted, root: str | None, cache: Path | None) -> Source:
    from kdam_ray.data.rooms.split import Rooms

    del root
    images = official_images(wanted.dataset, wanted.split) if wanted.images is None else wanted.images
    tasks = tuple(task.name for task in wanted.dataset.tasks)
    return Rooms(wanted.split, images=images, image_size=wanted.image_size, tasks=tasks, cache=cache)


OPENERS: dict[str, Callable[[Wanted, str | None, Path | None], Source]] = {
    "rooms": _open_rooms,
    "rooms_pascal": _open_rooms,
    "nyud": _open_nyud,
    "pascal": _open_pascal,
}  # fmt: skip
