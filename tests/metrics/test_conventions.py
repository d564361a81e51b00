"""The same predictions under the definitions of several code bases, each against its own few-line reference.

python -m pytest tests/metrics/test_conventions.py
"""

import numpy as np
import plain_boundary as plain
import pytest
import torch
from sklearn.metrics import jaccard_score, precision_recall_fscore_support

from kdam_ray.metrics import CONVENTIONS, HED_THRESHOLDS, build_metric
from kdam_ray.models.heads import decode
from kdam_ray.tasks import DATASETS

ROOMS = DATASETS["rooms"]
PASCAL = DATASETS["rooms_pascal"]
IMAGES, HEIGHT, WIDTH = 3, 24, 31


def dataset_of(name):
    return ROOMS if name == "depth" else PASCAL


def draw(name, seed=0):
    """Predictions in their final form and labels, numpy."""
    rng = np.random.default_rng(seed)
    shape = (IMAGES, HEIGHT, WIDTH)
    void = rng.random(shape) < 0.15
    if name == "sal":
        truth = rng.random(shape) < 0.3
        probability = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1).astype(np.float32)
        return probability, np.where(void, 255, truth)
    if name == "depth":
        truth = np.where(void, 0, rng.uniform(0.5, 9, shape)).astype(np.float32)
        truth[0, :12] = 0
        return (truth + rng.normal(0, 1 + np.arange(IMAGES)[:, None, None], shape)).astype(np.float32)[:, None], truth[
            :, None
        ]
    if name == "edge":
        truth = np.zeros(shape, np.float32)
        truth[:, 8, 3:25] = truth[:, 3:20, 15] = 1
        grey = np.clip(200 * truth + rng.normal(30, 40, shape), 0, 255).astype(np.uint8)
        return grey, truth[:, None]
    classes = PASCAL.task(name).channels
    return rng.integers(0, classes, shape), np.where(void, 255, rng.integers(0, classes - 2, shape))


def computed(name, convention, prediction, label):
    dataset = dataset_of(name)
    metric = build_metric(dataset.task(name), dataset, convention=convention)
    metric.update_with(torch.from_numpy(prediction), torch.from_numpy(label))
    return metric.compute()


def f_beta(precision, recall, beta_squared):
    return (1 + beta_squared) * precision * recall / max(beta_squared * precision + recall, 1e-12)


def test_maxf_of_atrc_is_sklearns_best_over_nineteen_thresholds():
    probability, truth = draw("sal")
    kept = truth != 255
    best = 0.0
    for threshold in np.arange(1, 20, dtype=np.float32) / np.float32(20):
        precision, recall, *_ = precision_recall_fscore_support(
            truth[kept], probability[kept] >= threshold, average="binary", zero_division=0
        )
        best = max(best, f_beta(precision, recall, 0.3))
    assert computed("sal", "atrc", probability, truth)["maxF"] == pytest.approx(100 * best, abs=1e-6)


def test_maxf_of_invpt_knows_four_thresholds_and_everything():
    probability, truth = draw("sal")
    kept = truth != 255
    best = 0.0
    for threshold in (0.0, *(np.log(t / (1 - t)) for t in (0.55, 0.6, 0.65, 0.7))):
        predicted = probability[kept] >= threshold
        hits = (predicted & (truth[kept] == 1)).sum()
        best = max(best, f_beta(hits / max(predicted.sum(), 1), hits / (truth[kept] == 1).sum(), 0.3))
    value = computed("sal", "invpt", probability, truth)["maxF"]
    assert value == pytest.approx(100 * best, abs=1e-6)
    assert value < computed("sal", "atrc", probability, truth)["maxF"]


@pytest.mark.parametrize("convention", ["mti", "astmt"])
def test_maxf_of_mti_averages_over_images(convention):
    probability, truth = draw("sal")
    scores = []
    for threshold in np.linspace(0.2, 0.9, 15).astype(np.float32):
        pairs = []
        for p, t in zip(probability, truth, strict=True):
            predicted, positive, kept = p > threshold, t == 1, t != 255
            hits = (predicted & positive & kept).sum()
            pairs.append((hits / max((predicted & kept).sum(), 1), hits / max((positive & kept).sum(), 1)))
        scores.append(f_beta(*np.mean(pairs, axis=0), 1.0))
    assert computed("sal", convention, probability, truth)["maxF"] == pytest.approx(100 * max(scores), abs=1e-6)


def test_rmse_over_pixels_or_over_images():
    prediction, truth = draw("depth")
    valid, error = truth > 0, np.maximum(prediction.astype(np.float64), 0) - truth
    pixels = np.sqrt((error**2)[valid].mean())
    images = np.mean([np.sqrt((e**2)[v].mean()) for e, v in zip(error, valid, strict=True)])
    for convention, expected in [("atrc", pixels), ("invpt", pixels), ("mti", pixels), ("astmt", images)]:
        assert computed("depth", convention, prediction, truth)["rmse"] == pytest.approx(expected, abs=1e-6)
    assert abs(pixels - images) > 0.05


