"""What all packagings share, on the three of NYUD-v2: links, recognition, labels as stored; and their hostile files.

python -m pytest tests/data/packaged/test_packaging.py
"""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.packaged import nyud
from kdam_ray.data.packaged.export import export_packaging
from kdam_ray.data.packaged.file_kinds import ArrayFile, ImageFile, MatlabFile
from kdam_ray.data.packaged.nyud import open_nyud
from kdam_ray.data.packaged.packaging import Packaging
from kdam_ray.data.rooms.split import Rooms
from kdam_ray.tasks import DATASETS

SIZE = (24, 32)
ROOMS = Rooms("train", images=3, image_size=SIZE, tasks=("semseg", "depth", "normals", "edge"))
NAMES = {packaging.name.rpartition(" ")[2]: packaging for packaging in nyud.PACKAGINGS}


def written(root: Path, packaging: Packaging) -> Path:
    export_packaging(ROOMS, DATASETS["rooms"], root, "train", packaging=packaging)
    return root


@pytest.fixture(params=nyud.PACKAGINGS, ids=list(NAMES))
def packaging(request: pytest.FixtureRequest) -> Packaging:
    return request.param


@pytest.fixture
def root(tmp_path: Path, packaging: Packaging) -> Path:
    return written(tmp_path / "NYUD", packaging)


def opened(root: Path, **changes: Any) -> Any:
    return open_source(
        Wanted(DATASETS["nyud"], "train", **({"images": None, "image_size": SIZE} | changes)), root=str(root)
    )


# ---- what a source gives beside samples


def test_labels_are_what_samples_hold_at_full_precision(root: Path, packaging: Packaging) -> None:
    source = opened(root)
    names = ("normals", "semseg", "edge", "depth")
    for index in range(3):
        labels = source.labels(index, names)
        assert tuple(labels) == names
        assert {name: array.dtype.name for name, array in labels.items()} == {
            "normals": "float32", "semseg": "uint8", "edge": "uint8", "depth": "float32",
        }  # fmt: skip
        length = np.linalg.norm(labels["normals"].astype(np.float64), axis=-1)
        assert np.abs(length[labels["normals"].any(-1)] - 1).max() < 1e-6
        for name, array in labels.items():
            assert np.array_equal(array.astype(source[index][name].dtype), source[index][name])


def test_regions_are_the_edge_mask_which_the_published_evaluator_takes(root: Path) -> None:
    source = opened(root)
    assert source.regions(1).dtype == np.bool_
    assert np.array_equal(source.regions(1), ROOMS[1]["edge"] == 1)


def test_sizes_and_labels_are_those_of_the_files_whatever_samples_are_resized_to(root: Path) -> None:
    source = opened(root, resize=True, image_size=(12, 16))
    assert source[0]["semseg"].shape == (12, 16)
    assert source.size(0) == SIZE
    assert source.labels(0, ["semseg"])["semseg"].shape == source.regions(0).shape == SIZE


def test_only_the_files_that_labels_need_are_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, read = opened(root), []

    def noted(real: Callable) -> Callable:
        def reading(self: Any, path: Path) -> Any:
            read.append(path.parent.name)
            return real(self, path)

        return reading

    for kind in (ImageFile, ArrayFile, MatlabFile):
        monkeypatch.setattr(kind, "read", noted(kind.read))
    source.labels(0, ["depth", "edge"])
    source.regions(0)
    assert read == ["depth", "edge", "edge"]


def test_a_map_that_there_is_not_is_named(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^names: 'sal' is not one of NYUD of \w.*: image, semseg, depth, normals, edge"
    ):
        opened(root).labels(0, ["semseg", "sal"])


def test_sources_travel_to_other_processes(root: Path) -> None:
    source = opened(root)
    other = pickle.loads(pickle.dumps(source))
    assert all(np.array_equal(other[1][name], source[1][name]) for name in source[1])
    assert np.array_equal(other.regions(2), source.regions(2))


