"""What is kept of runs: records in MLflow, checkpoints, weight files and shards in a folder or under s3://.

The rest of the package asks at this door; only what opens remote shards, which needs torch, is asked for by its module.
"""

from kdam_ray.service.records.checkpoints import (
    checkpoint_name,
    checkpoint_of,
    epochs_done,
    is_ready,
    latest_checkpoint,
    save_checkpoint,
)
from kdam_ray.service.records.found import Found, Parent
from kdam_ray.service.records.reading import experiment_name
from kdam_ray.service.records.sources import git_state
from kdam_ray.service.records.storage import Storage, check_reachable, is_remote
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.records.weight_files import store_weights, weights_of

__all__ = [
    "Found", "Parent", "Storage", "Tracking", "check_reachable", "checkpoint_name", "checkpoint_of", "epochs_done",
    "experiment_name", "git_state", "is_ready", "is_remote", "latest_checkpoint", "save_checkpoint", "store_weights",
    "weights_of",
]  # fmt: skip
