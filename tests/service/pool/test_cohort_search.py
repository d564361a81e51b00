"""In which order Tune is handed cohorts, and that what is chosen in the end waits for all the others.

python -m pytest tests/service/pool/test_cohort_search.py
"""

from types import SimpleNamespace

from fakes import make_run
from ray.tune.search import Searcher

from kdam_ray.config import change
from kdam_ray.service.pool.cohort_search import CohortSearch
from kdam_ray.service.seats import Seat

BASE = make_run()


def seat(seed: int, purpose="cell") -> Seat:
    return Seat(change(BASE, {"seed": seed}), purpose)


class FakeOpener:
    """Assignments that are nothing but their seats' seeds."""

    arranged = SimpleNamespace(side_by_side=lambda _: 2)
    place = SimpleNamespace(cohort_size=None)

    def __init__(self):
        self.closed = []

    def open(self, seats):
        seeds = [seat.run.seed for seat in seats]
        return SimpleNamespace(title=str(seeds), model_dump=lambda mode: {"seeds": seeds})

    def close(self, seats, why):
        self.closed.append([seat.run.seed for seat in seats])


class FakeCoordinator:
    """Draws seeds from 10 on."""

    def __init__(self):
        self.drawn = 10

    def draw(self):
        self.drawn += 1
        return SimpleNamespace(run=change(BASE, {"seed": self.drawn}), number=self.drawn)

    def deaths(self):
        return {}


def search(choose, drawn=(2,)) -> CohortSearch:
    return CohortSearch(
        [[seat(0), seat(1)]], opener=FakeOpener(), coordinator=FakeCoordinator(), drawn=drawn, choose=choose
    )


def test_what_is_chosen_in_the_end_waits_until_all_others_have_ended():
    asked = []

    def choose():
        asked.append(True)
        return [seat(number, "confirmation") for number in (21, 22, 23)]

    cohorts = search(choose)
    assert cohorts.suggest("a") == {"seeds": [0, 1]}
    assert cohorts.suggest("b") == {"seeds": [11, 12]}
    assert cohorts.suggest("c") is None
    cohorts.on_trial_complete("a")
    assert cohorts.suggest("c") is None  # the drawn ones are still being trained
    assert not asked
    cohorts.on_trial_complete("b")
    assert [cohorts.suggest(name) for name in "cd"] == [{"seeds": [21, 23]}, {"seeds": [22]}]
    assert cohorts.suggest("e") == Searcher.FINISHED
    assert asked == [True]


def test_nothing_chosen_ends_the_search():
    cohorts = search(list, drawn=())
    cohorts.suggest("a")
    assert cohorts.suggest("b") is None
    cohorts.on_trial_complete("a")
    assert cohorts.suggest("b") == Searcher.FINISHED


def test_without_a_choice_nobody_waits():
    cohorts = search(None, drawn=())
    cohorts.suggest("a")
    assert cohorts.suggest("b") == Searcher.FINISHED
