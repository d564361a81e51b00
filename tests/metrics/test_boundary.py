"""odsF: every step against a plain one, and its laws: python -m pytest tests/metrics/test_boundary.py"""

import subprocess
import sys

import numpy as np
import plain_boundary as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdam_ray.metrics import (
    HED_THRESHOLDS,
    MONITOR_THRESHOLDS,
    BoundaryF,
    boundary_counts,
    build_metric,
    true_boundaries,
    warm_up,
)
from kdam_ray.metrics.boundary import average_precision, f_score, in_eight_bits
from kdam_ray.tasks import DATASETS

FEW = tuple(HED_THRESHOLDS[i] for i in (0, 5, 20, 40, 60, 90))
NO_SUPPRESSION = (0.5,)


@pytest.fixture(scope="module")
def contours():
    warm_up()
    from kdam_ray.metrics import contours

    return contours


@pytest.fixture(scope="module")
def ridges():
    warm_up()
    from kdam_ray.metrics import ridges

    return ridges


# ---------------------------------------------------------------------------------------------------------------- steps


def test_hed_thresholds():
    assert len(HED_THRESHOLDS) == 101
    assert (HED_THRESHOLDS[0], HED_THRESHOLDS[1], HED_THRESHOLDS[99], HED_THRESHOLDS[100]) == (0.001, 0.01, 0.99, 0.999)
    assert len(MONITOR_THRESHOLDS) == 25


def test_probabilities_are_cut_to_eight_bits():
    values = np.array([[0, 0.999 / 255, 1 / 255, 0.5, 0.9999, 1]])
    np.testing.assert_array_equal(in_eight_bits(values), [[0, 0, 1, 127, 254, 255]])
    assert in_eight_bits(in_eight_bits(values)).tolist() == in_eight_bits(values).tolist()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 1), (30, 41)])
@pytest.mark.parametrize("scale", [0, 1, 3])
def test_thinning_is_that_of_scikit_image(contours, size, scale):
    for seed in range(20):
        mask = plain.blobs(seed, *size, scale) if scale else np.random.default_rng(seed).random(size) < seed / 20
        np.testing.assert_array_equal(contours.thinned(mask), plain.thin(mask))


@pytest.mark.parametrize("size", [(48, 64), (64, 35), (10, 10)])
def test_suppression_is_the_plain_one(ridges, size):
    for seed in range(6):
        grey = in_eight_bits(plain.scene(seed, *size, scale=4)[0])
        # where the mixed derivative vanishes, the sign of its rounding error picks the direction, here and in the
        # original
        decided = np.abs(plain.mixed_derivatives(grey)[1]) > 1e-6
        assert decided.mean() > 0.9
        np.testing.assert_allclose(ridges.suppressed(grey)[decided], plain.suppressed(grey)[decided], atol=1e-6)


def test_suppression_keeps_a_ridge_and_fades_at_the_border(ridges):
    y, x = np.mgrid[:40, :50]
    grey = (200 * np.exp(-(((y - x * 0.3 - 10) / 2) ** 2))).astype(np.uint8)
    kept = ridges.suppressed(grey)
    inner = np.argwhere(kept[8:-8, 8:-8] > 0.2) + 8
    assert (np.abs(inner[:, 0] - 0.3 * inner[:, 1] - 10) < 1).all()
    assert len(np.unique(inner[:, 1])) == 34
    assert not kept[0].any()
    assert not kept[:, [0, -1]].any()
    np.testing.assert_allclose(kept[:, 2].max(), grey[:, 2].max() / 255 * 2 / 5, rtol=0.05)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (2, 2), (3, 9)])
def test_maps_smaller_than_the_border(ridges, size):
    kept = ridges.suppressed(np.full(size, 200, np.uint8))
    assert kept.shape == size
    assert np.isfinite(kept).all()
    assert (kept <= 200 / 255 + 1e-6).all()


def test_seg2bmap_shifts_a_thin_line_and_doubles_a_thick_one():
    line = np.zeros((12, 15), bool)
    line[:, 7] = True
    thick = line.copy()
    thick[:, 6] = thick[:, 8] = True
    assert true_boundaries(line, "mask").sum() == 12
    columns = [np.unique(np.argwhere(true_boundaries(mask, "seg2bmap"))[:, 1]).tolist() for mask in (line, thick)]
    assert columns[0] in ([6], [7], [6, 7])
    assert columns[1] == [5, 8]


