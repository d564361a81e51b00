"""Table 5 from runs: the right cell in the right row, Deltas signed, chance named, half-finished sweeps readable.

python -m pytest tests/report/test_tables.py
"""

import json
import math
import statistics

import pytest

from kdam_ray import paper
from kdam_ray.config import Distill, change
from kdam_ray.recipes import recipe
from kdam_ray.report.beta_temp import Scored, table_5
from kdam_ray.report.beta_temp_grid import as_grids, as_json, as_report, as_text, sentences
from kdam_ray.report.formats import FORMATS
from kdam_ray.report.tables import DELTA, number
from kdam_ray.tasks import DATASETS

KEYS = ("semseg/mIoU", "depth/rmse", "normals/mErr", "edge/odsF")
PLAIN = (10.0, 1.0, 30.0, 70.0)
TEACHER_RUN = "0123456789ab"


def student(seed=0, dataset="rooms", **distill):
    base = recipe(dataset).student
    if distill:
        return change(base, {"teacher": "resnet_w16", "teacher_run": TEACHER_RUN, "distill": distill, "seed": seed})
    return change(base, {"seed": seed})


def scored(run, values, **more):
    return Scored.of(
        run,
        {f"val/{key}": value for key, value in zip(KEYS, values, strict=True)}
        | {f"val/{k}": v for k, v in more.items()},
    )


def no_kd(dataset="rooms"):
    return [
        scored(student(seed, dataset), (10.0 + seed - 1, 1.0, 30.0, 70.0)) for seed in range(3)
    ]  # sd 1 in mIoU, 0 elsewhere


def sweep(dataset="rooms"):
    """All 13 cells with mIoU 10 + beta * T, so that a cell in the wrong row shows."""
    points = {
        (row.fact("beta"), row.fact("temperature")) for table in (paper.TABLE_5A, paper.TABLE_5B) for row in table.rows
    }
    cells = [
        scored(
            student(dataset=dataset, method="plain_kd", beta=beta, temperature=t),
            (10 + beta * t, 1.0, 30.0, 70.0),
            delta_teacher=beta * t,
        )
        for beta, t in points
    ]
    kdam = scored(student(dataset=dataset, method="kdam", beta=1.0), (17.0, 1.0, 30.0, 70.0))
    return [*cells, *no_kd(dataset), kdam]


def teacher():
    return scored(recipe("rooms").teacher, (20.0, 0.8, 20.0, 80.0))


def test_thirteen_runs_fill_fourteen_rows_the_shared_cell_in_both():
    results = table_5(sweep(), teacher=teacher())
    cells = [line for line in results.rows if line.part.startswith("5")]
    assert [len([line for line in cells if line.part == part]) for part in ("5a", "5b")] == [7, 7]
    assert len({line.run_ids[0] for line in cells}) == 13
    for line in cells:
        assert results.number(line, "semseg/mIoU").mean == pytest.approx(
            10 + line.facts["beta"] * line.facts["temperature"]
        )
        printed = paper.TABLES[line.part].find(beta=line.facts["beta"], temperature=line.facts["temperature"])
        assert results.number(line, "depth/rmse").paper == paper.TABLE_5A.metrics(printed)["depth/rmse"]


def test_json_has_every_number_of_every_row():
    document = json.loads(json.dumps(as_json(table_5(sweep(), teacher=teacher())), allow_nan=False))
    assert (document["table"], document["dataset"], document["delta_reference"]) == ("5", "rooms", "no KD")
    filled = [row for row in document["rows"] if row["part"] in ("5a", "5b") and all(row["metrics"].values())]
    assert len(filled) == 14
    row = next(row for row in filled if row["part"] == "5b" and row["temperature"] == 8.0)
    assert row["metrics"]["semseg/mIoU"] == {"mean": 18.0, "std": None, "n": 1, "paper": 45.35, "diff": None}
    assert row["delta_mt"]["mean"] == pytest.approx(80 / 4)
    assert row["seeds"] == [0]
    assert (document["smoke"], document["stand_ins"]) == (False, {"swin_l": "resnet_w16", "swin_t": "swin_w12"})
    onto = json.loads(json.dumps(as_json(table_5(sweep("nyud"), teacher=None))))
    row = next(row for row in onto["rows"] if row["part"] == "5b" and row.get("temperature") == 8.0)
    assert row["metrics"]["semseg/mIoU"]["diff"] == pytest.approx(18 - 45.35)  # on the paper's own data


