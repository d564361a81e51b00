"""PAP: affinities, their mix and the diffusion against sums written out, and the printed cost.

pytest tests/models/decoders/test_pap.py
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdam_ray.models import activation_bytes, network_cost
from kdam_ray.models.decoders.pap import PAP, STEPS, AcrossTasks, affinity, diffuse
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

pytestmark = pytest.mark.usefixtures("in_float64")

NYUD, ROOMS = DATASETS["nyud"], DATASETS["rooms"]
CHANNELS, HIDDEN = (4, 6, 8, 10), 8
FINE, COARSE = (5, 7), (3, 4)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps(count=2):
    sizes = (FINE, COARSE, (2, 2), (1, 1))
    return [
        draw(count, width, *size, seed=index) for index, (width, size) in enumerate(zip(CHANNELS, sizes, strict=True))
    ]


def build(tasks=ROOMS.tasks):
    torch.manual_seed(0)
    decoder = PAP(CHANNELS, tasks, replace(BACKBONES["resnet_w8"], hidden=HIDDEN))
    for layer in decoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    return decoder


def test_an_affinity_is_a_softmax_over_all_pixels():
    embedded = draw(2, 3, *COARSE)
    for image, matrix in zip(embedded, affinity(embedded), strict=True):
        pixels = [image[:, i, j] for i in range(COARSE[0]) for j in range(COARSE[1])]
        for row, pixel in zip(matrix, pixels, strict=True):
            scores = torch.stack([pixel.dot(other) for other in pixels])
            torch.testing.assert_close(row, scores.exp() / scores.exp().sum())


def test_affinities_of_equal_shares_average_and_learnt_shares_sum_to_one():
    across, matrices = AcrossTasks(3), [affinity(draw(2, 4, *COARSE, seed=seed)) for seed in range(3)]
    for mixed in across(matrices):
        torch.testing.assert_close(mixed, sum(matrices) / 3)
    nn.init.normal_(across.weights)
    shares = across.weights.exp() / across.weights.exp().sum(1, keepdim=True)
    for target, mixed in enumerate(across(matrices)):
        torch.testing.assert_close(mixed, sum(shares[target, source] * matrices[source] for source in range(3)))
        torch.testing.assert_close(mixed.sum(2), torch.ones(2, 12))


def test_one_task_diffuses_by_its_own_affinity():
    across = AcrossTasks(1)
    assert not list(across.parameters())
    matrix = affinity(draw(1, 4, *COARSE))
    assert across([matrix])[0] is matrix


def test_diffusion_is_a_power_of_the_affinity():
    x, matrix = draw(2, 3, *COARSE).double(), affinity(draw(2, 4, *COARSE, seed=1).double())
    expected = torch.einsum("bij,bcj->bci", torch.linalg.matrix_power(matrix, STEPS), x.flatten(2))
    torch.testing.assert_close(diffuse(x, matrix).flatten(2), expected)
    torch.testing.assert_close(diffuse(x, torch.eye(12).expand(2, 12, 12)), x)
    torch.testing.assert_close(diffuse(torch.ones_like(x), matrix), torch.ones_like(x))


def test_the_whole_of_it_step_by_step():
    decoder = build().eval()
    nn.init.normal_(decoder.across.weights), nn.init.uniform_(decoder.within)
    levels = maps()
    joined = torch.cat([F.interpolate(x, size=FINE, mode="bilinear") for x in levels], 1)
    features = decoder.features(joined)
    coarse = [F.interpolate(x, size=COARSE, mode="bilinear") for x in features]
    matrices = [affinity(embed(x)) for embed, x in zip(decoder.embed, coarse, strict=True)]
    outputs = decoder(levels)
    for index, task in enumerate(ROOMS.tasks):
        share = decoder.within[index]
        mixed = sum(
            weight * matrix for weight, matrix in zip(decoder.across.weights[index].softmax(0), matrices, strict=True)
        )
        diffused = (mixed.matrix_power(STEPS) @ coarse[index].flatten(2).mT).mT.unflatten(2, COARSE)
        rebuilt = decoder.reconstruct[index](share * diffused + (1 - share) * coarse[index])
        expected = decoder.logits[task.name](features[index] + F.interpolate(rebuilt, size=FINE, mode="bilinear"))
        torch.testing.assert_close(outputs[task.name], expected)


def test_initial_predictions_while_training():
    outputs = build().train()(maps())
    for task in ROOMS.tasks:
        assert outputs[f"aux/initial/{task.name}"].shape == outputs[task.name].shape == (2, task.channels, *FINE)


@pytest.mark.usefixtures("in_float32")
def test_autocast_keeps_one_matrix_for_all_steps():
    """Nine products under autocast keep one bf16 copy of the affinity, not nine."""
    matrix, x = affinity(draw(1, 4, *COARSE)).requires_grad_(), draw(1, 3, *COARSE, seed=1).bfloat16().requires_grad_()
    kept = {}
    with torch.autocast("cpu", torch.bfloat16):
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t), lambda t: t
        )
        with hooks:
            diffuse(x, matrix)
    assert sum(t.numel() == matrix.numel() for t in kept.values()) == 1


def test_cost_of_table_1():
    cost = network_cost("hrnet18", "pap", NYUD.tasks, image_size=(425, 560))
    assert cost.params == 4_541_544
    assert cost.params / 1e6 == pytest.approx(4.54, abs=0.005)
    assert cost.all_macs / 1e9 == pytest.approx(53.04, rel=1e-3)
    pixels = 54 * 70
    assert cost.products == 4 * (67 // 4 + STEPS * 67) * pixels**2


@pytest.mark.usefixtures("in_float32")
def test_memory_of_a_training_step():
    """Eight images: two maps of N^2 floats a task and image (1/8 scale), the rest below 3.5 GB (the baseline: 2.5)."""
    kept = activation_bytes("hrnet18", "pap", NYUD.tasks, image_size=(425, 560), batch=8)
    assert kept - 2 * 4 * 8 * (54 * 70) ** 2 * 4 < 3.5e9
