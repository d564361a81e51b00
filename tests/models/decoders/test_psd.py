"""PSD: structures, matching and diffusion against dense matrices, and the printed cost.

pytest tests/models/decoders/test_psd.py
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdam_ray.models import activation_bytes, network_cost
from kdam_ray.models.decoders.psd import PSD, STEPS, WINDOW, diffuse, matching, structure
from kdam_ray.models.local import inside
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

pytestmark = pytest.mark.usefixtures("in_float64")

NYUD, ROOMS = DATASETS["nyud"], DATASETS["rooms"]
CHANNELS, HIDDEN, SIZE = (4, 6, 8, 10), 8, (6, 9)
PIXELS = [(y, x) for y in range(SIZE[0]) for x in range(SIZE[1])]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps(count=2):
    return [draw(count, width, -(-SIZE[0] // 2**k), -(-SIZE[1] // 2**k), seed=k) for k, width in enumerate(CHANNELS)]


def build(tasks=ROOMS.tasks):
    torch.manual_seed(0)
    decoder = PSD(CHANNELS, tasks, replace(BACKBONES["resnet_w8"], hidden=HIDDEN))
    for layer in decoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    return decoder


def dense(embedded):
    """S as matrices [B, N, N] that are zero outside the windows."""
    near = torch.tensor([[max(abs(a - c), abs(b - d)) <= WINDOW // 2 for c, d in PIXELS] for a, b in PIXELS])
    flat = embedded.flatten(2)
    scores = torch.einsum("bci,bcj->bij", flat, flat) / embedded.shape[1] ** 0.5
    return scores.masked_fill(~near, -torch.inf).softmax(2)


def test_a_structure_is_a_softmax_over_the_window():
    embedded = draw(2, 3, *SIZE)
    ours, matrices = structure(embedded), dense(embedded)
    for index, (y, x) in enumerate(PIXELS):
        for offset in range(WINDOW**2):
            v, u = y + offset // WINDOW - WINDOW // 2, x + offset % WINDOW - WINDOW // 2
            real = 0 <= v < SIZE[0] and 0 <= u < SIZE[1]
            expected = matrices[:, index, v * SIZE[1] + u] if real else torch.zeros(2)
            torch.testing.assert_close(ours[:, offset, y, x], expected)


def test_matching_is_one_for_equal_structures_and_symmetric():
    one, other = (F.normalize(structure(5 * draw(2, 3, *SIZE, seed=seed)), dim=1) for seed in range(2))
    torch.testing.assert_close(matching(one, one), torch.ones(2, 1, *SIZE))
    assert torch.equal(matching(one, other), matching(other, one))
    assert 0 <= matching(one, other).min() < 0.9


def test_diffusion_within_is_a_power_and_between_is_matched():
    embedded = [draw(2, 3, *SIZE, seed=seed) for seed in range(3)]
    values = [[draw(2, 4, *SIZE, seed=10 * t + s) for s in range(3)] for t in range(3)]
    matrices = [dense(x) for x in embedded]
    ours = diffuse([structure(x) for x in embedded], values)
    for t in range(3):
        for s in range(3):
            matrix = matrices[t].matrix_power(STEPS) if s == t else matrices[s]
            expected = torch.einsum("bij,bcj->bci", matrix, values[t][s].flatten(2))
            if s != t:
                expected = expected * F.cosine_similarity(matrices[t], matrices[s], dim=2).unsqueeze(1)
            torch.testing.assert_close(ours[t][s].flatten(2), expected)


def test_equal_tasks_exchange_what_they_have():
    """With one structure for all, a constant map stays as it is wherever it goes."""
    same, ones = structure(draw(2, 3, *SIZE)), torch.ones(2, 4, *SIZE)
    for row in diffuse([same, same], [[ones, ones], [ones, ones]]):
        for result in row:
            torch.testing.assert_close(result, ones)
    assert structure(torch.zeros(1, 3, *SIZE))[0].sum(0).allclose(torch.ones(SIZE))
    assert torch.equal(structure(torch.zeros(1, 3, *SIZE))[0] > 0, inside(WINDOW, *SIZE))


@pytest.mark.parametrize("tasks", [ROOMS.tasks, ROOMS.tasks[:1]], ids=["four", "one"])
def test_the_whole_of_it_step_by_step(tasks):
    decoder, levels = build(tasks).eval(), maps()
    features = decoder.features(torch.cat([F.interpolate(x, size=SIZE, mode="bilinear") for x in levels], 1))
    matrices = [dense(embed(x)) for embed, x in zip(decoder.embed, features, strict=True)]
    outputs = decoder(levels)
    for t, task in enumerate(tasks):
        parts = [features[t]]
        for s, value in enumerate(decoder.values[t](features[t]).split(HIDDEN, dim=1)):
            matrix = matrices[t].matrix_power(STEPS) if s == t else matrices[s]
            degree = F.cosine_similarity(matrices[t], matrices[s], dim=2).unsqueeze(2)
            parts.append((degree * (matrix @ value.flatten(2).mT)).mT.unflatten(2, SIZE))
        expected = decoder.logits[task.name](decoder.together[t](torch.cat(parts, 1)))
        torch.testing.assert_close(outputs[task.name], expected)


def test_initial_predictions_while_training():
    outputs = build().train()(maps())
    for task in ROOMS.tasks:
        assert outputs[f"aux/initial/{task.name}"].shape == outputs[task.name].shape == (2, task.channels, *SIZE)


def test_cost_of_table_1():
    cost = network_cost("hrnet18", "psd", NYUD.tasks, image_size=(425, 560))
    assert cost.params == 4_710_500
    assert cost.params / 1e6 == pytest.approx(4.71, abs=0.005)
    assert cost.all_macs / 1e9 == pytest.approx(21.10, rel=3e-3)
    tasks, hidden = 4, 67
    assert cost.products == 107 * 140 * WINDOW**2 * tasks * (hidden // 2 + (tasks + STEPS - 1) * hidden)


@pytest.mark.usefixtures("in_float32")
def test_memory_of_a_training_step():
    """Nothing is quadratic in pixels, no window holds channels: eight images below 7 GB."""
    assert activation_bytes("hrnet18", "psd", NYUD.tasks, image_size=(425, 560), batch=8) < 7e9
