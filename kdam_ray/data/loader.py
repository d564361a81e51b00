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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from kdam_ray.data.on_device import collate, render
from kdam_ray.data.source import Batch, Sample, Source
from kdam_ray.data.transforms import View, assemble, centred, draw, draw_candidates

# what a generator is for: [seed, epoch] and [seed, epoch, 0] seed numpy's SeedSequence alike, so lengths alone keep
# nothing apart
ORDER, AUGMENTATION = 1, 2
READ_AHEAD = 2


def train_batches(
    source: Source,
    *,
    tasks: Sequence[str],
    image_size: tuple[int, int],
    batch: int,
    augment: Literal["paper", "none"],
    data_seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    first_step: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """One epoch in random order; the last incomplete batch is dropped.

    Args:
        source: the training split.
        tasks: names of the maps that batches shall hold; has no influence on order and augmentation.
        image_size: (height, width) of a batch, pixels.
        batch: images per step over all ranks.
        augment: "paper" (scale, crop, flip, photometric, see `transforms`), or "none" (the centre of the image).
        data_seed: of order and augmentation.
        epoch: changes both.
        rank: which contiguous share of each batch is returned, 0 .. world - 1.
        world: ranks that share each batch.
        first_step: steps of the epoch that are left out, as done before an interruption; nothing is read for them.
        device: where batches shall be.

    Returns:
        Batches of batch / world samples, [batch / world, ., *image_size].

    Raises:
        ValueError: `batch` does not divide by `world` or exceeds the source; an augmentation or task that does not
            exist.
    """
    if batch % world:
        raise ValueError(f"batch: {batch} images cannot be shared evenly by {world} workers; use a multiple of {world}")
    if batch > len(source):
        raise ValueError(f"batch: {batch} is more than the {len(source)} training images")
    if augment not in ("paper", "none"):
        raise ValueError(f"augment: {augment!r} is not one of: paper, none")
    if first_step < 0:
        raise ValueError(f"first_step: {first_step} is before the first step, 0")
    seeds = (data_seed % 2**64, epoch)
    shares = _shares(len(source), batch, seeds, rank, world)[first_step:]
    chosen = _train(source, tasks, image_size, seeds if augment == "paper" else None, shares, assembles_here(device))
    return _deliver(source, chosen, tasks, torch.device(device))


def val_batches(
    source: Source,
    *,
    tasks: Sequence[str],
    image_size: tuple[int, int],
    batch: int,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Every sample exactly once over all ranks, in order, at its own size, padded up to `image_size` where it is
    smaller.

    Args:
        source: the evaluation split.
        tasks: names of the maps that batches shall hold.
        image_size: (height, width) that a batch has at least, pixels.
        batch: most samples of one batch; a batch is shorter where the image size changes.
        rank: which contiguous share of the samples is returned, 0 .. world - 1.
        world: ranks that share the samples; shares differ by at most one sample.
        device: where batches shall be.
    """
    mine = range(len(source) * rank // world, len(source) * (rank + 1) // world)
    return _deliver(source, _val(source, mine, tasks, image_size, batch), tasks, torch.device(device))


def _shares(count: int, batch: int, seeds: tuple[int, int], rank: int, world: int) -> list[np.ndarray]:
    """Per step, the indices of the samples that this rank has."""
    order = np.random.default_rng([*seeds, ORDER]).permutation(count)
    share = batch // world
    return [order[start + rank * share : start + (rank + 1) * share] for start in range(0, count - batch + 1, batch)]


@dataclass(frozen=True)
class _Chosen:
    """The samples of a batch, of each the view or candidates for it, and (height, width) of the batch."""

    samples: list[Sample]
    views: list[list[View]]
    canvas: tuple[int, int]


def _train(
    source, tasks, image_size, seeds: tuple[int, int] | None, shares: list[np.ndarray], here: bool
) -> Iterator[_Chosen]:
    """Augmented by `seeds`, or the centres of the images; crops are judged here, or all candidates are told."""
    for share in shares:
        samples = [_read(source, int(index), tasks) for index in share]
        views: list[list[View]]
        if seeds is None:
            views = [[(centred(sample["image"].shape[:2], image_size), None)] for sample in samples]
        else:
            rngs = [np.random.default_rng([*seeds, AUGMENTATION, int(index)]) for index in share]
            drawn = zip(rngs, samples, strict=True)
            views = [[draw(*one, image_size)] if here else draw_candidates(*one, image_size) for one in drawn]
        yield _Chosen(samples, views, tuple(image_size))


def _val(source, indices: range, tasks, image_size, batch: int) -> Iterator[_Chosen]:
    kept: list[Sample] = []
    for index in indices:
        sample = _read(source, index, tasks)
        if kept and (len(kept) == batch or sample["image"].shape != kept[0]["image"].shape):
            yield _whole(kept, image_size)
            kept = []
        kept.append(sample)
    if kept:
        yield _whole(kept, image_size)


def _whole(samples: list[Sample], image_size) -> _Chosen:
    size = samples[0]["image"].shape[:2]
    return _Chosen(
        samples, [[(centred(size), None)]] * len(samples), (max(size[0], image_size[0]), max(size[1], image_size[1]))
    )


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


def _deliver(source: Source, chosen: Iterator[_Chosen], tasks: Sequence[str], device: torch.device) -> Iterator[Batch]:
    if assembles_here(device):
        batches = (
            assemble(one.samples, [views[0] for views in one.views], tasks=tasks, canvas=one.canvas) for one in chosen
        )
        # for samples in memory the thread would only fight for the interpreter
        return ahead(batches) if getattr(source, "decodes_files", False) else batches
    pin = device.type == "cuda"
    raws = (collate(one.samples, one.views, tasks=tasks, canvas=one.canvas, pin=pin) for one in chosen)
    return (render(raw.to(device)) for raw in ahead(raws))


def ahead(items: Iterator, depth: int = READ_AHEAD) -> Iterator:
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
