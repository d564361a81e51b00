"""Augmentation equals a plain per-image chain of steps: python -m pytest tests/data/test_transforms.py"""

import colorsys
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdam_ray.data import transforms
from kdam_ray.data.transforms import (
    Colour,
    Geometry,
    assemble,
    centred,
    draw,
    draw_candidates,
    draw_colour,
    is_varied,
    saturate,
    shift_hue,
)

TASKS = ("semseg", "human_parts", "sal", "depth", "normals", "edge")
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


def make_sample(size: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(*size, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals[rng.random(size) < 0.1] = 0
    depth = rng.uniform(0.5, 9, size) * (rng.random(size) > 0.1)
    maps = {name: rng.choice([0, 1, 2, 3, 255], size).astype(np.uint8) for name in ("semseg", "human_parts", "sal")}
    edge = rng.integers(0, 2, size, dtype=np.uint8)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return {
        "image": image,
        "depth": depth.astype(np.float32),
        "normals": normals.astype(np.float16),
        "edge": edge,
        **maps,
    }


# ---- the reference: one image, one step after the other


def plain(sample: Any, geometry: Geometry, colour: Colour | None, canvas: tuple[int, int]) -> Any:
    """Scale everything, crop, flip, recolour, normalise, pad."""
    out = {name: plain_scale(name, array, geometry) for name, array in sample.items()}
    (top, left), (height, width) = geometry.corner, geometry.crop
    out = {name: array[top : top + height, left : left + width] for name, array in out.items()}
    if geometry.flip:
        out = {name: array[:, ::-1].copy() for name, array in out.items()}
        out["normals"][..., 0] *= -1
    if colour is not None:
        out["image"] = plain_colour(out["image"], colour)
    out["image"] = (out["image"] / 255 - MEAN) / STD
    return {
        name: plain_pad(array, 255 if name in ("semseg", "human_parts", "sal", "edge") else 0, canvas)
        for name, array in out.items()
    }


def plain_scale(name: str, array: np.ndarray, geometry: Any) -> Any:
    size, (height, width) = array.shape[:2], geometry.scaled
    if name == "image":
        planes = torch.from_numpy(array).permute(2, 0, 1)[None].double()
        return F.interpolate(planes, (height, width), mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    picked = np.array(
        [[array[y * size[0] // height, x * size[1] // width] for x in range(width)] for y in range(height)]
    )
    return picked / np.float32(geometry.scale) if name == "depth" else picked


def plain_colour(image: Any, colour: Any) -> Any:
    image = np.floor(image)
    image = np.floor(np.clip(image + colour.brightness, 0, 255))
    if colour.contrast_first:
        image = np.floor(np.clip(image * colour.contrast, 0, 255))
    image = plain_hsv(image, lambda h, s, v: (h, min(1, s * colour.saturation), v)) if colour.saturation != 1 else image
    image = plain_hsv(image, lambda h, s, v: ((h + colour.hue / 180) % 1, s, v)) if colour.hue else image
    return image if colour.contrast_first else np.floor(np.clip(image * colour.contrast, 0, 255))


def plain_hsv(image: Any, change: Any) -> Any:
    return np.round(exact_hsv(image, change))


def exact_hsv(image: Any, change: Any) -> Any:
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*(pixel / 255)))) for pixel in image.reshape(-1, 3)]
    return np.array(pixels).reshape(image.shape) * 255


def plain_pad(array: np.ndarray, value: Any, canvas: tuple[int, int]) -> Any:
    top, left = ((canvas[i] - array.shape[i]) // 2 for i in (0, 1))
    padded = np.full((*canvas, *array.shape[2:]), value, dtype=array.dtype)
    padded[top : top + array.shape[0], left : left + array.shape[1]] = array
    return padded


def planes(name: str, array: np.ndarray) -> Any:
    """[H, W] or [H, W, 3] as the batch holds it."""
    if array.ndim == 3:
        return array.transpose(2, 0, 1)
    return array[None] if name in ("depth", "edge") else array


def levels(image: Any) -> Any:
    """Grey levels of a normalised [3, H, W] image."""
    return (image.transpose(1, 2, 0) * STD + MEAN) * 255


sizes = st.tuples(st.integers(5, 40), st.integers(5, 40))


@settings(max_examples=25, deadline=None)
@given(size=sizes, canvas=sizes, seed=st.integers(0, 2**32))
def test_equals_the_plain_chain_without_colour(size: Any, canvas: tuple[int, int], seed: int) -> None:
    sample = make_sample(size, seed)
    geometry, _ = draw(np.random.default_rng(seed), sample, canvas)
    ours = assemble([sample], [(geometry, None)], tasks=TASKS, canvas=canvas)
    for name, expected in plain(sample, geometry, None, canvas).items():
        # the image: float32 weights against float64, of values up to 2.7; maps are picked, depth is divided in float32
        # by both
        tolerance = 2e-4 if name == "image" else 0
        np.testing.assert_allclose(ours[name][0].numpy(), planes(name, expected), rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_plain_chain_with_colour(seed: int) -> None:
    sample, canvas = make_sample((30, 26), seed), (24, 32)
    geometry, colour = draw(np.random.default_rng(seed), sample, canvas)
    ours = levels(assemble([sample], [(geometry, colour)], tasks=(), canvas=canvas)["image"][0].numpy())
    expected = levels(planes("image", plain(sample, geometry, colour, canvas)["image"]))
    difference = np.abs(ours - expected)
    # values that hit a whole or half level exactly (interpolated at thirds, hue turned by 3/10 of a sixth) may be cut
    # to either side by float32 and by float64, and later steps stretch that level: 2 % of the pixels at the worst of
    # these seeds
    assert difference.max() < 4
    assert (difference < 0.01).mean() > 0.97


def test_colour_changes_are_those_of_hsv() -> None:
    image = np.random.default_rng(3).integers(0, 256, (40, 50, 3)).astype(np.float64)
    image[:4] = 77  # grey: has no hue
    x = torch.from_numpy(image).float().permute(2, 0, 1)[None]
    half = 0.5 + 1e-4  # rounded to a whole level; either neighbour where float32 cannot tell
    for gain in (0.5, 0.83, 1.37):
        expected = exact_hsv(image, lambda h, s, v, gain=gain: (h, min(1, s * gain), v))
        assert np.abs(saturate(x, torch.tensor([gain]))[0].permute(1, 2, 0).numpy() - expected).max() <= half
    for steps in (-18, -7, 1, 17):
        expected = exact_hsv(image, lambda h, s, v, steps=steps: ((h + steps / 180) % 1, s, v))
        assert np.abs(shift_hue(x, torch.tensor([float(steps)]))[0].permute(1, 2, 0).numpy() - expected).max() <= half


def test_each_image_of_a_batch_gets_its_own_colours() -> None:
    images = torch.randint(0, 256, (5, 3, 20, 30), generator=torch.Generator().manual_seed(0)).float()
    colours = [draw_colour(np.random.default_rng(i)) for i in range(5)]
    together = images.clone()
    transforms.recolour(together, colours)
    for i, colour in enumerate(colours):
        alone = images[i : i + 1].clone()
        transforms.recolour(alone, [colour])
        assert torch.equal(together[i : i + 1], alone)


def test_neutral_colours_change_nothing() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8)).float()
    kept = images.clone()
    transforms.recolour(images, [Colour(), Colour(contrast_first=False)])
    assert torch.equal(images, kept)


@settings(max_examples=25, deadline=None)
@given(size=sizes, seed=st.integers(0, 2**32))
def test_flipping_twice_is_the_identity(size: Any, seed: int) -> None:
    sample = make_sample(size, seed)
    flipped = dataclasses.replace(centred(size), flip=True)
    once = assemble([sample], [(flipped, None)], tasks=TASKS, canvas=size)
    assert torch.equal(once["normals"][0, 0], -torch.from_numpy(sample["normals"][:, ::-1, 0].astype(np.float32)))
    back = {name: sample[name].dtype.type(0) + _as_sample(once[name][0]).astype(sample[name].dtype) for name in TASKS}
    back["image"] = levels(once["image"][0].numpy().astype(np.float64)).round().astype(np.uint8)
    twice = assemble([back], [(flipped, None)], tasks=TASKS, canvas=size)
    straight = assemble([sample], [(centred(size), None)], tasks=TASKS, canvas=size)
    for name, tensor in straight.items():
        assert torch.equal(twice[name], tensor), name


def _as_sample(tensor: torch.Tensor) -> Any:
    array = tensor.numpy()
    return array if array.ndim == 2 else array[0] if len(array) == 1 else array.transpose(1, 2, 0)


@settings(max_examples=25, deadline=None)
@given(size=sizes, canvas=sizes, seed=st.integers(0, 2**32))
def test_normals_stay_unit_and_depth_times_scale_stays(size: Any, canvas: tuple[int, int], seed: int) -> None:
    sample = make_sample(size, seed)
    geometry, _ = draw(np.random.default_rng(seed), sample, canvas)
    batch = assemble([sample], [(geometry, None)], tasks=("depth", "normals"), canvas=canvas)
    length = batch["normals"].norm(dim=1)
    assert ((length == 0) | ((length - 1).abs() < 2e-3)).all()  # float16 components: 5e-4 each
    times_scale = np.unique((batch["depth"] * geometry.scale).numpy())
    distance = np.abs(times_scale[:, None] - np.append(sample["depth"].ravel(), 0)[None]).min(1)
    assert distance.max() < 1e-5
    assert 0.5 <= geometry.scale < 2


def blocks(size: Any, seed: int) -> Any:
    """Labels in blocks of 8 pixels, three quarters of them one class: about half of all crops are refused."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 255], [-(-length // 8) for length in size], p=[0.74, 0.1, 0.1, 0.06]).astype(np.uint8)
    return np.kron(labels, np.ones((8, 8), np.uint8))[: size[0], : size[1]]


@settings(max_examples=60, deadline=None)
@given(size=sizes, canvas=sizes, seed=st.integers(0, 2**32), labelled=st.booleans())
def test_the_first_varied_candidate_is_the_one_drawn(
    size: Any, canvas: tuple[int, int], seed: int, labelled: bool
) -> None:
    """With flip and colours: what follows a crop from the same generator is what would have followed it."""
    sample = make_sample(size, seed) | {"semseg": blocks(size, seed)}
    if not labelled:
        del sample["semseg"]
    views = draw_candidates(np.random.default_rng(seed), sample, canvas)
    assert len(views) in (1, 11)
    plain_crops = (plain_crop(sample, geometry) for geometry, _ in views[:-1])
    first = next((i for i, crop in enumerate(plain_crops) if is_varied(crop)), len(views) - 1)
    assert views[first] == draw(np.random.default_rng(seed), sample, canvas)


def plain_crop(sample: Any, geometry: Any) -> Any:
    (top, left), (height, width) = geometry.corner, geometry.crop
    return plain_scale("semseg", sample["semseg"], geometry)[top : top + height, left : left + width]


def test_crops_of_one_class_are_drawn_anew() -> None:
    """A quarter of the width holds a second class: crops that miss it, or nearly, are refused while tries last."""
    semseg = np.zeros((40, 160), np.uint8)
    semseg[:, 120:] = 1
    sample = {"image": np.zeros((40, 160, 3), np.uint8), "semseg": semseg}
    refused = {"with": 0, "without": 0}
    for seed in range(200):
        for name, given_sample in (("with", sample), ("without", {"image": sample["image"]})):
            view = draw(np.random.default_rng(seed), given_sample, (20, 40))
            crop = assemble([sample], [view], tasks=("semseg",), canvas=(20, 40))["semseg"]
            refused[name] += not is_varied(crop.numpy().astype(np.uint8))
    assert refused["without"] > 120  # the rule has work to do
    assert refused["with"] < refused["without"] / 3


@pytest.mark.parametrize(
    ("labels", "varied"),
    [
        ([0, 0, 1, 1], True),
        ([0, 0, 0, 1], False),  # 75 % exactly
        ([0, 0, 0, 0], False),
        ([0, 0, 255, 255], False),  # one class, unlabelled pixels count for nothing
        ([0, 1, 255, 255], True),
        ([255, 255, 255, 255], False),
    ],
)
def test_what_a_varied_crop_is(labels: np.ndarray, varied: bool) -> None:
    assert is_varied(np.array(labels, np.uint8).reshape(2, 2)) is varied


def test_padding_is_centred_and_counts_nowhere() -> None:
    sample = make_sample((4, 5))
    batch = assemble([sample], [(centred((4, 5)), Colour(brightness=30.0))], tasks=TASKS, canvas=(7, 10))
    outside = torch.ones(7, 10, dtype=torch.bool)
    outside[1:5, 2:7] = False
    assert (batch["image"][0, :, outside] == 0).all()
    for name, value in {"semseg": 255, "human_parts": 255, "sal": 255, "edge": 255, "depth": 0, "normals": 0}.items():
        assert (batch[name][0, ..., outside] == value).all(), name
    assert np.array_equal(batch["semseg"][0, 1:5, 2:7].numpy(), sample["semseg"])


def test_human_parts_of_an_image_without_people_are_ignored() -> None:
    samples = [make_sample((4, 5), seed) for seed in (0, 1)]
    samples[0]["human_parts"] = np.where(np.arange(20).reshape(4, 5) % 3, 0, 255).astype(np.uint8)
    batch = assemble(samples, [(centred((4, 5)), None)] * 2, tasks=("human_parts",), canvas=(4, 5))
    assert (batch["human_parts"][0] == 255).all()
    assert np.array_equal(batch["human_parts"][1].numpy(), samples[1]["human_parts"])


def test_types_and_shapes_are_those_that_losses_expect() -> None:
    batch = assemble([make_sample((4, 5))] * 2, [(centred((4, 5)), None)] * 2, tasks=TASKS, canvas=(6, 8))
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in batch.items()}
    maps = dict.fromkeys(("semseg", "human_parts", "sal"), ((2, 6, 8), torch.int64))
    ones = dict.fromkeys(("depth", "edge"), ((2, 1, 6, 8), torch.float32))
    threes = dict.fromkeys(("image", "normals"), ((2, 3, 6, 8), torch.float32))
    assert shapes == maps | ones | threes


def test_drawn_colours_keep_to_their_ranges() -> None:
    drawn = [draw_colour(np.random.default_rng(seed)) for seed in range(2000)]
    for field, low, high, neutral in (
        ("brightness", -32, 32, 0),
        ("contrast", 0.5, 1.5, 1),
        ("saturation", 0.5, 1.5, 1),
        ("hue", -18, 17, 0),
    ):
        values = np.array([getattr(colour, field) for colour in drawn])
        assert low <= values.min() < low + 0.05 * (high - low), field
        assert high - 0.05 * (high - low) < values.max() <= high, field
        # each change happens with probability 1/2: five standard deviations; hue also draws 0 itself, once in 36
        assert abs((values != neutral).mean() - 0.5) < 0.07, field
    assert abs(np.mean([colour.contrast_first for colour in drawn]) - 0.5) < 0.06
