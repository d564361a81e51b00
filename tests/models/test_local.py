"""Attention over windows against `unfold`, which holds every window's channels.

pytest tests/models/test_local.py
"""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from kdam_ray.models.local import (
    inside,
    local_aggregate,
    local_attention,
    local_similarity,
    local_spread,
    window_softmax,
)

SIZES = [(1, 4, 5), (3, 4, 5), (5, 3, 7), (9, 4, 6)]  # window (larger than the map, too), height, width


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unfolded(x, size):
    """[B, C, h, w] -> [B, C, k^2, h, w], zeros outside."""
    return F.unfold(x, size, padding=size // 2).unflatten(1, (x.shape[1], size * size)).unflatten(3, x.shape[2:])


@pytest.mark.parametrize(("size", "height", "width"), SIZES)
def test_operators_equal_unfold(size, height, width):
    query, key, weights = (
        draw(2, 3, height, width),
        draw(2, 3, height, width, seed=1),
        draw(2, size * size, height, width, seed=2),
    )
    torch.testing.assert_close(local_similarity(query, key, size), (query.unsqueeze(2) * unfolded(key, size)).sum(1))
    torch.testing.assert_close(local_aggregate(weights, key, size), (weights.unsqueeze(1) * unfolded(key, size)).sum(2))
    windows = (weights.unsqueeze(1) * query.unsqueeze(2)).flatten(1, 2).flatten(2)
    torch.testing.assert_close(
        local_spread(weights, query, size), F.fold(windows, (height, width), size, padding=size // 2)
    )


@pytest.mark.parametrize(("size", "height", "width"), SIZES)
def test_attention_leaves_out_what_lies_outside_the_image(size, height, width):
    query, key, value = (draw(2, channels, height, width, seed=channels) for channels in (3, 3, 4))
    real = unfolded(torch.ones(1, 1, height, width, dtype=torch.float64), size)[:, 0].bool()
    assert torch.equal(inside(size, height, width), real[0])
    scores = (query.unsqueeze(2) * unfolded(key, size)).sum(1) / 3**0.5
    weights = scores.exp() * real / (scores.exp() * real).sum(1, keepdim=True)
    expected = (weights.unsqueeze(1) * unfolded(value, size)).sum(2)
    if size == 1:
        torch.testing.assert_close(expected, value)
    torch.testing.assert_close(local_attention(query, key, value, size), expected)
    constant = local_attention(query, key, torch.ones_like(value), size)  # a mean of ones, at the border as well
    torch.testing.assert_close(constant, torch.ones_like(value))


@pytest.mark.parametrize("operator", [local_similarity, local_aggregate, local_spread])
def test_gradients_of_first_and_second_order(operator):
    left = draw(1, 2 if operator is local_similarity else 9, 3, 4).requires_grad_()
    right = draw(1, 2, 3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: operator(x, y, 3), (left, right))
    assert torch.autograd.gradgradcheck(lambda x, y: operator(x, y, 3), (left, right))


def test_attention_has_the_gradient_of_its_equation():
    maps = [draw(1, 2, 3, 4, seed=seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(lambda *x: local_attention(*x, 3), maps)


@pytest.mark.parametrize("operator", [local_similarity, local_aggregate, local_spread])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_operators_are_sound_for_torch(operator, layout):
    """No aliasing, fake tensors like the real ones, autograd registered: torch's own checks."""
    left = (
        draw(2, 2 if operator is local_similarity else 9, 4, 5, dtype=torch.float32)
        .to(memory_format=layout)
        .requires_grad_()
    )
    right = draw(2, 2, 4, 5, dtype=torch.float32, seed=1).to(memory_format=layout).requires_grad_()
    torch.library.opcheck(operator, (left, right, 3))


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="odd side, not 4"):
        local_similarity(draw(1, 2, 3, 4), draw(1, 2, 3, 4), 4)


def test_bf16_is_rounded_once():
    """Sums are in float32.

    The result is the bf16 nearest to that of the same numbers in float64 (a unit in the last place).
    """
    query, key = draw(1, 33, 6, 7, dtype=torch.bfloat16), draw(1, 33, 6, 7, dtype=torch.bfloat16, seed=1)
    weights = window_softmax(draw(1, 81, 6, 7, dtype=torch.bfloat16, seed=2), 9)
    assert weights.dtype == torch.float32
    for ours, exact in (
        (local_similarity(query, key, 9), local_similarity(query.double(), key.double(), 9)),
        (local_aggregate(weights, key, 9), local_aggregate(weights.double(), key.double(), 9)),
        (local_spread(weights, key, 9), local_spread(weights.double(), key.double(), 9)),
    ):
        assert ours.dtype == torch.bfloat16
        torch.testing.assert_close(ours.double(), exact, rtol=2**-8, atol=1e-5)
    mixed = query.clone().requires_grad_(), key.clone().requires_grad_()
    local_attention(*mixed, key, 9).float().square().mean().backward()
    assert all(x.grad.dtype == torch.bfloat16 and x.grad.isfinite().all() for x in mixed)


def test_a_window_keeps_scores_not_channels():
    """What the backward needs: 2 maps of scores (masked, their softmax) and the inputs, never k^2 C numbers a pixel."""
    query, key, value = (draw(2, 16, 6, 8, dtype=torch.float32, seed=seed).requires_grad_() for seed in range(3))
    kept = {}
    with saved_tensors_hooks(lambda x: kept.setdefault(x.untyped_storage().data_ptr(), x), lambda x: x):
        local_attention(query, key, value, 5)
    pixels = 2 * 6 * 8
    assert sum(x.numel() for x in kept.values() if x.dtype == torch.float32) <= pixels * (3 * 16 + 2 * 25)


def test_the_counter_sees_products_on_meta():
    x = torch.empty(2, 7, 6, 8, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        y = local_attention(x, x, x, 5)
        forward = counter.get_total_flops()
        y.sum().backward()
    one = 2 * (2 * 7 * 6 * 8) * 25
    assert forward == 2 * one
    assert counter.get_total_flops() == 6 * one
