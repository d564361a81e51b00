"""A batch augmented at once equals its samples augmented one by one: python -m pytest tests/data/test_on_device.py

Runs on the CPU, on CUDA too where there is one, and on the meta device, which has shapes but no values: what has to
look at a value there, as whatever waits for a device has to, fails.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdam_ray.data import loader, on_device
from kdam_ray.data.on_device import collate, render
from kdam_ray.data.transforms import Colour, assemble, centred, draw, draw_candidates, draw_colour, is_varied
from tests.data.test_loader import Numbered, batching, equal, readers, train, val
from tests.data.test_transforms import TASKS, blocks, levels, make_sample, plain, planes, sizes

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


def generator(seed: int, i: int) -> Any:
    return np.random.default_rng([seed, i])


def make_samples(size_of_each: Any, seed: int) -> Any:
    return [make_sample(size, seed + i) | {"semseg": blocks(size, seed + i)} for i, size in enumerate(size_of_each)]


def at_once(samples: Any, candidates: Any, *, tasks: Any, canvas: tuple[int, int], device: str = "cpu") -> Any:
    raw = collate(samples, candidates, tasks=tasks, canvas=canvas, pin=device == "cuda")
    return {name: tensor.cpu() for name, tensor in render(raw.to(device)).items()}


def same(ours: Any, theirs: Any, image: Any = 2e-6) -> None:
    """Maps are bits; the image is interpolated in another order of loops, some of which fuse a product with a sum."""
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].shape == tensor.shape, name
        assert ours[name].dtype == tensor.dtype, name
        assert ours[name].is_contiguous(), name
        if name != "image":
            assert torch.equal(ours[name], tensor), name
    assert (ours["image"] - theirs["image"]).abs().max() <= image


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=50, deadline=None)
@given(each=st.lists(sizes, min_size=1, max_size=5), canvas=sizes, seed=st.integers(0, 2**32))
def test_crops_and_maps_equal_one_by_one(device: str, each: Any, canvas: tuple[int, int], seed: int) -> None:
    samples = make_samples(each, seed)
    views = [draw(generator(seed, i), sample, canvas) for i, sample in enumerate(samples)]
    candidates = [draw_candidates(generator(seed, i), sample, canvas) for i, sample in enumerate(samples)]
    plainly = [[(geometry, None) for geometry, _ in views] for views in candidates]
    ours = at_once(samples, plainly, tasks=TASKS, canvas=canvas, device=device)
    same(ours, assemble(samples, [(geometry, None) for geometry, _ in views], tasks=TASKS, canvas=canvas))
    for i, (sample, (geometry, _)) in enumerate(zip(samples, views, strict=True)):
        expected = plain(sample, geometry, None, canvas)
        if not np.isin(expected["human_parts"], (0, 255), invert=True).any():
            expected["human_parts"][:] = 255
        for name, array in expected.items():
            tolerance = 2e-4 if name == "image" else 0  # as in test_transforms.py
            np.testing.assert_allclose(ours[name][i].numpy(), planes(name, array), rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(6))
def test_colours_equal_one_by_one(device: str, seed: int) -> None:
    samples, canvas = make_samples([(61, 83), (40, 90), (33, 35), (80, 80)][: 1 + seed % 4], seed), (53, 71)
    views = [draw(generator(seed, i), sample, canvas) for i, sample in enumerate(samples)]
    candidates = [draw_candidates(generator(seed, i), sample, canvas) for i, sample in enumerate(samples)]
    ours = at_once(samples, candidates, tasks=(), canvas=canvas, device=device)["image"]
    theirs = assemble(samples, views, tasks=(), canvas=canvas)["image"]
    difference = np.abs(
        np.stack([levels(a) - levels(b) for a, b in zip(ours.double().numpy(), theirs.double().numpy(), strict=True)])
    )
    # a last bit before a cut to whole levels is one level after it, which gains and the hue stretch
    assert difference.max() < 5
    assert (difference < 0.01).mean() > 0.999


@pytest.mark.parametrize("contrast_first", [True, False])
def test_neutral_steps_change_no_level(contrast_first: bool) -> None:
    """The device does every step to every image; for whole levels all of them are exact."""
    image = torch.randint(0, 256, (1, 3, 200, 200), generator=torch.Generator().manual_seed(0)).float()
    kept = image.clone()
    on_device._recolour(image, torch.tensor([Colour(contrast_first=contrast_first).steps]))
    assert torch.equal(image, kept)


def test_each_colour_alone_is_the_same_on_whole_levels() -> None:
    """Not resampled, so nothing is rounded before the colours change: then every bit is the same."""
    samples = make_samples([(20, 30)] * 24, 5)
    views = [(centred((20, 30)), draw_colour(np.random.default_rng(i))) for i in range(24)]
    ours = at_once(samples, [[view] for view in views], tasks=TASKS, canvas=(20, 30))
    assert equal([ours], [assemble(samples, views, tasks=TASKS, canvas=(20, 30))])


def test_crops_are_refused_as_often_as_one_by_one() -> None:
    """The rule has work to do here: without it most crops would be others."""
    samples = make_samples([(64, 96)] * 40, 0)
    candidates = [draw_candidates(generator(1, i), sample, (20, 28)) for i, sample in enumerate(samples)]
    raw = collate(samples, candidates, tasks=("depth",), canvas=(20, 28), pin=False)
    chosen = on_device._first_varied(raw)
    expected = [draw(generator(1, i), sample, (20, 28)) for i, sample in enumerate(samples)]
    assert [views[min(k, len(views) - 1)] for views, k in zip(candidates, chosen.tolist(), strict=True)] == expected
    assert len(set(chosen.tolist())) > 4
    assert set(render(raw)) == {"image", "depth"}  # semseg travels for the rule alone


def test_a_boundary_of_three_quarters_is_refused() -> None:
    for ones, varied in ((15, False), (16, False), (17, True)):  # of 64 labelled pixels, 48 is 75 %
        semseg = np.full((8, 16), 255, np.uint8)
        semseg[:, :8] = (np.arange(64) < ones).reshape(8, 8)
        sample = make_sample((8, 16)) | {"semseg": semseg}
        assert is_varied(semseg) is varied
        views = [(dataclasses.replace(centred((8, 16)), flip=flip), None) for flip in (False, True)]
        raw = collate([sample], [views], tasks=(), canvas=(8, 16), pin=False)
        assert on_device._first_varied(raw).tolist() == [0 if varied else 1]


def test_samples_lie_beside_each_other_as_they_are_stored() -> None:
    samples = make_samples([(5, 9), (7, 4)], 0)
    raw = collate(samples, [[(centred((5, 4)), None)]] * 2, tasks=TASKS, canvas=(5, 4), pin=False)
    for name in ("image", *TASKS):
        stored = raw.maps[name].numpy()
        assert stored.shape[:3] == (2, 7, 9), name
        for one, sample in zip(stored, samples, strict=True):
            height, width = sample[name].shape[:2]
            assert stored.dtype == sample[name].dtype, name
            assert np.array_equal(one[:height, :width], sample[name]), name


def test_read_only_samples_are_taken() -> None:
    samples = make_samples([(6, 7)], 0)
    for array in samples[0].values():
        array.setflags(write=False)
    same(
        at_once(samples, [[(centred((6, 7)), None)]], tasks=TASKS, canvas=(6, 7)),
        assemble(samples, [(centred((6, 7)), None)], tasks=TASKS, canvas=(6, 7)),
    )


@pytest.mark.parametrize("crops", ["judged", "given"])
def test_it_looks_at_no_value(crops: str) -> None:
    samples, canvas = make_samples([(30, 40), (25, 50)], 0), (24, 32)
    candidates = [
        draw_candidates(generator(2, i), sample, canvas)[: None if crops == "judged" else 1]
        for i, sample in enumerate(samples)
    ]
    raw = collate(samples, candidates, tasks=TASKS, canvas=canvas, pin=False)
    batch = render(raw.to("meta"))
    theirs = render(raw)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in theirs.items()
    }
    assert all(tensor.is_meta for tensor in batch.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_it_never_waits_for_the_device() -> None:
    samples, canvas = make_samples([(30, 40), (25, 50)], 0), (24, 32)
    candidates = [draw_candidates(generator(2, i), sample, canvas) for i, sample in enumerate(samples)]
    render(collate(samples, candidates, tasks=TASKS, canvas=canvas, pin=True).to("cuda"))  # keeps its constants there
    torch.cuda.set_sync_debug_mode("error")
    try:
        render(collate(samples, candidates, tasks=TASKS, canvas=canvas, pin=True).to("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")


# ---- through the loader


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is treated as any other device."""
    monkeypatch.setattr(loader, "assembles_here", lambda device: False)


