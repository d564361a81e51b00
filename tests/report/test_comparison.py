"""Runs side by side: seeds are pooled and paired, one seed each resolves nothing by itself, nonsense is refused.

python -m pytest tests/report/test_comparison.py
"""

import pytest
from recorded import GOOD, TEACHER, WORSE, scored

from kdam_ray.config import change
from kdam_ray.report.comparison import compared, document, grids, judged
from kdam_ray.service.records.listing import Listed, Member
from kdam_ray.service.records.tracking import Found

RUN = change(TEACHER, {"student": "swin_w12"})
NOISE = (0.0, 0.02, -0.01)


def member(seed, metrics, by=0.0, status="finished", **changes):
    run = change(RUN, {"seed": seed} | changes)
    found = Found(run, run.run_id * 2, "kdam/rooms/x", status, scored(metrics, 0.0, by), None, {})
    return Member(found, f"lr {run.optim.lr:g} s{seed}", 0.0, 1.0, 2, False)


def sweep(*members):
    return Listed("f" * 32, "kdam/rooms/x", {}, {}, 0.0, members)


A = [member(seed, WORSE, by) for seed, by in enumerate(NOISE)]
B = [member(seed, GOOD, 1.1 * by, **{"optim.lr": 0.01}) for seed, by in enumerate(NOISE)]


def verdicts(table):
    return {item.key: (item.verdict, item.is_resolved) for item in judged(table)}


def test_seeds_are_pooled_and_paired():
    table = compared([A[0], B[1]], [sweep(*A, *B)])
    assert [len(row.seeds) for row in table.rows] == [3, 3]
    found = verdicts(table)
    assert found["semseg/mIoU"] == ("resolved: better", True)
    assert found["depth/rmse"] == ("resolved: better", True)  # lower is better
    assert found["delta_mt"] == ("resolved: better", True)
    configuration, scores, differences = grids(table)
    assert [cell.text for cell in configuration.rows[1]] == ["optim.lr", str(RUN.optim.lr), "0.01"]
    assert "corrected for the number of tests" in differences.notes[0]
    assert scores.rows[0][2].text == "11.00±0.02"


def test_one_seed_each_resolves_nothing():
    table = compared([A[0], B[0]], [sweep(A[0], B[0])])
    assert set(verdicts(table).values()) == {("one seed each resolves nothing", False)}
    assert "no spread between seeds is recorded" in grids(table)[2].notes[0]


def test_one_seed_is_read_against_a_recorded_spread():
    near = member(0, WORSE, 0.03, **{"optim.lr": 0.01})
    found = verdicts(compared([A[0], near], [sweep(*A, near)]))
    assert found["semseg/mIoU"] == ("within one seed's chance (±0.04)", False)
    found = verdicts(compared([A[0], B[0]], [sweep(*A, B[0])]))
    assert found["semseg/mIoU"] == ("better by more than one seed's chance (±0.04)", True)


def test_unfinished_runs_and_other_seeds_are_part_of_no_difference():
    going = member(0, GOOD, status="unfinished", **{"optim.lr": 0.01})
    assert set(verdicts(compared([A[0], going], [])).values()) == {("B has not finished", False)}
    other = member(7, GOOD, **{"optim.lr": 0.01})
    assert set(verdicts(compared([A[0], other], [])).values()) == {("no seed in common: nothing is paired", False)}


def test_runs_that_differ_in_their_seed_only_are_one_configuration():
    table = compared([A[0], A[1]], [])
    assert len(table.rows) == 1
    assert "Nothing but the seed" in grids(table)[0].notes[0]
    assert document(table)["differences"] == []


def test_tasks_in_common_are_compared():
    alone = member(0, GOOD, tasks=("semseg",))
    assert list(verdicts(compared([A[0], alone], []))) == ["semseg/mIoU", "delta_mt"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([A[0], A[0]], "is given twice"),
        ([A[0]], "give at least two"),
        ([A[0], member(0, GOOD, val_images=8)], "not comparable: their val_images differs"),
        ([A[0], member(0, GOOD, dataset_hash="beef")], "not comparable: their dataset_hash differs"),
        ([A[0], member(0, GOOD, image_size=(64, 64))], "not comparable: their image_size differs"),
        ([member(0, GOOD, tasks=("semseg",)), member(0, GOOD, tasks=("edge",))], "no task in common"),
    ],
)
def test_nonsense_is_refused(members, words):
    with pytest.raises(ValueError, match=words):
        compared(members, [])


def test_the_document_says_what_the_grids_say():
    told = document(compared([A[0], B[0]], [sweep(*A, *B)]))
    assert told["differs"] == {"optim.lr": [RUN.optim.lr, 0.01]}
    assert told["scores"]["B"]["semseg/mIoU"]["n"] == 3
    first = told["differences"][0]
    assert (first["row"], first["against"], first["metric"], first["resolved"]) == ("B", "A", "semseg/mIoU", True)
    assert first["low"] < first["mean"] < first["high"]
