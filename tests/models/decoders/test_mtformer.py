"""MTFormer: windows, attention across tasks against a dense reference, its heads, and the printed size.

pytest tests/models/decoders/test_mtformer.py
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdam_ray.models import activation_bytes, network_cost
from kdam_ray.models.decoders.mtformer import (
    SHIFT,
    WINDOW,
    ClassHead,
    CrossTaskBlock,
    DepthHead,
    MTFormer,
    SwinBlock,
    Windows,
)
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

pytestmark = pytest.mark.usefixtures("in_float64")

NYUD, ROOMS = DATASETS["nyud"], DATASETS["rooms"]
TWO = (NYUD.task("semseg"), NYUD.task("depth"))
CHANNELS, DIM, SIZE = (4, 6, 8, 10), 8, (16, 19)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps(seed=0):
    return [draw(2, width, -(-SIZE[0] // 2**k), -(-SIZE[1] // 2**k), seed=seed + k) for k, width in enumerate(CHANNELS)]


def shaken(module, seed=0):
    """Every parameter away from its start, norms and biases among them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def build(tasks, seed=0):
    torch.manual_seed(seed)
    return MTFormer(CHANNELS, tasks, replace(BACKBONES["resnet_w8"], dim=DIM))


def dense_attention(module, source, target, shift):
    """`WindowAttention` over the whole map, pair of pixels by pair of pixels: [B, h, w, C] and the same -> the same."""
    height, width = source.shape[1:3]
    place = [(row, column) for row in range(height) for column in range(width)]

    def window(side, at):  # shifted windows start at `shift` and do not reach around the border
        whole = -(-side // WINDOW) * WINDOW
        return at < shift, (at - shift) % whole // WINDOW

    windows = [(window(height, row), window(width, column)) for row, column in place]
    bias = torch.full((4, len(place), len(place)), -torch.inf)
    for i, (row, column) in enumerate(place):
        for j, (other_row, other_column) in enumerate(place):
            if windows[i] == windows[j]:
                bias[:, i, j] = module.bias[
                    (row - other_row + WINDOW - 1) * (2 * WINDOW - 1) + column - other_column + WINDOW - 1
                ]
    query, key, value = (
        layer(x.flatten(1, 2)).unflatten(-1, (4, -1))
        for layer, x in ((module.query, source), (module.key, source), (module.value, target))
    )
    scores = torch.einsum("bihd,bjhd->bhij", query, key) / query.shape[-1] ** 0.5 + bias
    attended = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), value).flatten(2)
    return module.output(attended).view_as(source)


@pytest.mark.parametrize("shift", [0, SHIFT])
@pytest.mark.parametrize("size", [(7, 7), (1, 3), (9, 20), (14, 18)])
def test_windows_are_put_together_as_they_were(size, shift):
    x = draw(2, *size, 3)
    windows = Windows(size, shift)
    assert windows.cut(x).shape == (2, windows.count[0] * windows.count[1], 49, 3)
    assert torch.equal(windows.join(windows.cut(x)), x)


