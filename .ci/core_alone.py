"""Trains a tiny network for an epoch with nothing but the core, and leaves its checkpoint in ./checkpoint."""

import importlib.util
from pathlib import Path

from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.learning import EpochReport, train_cohort
from kdam_ray.recipes import recipe
from kdam_ray.tasks import DATASETS

for service in ("ray", "optuna", "mlflow", "boto3", "matplotlib", "sklearn"):
    assert importlib.util.find_spec(service) is None, f"the core alone brings {service}"
run, rooms = recipe("rooms", smoke=True).student, DATASETS["rooms"]
train = open_source(Wanted(rooms, "train", run.train_images, run.image_size))
val = open_source(Wanted(rooms, "val", run.val_images, run.image_size))
for report in train_cohort([run], train=train, val=val):
    if isinstance(report, EpochReport):
        print(report.epoch, report.metrics["val/semseg/mIoU"])
        report.save(Path("checkpoint"))
