"""NYUD-v2, in each of the three packagings in circulation, which hold the same folders and differ in what lies in them.

                    ATRC (DeMT, InvPT)      MTI-Net                 ASTMT
    images/         .png RGB                .jpg                    .jpg
    segmentation/   .png uint8              .png uint8              .mat `segmentation`     0 = void, 1 .. 40
    depth/          .npy float              .npy float              .mat `depth`            metres, 0 = missing
    normals/        .png RGB                .npy float              .jpg RGB                unit vectors, zero = invalid
    edge/           .png uint8, v / 255     .npy 0 or 1             .png uint8, v / 255
    gt_sets/        train.txt, val.txt: one id a line

In 8 bits a normal is n = 2 v / 255 - 1, and (0, 0, 0) stands for invalid. Sizes differ too: ATRC's images are 425 x
560, MTI-Net's 480 x 640; a number measured on one is not one of the other. ASTMT itself learnt void as a 41st class;
here it is ignored, as everybody else does. Labels of another size than their image, which the loaders of MTI-Net and
ASTMT resize, are refused. The boundary evaluator of the published numbers takes the edge mask.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kdam_ray.data.packaged.file_kinds import ArrayFile, ImageFile, MatlabFile
from kdam_ray.data.packaged.packaging import File, Map, Packaged, Packaging, check_folders, first_ids
from kdam_ray.data.source import Split

CLASSES = 40


def classes_of(stored: np.ndarray) -> np.ndarray:
    """Stored labels, 0 = void, 1 .. 40, to uint8 classes, 255 = void."""
    if stored.dtype.kind == "f" and not (np.isfinite(stored).all() and (stored == np.floor(stored)).all()):
        raise ValueError(f"holds labels that are no whole numbers; labels should be 0 (void) to {CLASSES}")
    if stored.max(initial=0) > CLASSES or stored.min(initial=0) < 0:
        wrong = stored.max() if stored.max() > CLASSES else stored.min()
        raise ValueError(f"holds label {wrong:g}; labels should be 0 (void) to {CLASSES}")
    return stored.astype(np.uint8) - np.uint8(1)  # wraps: void becomes 255, which is IGNORE


def metres(depth: np.ndarray) -> np.ndarray:
    depth = depth.astype(np.float32)
    if not np.isfinite(depth).all() or depth.min(initial=0) < 0:
        raise ValueError("holds values that are negative or not finite; depth should be metres, 0 where it is missing")
    return depth


def directions_of_codes(stored: np.ndarray) -> np.ndarray:
    """8 bit codes to float32 unit vectors; (0, 0, 0) becomes zero, which is invalid."""
    normals = stored.astype(np.float32) * np.float32(2 / 255) - 1
    x, y, z = np.moveaxis(normals, -1, 0)
    normals /= np.sqrt(x * x + y * y + z * z)[
        ..., None
    ]  # 8 bits leave lengths of 0.99 to 1.01; no code decodes to zero
    normals[(stored[..., 0] | stored[..., 1] | stored[..., 2]) == 0] = 0
    return normals


def directions(stored: np.ndarray) -> np.ndarray:
    """Vectors to float32 unit vectors; zero stays zero."""
    normals = stored.astype(np.float32)
    if not np.isfinite(normals).all():
        raise ValueError(
            "holds values that are not finite; normals should be unit vectors, zero where they are invalid"
        )
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals / np.where(length > 0, length, 1)


def edge_of_grey(stored: np.ndarray) -> np.ndarray:
    return (stored >= 128 if stored.dtype == np.uint8 else stored).astype(np.uint8)


def edge_of_numbers(stored: np.ndarray) -> np.ndarray:
    if not ((stored >= 0) & (stored <= 1)).all():
        raise ValueError("holds values outside 0 .. 1; edges should be 0 or 1")
    return (stored >= 0.5).astype(np.uint8)


def mask_of(edge: np.ndarray) -> np.ndarray:
    return edge == 1


RGB, JPEG = ImageFile(("RGB",)), ImageFile(("RGB", "L"), "JPEG", colour=True)
GREY_EDGES = File(("edge",), ".png", ImageFile(("L", "1")), edge_of_grey)
LABELS = File(("segmentation",), ".png", ImageFile(("L", "P")), classes_of)
DEPTHS = File(("depth",), ".npy", ArrayFile(types="f"), metres)


def _packaging(name: str, image: File, semseg: File, depth: File, normals: File, edge: File) -> Packaging:
    files = {"image": image, "semseg": semseg, "depth": depth, "normals": normals, "edge": edge}
    return Packaging(
        name, lists="gt_sets", files=files, maps={key: Map((key,)) for key in files}, regions=Map(("edge",), mask_of)
    )


ATRC = _packaging(
    "NYUD of ATRC",
    image=File(("images",), ".png", RGB),
    semseg=LABELS,
    depth=DEPTHS,
    normals=File(("normals",), ".png", RGB, directions_of_codes),
    edge=GREY_EDGES,
)
MTI = _packaging(
    "NYUD of MTI-Net",
    image=File(("images",), ".jpg", JPEG),
    semseg=LABELS,
    depth=DEPTHS,
    normals=File(("normals",), ".npy", ArrayFile("(height, width, 3)", "f"), directions),
    edge=File(("edge",), ".npy", ArrayFile(), edge_of_numbers),
)
ASTMT = _packaging(
    "NYUD of ASTMT",
    image=File(("images",), ".jpg", JPEG),
    semseg=File(("segmentation",), ".mat", MatlabFile("segmentation"), classes_of),
    depth=File(("depth",), ".mat", MatlabFile("depth"), metres),
    normals=File(("normals",), ".jpg", ImageFile(("RGB",), "JPEG"), directions_of_codes),
    edge=GREY_EDGES,
)
PACKAGINGS = (ATRC, MTI, ASTMT)


def open_nyud(root: str | Path, split: Split, **options: Any) -> Packaged:
    """A split of whichever packaging the root holds.

    Args:
        root: folder of the packaging.
        split: "train" or "val".
        options: see `Packaged`.

    Raises:
        ValueError: it is none of the three, or see `Packaged`.
    """
    return Packaged(recognised(Path(root).expanduser(), split), root, split, **options)


def recognised(root: Path, split: Split) -> Packaging:
    """Which packaging a root holds, by the endings of the files of the split's first id.

    Raises:
        ValueError: the files are of none or of several, or see `check_folders` and `read_ids`.
    """
    check_folders(ATRC, root)  # the same for all three
    identity = first_ids(ATRC, root, split, None)[0]
    whole = [
        packaging
        for packaging in PACKAGINGS
        if all(_is_there(root, file, identity) for file in packaging.files.values())
    ]
    if len(whole) == 1:
        return whole[0]
    # none is whole: whose files they all are will say which one is missing
    there = {
        (key, suffix)
        for key, suffix in _endings()
        if (root / ATRC.files[key].folders[0] / f"{identity}{suffix}").is_file()
    }
    possible = [
        packaging for packaging in PACKAGINGS if there <= {(key, file.suffix) for key, file in packaging.files.items()}
    ]
    if possible:
        return possible[0]
    found = ", ".join(sorted(f"{ATRC.files[key].folders[0]}/*{suffix}" for key, suffix in there))
    known = "; ".join(
        f"{row.name}: {', '.join(f'{key}/*{file.suffix}' for key, file in _by_folder(row).items())}"
        for row in PACKAGINGS
    )
    raise ValueError(
        f"root: {root} holds {found} for {identity}, which is none of the three packagings, or several ({known})"
    )


def _endings() -> set[tuple[str, str]]:
    return {(key, file.suffix) for packaging in PACKAGINGS for key, file in packaging.files.items()}


def _by_folder(packaging: Packaging) -> dict[str, File]:
    return {file.folders[0]: file for file in packaging.files.values()}


def _is_there(root: Path, file: File, identity: str) -> bool:
    return (root / file.folders[0] / f"{identity}{file.suffix}").is_file()