def test_an_image_without_depth_has_no_rmse_of_its_own():
    prediction, truth = draw("depth")
    truth[1] = 0
    expected = np.mean(
        [
            np.sqrt(((np.maximum(p, 0) - t)[t > 0] ** 2).mean())
            for p, t in zip(prediction, truth, strict=True)
            if t.any()
        ]
    )
    assert computed("depth", "astmt", prediction, truth)["rmse"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["semseg", "human_parts"])
def test_iou_per_class_is_sklearns_and_absent_classes_count_zero(name):
    prediction, truth = draw(name)
    classes = PASCAL.task(name).channels
    truth[truth == 1] = 2
    prediction[prediction == 1] = 2  # class 1 occurs nowhere
    kept = truth != 255
    expected = 100 * jaccard_score(truth[kept], prediction[kept], labels=range(classes), average=None, zero_division=0)
    metric = build_metric(PASCAL.task(name), PASCAL)
    metric.update_with(torch.from_numpy(prediction), torch.from_numpy(truth))
    found = metric.per_class()
    assert found[1] is None
    assert [0.0 if value is None else value for value in found] == pytest.approx(expected.tolist(), abs=1e-6)
    assert metric.compute()["mIoU"] == pytest.approx(expected.mean(), abs=1e-6)
    assert metric.compute_image()["mIoU"] == pytest.approx(expected[np.arange(classes) != 1].mean(), abs=1e-6)


def test_mti_neither_suppresses_nor_excludes_the_threshold():
    grey, truth = draw("edge")
    limits = np.arange(1, 100) / 100
    counts = np.zeros((3, 99), np.int64)
    for image, edges in zip(grey, truth[:, 0], strict=True):
        boundary = plain.thin(edges == 1)
        for j, limit in enumerate(limits):
            predicted = plain.thin(image / np.float32(255) >= np.float32(limit))
            matched = plain.largest_matching(boundary, predicted, PASCAL.edge_max_dist * np.hypot(HEIGHT, WIDTH))
            counts[:, j] += matched, predicted.sum(), boundary.sum()
    f = 2 * counts[0] / np.maximum(counts[1] + counts[2], 1)
    assert computed("edge", "mti", grey, truth)["odsF"] == pytest.approx(100 * f.max(), abs=1e-6)
    assert computed("edge", "mti", grey, truth)["odsF"] != computed("edge", "atrc", grey, truth)["odsF"]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", ["semseg", "human_parts", "sal", "depth", "edge"])
def test_halves_merge_to_the_whole_in_every_convention(name, convention):
    prediction, truth = (torch.from_numpy(array) for array in draw(name))
    dataset = dataset_of(name)
    whole, first, second = (build_metric(dataset.task(name), dataset, convention=convention) for _ in range(3))
    whole.update_with(prediction, truth)
    first.update_with(prediction[:1], truth[:1])
    second.update_with(prediction[1:], truth[1:])
    first.merge(second.state())
    assert first.compute() == pytest.approx(whole.compute(), rel=1e-12)
    assert dataset.task(name).metric in whole.compute()


@pytest.mark.parametrize("name", ["semseg", "sal", "depth", "normals", "edge"])
def test_logits_and_what_decode_makes_of_them_score_the_same(name):
    dataset = dataset_of(name)
    task = dataset.task(name)
    logits = torch.randn(2, task.channels, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    label = (
        torch.from_numpy(draw(name)[1][:2])
        if name != "normals"
        else torch.nn.functional.normalize(torch.randn(2, 3, HEIGHT, WIDTH), dim=1)
    )
    one, other = (build_metric(task, dataset) for _ in range(2))
    one.update(logits, label)
    other.update_with(decode(task.kind, logits), label)
    assert one.compute() == other.compute()


def test_a_predicted_class_that_does_not_exist_is_refused():
    metric = build_metric(PASCAL.task("human_parts"), PASCAL)
    with pytest.raises(ValueError, match=r"class 7 is none of the 7 \(0 .. 6\)"):
        metric.update_with(torch.full((1, 2, 2), 7), torch.zeros(1, 2, 2, dtype=torch.int64))


def test_boundaries_of_a_segmentation_lie_between_its_regions():
    from kdam_ray.metrics import true_boundaries

    regions = np.zeros((12, 16), np.int32)
    regions[:, 8:], regions[6:, 8:] = 300, 44
    expected = np.zeros_like(regions, bool)
    expected[:, 7], expected[5, 8:] = True, True
    np.testing.assert_array_equal(true_boundaries(regions, "seg2bmap"), plain.thin(expected))
    assert len(HED_THRESHOLDS) == 101
