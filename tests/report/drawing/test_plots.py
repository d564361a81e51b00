"""Plots: every number drawn once, spread only where there are seeds, gaps where nothing is, the same bytes every time.

python -m pytest tests/report/drawing/test_plots.py
"""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from kdam_ray import paper
from kdam_ray.config import change
from kdam_ray.recipes import recipe
from kdam_ray.report.beta_temp import Scored, table_5
from kdam_ray.report.drawing.cost_plane import Costed, accuracy_against_cost
from kdam_ray.report.drawing.curves import Series, beta_temp_curves, epochs_curve, learning_curves
from kdam_ray.report.drawing.forest import differences, gain
from kdam_ray.report.drawing.plots import as_svg, columns, save
from kdam_ray.report.drawing.searches import importance, parallel_coordinates
from kdam_ray.report.gain import GainTable
from kdam_ray.report.significance import Difference
from kdam_ray.report.tables import Number, SeedRow, number
from kdam_ray.service.search.importance import importances
from kdam_ray.tasks import DATASETS

TASKS = DATASETS["rooms"].tasks
KEYS = [task.metric_key for task in TASKS]
NAN, INF = float("nan"), float("inf")
BETAS = [row.fact("beta") for row in paper.TABLE_5A.rows]


def scored(run, first):
    values = (first, 1.0 + first / 100, 30.0, 70.0)
    return Scored.of(run, {f"val/{key}": value for key, value in zip(KEYS, values, strict=True)})


def sweep(seeds_of, *, plain_seeds=3):
    """Table 5a with `seeds_of(beta)` seeds in each cell, mIoU 10 + beta / 10 + seed."""
    base = recipe("rooms").student
    taught = {"teacher": "resnet_w16", "teacher_run": "0123456789ab"}
    runs = [scored(change(base, {"seed": seed}), 10.0 + seed) for seed in range(plain_seeds)]
    for beta in BETAS:
        cell = taught | {"distill": {"method": "plain_kd", "beta": beta, "temperature": 3.0}}
        runs += [scored(change(base, cell | {"seed": seed}), 10 + beta / 10 + seed) for seed in range(seeds_of(beta))]
    return table_5(runs, teacher=None)


def bars(axes):
    """Vertical segments: error bars."""
    found = [c.get_segments() for c in axes.collections if isinstance(c, LineCollection)]
    return [segment for segments in found for segment in segments if segment[0][0] == segment[1][0]]


def line(axes, colour):
    """The points of the line of a colour; gaps left out."""
    mine = [one for one in axes.lines if to_hex(one.get_color()).lower() == colour.lower() and len(one.get_xdata()) > 0]
    points = [
        (float(x), float(y)) for one in mine if one.get_marker() != "None" for x, y in zip(*one.get_data(), strict=True)
    ]
    return [point for point in points if not math.isnan(point[1])]


OURS, PRINTED = "#0072B2", "#D55E00"


def words(figure):
    return " | ".join(text.get_text() for axes in figure.axes for text in axes.texts)


# ------------------------------------------------------------------------------------------------------------- Table 5
def test_each_cell_is_drawn_and_the_papers_points_have_an_axis_of_their_own():
    figure = beta_temp_curves(sweep(lambda beta: 1))
    own = [axes for axes in figure.axes if axes.get_ylabel().startswith("paper")]
    ours = [axes for axes in figure.axes if axes not in own]
    assert len(ours) == 2 * (len(TASKS) + 1)
    assert len(own) == 2 * len(TASKS)  # the paper prints no Delta in Table 5
    assert line(ours[0], OURS) == [(beta, pytest.approx(10 + beta / 10)) for beta in BETAS]
    assert line(ours[0], PRINTED) == []
    printed = [(row.fact("beta"), paper.TABLE_5A.metrics(row)["semseg/mIoU"]) for row in paper.TABLE_5A.rows]
    assert line(own[0], PRINTED) == printed
    assert all("NYUD-v2" in axes.get_ylabel() and "own scale" in axes.get_ylabel() for axes in own)
    assert ours[0].get_xscale() == "log"


