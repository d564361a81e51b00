"""Samples written as a public packaging, so that other code bases can read them, and ours can be tested on real files.

Labels come back bit for bit where the format allows: classes, depth, saliency and parts always. Normals are kept to 8
bits but in MTI-Net's .npy files; in ASTMT's, and images in all but ATRC's, JPEG loses a little. PASCAL-Context has no
file for edges: they are the contours of its LabelMap, which is made from the classes of the rooms, so that they are
other edges than the source's. Where a class is void, normals are lost there.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdam_ray.data.packaged import nyud, pascal
from kdam_ray.data.packaged.packaging import Packaging, read_ids
from kdam_ray.data.source import Sample, Source, Split
from kdam_ray.files import written_whole
from kdam_ray.tasks import IGNORE, ROOM_CLASSES, VOC_CLASSES, Dataset

JPEG: dict[str, Any] = {"quality": 98, "subsampling": 0}
UNKNOWN = 431  # Context's class without a meaning
# Context's class of the same name or nearest meaning whose normals are kept, in the order of ROOM_CLASSES
CONTEXT_OF_ROOMS = np.array([440, 158, 68, 46, 18, 72, 368, 397, 115, 454, 349, 287, 232, 43, 10, 284, 330], np.uint16)
CONTEXT_OF_LABEL = np.pad(CONTEXT_OF_ROOMS, (0, IGNORE + 1 - len(CONTEXT_OF_ROOMS)), constant_values=UNKNOWN)
PART_OF_NUMBER = {1: "head", 2: "torso", 3: "luarm", 4: "llarm", 5: "luleg", 6: "llleg"}  # one of each part's names


def export_packaging(
    source: Source, dataset: Dataset, root: str | Path, split: Split, *, packaging: Packaging | None = None
) -> list[str]:
    """Writes every sample of a source behind those that the split has already.

    Ids are numbers from the next one that no list under the root uses. The list is written last, and at once.

    Args:
        source: whose samples have the dataset's tasks.
        dataset: its row; with depth it becomes NYUD-v2, with human parts PASCAL-Context.
        root: folder of the packaging; made if missing.
        split: "train" or "val".
        packaging: `nyud.ATRC`, `nyud.MTI`, `nyud.ASTMT` or `pascal.PASCAL`; None: ATRC's, or PASCAL-Context.

    Returns:
        the new ids.

    Raises:
        ValueError: labels that the packaging cannot hold, or a root that holds another packaging; names it.
    """
    root, packaging = Path(root).expanduser(), packaging or _packaging_for(dataset)
    if packaging is pascal.PASCAL and dataset.classes != ROOM_CLASSES:
        raise ValueError(
            f"dataset: {dataset.name} has no LabelMap, "
            "and only for the classes of the rooms is it known how to make one"
        )
    lists = root / packaging.lists
    for folder in (packaging.lists, *(file.folders[0] for file in packaging.files.values())):
        (root / folder).mkdir(parents=True, exist_ok=True)
    listed: Split = "train" if (lists / "train.txt").exists() else "val"
    used = [identity for path in lists.glob("*.txt") for identity in read_ids(path)]
    if used and packaging in nyud.PACKAGINGS and nyud.recognised(root, listed) is not packaging:
        raise ValueError(f"root: {root} holds another packaging than {packaging.name}; give an empty folder")
    start = 1 + max((int(identity) for identity in used if identity.isdecimal()), default=0)
    ids = [f"{number:04d}" for number in range(start, start + len(source))]
    for index, identity in enumerate(ids):
        _write(source[index], packaging, root, identity, source.name(index))
    listing = lists / f"{split}.txt"
    before = read_ids(listing) if listing.exists() else []
    with written_whole(listing) as beside:
        beside.write_text("".join(f"{identity}\n" for identity in (*before, *ids)))
    return ids


def _packaging_for(dataset: Dataset) -> Packaging:
    names = {task.name for task in dataset.tasks}
    for packaging in (nyud.ATRC, pascal.PASCAL):
        if names == packaging.maps.keys() - {"image"}:
            return packaging
    raise ValueError(f"dataset: {dataset.name} has tasks {', '.join(sorted(names))}, which no packaging holds")


def _write(sample: Sample, packaging: Packaging, root: Path, identity: str, name: str) -> None:
    for field in ("edge", "sal", "semseg"):
        _check(sample, field, packaging, name)
    for key, file in packaging.files.items():
        path = root / file.folders[0] / f"{identity}{file.suffix}"
        WRITERS[file.suffix](path, ENCODERS[packaging.name][key](sample))


def _check(sample: Sample, field: str, packaging: Packaging, name: str) -> None:
    """Void is only known to classes, whose numbers must fit."""
    if field not in sample or field not in packaging.maps:
        return
    limit = {"semseg": len(VOC_CLASSES) if packaging is pascal.PASCAL else nyud.CLASSES}.get(field, 2)
    wrong = sample[field][(sample[field] >= limit) & ~((sample[field] == IGNORE) & (field == "semseg"))]
    if wrong.size:
        raise ValueError(f"{name}: its {field} holds {wrong[0]}, for which {packaging.name} has no code")


def _codes(sample: Sample) -> np.ndarray:
    """Normals in 8 bits, (0, 0, 0) where they are invalid."""
    normals = sample["normals"].astype(np.float32)
    return np.where(normals.any(-1, keepdims=True), np.round((normals + 1) * 127.5), 0).astype(np.uint8)


def _stored_labels(sample: Sample) -> np.ndarray:
    return np.where(sample["semseg"] == IGNORE, 0, sample["semseg"] + 1).astype(np.uint8)


def _annotation(sample: Sample) -> dict[str, Any]:
    """PASCAL-Part's structure: all people as one object, and all chairs as one, so that there is one without parts."""
    parts = np.where(sample["human_parts"] == IGNORE, 0, sample["human_parts"])
    named = [(PART_OF_NUMBER[number], (parts == number).astype(np.uint8)) for number in np.unique(parts) if number]
    objects = []
    if (chairs := sample["semseg"] == ROOM_CLASSES.index("chair")).any():
        objects.append(("chair", float(VOC_CLASSES.index("chair")), chairs.astype(np.uint8), np.zeros((0, 0))))
    if named:
        rows = _records(named, ("part_name", "mask"))
        objects.append(("person", float(pascal.PERSON), (parts > 0).astype(np.uint8), rows))
    return {"imname": "", "objects": _records(objects, ("class", "class_ind", "mask", "parts"))}


