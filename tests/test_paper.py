"""The printed tables: complete, consistent where they are, flagged where they are not.

python -m pytest tests/test_paper.py
"""

import subprocess
import sys

import pytest

from kdam_ray.paper import (
    TABLE_1,
    TABLE_2,
    TABLE_4,
    TABLE_5A,
    TABLE_5B,
    TABLE_6,
    TABLES,
    Row,
    Table,
    interval,
    printed_deltas,
)
from kdam_ray.tasks import DATASETS

# (table, model, group, printed Delta, recomputed Delta): worked out by hand from the printed rows, two decimals
DOES_NOT_FOLLOW = [
    ("1", "MT+KDAM", "hrnet18", -0.73, -1.53),
    ("1", "ATRC+KDAM", "hrnet18", 2.05, 2.09),
    ("1", "MT", "swin_t", -3.74, -3.60),
    ("3", "MT+KDAM", "hrnet18", -5.06, -6.01),
    ("3", "PAD-Net", "hrnet18", -4.41, -10.48),
    ("3", "MQTransformer", "hrnet18", -4.20, -4.34),
    ("3", "ATRC+KDAM", "hrnet18", -3.94, -4.01),
    ("3", "MT", "swin_t", -3.23, -5.24),
    ("3", "MT+KDAM", "swin_t", -2.3, -2.62),
    ("3", "MT+KDAM", "swin_s", -2.54, -2.64),
    ("4", "MT", "swin_t taught by swin_l", -3.74, -3.61),
    ("4", "MT+plain KD", "swin_t taught by swin_l", 1.08, 1.24),
    ("4", "MT+DIST", "swin_t taught by swin_l", 0.58, 0.65),
    ("4", "MT+KDAM", "swin_t taught by swin_l", 1.10, 1.26),
    ("4", "MT", "swin_b teaching swin_t", -3.2, -3.54),
    ("4", "MT", "swin_t taught by swin_b", -3.74, -3.61),
    ("4", "MT+plain KD", "swin_t taught by swin_b", 0.49, 0.65),
    ("4", "MT+DIST", "swin_t taught by swin_b", 1.07, 1.23),
    ("4", "MT+KDAM", "swin_t taught by swin_b", 1.47, 1.61),
]


def test_exactly_the_known_deltas_do_not_follow_from_their_rows():
    wrong = [delta for delta in printed_deltas() if not delta.follows]
    assert [(d.table, d.row.model, d.row.group, d.printed) for d in wrong] == [case[:4] for case in DOES_NOT_FOLLOW]
    for delta, (*_, recomputed) in zip(wrong, DOES_NOT_FOLLOW, strict=True):
        assert delta.recomputed == pytest.approx(recomputed, abs=0.006), delta.row


def test_every_computable_delta_is_judged():
    judged = printed_deltas()
    assert len(judged) == 39  # 38, and Swin-L's is printed twice
    assert all(d.row.model != "MTFormer" for d in judged)  # two of its metrics are not printed


@pytest.mark.parametrize(
    "delta", printed_deltas(), ids=lambda delta: f"{delta.table}-{delta.row.model}-{delta.row.group}"
)
def test_recomputed_delta_is_the_mean_signed_change(delta):
    table = TABLES[delta.table]
    row, reference = table.metrics(delta.row), table.metrics(table.reference(delta.row))
    change = [
        (1 if task.higher_is_better else -1)
        * (row[task.metric_key] - reference[task.metric_key])
        / reference[task.metric_key]
        * 100
        for task in table.tasks
    ]
    assert delta.recomputed == pytest.approx(sum(change) / len(change), rel=1e-9)
    assert delta.low < delta.recomputed < delta.high


def test_the_printed_numbers_need_the_signs():
    """Without a sign for depth and normals, as the formula is printed, hardly any Delta would follow."""
    follow = 0
    for delta in printed_deltas():
        table = TABLES[delta.table]
        row, reference = table.metrics(delta.row), table.metrics(table.reference(delta.row))
        unsigned = sum(row[key] / reference[key] - 1 for key in row) / len(row) * 100
        follow += abs(unsigned - delta.printed) < 0.1
    assert follow < 5