@pytest.mark.parametrize(
    ("key", "better", "worse"), [("semseg/mIoU", 11, 9), ("depth/rmse", 0.9, 1.1), ("normals/mErr", 27, 33)]
)
def test_delta_is_positive_for_better_whatever_the_direction(key, better, worse):
    for value, sign in ((better, 1), (worse, -1)):
        values = [value if name == key else plain for name, plain in zip(KEYS, PLAIN, strict=True)]
        results = table_5(
            [*no_kd(), scored(student(method="plain_kd", beta=2.0, temperature=3.0), values)], teacher=None
        )
        line = next(line for line in results.rows if line.facts.get("beta") == 2.0)
        assert results.number(line, DELTA).mean == pytest.approx(sign * 10 / 4)


def test_delta_is_against_single_task_runs_once_all_tasks_have_one():
    single = dict(zip(KEYS, (20.0, 1.0, 30.0, 70.0), strict=True))
    results = table_5(sweep(), teacher=teacher(), single_task=single)
    line = next(line for line in results.rows if line.label == "no KD (3 seeds)")
    assert results.number(line, DELTA).mean == pytest.approx(-50 / 4)
    assert "against the single-task runs" in " ".join(sentences(results))
    assert "no single-task reference" not in " ".join(sentences(results))
    some = {"semseg/mIoU": 20.0}
    assert table_5(no_kd(), teacher=None, single_task=some).delta_kind == "no KD"
    assert "no single-task reference" in " ".join(sentences(table_5(sweep(), teacher=None, single_task=some)))


def test_the_limit_of_one_seed_is_two_root_two_sd_of_the_no_kd_runs():
    results = table_5(sweep(), teacher=teacher())
    assert results.limits()["semseg/mIoU"] == pytest.approx(2 * math.sqrt(2) * 1.0)
    resolved = {line.label for line in results.rows if line.part == "5a" and results.is_resolved(line, "semseg/mIoU")}
    assert resolved == {"beta 1", "beta 2", "beta 4", "beta 8", "beta 16"}  # 10 + 3 beta is past 12.83
    assert not any(results.is_resolved(line, "depth/rmse") for line in results.rows if line.part.startswith("5"))
    # 13 cells: 5 of those above and T 4, 8, 16; the shared one counts once
    said = "\n".join(sentences(results))
    assert (
        "Cells of 13 further than that from the no-KD mean (marked †; outside the band of the plots): "
        "SemSeg 8, Delta 8." in said
    )  # the others do not vary between the seeds


def test_what_is_marked_is_what_lies_outside_the_band():
    results = table_5(sweep(), teacher=teacher())
    low, high = results.band("semseg/mIoU")
    assert (low, high) == (pytest.approx(10 - 8**0.5), pytest.approx(10 + 8**0.5))
    assert results.band("depth/rmse") is None  # the seeds do not vary
    for line in results.rows:
        value = results.number(line, "semseg/mIoU").mean
        assert results.is_resolved(line, "semseg/mIoU") == (not low <= value <= high)
    sides = {line.label: results.side(line, "semseg/mIoU") for line in results.rows if line.part == "5a"}
    assert (sides["beta 0.1"], sides["beta 16"]) == ("inside", "better")


def test_a_side_follows_the_direction_of_its_column():
    plain = [scored(student(seed), (10.0, 1.0 + error, 30.0, 70.0)) for seed, error in enumerate((-0.01, 0.0, 0.01))]
    cell = scored(student(method="plain_kd", beta=4.0, temperature=3.0), (10.0, 2.0, 30.0, 70.0))
    results = table_5([*plain, cell], teacher=None)
    (row,) = [line for line in results.rows if line.label == "beta 4"]
    assert results.side(row, "depth/rmse") == "worse"  # a larger error


def test_beta_1_and_t_3_are_one_run_in_two_rows():
    results = table_5(sweep(), teacher=teacher())
    twins = {line.label: results.twin(line).label for line in results.rows if results.twin(line) is not None}
    assert twins == {"beta 1": "T 3", "T 3": "beta 1"}
    assert "T 3 (= beta 1)" in as_text(results)


