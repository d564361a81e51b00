"""Paired differences against scipy's own tests: python -m pytest tests/report/test_significance.py"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdam_ray.report.significance import holm, paired

FIRST = {0: 12.1, 1: 12.9, 2: 11.8, 3: 13.0, 4: 12.2}
SECOND = {0: 11.7, 1: 12.3, 2: 12.0, 3: 12.1, 4: 11.9, 9: 50.0}


def test_it_is_scipys_paired_t_test_over_the_shared_seeds():
    found = paired(FIRST, SECOND)
    expected = stats.ttest_rel(list(FIRST.values()), [SECOND[seed] for seed in FIRST])
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.pairs == 5
    assert found.mean == pytest.approx(0.4)


def test_the_other_way_round_it_is_the_other_sign():
    one, other = paired(FIRST, SECOND), paired({seed: SECOND[seed] for seed in FIRST}, FIRST)
    assert (other.mean, other.low, other.high, other.p) == pytest.approx((-one.mean, -one.high, -one.low, one.p))


def test_one_pair_resolves_nothing_and_none_is_none():
    alone = paired({0: 2.0}, {0: 1.0})
    assert (alone.mean, alone.low, alone.high, alone.p, alone.pairs) == (1.0, None, None, None, 1)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_what_is_not_finite_is_no_pair():
    assert paired(FIRST | {5: math.nan}, SECOND | {5: 1.0}) == paired(FIRST, SECOND)
    assert paired({0: math.nan}, {0: 1.0}) is None


def test_equal_differences():
    """No spread is no estimate of chance: p = 0 from two pairs would be a lie."""
    for first, second, mean in (
        ({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}, 0.0),
        ({0: 70.001, 1: 12.001}, {0: 70.0, 1: 12.0}, 0.001),
        ({0: 0.9, 1: 1.9, 2: 0.4}, {0: 1.0, 1: 2.0, 2: 0.5}, -0.1),
    ):
        found = paired(first, second)
        assert (found.p, found.low, found.high) == (None, None, None)
        assert found.mean == pytest.approx(mean)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_order_and_never_lowers(p):
    corrected = holm(p)
    assert all(value <= after <= 1 for value, after in zip(p, corrected, strict=True))
    assert [after for _, after in sorted(zip(p, corrected, strict=True))] == sorted(corrected)


def test_what_was_not_tested_does_not_count():
    assert holm([0.01, None, 0.04, 0.03, None]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
        None,
    ]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
