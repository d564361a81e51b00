"""Names of runs: short, sorting, telling apart what differs.

python -m pytest tests/test_titles.py
"""

import pytest
from fakes import make_run, taught_by

from kdam_ray.config import Sweep, change, single_task, untaught
from kdam_ray.titles import titled, varying

TEACHER = make_run(student="resnet_w8")
BASE = taught_by(TEACHER)


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "b1 T3 s0"),
        ({"distill.beta": 0.5, "seed": 2}, "b0.5 T3 s2"),
        ({"distill.beta": 0.123456, "distill.temperature": 2.34567, "distill.alpha": 1.5}, "b0.1235 T2.346 a1.5 s0"),
        ({"distill": {"method": "kdam"}}, "kdam b1 T1 s0"),
        ({"distill": {"method": "kdam", "intra": False}}, "kdam inter only b1 T1 s0"),
        ({"decoder": "mti_net"}, "mti_net b1 T3 s0"),
        ({"student": "swin_w16", "teacher": "swin_w12"}, "swin_w16 from swin_w12 b1 T3 s0"),
        ({"epochs": 30}, "b1 T3 e30 s0"),
        ({"task_factors": {"semseg": 2.0}}, 'b1 T3 task_factors={"semseg":2.0} s0'),
        ({"data_seed": 3}, "b1 T3 data_seed=3 s0"),
    ],
)
def test_a_title_says_what_differs(changes, title):
    assert titled(change(BASE, changes), BASE) == title


def test_titles_of_runs_without_a_teacher_and_of_teachers():
    assert titled(untaught(BASE), BASE) == "no KD s0"
    assert titled(single_task(BASE, "depth"), BASE) == "depth alone no KD s0"
    assert titled(TEACHER, None) == "resnet_w8 s0"
    assert titled(single_task(change(TEACHER, {"decoder": "mti_net"}), "depth"), None) == "resnet_w8 depth alone s0"


def test_what_varies_is_what_cells_space_and_choices_change():
    cells = ({}, {"distill.beta": 2.0}, {"distill": {"method": "dist"}})
    of = Sweep(
        name="x", base=BASE, cells=cells, space={"distill.alpha": (0.1, 1.0)},
        choices={"pair": {"a": {"student": "swin_w16"}}},
    )  # fmt: skip
    differ = ["student", "distill.method", "distill.alpha", "distill.beta", "distill.temperature", "seed"]
    assert varying(of) == differ
    assert varying(of.model_copy(update={"cells": (*cells, {"seed": 1})})) == differ  # more seeds are the same sweep