# ---- links


def test_links_inside_the_root_are_followed(root: Path, packaging: Packaging) -> None:
    images = root / "images"
    images.rename(root / "pictures")
    images.symlink_to("pictures")
    depth = root / "depth" / f"0001{packaging.files['depth'].suffix}"
    depth.rename(depth.with_name("first"))
    depth.symlink_to("first")
    assert np.array_equal(opened(root)[0]["depth"], ROOMS[0]["depth"])
    assert len(opened(root)) == 3


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert opened(tmp_path / "link").fingerprint == opened(root).fingerprint


@pytest.mark.parametrize("place", ["file", "later file", "folder", "list"])
def test_links_out_of_the_root_are_refused(root: Path, packaging: Packaging, tmp_path: Path, place: str) -> None:
    number = "0003" if place == "later file" else "0001"
    name = {"folder": "depth", "list": "gt_sets/train.txt"}.get(
        place, f"depth/{number}{packaging.files['depth'].suffix}"
    )
    shutil.move(root / name, tmp_path / "outside")
    (root / name).symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match=rf"^{root}/{name}: is a link that leads out of {root}"):
        opened(root)


def test_a_file_that_becomes_a_link_later_is_refused(root: Path, packaging: Packaging, tmp_path: Path) -> None:
    source = opened(root)
    path = root / "depth" / f"0002{packaging.files['depth'].suffix}"
    shutil.move(path, tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="leads out of"):
        source[1]


# ---- recognition


def test_each_packaging_is_recognised(root: Path, packaging: Packaging) -> None:
    assert opened(root).packaging is packaging


@pytest.mark.parametrize("key", ["image", "semseg", "depth", "normals", "edge"])
def test_the_first_image_may_lack_any_one_file(root: Path, packaging: Packaging, key: str) -> None:
    """The other files are of one packaging only, so the one that is missing is named."""
    file = packaging.files[key]
    (root / file.folders[0] / f"0001{file.suffix}").unlink()
    with pytest.raises(ValueError, match=rf"{file.folders[0]}/0001\{file.suffix}: no such file"):
        opened(root)


def test_mixtures_are_refused(tmp_path: Path) -> None:
    root = written(tmp_path / "NYUD", nyud.ATRC)
    depth = root / "depth" / "0001.npy"
    savemat(depth.with_suffix(".mat"), {"depth": np.load(depth)})
    depth.unlink()
    with pytest.raises(
        ValueError, match=r"holds depth/\*\.mat, .*images/\*\.png.* for 0001, which is none of the three"
    ) as error:
        opened(root)
    assert all(name in str(error.value) for name in ("ATRC", "MTI-Net", "ASTMT"))
    assert "\n" not in str(error.value)


def test_two_packagings_in_one_root_are_refused(tmp_path: Path) -> None:
    root = written(tmp_path / "NYUD", nyud.ATRC)
    shutil.copytree(written(tmp_path / "other", nyud.MTI), root, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="none of the three packagings, or several"):
        opened(root)


def test_stray_files_do_not_matter_where_one_packaging_is_whole(tmp_path: Path) -> None:
    root = written(tmp_path / "NYUD", nyud.MTI)
    Image.fromarray(ROOMS[0]["image"]).save(root / "images" / "0001.png")
    assert opened(root).packaging is nyud.MTI


# ---- hostile files that only MTI-Net's and ASTMT's packagings have; ATRC's are in test_nyud.py


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def npy(value: Any) -> Any:
    def change(path: Path) -> None:
        array = np.load(path)
        array[3, 3] = value
        np.save(path, array)

    return change


def mat(**content: Any) -> Any:
    return lambda path: savemat(path, content)


def label(value: Any) -> Any:
    labels = np.ones(SIZE, np.float64)
    labels[2, 2] = value
    return mat(segmentation=labels)


