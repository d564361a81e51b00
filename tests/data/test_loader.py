"""The batch stream depends only on (data seed, epoch, index): python -m pytest tests/data/test_loader.py"""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdam_ray.data.loader import Batching, ahead, train_batches, val_batches
from kdam_ray.data.source import Batch, Sample, Source

TASKS = ("semseg", "depth")


class Numbered:
    """Samples whose depth is their index + 1 everywhere, so that a batch tells which samples it holds."""

    fingerprint = "numbered"

    def __init__(self, sizes: Any, decodes_files: bool = False) -> None:
        self.sizes = sizes
        self.decodes_files = decodes_files

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Sample:
        size = self.sizes[index]
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        return {
            "image": image,
            "semseg": rng.integers(0, 4, size, dtype=np.uint8),
            "depth": np.full(size, index + 1, np.float32),
        }

    def name(self, index: int) -> str:
        return f"number {index}"


def batching(**changes: Any) -> Batching:
    chosen: Any = {"tasks": TASKS, "image_size": (12, 16), "batch": 4}
    return Batching(**(chosen | changes))


def train(source: Source, *, augment: Any = "paper", data_seed: int = 0, epoch: int = 1, **changes: Any) -> list[Batch]:
    return list(train_batches(source, batching(**changes), augment=augment, data_seed=data_seed, epoch=epoch))


def val(source: Source, **changes: Any) -> list[Batch]:
    return list(val_batches(source, batching(**changes)))


def equal(ours: Any, theirs: Any) -> bool:
    return len(ours) == len(theirs) and all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(ours, theirs, strict=True)
    )


def indices(batch: Any) -> list[int]:
    return [int(depth.max()) - 1 for depth in batch["depth"]]


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(8, 20),
    share=st.integers(1, 3),
    world=st.integers(1, 3),
    seed=st.integers(-5, 2**40),
    epoch=st.integers(0, 400),
)
def test_ranks_together_see_what_one_process_sees(count: int, share: int, world: int, seed: int, epoch: int) -> None:
    batch = min(share * world, count // world * world)
    source = Numbered([(14, 18)] * count)
    whole = train(source, batch=batch, data_seed=seed, epoch=epoch)
    ranks = [train(source, batch=batch, data_seed=seed, epoch=epoch, rank=rank, world=world) for rank in range(world)]
    joined = [{key: torch.cat([part[key] for part in parts]) for key in parts[0]} for parts in zip(*ranks, strict=True)]
    assert equal(whole, joined)
    assert len(whole) == count // batch


def test_the_stream_is_a_function_of_seed_and_epoch() -> None:
    source = Numbered([(14, 18)] * 12)
    first = train(source)
    assert equal(first, train(source))
    assert not equal(first, train(source, data_seed=1))
    assert not equal(first, train(source, epoch=2))
    assert not equal(train(source, data_seed=1, epoch=2), train(source, data_seed=2, epoch=1))


def test_every_sample_epoch_and_seed_is_augmented_anew() -> None:
    class Same(Numbered):
        def __getitem__(self, index: int) -> Sample:
            return super().__getitem__(0)

    streams = [train(Same([(14, 18)] * 8), data_seed=seed, epoch=epoch) for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    images = [image.numpy().tobytes() for stream in streams for batch in stream for image in batch["image"]]
    assert len(set(images)) == len(images) == 24


def test_augmentation_belongs_to_the_sample_not_to_its_place_in_the_batch() -> None:
    source = Numbered([(14, 18)] * 12)
    by_batch: dict[int, dict] = {batch: {} for batch in (3, 4, 12)}
    for batch, seen in by_batch.items():
        for part in train(source, batch=batch):
            for image in zip(part["image"], part["depth"], strict=True):
                seen[image[0].numpy().tobytes()] = image[1]
    assert by_batch[3].keys() == by_batch[4].keys() == by_batch[12].keys()


def test_images_do_not_depend_on_the_tasks() -> None:
    source = Numbered([(14, 18)] * 12)
    pairs = zip(train(source, tasks=("depth",)), train(source, tasks=("semseg", "depth")), strict=True)
    assert all(torch.equal(a["image"], b["image"]) and set(a) == {"image", "depth"} for a, b in pairs)


def test_an_epoch_holds_each_image_at_most_once_and_drops_the_rest() -> None:
    batches = train(Numbered([(12, 16)] * 11), augment="none")
    seen = list(itertools.chain(*map(indices, batches)))
    assert len(seen) == len(set(seen)) == 8
    assert seen != sorted(seen)


def test_without_augmentation_the_centre_is_cut_out() -> None:
    source = Numbered([(14, 20)] * 4)
    batch = train(source, augment="none")[0]
    for i, index in enumerate(indices(batch)):
        assert np.array_equal(batch["semseg"][i].numpy(), source[index]["semseg"][1:13, 2:18])


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([(12, 16), (9, 20), (16, 16)]), min_size=1, max_size=14),
    batch=st.integers(1, 5),
    world=st.integers(1, 4),
)
def test_evaluation_counts_every_image_once(sizes: Any, batch: Any, world: int) -> None:
    source = Numbered(sizes)
    seen = []
    for rank in range(world):
        for part in val(source, batch=batch, rank=rank, world=world):
            assert 1 <= len(part["image"]) <= batch
            for i, index in enumerate(indices(part)):
                height, width = sizes[index]
                assert tuple(part["image"].shape[-2:]) == (max(height, 12), max(width, 16))
                assert int((part["depth"][i] > 0).sum()) == height * width  # at its own size, the rest is padding
                seen.append(index)
    assert seen == list(range(len(sizes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 5, "world": 2}, r"batch: 5 images cannot be shared evenly by 2"),
        ({"batch": 20}, r"batch: 20 is more than the 12"),
        ({"augment": "papre"}, r"augment: 'papre' is not one of: paper, none"),
        ({"tasks": ("sal",)}, r"tasks: number \d+ has no sal map; it has semseg, depth"),
    ],
)
def test_what_cannot_be_is_named(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(Numbered([(12, 16)] * 12), **changes)


def test_reading_ahead_changes_nothing() -> None:
    sizes = [(14, 18)] * 9
    assert equal(train(Numbered(sizes)), train(Numbered(sizes, decodes_files=True)))
    assert equal(val(Numbered(sizes)), val(Numbered(sizes, decodes_files=True)))


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_an_error_arrives_in_its_turn() -> None:
    def items() -> Iterator[Any]:
        yield 1
        yield 2
        raise ValueError("depth/0007.npy: cut off")

    stream = ahead(items())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="0007"):
        next(stream)
    assert not readers()


@pytest.mark.parametrize("taken", [1, 3])
def test_a_stream_closed_early_ends_its_thread(taken: int) -> None:
    made = []

    def items() -> Iterator[Any]:
        for i in range(1000):
            made.append(i)
            yield i

    stream = ahead(items(), depth=2)
    assert list(itertools.islice(stream, taken)) == list(range(taken))
    assert readers()
    stream.close()
    assert not readers()
    assert len(made) <= taken + 4  # it was never far ahead


def test_a_stream_that_nobody_reads_starts_no_thread() -> None:
    stream = ahead(iter([1]))
    assert not readers()
    stream.close()
