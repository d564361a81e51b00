"""Finished training found again: the checkpoint of a run, by its run_id or by MLflow's id."""

import re
from pathlib import Path

from kdam_ray.config import Place
from kdam_ray.service.storage import Storage, check_reachable, latest_checkpoint
from kdam_ray.service.tracking import Tracking

SHOWN = 6
RUN_ID, MLFLOW_RUN = r"[0-9a-f]{12}", r"[0-9a-f]{32}"


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
    tracking = Tracking(place)
    tags: dict[str, str] = {}
    if not tracking.empty:
        experiments = [
            item.experiment_id
            for item in tracking.client.search_experiments(filter_string="name LIKE 'kdam/%'", max_results=1000)
        ]
        found = (
            tracking.client.search_runs(experiments, f"attributes.run_id = '{name}'", max_results=1)
            if experiments
            else []
        )
        tags = found[0].data.tags if found else {}
    if "kdam.run_id" not in tags:
        raise ValueError(f"run: {tracking.uri} holds no member of a sweep with the id {name}")
    return tags["kdam.run_id"]