def test_the_papers_own_data_set_shares_one_scale():
    figure = beta_temp_curves(replace(sweep(lambda beta: 1), dataset="nyud"))
    assert len(figure.axes) == 2 * (len(TASKS) + 1)
    assert len(line(figure.axes[0], PRINTED)) == len(BETAS)


def test_error_bars_stand_only_where_there_are_several_seeds():
    single, several = (
        beta_temp_curves(sweep(lambda beta: 1)),
        beta_temp_curves(sweep(lambda beta: 3 if beta in (2.0, 4.0) else 1)),
    )
    assert bars(single.axes[0]) == []
    found = bars(several.axes[0])
    assert [segment[0][0] for segment in found] == [2.0, 4.0]
    low, high = found[0][:, 1]
    assert (low, high) == (pytest.approx(11.2 - 1), pytest.approx(11.2 + 1))  # 10.2, 11.2, 12.2: standard deviation 1


def test_a_missing_cell_is_a_gap_not_a_bridge():
    figure = beta_temp_curves(sweep(lambda beta: 0 if beta == 2.0 else 1))
    drawn = next(one for one in figure.axes[0].lines if one.get_marker() == "o")
    heights = dict(zip(*drawn.get_data(), strict=True))
    assert [beta for beta, height in heights.items() if math.isnan(height)] == [2.0]
    assert len(line(figure.axes[0], OURS)) == len(BETAS) - 1


def test_the_band_is_what_the_tables_do_not_mark_and_one_seed_has_none():
    def band(figure):
        return [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in figure.axes[0].patches]

    results = sweep(lambda beta: 1)  # without distillation 10, 11, 12
    assert band(beta_temp_curves(results)) == [pytest.approx((11 - 8**0.5, 11 + 8**0.5))]
    assert band(beta_temp_curves(results)) == [pytest.approx(results.band("semseg/mIoU"))]
    assert band(beta_temp_curves(sweep(lambda beta: 1, plain_seeds=1))) == []


def test_the_run_of_both_rows_has_a_ring_in_both():
    figure = beta_temp_curves(sweep(lambda beta: 1))
    lines = [one for axes in figure.axes[:6:5] for one in axes.lines if one.get_markersize() == 9]
    rings = [(*map(float, one.get_xdata()), *map(float, one.get_ydata())) for one in lines]
    assert rings == [(1.0, pytest.approx(10.1)), (3.0, pytest.approx(10.1))]
    assert "β = 1, T = 3: one run" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_nothing_at_all_is_said_in_words():
    figure = beta_temp_curves(replace(sweep(lambda beta: 1), rows=()))
    assert words(figure).count("no finished run") == 2 * (len(TASKS) + 1)


@pytest.mark.slow
def test_an_empty_panel_has_no_ticks_that_look_like_data():
    def ticks(figure, axis):
        as_svg(figure)  # lays it out
        return [
            axes
            for axes in figure.axes[:5]
            if any(label.get_visible() for label in getattr(axes, axis).get_ticklabels())
        ]

    nothing = beta_temp_curves(replace(sweep(lambda beta: 1), rows=()))
    assert ticks(nothing, "xaxis") == ticks(nothing, "yaxis") == []
    results = sweep(lambda beta: 1)
    only_printed = beta_temp_curves(replace(results, rows=tuple(replace(row, by_seed={}) for row in results.rows)))
    assert len(ticks(only_printed, "xaxis")) == 5  # beta still means something to the paper's points
    assert ticks(only_printed, "yaxis") == []


def test_labels_have_units_and_directions():
    labels = [axes.get_ylabel() for axes in beta_temp_curves(sweep(lambda beta: 1)).axes[: len(TASKS) + 1]]
    assert labels == ["SemSeg mIoU (%) ↑", "Depth rmse (m) ↓", "Normal mErr (deg) ↓", "Bound odsF (%) ↑", "Delta (%) ↑"]
    assert list(columns(DATASETS["pascal"].tasks, delta=False)) == [
        task.metric_key for task in DATASETS["pascal"].tasks
    ]


