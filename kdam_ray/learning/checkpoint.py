"""Checkpoints: a folder with weights, training state and a manifest that can tell whether both are whole.

`weights.safetensors` (the network), `state.pt` (optimiser; read with weights_only=True), `manifest.json` (SHA-256 and size
of each file, the Run, the epoch, the metrics). A folder appears under its name only when it is complete: it is written
beside, fsynced and renamed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdam_ray.config import Run
from kdam_ray.models import network_of

WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "manifest.json"


def write(folder: Path, *, weights: Mapping[str, Tensor], state: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Write a checkpoint; replaces one of the same name.

    Args:
        folder: where it will appear, complete or not at all.
        weights: state_dict of the network, without wrappers.
        state: tensors, numbers, strings, lists and dicts only.
        manifest: what to record beside the hashes; "run" and "epoch" are expected.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, partial / WEIGHTS)
    torch.save(dict(state), partial / STATE)
    files = {name: {"sha256": _sha256(partial / name), "bytes": (partial / name).stat().st_size} for name in (WEIGHTS, STATE)}
    (partial / MANIFEST).write_text(json.dumps({**manifest, "files": files}, indent=1, sort_keys=True))
    for path in (*partial.iterdir(), partial):
        _fsync(path)
    if folder.exists():
        replaced = partial.with_suffix(".replaced")
        folder.rename(replaced)
        partial.rename(folder)
        shutil.rmtree(replaced)
    else:
        partial.rename(folder)
    _fsync(folder.parent)


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint.

    Raises:
        ValueError: the manifest or a file is missing, cut short or altered; names the file.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder / MANIFEST}: not a readable manifest of a checkpoint ({error})") from None
    for name in (WEIGHTS, STATE):
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path}: missing, though the manifest lists it")
        if _sha256(path) != files.get(name, {}).get("sha256"):
            raise ValueError(f"{path}: its SHA-256 is not the one in {MANIFEST}; the file is damaged")
    return manifest


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """(weights, state, manifest) of a checkpoint, on the CPU.

    Raises:
        ValueError: as `verify`.
    """
    manifest = verify(folder)
    return load_file(folder / WEIGHTS), torch.load(folder / STATE, map_location="cpu", weights_only=True), manifest


def load_network(folder: Path) -> nn.Module:
    """The network of a checkpoint, built from its recorded Run, with its weights, on the CPU.

    Raises:
        ValueError: as `verify`.
    """
    manifest = verify(folder)
    network = network_of(Run.model_validate(manifest["run"]))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
