"""Divergences: hand values, numpy references, law 4: python -m pytest tests/losses/test_divergences.py"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdam_ray.losses import cs_divergence, kl_divergence, pearson_distance

TEACHER = (0.6, 0.3, 0.1)
ONE_HOT = (1.0, 0.0, 0.0)


def kl_of_probabilities(p, q, *, dim):
    return kl_divergence(p.log(), q.log(), dim=dim)


DIVERGENCES = {"cs": cs_divergence, "kl": kl_of_probabilities, "pearson": pearson_distance}
every_divergence = pytest.mark.parametrize("name", DIVERGENCES)


def naive(name, p, q):
    """One distribution, numpy float64, from the definitions."""
    if name == "cs":
        return -np.log((p @ q) / np.sqrt((p @ p) * (q @ q)))
    if name == "kl":
        return sum(b * (np.log(b) - np.log(a)) for a, b in zip(p, q, strict=True) if b > 0)
    return 1 - np.corrcoef(p, q)[0, 1]


def distributions(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype).mul(2).softmax(-1)


def exact(*shape, seed):
    """Two ways to the same number are compared in float64, where no processor's order of sums decides."""
    return distributions(*shape, seed=seed, dtype=torch.float64)


@pytest.mark.parametrize(
    ("student", "literal", "expected"),
    [(TEACHER, False, 0.0), (ONE_HOT, False, 0.1226), (TEACHER, True, 0.7765), (ONE_HOT, True, 0.5108)],
)
def test_cs_by_hand(student, literal, expected):
    # -ln(.46 / .46) = 0; -ln(.6 / sqrt(.46)); as printed -ln(.46); -ln(.6)
    value = cs_divergence(torch.tensor(student), torch.tensor(TEACHER), dim=0, literal=literal)
    assert value.item() == pytest.approx(expected, abs=1e-4)


def test_kl_by_hand():
    # .5 ln(.5 / .25) + .5 ln(.5 / .75); its first argument is the student, so the other order differs
    p, q = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])
    assert kl_divergence(p.log(), q.log(), dim=0).item() == pytest.approx(0.143841, abs=1e-6)
    assert kl_divergence(q.log(), p.log(), dim=0).item() == pytest.approx(0.130812, abs=1e-6)


@pytest.mark.parametrize(
    ("student", "expected"),
    [
        ((1.0, 2.0, 3.0), 0.0),
        ((5.0, 7.0, 9.0), 0.0),
        ((3.0, 2.0, 1.0), 2.0),
        ((1.0, 4.0, 1.0), 1.0),
        ((2.0, 2.0, 2.0), 1.0),
    ],
)
def test_pearson_by_hand(student, expected):
    value = pearson_distance(torch.tensor(student), torch.tensor([1.0, 2.0, 3.0]), dim=0)
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_a_constant_is_not_far_from_itself():
    constant = torch.full((7,), 0.3, requires_grad=True)
    distance = pearson_distance(constant, torch.full((7,), 0.3), dim=0)
    distance.backward()
    assert distance.item() == 0
    assert constant.grad.abs().max() < 1e-6


@every_divergence
def test_one_distribution_gives_one_number(name):
    p, q = distributions(2, 5)
    assert DIVERGENCES[name](p, q, dim=0).shape == ()


