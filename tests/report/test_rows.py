"""Tables 1 to 7 from what was measured: Deltas from the rows, best of column, pairs by seed, every format.

python -m pytest tests/report/test_rows.py
"""

import json
import shutil
import statistics
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kdam_ray.metrics import delta_mt
from kdam_ray.paper import TABLES, printed_deltas
from kdam_ray.report.formats import FORMATS
from kdam_ray.report.row_grid import comparison_grid, document, grid, grids, notes
from kdam_ray.report.rows import PaperTable
from kdam_ray.report.tables import DELTA, SeedRow

GOLDEN = Path(__file__).parent / "golden"
KEYS = ("semseg/mIoU", "depth/rmse", "normals/mErr", "edge/odsF")


def seed_row(row, network, epochs, by_seed, run_ids, **more):
    return SeedRow(row.model, by_seed, run_ids=run_ids, network=network, epochs=epochs, printed=row, **more)


def measured(row, *seeds, network="net", **more):
    by_seed = {seed: dict(zip(KEYS, values, strict=True)) for seed, values in enumerate(seeds)}
    return seed_row(row, network, 4, by_seed, {seed: (f"{seed:012x}",) for seed in by_seed}, **more)


def cell(shown, row, title):
    """Of a row, under that title."""
    found = grid(shown)
    return found.rows[shown.rows.index(row)][found.full_header.index(title)]


def as_printed(number, dataset="nyud"):
    """The paper's own numbers as if we had measured them, one seed."""
    table = TABLES[number]
    rows = tuple(seed_row(row, row.group, 400, {0: table.metrics(row)}, {0: ("0" * 12,)}) for row in table.rows)
    return PaperTable.of(table, dataset, rows, {})


def test_deltas_of_the_papers_own_numbers_are_those_recomputed_from_print():
    """And so the formula, the signs and the choice of the reference are those of `kdam_ray.paper`, for 38 rows."""
    for number in ("1", "3", "4"):
        shown = as_printed(number)
        recomputed = {id(delta.row): delta.recomputed for delta in printed_deltas([shown.table])}
        for row in shown.rows:
            if id(row.printed) in recomputed:
                assert shown.number(row, DELTA).mean == pytest.approx(recomputed[id(row.printed)])
                assert shown.number(row, DELTA).diff == pytest.approx(0, abs=1e-12)


def test_delta_is_of_each_seed_against_the_mean_of_the_single_task_row():
    table = TABLES["1"]
    alone = measured(table.rows[0], (10.0, 1.0, 30.0, 70.0), (12.0, 0.8, 34.0, 74.0))
    mt = measured(table.rows[1], (11.0, 0.9, 32.0, 72.0), (22.0, 0.9, 16.0, 72.0))
    shown = PaperTable.of(table, "rooms", (alone, mt), {})
    assert shown.values(mt, DELTA) == pytest.approx({0: 0.0, 1: 100 * (1.0 + 0.0 + 0.5 + 0.0) / 4})
    assert shown.number(alone, DELTA).mean == pytest.approx(0.0)
    assert shown.number(mt, DELTA).std == pytest.approx(statistics.stdev([0.0, 37.5]))


def test_a_row_whose_backbone_the_print_does_not_name_is_compared_on_its_network_over_its_own_tasks():
    shown = as_printed("1")
    index = next(i for i, row in enumerate(shown.rows) if row.label == "MTFormer")
    former = seed_row(
        shown.rows[index].printed, "swin_s", 400, {0: {"semseg/mIoU": 50.56, "depth/rmse": 0.4830}}, {0: ("0" * 12,)}
    )
    shown = PaperTable.of(shown.table, "nyud", (*shown.rows[:index], former, *shown.rows[index + 1 :]), {})
    tasks = shown.table.tasks[:2]
    alone = {"semseg/mIoU": 48.92, "depth/rmse": 0.5804}
    assert shown.number(former, DELTA).mean == pytest.approx(delta_mt(former.by_seed[0], alone, tasks))
    line = next(row for row in grid(shown).rows if row[0].text == "MTFormer")
    assert not line[grid(shown).full_header.index("Δ ↑ % ours")].is_best  # a Delta over two tasks is another quantity
    assert [cell.text for cell in line].count("-") >= 4  # ours and the paper's of the two tasks that it does not learn
    assert any("over the tasks that the row has" in note for note in notes(shown))


