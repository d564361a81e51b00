"""Tiny labelled images and runs for the laws of training; no renderer, no file."""

import numpy as np

from kdam_ray.config import Distill, Optim, Run


class TinySource:
    """Blobs of random classes with every task of `rooms`, 32x48 pixels, some pixels of each map invalid."""

    fingerprint = "tiny"

    def __init__(self, images: int, seed: int = 0):
        self.samples = [_sample(np.random.default_rng([seed, index])) for index in range(images)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return {name: array.copy() for name, array in self.samples[index].items()}

    def name(self, index):
        return f"tiny-{index}"


def _sample(rng):
    classes = np.kron(rng.integers(0, 17, (4, 6)), np.ones((8, 8))).astype(np.uint8)
    edge = np.zeros_like(classes)
    edge[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    normals = rng.normal(size=(32, 48, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    depth = (1 + classes / 4 + rng.random((32, 48))).astype(np.float32)
    invalid = rng.random((32, 48)) < 0.1
    classes[invalid], edge[invalid], depth[invalid], normals[invalid] = 255, 255, 0, 0
    image = (15 * np.minimum(classes, 16))[..., None] + rng.integers(0, 16, (32, 48, 3))
    return {
        "image": image.astype(np.uint8),
        "semseg": classes,
        "depth": depth,
        "normals": normals.astype(np.float16),
        "edge": edge,
    }


def make_run(method="none", *, beta=1.0, student="swin_w12", **changes):
    """A Run on the tiny source: make_run("kdam", seed=1, epochs=2, optim=...)."""
    known = {"teacher": "resnet_w8", "teacher_run": "0123456789ab"} if method != "none" else {}
    values = {
        "dataset": "rooms", "image_size": (32, 48), "train_images": 16, "val_images": 6, "batch": 4, "epochs": 2,
        "tasks": ("semseg", "depth", "normals", "edge"), "student": student, "distill": Distill(method=method, beta=beta),
        "optim": Optim(name="adamw", lr=5e-3, weight_decay=0.05, warmup=0.1, clip_norm=10.0),
    }  # fmt: skip
    return Run.model_validate(values | known | changes)
