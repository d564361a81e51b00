"""Attention over the k x k window around each pixel, as three bilinear operators that are each other's derivatives.

With q_i, v_i, x_i the channels of pixel i and o one of the k^2 offsets of the window, row after row:

    similarity  s[o, i] = <q_i, k_(i+o)>                    (0 where i + o lies outside the image)
    aggregate   y_i = sum over o of w[o, i] v_(i+o)         (outside: left out)
    spread      y_(i+o) = sum over o of w[o, i] x_i         (the transpose of aggregate; outside: lost)

Each loops over the offsets and keeps nothing but its two inputs, so a window costs k^2 numbers a pixel, not k^2 C, and
no offset has a padded gradient of its own. They are operators of their own to autograd, to meta tensors and to the
counter of `models.cost`: B k^2 C h w multiply-accumulates each, products of activations. Sums are in float32 at least,
results in the type of the map that they continue. Plain torch: any device, deterministic, differentiable any number of
times.

Legend of shapes: B images, C channels, k: side of the window (odd), h x w: size of the map.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula


def local_attention(query: Tensor, key: Tensor, value: Tensor, size: int) -> Tensor:
    """softmax over the window of <q_i, k_j> / sqrt(C), times v_j.

    A window that reaches over the border is cut there: what lies outside takes no share of the softmax. (ATRC's and
    other CUDA operators give it a logit of zero and a value of zero, which damps attention near the border.)

    Args:
        query: [B, C, h, w].
        key: [B, C, h, w].
        value: [B, D, h, w].
        size: k.

    Returns:
        [B, D, h, w], type of `value`.
    """
    scores = local_similarity(query, key, size) * query.shape[1] ** -0.5
    return local_aggregate(window_softmax(scores, size), value, size)


def window_softmax(scores: Tensor, size: int) -> Tensor:
    """Softmax over each window, pixels outside the image excluded.

    Args:
        scores: [B, k^2, h, w].
        size: k.

    Returns:
        [B, k^2, h, w], float32 at least (so under autocast too), 0 outside the image; sums over dim 1 are 1.
    """
    outside = ~inside(size, scores.shape[-2], scores.shape[-1], device=scores.device)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return scores.masked_fill(outside, float("-inf")).softmax(1)


def inside(size: int, height: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """Which pixels of each window are pixels of the image: bool [k^2, h, w]."""
    offsets = torch.arange(size, device=device) - size // 2
    rows, columns = (torch.arange(length, device=device) + offsets[:, None] for length in (height, width))
    rows, columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)


def _windows(size: int, height: int, width: int) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """(index of the offset, where a map padded by size // 2 is shifted by it)."""
    for offset in range(size * size):
        y, x = divmod(offset, size)
        yield offset, (slice(None), slice(None), slice(y, y + height), slice(x, x + width))


def _padded(x: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    return F.pad(x.to(dtype), (size // 2,) * 4)


def _sum_type(left: Tensor, right: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(left.dtype, right.dtype), torch.float32)


def _check(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"a window has an odd side, not {size}")


@torch.library.custom_op("kdam_ray::local_similarity", mutates_args=())
def local_similarity(query: Tensor, key: Tensor, size: int) -> Tensor:
    """s[o, i] = <q_i, k_(i+o)>: [B, C, h, w] twice -> [B, k^2, h, w], type of `query`."""
    _check(size)
    (batch, _, height, width), dtype = query.shape, _sum_type(query, key)
    query_sum, padded = query.to(dtype), _padded(key, size, dtype)
    scores = query.new_empty(batch, size * size, height, width)
    for offset, window in _windows(size, height, width):
        scores[:, offset] = (query_sum * padded[window]).sum(1)
    return scores


@torch.library.custom_op("kdam_ray::local_aggregate", mutates_args=())
def local_aggregate(weights: Tensor, value: Tensor, size: int) -> Tensor:
    """y_i = sum over o of w[o, i] v_(i+o): [B, k^2, h, w] and [B, C, h, w] -> [B, C, h, w], type of `value`."""
    _check(size)
    (_, _, height, width), dtype = value.shape, _sum_type(weights, value)
    weights_sum, padded = weights.to(dtype), _padded(value, size, dtype)
    total = torch.zeros_like(value, dtype=dtype)
    for offset, window in _windows(size, height, width):
        total.addcmul_(weights_sum[:, offset : offset + 1], padded[window])
    return _result(total, value)


@torch.library.custom_op("kdam_ray::local_spread", mutates_args=())
def local_spread(weights: Tensor, x: Tensor, size: int) -> Tensor:
    """y_(i+o) = sum over o of w[o, i] x_i: [B, k^2, h, w] and [B, C, h, w] -> [B, C, h, w], type of `x`."""
    _check(size)
    (_, _, height, width), dtype = x.shape, _sum_type(weights, x)
    weights_sum, x_sum = weights.to(dtype), x.to(dtype)
    total = torch.zeros_like(_padded(x, size, dtype))
    for offset, window in _windows(size, height, width):
        total[window].addcmul_(weights_sum[:, offset : offset + 1], x_sum)
    margin = size // 2
    return _result(total[:, :, margin : margin + height, margin : margin + width], x)


def _result(total: Tensor, like: Tensor) -> Tensor:
    """A tensor of its own (an operator must not return its input or a view), in the type and layout of `like`."""
    return torch.empty_like(like).copy_(total)


@local_similarity.register_fake
def _(query: Tensor, key: Tensor, size: int) -> Tensor:
    return query.new_empty(query.shape[0], size * size, *query.shape[2:])


@local_aggregate.register_fake
@local_spread.register_fake
def _(weights: Tensor, x: Tensor, size: int) -> Tensor:
    return torch.empty_like(x)


_Derivative = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # (gradient, left, right, size)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    left, right, ctx.size = inputs
    ctx.save_for_backward(left, right)


def _differentiate(operator: Any, to_left: _Derivative, to_right: _Derivative) -> None:
    """Tells autograd the derivatives of an operator by its two maps, each in the type of its map."""

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        for_left = to_left(gradient, left, right, ctx.size).to(left.dtype) if ctx.needs_input_grad[0] else None
        for_right = to_right(gradient, left, right, ctx.size).to(right.dtype) if ctx.needs_input_grad[1] else None
        return for_left, for_right, None

    operator.register_autograd(backward, setup_context=_keep)


_differentiate(
    local_similarity,
    to_left=lambda gradient, query, key, size: local_aggregate(gradient, key, size),
    to_right=lambda gradient, query, key, size: local_spread(gradient, query, size),
)
_differentiate(
    local_aggregate,
    to_left=lambda gradient, weights, value, size: local_similarity(gradient, value, size),
    to_right=lambda gradient, weights, value, size: local_spread(weights, gradient, size),
)
_differentiate(
    local_spread,
    to_left=lambda gradient, weights, x, size: local_similarity(x, gradient, size),
    to_right=lambda gradient, weights, x, size: local_aggregate(weights, gradient, size),
)


@register_flop_formula(
    [torch.ops.kdam_ray.local_similarity, torch.ops.kdam_ray.local_aggregate, torch.ops.kdam_ray.local_spread]
)
def _flops(left: torch.Size, right: torch.Size, size: int, *_: Any, **__: Any) -> int:
    """Two a multiply-accumulate, as torch counts; `right` is the map with C channels."""
    return 2 * size * size * right.numel()
