"""PASCAL-Context, read from files written here as the real ones are.

python -m pytest tests/data/packaged/test_pascal.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.io import savemat
from skimage.morphology import thin

from kdam_ray.data.loader import Batching, train_batches, val_batches
from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.packaged.pascal import PASCAL, TRUSTED, edges_of
from kdam_ray.data.source import Split
from kdam_ray.tasks import DATASETS

SIZE = (24, 32)
IDS = ["2008_000002", "2008_000003", "2008_000007"]
WALL, SKY, MONITOR, UNKNOWN = 440, 360, 427, 431  # Context's numbers; normals are kept on the first and third


def structure(names: Any, rows: Any) -> Any:
    """A MATLAB struct array [1, n] as PASCAL-Part has them; [0, 0] without rows."""
    array = np.empty((1, len(rows)), [(name, object) for name in names.split()])
    for place, row in enumerate(rows):
        array[0, place] = row
    return array if rows else np.zeros((0, 0))


def annotation(*objects: Any) -> Any:
    """(name, number, mask, {part: mask}) of each object -> `anno`."""
    rows = [
        (
            name,
            float(number),
            mask.astype(np.uint8),
            structure("part_name mask", [(key, part.astype(np.uint8)) for key, part in parts]),
        )
        for name, number, mask, parts in objects
    ]
    return {"anno": {"imname": "2008_000002", "objects": structure("class class_ind mask parts", rows)}}


def box(top: Any, bottom: Any, left: Any, right: Any) -> Any:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


NOBODY = annotation(("dog", 12, box(2, 9, 2, 9), [("head", box(2, 4, 2, 4))]), ("person", 15, box(0, 3, 0, 3), []))


def make(identity: str) -> Any:
    rng = np.random.default_rng(int(identity[-3:]))
    labels = rng.choice([WALL, SKY, MONITOR, UNKNOWN, 1, 459], (6, 8)).repeat(4, 0).repeat(4, 1).astype(np.uint16)
    normals = rng.normal(size=(*SIZE, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    semseg = rng.integers(0, 21, SIZE).astype(np.uint8)
    semseg[:2] = 255
    image = ndimage.zoom(rng.integers(60, 200, (4, 4, 3)), (6, 8, 1), order=1).astype(np.uint8)
    return {
        "image": image,
        "labels": labels,
        "normals": normals,
        "semseg": semseg,
        "sal": rng.integers(0, 256, SIZE).astype(np.uint8),
    }


def write(root: Path, identity: str, maps: Any, anno: Any = NOBODY) -> None:
    for folder in (
        "JPEGImages",
        "pascal-context/trainval",
        "semseg/VOC12",
        "human_parts",
        "sal_distill",
        "normals_distill",
        "ImageSets/Context",
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(maps["image"]).save(root / "JPEGImages" / f"{identity}.jpg", quality=98, subsampling=0)
    savemat(
        root / "pascal-context/trainval" / f"{identity}.mat",
        {"LabelMap": maps["labels"], "other": 1},
        do_compression=True,
    )
    savemat(root / "human_parts" / f"{identity}.mat", anno, do_compression=True)
    semseg = Image.fromarray(maps["semseg"])
    semseg.putpalette([channel for i in range(256) for channel in (255 - i, i // 2, 7)])
    semseg.save(root / "semseg/VOC12" / f"{identity}.png")
    Image.fromarray(maps["sal"]).save(root / "sal_distill" / f"{identity}.png")
    Image.fromarray(np.round((maps["normals"] + 1) * 127.5).astype(np.uint8)).save(
        root / "normals_distill" / f"{identity}.png"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "PASCAL_MT"
    for identity in IDS:
        write(root, identity, make(identity))
    for split, ids in {"train": IDS, "val": IDS[:1]}.items():
        (root / "ImageSets/Context" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def opened(root: Path | None, split: Split = "train", **changes: Any) -> Any:
    wanted = Wanted(DATASETS["pascal"], split, **({"images": None, "image_size": SIZE} | changes))
    return open_source(wanted, root=str(root) if root else None)


def test_maps_come_back_as_they_were(root: Path) -> None:
    source = opened(root)
    assert [source.name(i) for i in range(3)] == IDS
    for i, identity in enumerate(IDS):
        expected, sample = make(identity), source[i]
        assert list(sample) == ["image", *(task.name for task in DATASETS["pascal"].tasks)]
        assert {sample[name].dtype for name in sample if name != "normals"} == {np.dtype(np.uint8)}
        assert np.array_equal(sample["semseg"], expected["semseg"])
        assert np.array_equal(sample["sal"], expected["sal"] / 255 > 0.5)
        assert np.abs(sample["image"].astype(int) - expected["image"]).mean() < 3  # JPEG


def test_normals_are_kept_where_the_network_that_predicted_them_knew_the_class(root: Path) -> None:
    assert len(set(TRUSTED)) == 169 + 1
    assert list(TRUSTED) == sorted(TRUSTED)
    for i, identity in enumerate(IDS):
        expected, sample = make(identity), opened(root)[i]
        kept = np.isin(expected["labels"], [WALL, MONITOR])
        assert 0 < kept.mean() < 1
        assert np.array_equal(sample["normals"].any(-1), kept)
        assert sample["normals"].dtype == np.float16
        assert np.abs(sample["normals"] - expected["normals"])[kept].max() < 1.5 / 127.5  # 8 bits, then a new length


def test_edges_are_the_thinned_laplacian(root: Path) -> None:
    for i, identity in enumerate(IDS):
        laplacian = ndimage.laplace(make(identity)["labels"].astype(float), mode="mirror")  # OpenCV's default border
        assert np.array_equal(opened(root)[i]["edge"], thin(laplacian != 0))


@pytest.mark.parametrize("seed", range(5))
def test_edges_where_differences_cancel(seed: int) -> None:
    """Numbers in arithmetic progression: the Laplacian vanishes on some contours and on straight image borders."""
    labels = np.random.default_rng(seed).integers(0, 4, (15, 11))
    laplacian = ndimage.laplace(labels.astype(float), mode="mirror")
    contour = (labels != np.roll(labels, 1, 0)) | (labels != np.roll(labels, 1, 1))
    assert (contour & (laplacian == 0)).any()
    assert np.array_equal(edges_of(labels), thin(laplacian != 0))


def test_six_parts_of_all_people(root: Path) -> None:
    """Every name of PASCAL-Part on a pixel of its own; two people, of whom the later lies in front; a dog has a head
    too.
    """
    names = (
        "hair head lear rear lebrow rebrow leye reye nose mouth | neck torso | luarm ruarm | llarm rlarm lhand rhand"
    )
    names += " | luleg ruleg | llleg rlleg lfoot rfoot"
    numbered = [(name, number) for number, group in enumerate(names.split("|"), 1) for name in group.split()]
    first = [(name, box(5, 6, column, column + 1)) for column, (name, _) in enumerate(numbered)]
    objects = [
        ("person", 15, box(5, 6, 0, 24), first),
        ("dog", 12, box(0, 5, 0, 5), [("head", box(0, 5, 0, 5))]),
        ("person", 15, box(0, 24, 30, 32), []),
        ("person", 15, box(4, 9, 0, 4), [("torso", box(4, 9, 0, 3)), ("head", box(4, 5, 0, 1))]),
    ]
    write(root, IDS[0], make(IDS[0]), annotation(*objects))
    expected = np.zeros(SIZE, np.uint8)
    expected[5, : len(numbered)] = [number for _, number in numbered]
    expected[4:9, 0:3] = 2
    expected[4, 0] = 1
    assert len(numbered) == 24
    assert np.array_equal(opened(root)[0]["human_parts"], expected)


@pytest.mark.parametrize(
    "anno",
    [
        NOBODY,
        annotation(),
        annotation(
            ("person", 15, box(0, 0, 0, 0), [("head", box(1, 3, 1, 3))])
        ),  # covers nothing: the published list leaves it out
        annotation(("person", 15, box(1, 3, 1, 3), [("head", box(0, 0, 0, 0))])),
    ],
    ids=["no parts", "no objects", "empty person", "empty part"],
)
def test_an_image_without_people_or_parts_is_ignored(root: Path, anno: Any) -> None:
    write(root, IDS[1], make(IDS[1]), anno)
    assert np.array_equal(opened(root)[1]["human_parts"], np.full(SIZE, 255))


def test_voc_labels_come_before_those_of_context(root: Path) -> None:
    folder = root / "semseg/pascal-context"
    folder.mkdir()
    black = np.zeros(SIZE, np.uint8)
    for identity in IDS[:2]:
        Image.fromarray(black).save(folder / f"{identity}.png")
    (root / "semseg/VOC12" / f"{IDS[1]}.png").unlink()
    source = opened(root, images=2)
    assert np.array_equal(source[0]["semseg"], make(IDS[0])["semseg"])
    assert np.array_equal(source[1]["semseg"], black)
    (root / "semseg/VOC12" / f"{IDS[2]}.png").unlink()
    with pytest.raises(ValueError, match=rf"VOC12/{IDS[2]}\.png: no such file, nor .*pascal-context/{IDS[2]}\.png"):
        opened(root)


def test_labels_and_regions_are_as_stored(root: Path) -> None:
    expected, source = make(IDS[1]), opened(root, resize=True, image_size=(12, 16))
    assert source[1]["semseg"].shape == (12, 16)
    assert source.size(1) == SIZE
    regions = source.regions(1)
    assert regions.dtype == np.int32
    assert np.array_equal(regions, expected["labels"])
    labels = source.labels(1, ["normals", "semseg"])
    assert list(labels) == ["normals", "semseg"]
    kept = labels["normals"].any(-1)
    assert labels["normals"].dtype == np.float32
    assert np.abs(np.linalg.norm(labels["normals"], axis=-1)[kept] - 1).max() < 1e-6
    assert np.array_equal(labels["normals"].astype(np.float16), opened(root)[1]["normals"])


def test_training_and_evaluation_read_it_and_nothing_is_written(root: Path) -> None:
    before = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
    tasks = tuple(task.name for task in DATASETS["pascal"].tasks)
    how = Batching(tasks, SIZE, 3)
    batches = list(train_batches(opened(root), how, augment="paper", data_seed=0, epoch=1))
    assert [tuple(batch["image"].shape) for batch in batches] == [(3, 3, *SIZE)]
    assert sum(len(batch["image"]) for batch in val_batches(opened(root), Batching(tasks, SIZE, 2))) == 3
    assert opened(root).fingerprint != opened(root, "val").fingerprint
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) == before


# ---- what can be wrong with a packaging

ONE = IDS[1]
CONTEXT, PARTS = f"pascal-context/trainval/{ONE}.mat", f"human_parts/{ONE}.mat"


def png(array: np.ndarray) -> Any:
    return lambda path: Image.fromarray(array).save(path)


def mat(**content: Any) -> Any:
    return lambda path: savemat(path, content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def number(value: Any) -> Any:
    labels = np.full(SIZE, 440.0)
    labels[3, 3] = value
    return mat(LabelMap=labels)


BLACK = np.zeros(SIZE, np.uint8)
SMALL = np.ones((5, 5), np.uint8)
HDF5 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512)
WRONG = {
    "missing parts": (PARTS, lambda path: path.unlink(), r": no such file, but its id is in the list"),
    "zero bytes": (CONTEXT, lambda path: path.write_bytes(b""), r": cannot be read as a MATLAB file"),
    "cut context": (CONTEXT, cut, r": cannot be read as a MATLAB file, it may be cut off"),
    "cut parts": (PARTS, cut, r": cannot be read as a MATLAB file, it may be cut off"),
    "noise": (CONTEXT, lambda path: path.write_bytes(bytes(range(256)) * 8), r": cannot be read as a MATLAB file"),
    "hdf5": (CONTEXT, lambda path: path.write_bytes(HDF5), r": is a MATLAB 7\.3 file"),
    "other key": (CONTEXT, mat(labels=BLACK), r": has no variable LabelMap; it has labels"),
    "other anno": (PARTS, mat(objects=1), r": has no variable anno; it has objects"),
    "context of other size": (
        CONTEXT, mat(LabelMap=BLACK[:20]), r": is 20 x 32 \(height x width\), but .*\.jpg is 24 x 32",
    ),
    "flat context": (CONTEXT, mat(LabelMap=np.zeros((3, 4, 5))), r": its LabelMap is \(3, 4, 5\)"),
    "text context": (CONTEXT, mat(LabelMap=["a" * 32] * 24), r": (is|its LabelMap)"),
    "label 460": (CONTEXT, number(460), r": its LabelMap holds label 460"),
    "label -1": (CONTEXT, number(-1), r": its LabelMap holds label -1"),
    "label NaN": (CONTEXT, number(np.nan), r": its LabelMap holds labels that are no whole numbers"),
    "parts no struct": (PARTS, mat(anno=np.eye(3)), r": its anno has not the structure of a parts annotation"),
    "parts empty": (PARTS, mat(anno=np.zeros((0, 0))), r": its anno has not the structure of a parts annotation"),
    "objects no struct": (PARTS, mat(anno={"imname": "x", "objects": np.eye(3)}), r": its anno has not the structure"),
    "part unknown": (
        PARTS, mat(**annotation(("person", 15, BLACK + 1, [("wing", BLACK)]))), r": names the part 'wing' of a person",
    ),
    "parts of two sizes": (
        PARTS, mat(**annotation(("person", 15, SMALL, [("head", SMALL), ("nose", BLACK)]))), r": its anno has not",
    ),
    "parts of other size": (
        PARTS, mat(**annotation(("person", 15, SMALL, [("head", SMALL)]))), r": is \(5, 5\), its image \(24, 32\)",
    ),
    "class 200": (
        f"semseg/VOC12/{ONE}.png", png(BLACK + np.uint8(200)), r": holds label 200; labels should be 0 to 20, or 255",
    ),
    "colour saliency": (
        f"sal_distill/{ONE}.png", png(np.zeros((*SIZE, 3), np.uint8)), r": is a PNG of mode RGB; sal_distill should be",
    ),
    "grey normals": (
        f"normals_distill/{ONE}.png", png(BLACK), r": is a PNG of mode L; normals_distill should be 8 bit RGB",
    ),
    "cut normals": (f"normals_distill/{ONE}.png", cut, r": cannot be decoded"),
    "png image": (
        f"JPEGImages/{ONE}.jpg", lambda path: Image.fromarray(BLACK).save(path, "PNG"),
        r": cannot be read as a JPEG image",
    ),
    "cut image": (
        f"JPEGImages/{ONE}.jpg", lambda path: path.write_bytes(path.read_bytes()[:-40]), r": cannot be decoded",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_file_is_named_in_one_line(root: Path, case: str) -> None:
    file, damage, message = WRONG[case]
    damage(root / file)
    with pytest.raises(ValueError, match=rf"^{root}/{file}{message}") as error:
        opened(root)[1]
    assert "\n" not in str(error.value)


def test_missing_folders_and_roots_are_named(root: Path) -> None:
    with pytest.raises(ValueError, match=r"^root: pascal is read from files; give the folder that holds JPEGImages/"):
        opened(None)
    with pytest.raises(ValueError, match=r"^train_images: 4 are asked for, but ImageSets/Context/train.txt lists 3"):
        opened(root, images=4)
    (root / "semseg/VOC12").rename(root / "semseg/elsewhere")
    with pytest.raises(
        ValueError, match=rf"^root: .* has no folder semseg/VOC12/ or semseg/pascal-context/, which the {PASCAL.name}"
    ):
        opened(root)