@every_divergence
def test_a_batch_is_its_items_and_equals_the_definition(name):
    p, q = distributions(4, 6, 5, seed=1), distributions(4, 6, 5, seed=2)
    value = DIVERGENCES[name](p, q, dim=-1)
    assert value.shape == (4, 6)
    expected = [
        [naive(name, a, b) for a, b in zip(*rows, strict=True)]
        for rows in zip(p.double().numpy(), q.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)  # float32 sums of five terms
    p, q = p.double(), q.double()
    torch.testing.assert_close(DIVERGENCES[name](p[1, 2], q[1, 2], dim=0), DIVERGENCES[name](p, q, dim=-1)[1, 2])


@every_divergence
def test_leaving_items_out_changes_no_other(name):
    p, q = exact(20, 5, seed=3), exact(20, 5, seed=4)
    mask = torch.arange(20) % 3 == 0
    torch.testing.assert_close(DIVERGENCES[name](p[mask], q[mask], dim=1), DIVERGENCES[name](p, q, dim=1)[mask])


@pytest.mark.parametrize("name", ["cs", "kl"])
def test_an_outcome_that_neither_has_changes_nothing(name):
    p, q = exact(20, 5, seed=3), exact(20, 5, seed=4)
    padded = [torch.cat((x, torch.zeros(20, 2)), 1) for x in (p, q)]
    torch.testing.assert_close(DIVERGENCES[name](*padded, dim=1), DIVERGENCES[name](p, q, dim=1))


@every_divergence
@pytest.mark.parametrize("dim", [0, 1, -2])
def test_an_axis_is_a_moved_axis(name, dim):
    p, q = exact(3, 4, 5, seed=5), exact(3, 4, 5, seed=6)
    moved = DIVERGENCES[name](p.movedim(dim, -1), q.movedim(dim, -1), dim=-1)
    torch.testing.assert_close(DIVERGENCES[name](p, q, dim=dim), moved)


@every_divergence
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_in_float32_arithmetic(name, dtype):
    p, q = (distributions(8, 64, seed=seed).to(dtype) for seed in (7, 8))
    if name == "kl":
        p, q = p.log(), q.log()
    function = kl_divergence if name == "kl" else DIVERGENCES[name]
    value = function(p, q, dim=1)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, function(p.float(), q.float(), dim=1), rtol=0, atol=0)


@every_divergence
@pytest.mark.parametrize("double", [0, 1])
def test_where_one_is_float64_both_are(name, double):
    p, q = distributions(8, 64, seed=7), distributions(8, 64, seed=8)
    if name == "kl":
        p, q = p.log(), q.log()
    function = kl_divergence if name == "kl" else DIVERGENCES[name]
    value = function(*(x.double() if which == double else x for which, x in enumerate((p, q))), dim=1)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, function(p.double(), q.double(), dim=1), rtol=0, atol=0)


@every_divergence
def test_gradients_are_those_of_finite_differences(name):
    p, q = distributions(3, 4, seed=9).double().requires_grad_(), distributions(3, 4, seed=10).double()
    assert torch.autograd.gradcheck(lambda x: DIVERGENCES[name](x, q, dim=1), (p,))


weights = hnp.arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32) | st.sampled_from((0.0, 1.0)))


def normalised(w):
    """Rows that sum to one, zeros kept; an empty row becomes one-hot."""
    w = torch.from_numpy(w.copy())
    w[:, 0] += w.sum(1) < 1e-3
    return w / w.sum(1, keepdim=True)


@every_divergence
@settings(max_examples=150, deadline=None)
@given(p=weights, q=weights)
def test_law_4_not_negative_and_finite_with_zero_probabilities(name, p, q):
    p, q = normalised(p).requires_grad_(), normalised(q)
    value = DIVERGENCES[name](p, q, dim=1)
    assert (value >= 0).all()
    assert value.isfinite().all()
    if name == "kl":  # the gradient by the logarithm, which is what it is a function of: ln 0 has none
        log_p = p.detach().log().requires_grad_()
        (gradient,) = torch.autograd.grad(kl_divergence(log_p, q.log(), dim=1).sum(), log_p)
    else:
        (gradient,) = torch.autograd.grad(value.sum(), p)
    assert gradient.isfinite().all()


@every_divergence
@settings(max_examples=150, deadline=None)
@given(p=weights)
def test_law_4_zero_at_equality(name, p):
    p = normalised(p)
    # kl and cs subtract equal numbers; pearson divides x by sqrt(x * x), which may round
    assert DIVERGENCES[name](p, p.clone(), dim=1).max().item() <= (2e-7 if name == "pearson" else 0)


@settings(max_examples=100, deadline=None)
@given(p=weights, scale=st.floats(0.01, 100))
def test_cs_is_zero_for_proportional_weights(p, scale):
    p = normalised(p)
    assert cs_divergence(scale * p, p, dim=1).max().item() < 1e-5  # float32 logarithms of up to 1e4


@every_divergence
def test_different_distributions_are_apart(name):
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.6, 0.2, 0.2])
    assert DIVERGENCES[name](p, q, dim=0).item() > 1e-3


@every_divergence
def test_law_4_not_negative_where_rounding_decides(name):
    generator = torch.Generator().manual_seed(11)
    z = torch.randn(2000, 8, generator=generator)
    p, q = z.softmax(1), (z + 1e-4 * torch.randn(2000, 8, generator=generator)).softmax(1)
    value = DIVERGENCES[name](p, q, dim=1)
    assert (value >= 0).all()
    assert value.max().item() < 1e-6