def test_chance_of_crossing_the_limit_is_what_a_simulation_finds():
    import numpy as np

    from kdam_ray.report.beta_temp_grid import _chance

    noise = np.random.default_rng(0).normal(size=(200_000, 4))
    seeds, cell = noise[:, :3], noise[:, 3]
    crossed = np.abs(cell - seeds.mean(1)) > 2 * math.sqrt(2) * seeds.std(1, ddof=1)
    assert _chance(3) == pytest.approx(crossed.mean(), abs=0.005)
    pairs = np.random.default_rng(1).normal(size=(200_000, 5))
    crossed = np.abs(pairs[:, 3:].mean(1) - pairs[:, :3].mean(1)) > 2 * math.sqrt(2) * pairs[:, :3].std(1, ddof=1)
    assert _chance(3, 2) == pytest.approx(crossed.mean(), abs=0.005)


def test_one_no_kd_seed_says_that_nothing_is_resolved():
    results = table_5([no_kd()[0], scored(student(method="plain_kd"), PLAIN)], teacher=None)
    assert results.limits() == {}
    assert any("resolves nothing" in sentence for sentence in sentences(results))
    assert "†" not in as_text(results)


def test_seeds_of_a_cell_become_mean_and_spread():
    runs = [
        scored(student(seed, method="plain_kd", beta=1.0, temperature=3.0), (10.0 + 2 * seed, 1.0, 30.0, 70.0))
        for seed in (2, 0, 1)
    ]
    results = table_5([*runs, *no_kd()], teacher=None)
    line = next(line for line in results.rows if line.label == "beta 1")
    assert list(line.by_seed) == [0, 1, 2]
    value = results.number(line, "semseg/mIoU")
    assert (value.mean, value.std, value.n) == (12.0, statistics.stdev([10, 12, 14]), 3)


def test_a_half_finished_sweep_says_missing():
    results = table_5([scored(student(method="plain_kd", beta=4.0, temperature=3.0), PLAIN)], teacher=None)
    text = as_text(results)
    assert text.count("missing") == (14 - 1 + 3) * 5 + 1  # every other row, and the Delta of this one
    assert as_json(results)["rows"][0]["metrics"]["semseg/mIoU"] is None
    with pytest.raises(ValueError, match="no finished run"):
        table_5([], teacher=None)


def test_a_sweep_of_which_only_the_reference_has_finished_is_a_table():
    results = table_5(no_kd(), teacher=None)
    plain = next(line for line in results.rows if line.label.startswith("no KD"))
    assert results.number(plain, "semseg/mIoU").n == 3
    assert all(line.run_ids == {} for line in results.rows if line.part.startswith("5"))


def test_nan_is_missing_not_a_number():
    assert number([float("nan")]) is None
    assert number([1.0, float("nan")]).n == 1


def test_searched_runs_stand_apart_and_of_one_seed_none_is_called_best():
    searched = [
        scored(
            student(method="plain_kd", beta=b, temperature=2.2, alpha=0.7), (11.0, 1.0, 30.0, 70.0), delta_teacher=value
        )
        for b, value in ((0.3, 99.0), (5.0, 1.0))
    ]
    results = table_5([*sweep(), *searched], teacher=teacher())
    labels = [line.label for line in results.rows if line.part == "searched"]
    assert labels == ["β 0.3 T 2.2 α 0.7", "β 5 T 2.2 α 0.7"]
    said = sentences(results)[-1]
    assert "Of 13 cells and 2 searched points that finished none is called best: that takes 3 seeds" in said
    assert "--confirm trains further seeds" in said
    assert "Ahead: beta 0.3, T 2.2, alpha 0.7 (+2.50 %, 1 seed, not more than chance from no KD)." in said
    assert not any(cell.is_best for grid in as_grids(results) for row in grid.rows for cell in row)
    assert as_report(results)[1]["confirmed"] == []


