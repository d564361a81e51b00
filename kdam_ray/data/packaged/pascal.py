"""PASCAL-Context with five tasks, as ASTMT packed it and MTI-Net, ATRC, DeMT and InvPT use it.

    JPEGImages/<id>.jpg                    RGB
    pascal-context/trainval/<id>.mat       `LabelMap`, 1 .. 459: all of Context's classes
    semseg/VOC12/<id>.png, else semseg/pascal-context/<id>.png    0 .. 20, 255 = void
    human_parts/<id>.mat                   `anno`, the annotation of PASCAL-Part: objects, their masks and parts
    sal_distill/<id>.png                   uint8, salient above one half
    normals_distill/<id>.png               uint8, n = 2 v / 255 - 1; predicted by a network
    ImageSets/Context/train.txt, val.txt   one id a line

What follows from them: edges are where the Laplacian of the LabelMap is not zero, thinned. Normals count where the
class has a name that NYUD knows too, since the network that predicted them learnt there. Parts are those of all people
together; an image without any is ignored. The published loaders write a list of the latter into the folder; this one
reads what it needs and writes nothing. The boundary evaluator of the published numbers takes the LabelMap.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdam_ray.data.packaged.file_kinds import ImageFile, MatlabFile
from kdam_ray.data.packaged.nyud import directions_of_codes
from kdam_ray.data.packaged.packaging import File, Map, Packaged, Packaging
from kdam_ray.data.source import Split
from kdam_ray.tasks import IGNORE, VOC_CLASSES

CONTEXT_CLASSES = 459
PERSON = 15  # number of the category among VOC's 20
PART_NUMBERS = {
    "hair": 1, "head": 1, "lear": 1, "rear": 1, "lebrow": 1, "rebrow": 1, "leye": 1, "reye": 1, "nose": 1, "mouth": 1,
    "neck": 2, "torso": 2, "luarm": 3, "ruarm": 3, "llarm": 4, "rlarm": 4, "lhand": 4, "rhand": 4,
    "luleg": 5, "ruleg": 5, "llleg": 6, "rlleg": 6, "lfoot": 6, "rfoot": 6,
}  # fmt: skip
# Context's classes whose normals are kept: those named like one of NYUD's 894 classes (169, without "unknown"), and
# tvmonitor (427)
TRUSTED = (
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51, 53, 55, 56,
    59, 61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124,
    135, 141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199, 202, 213,
    215, 216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269,
    272, 273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314, 315, 319, 323,
    329, 330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383, 384, 397, 401, 403,
    405, 407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457,
)  # fmt: skip


def label_map(stored: np.ndarray) -> np.ndarray:
    """LabelMap as int32 [H, W]."""
    if stored.dtype.kind == "f" and not (np.isfinite(stored).all() and (stored == np.floor(stored)).all()):
        raise ValueError("its LabelMap holds labels that are no whole numbers")
    low, high = stored.min(initial=0), stored.max(initial=0)
    if low < 0 or high > CONTEXT_CLASSES:
        wrong = high if high > CONTEXT_CLASSES else low
        raise ValueError(f"its LabelMap holds label {wrong:g}; labels should be 0 to {CONTEXT_CLASSES}")
    return stored.astype(np.int32)


def classes_of(stored: np.ndarray) -> np.ndarray:
    wrong = stored[(stored >= len(VOC_CLASSES)) & (stored != IGNORE)]
    if wrong.size:
        raise ValueError(f"holds label {wrong[0]}; labels should be 0 to {len(VOC_CLASSES) - 1}, or {IGNORE} (void)")
    return stored


def salient(stored: np.ndarray) -> np.ndarray:
    return (stored >= 128).astype(np.uint8)  # v / 255 > 0.5


def parts_of(annotation: np.ndarray) -> np.ndarray:
    """The six parts of all people, uint8 [H, W], 0 elsewhere; empty where nobody's parts are annotated.

    Of people who overlap, later ones lie in front. People who cover nothing are none.

    Args:
        annotation: the variable `anno` as scipy gives it; its fields are taken by position, as their names differ.
    """
    found = np.zeros((0, 0), np.uint8)
    anybody = False
    try:
        for mask, parts in _people(annotation):
            anybody |= bool(mask.any())
            for name, part in parts:
                found = found if found.size else np.zeros(part.shape, np.uint8)
                found[part] = PART_NUMBERS[name]
    except KeyError as error:
        raise ValueError(f"names the part {error} of a person; known are {', '.join(PART_NUMBERS)}") from None
    except (IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"its anno has not the structure of a parts annotation ({error})") from None
    return found if anybody else found[:0]


def _people(annotation: np.ndarray) -> Iterator[tuple[np.ndarray, list[tuple[str, np.ndarray]]]]:
    """Mask, and name and mask of each part, of everybody who has parts."""
    for item in annotation[0, 0][1].ravel():
        _, category, mask, parts = (item[i] for i in range(4))
        if int(category.item()) == PERSON and parts.size:
            named = [(str(part[0].item()), _flat(part[1])) for part in parts.ravel()]
            yield _flat(mask), named


def _flat(mask: np.ndarray) -> np.ndarray:
    if mask.ndim != 2 or mask.dtype.kind not in "fiub":
        raise ValueError(f"a mask is {mask.dtype} {mask.shape}")
    return mask.astype(bool)


def parts_or_ignored(parts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return parts if parts.any() else np.full(labels.shape, IGNORE, np.uint8)


def trusted(normals: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Normals, zero where the class is none of `TRUSTED`."""
    keep = np.zeros(CONTEXT_CLASSES + 1, np.bool_)
    keep[list(TRUSTED)] = True
    return np.where(keep[labels][..., None], normals, np.float32(0))


def edges_of(labels: np.ndarray) -> np.ndarray:
    """Where the Laplacian of a LabelMap is not zero, thinned, uint8 [H, W].

    Where differences cancel (two neighbours whose numbers lie as far below as above) there is none, as in the published
    labels.
    """
    from kdam_ray.metrics.boundary import true_boundaries  # torch, which opening does without

    around = np.pad(labels, 1, mode="reflect")  # without the border pixel itself, as OpenCV does
    laplacian = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * labels
    return true_boundaries(laplacian != 0, "mask").astype(np.uint8)


PASCAL = Packaging(
    "PASCAL-Context",
    lists="ImageSets/Context",
    files={
        "image": File(("JPEGImages",), ".jpg", ImageFile(("RGB", "L"), "JPEG", colour=True)),
        "context": File(("pascal-context/trainval",), ".mat", MatlabFile("LabelMap"), label_map),
        "semseg": File(("semseg/VOC12", "semseg/pascal-context"), ".png", ImageFile(("L", "P")), classes_of),
        "human_parts": File(("human_parts",), ".mat", MatlabFile("anno", is_map=False), parts_of),
        "sal": File(("sal_distill",), ".png", ImageFile(("L", "P")), salient),
        "normals": File(("normals_distill",), ".png", ImageFile(("RGB",)), directions_of_codes),
    },
    maps={
        "image": Map(("image",)),
        "semseg": Map(("semseg",)),
        "human_parts": Map(("human_parts", "context"), parts_or_ignored),
        "sal": Map(("sal",)),
        "normals": Map(("normals", "context"), trusted),
        "edge": Map(("context",), edges_of),
    },
    regions=Map(("context",)),
)


def open_pascal(root: str | Path, split: Split, **options: Any) -> Packaged:
    """A split of the packaging; see `Packaged` for the options and for what is refused."""
    return Packaged(PASCAL, root, split, **options)
