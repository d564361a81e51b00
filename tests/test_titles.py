"""Names of runs: short, sorting, telling apart what differs.

python -m pytest tests/test_titles.py
"""

import pytest
from fakes import make_run, taught_by

from kdam_ray.cells import DATASETS_OF
from kdam_ray.config import Place, Sweep, change, single_task, untaught
from kdam_ray.paper import TABLES
from kdam_ray.recipes import Pair, Schedule
from kdam_ray.service.plan import known_runs
from kdam_ray.studies.gain import chosen, gain_sweeps
from kdam_ray.studies.table_runs import table_sweep
from kdam_ray.titles import titled, varying

TEACHER = make_run(student="resnet_w8")
BASE = taught_by(TEACHER)
TABLES_WITH_SWEEPS = ("1", "2", "4", "6", "7")


@pytest.fixture
def place(tmp_path):
    return Place(storage=str(tmp_path), gpus=False)


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
        ({"distill.reading": {"depth": "skip"}}, "b1 T3 depth skip s0"),
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


@pytest.mark.parametrize("number", TABLES_WITH_SWEEPS)
def test_no_two_members_of_a_sweep_have_the_same_name(number, place):
    wanted = table_sweep(
        number, Schedule(dataset=DATASETS_OF[TABLES[number].dataset][0]), seeds=2, name="x", place=place
    )
    runs = {run.run_id: run for run, _, _ in known_runs(wanted.sweep)}.values()
    names = [titled(run, wanted.sweep.base) for run in runs]
    assert sorted(names) == sorted(set(names))


def test_no_two_variants_of_a_study_have_the_same_name(place):
    for wanted in gain_sweeps(chosen(()), Pair(), place, seeds=2):
        runs = {run.run_id: run for run, _, _ in known_runs(wanted.sweep)}.values()
        names = [titled(run, wanted.sweep.base) for run in runs]
        assert sorted(names) == sorted(set(names))
