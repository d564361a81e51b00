"""DeMT: deformable sampling and attention across tasks against loops, what may see what, and the printed size.

pytest tests/models/decoders/test_demt.py
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from kdam_ray.models import activation_bytes, network_cost
from kdam_ray.models.decoders.demt import NEIGHBOURS, DeformableConv, DeMT, TaskInteraction, coordinates, sample_moved
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

pytestmark = pytest.mark.usefixtures("in_float64")

NYUD, ROOMS = DATASETS["nyud"], DATASETS["rooms"]
CHANNELS, SIZE = (4, 6, 8, 10), (9, 11)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps(count=2, seed=0):
    return [
        draw(count, width, -(-SIZE[0] // 2**k), -(-SIZE[1] // 2**k), seed=seed + k) for k, width in enumerate(CHANNELS)
    ]


def build(tasks=ROOMS.tasks, seed=0):
    torch.manual_seed(seed)
    return DeMT(CHANNELS, tasks, replace(BACKBONES["resnet_w8"], dim=8))


def at(plane, y, x):
    """One bilinear sample of a plane [h, w], zero beyond it."""
    total = 0.0
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * plane[i, j].item()
    return total


@pytest.mark.parametrize("size", [(4, 5), (1, 3), (1, 1)])
def test_each_channel_is_read_at_a_place_of_its_own(size):
    x, dy, dx = draw(2, 3, *size), 2 * draw(2, 3, *size, seed=1), 2 * draw(2, 3, *size, seed=2)
    moved = sample_moved(x, dy, dx)
    for b, c, i, j in torch.cartesian_prod(*(torch.arange(n) for n in moved.shape)).tolist():
        expected = at(x[b, c], i + dy[b, c, i, j].item(), j + dx[b, c, i, j].item())
        assert moved[b, c, i, j].item() == pytest.approx(expected, abs=1e-9)


def test_dy_is_down_and_dx_is_to_the_right():
    x, still = draw(1, 2, 5, 6), torch.zeros(1, 2, 5, 6)
    torch.testing.assert_close(sample_moved(x, still, still), x)
    torch.testing.assert_close(sample_moved(x, still + 2, still)[..., :3, :], x[..., 2:, :])
    torch.testing.assert_close(sample_moved(x, still, still - 1)[..., 1:], x[..., :-1])
    assert not sample_moved(x, still + 5, still).any(), "beyond the border there is nothing"


@pytest.mark.usefixtures("in_float32")
def test_a_bfloat16_offset_moves_the_last_column_as_far_as_the_first():
    ramp = torch.arange(140.0).expand(1, 1, 2, 140)
    move = torch.full((1, 1, 2, 140), -0.375, dtype=torch.bfloat16)
    moved = sample_moved(ramp.bfloat16().float(), torch.zeros_like(move), move)
    torch.testing.assert_close(moved[..., 1:], ramp[..., 1:] - 0.375, rtol=0, atol=1e-4)


def test_coordinates_are_of_the_map_whatever_its_size():
    small, large = coordinates(torch.empty(1, 1, 4, 6)), coordinates(torch.empty(1, 1, 12, 18))
    assert small.shape == (2 * NEIGHBOURS, 4, 6)
    torch.testing.assert_close(small, large[:, 1::3, 1::3])
    torch.testing.assert_close(small[0, :, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    assert (small[:NEIGHBOURS] == small[0]).all()
    assert (small[NEIGHBOURS:] == small[-1]).all()
    assert (small[0] == small[0, :, :1]).all(), "the first half are rows"
    assert (small[-1] == small[-1, :1]).all(), "the second half are columns"


@pytest.mark.parametrize("size", [(12, 16), (107, 140)])
def test_untrained_offsets_are_small_and_know_rows_and_columns(size):
    torch.manual_seed(0)
    conv = DeformableConv(16)
    offsets = conv.spread(conv.offsets(draw(1, 16, *size)) + coordinates(torch.empty(1, 1, *size))).detach()
    assert offsets.abs().max() < 4, "pixels, whatever the size of the map"
    dy, dx = offsets[0, :, 1:-1, 1:-1].chunk(2)  # at the border the convolution also sees its own zeros
    torch.testing.assert_close(dy, dy[:, :, :1].expand_as(dy), rtol=0, atol=1e-9)
    torch.testing.assert_close(dx, dx[:, :1].expand_as(dx), rtol=0, atol=1e-9)
    assert (dy[:, 0] - dy[:, -1]).abs().min() > 1e-4
    assert (dx[:, :, 0] - dx[:, :, -1]).abs().min() > 1e-4


def test_a_deformable_convolution_mixes_what_it_sampled():
    torch.manual_seed(0)
    conv = DeformableConv(4)
    nn.init.normal_(conv.offsets.weight)
    x = draw(2, 4, *SIZE)
    dy, dx = conv.spread(conv.offsets(x) + coordinates(x)).chunk(2, dim=1)
    expected = torch.einsum("oi,bihw->bohw", conv.weight.weight[:, :, 0, 0], sample_moved(x, dy, dx))
    torch.testing.assert_close(conv(x), expected + conv.weight.bias[:, None, None])


def interaction(tasks=3, dim=8):
    torch.manual_seed(0)
    return TaskInteraction(dim, tasks)


def attended(attention, query, keys, heads=4):
    """[C], [T, C] -> [C], head by head."""
    q, k, v = attention.query(query), attention.key(keys), attention.value(keys)
    width = len(q) // heads
    parts = [slice(head * width, (head + 1) * width) for head in range(heads)]
    return attention.out(
        torch.cat([torch.softmax(k[:, part] @ q[part] / width**0.5, 0) @ v[:, part] for part in parts])
    )


def test_interaction_pixel_by_pixel():
    module, tokens = interaction(), draw(5, 3, 8)
    for pixel, output in zip(tokens, module(tokens), strict=True):
        fused = module.fused(torch.stack([attended(module.fusion, token, pixel) for token in pixel]))
        for t, token in enumerate(pixel):
            expected = token + module.answers[t](attended(module.queries[t], token, fused))
            torch.testing.assert_close(output[t], expected)


def test_tasks_mix_at_a_pixel_and_pixels_do_not():
    module, tokens = interaction(), draw(5, 3, 8)
    changed = tokens.clone()
    changed[2, 1] += 1
    differs = (module(tokens) != module(changed)).any(-1)
    assert differs.nonzero()[:, 0].unique().tolist() == [2], "only at that pixel (of whatever image)"
    assert differs[2].all(), "there for all tasks"


def test_no_task_is_special():
    module, tokens = interaction(), draw(5, 3, 8)
    expected = module(tokens)[:, [2, 0, 1]]
    module.queries = nn.ModuleList([module.queries[t] for t in (2, 0, 1)])
    module.answers = nn.ModuleList([module.answers[t] for t in (2, 0, 1)])
    torch.testing.assert_close(module(tokens[:, [2, 0, 1]]), expected)


def test_each_image_by_itself():
    """In the published code an image attends to its neighbours in the batch."""
    decoder, levels = build().eval(), maps(3)
    together = decoder(levels)
    for image in range(3):
        alone = decoder([level[image : image + 1] for level in levels])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][image : image + 1], value)


def test_every_task_depends_on_every_mixer_but_a_task_alone_has_no_interaction():
    decoder, levels = build().eval(), maps()
    before = decoder(levels)
    with torch.no_grad():
        decoder.mixers[0].mix_channels[0].bias.add_(1)
    assert all(not torch.allclose(before[name], value, rtol=0, atol=1e-6) for name, value in decoder(levels).items())
    alone = build(ROOMS.tasks[:1])
    assert not [name for name, _ in alone.named_parameters() if "interaction" in name]


# published code, measured; GMACs as counted there: one key and one value a query, no deformable weight
@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "params"),
    [("swin_t", 32.070), ("swin_s", 53.39), ("swin_b", 91.97), ("swin_l", 201.58), ("hrnet18", 6.75)],
)
def test_printed_size(backbone, params):
    cost = network_cost(backbone, "demt", NYUD.tasks, image_size=(425, 560))
    assert cost.params / 1e6 == pytest.approx(params, abs=0.005)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.slow
def test_printed_cost():
    cost = network_cost("swin_t", "demt", NYUD.tasks, image_size=(425, 560))
    projection = 107 * 140 * 256 * 256 / 1e9
    further_keys_and_values, deformable = 4 * 2 * (4 - 1) * projection, 4 * projection
    assert cost.macs / 1e9 - further_keys_and_values - deformable == pytest.approx(100.7, rel=5e-3)
    assert cost.products / 1e9 == pytest.approx(0.95, abs=0.01)
    memory = activation_bytes("swin_t", "demt", NYUD.tasks, image_size=(425, 560), batch=8)
    assert memory / 2**30 < 20
