"""Metrics of the paper's tables: filled per batch, merged over ranks, computed once; `build_metric` makes one."""

from kdam_ray.metrics.boundary import (
    HED_THRESHOLDS,
    MONITOR_THRESHOLDS,
    BoundaryF,
    boundary_counts,
    true_boundaries,
    warm_up,
)
from kdam_ray.metrics.conventions import CONVENTIONS, Convention, build_metric
from kdam_ray.metrics.delta import delta_mt
from kdam_ray.metrics.dense import MaxF, MeanAngle, MeanImageF, MeanImageRMS, MeanIoU, RootMeanSquare
from kdam_ray.metrics.metric import Metric

__all__ = [
    "CONVENTIONS",
    "HED_THRESHOLDS",
    "MONITOR_THRESHOLDS",
    "BoundaryF",
    "Convention",
    "MaxF",
    "MeanAngle",
    "MeanImageF",
    "MeanImageRMS",
    "MeanIoU",
    "Metric",
    "RootMeanSquare",
    "boundary_counts",
    "build_metric",
    "delta_mt",
    "true_boundaries",
    "warm_up",
]