def test_best_follows_the_arrow_and_stays_on_one_backbone():
    best = {(row[0].text, row[1].text): [cell.is_best for cell in row] for row in grid(as_printed("6")).rows}
    both = best["MT+KDAM inter and intra", "swin_t"]
    assert [both[index] for index in (3, 6, 9, 12)] == [True, False, True, True]  # Depth's best is inter alone: lower
    assert best["MT+KDAM inter", "swin_t"][6]
    groups = [(row[1].text, cell.text) for row in grid(as_printed("2")).rows for cell in row[3:4] if cell.is_best]
    assert groups == [("swin_t", "47.07"), ("swin_s", "51.91")]
    singles = [row for row in grid(as_printed("1")).rows if row[0].text == "single-task"]
    assert not any(cell.is_best for row in singles for cell in row)


def table_6(seeds=3, dataset="rooms"):
    table = TABLES["6"]
    plain = [(10.0 + seed, 1.0, 30.0, 70.0) for seed in range(seeds)]
    better = [(10.5 + seed + 0.1 * seed, 0.9, 30.0, 69.0) for seed in range(seeds)]
    return PaperTable.of(
        table,
        dataset,
        (measured(table.rows[0], *plain), *(measured(row, *better) for row in table.rows[1:])),
        {"swin_t": "net"},
    )


def test_comparisons_are_paired_by_seed_and_corrected_for_their_number():
    shown = table_6()
    assert len(shown.comparisons) == 3 * 4
    semseg = next(item for item in shown.comparisons if item.key == "semseg/mIoU")
    assert semseg.difference.mean == pytest.approx(0.6)
    assert semseg.difference.pairs == 3
    assert semseg.p_corrected >= semseg.difference.p
    found = comparison_grid(shown)
    assert found.rows[0][3].text.startswith("+0.60 [+0.35, +0.85]")
    assert comparison_grid(table_6(seeds=1)) is None
    assert any("One seed" in note for note in notes(table_6(seeds=1)))


def test_a_seed_that_only_one_of_them_has_is_no_pair():
    table = TABLES["6"]
    rows = (
        measured(table.rows[0], (10.0, 1.0, 30.0, 70.0), (11.0, 1.0, 30.0, 70.0)),
        seed_row(table.rows[1], "net", 4, {1: dict(zip(KEYS, (13.0, 1.0, 30.0, 70.0), strict=True)), 2: {}}, {}),
    )
    found = [item.difference for item in PaperTable.of(table, "rooms", rows, {}).comparisons]
    assert [difference.pairs for difference in found] == [1] * 4
    assert found[0].mean == 2.0


def test_missing_rows_and_seeds_say_so():
    table = TABLES["6"]
    empty = seed_row(table.rows[1], "net", 4, {0: {}, 1: {}}, {0: ("a" * 12,), 1: ("b" * 12,)})
    half = seed_row(table.rows[2], "net", 4, {0: dict(zip(KEYS, (1.0, 1.0, 1.0, 1.0), strict=True)), 1: {}}, {})
    shown = PaperTable.of(table, "rooms", (measured(table.rows[0], (10.0, 1.0, 30.0, 70.0)), empty, half), {})
    text = FORMATS["text"](grids(shown))
    lines = {line.split("  ")[0].strip("* "): line for line in text.splitlines()}
    assert lines["MT+KDAM intra"].count("missing") == 4
    assert "  0  " in lines["MT+KDAM intra"]
    assert "  1  " in lines["MT+KDAM inter"]
    assert "1 of 3 rows are missing" in text
    row = document(shown)["rows"][1]
    assert row["metrics"]["semseg/mIoU"] == {"mean": None, "std": None, "n": 0, "paper": 43.31, "diff": None}
    assert (row["seeds"], list(row["run_ids"])) == ([], [0, 1])


