"""Everything that is wrong with a dataset, by file: where training stops at the first bad file, this goes on."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kdam_ray.data.checks import sample_problems
from kdam_ray.data.opening import Wanted, official_images, open_source
from kdam_ray.data.packaged.file_kinds import ArrayFile, ImageFile
from kdam_ray.data.packaged.nyud import PACKAGINGS, recognised
from kdam_ray.data.packaged.packaging import STORED, Packaged, Packaging, check_folders, find_file, first_ids
from kdam_ray.data.packaged.pascal import PASCAL
from kdam_ray.data.shards.manifest import MANIFEST
from kdam_ray.data.source import Sample, Size, Source, Split

LENGTH_TOLERANCE, ODD_SHARE = 0.1, 0.05  # more vectors than that share, farther than that from length 1, are said


class Examination:
    """One split, looked at image by image.

    Attributes:
        listed: images that there should be.
        problems: per id whose image cannot be used, a line for each reason, which names the file.
        notes: what is odd, but can be used.
    """

    def __init__(self, wanted: Wanted, *, root: str | None, cache: Path | None = None) -> None:
        """Opens the split.

        Args:
            wanted: its images at their own size, of a packaging at most so many.
            root: folder of a packaging or of shards; None for data that is made here.
            cache: folder where hashes of files are remembered; None: nowhere.

        Raises:
            ValueError: there is nothing that could be looked at, image by image.
        """
        self.dataset, self.split = wanted.dataset, wanted.split
        self.problems: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self._all = _opened(wanted, root, cache)
        self.listed = len(self._all)
        self._names = [self._all.name(index) for index in range(self.listed)]
        self._sizes: Counter[Size] = Counter()

    def name(self, index: int) -> str:
        """What messages call an image that is listed."""
        return self._names[index]

    def __iter__(self) -> Iterator[tuple[int, Sample | None]]:
        """Looks at every image. Yields its index and its sample, None if it cannot be used."""
        for index in range(self.listed):
            sample, problems = self._look(index)
            if problems or sample is None:
                self.problems[self.name(index)] = problems
                yield index, None
                continue
            height, width = sample["image"].shape[:2]
            self._sizes[height, width] += 1
            yield index, sample
        official = official_images(self.dataset, self.split)
        if self.listed != official:
            self.notes.insert(0, f"{self.split}: {self.listed} images; the official split has {official}")
        if len(self._sizes) > 1:
            sizes = ", ".join(f"{height} x {width} ({count})" for (height, width), count in self._sizes.most_common())
            self.notes.insert(0, f"{self.split}: images differ in size: {sizes}")

    def usable(self) -> Source:
        """The images without a problem, in their order; after all were looked at.

        Raises:
            ValueError: there are none, or they cannot be told from the others.
        """
        if len(self.problems) == self.listed:
            raise ValueError(f"root: of {self.listed} images of {self.split} none can be used")
        if self.problems:
            if not isinstance(self._all, Lenient):
                raise ValueError(
                    f"root: images cannot be left out of {self.dataset.name}; write the shards again from the packaging"
                )
            self._all.ids = [identity for identity in self._all.ids if identity not in self.problems]
        return self._all

    def _look(self, index: int) -> tuple[Sample | None, list[str]]:
        if isinstance(self._all, Lenient):
            sample, problems = self._all.look(index)
            self.notes += self._all.oddities(index) if sample is not None else []
        else:
            try:
                sample, problems = self._all[index], []
            except ValueError as error:
                return None, [str(error)]
        if sample is not None:
            problems = problems + [
                f"{self.name(index)}: {problem}" for problem in sample_problems(sample, self.dataset)
            ]
        return sample, problems


def _opened(wanted: Wanted, root: str | None, cache: Path | None) -> Source:
    if root is None or wanted.dataset.name not in PACKAGING_OF or (Path(root).expanduser() / MANIFEST).exists():
        return open_source(wanted, root=root)
    folder, split = Path(root).expanduser(), wanted.split
    packaging = PACKAGING_OF[wanted.dataset.name](folder, split)
    check_folders(packaging, folder)
    there = len(first_ids(packaging, folder, split, None))
    images = None if wanted.images is None else min(wanted.images, there)
    return Lenient(packaging, folder, split, images=images, cache=cache)


def _nyud_packaging(root: Path, split: Split) -> Packaging:
    """Which of the three packagings it is, by the first id whose files are all there."""
    check_folders(PACKAGINGS[0], root)
    for identity in first_ids(PACKAGINGS[0], root, split, None):
        whole = [
            packaging for packaging in PACKAGINGS
            if all((root / file.folders[0] / f"{identity}{file.suffix}").is_file() for file in packaging.files.values())
        ]  # fmt: skip
        if len(whole) == 1:
            return whole[0]
    return recognised(root, split)


PACKAGING_OF: dict[str, Callable[[Path, Split], Packaging]] = {
    "nyud": _nyud_packaging,
    "pascal": lambda root, split: PASCAL,
}  # fmt: skip


class Lenient(Packaged):
    """A packaging that opens whatever its files are."""

    def _check_files(self, identity: str) -> None:
        """Nothing is checked when it is opened; see `look`."""

    def look(self, index: int) -> tuple[Sample | None, list[str]]:
        """The sample, or every reason why there is none."""
        identity, arrays, problems = self.ids[index], {}, []
        try:
            size = self._image_size(identity)
        except ValueError as error:
            size, problems = None, [str(error)]
        for key, file in self.packaging.files.items():
            if size is None and key == "image":
                continue
            try:
                if size is not None:
                    arrays[key] = self._array(key, identity, size)
                else:
                    file.decode(file.kind.read(self._path(key, identity)))
            except ValueError as error:
                is_named = str(self.root) in str(error)  # some leave it to their caller
                file_name = "" if is_named else f"{find_file(self.packaging, self.root, key, identity)}: "
                problems.append(f"{file_name}{error}")
        if problems:
            return None, problems
        made = {name: row.make(*(arrays[key] for key in row.files)) for name, row in self.packaging.maps.items()}
        return {name: array.astype(STORED.get(name, array.dtype), copy=False) for name, array in made.items()}, []

    def oddities(self, index: int) -> list[str]:
        """Normals that were not stored as unit vectors: they are made so when they are read, but should not need it."""
        file, path = self.packaging.files["normals"], self._path("normals", self.ids[index])
        if not isinstance(file.kind, ArrayFile | ImageFile):
            return []
        stored = file.kind.read(path)
        known = stored[stored.any(-1)].astype(np.float32)  # vectors, or their codes in 8 bits
        lengths = np.linalg.norm(known * np.float32(2 / 255) - 1 if stored.dtype == np.uint8 else known, axis=-1)
        off = np.abs(lengths - 1) > LENGTH_TOLERANCE
        if off.mean() <= ODD_SHARE if off.size else True:
            return []
        return [f"{path}: {off.mean():.0%} of the normals are not of length 1, such as {lengths[off][0]:.2f}"]
