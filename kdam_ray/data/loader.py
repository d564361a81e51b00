"""Batches out of a source: which samples, in which order, for which rank.

The global stream of training batches depends only on (data seed, epoch, index): every random number comes from a
generator seeded by these, so that it does not matter how many ranks share a batch, where training was resumed, or what
was read ahead.

Batches for the CPU are assembled sample by sample (`transforms`). For another device a thread reads ahead and puts
samples side by side as they are stored, in page-locked memory; they are copied without waiting, and augmented there
(`on_device`).
"""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from kdam_ray.data.on_device import collate, render
from kdam_ray.data.source import Batch, Sample, Size, Source
from kdam_ray.data.transforms import View, assemble, centred, draw, draw_candidates

# what a generator is for: [seed, epoch] and [seed, epoch, 0] seed numpy's SeedSequence alike, so lengths alone keep
# nothing apart
ORDER, AUGMENTATION = 1, 2
READ_AHEAD = 2


@dataclass(frozen=True)
class Batching:
    """How samples become batches, in training and in evaluation.

    Attributes:
        tasks: names of the maps that batches shall hold; has no influence on order and augmentation.
        image_size: (height, width) of a training batch, and that an evaluation batch has at least, pixels.
        batch: images per training step over all ranks; most images of an evaluation batch of one rank.
        rank: which contiguous share is returned, 0 .. world - 1: of each training batch, of all evaluation images.
        world: ranks that share.
        device: where batches shall be.
    """

    tasks: Sequence[str]
    image_size: Size
    batch: int
    rank: int = 0
    world: int = 1
    device: torch.device | str = "cpu"


def train_batches(
    source: Source, how: Batching, *, augment: Literal["paper", "none"], data_seed: int, epoch: int
) -> Iterator[Batch]:
    """One epoch in random order; the last incomplete batch is dropped.

    Args:
        source: the training split.
        how: size, share and device of the batches.
        augment: "paper" (scale, crop, flip, photometric, see `transforms`), or "none" (the centre of the image).
        data_seed: of order and augmentation.
        epoch: changes both.

    Returns:
        Batches of batch / world samples, [batch / world, ., *image_size].

    Raises:
        ValueError: `batch` does not divide by `world` or exceeds the source; an augmentation or task that does not
            exist.
    """
    if how.batch % how.world:
        raise ValueError(
            f"batch: {how.batch} images cannot be shared evenly by {how.world} workers; use a multiple of {how.world}"
        )
    if how.batch > len(source):
        raise ValueError(f"batch: {how.batch} is more than the {len(source)} training images")
    if augment not in ("paper", "none"):
        raise ValueError(f"augment: {augment!r} is not one of: paper, none")
    seeds = (data_seed % 2**64, epoch)
    return _deliver(source, how, _train(source, how, seeds, augmented=augment == "paper"))


def val_batches(source: Source, how: Batching) -> Iterator[Batch]:
    """Every sample once over all ranks, in order, at its own size, padded up to the image size where it is smaller.

    Args:
        source: the evaluation split.
        how: size, share and device of the batches; one is shorter where the image size changes, and ranks differ by at
            most one sample.
    """
    return _deliver(source, how, _val(source, how))


def whole_batch(sample: Sample, how: Batching) -> Batch:
    """One sample that has been read, as `val_batches` gives it."""
    return next(_deliver(sample, how, iter([_whole([sample], how.image_size)])))


def _shares(count: int, how: Batching, seeds: tuple[int, int]) -> list[np.ndarray]:
    """The indices of the samples that this rank has, a row per step."""
    order = np.random.default_rng([*seeds, ORDER]).permutation(count)
    share = how.batch // how.world
    first = how.rank * share
    return [order[start + first : start + first + share] for start in range(0, count - how.batch + 1, how.batch)]


@dataclass(frozen=True)
class _Chosen:
    """The samples of a batch, of each the view or candidates for it, and (height, width) of the batch."""

    samples: list[Sample]
    views: list[list[View]]
    canvas: Size


def _train(source: Source, how: Batching, seeds: tuple[int, int], *, augmented: bool) -> Iterator[_Chosen]:
    """Augmented by `seeds`, or the centres of the images; crops are judged here, or all candidates are told."""
    size, here = how.image_size, assembles_here(how.device)
    for share in _shares(len(source), how, seeds):
        samples = [_read(source, int(index), how.tasks) for index in share]
        views: list[list[View]]
        if augmented:
            rngs = [np.random.default_rng([*seeds, AUGMENTATION, int(index)]) for index in share]
            drawn = zip(rngs, samples, strict=True)
            views = [[draw(*one, size)] if here else draw_candidates(*one, size) for one in drawn]
        else:
            views = [[(centred(sample["image"].shape[:2], size), None)] for sample in samples]
        yield _Chosen(samples, views, (size[0], size[1]))


def _val(source: Source, how: Batching) -> Iterator[_Chosen]:
    kept: list[Sample] = []
    for index in range(len(source) * how.rank // how.world, len(source) * (how.rank + 1) // how.world):
        sample = _read(source, index, how.tasks)
        if kept and (len(kept) == how.batch or sample["image"].shape != kept[0]["image"].shape):
            yield _whole(kept, how.image_size)
            kept = []
        kept.append(sample)
    if kept:
        yield _whole(kept, how.image_size)


def _whole(samples: list[Sample], least: Size) -> _Chosen:
    height, width = samples[0]["image"].shape[:2]
    views: list[list[View]] = [[(centred((height, width)), None)]] * len(samples)
    return _Chosen(samples, views, (max(height, least[0]), max(width, least[1])))


def _read(source: Source, index: int, tasks: Sequence[str]) -> Sample:
    sample = source[index]
    missing = [name for name in tasks if name not in sample]
    if missing:
        has = ", ".join(name for name in sample if name != "image")
        raise ValueError(f"tasks: {source.name(index)} has no {missing[0]} map; it has {has}")
    return sample


def assembles_here(device: torch.device | str) -> bool:
    """Whether batches are assembled on the CPU, sample by sample; else all at once on their device."""
    return torch.device(device).type == "cpu"


def _deliver(source: Source | Sample, how: Batching, chosen: Iterator[_Chosen]) -> Iterator[Batch]:
    device, tasks = torch.device(how.device), how.tasks
    if assembles_here(device):
        batches = (
            assemble(one.samples, [views[0] for views in one.views], tasks=tasks, canvas=one.canvas) for one in chosen
        )
        # for samples in memory the thread would only fight for the interpreter
        return ahead(batches) if getattr(source, "decodes_files", False) else batches
    pin = device.type == "cuda"
    raws = (collate(one.samples, one.views, tasks=tasks, canvas=one.canvas, pin=pin) for one in chosen)
    return (render(raw.to(device)) for raw in ahead(raws))


def ahead(items: Iterator, depth: int = READ_AHEAD) -> Generator[Any, None, None]:
    """The same items in the same order, made by a thread that is up to `depth` ahead.

    An exception of the maker is raised here, in its turn. Closing this generator ends the thread, after the item at
    hand.
    """
    made: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def make() -> None:
        try:
            for item in items:
                made.put((item, None))
                if stop.is_set():
                    return
            made.put((None, StopIteration()))
        except BaseException as error:  # whatever it is, the thread that consumes must see it
            made.put((None, error))

    maker = threading.Thread(target=make, name="read-ahead", daemon=True)
    maker.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        while not made.empty():
            made.get_nowait()  # a maker that waits for room finds it, and then the order to stop
        maker.join()
