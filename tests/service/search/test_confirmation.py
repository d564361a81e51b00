"""Which points get further seeds, and what is called best.

python -m pytest tests/service/search/test_confirmation.py
"""

from fakes import make_run, taught_by

from kdam_ray.config import Run, Sweep, change
from kdam_ray.service.search.confirmation import SEEDS, further_runs, points_of

BASE = taught_by(make_run(student="resnet_w8"))
SPACE = {"distill.beta": (0.1, 16.0)}


def sweep(confirmed: int = 2) -> Sweep:
    return Sweep(name="confirmed", base=BASE, cells=({},), space=SPACE, confirmed=confirmed)


def at(beta: float, seed: int = 0) -> Run:
    return change(BASE, {"distill.beta": beta, "seed": seed})


def test_the_first_at_the_base_seed_get_every_other_seed():
    objectives = [(at(1.0), -3.0), (at(2.0), -1.0), (at(4.0), -2.0)]
    assert further_runs(sweep(), objectives) == [at(2.0, 1), at(2.0, 2), at(4.0, 1), at(4.0, 2)]
    assert further_runs(sweep(0), objectives) == []
    assert len(further_runs(sweep(9), objectives)) == 3 * (SEEDS - 1)


def test_further_seeds_do_not_change_which_points_they_are_of():
    """Law 8: the same command again finds what it has trained, however those seeds came out."""
    objectives = [(at(1.0), -3.0), (at(2.0), -1.0), (at(4.0), -2.0)]
    bad_luck = [(run, -99.0) for run in further_runs(sweep(1), objectives)]
    assert further_runs(sweep(1), [*objectives, *bad_luck]) == further_runs(sweep(1), objectives) != []


def test_equal_points_are_taken_in_one_order_whatever_order_they_came_in():
    objectives = [(at(beta), -1.0) for beta in (1.0, 2.0, 4.0, 8.0)]
    assert further_runs(sweep(2), objectives) == further_runs(sweep(2), objectives[::-1])


def test_points_are_seeds_together_and_confirmed_only_with_enough():
    lucky, steady, outside = (
        [(at(2.0), 5.0)],
        [(at(1.0, seed), 1.0 + seed) for seed in range(SEEDS)],
        [(at(17.0), 99.0)],
    )
    first, second = points_of(sweep(), [*steady, *lucky, *outside, (at(3.0), float("nan"))])
    assert (first.run, first.mean, first.is_confirmed) == (at(2.0), 5.0, False)
    assert (second.run, second.mean, second.is_confirmed) == (at(1.0), 2.0, True)


def test_without_a_space_there_are_no_points():
    fixed = Sweep(name="fixed", base=BASE, cells=({},), confirmed=2)
    assert points_of(fixed, [(BASE, 1.0)]) == []
    assert further_runs(fixed, [(BASE, 1.0)]) == []
