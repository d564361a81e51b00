"""How the rows of the paper's tables are trained: python -m pytest tests/test_cells.py"""

import pytest

from kdam_ray.cells import COMMAND_OF, DATASETS_OF, STAND_INS, SWEEP_OF, baseline_of, trained_rows
from kdam_ray.paper import TABLES
from kdam_ray.recipes import PAPER_SGD, Schedule, recipe, taught_by

TRAINED = [number for number in TABLES if not number.startswith("5")]


def cell(number, model, group, dataset="rooms", **schedule):
    found = [
        c
        for c in trained_rows(TABLES[number], Schedule(dataset=dataset, **schedule))
        if (c.row.model, c.row.group) == (model, group)
    ]
    return found[0]


@pytest.mark.parametrize("number", TRAINED)
@pytest.mark.parametrize("smoke", [False, True])
def test_every_row_has_runs_of_its_own_on_every_dataset_of_its_table(number, smoke):
    table = TABLES[number]
    for dataset in DATASETS_OF[table.dataset]:
        shown = [c for c in trained_rows(table, Schedule(dataset=dataset, smoke=smoke)) if not c.part]
        assert [c.row for c in shown] == list(table.rows)
        if number != "4":  # which prints a pair's single-task and multi-task rows again with every pair
            ids = [run.run_id for c in shown for run in c.runs(0)]
            assert len(set(ids)) == len(ids)
        assert all(run.dataset == dataset and run.seed == 3 for c in shown for run in c.runs(3))


def test_the_same_training_in_several_tables_is_the_same_run():
    kdam = cell("1", "MT+KDAM", "swin_t").runs(1)
    assert cell("4", "MT+KDAM", "swin_t taught by swin_l").runs(1) == kdam
    assert cell("6", "MT+KDAM inter and intra", "swin_t").runs(1) == kdam
    assert next(c for c in trained_rows(TABLES["7"], Schedule()) if c.row.fact("epochs") == 400).runs(1) == kdam
    assert (
        cell("6", "MT", "swin_t").runs(0)
        == cell("1", "MT", "swin_t").runs(0)
        == cell("4", "MT", "swin_t taught by swin_b").runs(0)
    )
    assert cell("4", "MT", "swin_l teaching swin_t").runs(0) == cell("4", "MT", "swin_l teaching swin_s").runs(0)


def test_the_teacher_of_the_other_tables_is_the_sweeps_own():
    assert cell("1", "MT+KDAM", "swin_t").teacher == recipe("rooms").teacher
    plain = cell("4", "MT+plain KD", "swin_t taught by swin_l").student
    assert plain.distill.temperature == 3.0
    assert (plain.teacher, plain.student) == (recipe("rooms").teacher.student, recipe("rooms").student.student)
    assert cell("4", "MT", "swin_l teaching swin_t").runs(0) == (recipe("rooms").teacher,)


def test_single_task_rows_are_one_network_per_task():
    runs = cell("3", "single-task", "swin_s", "rooms_pascal").runs(0)
    assert [run.tasks for run in runs] == [("semseg",), ("human_parts",), ("sal",), ("normals",), ("edge",)]
    assert all(run.decoder == "mt_baseline" and run.distill.method == "none" for run in runs)
    assert cell("1", "MTFormer", "swin_?").student.tasks == ("semseg", "depth")
    assert cell("1", "MTFormer", "swin_?").student.student == STAND_INS["swin_s"]


def test_papers_networks_and_schedules_on_the_papers_data():
    shown = trained_rows(TABLES["1"], Schedule(dataset="nyud"))
    assert {c.student.student for c in shown} == {"hrnet18", "swin_t", "swin_s"}
    assert {(c.student.student, c.student.optim.lr) for c in shown} == {
        ("hrnet18", 1e-2),
        ("swin_t", 1e-3),
        ("swin_s", 1e-3),
    }
    assert {c.student.epochs for c in shown} == {400}
    assert all(c.teacher.student == "swin_l" and c.teacher.optim == PAPER_SGD for c in shown if c.teacher)
    assert [c.student.epochs for c in trained_rows(TABLES["7"], Schedule(dataset="nyud")) if not c.part] == [
        100,
        200,
        300,
        400,
        600,
    ]
    assert cell("4", "MT+DIST", "swin_t taught by swin_b", "nyud").teacher.student == "swin_b"


def test_terms_and_decoders():
    inter, intra = (cell("6", f"MT+KDAM {name}", "swin_t").student.distill for name in ("inter", "intra"))
    assert (inter.inter, inter.intra, intra.inter, intra.intra) == (True, False, False, True)
    atrc = cell("1", "ATRC+KDAM", "hrnet18")
    assert (atrc.student.decoder, atrc.student.teacher_decoder) == ("atrc", "mt_baseline")
    assert atrc.student.contexts is not None
    assert {"teacher": atrc.student.teacher, "teacher_decoder": "mt_baseline"} == taught_by(atrc.teacher)
    assert cell("2", "InvPT+KDAM", "swin_t").student.decoder == "invpt"


def test_table_7_has_separate_schedules_and_one_long_run():
    shown = trained_rows(TABLES["7"], Schedule())
    assert [c.epoch for c in shown] == [1, 2, 3, 4, 6, 1, 2, 3, 4]
    longest = shown[4]
    assert all(c.student == longest.student for c in shown if c.part)
    assert [c.student.epochs for c in shown if not c.part] == [1, 2, 3, 4, 6]


def test_baselines_are_undistilled_rows_of_the_same_system_and_backbone():
    compared = {
        number: [
            (row.model, baseline_of(TABLES[number], row).model)
            for row in TABLES[number].rows
            if baseline_of(TABLES[number], row)
        ]
        for number in TRAINED
    }
    assert compared["1"] == [("MT+KDAM", "MT"), ("ATRC+KDAM", "ATRC"), ("MT+KDAM", "MT"), ("MT+KDAM", "MT")]
    assert compared["2"] == [("InvPT+KDAM", "InvPT"), ("DeMT+KDAM", "DeMT"), ("DeMT+KDAM", "DeMT")]
    assert len(compared["4"]) == 9
    assert compared["7"] == []


def test_a_dataset_of_the_other_table_is_refused():
    with pytest.raises(ValueError, match="dataset: Table 3 is of pascal: rooms_pascal or pascal, not 'nyud'"):
        trained_rows(TABLES["3"], Schedule(dataset="nyud"))
    assert SWEEP_OF.keys() == COMMAND_OF.keys() == set("1234567")