@pytest.mark.parametrize(
    ("printed", "low", "high"), [("0.61", 0.605, 0.615), ("76.4", 76.35, 76.45), ("12", 11.5, 12.5)]
)
def test_interval_is_what_rounds_to_the_print(printed, low, high):
    assert interval(printed) == pytest.approx((low, high))


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_every_row_has_one_number_per_column(table):
    for row in table.rows:
        assert len(row.printed.split()) == len(table.tasks)
        for key, value in table.metrics(row).items():
            low, high = {"mIoU": (30, 75), "rmse": (0.4, 0.7), "mErr": (13, 24), "maxF": (60, 90), "odsF": (68, 80)}[
                key.split("/")[1]
            ]
            assert low < value < high, (row, key)


def test_sizes_of_the_tables():
    sizes = {number: len(table.rows) for number, table in TABLES.items()}
    assert sizes == {"1": 18, "2": 6, "3": 13, "4": 21, "5a": 7, "5b": 7, "6": 4, "7": 5}


def test_sums_of_the_columns():
    """A digit mistyped anywhere changes one of these; they were added up from the print, not from paper.py."""
    sums = {
        "1": (681.47, 10.4026, 355.09, 1299.97),  # without MTFormer, which prints two of four
        "3": (800.03, 744.29, 1055.62, 191.68, 915.91),
        "5a": (310.44, 4.2174, 147.75, 533.5),
        "5b": (312.34, 4.2219, 147.61, 533.5),
    }
    for number, expected in sums.items():
        rows = [row for row in TABLES[number].rows if "-" not in row.printed.split()]
        found = [sum(float(row.printed.split()[i]) for row in rows) for i in range(len(expected))]
        assert found == pytest.approx(expected, abs=1e-6), number
    assert sum(row.fact("params") for row in TABLE_1.rows if row.model != "MTFormer") == pytest.approx(559.24)
    assert sum(row.fact("gmacs") for row in TABLE_1.rows if row.model != "MTFormer") == pytest.approx(1112.08)


def test_the_cells_of_table_5():
    sets = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), (0.1, 0.5, 1.0, 3.0, 4.0, 8.0, 16.0)
    assert tuple(row.fact("beta") for row in TABLE_5A.rows) == sets[0]
    assert tuple(row.fact("temperature") for row in TABLE_5B.rows) == sets[1]
    assert TABLE_5A.metrics(TABLE_5A.find(beta=1.0, temperature=3.0))["semseg/mIoU"] == 44.47
    assert TABLE_5A.find(beta=3.0) is None


def test_gains_printed_in_table_2():
    gains = {
        "InvPT": (0.66, 0.0012, 0.19, 0.1),
        "DeMT": (0.71, 0.0016, 0.03, 0.0),
        "DeMT-S": (0.41, -0.0038, 0.01, 0.0),
    }
    for plain, ours, printed in zip(TABLE_2.rows[::2], TABLE_2.rows[1::2], gains.values(), strict=True):
        for task, gain in zip(TABLE_2.tasks, printed, strict=True):
            sign = 1 if task.higher_is_better else -1
            change = sign * (TABLE_2.metrics(ours)[task.metric_key] - TABLE_2.metrics(plain)[task.metric_key])
            assert change == pytest.approx(gain, abs=1e-9), (ours, task)


def test_rows_quoted_twice_agree():
    """Tables 4 and 6 repeat Table 1's baselines, Table 4 with fewer digits."""
    baseline = TABLE_1.metrics(next(row for row in TABLE_1.rows if (row.model, row.group) == ("MT", "swin_t")))
    assert TABLE_6.metrics(TABLE_6.rows[0]) == baseline
    quoted = TABLE_4.metrics(
        next(row for row in TABLE_4.rows if (row.model, row.group) == ("MT", "swin_t taught by swin_l"))
    )
    assert quoted == pytest.approx(baseline, abs=0.0005)


def test_a_table_without_reference_has_no_delta():
    row = Row("MT", "swin_t", "1 2 3 4", "5.0")
    assert printed_deltas([Table("x", "nyud", DATASETS["nyud"].tasks, (row,))]) == []


def test_plain_data_imports_nothing_heavy():
    code = "import sys, kdam_ray.paper; print([m for m in ('torch', 'numpy', 'ray', 'mlflow') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