# --------------------------------------------------------------------------------------------------------------- files
def test_the_same_plot_is_the_same_file_with_200_dpi_letters_and_no_date(tmp_path):
    results = replace(sweep(lambda beta: 2), tasks=TASKS[:1])
    first, second = (save(beta_temp_curves(results), tmp_path / name, "curves") for name in ("a", "b"))
    assert [path.name for path in first] == ["curves.png", "curves.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    with Image.open(first[0]) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    text = first[1].read_text(encoding="utf-8")
    assert "SemSeg mIoU (%) ↑" in text
    assert "dc:date" not in text


@pytest.mark.slow
def test_neither_pyplot_nor_the_callers_settings_are_touched():
    code = (
        "import sys, matplotlib\nbefore = matplotlib.rcParams.copy()\n"
        "from kdam_ray.report.drawing.curves import learning_curves\n"
        "from kdam_ray.report.drawing.plots import as_svg\nas_svg(learning_curves({}, ()))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\nassert matplotlib.rcParams.copy() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_labels_that_look_like_formulas_or_markup_are_drawn_as_they_are():
    figure = learning_curves({"a $b$ <c> {d_e": {"train/loss": [(1, 1.0), (2, 0.5)]}}, TASKS)
    assert "a $b$ &lt;c&gt; {d_e" in as_svg(figure)


# ------------------------------------------------------------------------------------------------------------- Table 7
def test_epochs_of_ours_and_the_papers():
    ours = {key: {4: number([1.0, 2.0]), 8: number([3.0]), 16: None} for key in KEYS}
    figure = epochs_curve([Series("separate", ours), Series("sampled", {})], TASKS, dataset="rooms")
    assert line(figure.axes[0], OURS) == [(4, 1.5), (8, 3.0)]
    assert [segment[0][0] for segment in bars(figure.axes[0])] == [4]
    own = [axes for axes in figure.axes if axes.get_xlabel() == "epochs, paper"]
    assert [line(axes, PRINTED)[-1][0] for axes in own] == [600] * len(TASKS)
    assert [axes.get_xlabel() for axes in figure.axes[: len(TASKS)]] == ["epochs"] * len(TASKS)


def test_tasks_that_table_7_does_not_have_bring_no_printed_points():
    figure = epochs_curve([], DATASETS["rooms_pascal"].tasks, dataset="rooms_pascal")
    assert len(figure.axes) == 5
    assert words(figure).count("no finished run") == 5


# ---------------------------------------------------------------------------------------------------------------- cost
def costed():
    return [
        Costed("big", "teacher", 10.0, {"semseg/mIoU": number([30.0])}),
        Costed("MT", "baseline", 1.0, {"semseg/mIoU": number([20.0, 22.0]), "depth/rmse": number([1.0])}),
        Costed("MT+KDAM", "distilled", 1.0, {"semseg/mIoU": number([25.0]), "depth/rmse": None}, baseline="MT"),
        Costed("free", "system", 0.0, {"semseg/mIoU": number([1.0])}),
        Costed("broken", "system", 2.0, {"semseg/mIoU": Number(NAN, None, 1)}),
    ]


def test_cost_shows_what_has_a_cost_and_a_number_and_an_arrow_from_the_baseline():
    figure = accuracy_against_cost(costed(), TASKS)
    semseg, depth, normals, _ = figure.axes
    points = {
        (x, y)
        for one in semseg.lines
        if one.get_marker() not in ("None", "_")
        for x, y in zip(*one.get_data(), strict=True)
    }
    assert points == {(10.0, 30.0), (1.0, 21.0), (1.0, 25.0)}
    assert len(bars(semseg)) == 1
    arrows = [text for text in semseg.texts if getattr(text, "arrow_patch", None) is not None and not text.get_text()]
    assert [(arrow.xyann, arrow.xy) for arrow in arrows] == [((1.0, 21.0), (1.0, 25.0))]
    assert {text.get_text() for text in semseg.texts} - {""} == {"big", "MT", "MT+KDAM"}
    assert [text.get_text() for text in depth.texts] == ["MT"]
    assert "no finished run" in {text.get_text() for text in normals.texts}
    assert semseg.get_xscale() == "log"
    assert "(G)" in semseg.get_xlabel()


def test_many_points_are_numbered_and_explained():
    many = [Costed(f"system {n}", "system", 1.0 + n / 50, {"semseg/mIoU": number([20.0 + n / 10])}) for n in range(12)]
    figure = accuracy_against_cost(many, TASKS)
    assert sorted(text.get_text() for text in figure.axes[0].texts) == sorted(str(n) for n in range(1, 13))
    explained = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert "12  system 11" in explained


# ------------------------------------------------------------------------------------------------------------- cohorts
def test_learning_curves_have_a_panel_a_task_and_the_loss_and_name_every_member():
    loss = [(1, 100.0), (2, 1.0)]
    histories = {
        f"run {n}": {"val/semseg/mIoU": [(2, 3.0), (1, NAN), (3, 4.0 + n)], "train/loss": loss} for n in range(20)
    }
    histories["lonely"] = {"val/semseg/mIoU": [(1, 5.0)]}
    figure = learning_curves(histories, TASKS)
    panels = {axes.get_ylabel(): axes for axes in figure.axes if axes.get_ylabel()}
    assert list(panels) == [*columns(TASKS, delta=False).values(), "train loss ↓"]
    semseg = panels["SemSeg mIoU (%) ↑"]
    assert len(semseg.lines) == 21
    assert [float(x) for x in semseg.lines[0].get_xdata()] == [1, 2, 3]
    assert np.isnan(semseg.lines[0].get_ydata()[0])
    assert semseg.lines[20].get_marker() != "None"  # one epoch alone is seen
    assert len({(to_hex(one.get_color()), str(one._unscaled_dash_pattern)) for one in semseg.lines}) == 21
    assert panels["train loss ↓"].get_yscale() == "log"
    assert len(figure.legends[0].get_texts()) == 21
    assert words(learning_curves({}, TASKS)).count("nothing recorded") == len(TASKS) + 1


def test_boundaries_are_followed_at_the_thresholds_that_were_used_and_the_full_ones_stand_apart():
    history = {"val/edge/odsF_25": [(1, 40.0), (2, 50.0)], "val/edge/odsF": [(3, 55.0)]}
    edge = learning_curves({"run": history}, TASKS).axes[3]
    followed, full = edge.lines
    assert [tuple(map(float, one.get_xdata())) for one in (followed, full)] == [(1, 2), (3,)]
    assert to_hex(full.get_markerfacecolor()) == "#ffffff"
    assert edge.get_xlabel() == "epoch; 25 thresholds, hollow: all"


# -------------------------------------------------------------------------------------------------------------- search
def trials(count, *, seed=0, noise=0.1, state=lambda n: "finished"):
    random = np.random.default_rng(seed)
    found = []
    for n in range(count):
        beta, temperature = np.exp(random.uniform(np.log(0.05), np.log(20), 2))
        params = {"distill.beta": float(beta), "distill.temperature": float(temperature)}
        found.append({"params": params, "value": float(np.log(beta) + noise * random.normal()), "state": state(n)})
    return found


def test_a_line_for_every_trial_and_only_finished_ones_reach_the_objective():
    mixed = trials(12, state=lambda n: ("finished", "pruned", "failed")[n % 3])
    figure = parallel_coordinates(mixed, objective="Delta (%) ↑")
    lines = figure.axes[0].lines
    assert len(lines) == 12
    reach = [one for one in lines if not np.isnan(one.get_ydata()[-1])]
    assert len(reach) == 4
    assert {to_hex(one.get_color()) for one in lines if one not in reach} == {"#c4c4c4"}
    assert len({to_hex(one.get_color()) for one in reach}) == 4
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [
        "beta (log)",
        "temperature (log)",
        "objective",
    ]
    assert figure.axes[1].get_ylabel() == "Delta (%) ↑"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["4 finished", "4 pruned", "4 failed"]


def test_heights_are_logarithmic_for_beta():
    points = [{"params": {"distill.beta": beta}, "value": beta, "state": "finished"} for beta in (0.1, 1.0, 10.0)]
    heights = sorted(float(one.get_ydata()[0]) for one in parallel_coordinates(points).axes[0].lines)
    assert heights == pytest.approx([0, 0.5, 1])


def finished(params, value):
    return {"params": params, "value": value, "state": "finished"}


@pytest.mark.parametrize(
    "odd",
    [
        [],
        [{"params": {}, "value": None, "state": "failed"}],
        [finished({"distill.beta": 1.0}, NAN)],
        [finished({"distill.beta": 1.0, "teacher": "a"}, 1.0)],
        [finished({"distill.beta": 1.0}, 1.0), finished({"teacher": "b"}, 2.0)],
        [finished({"x": 0.0}, 0.0), finished({"x": -1.0}, 0.0)],
        [finished({"x": NAN}, 0.0), finished({"x": 2.0}, 3.0), finished({"x": None}, 4.0)],
    ],
)
def test_odd_searches_are_drawn_or_said(odd):
    for figure in (parallel_coordinates(odd), importance(odd)):
        assert as_svg(figure).startswith("<?xml")
    assert "too few" in words(importance(odd))


@pytest.mark.slow
def test_importance_finds_the_parameter_that_matters_and_says_what_chance_would():
    found = importances(trials(24))
    assert list(found.shares) == ["distill.beta", "distill.temperature"]
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.shares["distill.beta"] > found.by_chance["distill.beta"]
    assert [patch.get_width() for patch in importance(trials(24)).axes[0].patches] == list(found.shares.values())


@pytest.mark.slow
def test_noise_is_not_more_than_chance():
    """fANOVA's shares sum to 1 for noise too: only shuffled objectives show that they mean nothing."""
    random = np.random.default_rng(3)
    found = importances([trial | {"value": float(random.normal())} for trial in trials(30)])
    assert sum(found.shares.values()) == pytest.approx(1)
    assert all(share <= found.by_chance[name] for name, share in found.shares.items())


def test_too_few_trials_are_words_and_no_bar():
    pruned = trials(30, state=lambda n: "finished" if n < 5 else "pruned")
    figure = importance(pruned)
    assert words(figure) == "5 finished trials: too few for importances (10 are needed)"
    assert not figure.axes[0].patches
    assert "same objective" in importances([trial | {"value": 1.0} for trial in trials(20)]).excuse


# ---------------------------------------------------------------------------------------------------------------- gain
def test_the_forest_plot_has_intervals_directions_and_the_zero_line():
    found = {
        "KDAM − no KD": {
            "semseg/mIoU": Difference(0.8, 0.4, 1.2, 0.01, 5),
            "depth/rmse": Difference(-0.1, -0.3, 0.1, 0.2, 5),
        },
        "one seed − no KD": {"semseg/mIoU": Difference(0.5, None, None, None, 1), "depth/rmse": None},
    }
    figure = gain(found, TASKS)
    semseg, depth, normals, _ = figure.axes
    segments = [c.get_segments()[0].tolist() for c in semseg.collections if isinstance(c, LineCollection)]
    assert segments == [[[0.4, 0.0], [1.2, 0.0]]]
    assert [one.get_xdata()[0] for one in semseg.lines] == [0.8, 0.5, 0]
    assert [to_hex(one.get_markerfacecolor()) for one in semseg.lines[:2]] == [OURS.lower(), "#ffffff"]
    assert to_hex(depth.lines[0].get_markerfacecolor()) == "#ffffff"  # its interval holds 0
    assert ("better →" in semseg.get_xlabel(), "← better" in depth.get_xlabel()) == (True, True)
    assert [label.get_text() for label in semseg.get_yticklabels()] == list(found)
    assert "no pair" in {text.get_text() for text in normals.texts}
    assert (semseg.get_title(), depth.get_title()) == ("SemSeg mIoU (%)", "Depth rmse (m)")
    assert isinstance(gain({}, TASKS), Figure)


def test_differences_of_a_study_are_those_of_variants_with_a_rival():
    def variant(label, against, offset):
        return SeedRow(
            label,
            {seed: dict(zip(KEYS, (10.0 + seed + offset, 1.0, 30.0, 70.0), strict=True)) for seed in range(3)},
            against,
        )

    study = GainTable(TASKS, (variant("no KD", "", 0.0), variant("KDAM", "no KD", 1.0)), heading="heading")
    found = differences(study)
    assert list(found) == ["KDAM − no KD"]
    assert found["KDAM − no KD"]["semseg/mIoU"].mean == pytest.approx(1.0)
    assert len(gain(found, TASKS).axes) == len(TASKS) + 1  # with the Delta
