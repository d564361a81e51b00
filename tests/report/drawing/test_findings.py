"""Titles of plots: what was found, computed, and never more than the numbers resolve.

python -m pytest tests/report/drawing/test_findings.py
"""

import math

from kdam_ray import paper
from kdam_ray.config import change
from kdam_ray.recipes import recipe
from kdam_ray.report.beta_temp import Scored, table_5
from kdam_ray.report.drawing import findings
from kdam_ray.report.drawing.cost_plane import Costed
from kdam_ray.report.significance import Difference
from kdam_ray.report.tables import Comparison, SeedRow, number
from kdam_ray.service.search.importance import Importances
from kdam_ray.tasks import DATASETS

TASKS = DATASETS["rooms"].tasks
KEYS = [task.metric_key for task in TASKS]
NAN = math.nan


def scored(run, mIoU):
    values = dict(zip(KEYS, (mIoU, 1.0, 30.0, 70.0), strict=True))
    return Scored.of(run, {f"val/{key}": value for key, value in values.items()})


def sweep(plain):
    """Seven cells of beta whose mIoU is 10, and runs without distillation whose mIoU is given."""
    base = recipe("rooms").student
    taught = change(base, {"teacher": "resnet_w16", "teacher_run": "0123456789ab", "distill": {"method": "plain_kd"}})
    runs = [scored(change(base, {"seed": seed}), mIoU) for seed, mIoU in enumerate(plain)]
    cells = [change(taught, {"distill.beta": row.fact("beta")}) for row in paper.TABLE_5A.rows]
    return table_5([*runs, *(scored(change(run, {"distill.temperature": 3.0}), 10.0) for run in cells)], teacher=None)


def compared(key, mean, p, label="KDAM"):
    difference = Difference(mean, mean - 1, mean + 1, p, 3)
    return Comparison(SeedRow(label, {}), SeedRow("no KD", {}), key, difference, p)


def test_cells_outside_the_band_are_counted_by_column_beside_what_chance_would_do():
    assert (
        findings.of_beta_temp(sweep((9.0, 10.0, 11.0)))
        == "No cell of 7 differs from no distillation by more than chance"
    )
    found = findings.of_beta_temp(sweep((5.0, 5.1, 5.2)))
    assert found.startswith("Against no distillation, SemSeg is better at 7 and Delta better at 7 of 7 cells")
    assert "(chance alone puts about 0.9 there in each)" in found


def test_one_seed_without_distillation_finds_nothing():
    assert "can be told from chance" in findings.of_beta_temp(sweep((10.0,)))


def test_differences_are_those_whose_corrected_p_is_small_and_their_direction_is_said():
    found = [compared("semseg/mIoU", 2.0, 0.01), compared("depth/rmse", 0.1, 0.02), compared("edge/odsF", 3.0, 0.3)]
    assert findings.of_comparisons(found, TASKS) == (
        "KDAM is better than no KD in SemSeg; KDAM is worse than no KD in Depth: "
        "2 of 3 differences are more than chance"
    )
    assert findings.of_comparisons(found[2:], TASKS) == (
        "None of 1 differences is more than chance (corrected for their number)"
    )
    many = findings.of_comparisons([compared("semseg/mIoU", 2.0, 0.01, f"v{n}") for n in range(5)], TASKS)
    assert " and 2 more: 5 of 5" in many
    assert "pairs of two seeds" in findings.of_comparisons([compared("semseg/mIoU", 2.0, None)], TASKS)


def test_the_longest_schedule_is_the_best_or_not():
    values = {
        "semseg/mIoU": {4.0: number([1.0]), 8.0: number([2.0])},
        "depth/rmse": {4.0: number([1.0]), 8.0: number([2.0])},
        "normals/mErr": {4.0: None, 8.0: number([2.0])},
    }
    assert findings.of_epochs(values, TASKS) == "The longest schedule has the best mean in SemSeg, not in Depth"
    assert findings.of_epochs({}, TASKS) == "Fewer than two schedules have finished"


def test_what_a_teacher_costs_and_where_it_is_ahead():
    values = {"semseg/mIoU": number([30.0]), "depth/rmse": number([2.0])}
    points = [
        Costed("teacher big", "teacher", 6.0, values),
        Costed("MT", "baseline", 1.5, {"semseg/mIoU": number([20.0]), "depth/rmse": number([1.0])}),
        Costed("free", "system", 0.0, {}),
    ]
    assert findings.of_costs(points, TASKS) == (
        "teacher big costs 4 times what the cheapest network does; its mean is the best in 1 of 2 metrics"
    )
    assert findings.of_costs(points[1:], TASKS) == "No teacher and student have a cost"


def test_runs_that_still_improved_are_counted():
    histories = {
        "a": {"val/semseg/mIoU": [(1, 1.0), (2, 2.0)], "val/depth/rmse": [(1, 1.0), (2, 2.0)]},
        "b": {"val/semseg/mIoU": [(1, 3.0), (2, 2.0)]},
    }
    found = findings.of_histories(histories, TASKS)
    assert found == "Runs that were at their best after the last epoch: SemSeg 1 of 2, Depth 0 of 1"
    assert findings.of_histories({"a": {"val/semseg/mIoU": [(1, 1.0)]}}, TASKS) == "One epoch each: nothing to follow"


def test_a_search_and_what_mattered_in_it():
    assert findings.of_search([1.0, None, -2.5, NAN]) == (
        "2 of 4 points finished; their Delta against the teacher is -2.5 to 1.0 %"
    )
    assert findings.of_search([None]) == "None of 1 points finished"
    above = Importances(
        {"distill.beta": 0.8, "distill.temperature": 0.2}, {"distill.beta": 0.5, "distill.temperature": 0.5}, 20
    )
    assert findings.of_importance(above) == "More than chance is explained by beta"
    below = Importances({"distill.beta": 0.4}, {"distill.beta": 0.5}, 20)
    assert findings.of_importance(below) == "No parameter explains more of the objective than chance does"
    assert "Too little" in findings.of_importance(Importances({}, {}, 3, "too few"))


def test_every_task_has_a_name():
    for dataset in DATASETS.values():
        assert all(findings.names(dataset.tasks).values())