def test_seg2bmap_looks_east_south_and_south_east():
    mask = np.random.default_rng(0).random((6, 8)) < 0.4
    padded = np.pad(
        mask, ((0, 1), (0, 1)), mode="edge"
    )  # at the border a missing neighbour is the pixel itself or the other one
    expected = np.zeros_like(mask)
    for y in range(6):
        for x in range(8):
            around = [padded[y, x + 1], padded[y + 1, x]] + [padded[y + 1, x + 1]] * (y < 5 and x < 7)
            expected[y, x] = any(other != mask[y, x] for other in around)
    np.testing.assert_array_equal(true_boundaries(mask, "seg2bmap"), plain.thin(expected))


# ------------------------------------------------------------------------------------------------------------- matching


def pairs_of(contours, strength, edges, radius, thresholds):
    cells = np.flatnonzero(edges).astype(np.int32)
    return contours.pairs_per_threshold(
        strength.astype(np.float32), cells, float(radius), np.array(thresholds, np.float32)
    )


@pytest.mark.parametrize("radius", [0, 1, 1.5, 4, 8.8])
def test_every_threshold_has_the_largest_matching_there_is(contours, radius):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        strength = rng.random((40, 50)) ** (seed + 1)
        edges = plain.thin(rng.random((40, 50)) < 0.2)
        pairs, predicted = pairs_of(contours, strength, edges, radius, FEW)
        expected = plain.counts_from(strength.astype(np.float32), edges, radius, FEW)
        np.testing.assert_array_equal(pairs, expected[0])
        np.testing.assert_array_equal(predicted, expected[1])


@pytest.mark.parametrize(("size", "scale"), [((48, 64), 4), ((120, 160), 8)])
def test_the_whole_protocol_at_all_thresholds(ridges, size, scale):
    probability, edges = plain.scene(3, *size, scale=scale)
    radius = 0.02 * np.hypot(*size)
    counts = boundary_counts(probability, edges, max_dist=0.02)
    assert all(one.dtype == np.int64 and one.shape == (101,) for one in counts)
    pairs, predicted = plain.counts_from(ridges.suppressed(in_eight_bits(probability)), edges, radius, HED_THRESHOLDS)
    np.testing.assert_array_equal(counts, [pairs, np.full(101, edges.sum()), pairs, predicted])


maps = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))


def two_maps(drawn):
    height, width, seed, first, second = drawn
    rng = np.random.default_rng(seed)
    return tuple(plain.thin(rng.random((height, width)) < density) for density in (first, second))


@settings(max_examples=150, deadline=None)
@given(maps, st.floats(0, 6), st.floats(0, 3))
def test_laws_of_matching(contours, drawn, radius, more):
    # maps that are thin already: thinning changes nothing, so prediction and truth can trade places
    one, other = two_maps(drawn)
    assert contours.thinned(one).tolist() == one.tolist()
    (pairs,), (predicted,) = pairs_of(contours, one, other, radius, NO_SUPPRESSION)
    (swapped,), _ = pairs_of(contours, other, one, radius, NO_SUPPRESSION)
    (wider,), _ = pairs_of(contours, one, other, radius + more, NO_SUPPRESSION)
    assert predicted == one.sum()
    assert pairs == swapped == plain.largest_matching(other, one, radius)
    assert (one & other).sum() <= pairs <= min(one.sum(), other.sum())
    assert pairs <= wider
    assert pairs_of(contours, one, one, radius, NO_SUPPRESSION)[0][0] == one.sum()


def test_one_phase_is_not_enough(contours):
    """Pairs along a line that must all shift by one, again and again: only augmenting paths find the last one."""
    strength = np.zeros((1, 40))
    strength[0, 0:40:2] = np.linspace(0.9, 0.1, 20)
    edges = np.zeros((1, 40), bool)
    edges[0, 1:40:2] = True
    pairs, predicted = pairs_of(contours, strength, edges, 1, HED_THRESHOLDS)
    np.testing.assert_array_equal(pairs, predicted)


# -------------------------------------------------------------------------------------------------- counts of one image


def test_strictly_above_the_threshold():
    grey = np.full((30, 30), 0, np.uint8)
    grey[15, 8:22] = 51  # 51 / 255 is 0.2
    counts = boundary_counts(grey, grey > 0, max_dist=0.1, thresholds=(0.19, 0.2, 0.21))
    assert counts[3][0] > 0
    assert counts[3][1] == counts[3][2] == 0


