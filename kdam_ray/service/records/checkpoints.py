"""Checkpoints in the storage: saved, found, and found whole; the one answer to whether a run has one."""

import re
import shutil
from pathlib import Path

from kdam_ray.config import Place, Run
from kdam_ray.service.records.found import Found
from kdam_ray.service.records.reading import Reading
from kdam_ray.service.records.storage import Storage, check_reachable
from kdam_ray.service.wording import say

KEPT = 2  # checkpoints of a run: the newest, and the one before in case the newest is damaged
SHOWN = 6
RUN_ID, MLFLOW_RUN = r"[0-9a-f]{12}", r"[0-9a-f]{32}"


def checkpoint_name(run_id: str, epoch: int) -> str:
    """The name of an epoch's checkpoint in the storage."""
    return f"checkpoints/{run_id}/epoch_{epoch:04d}"


def save_checkpoint(storage: Storage, run_id: str, epoch: int, folder: Path) -> str:
    """Store the local checkpoint `folder` as this epoch's; keep the newest two. Returns its name."""
    name = checkpoint_name(run_id, epoch)
    storage.save(folder, name)
    for old in stored_epochs(storage, run_id)[:-KEPT]:
        storage.remove(checkpoint_name(run_id, old))
    return name


def latest_checkpoint(storage: Storage, run_id: str, *, epoch: int | None = None) -> Path | None:
    """The newest checkpoint of a run whose hashes are right, as a local folder; None if there is none.

    Args:
        storage: where.
        run_id: whose.
        epoch: take only the one of this epoch.
    """
    epochs = [epoch] if epoch else reversed(stored_epochs(storage, run_id))
    found = (_whole(storage, checkpoint_name(run_id, each)) for each in epochs)
    return next((folder for folder in found if folder is not None), None)


def _whole(storage: Storage, name: str) -> Path | None:
    """A checkpoint whose hashes are right. If not, it may be the copy that is damaged: that is fetched once more."""
    from kdam_ray.learning.checkpoint import verify  # with torch, which planning does without

    for _ in range(2 if storage.local is None else 1):
        try:
            folder = storage.fetch(name)
            verify(folder)
            return folder
        except FileNotFoundError:
            return None
        except ValueError:
            if storage.local is None:
                shutil.rmtree(folder, ignore_errors=True)
    return None


def stored_epochs(storage: Storage, run_id: str) -> list[int]:
    """Epochs of which a run has a checkpoint, whole or not, ascending; whatever else lies there is nobody's."""
    found = (re.fullmatch(r"epoch_(\d+)", name) for name in storage.list(f"checkpoints/{run_id}"))
    return sorted(int(match[1]) for match in found if match)


def newest_stored(run_id: str, place: Place) -> str:
    """Where the newest checkpoint of a run lies (its hashes are not checked), or that there is none."""
    try:
        check_reachable(place.storage, writes=False)
        storage = Storage(place.storage)
        epochs = stored_epochs(storage, run_id)
    except ValueError as error:
        return f"unknown: {error}"
    return storage.uri(checkpoint_name(run_id, epochs[-1])) if epochs else f"none in {place.storage}"


def epochs_done(storage: Storage, run_id: str) -> int:
    """Epochs that the newest checkpoint of a run has behind it (its hashes are not checked); 0 without one."""
    return max(stored_epochs(storage, run_id), default=0)


def is_ready(run: Run, record: Found | None, storage: Storage, *, verified: bool) -> bool:
    """Whether a run is recorded as finished and its final checkpoint is there; `verified`: whole too.

    A damaged one is taken away, so that training goes on from the one before: the same teacher again, bit for bit on
    CPUs.
    """
    if record is None or record.status != "finished" or epochs_done(storage, run.run_id) < run.epochs:
        return False
    if verified and latest_checkpoint(storage, run.run_id, epoch=run.epochs) is None:
        say(f"teacher {run.student}: its last checkpoint is damaged; training goes on from the one before")
        storage.remove(checkpoint_name(run.run_id, run.epochs))
        return False
    return True


def checkpoint_of(name: str, place: Place) -> Path:
    """The newest whole checkpoint of a run, as a local folder.

    Args:
        name: run_id (12 hex digits) or id of a run of MLflow (32), of a sweep's member or of a link to one.
        place: whose storage and tracking store are looked in.

    Raises:
        ValueError: there is no such run, or no whole checkpoint of it; names both.
    """
    check_reachable(place.storage, writes=False)
    run_id = _run_id(name, place)
    folder = latest_checkpoint(Storage(place.storage), run_id)
    if folder is None:
        known = Storage(place.storage).list("checkpoints")
        there = f"; there are {', '.join(known[:SHOWN])}{' ...' if len(known) > SHOWN else ''}" if known else ""
        raise ValueError(
            f"run: {place.storage} holds no whole checkpoint of run {run_id}; --storage names another place{there}"
        )
    return folder


def _run_id(name: str, place: Place) -> str:
    if re.fullmatch(RUN_ID, name):
        return name
    if not re.fullmatch(MLFLOW_RUN, name):
        raise ValueError(f"run: {name!r} is neither a run_id (12 hex digits) nor the id of a run of MLflow (32)")
    tracking = Reading(place)
    found = tracking.run_id_of(name)
    if found is None:
        raise ValueError(f"run: {tracking.shown} holds no member of a sweep with the id {name}")
    return found
