"""MQTransformer: the equations with loops over images, tasks and heads, what may see what, and the published size.

pytest tests/models/decoders/test_mqtransformer.py
"""

from dataclasses import replace

import pytest
import torch

from kdam_ray.models import activation_bytes, network_cost
from kdam_ray.models.decoders.mqtransformer import (
    HEADS,
    PATCH,
    QUERIES,
    CrossTaskAttention,
    MQTransformer,
    SharedDecoder,
)
from kdam_ray.models.heads import join_levels
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

pytestmark = pytest.mark.usefixtures("in_float64")

NYUD, ROOMS = DATASETS["nyud"], DATASETS["rooms"]
CHANNELS, DIM, SIZE = (4, 6, 8, 10), 8, (6, 9)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps(count=2, seed=0):
    return [
        draw(count, width, -(-SIZE[0] // 2**k), -(-SIZE[1] // 2**k), seed=seed + k) for k, width in enumerate(CHANNELS)
    ]


def stir(module, seed=7):
    """Away from the initial values, at which positions and queries are next to nothing."""
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.add_(0.3 * draw(*parameter.shape, seed=seed + i))
    return module


def build(tasks=ROOMS.tasks):
    torch.manual_seed(0)
    return stir(MQTransformer(CHANNELS, tasks, replace(BACKBONES["resnet_w8"], dim=DIM)))


def attended(attention, query, key, value):
    """[L, C], [S, C], [S, C] -> [L, C], head by head."""
    q, k, v = attention.query(query), attention.key(key), attention.value(value)
    parts = [slice(head * DIM // HEADS, (head + 1) * DIM // HEADS) for head in range(HEADS)]
    weights = [torch.softmax(q[:, part] @ k[:, part].T / (DIM // HEADS) ** 0.5, 1) for part in parts]
    return attention.out(torch.cat([weight @ v[:, part] for weight, part in zip(weights, parts, strict=True)], 1))


def normed(module, query, key, value):
    return attended(module.attention, *(norm(x) for norm, x in zip(module.norms, (query, key, value), strict=True)))


def in_patches(attention, x):
    """[h, w, C], one square after the other."""
    output = torch.empty_like(x)
    for top in range(0, x.shape[0], 4):
        for left in range(0, x.shape[1], 4):
            patch = x[top : top + 4, left : left + 4]
            flat = patch.flatten(0, 1)
            output[top : top + 4, left : left + 4] = attended(attention, flat, flat, flat).view(patch.shape)
    return output


def reference(decoder, levels):
    """One image: maps [1, C_k, h_k, w_k] -> logits, from the module's equations."""
    encoder, across, shared = decoder.encoder, decoder.across, decoder.decoder
    joined = join_levels(levels)[0].permute(1, 2, 0)
    weights, biases = decoder.project.weight.chunk(decoder.tasks), decoder.project.bias.chunk(decoder.tasks)
    projected = [joined @ weight.T + bias for weight, bias in zip(weights, biases, strict=True)]
    encoded = []
    for t, x in enumerate(projected):
        pixels, queries = x.flatten(0, 1), decoder.queries.tokens[t]
        queries = queries + normed(
            encoder.attention, queries + torch.cat([decoder.queries.asking[t]] * HEADS, 1), pixels, pixels
        )
        queries = queries + encoder.norm(queries) @ encoder.reason.weight.T
        encoded.append(queries + encoder.feed_forward(queries))
    everyone = torch.cat(encoded)
    everyone = everyone + attended(across.attention, everyone, everyone, everyone)
    everyone = everyone + across.feed_forward(everyone)
    outputs = {}
    for t, (name, x, queries) in enumerate(zip(decoder.logits, projected, everyone.split(QUERIES), strict=True)):
        asked = queries + torch.cat([decoder.queries.asked[t]] * HEADS, 1)
        y = x + normed(shared.attention, x.flatten(0, 1), asked, queries).view(x.shape)
        y = y + shared.feed_forward[0](y)
        y = y + in_patches(shared.local, y)
        y = y + shared.feed_forward[1](y)
        features = decoder.features[t](torch.nn.functional.gelu(y).permute(2, 0, 1).unsqueeze(0))
        outputs[name] = decoder.logits[name](features)
    return outputs


@pytest.mark.parametrize("tasks", [ROOMS.tasks, ROOMS.tasks[:1], DATASETS["rooms_pascal"].tasks], ids=len)
def test_the_equations_image_by_image(tasks):
    """Also: no image feels its neighbours (in the published decoder a pixel attends to that pixel of other images)."""
    decoder, levels = build(tasks).eval(), maps(3)
    outputs = decoder(levels)
    for image in range(3):
        for name, expected in reference(decoder, [level[image : image + 1] for level in levels]).items():
            scale = expected.abs().max().item()
            torch.testing.assert_close(outputs[name][image : image + 1], expected, rtol=1e-9, atol=1e-9 * scale)


def test_queries_of_all_tasks_of_one_image_meet():
    torch.manual_seed(0)
    across, queries = CrossTaskAttention(DIM, 3).eval(), draw(3 * 2, QUERIES, DIM)
    changed = queries.clone()
    changed[2, 5] += 1  # task 1 of image 0
    differs = (across(queries) != across(changed)).any(-1).unflatten(0, (3, 2))
    assert differs[:, 0].float().mean() > 0.99, "nearly each query of that image, rounding apart"
    assert not differs[:, 1].any(), "none of the other image"


def test_pixels_look_around_in_their_patch_only():
    torch.manual_seed(0)
    decoder = SharedDecoder(DIM).eval()
    pixels, queries, positions = draw(2, 7, 10, DIM), draw(2, QUERIES, DIM, seed=1), draw(2, QUERIES, DIM, seed=2)
    changed = pixels.clone()
    changed[1, 5, 9] += 1
    differs = (decoder(pixels, queries, positions) != decoder(changed, queries, positions)).any(-1)
    expected = torch.zeros_like(differs)
    expected[1, PATCH:, 2 * PATCH :] = True
    assert torch.equal(differs, expected)


def test_branches_are_skipped_while_training_only():
    decoder, levels = build(), maps(1)
    for module in decoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    samples = [decoder(levels)["semseg"] for _ in range(3)]
    assert not torch.allclose(samples[0], samples[1]) or not torch.allclose(samples[0], samples[2])
    decoder.eval()
    assert torch.equal(decoder(levels)["semseg"], decoder(levels)["semseg"])


def unused_in_the_published_code(dim=256):
    """A 4x4 convolution with LayerNorm, a second attention, relative positions of a patch, a norm before a norm."""
    embedding = 16 * dim * dim + dim + 2 * dim
    attention = 3 * 2 * dim + 3 * dim * dim + dim * dim + dim
    positions = 2 * (2 * PATCH - 1) * dim // HEADS // 2
    return embedding + attention + positions + 2 * dim


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "params"),
    [("swin_t", 33.18), ("swin_s", 54.49), ("swin_b", 92.89), ("swin_l", 202.13), ("hrnet18", 8.32)],
)
def test_published_size(backbone, params):
    cost = network_cost(backbone, "mqtransformer", NYUD.tasks, image_size=(425, 560))
    assert (cost.params + unused_in_the_published_code()) / 1e6 == pytest.approx(params, abs=0.005)


@pytest.mark.usefixtures("in_float32")
def test_cost_is_linear_in_pixels():
    small, large = (
        network_cost("swin_t", "mqtransformer", NYUD.tasks, image_size=(height, 448)) for height in (224, 896)
    )
    assert large.products < 4 * small.products, "attention between all pixels would make it 16 times"
    assert large.macs < 4.01 * small.macs
    memory = activation_bytes("swin_t", "mqtransformer", NYUD.tasks, image_size=(425, 560), batch=8)
    assert memory / 2**30 < 21
