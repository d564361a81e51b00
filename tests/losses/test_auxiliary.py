"""Labels cut into classes, and the losses over them.

pytest tests/losses/test_auxiliary.py
"""

import math

import numpy as np
import pytest
import torch

from kdam_ray.losses.auxiliary import classified_sums, directions, label_to_classes
from kdam_ray.losses.supervised import valid_mask
from kdam_ray.ranks import global_mean
from kdam_ray.tasks import DATASETS

TASKS = {task.name: task for name in ("rooms", "rooms_pascal") for task in DATASETS[name].tasks}


def classified_loss(task, logits, label):
    sums = classified_sums(task, logits, label, valid_mask(task.kind, label), edge_positive_weight=0.8)
    return global_mean(*sums)


def test_depth_bins_are_logarithmic_between_seventy_centimetres_and_ten_metres():
    bounds = np.exp(np.linspace(math.log(0.7), math.log(10), 41))
    depth = np.concatenate(
        [np.sqrt(bounds[:-1] * bounds[1:]), [0.3, 25.0, 0.0]]
    )  # the middle of each bin, too near, too far, invalid
    classes = label_to_classes("depth", torch.tensor(depth, dtype=torch.float32).view(1, 1, 1, -1)).flatten().tolist()
    assert classes == [*range(40), 0, 39, 255]


def test_directions_are_unit_spread_and_face_the_camera():
    vectors = directions()
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(40))
    assert (vectors[:, 2] > 0).all()
    nearest = (vectors @ vectors.T - 2 * torch.eye(40)).amax(1).acos().rad2deg()
    assert nearest.min() > 15  # 40 caps of equal area on a hemisphere have a radius of 13 degrees
    assert nearest.max() < 30


def test_a_normal_belongs_to_the_nearest_direction():
    draw = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(2, 3, 5, 6, generator=draw), dim=1)
    normals[0, :, 0, 0] = 0
    classes = label_to_classes("normals", normals)
    assert classes[0, 0, 0] == 255
    for row in range(1, 5):
        angles = [torch.acos((normals[1, :, row, 2] * vector).sum().clamp(-1, 1)) for vector in directions()]
        assert classes[1, row, 2] == int(torch.stack(angles).argmin())


def test_class_labels_stay_and_edges_become_two_classes():
    classes = torch.tensor([[[0, 16, 255]]], dtype=torch.uint8)
    assert label_to_classes("classes", classes).tolist() == [[[0, 16, 255]]]
    assert label_to_classes("edge", torch.tensor([[[[0.0, 1.0, 255.0]]]])).tolist() == [[[0, 1, 255]]]


def label_of(task, valid=True):
    draw = torch.Generator().manual_seed(1)
    shape = (2, 4, 5)
    if task.kind in ("classes", "saliency"):
        label = torch.randint(0, task.channels, shape, generator=draw)
        return label if valid else torch.full_like(label, 255)
    if task.kind == "edge":
        label = torch.randint(0, 2, (2, 1, 4, 5), generator=draw).float()
        return label if valid else torch.full_like(label, 255)
    if task.kind == "depth":
        return 1 + 8 * torch.rand(2, 1, 4, 5, generator=draw) if valid else torch.zeros(2, 1, 4, 5)
    return (
        torch.nn.functional.normalize(torch.randn(2, 3, 4, 5, generator=draw), dim=1)
        if valid
        else torch.zeros(2, 3, 4, 5)
    )


@pytest.mark.parametrize("name", TASKS)
def test_the_loss_is_the_weighted_mean_of_minus_log_softmax(name):
    task = TASKS[name]
    label = label_of(task)
    logits = torch.randn(2, task.label_classes, 4, 5, generator=torch.Generator().manual_seed(2))
    classes = label_to_classes(task.kind, label)
    share = (classes == 1).double().mean().item()
    weights = {"edge": {0: 0.2, 1: 0.8}, "saliency": {0: share, 1: 1 - share}}.get(task.kind, {})
    total = 0.0
    for b, y, x in np.ndindex(2, 4, 5):
        target = int(classes[b, y, x])
        total -= weights.get(target, 1.0) * logits[b, :, y, x].double().log_softmax(0)[target].item()
    assert classified_loss(task, logits, label).item() == pytest.approx(total / classes.numel(), rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_nothing_valid_is_zero_with_zero_gradient(name):
    task = TASKS[name]
    logits = torch.randn(2, task.label_classes, 4, 5, requires_grad=True)
    loss = classified_loss(task, logits, label_of(task, valid=False))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_float64_stays_float64_and_half_precision_is_summed_in_float32(name, dtype):
    task = TASKS[name]
    logits = torch.randn(2, task.label_classes, 4, 5, generator=torch.Generator().manual_seed(3)).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    loss = classified_loss(task, logits, label_of(task))
    assert loss.dtype == wide
    assert loss.item() == classified_loss(task, logits.to(wide), label_of(task)).item()
