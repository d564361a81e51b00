"""When a searched run is given up: recorded courses and made-up ones.

python -m pytest tests/service/search/test_pruner.py
"""

import pytest
from optuna.trial import TrialState, create_trial

from kdam_ray.service.search.pruner import PEERS, OutOfReach, is_out_of_reach

# Delta against the teacher after epochs 1 to 4 of the thirteen cells of one sweep on the rooms, 2026-11-28
RECORDED = (
    (-42.2, -33.0, -18.7, -20.3), (-47.4, -29.7, -22.5, -19.8), (-49.2, -26.0, -21.6, -21.3),
    (-78.4, -34.8, -23.8, -19.9), (-35.4, -24.1, -24.0, -18.9), (-37.5, -26.5, -19.2, -18.8),
    (-39.0, -25.8, -19.4, -19.5), (-35.3, -29.9, -23.2, -21.1), (-44.4, -32.2, -20.9, -20.1),
    (-48.0, -26.8, -21.8, -21.5), (-45.1, -31.5, -21.0, -18.6), (-62.4, -33.5, -23.8, -22.7),
    (-42.0, -25.3, -18.9, -19.8),
)  # fmt: skip


def peers(epoch: int, courses=RECORDED) -> list[tuple[float, float]]:
    return [(course[epoch - 1], course[-1]) for course in courses]


@pytest.mark.parametrize("epoch", [2, 3])
def test_no_recorded_run_would_have_been_given_up_by_the_others(epoch):
    """The worst after two epochs ended third of them, another one of the worst after three ended fourth."""
    for mine in RECORDED:
        assert not is_out_of_reach(mine[epoch - 1], peers(epoch, [other for other in RECORDED if other is not mine]))


def test_what_has_collapsed_is_given_up():
    assert not is_out_of_reach(-26.0, peers(3))
    assert is_out_of_reach(-40.0, peers(3))


def test_few_peers_judge_nobody():
    assert is_out_of_reach(-90.0, peers(3)[:PEERS])
    assert not is_out_of_reach(-90.0, peers(3)[: PEERS - 1])


def test_the_noisier_the_courses_the_later_a_run_is_given_up():
    """Ends alike, gains from 10 to 10 + spread: the luckiest gain decides."""
    for spread in (1.0, 5.0, 20.0):
        courses = [(-20.0 - 10.0 - spread * index / PEERS, -20.0) for index in range(PEERS + 1)]
        assert not is_out_of_reach(-20.0 - 10.0 - spread, courses)
        assert is_out_of_reach(-20.0 - 10.0 - spread - 0.1, courses)


def test_the_further_apart_the_ends_the_later_a_run_is_given_up():
    for spread in (1.0, 5.0, 20.0):
        courses = [(-30.0 + spread * index, -20.0 + spread * index) for index in range(-4, 5)]  # all gain 10, sd 2.7
        assert not is_out_of_reach(-30.0 - 7.7 * spread, courses)
        assert is_out_of_reach(-30.0 - 7.8 * spread, courses)


class Told:
    """A study's finished trials."""

    def __init__(self, courses):
        self._courses = courses

    def get_trials(self, **_):
        return [
            create_trial(value=course[-1], intermediate_values=dict(enumerate(course, start=1)))
            for course in self._courses
        ]


@pytest.mark.parametrize(("epoch", "given_up"), [(1, False), (2, True), (3, True)])
def test_nothing_is_judged_in_the_first_half_of_the_schedule(epoch, given_up):
    lost = create_trial(state=TrialState.PRUNED, intermediate_values=dict.fromkeys(range(1, epoch + 1), -99.0))
    assert OutOfReach(epochs=4).prune(Told(RECORDED), lost) == given_up
    unheard = create_trial(state=TrialState.PRUNED, intermediate_values={9: -99.0})
    assert not OutOfReach(epochs=4).prune(Told(RECORDED), unheard)


def test_nan_is_not_judged():
    assert not is_out_of_reach(float("nan"), peers(3))
