"""The score of one answer for every pixel, beside what it must be.

python -m pytest tests/service/finished/test_constant.py
"""

import pytest
import torch
from fakes import make_run

from kdam_ray.config import Place
from kdam_ray.data.loader import Batching, val_batches
from kdam_ray.service.finished.constant import constant_scores
from kdam_ray.service.layout import open_sources
from kdam_ray.tasks import DATASETS, IGNORE


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(storage=str(tmp_path_factory.mktemp("constant")))


def labels(run, place, name):
    """All labels of the evaluation split, [N, ...]."""
    source = open_sources(run, place)[1]
    batches = val_batches(source, Batching([name], run.image_size, len(source)))
    return torch.cat([batch[name] for batch in batches])


def test_each_kind_is_scored_as_its_own_constant_by_hand(place):
    run = make_run()
    found = constant_scores(run, place)
    assert set(found) == {"semseg/mIoU", "depth/rmse", "normals/mErr"}
    classes = labels(run, place, "semseg")
    counts = classes[classes != IGNORE].long().bincount()
    channels = DATASETS["rooms"].task("semseg").channels
    assert found["semseg/mIoU"] == pytest.approx(100 * float(counts.max() / counts.sum()) / channels)
    depth = labels(run, place, "depth").double()
    assert found["depth/rmse"] == pytest.approx(float(depth[depth > 0].std(correction=0)), rel=1e-5)
    normals = labels(run, place, "normals").double().movedim(1, -1).flatten(0, -2)
    normals = normals[(normals != 0).any(-1)]
    mean = normals.sum(0) / normals.sum(0).norm()
    angles = torch.acos((normals @ mean / normals.norm(dim=-1)).clamp(-1, 1)).rad2deg()
    assert found["normals/mErr"] == pytest.approx(float(angles.mean()), rel=1e-4)


def test_only_the_tasks_of_the_run_are_scored_and_boundaries_never(place):
    assert set(constant_scores(make_run(tasks=("depth",)), place)) == {"depth/rmse"}
    assert constant_scores(make_run(tasks=("edge",)), place) == {}


def test_everything_salient_has_the_precision_of_its_share(place):
    run = make_run(dataset="rooms_pascal", tasks=("sal",))
    salient = labels(run, place, "sal")
    share = float((salient[salient != IGNORE] == 1).double().mean())
    assert constant_scores(run, place)["sal/maxF"] == pytest.approx(100 * 1.3 * share / (0.3 * share + 1))
