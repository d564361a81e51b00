"""Tiny labelled images and runs for the laws of training; no renderer, no file."""

from typing import Any

import numpy as np
from torch import nn

from kdam_ray.config import Distill, Optim, Run
from kdam_ray.data.source import Sample


class TinySource:
    """Blobs of random classes with every task of `rooms`, 32x48 pixels, some pixels of each map invalid."""

    fingerprint = "tiny"

    def __init__(self, images: int, seed: int = 0) -> None:
        self.samples = [_sample(np.random.default_rng([seed, index])) for index in range(images)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return {name: array.copy() for name, array in self.samples[index].items()}

    def name(self, index: int) -> str:
        return f"tiny-{index}"


def _sample(rng: np.random.Generator) -> Sample:
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


def make_run(method: str = "none", *, beta: float = 1.0, student: str = "swin_w12", **changes: Any) -> Run:
    """A Run on the tiny source: make_run("kdam", seed=1, epochs=2, optim=...)."""
    distill = Distill.model_validate({"method": method, "beta": beta})
    known = {"teacher": "resnet_w8", "teacher_run": "0123456789ab"} if method != "none" else {}
    values = {
        "dataset": "rooms", "image_size": (32, 48), "train_images": 16, "val_images": 6, "batch": 4, "epochs": 2,
        "tasks": ("semseg", "depth", "normals", "edge"), "student": student, "distill": distill,
        "optim": Optim(name="adamw", lr=5e-3, weight_decay=0.05, warmup=0.1, clip_norm=10.0),
    }  # fmt: skip
    return Run.model_validate(values | known | changes)


def in_float64(network: nn.Module) -> nn.Module:
    """The network with weights and images in float64: logits, and so the losses, are what it gives."""
    network.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    return network.double()