def test_what_the_text_calls_best_is_what_is_bold_and_no_luckiest_run():
    cells = [
        scored(
            student(seed, method="plain_kd", beta=beta, temperature=3.0), (mIoU, 1.0, 30.0, 70.0), delta_teacher=value
        )
        for beta, mIoU, values in ((0.1, 9.0, (-25.0, -1.0, -25.0)), (0.5, 5.0, (-2.0, -2.0, -2.0)))
        for seed, value in enumerate(values)
    ]
    lucky = scored(student(method="plain_kd", beta=16.0, temperature=3.0), (99.0, 1.0, 30.0, 70.0))
    results = table_5([*cells, lucky, *no_kd()], teacher=teacher())
    best, other, _ = sentences(results)[-3:]
    assert best.startswith("Best of 2 confirmed at 3 seeds or more, from 3 cells and 0 searched points that finished")
    assert "(bold at Δ): beta 0.5, T 3, alpha 1" in best
    assert "beta 0.1, T 3, alpha 1" in other
    bold = {row[0].text for grid in as_grids(results) for row in grid.rows if row[-1].is_best}
    assert bold == {"beta 0.5"}


def test_failed_runs_are_named():
    run = student(method="plain_kd", beta=16.0, temperature=3.0)
    results = table_5(sweep(), teacher=teacher(), failed=[(run, "the loss is nan at epoch 2")])
    (said,) = [sentence for sentence in sentences(results) if "Failed" in sentence]
    assert "b16 " in said
    assert said.endswith(f"({run.run_id}): the loss is nan at epoch 2.")
    (row,) = as_json(results)["failed"]
    assert (row["run_id"], row["reason"]) == (run.run_id, "the loss is nan at epoch 2")


def test_a_smoke_sweep_says_that_its_numbers_mean_nothing():
    results = table_5(sweep(), teacher=teacher(), smoke=True)
    assert all("the numbers mean nothing" in grid.title for grid in as_grids(results))
    assert as_json(results)["smoke"]
    assert "the numbers mean nothing" not in as_text(table_5(sweep(), teacher=teacher()))


def test_seeds_that_lack_a_metric_are_counted_where_they_lack_it():
    lacking = Scored(no_kd()[0].run, {key: value for key, value in no_kd()[0].metrics.items() if key != "depth/rmse"})
    results = table_5([*sweep(), lacking], teacher=None)  # the later one counts
    assert "1.0000±0.0000 (n 2)" in as_text(results)


@pytest.mark.parametrize("value", [None, math.nan])
def test_the_sentence_counts_the_seeds_that_have_the_metric(value):
    runs = no_kd()
    kept = {key: number for key, number in runs[0].metrics.items() if key != "semseg/mIoU"}
    runs[0] = Scored(runs[0].run, kept if value is None else kept | {"semseg/mIoU": value})
    said = " ".join(sentences(table_5([*sweep()[:13], *runs], teacher=None)))
    assert "2·√2·sd of the 3 no-KD seeds (SemSeg of 2, Delta of 2): SemSeg" in said
    runs[1] = Scored(runs[1].run, {})
    assert "the spread between seeds is not known" in " ".join(sentences(table_5(runs[:2], teacher=None)))


def test_all_searched_runs_are_counted_and_a_nan_is_the_worst_of_them():
    searched = [
        scored(
            student(method="plain_kd", beta=0.3 + i, temperature=2.2),
            (10.0 + 12 - i, *PLAIN[1:]),
            delta_teacher=math.nan if i == 0 else -float(i),
        )
        for i in range(12)
    ]
    results = table_5([*searched, *no_kd()], teacher=None)
    labels = [line.label for line in results.rows if line.part == "searched"]
    assert len(labels) == 12
    assert (labels[0][:6], labels[-1][:6]) == ("β 1.3 ", "β 0.3 ")
    (shown,) = [grid.rows for grid in as_grids(results) if grid.title.startswith("Searched")]
    assert len(shown) == 8
    assert shown[0][0].text.startswith("β 0.3 ")  # the highest Delta
    assert "Of 0 cells and 12 searched points that finished none is called best" in sentences(results)[-1]


