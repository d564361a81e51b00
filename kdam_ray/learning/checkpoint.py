"""Checkpoints: a folder with weights, training state and a manifest that can tell whether both are whole.

`weights.safetensors` (the network), `state.pt` (optimiser; read with weights_only=True), `manifest.json` (SHA-256 and
size of each file, the Run, the epoch, the metrics). A folder appears under its name only when it is complete: it is
written beside, fsynced and renamed.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdam_ray.config import Run, explain
from kdam_ray.files import file_digest, move_folder
from kdam_ray.models import network_of

WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "manifest.json"


def write(
    folder: Path, *, weights: Mapping[str, Tensor], state: Mapping[str, Any], manifest: Mapping[str, Any]
) -> None:
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
    files = {
        name: {"sha256": file_digest(partial / name), "bytes": (partial / name).stat().st_size}
        for name in (WEIGHTS, STATE)
    }
    (partial / MANIFEST).write_text(json.dumps({**manifest, "files": files}, indent=1, sort_keys=True))
    move_folder(partial, folder)


def verify(folder: Path, *, files: Sequence[str] = (WEIGHTS, STATE)) -> dict[str, Any]:
    """The manifest of a whole checkpoint.

    Args:
        folder: of the checkpoint.
        files: that are needed; a copy as MLflow keeps it has no `state.pt`.

    Raises:
        ValueError: the manifest or a file is missing, cut short or altered; names the file.
    """
    manifest = read_record(folder / MANIFEST)
    for name in files:
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path}: missing, though the manifest lists it")
        if file_digest(path) != manifest["files"].get(name, {}).get("sha256"):
            raise ValueError(f"{path}: its SHA-256 is not the one in {MANIFEST}; the file is damaged")
    return manifest


def read_record(path: Path) -> dict[str, Any]:
    """The JSON document beside weights: a checkpoint's manifest, an export's card.

    Raises:
        ValueError: unreadable, or another program's: "files" does not tell of each file its hash; names the file.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
    files = record.get("files") if isinstance(record, dict) else None
    if not isinstance(files, dict) or not all(isinstance(file, dict) for file in files.values()):
        raise ValueError(
            f"{path}: not written by training or by `kdam export`, whose {path.name} lists the files and their SHA-256"
        )
    return record


def recorded_run(record: Mapping[str, Any], path: Path) -> Run:
    """The run in a manifest or a card.

    Args:
        record: as `read_record` gives it.
        path: of its file, for the message.

    Raises:
        ValueError: there is none, or none that this version knows; names the file and the field.
    """
    if not isinstance(record.get("run"), dict):
        raise ValueError(f"{path}: holds no run, so nothing says which network the weights are of")
    try:
        return Run.model_validate(record["run"])
    except ValidationError as error:
        raise ValueError(f"{path}: its run is none that this version of kdam_ray knows: {explain(error)}") from None


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
        ValueError: as `verify` (the training state is not needed), `recorded_run` and `rebuilt`.
    """
    return rebuilt(recorded_run(verify(folder, files=(WEIGHTS,)), folder / MANIFEST), folder / WEIGHTS)


def rebuilt(run: Run, weights: Path) -> nn.Module:
    """The network of a run with the weights of a file, on the CPU.

    Raises:
        ValueError: the file holds other weights than such a network's; names it and the first that does not fit.
    """
    network = network_of(run)
    try:
        found = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights}: cannot be read as safetensors ({error})") from None
    if problem := _first_misfit(network.state_dict(), found):
        raise ValueError(
            f"{weights}: not the weights of {run.student} + {run.decoder}, {run.dataset}, "
            f"which the run beside it is: {problem}"
        )
    network.load_state_dict(found)
    return network


def _first_misfit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    for name, tensor in wanted.items():
        if name not in found:
            return f"{name} is missing"
        if found[name].shape != tensor.shape:
            return f"{name} is {list(found[name].shape)} and should be {list(tensor.shape)}"
    return next((f"{name} is not in that network" for name in found if name not in wanted), None)
