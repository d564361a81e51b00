"""Supervised losses against numpy, masks, hand values: python -m pytest tests/losses/test_supervised.py"""

import math

import numpy as np
import pytest
import torch

from kdam_ray.losses import supervised_loss, uncertainty_weighted, valid_mask
from kdam_ray.tasks import DATASETS, IGNORE

TASKS = {task.name: task for name in ("rooms", "rooms_pascal") for task in DATASETS[name].tasks}
every_task = pytest.mark.parametrize("name", TASKS)
W = 0.8


def loss_of(name, logits, label):
    return supervised_loss(TASKS[name], logits, label, edge_positive_weight=W)


def example(name, batch=3, height=5, width=6, seed=0, dtype=torch.float32):
    """Logits and a label of which about a third is invalid."""
    g = torch.Generator().manual_seed(seed)
    task, shape = TASKS[name], (batch, 1, height, width)
    hole = torch.rand(shape, generator=g) < 1 / 3
    logits = torch.randn(batch, task.channels, height, width, generator=g).to(dtype)
    if task.kind == "depth":
        label = (torch.rand(shape, generator=g) * 5 + 0.5).masked_fill(hole, 0).to(dtype)
    elif task.kind == "normals":
        label = (
            torch.nn.functional.normalize(torch.randn(batch, 3, height, width, generator=g), dim=1)
            .masked_fill(hole, 0)
            .to(dtype)
        )
    elif task.kind == "edge":
        label = (torch.rand(shape, generator=g) < 0.2).to(dtype).masked_fill(hole, IGNORE)
    else:
        label = torch.randint(task.channels, shape, generator=g).masked_fill(hole, IGNORE)[:, 0]
    return logits, label


def invalid_label(name, label):
    return torch.full_like(label, 0 if TASKS[name].kind in ("depth", "normals") else IGNORE)


def naive(name, logits, label):
    """One pixel after the other, float64."""
    z, y = logits.double().numpy(), label.double().numpy()
    kind = TASKS[name].kind
    y = y[:, None] if y.ndim == 3 else y
    pixels = [
        (z[b, :, i, j], y[b, :, i, j]) for b in range(z.shape[0]) for i in range(z.shape[2]) for j in range(z.shape[3])
    ]
    if kind == "normals":
        pixels = [(a, b) for a, b in pixels if np.linalg.norm(b) > 0]
        return np.mean([np.abs(a / np.linalg.norm(a) - b).sum() for a, b in pixels])
    if kind == "depth":
        return np.mean([abs(a[0] - b[0]) for a, b in pixels if b[0] > 0])
    pixels = [(a, int(b[0])) for a, b in pixels if b[0] != IGNORE]
    if kind == "edge":
        return np.mean([W * np.log1p(np.exp(-a[0])) if b else (1 - W) * np.log1p(np.exp(a[0])) for a, b in pixels])
    entropies = [(np.log(np.exp(a).sum()) - a[b], b) for a, b in pixels]
    share = np.mean([b for _, b in entropies])  # of positives
    weights = {0: share, 1: 1 - share} if kind == "saliency" else dict.fromkeys(range(100), 1)
    return np.mean([weights[b] * entropy for entropy, b in entropies])


@every_task
def test_equals_the_definition(name):
    logits, label = example(name)
    assert loss_of(name, logits, label).item() == pytest.approx(naive(name, logits, label), rel=1e-5)


@every_task
def test_gradients_are_those_of_finite_differences(name):
    logits, label = example(name, batch=2, height=2, width=3, seed=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: loss_of(name, z, label), (logits.requires_grad_(),))


@every_task
def test_a_hole_equals_the_subset_without_it(name):
    logits, label = example(name, seed=2, dtype=torch.float64)  # where no processor's order of sums decides
    mask = valid_mask(TASKS[name].kind, label)[:, 0]
    some = logits.movedim(1, -1)[mask].T.reshape(1, logits.shape[1], 1, -1)
    labels = (
        label[mask].reshape(1, 1, -1)
        if label.ndim == 3
        else label.movedim(1, -1)[mask].T.reshape(1, label.shape[1], 1, -1)
    )
    torch.testing.assert_close(loss_of(name, logits, label), loss_of(name, some, labels))


@every_task
def test_a_hole_has_no_gradient(name):
    logits, label = example(name, seed=3)
    loss_of(name, logits.requires_grad_(), label).backward()
    mask = valid_mask(TASKS[name].kind, label).expand_as(logits)
    assert (logits.grad[~mask] == 0).all()
    assert (logits.grad[mask] != 0).all()


@every_task
def test_nothing_valid_is_a_connected_zero(name):
    logits, label = example(name, seed=4)
    loss = loss_of(name, logits.requires_grad_(), invalid_label(name, label))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@every_task
def test_a_batch_is_the_mean_of_its_pixels_not_of_its_images(name):
    logits, label = example(name, seed=5, dtype=torch.float64)
    label[0] = invalid_label(name, label)[0]
    torch.testing.assert_close(loss_of(name, logits, label), loss_of(name, logits[1:], label[1:]))


@every_task
def test_half_precision_in_float32_arithmetic(name):
    logits, label = example(name, seed=6)
    half = logits.bfloat16().requires_grad_()
    loss = loss_of(name, half, label)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == loss_of(name, half.detach().float(), label).item()
    assert half.grad.isfinite().all()


