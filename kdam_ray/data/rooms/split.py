"""Procedural indoor scenes with exact labels for all six tasks: the dataset that needs no download.

`render(seed, index)` is the dataset: any image of it at any size, the same bytes on every machine. `Rooms` is a split
of it as a `Source`. What stands in a room is in rooms/furniture.py, where in rooms/scene.py, what the camera sees of it
in rooms/rays.py, how it is painted in rooms/paint.py; rooms/render.py makes the image and its maps.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from kdam_ray.data.rooms.pool import FIELDS, render_all
from kdam_ray.data.rooms.render import VERSION, render
from kdam_ray.data.source import Sample, Split
from kdam_ray.files import one_maker

SPLITS = ("train", "val", "test")
TEST_STREAMS = 2**40  # seeds of test splits lie above, those of the others below
KEPT_BYTES = 2**30  # a split that is not cached stays in memory if it is no larger


class Rooms:
    """One split.

    Without a cache, images are rendered when they are asked for, and kept if all of them fit `KEPT_BYTES`.

    With one, the whole split is rendered on first use into a folder named by its fingerprint, and memory-mapped from
    then on.
    """

    def __init__(
        self,
        split: Split,
        *,
        images: int,
        image_size: tuple[int, int],
        tasks: Sequence[str],
        seed: int = 0,
        cache: Path | None = None,
    ):
        """Checks the arguments; renders nothing yet.

        Args:
            split: "train", "val" or "test"; no image is in two of them, nor in splits of another seed.
            images: how many; the first n of a larger split are the split of n.
            image_size: (height, width), pixels.
            tasks: names of the maps that samples hold beside the image.
            seed: of the dataset, >= 0.
            cache: folder for the rendered splits; None: nothing is written.

        Raises:
            ValueError: an argument that means nothing; names it.
        """
        unknown = [name for name in tasks if name not in FIELDS or name == "image"]
        if unknown:
            raise ValueError(
                f"tasks: {unknown[0]!r} is not one of rooms: {', '.join(name for name in FIELDS if name != 'image')}"
            )
        if split not in SPLITS:
            raise ValueError(f"split: {split!r} is not one of: {', '.join(SPLITS)}")
        if images < 1 or seed < 0 or min(image_size) < 1:
            raise ValueError(
                f"rooms: images ({images}) and image_size {tuple(image_size)} must be at least 1, "
                f"seed ({seed}) at least 0"
            )
        self.split, self.images, self.seed = split, images, seed
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.fields = ("image", *tasks)
        self.cache = None if cache is None else Path(cache)
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return self.images

    def name(self, index: int) -> str:
        return f"rooms/{self.split}/{index}"

    @property
    def stream(self) -> int:
        """The seed that `render` gets: even for training, odd for evaluation, a range of its own for the test split."""
        return TEST_STREAMS + self.seed if self.split == "test" else 2 * self.seed + SPLITS.index(self.split)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what the pixels follow from, the renderer's version and the arguments; nothing is rendered."""
        facts = {"rooms": VERSION, "stream": self.stream, "images": self.images, "image_size": self.image_size}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.images:
            raise IndexError(f"{self.name(index)}: there are {self.images} images")
        if self._arrays is not None:
            return {field: np.asarray(array[index]) for field, array in self._arrays.items()}
        sample = self._kept.get(index)
        if sample is None:
            rendered = render(self.stream, index, image_size=self.image_size)
            sample = {field: rendered[field] for field in self.fields}
            if self.images * sum(array.nbytes for array in sample.values()) <= KEPT_BYTES:
                self._kept[index] = sample
        return sample

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray] | None:
        for _ in self.prepare():
            pass
        return None if self.folder is None else {field: _mapped(self.folder / f"{field}.npy") for field in self.fields}

    @property
    def folder(self) -> Path | None:
        """Where the cached arrays lie, or will."""
        return None if self.cache is None else self.cache / f"rooms-{self.fingerprint[:24]}"

    def prepare(self) -> Iterator[int]:
        """Renders the cached arrays if they are missing; for a caller who wants to show progress.

        Of several processes the first renders and the others wait; where the file system has no locks, each renders its
        own and the first to finish is kept.

        Yields:
            how many images are done; nothing where there is nothing to do.

        Raises:
            RuntimeError: a rendering process died.
        """
        if self.folder is None or self.folder.exists():
            return
        with one_maker(self.folder):
            if not self.folder.exists():
                yield from self._render_beside(self.folder)

    def _render_beside(self, folder: Path) -> Iterator[int]:
        with tempfile.TemporaryDirectory(".part", f"{folder.name}.", folder.parent, ignore_cleanup_errors=True) as name:
            made = Path(name)
            yield from render_all(made, seed=self.stream, images=self.images, image_size=self.image_size)
            made.chmod(0o755)
            with contextlib.suppress(OSError):  # somebody was faster; that folder is checked when it is read
                made.rename(folder)
        if not folder.exists():
            raise RuntimeError(f"{folder}: the rendered rooms could not be moved there")


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path}: is not a whole .npy file ({error}); delete its folder, it will be rendered again"
        ) from error
