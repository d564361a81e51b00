"""Sums over ranks, and the gradients that DDP's average makes of them (law 3): python -m pytest tests/test_ranks.py"""

import numpy as np
import pytest
import torch
import torch.distributed as dist

from kdam_ray import ranks

VALUES = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])  # one row a rank


def averaged(gradient):
    """What DDP does to a gradient."""
    dist.all_reduce(gradient)
    return (gradient / dist.get_world_size()).numpy()


def identity():
    return ranks.rank(), ranks.world_size()


def plain_sums():
    mine = torch.tensor(VALUES[ranks.rank()])
    count = torch.tensor(ranks.rank() + 1)
    total, counted = ranks.all_sum(mine), ranks.all_sum(count)
    return total.numpy(), counted.item(), mine.numpy(), count.item()


def nested_ratio(scale, values):
    """Variance over all ranks' values of scale * value, divided by their mean: a sum of squares about a sum."""
    x = scale * values
    mean = ranks.all_sum(x.sum()) / ranks.all_sum(torch.tensor(float(len(values)), dtype=torch.float64))
    return ranks.all_sum((x.exp() - mean).square().sum()) / mean


def nested_on_rank():
    scale = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    loss = nested_ratio(scale, torch.tensor(VALUES[ranks.rank()]))
    loss.backward()
    return loss.item(), averaged(scale.grad)


def mean_on_rank(counts):
    weight = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64, requires_grad=True)
    kept = torch.tensor(VALUES[ranks.rank()])[: counts[ranks.rank()]]
    loss = ranks.global_mean((weight[: len(kept)] * kept).square().sum(), len(kept))
    loss.backward()
    return loss.item(), averaged(weight.grad)


def test_alone_a_sum_is_its_value():
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert ranks.all_sum(value) is value
    assert identity() == (0, 1)


@pytest.mark.parametrize(("total", "count", "expected"), [(6.0, 3, 2.0), (6.0, torch.tensor(4), 1.5), (0.0, 0, 0.0)])
def test_alone_a_mean_is_a_mean(total, count, expected):
    total = torch.tensor(total, requires_grad=True)
    mean = ranks.global_mean(total, count)
    mean.backward()
    assert mean.item() == expected
    assert total.grad.item() == pytest.approx(1 / max(int(count), 1))


def test_each_rank_knows_itself(two_ranks):
    assert two_ranks(identity) == [(0, 2), (1, 2)]


def test_sums_are_equal_on_both_ranks_and_leave_their_input_alone(two_ranks):
    for rank, (total, count, mine, my_count) in enumerate(two_ranks(plain_sums)):
        np.testing.assert_array_equal(total, VALUES.sum(0))
        np.testing.assert_array_equal(mine, VALUES[rank])
        assert (count, my_count) == (3, rank + 1)


def test_a_ratio_of_nested_sums_has_one_process_gradient(two_ranks):
    scale = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    loss = nested_ratio(scale, torch.tensor(VALUES.ravel()))
    loss.backward()
    for value, gradient in two_ranks(nested_on_rank):
        assert value == pytest.approx(loss.item(), rel=1e-12)
        assert gradient == pytest.approx(scale.grad.item(), rel=1e-12)


@pytest.mark.parametrize("counts", [(3, 3), (3, 1), (0, 2), (0, 0)])
def test_a_mean_weighs_items_not_ranks(two_ranks, counts):
    weight = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64, requires_grad=True)
    terms = [(weight[:n] * torch.tensor(row)[:n]).square() for row, n in zip(VALUES, counts, strict=True)]
    loss = torch.cat(terms).sum() / max(sum(counts), 1)
    loss.backward()
    for value, gradient in two_ranks(mean_on_rank, counts):
        assert value == pytest.approx(loss.item(), rel=1e-12)
        np.testing.assert_allclose(gradient, weight.grad.numpy(), rtol=1e-12)