def test_an_unfinished_cell_is_never_the_best():
    best = Scored(
        student(method="plain_kd", beta=16.0, temperature=3.0),
        dict(zip(KEYS, (99.0, 0.1, 1.0, 99.0), strict=True)),
        is_finished=False,
    )
    runs = [item for item in sweep() if item.run.run_id != best.run.run_id]
    text = as_text(table_5([*runs, best], teacher=None))
    (line,) = [line for line in text.splitlines() if line.startswith("beta 16 (1 unfinished)")]
    assert "99.00" in line
    assert "*" not in line
    assert "†" not in line


@pytest.mark.parametrize("method", ["plain_kd", "kdam", "dist"])
def test_the_cells_are_of_the_method_that_most_runs_use(method):
    cells = [scored(student(method=method, beta=beta, temperature=3.0), PLAIN) for beta in (0.5, 2.0)]
    reference = scored(student(method="kdam", beta=1.0, temperature=1.0), PLAIN)
    results = table_5([*cells, reference, *no_kd()], teacher=None, method=None)
    assert [line.label for line in results.rows if line.part == "5a" and line.run_ids] == ["beta 0.5", "beta 2"]
    assert next(line for line in results.rows if line.label == "KDAM beta 1").run_ids == {0: (reference.run.run_id,)}


def test_a_run_that_is_cell_and_reference_is_one_seed():
    kdam = scored(student(method="kdam", beta=1.0, temperature=1.0), PLAIN)
    results = table_5([kdam, *no_kd(), kdam], teacher=None, method="kdam")
    mine = [line for line in results.rows if line.label in ("T 1", "KDAM beta 1")]
    assert [line.run_ids for line in mine] == [{0: (kdam.run.run_id,)}] * 2
    assert [line.by_seed for line in mine] == [{0: kdam.metrics}] * 2


def test_fits_a_terminal_and_stays_aligned():
    text = as_text(table_5(sweep(), teacher=teacher()))
    assert max(map(len, text.splitlines())) <= 120
    for part in text.split("\n\n"):
        assert len({len(line) for line in part.splitlines() if line.startswith(("beta", "T ", "no KD", "KDAM"))}) <= 1
    assert "44.42" in text
    assert "0.6001" in text


def test_other_tasks_have_no_paper_columns():
    keys = [task.metric_key for task in DATASETS["rooms_pascal"].tasks]
    runs = [
        Scored(student(dataset="rooms_pascal", method="plain_kd", beta=1.0, temperature=3.0), dict.fromkeys(keys, 10.0))
    ]
    text = as_text(table_5(runs, teacher=None))
    assert "PartSeg" in text
    assert "44.42" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_report_of_a_smoke_sweep_names_its_networks():
    text, document = as_report(table_5(sweep(), teacher=teacher()))
    assert "resnet_w16 teaches swin_w12 on rooms" in text
    assert document["notes"] == sentences(table_5(sweep(), teacher=teacher()))
    assert Distill(method="plain_kd").temperature == 3.0


def test_table_5_in_every_format():
    searched = scored(
        student(method="plain_kd", beta=0.3, temperature=2.2, alpha=0.7), (11.0, 1.0, 30.0, 70.0), delta_teacher=1.0
    )
    results = table_5([*sweep(), searched], teacher=teacher())
    for name, render in FORMATS.items():
        text = render(as_grids(results))
        assert "44.90" in text, name
        assert name != "tex" or text.isascii()
    assert as_grids(results)[-1].notes == tuple(sentences(results))


def test_a_searched_run_beside_a_cell_is_no_cell():
    """Same beta and T, another alpha: not what Table 5 fixes."""
    beside = scored(student(method="plain_kd", beta=2.0, temperature=3.0, alpha=0.5), (99.0, 1.0, 30.0, 70.0))
    results = table_5([*sweep(), beside], teacher=None)
    line = next(line for line in results.rows if line.label == "beta 2")
    assert results.number(line, "semseg/mIoU").mean == pytest.approx(16.0)


def test_a_reference_of_zero_has_no_delta():
    """A tiny run may find no edge at all."""
    runs = [scored(student(seed), (10.0, 1.0, 30.0, 0.0)) for seed in range(3)]
    results = table_5([*runs, scored(student(method="plain_kd"), PLAIN)], teacher=None)
    assert "Delta does not exist: the reference's edge/odsF is 0 (no KD runs)." in sentences(results)
    assert all(results.number(line, DELTA) is None for line in results.rows)
