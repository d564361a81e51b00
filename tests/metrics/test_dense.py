"""mIoU, maxF, rmse, mErr against numpy and laws that hold for all metrics.

python -m pytest tests/metrics/test_dense.py
"""

import numpy as np
import pytest
import torch

from kdam_ray.metrics import build_metric
from kdam_ray.tasks import DATASETS

ROOMS = DATASETS["rooms_pascal"]
HEIGHT, WIDTH = 12, 17
CLASSES = ROOMS.task("semseg").channels


def labels(task, images, rng):
    shape = (images, HEIGHT, WIDTH)
    ignored = rng.random(shape) < 0.2
    if task.kind in ("classes", "saliency"):
        values = np.where(ignored, 255, rng.integers(0, task.channels, shape))
    elif task.kind == "depth":
        values = np.where(ignored, 0, rng.uniform(0.5, 9, shape))[:, None].astype(np.float32)
    elif task.kind == "normals":
        values = rng.standard_normal((images, 3, HEIGHT, WIDTH))
        values = np.where(ignored[:, None], 0, values / np.linalg.norm(values, axis=1, keepdims=True)).astype(
            np.float32
        )
    else:
        values = np.where(ignored, 255, rng.random(shape) < 0.1)[:, None].astype(np.float32)
    return torch.from_numpy(values)


def batch(name, images=4, seed=0):
    dataset = DATASETS["rooms"] if name == "depth" else ROOMS
    task = dataset.task(name)
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.standard_normal((images, task.channels, HEIGHT, WIDTH)).astype(np.float32) * 2)
    return task, dataset, logits, labels(task, images, rng)


def value_of(name, logits, label):
    task, dataset, *_ = batch(name)
    metric = build_metric(task, dataset)
    metric.update(logits, label)
    return metric.compute()[task.metric]


NAMES = ("semseg", "human_parts", "sal", "depth", "normals", "edge")


@pytest.mark.parametrize("name", NAMES)
def test_merged_halves_equal_the_whole(name):
    task, dataset, logits, label = batch(name, images=5)
    whole, first, second = (build_metric(task, dataset) for _ in range(3))
    whole.update(logits, label)
    first.update(logits[:2], label[:2])
    second.update(logits[2:], label[2:])
    first.merge(second.state())
    # counts are integers and must be equal; errors are float64 sums in another order
    for key, value in whole.state().items():
        assert value.dtype in (np.int64, np.float64)
        np.testing.assert_allclose(first.state()[key], value, rtol=1e-13 if value.dtype == np.float64 else 0)
    assert first.compute() == pytest.approx(whole.compute(), rel=1e-12)
    assert task.metric in whole.compute()


def test_a_state_is_a_copy():
    task, dataset, logits, label = batch("semseg")
    metric = build_metric(task, dataset)
    before = metric.state()
    metric.update(logits, label)
    assert before["confusion"].sum() == 0
    assert metric.state()["confusion"].sum() == (label != 255).sum()


def test_another_metrics_sums_are_refused():
    semseg, parts = (build_metric(ROOMS.task(name), ROOMS) for name in ("semseg", "human_parts"))
    with pytest.raises(ValueError, match="MeanIoU cannot take these sums"):
        semseg.merge(parts.state())


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_count_nowhere(name):
    _, _, logits, label = batch(name)
    ignored = {"depth": label == 0, "normals": (label == 0).all(1, keepdim=True), "edge": label == 255}.get(name)
    ignored = (label == 255)[:, None] if ignored is None else ignored
    changed = logits.where(~ignored, torch.full_like(logits, -7.0))
    if name != "edge":  # where a boundary is suppressed depends on its neighbours, ignored ones too
        assert value_of(name, logits, label) == value_of(name, changed, label)
    assert value_of(name, logits, label) != value_of(name, logits.where(ignored, torch.full_like(logits, 0.1)), label)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_valid_or_one_pixel(name):
    _, _, logits, label = batch(name)
    nothing = torch.full_like(label, 0 if name in ("depth", "normals") else 255)
    empty = value_of(name, logits, nothing)
    assert np.isnan(empty) if name in ("depth", "normals") else empty == 0
    assert np.isfinite(value_of(name, logits[:1, :, :1, :1], torch.ones_like(label[:1, ..., :1, :1])))


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_names_its_image(name):
    task, dataset, logits, label = batch(name)
    metric = build_metric(task, dataset)
    metric.update(logits, label)
    broken = logits.clone()
    broken[2, 0, 5, 5] = torch.nan
    with pytest.raises(ValueError, match="prediction of image 6 is NaN"):
        metric.update(broken, label)


