"""A tiny NYUD-v2 packaging with random contents, for tests that read files."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_packaging(root: Path, train: int = 8, val: int = 2, size: tuple[int, int] = (32, 48)) -> Path:
    """A tiny NYUD-v2 packaging with random contents."""
    draw = np.random.default_rng(0)
    for folder in ("images", "segmentation", "depth", "normals", "edge", "gt_sets"):
        (root / folder).mkdir(parents=True)
    ids = [f"{index:04d}" for index in range(train + val)]
    for identity in ids:
        Image.fromarray(draw.integers(0, 255, (*size, 3), np.uint8)).save(root / "images" / f"{identity}.png")
        Image.fromarray(draw.integers(0, 41, size, np.uint8)).save(root / "segmentation" / f"{identity}.png")
        np.save(root / "depth" / f"{identity}.npy", draw.uniform(1, 5, size).astype(np.float32))
        Image.fromarray(draw.integers(0, 255, (*size, 3), np.uint8)).save(root / "normals" / f"{identity}.png")
        Image.fromarray((draw.random(size) < 0.1).astype(np.uint8) * 255).save(root / "edge" / f"{identity}.png")
    (root / "gt_sets" / "train.txt").write_text("\n".join(ids[:train]) + "\n")
    (root / "gt_sets" / "val.txt").write_text("\n".join(ids[train:]) + "\n")
    return root