HOSTILE = {
    "NaN normals": (nyud.MTI, "normals/0002.npy", npy(np.nan), "holds values that are not finite"),
    "flat normals": (
        nyud.MTI, "normals/0002.npy", lambda path: np.save(path, np.ones(SIZE)),
        r"is float64 \(24, 32\); normals should be",
    ),
    "integer normals": (nyud.MTI, "normals/0002.npy", lambda path: np.save(path, np.ones((*SIZE, 3), int)), "is int64"),
    "edge 255": (nyud.MTI, "edge/0002.npy", npy(255), r"holds values outside 0 \.\. 1"),
    "edge -1": (nyud.MTI, "edge/0002.npy", npy(-1), r"holds values outside 0 \.\. 1"),
    "edge NaN": (nyud.MTI, "edge/0002.npy", npy(np.nan), r"holds values outside 0 \.\. 1"),
    "pickled edge": (
        nyud.MTI, "edge/0002.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True),
        "cannot be read as a .npy",
    ),
    "cut edge": (nyud.MTI, "edge/0002.npy", cut, "cannot be read as a .npy"),
    "no image": (nyud.MTI, "images/0002.jpg", lambda path: path.write_bytes(b""), "cannot be read as a JPEG image"),
    "label 200": (
        nyud.MTI, "segmentation/0002.png", lambda path: Image.new("L", SIZE[::-1], 200).save(path), "holds label 200",
    ),
    "cut mat": (nyud.ASTMT, "segmentation/0002.mat", cut, "cannot be read as a MATLAB file"),
    "no mat": (nyud.ASTMT, "depth/0002.mat", lambda path: path.write_bytes(b""), "cannot be read as a MATLAB file"),
    "other key": (nyud.ASTMT, "depth/0002.mat", mat(depths=np.ones(SIZE)), "has no variable depth; it has depths"),
    "other size": (nyud.ASTMT, "depth/0002.mat", mat(depth=np.ones((5, 6))), r"is 5 x 6 \(height x width\)"),
    "complex depth": (nyud.ASTMT, "depth/0002.mat", mat(depth=np.full(SIZE, 1j)), "its depth is no array of numbers"),
    "NaN depth": (
        nyud.ASTMT, "depth/0002.mat", mat(depth=np.full(SIZE, np.nan)), "holds values that are negative or not finite",
    ),
    "struct": (nyud.ASTMT, "depth/0002.mat", mat(depth={"a": 1}), "(is 1 x 1|its depth is no array)"),
    "label 41": (nyud.ASTMT, "segmentation/0002.mat", label(41), "holds label 41; labels should be 0"),
    "label -1": (nyud.ASTMT, "segmentation/0002.mat", label(-1), "holds label -1"),
    "label 1.5": (nyud.ASTMT, "segmentation/0002.mat", label(1.5), "holds labels that are no whole numbers"),
    "cut normals": (
        nyud.ASTMT, "normals/0002.jpg", lambda path: path.write_bytes(path.read_bytes()[:-40]), "cannot be decoded",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, case: str) -> None:
    packaging, file, damage, message = HOSTILE[case]
    root = written(tmp_path / "NYUD", packaging)
    damage(root / file)
    with pytest.raises(ValueError, match=rf"^{root}/{file}: {message}") as error:
        opened(root)[1]
    assert "\n" not in str(error.value)


def test_zero_normals_stay_invalid_and_others_become_unit_vectors(tmp_path: Path) -> None:
    root = written(tmp_path / "NYUD", nyud.MTI)
    stored = np.random.default_rng(0).normal(size=(*SIZE, 3))
    stored[:4] = 0
    np.save(root / "normals" / "0001.npy", stored)
    normals = open_nyud(root, "train").labels(0, ["normals"])["normals"]
    assert not normals[:4].any()
    expected = stored[4:] / np.linalg.norm(stored[4:], axis=-1, keepdims=True)
    np.testing.assert_allclose(normals[4:], expected, atol=1e-6)
