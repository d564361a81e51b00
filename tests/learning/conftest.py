"""The tiny source, its runs and a teacher as fixtures."""

from collections.abc import Callable

import pytest
import tiny
import torch

from kdam_ray.config import Run
from kdam_ray.models import Teacher, build_network
from kdam_ray.tasks import DATASETS


@pytest.fixture(scope="session")
def sources() -> dict[str, tiny.TinySource]:
    return {"train": tiny.TinySource(16, seed=1), "val": tiny.TinySource(6, seed=2)}


@pytest.fixture(scope="session")
def teacher() -> Teacher:
    torch.manual_seed(5)
    return Teacher(build_network("resnet_w8", "mt_baseline", DATASETS["rooms"].tasks, image_size=(32, 48)))


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    return tiny.make_run