def test_infinities_are_not_taken_for_nan():
    task, dataset, logits, label = batch("semseg")
    logits[:, 0], logits[:, 1] = torch.inf, -torch.inf
    metric = build_metric(task, dataset)
    metric.update(logits, label)
    alone = (label == 0).sum().item() / (label != 255).sum().item()  # class 0 is predicted everywhere
    assert metric.compute()["mIoU"] == pytest.approx(100 * alone / task.channels)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_must_agree(name):
    task, dataset, logits, label = batch(name)
    with pytest.raises(ValueError, match="must have the label's batch and size"):
        build_metric(task, dataset).update(logits[..., :-1], label)


def test_miou_is_the_mean_over_all_classes():
    _, _, logits, label = batch("semseg")
    logits, label = logits.clone(), label.clone()
    logits[:, 3], label[label == 3] = -100, 4  # class 3 occurs nowhere and counts as 0
    found, true = logits.argmax(1).numpy(), label.numpy()
    ious = []
    for c in range(CLASSES):
        hit, either = ((found == c) & (true == c)).sum(), (((found == c) & (true != 255)) | (true == c)).sum()
        ious.append(hit / max(either, 1))
    assert ious[3] == 0
    assert value_of("semseg", logits, label) == pytest.approx(100 * np.mean(ious), rel=1e-12)


@pytest.mark.parametrize("wrong", [CLASSES, 254, -1, 256])
def test_a_label_that_is_no_class_is_named(wrong):
    _, _, logits, label = batch("semseg")
    label[1, 2, 3] = wrong
    with pytest.raises(ValueError, match=rf"label {wrong} is neither"):
        value_of("semseg", logits, label)


def test_max_f_over_thresholds_and_the_whole_set():
    _, _, logits, label = batch("sal")
    label[0] = 0  # one image without anything salient: averages over images would differ
    probability, true = logits.softmax(1)[:, 1].numpy(), label.numpy()
    scores = []
    for step in range(1, 20):
        found = (probability >= np.float32(step / 20)) & (true != 255)
        hit = (found & (true == 1)).sum()
        precision, recall = hit / max(found.sum(), 1), hit / (true == 1).sum()
        scores.append(1.3 * precision * recall / max(0.3 * precision + recall, 1e-12))
    assert value_of("sal", logits, label) == pytest.approx(100 * max(scores), rel=1e-12)


def test_a_probability_on_a_threshold_is_salient():
    # two equal logits: probability 0.5 exactly; >= makes threshold 0.5 the last one that finds it
    logits, label = torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 0]]])
    logits[0, 1, 0, 1] = -0.1  # just below
    assert value_of("sal", logits, label) == pytest.approx(100)


def test_rmse_is_over_the_pixels_of_the_set_with_predictions_from_zero_up():
    _, _, logits, label = batch("depth")
    label[0, :, 2:] = 0  # images with different numbers of valid pixels: averages over images would differ
    true, found = label.numpy().astype(float), np.maximum(logits.numpy().astype(float), 0)
    valid = true > 0
    assert value_of("depth", logits, label) == pytest.approx(np.sqrt(np.mean((found - true)[valid] ** 2)), rel=1e-12)


def test_m_err_is_the_angle_in_degrees():
    _, _, logits, label = batch("normals")
    p, g = logits.numpy().astype(float), label.numpy().astype(float)
    valid = (g != 0).any(1)
    p, g = p / np.linalg.norm(p, axis=1, keepdims=True), g / np.linalg.norm(g, axis=1, keepdims=True).clip(1e-9)
    # the arc cosine is a different form of the same angle; at these large angles it is good to 1e-12
    assert value_of("normals", logits, label) == pytest.approx(
        np.degrees(np.arccos((p * g).sum(1)))[valid].mean(), rel=1e-9
    )


def test_tiny_angles_keep_their_size():
    label = torch.tensor([0.6, 0.8, 0.0]).view(1, 3, 1, 1)
    turned = label.double() + 1e-6 * torch.tensor([-0.8, 0.6, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    assert value_of("normals", turned, label.double()) == pytest.approx(np.degrees(1e-6), rel=1e-6)
    assert value_of("normals", -label, label) == pytest.approx(180)


def test_each_dataset_row_has_its_metrics():
    for dataset in DATASETS.values():
        for task in dataset.tasks:
            assert task.metric in build_metric(task, dataset).compute()
