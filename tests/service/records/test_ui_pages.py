"""Notes and links for MLflow's pages; that its pages follow them is for tests/test_ui.py.

python -m pytest tests/service/records/test_ui_pages.py
"""

import json
from urllib.parse import parse_qs

from kdam_ray.service.records.ui_pages import LONGEST_NOTE, MOST_COMPARED, VIEW_TAG, compare_link, experiment_tags
from kdam_ray.service.records.ui_pages import sweep_note as note

RUNS = [f"{number:032x}" for number in range(100)]


def test_the_view_has_the_scores_of_the_tasks_and_what_differs():
    columns = json.loads(experiment_tags("rooms", ["distill.beta"])[VIEW_TAG])["selectedColumns"]
    assert {"metrics.`val/delta_teacher`", "metrics.`val/depth/rmse`", "params.`distill.beta`"} <= set(columns)


def test_a_link_compares_exactly_those_runs():
    link = compare_link("7", RUNS[:2])
    query = parse_qs(link.partition("?")[2])
    assert (json.loads(query["runs"][0]), json.loads(query["experiments"][0])) == (RUNS[:2], ["7"])
    assert not set('[]()" ') & set(link)  # nothing that Markdown would take for its own


def test_a_note_keeps_within_what_mlflow_takes_and_says_so():
    table = "| beta | mIoU |\n|---|---|\n" + "| 0.5 | 12.5 |\n" * 1000
    long = note(table, "7", RUNS)
    assert len(long) <= LONGEST_NOTE
    assert f"the first {MOST_COMPARED} of 100" in long
    assert long.endswith("artifact report/tables.md.)")
    assert note("| a |", "7", RUNS[:3]).endswith("| a |")
    assert "ompare" not in note("| a |", "7", RUNS[:1])