@every_task
def test_float64_logits_stay_float64_beside_a_float32_label(name):
    logits, label = example(name, seed=8)
    loss = loss_of(name, logits.double().requires_grad_(), label)
    loss.backward()
    assert loss.dtype == torch.float64
    exact = loss_of(name, logits.double(), label.double() if label.is_floating_point() else label)
    assert loss.item() == exact.item()


@every_task
def test_law_1_the_same_bits_again(name):
    logits, label = example(name, batch=4, height=24, width=32, seed=7)
    assert torch.equal(loss_of(name, logits, label), loss_of(name, logits.clone(), label.clone()))


def test_depth_by_hand():
    label = torch.tensor([[[[1.0, 2.0, 0.0]]]])
    assert loss_of("depth", torch.tensor([[[[1.5, 1.0, 9.0]]]]), label).item() == pytest.approx(0.75)


def test_normals_by_hand():
    # (0, 3, 4) / 5 = (0, .6, .8) against (0, 0, 1): .6 + .2
    prediction, label = torch.tensor([0.0, 3.0, 4.0]).view(1, 3, 1, 1), torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert loss_of("normals", prediction, label).item() == pytest.approx(0.8)


def test_a_normal_of_length_zero_has_a_finite_gradient():
    prediction = torch.zeros(1, 3, 1, 1, requires_grad=True)
    loss = loss_of("normals", prediction, torch.tensor([0.0, 0.6, 0.8]).view(1, 3, 1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(1.4)
    assert prediction.grad.isfinite().all()
    assert prediction.grad.abs().max() <= 1e4


def test_saliency_by_hand():
    # one positive, three negatives, logits equal: ln 2 (1 * 3/4 + 3 * 1/4) / 4
    label = torch.tensor([[[1, 0, 0, 0, IGNORE]]])
    assert loss_of("sal", torch.zeros(1, 2, 1, 5), label).item() == pytest.approx(math.log(2) * 1.5 / 4)


def test_edge_by_hand():
    # logits 0: ln 2 (.8 + 2 * .2) / 3
    label = torch.tensor([1.0, 0.0, 0.0, IGNORE]).view(1, 1, 1, 4)
    assert loss_of("edge", torch.zeros(1, 1, 1, 4), label).item() == pytest.approx(math.log(2) * 1.2 / 3)


def test_classes_by_hand():
    label = torch.tensor([[[3, IGNORE]]])
    assert loss_of("semseg", torch.zeros(1, 17, 1, 2), label).item() == pytest.approx(math.log(17))


@pytest.mark.parametrize(
    ("kind", "label", "expected"),
    [
        ("classes", torch.tensor([[[0, 7, 255]]]), [True, True, False]),
        ("saliency", torch.tensor([[[0, 1, 255]]], dtype=torch.uint8), [True, True, False]),
        ("edge", torch.tensor([[[[0.0, 1.0, 255.0]]]]), [True, True, False]),
        ("depth", torch.tensor([[[[0.0, 0.1, float("nan")]]]]), [False, True, False]),
        ("normals", torch.tensor([[[[0.0, -1.0, 0.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]]]), [False, True, True]),
    ],
)
def test_valid_mask(kind, label, expected):
    mask = valid_mask(kind, label)
    assert (mask.dtype, mask.shape, mask.flatten().tolist()) == (torch.bool, (1, 1, 1, 3), expected)


@pytest.mark.parametrize(
    ("name", "expected"), [("depth", 0.5 * 3 / 4 + math.log(2)), ("normals", 0.5 * 3 / 4 + math.log(2))]
)
def test_uncertainty_of_a_regression_by_hand(name, expected):
    # s = 2: L / (2 s^2) + ln s
    assert uncertainty_weighted(TASKS[name], torch.tensor(3.0), torch.tensor(math.log(4))).item() == pytest.approx(
        expected
    )


@pytest.mark.parametrize("name", ["semseg", "human_parts", "sal", "edge"])
def test_uncertainty_of_a_classification_by_hand(name):
    weighted = uncertainty_weighted(TASKS[name], torch.tensor(3.0), torch.tensor(math.log(4)))
    assert weighted.item() == pytest.approx(3 / 4 + math.log(2))


@every_task
def test_uncertainty_of_a_float64_loss_stays_float64(name):
    weighted = uncertainty_weighted(TASKS[name], torch.tensor(3.0, dtype=torch.float64), torch.tensor(math.log(4)))
    assert weighted.dtype == torch.float64


@every_task
def test_uncertainty_is_least_where_it_equals_the_loss(name):
    """d/ds = 0 at s^2 = L (regression) or 2 L (classification)."""
    best = 3.0 * (1 if TASKS[name].kind in ("depth", "normals") else 2)
    log_variance = torch.tensor(math.log(best), requires_grad=True)
    uncertainty_weighted(TASKS[name], torch.tensor(3.0), log_variance).backward()
    assert log_variance.grad.item() == pytest.approx(0, abs=1e-6)


@every_task
def test_sizes_that_disagree_are_named(name):
    logits, label = example(name)
    with pytest.raises(ValueError, match=rf"{name}: logits .* must have the label's batch and size"):
        loss_of(name, logits[..., 1:], label)
