"""Local weight files that backbones start from: kept in the storage under their hash, which is what a Run records."""

from pathlib import Path

from kdam_ray.config import Place, Run
from kdam_ray.files import file_digest
from kdam_ray.service.records.storage import Storage

WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")  # what `models.weights` reads


def store_weights(place: Place, path: Path) -> str:
    """Put a local weight file into the storage under its hash; returns what `Run.pretrained` says for it.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"weights: {path} is not a file")
    if path.suffix not in WEIGHT_FILES:
        raise ValueError(f"weights: {path} is none of {', '.join(WEIGHT_FILES)}")
    digest = file_digest(path)
    storage = Storage(place.storage)
    if not storage.list(f"weights/{digest}"):
        storage.save_file(path, f"weights/{digest}/{path.name}")
    return f"sha256:{digest}"


def weights_of(storage: Storage, run: Run) -> Path | None:
    """The local weight file behind `run.pretrained`, or None if it names none.

    Raises:
        ValueError: the file is not in the storage.
    """
    if not run.pretrained.startswith("sha256:"):
        return None
    name = f"weights/{run.pretrained.removeprefix('sha256:')}"
    files = storage.list(name)  # one, under its own name: the suffix says how it is read
    if not files:
        raise ValueError(f"pretrained: {storage.uri(name)} is missing; store the file with --weights FILE")
    digest = run.pretrained.removeprefix("sha256:")
    return storage.fetch_once(f"{name}/{files[0]}", lambda path: file_digest(path) == digest)
