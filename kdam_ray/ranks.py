"""Sums over the ranks of a DDP group; the identity outside one.

Every ratio over the batch divides sums that have passed through here, so that two processes compute what one computes
(law 3 of the design). DDP averages gradients over ranks: `mean_over_ranks` is what makes a sum of per-rank terms come
out right under that average.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Ranks in the group; 1 outside one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 outside a group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _AllSum(torch.autograd.Function):
    """Forward: sum over ranks. Backward: the same sum of the gradients.

    Every rank computes the same function of the summed value, so each holds one copy of its gradient; summing the
    copies makes world_size times the true one, which DDP's average takes back. Where sums are nested the copies differ,
    so multiplying one of them would not do.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # type: ignore[override]
        value = value.contiguous().clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


def all_sum(value: Tensor) -> Tensor:
    """Sum of `value` over ranks, differentiable.

    Args:
        value: [...], the same shape on every rank.

    Returns:
        [...], equal on every rank. A loss that is a function of such sums alone has, after DDP's average, the gradient
        that one process holding the whole batch would compute.
    """
    if world_size() == 1:
        return value
    return _AllSum.apply(value) if value.requires_grad else _AllSum.forward(None, value)


def global_mean(total: Tensor, count: Tensor | int) -> Tensor:
    """Mean over all ranks' items: sum of totals / sum of counts (at least 1).

    Args:
        total: [], this rank's sum, differentiable, float32 or float64.
        count: [] or int, this rank's number of items, not differentiable.

    Returns:
        [], equal on every rank, with the gradient of one process that holds the whole batch (see `all_sum`).
    """
    return global_means([(total, count)])[0]


def global_means(sums: Sequence[tuple[Tensor, Tensor | int]]) -> list[Tensor]:
    """`global_mean` of each (total, count), in one exchange."""
    totals = [total for total, _ in sums]
    counts = [torch.as_tensor(count, dtype=total.dtype, device=total.device) for total, count in sums]
    if world_size() > 1 and sums:
        summed = all_sum(torch.stack([*totals, *counts])).unbind()
        totals, counts = list(summed[: len(sums)]), list(summed[len(sums) :])
    return [total / count.clamp_min(1) for total, count in zip(totals, counts, strict=True)]
