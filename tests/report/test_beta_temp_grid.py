"""What further seeds confirm of Table 5, in sentences and as JSON.

python -m pytest tests/report/test_beta_temp_grid.py
"""

import json

from kdam_ray.config import change
from kdam_ray.recipes import recipe
from kdam_ray.report.beta_temp import Scored, table_5
from kdam_ray.report.beta_temp_grid import as_grids, as_json, sentences

KEYS = ("semseg/mIoU", "depth/rmse", "normals/mErr", "edge/odsF")
TAUGHT = {"teacher": "resnet_w16", "teacher_run": "0123456789ab"}


def scored(run, mIoU, **more):
    values = dict(zip(KEYS, (mIoU, 1.0, 30.0, 70.0), strict=True)) | more
    return Scored.of(run, {f"val/{key}": value for key, value in values.items()})


def student(seed, **distill):
    return change(recipe("rooms").student, TAUGHT | {"distill": {"method": "plain_kd", **distill}, "seed": seed})


def teacher():
    return scored(recipe("rooms").teacher, 20.0)


def no_kd():
    """An sd of 1 in mIoU, 0 elsewhere."""
    return [scored(change(recipe("rooms").student, {"seed": seed}), 9.0 + seed) for seed in range(3)]


def at_seeds(*deltas, beta=0.3, mIoU=11.0):
    """A point at seeds 0, 1, ..., with these objectives; SemSeg differs a little between them."""
    return [
        scored(student(seed, beta=beta, temperature=2.2), mIoU + 0.01 * seed**2, delta_teacher=value)
        for seed, value in enumerate(deltas)
    ]  # fmt: skip


def test_only_what_further_seeds_confirm_is_called_best():
    """One seed puts beta 5 first; three put beta 0.3 before beta 4, and that is what is said."""
    lucky = at_seeds(99.0, beta=5.0, mIoU=19.0)
    runs = [*no_kd(), *lucky, *at_seeds(9.0, 5.0, 4.0), *at_seeds(8.0, 3.0, 1.0, beta=4.0, mIoU=12.0)]
    results = table_5(runs, teacher=teacher())
    assert [row.label for row in results.confirmed] == ["β 0.3 T 2.2", "β 4 T 2.2"]
    best, others, caveat = sentences(results)[-3:]
    assert best.startswith("Best of 2 confirmed at 3 seeds or more, from 0 cells and 3 searched points")
    assert "(bold at Δ): beta 0.3, T 2.2, alpha 1: +2.54±0.05 % over 3 seeds; against no KD at 3 seeds" in best
    assert others.startswith("The other confirmed: beta 4, T 2.2, alpha 1: +5.04±0.05 % over 3 seeds")
    assert "resolved" in best
    assert "luck is still in its mean" in caveat
    assert "beta 5," not in " ".join(sentences(results))
    first, second = as_json(results)["confirmed"]
    assert (first["beta"], first["seeds"], first["delta_teacher"]["n"], len(first["run_ids"])) == (0.3, [0, 1, 2], 3, 3)
    tested = second["delta_against_no_kd"]
    assert tested["low"] < tested["mean"] < tested["high"]
    assert second["resolved"] == (tested["p_corrected"] < 0.05)
    json.dumps(as_json(results), allow_nan=False)


def test_a_confirmed_gain_is_resolved_only_if_its_interval_says_so():
    for spread, judged in ((0.01, "resolved gain"), (3.0, "not resolved")):
        point = [
            scored(student(seed, beta=0.3, temperature=2.2), 13.0 + spread * noise, delta_teacher=1.0)
            for seed, noise in enumerate((0.0, 1.0, -1.0))
        ]  # fmt: skip
        best = sentences(table_5([*no_kd(), *point], teacher=teacher()))[-2]
        assert judged in best


def test_two_seeds_confirm_nothing():
    said = sentences(table_5([*no_kd(), *at_seeds(9.0, 5.0)], teacher=teacher()))[-1]
    assert said.startswith("Of 0 cells and 1 searched point that finished none is called best: that takes 3 seeds")
    assert "(+2.51 %, 2 seeds, not more than chance from no KD)" in said


def test_a_confirmed_point_is_shown_however_far_down_it_fell():
    others = [at_seeds(float(place), beta=1.0 + place) for place in range(10)]
    fallen = at_seeds(99.0, -150.0, -150.0, beta=0.3, mIoU=1.0)
    results = table_5([*no_kd(), *fallen, *(run for runs in others for run in runs)], teacher=teacher())
    (shown,) = [grid.rows for grid in as_grids(results) if grid.title.startswith("Searched")]
    assert (len(shown), shown[-1][0].text) == (9, "β 0.3 T 2.2")
