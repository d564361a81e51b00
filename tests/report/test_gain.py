"""The study of what distillation gains: pairs by seed, rivals, every number where it belongs.

python -m pytest tests/report/test_gain.py
"""

import json

import pytest

from kdam_ray.report.gain import GainTable, as_json, as_text, grids
from kdam_ray.report.significance import paired
from kdam_ray.report.tables import DELTA, SeedRow
from kdam_ray.tasks import DATASETS

TASKS = DATASETS["rooms"].tasks
KEYS = [task.metric_key for task in TASKS]


def variant(label, against, *seeds):
    return SeedRow(label, {seed: dict(zip(KEYS, values, strict=True)) for seed, values in enumerate(seeds)}, against)


def difference(study, row, key):
    return next((item.difference for item in study.comparisons if item.row is row and item.key == key), None)


@pytest.fixture
def study():
    plain = variant("no KD", "", (10.0, 1.0, 30.0, 60.0), (12.0, 1.0, 30.0, 60.0), (14.0, 1.0, 30.0, 60.0))
    kdam = variant("KDAM", "no KD", (11.0, 0.9, 30.0, 60.0), (13.5, 0.9, 30.0, 60.0), (15.0, 0.9, 30.0, 60.0))
    labels = variant("KDAM, labels", "KDAM", (13.0, 0.9, 30.0, 60.0), (13.5, 0.9, 30.0, 60.0))
    teachers = {"teacher": dict(zip(KEYS, (27.0, 0.8, 20.0, 70.0), strict=True))}
    return GainTable(TASKS, (plain, kdam, labels), heading="net on rooms", teachers=teachers)


def test_delta_is_against_the_mean_of_the_first_variant(study):
    plain, kdam, _ = study.rows
    assert study.values(plain, DELTA) == pytest.approx({0: 100 * (10 / 12 - 1) / 4, 1: 0.0, 2: 100 * (14 / 12 - 1) / 4})
    assert study.values(kdam, DELTA)[0] == pytest.approx(100 * ((11 / 12 - 1) + 0.1) / 4)


def test_differences_are_against_the_rival_over_shared_seeds(study):
    assert difference(study, study.rows[1], "semseg/mIoU") == paired(
        {0: 11.0, 1: 13.5, 2: 15.0}, {0: 10.0, 1: 12.0, 2: 14.0}
    )
    assert difference(study, study.rows[2], "semseg/mIoU").pairs == 2
    assert difference(study, study.rows[0], "semseg/mIoU") is None


def test_tables_show_every_variant_and_every_comparison(study):
    means, compared = grids(study)
    assert [row[0].text for row in means.rows] == ["teacher", "no KD", "KDAM", "KDAM, labels"]
    assert [cell.text for cell in means.rows[2]] == [
        "KDAM",
        "3",
        "13.17±2.02",
        "0.9000±0.0000",
        "30.00±0.00",
        "60.00±0.00",
        "+4.93±4.21",
    ]
    assert [row[0].text for row in compared.rows] == ["KDAM − no KD", "KDAM, labels − KDAM"]
    assert compared.rows[0][1].text == "3"
    assert compared.rows[0][2].text.startswith("+1.17 [")
    assert compared.rows[1][1].text == "2"
    assert "corrected" in as_text(study)


def test_a_variant_without_runs_is_missing(study):
    empty = SeedRow("DIST", {}, "no KD")
    found = GainTable(TASKS, (*study.rows, empty), heading=study.heading)
    assert [cell.text for cell in grids(found)[0].rows[-1]] == ["DIST", "0"] + ["missing"] * 5
    document = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert document["rows"][-1]["metrics"] == {}
    assert document["rows"][1]["differences"]["semseg/mIoU"]["pairs"] == 3


def test_a_reference_of_zero_or_a_nan_ends_nothing():
    """An hours-long study shall not end in a traceback because one column cannot be compared."""
    plain = variant("no KD", "", (10.0, 1.0, 30.0, 0.0), (12.0, 1.0, 31.0, 0.0))
    kdam = variant("KDAM", "no KD", (11.0, float("nan"), 30.0, 1.0), (13.5, 0.9, 30.0, 2.0))
    found = GainTable(TASKS, (plain, kdam), heading="net on rooms")
    assert found.values(kdam, DELTA) == {}
    assert difference(found, kdam, "depth/rmse").pairs == 1
    line = next(line for line in as_text(found).splitlines() if line.startswith("KDAM − no KD"))
    assert "-0.1000 (n 1)" in line
    document = as_json(found)["rows"][1]["differences"]
    assert document["depth/rmse"]["p"] is document["depth/rmse"]["p_corrected"] is None