def test_what_goes_on_is_shown_and_decides_nothing():
    """Neither best, nor a reference of Deltas, nor in a comparison, and every number of it is marked."""
    table = TABLES["1"]
    alone = measured(table.rows[0], (10.0, 1.0, 30.0, 70.0), (20.0, 1.0, 30.0, 70.0), unfinished=frozenset({1}))
    mt = measured(table.rows[1], (11.0, 1.0, 30.0, 70.0), (11.0, 1.0, 30.0, 70.0), (11.0, 1.0, 30.0, 70.0))
    kdam = measured(
        table.rows[2],
        (99.0, 0.1, 1.0, 99.0),
        (12.0, 1.0, 30.0, 70.0),
        (13.0, 1.0, 30.0, 70.0),
        unfinished=frozenset({0}),
    )
    shown = PaperTable.of(table, "rooms", (alone, mt, kdam), {})
    assert shown.reference(mt)["semseg/mIoU"] == 10.0
    assert {(item.difference.pairs, item.rival.label) for item in shown.comparisons} == {(2, "MT")}
    semseg = next(item.difference for item in shown.comparisons if item.key == "semseg/mIoU")
    assert semseg.mean == 1.5
    assert not shown.is_best(kdam, "semseg/mIoU")
    for title in ("SemSeg mIoU ↑ % ours", "Bound odsF ↑ % ours", "Δ ↑ % ours"):
        assert cell(shown, kdam, title).is_flagged
        assert not cell(shown, mt, title).is_flagged
    assert any(
        "unfinished" in note and "MT+KDAM net (seed 0)" in note and "single-task net (seed 1)" in note
        for note in notes(shown)
    )
    row = document(shown)["rows"][2]
    assert (row["seeds"], row["unfinished"], row["provisional"]) == ([0, 1, 2], [0], sorted([*KEYS, DELTA]))


def test_failed_runs_are_named_with_their_reason():
    table = TABLES["6"]
    half = seed_row(
        table.rows[1],
        "net",
        4,
        {0: dict.fromkeys(KEYS, 1.0), 1: {}},
        {0: ("a" * 12,), 1: ("b" * 12,)},
        failed={1: "the loss is nan"},
    )
    shown = PaperTable.of(table, "rooms", (measured(table.rows[0], *[(10.0, 1.0, 30.0, 70.0)] * 2), half), {})
    assert "Failed, so without numbers: MT+KDAM intra net seed 1 (the loss is nan)." in notes(shown)
    assert document(shown)["rows"][1]["failed"] == {1: "the loss is nan"}
    assert document(shown)["rows"][1]["seeds"] == [0]


def test_a_metric_that_some_seeds_lack_has_its_own_count_and_no_other_quantity_takes_its_place():
    table = TABLES["1"]
    alone = measured(table.rows[0], (10.0, 1.0, 30.0, 70.0), (10.0, 1.0, 30.0, 70.0))
    mt = measured(table.rows[1], (11.0, 1.0, 30.0, 50.0), (11.0, 1.0, 30.0, 50.0), keys=KEYS)
    kdam = measured(table.rows[2], (11.0, 1.0, 30.0, 50.0), (11.0, 1.0, 30.0, 50.0), keys=KEYS)
    lost = replace(kdam, by_seed={seed: dict(list(metrics.items())[:3]) for seed, metrics in kdam.by_seed.items()})
    shown = PaperTable.of(table, "rooms", (alone, mt, lost), {})
    assert DELTA not in {item.key for item in shown.comparisons}  # a Delta without boundaries is another quantity
    assert [cell(shown, lost, title).text for title in ("Bound odsF ↑ % ours", "Δ ↑ % ours")] == ["missing", "missing"]
    once = replace(kdam, by_seed={0: kdam.by_seed[0], 1: lost.by_seed[1]})
    shown = PaperTable.of(table, "rooms", (alone, mt, once), {})
    assert cell(shown, once, "n").text == "2"
    assert cell(shown, once, "Bound odsF ↑ % ours").text == "50.00 (n 1)"


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((2, 3, 4), "MT+KDAM intra net (one seed shared)"),
        ((5, 6), "MT+KDAM intra net (no seed shared)"),
        ((0, 1), None),
    ],
)
def test_rows_that_cannot_be_tested_are_named(seeds, said):
    table = TABLES["6"]
    values = dict(zip(KEYS, (13.0, 1.0, 30.0, 70.0), strict=True))
    rows = (
        measured(table.rows[0], *[(10.0, 1.0, 30.0, 70.0)] * 3),
        seed_row(table.rows[1], "net", 4, dict.fromkeys(seeds, values), {}),
    )
    found = [note for note in notes(PaperTable.of(table, "rooms", rows, {})) if "shared" in note]
    assert not any("One seed:" in note for note in notes(PaperTable.of(table, "rooms", rows, {})))
    assert found == ([f"Not tested against their baselines, which needs two shared seeds: {said}."] if said else [])