def test_no_edges_no_predictions_no_pixels():
    empty, probability = np.zeros((9, 9), bool), np.zeros((9, 9), np.float32)
    assert not np.any(boundary_counts(probability, empty, max_dist=0.1))
    probability[4, 2:7] = 0.9
    matched, true, _, predicted = boundary_counts(probability, empty, max_dist=0.1)
    assert predicted.any()
    assert not matched.any()
    assert not true.any()
    matched, true, _, predicted = boundary_counts(0 * probability, ~empty, max_dist=0.1)
    assert true[0] == 81
    assert not matched.any()
    assert not predicted.any()
    assert not np.any(boundary_counts(np.zeros((0, 4)), np.zeros((0, 4), bool), max_dist=0.1))


def test_dense_maps_match_all():
    everything = np.ones((20, 20), bool)
    matched, true, _, predicted = boundary_counts(np.ones((20, 20)), everything, max_dist=0.1, thresholds=(0.3,))
    assert matched[0] == predicted[0] < true[0] == 400


def test_read_only_and_strided_maps_are_taken():
    probability, edges = plain.scene(0, 40, 60, scale=4)
    strided, flipped = np.asfortranarray(probability), edges[::-1][::-1]
    strided.flags.writeable = flipped.flags.writeable = False
    np.testing.assert_array_equal(
        boundary_counts(strided, flipped, max_dist=0.02), boundary_counts(probability, edges, max_dist=0.02)
    )
    assert edges.sum() == flipped.sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": np.full((4, 4), np.nan)}, "probability: must lie in 0 .. 1"),
        ({"probability": np.full((4, 4), 1.5)}, "probability: must lie in 0 .. 1"),
        ({"edges": np.zeros((4, 5), bool)}, r"must be \[H, W\] of one size"),
        ({"thresholds": (0.5, 0.4)}, "ascending"),
        ({"thresholds": ()}, "ascending"),
        ({"max_dist": -1}, r"max_dist \(-1\) >= 0"),
        (
            {"probability": np.zeros((400, 400)), "edges": np.ones((400, 400), bool), "max_dist": 1},
            "max_dist: 1 is 566 pixels here",
        ),
        ({"max_dist": np.nan}, r"max_dist \(nan\) >= 0"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"probability": np.zeros((4, 4)), "edges": np.zeros((4, 4), bool), "max_dist": 0.1} | change
    with pytest.raises(ValueError, match=message):
        boundary_counts(given.pop("probability"), given.pop("edges"), **given)


# ---------------------------------------------------------------------------------------------------------- data set


def scenes(count, height=40, width=56):
    pairs = [plain.scene(seed, height, width, scale=4) for seed in range(count)]
    probability = torch.from_numpy(np.stack([p for p, _ in pairs]))[:, None].clamp(1e-4, 1 - 1e-4)
    return torch.logit(probability), torch.from_numpy(np.stack([e for _, e in pairs])).float()[:, None]


def filled(logits, label, **options):
    metric = BoundaryF(**({"max_dist": 0.02} | options))
    metric.update(logits, label)
    return metric


