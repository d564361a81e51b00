"""Predictions of any code base, scored: opening what has to be compared, and the progress while it is."""

from pathlib import Path
from typing import Protocol

from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.packaged.packaging import read_ids
from kdam_ray.data.predictions import listed, take_inventory
from kdam_ray.learning.score import Request, Scores, score_images, total
from kdam_ray.service.records.remote_shards import local_root
from kdam_ray.service.wording import tracked
from kdam_ray.tasks import DATASETS

PUBLISHED_EDGE_IDS = {("pascal", "val"): "ImageSets/Context/test_new.txt"}  # 2,498 of the 5,105 images


class Asked(Protocol):
    """The flags of `kdam score`."""

    dataset: str
    root: str
    predictions: str
    split: str
    convention: str
    edge_ids: str | None
    edge_truth: str
    allow_missing: bool


def open_request(asked: Asked) -> Request:
    """The packaging and the inventory of the predictions.

    Raises:
        ValueError: a folder or list is missing or is not what it should be; predictions are missing or belong to no
            image.
    """
    dataset = DATASETS[asked.dataset]
    root = local_root(asked.root, dataset, {asked.split: None})  # type: ignore[dict-item]
    source = open_source(Wanted(dataset, asked.split, None, dataset.image_size), root=root)  # type: ignore[arg-type]
    inventory = take_inventory(Path(asked.predictions), dataset.tasks, source.ids)  # type: ignore[attr-defined]
    edge_ids = _edge_ids(asked) if "edge" in inventory.files else None
    missing = [  # without edge predictions that are not asked for
        name for name in inventory.missing
        if edge_ids is None or not name.startswith("edge/") or Path(name).stem in edge_ids
    ]  # fmt: skip
    if (missing or inventory.extra) and not asked.allow_missing:
        said = [
            f"{len(names)} {what}: {listed(names)}"
            for what, names in (("missing", missing), ("extra", inventory.extra))
            if names
        ]
        raise ValueError(f"predictions: {asked.predictions}: {'; '.join(said)}; --allow-missing scores what there is")
    return Request(dataset, source, inventory, asked.convention, edge_ids, asked.edge_truth)  # type: ignore[arg-type]


def _edge_ids(asked: Asked) -> frozenset[str] | None:
    if asked.edge_ids == "all":
        return None
    if asked.edge_ids is not None:
        return frozenset(read_ids(Path(asked.edge_ids)))
    if (published := PUBLISHED_EDGE_IDS.get((asked.dataset, asked.split))) is None:
        return None
    path = Path(asked.root) / published
    if not path.is_file():
        raise ValueError(
            f"edge_ids: {path} is not there; published boundary numbers are of the 2,498 images that the SEISM "
            "evaluator lists as test_new: put its list there, name a list with --edge-ids FILE, or score every image "
            "with --edge-ids all"
        )
    return frozenset(read_ids(path))


def progress(request: Request, *, processes: int) -> Scores:
    """Scores everything; progress on stderr."""
    scored = score_images(request, processes=processes)
    return total(request, list(tracked(scored, "images scored", len(request.source.ids))))
