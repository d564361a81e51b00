"""The reader of the NYUD packaging, on files written here: python -m pytest tests/data/packaged/test_nyud.py"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdam_ray import files
from kdam_ray.data.loader import Batching, train_batches, val_batches
from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.packaged.nyud import open_nyud
from kdam_ray.data.packaged.packaging import bytes_of
from kdam_ray.data.source import Split
from kdam_ray.tasks import DATASETS

SIZES = {"0001": (24, 32), "0002": (24, 32), "0007": (30, 40), "0009": (24, 32)}
LISTS = {"train": ["0001", "0007", "0002"], "val": ["0009"]}


def make_maps(identity: str) -> Any:
    """The maps as they should come back."""
    size, rng = SIZES[identity], np.random.default_rng(int(identity))
    normals = rng.normal(size=(*size, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals[0, :5] = 0
    semseg = rng.integers(0, 40, size).astype(np.uint8)
    semseg[3:5] = 255
    depth = rng.uniform(0.5, 9.0, size).astype(np.float32)
    depth[:, -1] = 0
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return {
        "image": image,
        "semseg": semseg,
        "depth": depth,
        "normals": normals,
        "edge": (rng.random(size) < 0.2).astype(np.uint8),
    }


def write(root: Path, identity: str, maps: Any) -> None:
    for folder in ("images", "segmentation", "depth", "normals", "edge", "gt_sets"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    coded = np.where(maps["normals"].any(-1, keepdims=True), np.round((maps["normals"] + 1) * 127.5), 0).astype(
        np.uint8
    )
    stored = np.where(maps["semseg"] == 255, 0, maps["semseg"] + 1).astype(np.uint8)
    for folder, array in {
        "images": maps["image"],
        "segmentation": stored,
        "normals": coded,
        "edge": maps["edge"] * 255,
    }.items():
        Image.fromarray(array).save(root / folder / f"{identity}.png")
    np.save(root / "depth" / f"{identity}.npy", maps["depth"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "NYUDv2"
    for identity in SIZES:
        write(root, identity, make_maps(identity))
    for split, ids in LISTS.items():
        (root / "gt_sets" / f"{split}.txt").write_text("\n".join(ids) + "\n\n")
    return root


def opened(root: Path | str | None, split: Split = "train", *, cache: Path | None = None, **changes: Any) -> Any:
    wanted = Wanted(DATASETS["nyud"], split, **({"images": None, "image_size": (24, 32)} | changes))
    return open_source(wanted, root=str(root) if root else None, cache=cache)


def test_maps_come_back_as_they_were(root: Path) -> None:
    source = opened(root)
    assert [source.name(i) for i in range(len(source))] == LISTS["train"]
    for i, identity in enumerate(LISTS["train"]):
        expected, sample = make_maps(identity), source[i]
        for name in ("image", "semseg", "depth", "edge"):
            assert sample[name].dtype == expected[name].dtype
            assert np.array_equal(sample[name], expected[name]), name
        valid = expected["normals"].any(-1)
        assert np.array_equal(sample["normals"].any(-1), valid)
        assert sample["normals"].dtype == np.float16
        length = np.linalg.norm(sample["normals"].astype(np.float64), axis=-1)[valid]
        assert np.abs(length - 1).max() < 1e-3  # float16
        # 8 bits: half a code, 1/255, in each component, then a new length
        assert np.abs(sample["normals"] - expected["normals"])[valid].max() < 1.5 / 127.5


def test_palette_labels_are_read_by_index(root: Path) -> None:
    path = root / "segmentation" / "0001.png"
    paletted = Image.fromarray(np.asarray(Image.open(path)))
    paletted.putpalette([channel for i in range(256) for channel in (255 - i, i // 2, 7)])
    paletted.save(path)
    assert Image.open(path).mode == "P"
    assert np.array_equal(opened(root)[0]["semseg"], make_maps("0001")["semseg"])


def test_images_takes_the_first_of_the_list(root: Path) -> None:
    assert [opened(root, images=2).name(i) for i in range(2)] == ["0001", "0007"]
    (root / "depth" / "0002.npy").unlink()  # not among those used
    assert len(opened(root, images=2)) == 2


def test_resizing_keeps_values_and_contours(root: Path) -> None:
    maps = make_maps("0007")
    maps["edge"] = np.zeros((30, 40), np.uint8)
    maps["edge"][:, 13] = 1  # one pixel wide; nearest pixels of a 10 x 10 grid are 0, 4, 8, 12, 16: they miss it
    write(root, "0007", maps)
    sample = opened(root, resize=True, image_size=(10, 10))[1]
    assert sample["image"].shape == (10, 10, 3)
    assert np.array_equal(sample["depth"], maps["depth"][::3, ::4])
    assert np.array_equal(sample["semseg"], maps["semseg"][::3, ::4])
    assert np.array_equal(sample["edge"], np.eye(10, dtype=np.uint8)[3][None].repeat(10, 0))
    means = maps["image"].reshape(10, 3, 10, 4, 3).mean((1, 3))
    assert (
        np.abs(sample["image"][2:-2, 2:-2] - means[2:-2, 2:-2]).mean() < 25
    )  # filtered; a single noise pixel is 64 off


def test_training_and_evaluation_read_it(root: Path) -> None:
    tasks = ("semseg", "depth", "normals", "edge")
    how = Batching(tasks, (24, 32), 3)
    batches = list(train_batches(opened(root), how, augment="paper", data_seed=0, epoch=1))
    assert [tuple(batch["image"].shape) for batch in batches] == [(3, 3, 24, 32)]
    shapes = [tuple(batch["image"].shape) for batch in val_batches(opened(root), Batching(tasks, (24, 32), 8))]
    assert shapes == [(1, 3, 24, 32), (1, 3, 30, 40), (1, 3, 24, 32)]  # sizes differ: no batch mixes them


def test_memory_is_bounded_and_changes_nothing(root: Path) -> None:
    one = bytes_of(open_nyud(root, "train")[0])
    source = open_nyud(root, "train")
    source.kept_bytes = 2 * one
    for index in (0, 2, 1, 0, 0, 2):
        assert np.array_equal(source[index]["image"], make_maps(LISTS["train"][index])["image"])
        assert sum(bytes_of(sample) for sample in source._kept.values()) == source._bytes <= 2 * one
    assert source[2] is source[2]


# ---- fingerprints


def test_the_fingerprint_is_of_contents(root: Path, tmp_path: Path) -> None:
    first = opened(root).fingerprint
    assert first == opened(shutil.copytree(root, tmp_path / "elsewhere")).fingerprint
    assert first != opened(root, images=2).fingerprint
    assert first != opened(root, "val").fingerprint
    depth = np.load(root / "depth" / "0002.npy")
    depth[0, 0] += 1
    np.save(root / "depth" / "0002.npy", depth)
    assert first != opened(root).fingerprint


def test_hashes_are_remembered_until_a_file_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = files.file_digest

    def noted(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(files, "file_digest", noted)
    cache = tmp_path / "cache"
    first = opened(root, cache=cache).fingerprint
    assert len(hashed) == 15
    assert opened(root, cache=cache).fingerprint == first
    assert len(hashed) == 15
    maps = make_maps("0007")
    write(root, "0007", maps | {"image": 255 - maps["image"]})
    assert opened(root, cache=cache).fingerprint == opened(root).fingerprint != first
    for memo in cache.rglob("*.json"):
        memo.write_text('{"images/0001.png": [1')
    assert opened(root, cache=cache).fingerprint == opened(root).fingerprint


# ---- what can be wrong with a packaging


def png(array: np.ndarray, mode: Any = None) -> Any:
    return lambda path: (
        Image.fromarray(array, mode).save(path) if mode is None else Image.fromarray(array).convert(mode).save(path)
    )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BLACK = np.zeros((24, 32), np.uint8)
AT_OPENING = {
    "missing label": ("normals/0002.png", lambda path: path.unlink(), r"normals/0002\.png: no such file"),
    "missing folder": ("edge", shutil.rmtree, r"root: .* has no folder edge/"),
    "missing list": ("gt_sets/train.txt", lambda path: path.unlink(), r"train\.txt: no such list"),
    "empty list": ("gt_sets/train.txt", lambda path: path.write_text("\n \n"), r"train\.txt: holds no ids"),
    "traversal": (
        "gt_sets/train.txt", lambda path: path.write_text("0001\n../../etc/passwd\n"),
        r"line 2: '[./]+/etc/passwd' is not an",
    ),
    "absolute": (
        "gt_sets/train.txt", lambda path: path.write_text("/etc/passwd\n"), r"line 1: '/etc/passwd' is not an",
    ),
    "twice": (
        "gt_sets/train.txt", lambda path: path.write_text("0001\n0002\n0001\n"),
        r"line 3: '0001' stands in line 1 already",
    ),
    "binary list": ("gt_sets/train.txt", lambda path: path.write_bytes(b"\xff\xfe\x00"), r"train\.txt: cannot be read"),
    "other size": (
        "segmentation/0002.png", png(BLACK[:20]), r"segmentation/0002\.png: is 20 x 32 .*images/0002\.png is 24 x 32",
    ),
    "other depth size": (
        "depth/0002.npy", lambda path: np.save(path, np.ones((24, 30))), r"depth/0002\.npy: is 24 x 30",
    ),
    "integer depth": (
        "depth/0002.npy", lambda path: np.save(path, np.ones((24, 32), int)), r"depth/0002\.npy: is int64",
    ),
    "flat depth": ("depth/0002.npy", lambda path: np.save(path, np.ones(5)), r"depth/0002\.npy: is float64 \(5,\)"),
    "pickled depth": (
        "depth/0002.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True),
        r"depth/0002\.npy: cannot be read",
    ),
    "cut depth": ("depth/0002.npy", cut, r"depth/0002\.npy: cannot be read"),
    "empty depth": ("depth/0002.npy", lambda path: path.write_bytes(b""), r"depth/0002\.npy: cannot be read"),
    "16 bit labels": (
        "segmentation/0002.png", png(BLACK.astype(np.uint16)), r"segmentation/0002\.png: is a PNG of mode I;16",
    ),
    "colour labels": ("segmentation/0002.png", png(BLACK, "RGB"), r"segmentation/0002\.png: is a PNG of mode RGB"),
    "grey image": ("images/0002.png", png(BLACK), r"images/0002\.png: is a PNG of mode L; images should be 8 bit RGB"),
    "empty image": ("images/0002.png", lambda path: path.write_bytes(b""), r"images/0002\.png: cannot be read"),
    "not a png": (
        "images/0002.png", lambda path: Image.fromarray(BLACK).save(path, "JPEG"), r"images/0002\.png: cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", AT_OPENING)
def test_found_when_opening(root: Path, case: str) -> None:
    file, damage, message = AT_OPENING[case]
    damage(root / file)
    with pytest.raises(ValueError, match=message) as error:
        opened(root)
    assert "\n" not in str(error.value)


def change_depth(value: Any) -> Any:
    def change(path: Path) -> None:
        depth = np.load(path)
        depth[3, 3] = value
        np.save(path, depth)

    return change


AT_READING = {
    "cut image": ("images/0002.png", cut, r"images/0002\.png: cannot be decoded"),
    "cut normals": ("normals/0002.png", cut, r"normals/0002\.png: cannot be decoded"),
    "label 41": ("segmentation/0002.png", png(BLACK + np.uint8(41)), r"segmentation/0002\.png: holds label 41"),
    "NaN depth": (
        "depth/0002.npy", change_depth(np.nan), r"depth/0002\.npy: holds values that are negative or not finite",
    ),
    "negative depth": ("depth/0002.npy", change_depth(-1), r"depth/0002\.npy: holds values that are negative"),
}  # fmt: skip


@pytest.mark.parametrize("case", AT_READING)
def test_found_when_reading(root: Path, case: str) -> None:
    file, damage, message = AT_READING[case]
    damage(root / file)
    source = opened(root)
    with pytest.raises(ValueError, match=message):
        source[2]
    batches = train_batches(source, Batching(("depth",), (24, 32), 3), augment="paper", data_seed=0, epoch=1)
    with pytest.raises(ValueError, match=message):  # through the thread that reads ahead, too
        list(batches)


def test_changed_after_opening(root: Path) -> None:
    source = opened(root)
    np.save(root / "depth" / "0001.npy", np.ones((20, 20), np.float32))
    with pytest.raises(ValueError, match=r"depth/0001\.npy: is \(20, 20\)"):
        source[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": None}, r"^root: nyud is read from files"),
        ({"root": "/nowhere/at/all"}, r"^root: /nowhere/at/all is no folder"),
        (
            {"images": 4},
            r"^train_images: 4 are asked for, but gt_sets/train.txt lists 3; "
            r"all there are: --train-images 3 --val-images \d+$",
        ),
        ({"images": 0}, r"^train_images: 0 are asked for"),
        ({"split": "test"}, r"^split: 'test' is not one of: train, val"),
    ],
)
def test_wrong_arguments_are_named(root: Path, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(**({"root": root, "split": "train"} | changes))