def close(ours: Any, theirs: Any) -> None:
    """Batches of the same views: maps are bits, of the colours few pixels differ."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a if name != "image")
        assert ((a["image"] - b["image"]).abs() < 1e-4).float().mean() > 0.99


MIXED = [(14, 18), (30, 11), (9, 40), (33, 33)] * 3


@pytest.mark.parametrize(
    "changes", [{}, {"augment": "none"}, {"epoch": 7, "tasks": ("depth",)}, {"rank": 1, "world": 2}]
)
@pytest.mark.parametrize("each", [MIXED, [(14, 18)] * 12])
def test_the_stream_of_a_device_is_that_of_the_cpu(each: Any, changes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Numbered(each)
    expected, expected_val = train(source, **changes), val(source)
    monkeypatch.setattr(loader, "assembles_here", lambda device: False)
    close(train(source, **changes), expected)
    close(val(source), expected_val)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_stream_of_cuda_is_that_of_the_cpu() -> None:
    source = Numbered(MIXED)
    there = [{name: tensor.cpu() for name, tensor in batch.items()} for batch in train(source, device="cuda")]
    close(there, train(source))


def test_a_stream_of_a_device_closed_early_ends_its_thread(elsewhere: None) -> None:
    source = Numbered([(14, 18)] * 40)
    batches: Any = loader.train_batches(source, batching(tasks=("depth",)), augment="paper", data_seed=0, epoch=1)
    assert not readers()
    next(batches)
    assert readers()
    batches.close()
    assert not readers()


def test_an_error_while_reading_is_raised_where_batches_are_taken(elsewhere: None) -> None:
    with pytest.raises(ValueError, match="has no sal map"):
        train(Numbered([(12, 16)] * 12), tasks=("sal",))
    assert not readers()