def test_a_column_that_nobody_has_learnt_is_named():
    """The same run in two rows counts once; where most differ nothing is said, nor of metres, nor of smoke numbers."""

    def said(*scores, run_ids=None, **more):
        rows = [measured(row, *((score, 0.9, 30.0, 50.0) for score in scores)) for row in TABLES["6"].rows]
        rows = [replace(row, run_ids=run_ids or {seed: (f"{row.label} {seed}",) for seed in row.seeds}) for row in rows]
        shown = PaperTable.of(TABLES["6"], "rooms", tuple(rows), {}, **more)
        return [note for note in grid(shown).heads if "one answer everywhere" in note]

    (note,) = said(11.638, 11.638, 12.0)
    assert note.startswith("SemSeg: 8 of 12 networks have 11.64 % to the last digit: ")
    assert not said(11.638, 12.0)
    assert not said(11.638, 11.638, run_ids={0: ("a",), 1: ("b",)})
    assert not said(11.638, 11.638, smoke=True)


def test_costs_stand_beside_the_printed_ones():
    table = TABLES["1"]
    shown = PaperTable.of(
        table, "rooms", (measured(table.rows[0], (10.0, 1.0, 30.0, 70.0), params=1_234_567, macs=23_400_000),), {}
    )
    titles = ("params M ours", "params M paper", "GMACs ours", "GMACs paper")
    assert [cell(shown, shown.rows[0], title).text for title in titles] == ["1.23", "16.09", "0.023", "40.93"]
    row = document(shown)["rows"][0]
    assert (row["params"], row["macs"], row["paper_params"], row["paper_gmacs"]) == (
        1_234_567,
        23_400_000,
        16.09,
        40.93,
    )
    assert "params M" not in [title for title, _ in grid(as_printed("6")).groups]


def test_single_task_row_with_a_missing_network_gives_no_delta():
    table = TABLES["1"]
    alone = seed_row(table.rows[0], "net", 4, {0: {"semseg/mIoU": 10.0}}, {})
    mt = measured(table.rows[1], (11.0, 0.9, 32.0, 72.0))
    shown = PaperTable.of(table, "rooms", (alone, mt), {})
    assert shown.number(mt, DELTA) is None
    assert cell(shown, shown.rows[1], "Δ ↑ % ours").text == "missing"


@pytest.mark.parametrize("form", list(FORMATS))
def test_letter_by_letter(form):
    """Against files that were read and found right; a wanted change of a format is a change of them."""
    assert FORMATS[form](grids(table_6())) + "\n" == (GOLDEN / f"table_6.{form}").read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX is installed")
@pytest.mark.parametrize("number", ["1", "3", "4"])
def test_tex_compiles(number, tmp_path):
    body = FORMATS["tex"](grids(as_printed(number)))
    (tmp_path / "table.tex").write_text(
        "\\documentclass[landscape,a3paper]{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
        + body
        + "\n\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]


def test_differences_stand_only_on_the_papers_own_data():
    assert "diff" not in grid(table_6()).header
    shown = table_6(dataset="nyud")
    assert grid(shown).header.count("diff") == 4
    assert [cell.text for cell in grid(shown).rows[0]][3:6] == ["11.00±1.00", "38.78", "-27.78"]
    assert any("not to be compared" in note for note in notes(table_6()))
    assert not any("not to be compared" in note for note in notes(shown))


def test_json_has_the_promised_form():
    shown = as_printed("1")
    found = json.loads(json.dumps(document(shown)))
    assert (found["table"], found["dataset"]) == ("1", "nyud")
    row = found["rows"][2]
    assert row.items() >= {"model": "MT+KDAM", "backbone": "hrnet18", "seeds": [0]}.items()
    assert row["metrics"]["semseg/mIoU"] == {"mean": 36.85, "std": None, "n": 1, "paper": 36.85, "diff": 0.0}
    assert row["delta_mt"].keys() == {"mean", "std", "n", "paper_printed", "paper_recomputed", "follows"}
    assert row["delta_mt"]["paper_printed"] == -0.73
    assert row["delta_mt"]["follows"] is False
    assert found["rows"][0]["delta_mt"]["follows"] is None


@pytest.mark.parametrize("number", ["1", "2", "3", "4", "6", "7"])
@pytest.mark.parametrize("form", list(FORMATS))
def test_every_table_in_every_format_shows_every_row(number, form):
    shown = as_printed(number)
    text = FORMATS[form](grids(shown))
    for row in shown.table.rows:
        assert row.printed.split()[0] in text
    if form == "tex":
        assert text.isascii()  # any TeX takes it
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == len(grids(shown))
        body = [line for line in text.splitlines() if line.endswith(r"\\")]
        columns = len(grids(shown)[0].header)
        assert {line.count("&") + 1 for line in body if not line.startswith(r"\multicolumn")} <= {columns}