@pytest.mark.parametrize("shift", [0, SHIFT])
@pytest.mark.parametrize("size", [(9, 10), (7, 14), (3, 5)])
def test_a_swin_block_is_attention_within_windows_of_the_map_alone(size, shift):
    """Neither padding nor the opposite border is attended to."""
    torch.manual_seed(0)
    block = shaken(SwinBlock(DIM, shift))
    x = draw(2, *size, DIM)
    with torch.no_grad():
        normed = block.norm_attention(x)
        expected = x + dense_attention(block.attention, normed, normed, shift)
        expected = expected + block.mlp(block.norm_mlp(expected))
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("shift", [0, SHIFT])
def test_a_cross_task_block_takes_the_sources_scores_and_the_targets_values(shift):
    torch.manual_seed(0)
    block = shaken(CrossTaskBlock(DIM, shift, tasks=3))
    target, *others = (draw(2, 8, 9, DIM, seed=seed) for seed in range(3))
    with torch.no_grad():
        normed = block.norm_attention(target)
        attended = [
            dense_attention(block.attention, block.norm_attention(source), normed, shift)
            for source in (target, *others)
        ]
        read = [layer(y) for layer, y in zip(block.read, attended, strict=True)]
        assert [y.shape[-1] for y in read] == [DIM, DIM // 2, DIM // 2]
        expected = target + attended[0] + block.fuse(torch.cat(read, dim=-1))
        expected = expected + block.mlp(block.norm_mlp(expected))
        torch.testing.assert_close(block(target, others), expected)


def test_where_the_target_is_the_same_everywhere_other_tasks_change_nothing():
    block = shaken(CrossTaskBlock(DIM, SHIFT, tasks=2))
    flat = draw(2, 1, 1, DIM).expand(2, 9, 10, DIM)
    one, other, varied = (draw(2, 9, 10, DIM, seed=seed) for seed in (1, 2, 3))
    with torch.no_grad():
        torch.testing.assert_close(block(flat, [one]), block(flat, [other]))
        assert not torch.allclose(block(varied, [one]), block(varied, [other]), atol=1e-3)


@pytest.mark.parametrize("tasks", [ROOMS.tasks[:1], ROOMS.tasks[:2], ROOMS.tasks], ids=len)
def test_each_task_reads_all_others_and_one_alone_has_no_cross_task_layer(tasks):
    decoder = shaken(build(tasks))
    assert any("cross" in name for name, _ in decoder.named_parameters()) == (len(tasks) > 1)
    with torch.no_grad():
        before = decoder(maps())
        decoder.own[-1].norm.bias += draw(DIM)  # of the last task's own features
        after = decoder(maps())
    assert all(not torch.allclose(before[task.name], after[task.name], atol=1e-4) for task in tasks)


def test_tasks_that_swap_their_weights_swap_their_outputs():
    tasks = (ROOMS.task("semseg"), replace(ROOMS.task("semseg"), name="again"))
    decoder = shaken(build(tasks))
    with torch.no_grad():
        one = decoder(maps())
        for pair in (decoder.own, decoder.cross, decoder.heads):
            first, second = pair
            states = first.state_dict(), second.state_dict()
            states = [{key: value.clone() for key, value in state.items()} for state in states]
            first.load_state_dict(states[1]), second.load_state_dict(states[0])
        two = decoder(maps())
    torch.testing.assert_close(one["semseg"], two["again"])
    torch.testing.assert_close(one["again"], two["semseg"])
    assert not torch.allclose(one["semseg"], one["again"])


def test_the_finest_level_takes_part():
    """As published it does not, and the last layers of a backbone that only feed it would never get a gradient."""
    levels = maps()
    levels[0].requires_grad_()
    build(TWO).train()(levels)["depth"].square().sum().backward()
    assert levels[0].grad.abs().sum() > 0


def test_depth_has_the_depth_head():
    heads = build(ROOMS.tasks).heads
    assert [type(head) for head in heads] == [ClassHead, DepthHead, ClassHead, ClassHead]
    x = draw(2, DIM, 4, 5)
    first, _, last = heads[1].predict
    halved = heads[1].halve(x)
    expected = last(F.relu(first(F.interpolate(halved, size=(8, 9), mode="bilinear"))))
    torch.testing.assert_close(heads[1](x, (8, 9)), expected)
    assert (expected < 0).any(), "no ReLU at the end"


def test_relative_biases_are_those_of_displacements():
    torch.manual_seed(0)
    attention = SwinBlock(DIM, 0).attention
    nn.init.normal_(attention.bias)
    bias = attention.relative_bias()
    assert torch.equal(bias[:, 0, 8], bias[:, 1, 9])  # one down, one right
    assert torch.equal(bias[:, 0, 8], attention.bias[(WINDOW - 2) * (2 * WINDOW - 1) + WINDOW - 2])
    assert not torch.equal(bias[:, 0, 8], bias[:, 8, 0])


@pytest.mark.slow
def test_size_is_the_printed_one_with_what_the_published_code_never_calls():
    """64.03 M: three patch embeddings (4x4 convolution, norm) come on top of ours, the finest level's channels go."""
    cost = network_cost("swin_s", "mtformer", TWO, image_size=(425, 560))
    unused, finest = 3 * (16 * 256 * 256 + 3 * 256), 96 * 256
    assert cost.params / 1e6 == pytest.approx(60.907, abs=5e-4)
    assert (cost.params + unused - finest) / 1e6 == pytest.approx(64.03, abs=5e-3)
    assert cost.macs / 1e9 == pytest.approx(91.34, rel=1e-3)
    assert cost.products / 1e9 == pytest.approx(2.53, rel=1e-2)


@pytest.mark.slow
def test_memory_grows_with_the_map_not_with_its_square():
    small, large = (
        activation_bytes("resnet_w16", "mtformer", NYUD.tasks, image_size=(224, side), batch=1) for side in (448, 896)
    )
    assert large == pytest.approx(2 * small, rel=0.05)