def test_counts_are_summed_over_images_before_they_are_divided():
    logits, label = scenes(4)
    counts = np.array(
        [boundary_counts(logits[i, 0].sigmoid().numpy(), label[i, 0].numpy() > 0, max_dist=0.02) for i in range(4)]
    )
    total, scores = (
        counts.sum(0),
        2 * counts[:, 0] / np.maximum(counts[:, 1] + counts[:, 3], 1),
    )  # one annotation: F = 2k / (n + m)
    values = filled(logits, label).compute()
    assert values["odsF"] == pytest.approx(100 * np.max(2 * total[0] / np.maximum(total[1] + total[3], 1)))
    best = sum(counts[i, :, scores[i].argmax()] for i in range(4))
    assert values["oisF"] == pytest.approx(100 * 2 * best[0] / (best[1] + best[3]))
    assert 50 < values["odsF"] <= values["oisF"] < 100


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads):
    logits, label = scenes(5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        counts = filled(logits, label).state()["counts"]
    finally:
        torch.set_num_threads(before)
    singles = sum(filled(logits[i : i + 1], label[i : i + 1]).state()["counts"] for i in range(5))
    np.testing.assert_array_equal(counts, singles)


def test_padding_changes_nothing():
    logits, label = scenes(3)
    padded = torch.nn.functional.pad(logits, (4, 5, 6, 0), value=3.0)  # a network predicts something there, too
    with_255 = torch.nn.functional.pad(label, (4, 5, 6, 0), value=255)
    np.testing.assert_array_equal(filled(padded, with_255).state()["counts"], filled(logits, label).state()["counts"])


def test_ignored_pixels_inside_are_neither_predicted_nor_true():
    logits, label = scenes(1)
    label[..., 10:20, 15:30] = 255
    counts = filled(logits, label).state()["counts"]
    kept = (label[0, 0] != 255).numpy()
    expected = boundary_counts(
        logits[0, 0].sigmoid().numpy(), true_boundaries((label[0, 0] == 1).numpy(), "mask"), max_dist=0.02, valid=kept
    )
    np.testing.assert_array_equal(counts, expected)
    assert counts[1, 0] == (label == 1).sum()
    everything = boundary_counts(logits[0, 0].sigmoid().numpy(), (label[0, 0] == 1).numpy(), max_dist=0.02)
    assert counts[3, 3] < everything[3][3]


def test_the_truth_is_read_by_the_datasets_rule():
    label = torch.zeros(1, 1, 30, 30)
    label[..., 13:16] = 1  # three pixels wide: seg2bmap makes it two lines
    true = {rule: filled(0 * label, label, truth=rule).state()["counts"][1, 0] for rule in ("mask", "seg2bmap")}
    assert true["seg2bmap"] == 60
    assert true["mask"] in range(27, 31)  # thinning shortens a thick line
    for name in ("rooms", "nyud"):
        metric = build_metric(DATASETS[name].task("edge"), DATASETS[name])
        assert (metric.truth, metric.max_dist) == (DATASETS[name].edge_truth, DATASETS[name].edge_max_dist)


@pytest.mark.slow
def test_a_large_image_needs_no_quadratic_memory():
    """2000 x 3000 pixels, in a process of its own: a table of all pairs of boundary pixels would take terabytes."""
    code = """
import resource, numpy as np
from kdam_ray.metrics import boundary_counts, true_boundaries, warm_up
warm_up()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
draw = np.random.default_rng(0)
regions = np.kron(draw.integers(0, 40, (40, 60)), np.ones((50, 50), int))
edges = true_boundaries(regions, "seg2bmap")
grey = np.clip(160 * edges + draw.integers(0, 40, edges.shape), 0, 255).astype(np.uint8)
pairs, true, _, predicted = boundary_counts(grey, edges, max_dist=0.0075, thresholds=(0.1, 0.5))
assert pairs[1] > 0.9 * true[1], (pairs, true)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 1.5 * 2**20  # KiB


def test_a_cheap_look_is_never_called_ods():
    dataset = DATASETS["rooms"]
    monitor = build_metric(dataset.task("edge"), dataset, monitor=True)
    logits, label = scenes(4)
    monitor.update(logits, label)
    values = monitor.compute()
    assert list(values) == ["odsF_25", "oisF_25", "AP_25"]
    assert values["odsF_25"] == pytest.approx(filled(logits, label).compute()["odsF"], abs=1)
    with pytest.raises(ValueError, match="cannot take these sums"):
        filled(logits, label).merge(monitor.state())


def test_f_score_and_average_precision_by_hand():
    # recall 0.5, 1; precision 1, 0.5; and one threshold that predicts nothing: recall 0, precision 1
    counts = np.array([[4, 2, 0], [4, 4, 4], [4, 2, 0], [8, 2, 0]])
    np.testing.assert_allclose(f_score(counts), [2 / 3, 2 / 3, 0])
    # 1 at recalls 0 .. 0.5 (51 points), then down to 0.5 in 50 steps
    assert average_precision(counts) == pytest.approx((51 + sum(1 - 0.5 * i / 50 for i in range(1, 51))) / 100)
    assert average_precision(counts[:, :1]) == 0
    np.testing.assert_array_equal(f_score(np.array([[0, 0], [0, 3], [0, 0], [5, 0]])), [0, 0])


@pytest.mark.slow
def test_without_a_writable_cache_it_still_compiles():
    program = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"  # what is left when no folder can be written, be it root's or not
        "from kdam_ray.metrics.compiled import compiled\n"
        "def twice(x): return 2 * x\n"
        "print(compiled('int64(int64)')(twice)(21))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "42\n", done.stderr
