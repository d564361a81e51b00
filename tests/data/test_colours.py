"""Colours of maps: told apart, on a common scale, and grey where nothing counts.

python -m pytest tests/data/test_colours.py
"""

import numpy as np
import pytest

from kdam_ray.data.colours import (
    IGNORED,
    class_colours,
    class_names,
    coloured,
    coloured_prediction,
    depth_colours,
    depth_range,
    depth_scale,
)
from kdam_ray.tasks import DATASETS

GREY = [IGNORED] * 3
NYUD, PASCAL, ROOMS = DATASETS["nyud"], DATASETS["pascal"], DATASETS["rooms"]


def test_classes_of_pascal_have_the_published_colours() -> None:
    colours = class_colours(class_names(PASCAL.task("semseg"), PASCAL))
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[1].tolist() == [128, 0, 0]  # aeroplane
    assert colours[15].tolist() == [192, 128, 128]  # person
    assert colours[255].tolist() == GREY


@pytest.mark.parametrize("name", DATASETS)
def test_no_two_classes_look_alike_and_none_looks_ignored(name: str) -> None:
    dataset = DATASETS[name]
    for task in dataset.tasks:
        if task.kind == "classes":
            colours = class_colours(class_names(task, dataset))[: task.channels].tolist()
            assert len({tuple(colour) for colour in [*colours, GREY]}) == task.channels + 1


def test_a_class_without_a_background_is_not_black() -> None:
    wall = coloured(np.zeros((1, 1), np.uint8), ROOMS.task("semseg"), ROOMS)
    assert wall.any()


def test_the_depth_scale_darkens_in_equal_steps() -> None:
    scale = depth_scale().astype(float)
    light = scale @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) <= 0.5).all()  # whole grey levels are rounded
    assert light[0] > 200
    assert light[-1] < 30
    steps = np.linalg.norm(np.diff(scale[::32], axis=0), axis=1)
    assert steps.max() < 3 * steps.min()


def test_depth_is_coloured_within_the_limits_that_are_given() -> None:
    depth = np.array([[1.0, 3.0, 5.0, 9.0, 0.0, np.nan]])
    colours = depth_colours(depth, (1.0, 5.0))[0]
    assert colours[0].tolist() == depth_scale()[0].tolist()
    assert colours[2].tolist() == colours[3].tolist() == depth_scale()[-1].tolist()  # beyond the scale: its end
    assert colours[4].tolist() == colours[5].tolist() == GREY
    assert depth_colours(depth, (0.0, 100.0))[0, 0].tolist() != colours[0].tolist()


def test_the_range_of_depth_leaves_holes_and_outliers_out() -> None:
    depth = np.linspace(2, 4, 1000)
    depth[0], depth[1], depth[2] = 0, np.inf, 900
    assert depth_range([depth]) == pytest.approx((2, 4), abs=0.05)
    assert depth_range([np.zeros((2, 2))]) == (0.0, 1.0)
    assert depth_range([]) == (0.0, 1.0)


def test_normals_show_their_direction_alone() -> None:
    normals = np.array([[[0, 0, 1], [0, 0, 7], [0, 0, 0], [-1, 0, 0]]], np.float16)
    colours = coloured(normals, NYUD.task("normals"), NYUD)[0].tolist()
    assert colours[0] == colours[1] == [128, 128, 255]
    assert colours[2] == GREY
    assert colours[3] == [0, 128, 128]


def test_labels_of_edges_and_saliency() -> None:
    label = np.array([[0, 1, 255]], np.uint8)
    for task in (PASCAL.task("edge"), PASCAL.task("sal")):
        assert coloured(label, task, PASCAL)[0].tolist() == [[0] * 3, [255] * 3, GREY]


def test_predicted_probabilities_are_grey_levels() -> None:
    edge = coloured_prediction(np.array([[0, 100, 255]], np.uint8), PASCAL.task("edge"), PASCAL)
    assert edge[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]
    sal = coloured_prediction(np.array([[0.0, 0.5, 1.0]], np.float32), PASCAL.task("sal"), PASCAL)
    assert sal[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]


def test_a_perfect_prediction_looks_like_the_label() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 40, (4, 5))
    depth = rng.uniform(1, 5, (4, 5)).astype(np.float32)
    normals = rng.normal(size=(4, 5, 3)).astype(np.float32)
    pairs: list[tuple[str, np.ndarray, np.ndarray]] = [
        ("semseg", classes.astype(np.uint8), classes),
        ("depth", depth, depth[None]),
        ("normals", normals, np.moveaxis(normals, -1, 0)),
    ]
    for name, label, prediction in pairs:
        task = NYUD.task(name)
        shown = coloured_prediction(prediction, task, NYUD, depth=(1, 5))
        np.testing.assert_array_equal(shown, coloured(label, task, NYUD, depth=(1, 5)))


def test_a_predicted_depth_below_zero_is_nearest_not_unknown() -> None:
    shown = coloured_prediction(np.array([[[-1.0, 5.0]]]), NYUD.task("depth"), NYUD, depth=(1, 5))
    assert shown[0, 0].tolist() == depth_scale()[0].tolist()
