"""Procedural rooms written as public packagings and read back: python -m pytest tests/data/packaged/test_export.py"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.io import loadmat
from skimage.morphology import thin

from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.packaged import nyud, pascal
from kdam_ray.data.packaged.export import CONTEXT_OF_ROOMS, UNKNOWN, export_packaging
from kdam_ray.data.packaged.packaging import Packaging
from kdam_ray.data.source import Sample, Source, Split
from kdam_ray.tasks import DATASETS, ROOM_CLASSES

SIZE = (48, 64)
CODE = 1.5 / 127.5  # 8 bits: half a code, 1/255, in each component, then a new length


def rooms(name: str, split: Split = "train", images: int = 6) -> Source:
    return open_source(Wanted(DATASETS[name], split, images, SIZE))


def opened(dataset: str, root: Path, split: Split = "train") -> Any:
    return open_source(Wanted(DATASETS[dataset], split, None, SIZE), root=str(root))


class Altered:
    """A source with changes to each of its samples."""

    fingerprint = "altered"

    def __init__(self, source: Source, **changes: Any) -> None:
        self.source, self.changes = source, changes

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[index]
        return sample | {name: change(sample[name].copy()) for name, change in self.changes.items()}


def pixels(value: Any) -> Any:
    """Sets a few pixels to a value."""

    def change(array: np.ndarray) -> Any:
        array[5:9, 3:20] = value
        return array

    return change


def same(one: Any, other: Any, names: Any) -> bool:
    return all(one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in names)


@pytest.mark.parametrize("packaging", nyud.PACKAGINGS, ids=lambda packaging: packaging.name)
def test_nyud_comes_back(tmp_path: Path, packaging: Packaging) -> None:
    source = Altered(rooms("rooms"), semseg=pixels(255), depth=pixels(0), normals=pixels(0))
    ids = export_packaging(source, DATASETS["rooms"], tmp_path, "train", packaging=packaging)
    back = opened("nyud", tmp_path)
    assert back.packaging is packaging
    assert ids == back.ids == ["0001", "0002", "0003", "0004", "0005", "0006"]
    for i in range(6):
        expected, sample = source[i], back[i]
        exact = ("image", "semseg", "depth", "edge") if packaging is nyud.ATRC else ("semseg", "depth", "edge")
        assert same(expected, sample, exact)
        assert np.abs(expected["image"].astype(int) - sample["image"]).max() <= 12  # JPEG
        valid = expected["normals"].any(-1)
        error = np.abs(expected["normals"] - sample["normals"].astype(np.float32))
        if packaging is not nyud.ASTMT:
            assert np.array_equal(sample["normals"].any(-1), valid)
            assert error[valid].max() < (CODE if packaging is nyud.ATRC else 1e-3)
        else:  # JPEG rings at the borders of what is invalid
            assert error[ndimage.binary_erosion(valid, iterations=8)].max() < 0.1


def test_pascal_comes_back(tmp_path: Path) -> None:
    source = Altered(rooms("rooms_pascal"), semseg=pixels(255))
    export_packaging(source, DATASETS["rooms_pascal"], tmp_path, "train")
    back = opened("pascal", tmp_path)
    people = [bool((source[i]["human_parts"] != 255).any()) for i in range(6)]
    assert 0 < sum(people) < 6
    for i in range(6):
        expected, sample = source[i], back[i]
        assert same(expected, sample, ("semseg", "human_parts", "sal"))
        assert np.abs(expected["image"].astype(int) - sample["image"]).max() <= 12  # JPEG
        valid = expected["semseg"] != 255  # void has no trustworthy class
        assert np.array_equal(sample["normals"].any(-1), valid)
        assert np.abs(expected["normals"] - sample["normals"])[valid].max() < CODE
        context = np.where(valid, CONTEXT_OF_ROOMS[np.where(valid, expected["semseg"], 0)], UNKNOWN)
        assert np.array_equal(back.regions(i), context)
        assert np.array_equal(sample["edge"], thin(ndimage.laplace(context.astype(float), mode="mirror") != 0))
        assert np.array_equal(back.labels(i, ["human_parts"])["human_parts"], expected["human_parts"])


def test_the_rooms_classes_have_trustworthy_ones_of_their_own() -> None:
    assert len(CONTEXT_OF_ROOMS) == len(set(CONTEXT_OF_ROOMS)) == len(ROOM_CLASSES)
    assert set(CONTEXT_OF_ROOMS.tolist()) <= set(pascal.TRUSTED)
    assert UNKNOWN not in pascal.TRUSTED


def test_files_are_as_published_loaders_expect_them(tmp_path: Path) -> None:
    """Read as theirs do: structures by position."""
    source = rooms("rooms_pascal")
    export_packaging(source, DATASETS["rooms_pascal"], tmp_path, "val")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*1.*")) == [
        "JPEGImages/0001.jpg", "human_parts/0001.mat", "normals_distill/0001.png", "pascal-context/trainval/0001.mat",
        "sal_distill/0001.png", "semseg/VOC12/0001.png",
    ]  # fmt: skip
    assert loadmat(tmp_path / "pascal-context/trainval/0001.mat")["LabelMap"].dtype == np.uint16
    found = np.zeros(SIZE, int)
    categories = []
    for item in loadmat(tmp_path / "human_parts/0001.mat")["anno"][0][0][1][0]:
        categories.append(item[1][0][0])
        assert item[2].shape == SIZE
        for part in item[3][0] if len(item[3]) else ():
            found[part[1].astype(bool)] = pascal.PART_NUMBERS[str(part[0][0])]
    assert categories == [9, 15]
    assert np.array_equal(found, source[0]["human_parts"])
    assert set(np.unique(np.array(Image.open(tmp_path / "sal_distill/0001.png")))) == {0, 255}
    assert (tmp_path / "ImageSets/Context/val.txt").read_text() == "".join(f"000{i}\n" for i in range(1, 7))


def test_splits_grow_and_share_no_id(tmp_path: Path) -> None:
    first = export_packaging(rooms("rooms", images=2), DATASETS["rooms"], tmp_path, "train")
    val = export_packaging(rooms("rooms", "val", 2), DATASETS["rooms"], tmp_path, "val")
    more = export_packaging(rooms("rooms", images=3), DATASETS["rooms"], tmp_path, "train")
    assert (first, val, more) == (["0001", "0002"], ["0003", "0004"], ["0005", "0006", "0007"])
    train = opened("nyud", tmp_path)
    assert train.ids == first + more
    assert opened("nyud", tmp_path, "val").ids == val
    assert all(np.array_equal(train[i]["image"], rooms("rooms")[j]["image"]) for i, j in enumerate([0, 1, 0, 1, 2]))
    assert not list(tmp_path.rglob("*.part"))


def test_what_a_packaging_cannot_hold_is_refused(tmp_path: Path) -> None:
    row, images = DATASETS["rooms"], rooms("rooms", images=1)
    for changes, message in (
        ({"edge": pixels(255)}, r"^rooms/train/0: its edge holds 255, for which NYUD of ATRC has no code"),
        ({"semseg": pixels(40)}, r"^rooms/train/0: its semseg holds 40, for which NYUD of ATRC has no code"),
    ):
        with pytest.raises(ValueError, match=message):
            export_packaging(Altered(images, **changes), row, tmp_path, "train")
    assert not list(tmp_path.rglob("*.txt"))  # nothing is listed that was not written
    export_packaging(images, row, tmp_path, "train")
    with pytest.raises(ValueError, match=r"^root: .* holds another packaging than NYUD of MTI-Net"):
        export_packaging(images, row, tmp_path, "train", packaging=nyud.MTI)
    people = rooms("rooms_pascal", images=1)
    with pytest.raises(ValueError, match=r"its sal holds 255, for which PASCAL-Context has no code"):
        export_packaging(Altered(people, sal=pixels(255)), DATASETS["rooms_pascal"], tmp_path / "other", "train")
    with pytest.raises(ValueError, match=r"^dataset: pascal has no LabelMap"):
        export_packaging(people, DATASETS["pascal"], tmp_path / "other", "train")
