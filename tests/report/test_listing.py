"""The lists of what is recorded: the best is a mean over seeds and says of how many; states are counted.

python -m pytest tests/report/test_listing.py
"""

from dataclasses import replace

import pytest
from recorded import GOOD, TEACHER, scored

from kdam_ray.config import change
from kdam_ray.report.listing import (
    best_of,
    counted_states,
    members_document,
    members_grid,
    sweeps_document,
    sweeps_grid,
    untitled_seed,
)  # fmt: skip
from kdam_ray.service.records.listing import Listed, Listing, Member
from kdam_ray.service.records.tracking import Found

NOW = 1_000_000.0
RUN = change(TEACHER, {"student": "swin_w12"})


def member(title: str, seed: int, delta: float, status: str = "finished", **changes) -> Member:
    run = change(RUN, {"seed": seed} | changes)
    found = Found(run, run.run_id * 2, "kdam/rooms/x", status, scored(GOOD, delta), None, {})
    return Member(found, title, NOW - 500, NOW - 60, 2, status == "unfinished")


A = [member("b1 T3 s0", 0, -2.0), member("b1 T3 s1", 1, -4.0)]
B = [member("b8 T3 s0", 0, -2.5, batch=8)]
SINGLE = [member("semseg alone s0", 0, 9.0, tasks=("semseg",))]
SWEEP = Listed("f" * 32, "kdam/rooms/x", {"kdam.sweep_id": "0" * 12}, {}, NOW - 3600, (*A, *B, *SINGLE))


def test_best_is_the_highest_mean_of_those_that_learn_most_tasks():
    best = best_of([*A, *B, *SINGLE])
    assert (best.found_by(), best.number()) == ("b8 T3 (one seed)", "-2.50")
    best = best_of([*A, member("b8 T3 s0", 0, -3.5, batch=8)])
    assert (best.title, best.score, best.run_ids) == ("b1 T3", -3.0, tuple(each.found.run.run_id for each in A))
    assert (best.found_by(), best.number()) == ("b1 T3 (2 seeds)", "-3.00 ±1.41")
    assert best_of([member("b1", 0, 0.0, "pruned")]) is None


@pytest.mark.parametrize(
    ("title", "rest"),
    [("b0.5 T3 s0", "b0.5 T3"), ("beta=2.0 seed=1", "beta=2.0"), ("seed=2", "base"), ("tasks s", "tasks s")],
)
def test_a_title_without_its_seed(title, rest):
    assert untitled_seed(title) == rest


def test_a_run_that_is_linked_counts_once():
    linked = replace(A[0], found=replace(A[0].found, mlflow_run="e" * 32))
    assert best_of([A[0], linked]).found_by() == "b1 T3 (one seed)"


def test_sweeps_in_a_line_each():
    unread = replace(SWEEP, mlflow_run="e" * 32, members=())
    listing = Listing((SWEEP, unread), frozenset({"e" * 32}), more=True)
    grid = sweeps_grid(listing, NOW)
    texts = [[cell.text for cell in row] for row in grid.rows]
    assert texts[0] == ["0" * 12, "rooms/x", "4 finished", "b8 T3 (one seed)", "-2.50", "60 s"]
    assert texts[1][2] == "not read"
    assert "The members of 1 older sweep were not read; --all reads them." in grid.notes
    assert "There are older sweeps; --all lists them." in grid.notes
    document = sweeps_document(listing, NOW)
    assert document["older_left_out"]
    assert document["sweeps"][0]["best"]["seeds"] == 1
    assert document["sweeps"][1]["members"] is None


def test_members_the_best_first_and_the_unfinished_last():
    going = member("b2 T3 s0", 5, 1.0, "unfinished")
    sweep = replace(SWEEP, members=(going, *A, *B), more=True)
    grid = members_grid(sweep, NOW)
    assert [row[1].text for row in grid.rows] == ["b1 T3 s0", "b8 T3 s0", "b1 T3 s1", "b2 T3 s0"]
    assert [row[2].text for row in grid.rows][-1] == "training"
    assert grid.header[3:] == (
        "SemSeg mIoU ↑ %", "Depth rmse ↓ m", "Normal mErr ↓ deg", "Bound odsF ↑ %", "Δ teacher ↑ %", "age",
    )  # fmt: skip
    assert [cell.text for cell in grid.rows[0]][3:] == ["12.00", "0.9000", "28.00", "57.00", "-2.00", "60 s"]
    assert any("more than these 4 members" in note for note in grid.notes)
    assert counted_states(sweep.members, NOW) == {"training": 1, "finished": 3}
    document = members_document(sweep, NOW)
    assert [row["state"] for row in document["runs"]] == ["finished"] * 3 + ["training"]
    assert document["runs"][0]["scores"]["depth/rmse"] == 0.9


def test_a_task_that_a_member_does_not_learn_is_a_dash():
    lone = replace(SINGLE[0], found=replace(SINGLE[0].found, metrics={"val/semseg/mIoU": 12.5}))
    grid = members_grid(replace(SWEEP, members=(*A, lone)), NOW)
    assert [cell.text for cell in grid.rows[-1]][3:] == ["12.50", "-", "-", "-", "-", "60 s"]