def _records(rows: Sequence[tuple], names: Sequence[str]) -> np.ndarray:
    """Rows as a structure array [1, len(rows)], which MATLAB calls a struct; [0, 0] where there are none."""
    if not rows:
        return np.zeros((0, 0))
    records = np.empty((1, len(rows)), [(name, object) for name in names])
    for place, row in enumerate(rows):
        records[0, place] = row
    return records


Encoder = Callable[[Sample], Any]
SHARED: dict[str, Encoder] = {
    "image": lambda sample: sample["image"],
    "semseg": _stored_labels,
    "depth": lambda sample: sample["depth"],
    "normals": _codes,
    "edge": lambda sample: sample["edge"] * np.uint8(255),
    "sal": lambda sample: sample["sal"] * np.uint8(255),
    "context": lambda sample: {"LabelMap": CONTEXT_OF_LABEL[sample["semseg"]]},
    "human_parts": lambda sample: {"anno": _annotation(sample)},
}
# packaging -> file of an image -> its content from a sample
ENCODERS: dict[str, dict[str, Encoder]] = {
    nyud.ATRC.name: SHARED,
    nyud.MTI.name: SHARED | {
        "normals": lambda sample: sample["normals"].astype(np.float32),
        "edge": lambda sample: sample["edge"].astype(np.float32),
    },
    nyud.ASTMT.name: SHARED | {
        "semseg": lambda sample: {"segmentation": _stored_labels(sample)},
        "depth": lambda sample: {"depth": sample["depth"]},
    },
    pascal.PASCAL.name: SHARED | {"semseg": lambda sample: sample["semseg"]},
}  # fmt: skip


def _write_mat(path: Path, content: dict[str, Any]) -> None:
    from scipy.io import savemat

    savemat(path, content, do_compression=True)


WRITERS: dict[str, Callable[[Path, Any], None]] = {
    ".png": lambda path, content: Image.fromarray(content).save(path),
    ".jpg": lambda path, content: Image.fromarray(content).save(path, **JPEG),
    ".npy": lambda path, content: np.save(path, content),
    ".mat": _write_mat,
}
