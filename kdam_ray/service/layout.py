"""How a Place divides its workers, and what of that a Run has to record."""

import hashlib
import importlib.util
import os
import runpy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kdam_ray.config import Place, Run, change
from kdam_ray.machine import usable_cpus
from kdam_ray.service.records import Storage, check_reachable, is_remote, store_weights
from kdam_ray.service.wording import say
from kdam_ray.tasks import DATASETS

if TYPE_CHECKING:
    from kdam_ray.data.source import Source

CPU_WORKERS = 2  # more one-thread workers than this were not measured to pay on CPUs, and each costs 0.5 GiB


@dataclass(frozen=True)
class Layout:
    """What a Place comes to on this machine.

    Attributes:
        workers: training processes in all.
        gpus: one GPU per worker.
        split: "members" or "ddp".
    """

    workers: int
    gpus: bool
    split: str

    def ranks(self, run: Run) -> int:
        """Workers that train one cohort of such runs.

        Under gloo the number of ranks is part of the run (each normalises over its own share of the batch), so the run
        says.
        """
        if not self.gpus:
            return run.batch_norm_ranks
        return self.workers if self.split == "ddp" else 1

    def side_by_side(self, run: Run) -> int:
        """Cohorts of such runs that train at the same time."""
        return max(1, self.workers // self.ranks(run))


def layout(place: Place) -> Layout:
    """Fill in what `place` leaves open, from this machine.

    Raises:
        ValueError: GPUs are asked for and there are none.
    """
    count = 0 if place.gpus is False else count_gpus()
    gpus = count > 0 if place.gpus is None else place.gpus
    # with a cluster's address the GPUs are elsewhere, and may not have been started yet
    if gpus and not count and "RAY_ADDRESS" not in os.environ:
        raise ValueError(
            "gpus: there is none on this machine; leave it out, or set RAY_ADDRESS to a cluster that has some"
        )
    workers = place.workers or (max(count, 1) if gpus else min(CPU_WORKERS, usable_cpus()))
    split = place.split if place.split != "auto" else ("ddp" if gpus else "members")
    return Layout(workers, gpus, split)


def count_gpus() -> int:
    """CUDA devices that this process may see, as torch counts them (parts of a divided GPU and WSL's too).

    Where torch was built for CPUs alone, or nothing is visible, it is not imported: planning stays quick.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    if hidden or not _is_built_for_gpus():
        return 0
    import torch

    return torch.cuda.device_count()


def _is_built_for_gpus() -> bool:
    """Whether the installed torch was built for GPUs, by the file in which it says so."""
    torch = importlib.util.find_spec("torch")
    if torch is None or not torch.submodule_search_locations:
        return False
    built = runpy.run_path(str(Path(torch.submodule_search_locations[0]) / "version.py"))
    return bool(built.get("cuda") or built.get("hip"))


def resolve(run: Run, place: Place, *, teacher: bool = False, weights: str | None = None) -> Run:
    """`run` with what it records of data and world: the dataset's hash, and the ranks that batch norm is split over.

    A teacher trains over gloo on two ranks on CPUs; students so only if `place.split` is "ddp". `weights` is a local
    file that the backbone starts from; it is put into the storage, and the run records its hash.

    Raises:
        ValueError: the dataset or the weight file cannot be opened, or the batch cannot be divided over the ranks.
    """
    arranged = layout(place)
    on_gloo = not arranged.gpus and (teacher or arranged.split == "ddp")
    ranks = min(arranged.workers, CPU_WORKERS) if on_gloo else 1
    world = arranged.workers if arranged.gpus and arranged.split == "ddp" else ranks
    if run.batch % world:
        raise ValueError(f"batch: {run.batch} images cannot be divided over {world} workers")
    check_reachable(place.storage, writes=True)
    digest = hashlib.sha256(" ".join(_fingerprints(run, place)).encode()).hexdigest()[:16]
    start = {"pretrained": _stored(run, place, Path(weights))} if weights else {}
    return change(run, {"dataset_hash": digest, "batch_norm_ranks": ranks, **start})


def _stored(run: Run, place: Place, file: Path) -> str:
    """Say how the file fits the backbone and put it into the storage; returns the name by which a run records it."""
    from kdam_ray.models.backbones import build_backbone
    from kdam_ray.models.weights import load, read

    report = load(build_backbone(run.student), read(file), source=str(file))
    say(f"{run.student} starts from {file}: {report}")
    return store_weights(place, file)


def _wanted(run: Run) -> dict[Literal["train", "val", "test"], int]:
    return {"train": run.train_images, "val": run.val_images}


def _fingerprints(run: Run, place: Place) -> list[str]:
    """Fingerprints of the train and val images; of remote shards by their manifest, so that little is fetched."""
    if not is_remote(place.root, field="root"):
        return [source.fingerprint for source in open_sources(run, place)]
    from kdam_ray.service.records.remote_shards import RemoteShards

    remote = RemoteShards(str(place.root))
    return [
        remote.fingerprint(DATASETS[run.dataset], split, images, run.image_size)
        for split, images in _wanted(run).items()
    ]


def open_sources(run: Run, place: Place) -> "Sequence[Source]":
    """The (train, val) sources of a run, at its size and number of images; remote shards are fetched.

    Raises:
        ValueError: the folder is missing or is neither the dataset's packaging nor its shards.
    """
    from kdam_ray.data.opening import Wanted, open_source
    from kdam_ray.service.records.remote_shards import local_root

    cache = Storage(place.storage).cache()
    cache.mkdir(parents=True, exist_ok=True)
    dataset = DATASETS[run.dataset]
    root = local_root(place.root, dataset, _wanted(run), cache=cache)
    return [
        open_source(Wanted(dataset, split, images, run.image_size, run.resize), root=root, cache=cache)
        for split, images in _wanted(run).items()
    ]
