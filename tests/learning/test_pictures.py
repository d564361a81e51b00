"""Pictures show what is scored, and leave the networks as they were.

python -m pytest tests/learning/test_pictures.py
"""

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from kdam_ray.data.colours import class_colours, coloured, coloured_prediction
from kdam_ray.data.predictions import read_prediction
from kdam_ray.learning import pictures
from kdam_ray.learning.evaluate import Candidate, evaluate
from kdam_ray.learning.figure import cell_size
from kdam_ray.learning.pictures import draw, fixed_indices, summary
from kdam_ray.models import build_network
from kdam_ray.tasks import DATASETS

ROOMS = DATASETS["rooms"]
TASKS = [task.name for task in ROOMS.tasks]
SIZE = (32, 48)


class Always(nn.Module):
    """Says the same class, depth, normal and edge everywhere."""

    def __init__(self, label, depth=2.0):
        super().__init__()
        self.label, self.depth = label, depth
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image):
        assert not self.training
        size = (len(image), -1, -(-image.shape[2] // 4), -(-image.shape[3] // 4))
        semseg = nn.functional.one_hot(torch.tensor(self.label), 17).float()
        values = {
            "semseg": semseg,
            "depth": torch.tensor([self.depth]),
            "normals": torch.tensor([0.0, 0, 1]),
            "edge": torch.tensor([0.0]),
        }
        return {name: (self.scale * value)[None, :, None, None].expand(size) for name, value in values.items()}


@pytest.fixture(scope="module")
def source():
    return tiny.TinySource(6, seed=2)


def picture(networks, source, indices=(1,), **options):
    return draw(networks, source, ROOMS, indices, **({"image_size": SIZE, "tasks": TASKS} | options))


def pixels_of(image, colour):
    return int((np.asarray(image.convert("RGB")) == colour).all(-1).sum())


def blocks_of(monkeypatch, networks, source, indices=(1,), **options):
    """What would be laid out."""
    kept = []
    monkeypatch.setattr(pictures, "draw_blocks", kept.extend)
    picture(networks, source, indices, **options)
    return kept


def test_fixed_images_are_spread_evenly():
    assert fixed_indices(200, 4) == [25, 75, 125, 175]
    assert fixed_indices(3, 8) == [0, 1, 2]
    assert len(set(fixed_indices(7, 5))) == 5


def test_each_network_has_a_column_of_what_it_predicts(source):
    colours = class_colours(ROOMS.classes)
    image = picture({"teacher": Always(3), "student": Always(9)}, source)
    height, width = cell_size(*SIZE, 256)
    assert (height, width) == (160, 240)  # enlarged five times
    for label in (3, 9):
        assert pixels_of(image, colours[label]) >= height * width
    assert picture({"student": Always(9)}, source).width == image.width - width - 6


def test_blocks_are_named_and_hold_the_truth(monkeypatch, source):
    first, second = blocks_of(monkeypatch, {"student": Always(0)}, source, (4, 1))
    assert [first.title, second.title] == ["rooms, image tiny-4", "rooms, image tiny-1"]
    assert first.rows == TASKS
    assert [cell.caption for cell in first.grid[0]] == ["ground truth", "student"]
    for row, task in zip(second.grid, ROOMS.tasks, strict=True):
        limits = second.legends[1].limits
        np.testing.assert_array_equal(row[0].pixels, coloured(source[1][task.name], task, ROOMS, depth=limits))


def test_what_is_drawn_is_what_is_scored(monkeypatch, source, tmp_path):
    torch.manual_seed(0)
    # in float64: a batch of one sums in another order than a batch of six
    network = tiny.in_float64(build_network("swin_w12", "mt_baseline", ROOMS.tasks, image_size=SIZE))
    canvas = (50, 70)  # larger than the images: they are padded, and the padding is cut off
    evaluate({"a": Candidate(network, TASKS, predictions=tmp_path)}, source, ROOMS, image_size=canvas)
    (block,) = blocks_of(monkeypatch, {"student": network}, source, (2,), image_size=canvas)
    for row, task in zip(block.grid, ROOMS.tasks, strict=True):
        (path,) = (tmp_path / task.name).glob("tiny-2.*")
        scored = read_prediction(path, task, SIZE)
        shown = coloured_prediction(scored, task, ROOMS, depth=block.legends[1].limits)
        np.testing.assert_array_equal(row[1].pixels, shown)


def test_networks_are_left_as_they_were(source):
    learning, judging = Always(1).train(), Always(2).eval()
    state = torch.get_rng_state()
    picture({"a": learning, "b": judging}, source)
    assert learning.training
    assert not judging.training
    assert learning.scale.grad is None
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_picture_twice(source):
    networks = {"student": build_network("resnet_w8", "mt_baseline", ROOMS.tasks, image_size=SIZE)}
    assert picture(networks, source, (0, 3)).tobytes() == picture(networks, source, (0, 3)).tobytes()


def test_depth_has_one_scale_for_the_whole_row(monkeypatch, source):
    (block,) = blocks_of(monkeypatch, {"near": Always(0, depth=1.5), "far": Always(0, depth=4.0)}, source)
    truth, near, far = (cell.pixels.astype(int).sum(-1) for cell in block.grid[1])
    assert near.min() == near.max() > far.min() == far.max()  # near is light
    depth = source[1]["depth"]
    like_near = truth[(depth > 0) & (np.abs(depth - 1.5) < 0.03)]
    assert like_near.size
    assert np.abs(like_near - near[0, 0]).max() < 30


def test_the_legend_names_the_classes_that_occur(monkeypatch, source):
    (block,) = blocks_of(monkeypatch, {"student": Always(16)}, source)
    there = set(np.unique(source[1]["semseg"]).tolist()) - {255} | {16}
    assert set(block.legends[0].labels) == there
    assert block.legends[0].names == ROOMS.classes


def test_a_network_that_diverged_or_lacks_a_task_leaves_gaps(monkeypatch, source):
    alone = build_network("resnet_w8", "mt_baseline", [ROOMS.task("depth")], image_size=SIZE)
    networks = {"bad": Always(0, depth=float("nan")), "alone": alone}
    (block,) = blocks_of(monkeypatch, networks, source)
    gaps = [[cell.gap if cell.pixels is None else "" for cell in row] for row in block.grid]
    assert gaps == [["", "", "not learnt"], ["", "not finite", ""], ["", "", "not learnt"], ["", "", "not learnt"]]
    monkeypatch.undo()
    assert picture(networks, source).width > 500


def test_nothing_to_draw_is_refused(source):
    with pytest.raises(ValueError, match="at least one"):
        picture({}, source, ())


def test_a_summary_shows_every_task_once():
    size = (480, 640)
    found = {
        "semseg": np.full(size, 3), "depth": np.full((1, *size), 2.0), "normals": np.ones((3, *size)),
        "edge": np.full(size, 200, np.uint8),
    }  # fmt: skip
    image = summary("a photograph", np.zeros((*size, 3), np.uint8), found, ROOMS)
    assert image.width >= 3 * 384
    assert pixels_of(image, class_colours(ROOMS.classes)[3]) >= 288 * 384
    assert pixels_of(image, (200, 200, 200)) >= 288 * 384


def test_long_titles_are_broken_not_cut(source):
    short, long = (
        picture({title: Always(1)}, source) for title in ("student", "student swin_w12 mqtransformer + plain_kd")
    )
    assert long.width == short.width
    assert long.height == short.height + 18  # one line more above the first row
