"""Packing runs into cohorts: few, even, agreed on everything upstream.

python -m pytest tests/service/test_seats.py
"""

from collections import Counter

import pytest
from fakes import make_run, taught_by

from kdam_ray.config import change
from kdam_ray.service.seats import Seat, pack

TEACHER, OTHER = make_run(student="resnet_w8"), make_run(student="resnet_w16")
BASE = taught_by(TEACHER)
ALONE = {"distill": {}, "teacher": None, "teacher_run": None}


def seats(runs, **values) -> list[Seat]:
    return [Seat(run, "cell", **values) for run in runs]


def betas(count: int, base=BASE) -> list:
    return [change(base, {"distill.beta": 1.0 + number}) for number in range(count)]


@pytest.mark.parametrize(
    ("side_by_side", "cohort_size", "sizes"),
    [(2, None, [9, 8]), (1, None, [17]), (2, 4, [4, 4, 3, 3, 3]), (40, None, [1] * 17)],
)
def test_cohorts_are_few_and_even(side_by_side, cohort_size, sizes):
    runs = betas(13) + [change(BASE, ALONE | {"seed": seed}) for seed in range(4)]
    packed = pack(seats(runs), side_by_side=side_by_side, cohort_size=cohort_size)
    assert sorted(map(len, packed), reverse=True) == sizes
    assert Counter(seat.run.run_id for cohort in packed for seat in cohort) == Counter(run.run_id for run in runs)
    assert packed[0][0].run == runs[0]  # the table's first cell starts first


def test_members_agree_on_everything_upstream_and_on_the_teacher():
    runs = (
        betas(3)
        + betas(3, taught_by(OTHER))
        + betas(2, change(BASE, {"data_seed": 1}))
        + betas(2, change(BASE, {"batch": 2}))
    )
    runs += [change(BASE, ALONE), change(BASE, ALONE | {"data_seed": 1}), change(BASE, ALONE | {"augment": "none"})]
    packed = pack(seats(runs), side_by_side=1, cohort_size=None)
    for cohort in packed:
        assert len({seat.run.upstream for seat in cohort}) == 1
        assert len({seat.run.teacher_run for seat in cohort if seat.run.teacher_run}) <= 1
    assert sum(map(len, packed)) == len(runs)
    assert len(packed) == 5  # who has no teacher joins those with one; only augment="none" fits nobody


def test_who_is_far_on_does_not_wait_for_who_starts_anew():
    fresh, ahead = seats(betas(2)), seats(betas(4)[2:], epochs_done=1)
    assert sorted(pack(fresh + ahead, side_by_side=1, cohort_size=None), key=len) == [fresh, ahead]
