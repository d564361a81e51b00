"""Metrics of the paper's tables: what `build_metric` returns is filled per batch, merged over ranks and computed once."""

from kdam_ray.metrics.boundary import HED_THRESHOLDS, MONITOR_THRESHOLDS, BoundaryF, boundary_counts, true_boundaries, warm_up
from kdam_ray.metrics.delta import delta_mt
from kdam_ray.metrics.dense import MaxF, MeanAngle, MeanIoU, RootMeanSquare
from kdam_ray.metrics.metric import Metric
from kdam_ray.tasks import Dataset, Task

__all__ = [
    "HED_THRESHOLDS",
    "MONITOR_THRESHOLDS",
    "BoundaryF",
    "MaxF",
    "MeanAngle",
    "MeanIoU",
    "Metric",
    "RootMeanSquare",
    "boundary_counts",
    "build_metric",
    "delta_mt",
    "true_boundaries",
    "warm_up",
]


def build_metric(task: Task, dataset: Dataset, *, monitor: bool = False) -> Metric:
    """The metric of a task, as the multi-task papers compute it.

    Args:
        task: whose.
        dataset: its row; odsF reads its tolerance and its rule for the ground truth.
        monitor: odsF at 25 thresholds instead of 101, for a look during training. It is then called `odsF_25`, so that it
            is never taken for the published metric. Nothing else changes.

    Returns:
        An empty metric. `compute()` has `task.metric` among its keys, except for a monitored edge task.
    """
    build = {
        "classes": lambda: MeanIoU(task.channels),
        "saliency": MaxF,
        "depth": RootMeanSquare,
        "normals": MeanAngle,
        "edge": lambda: BoundaryF(
            max_dist=dataset.edge_max_dist,
            truth=dataset.edge_truth,
            thresholds=MONITOR_THRESHOLDS if monitor else HED_THRESHOLDS,
        ),
    }
    return build[task.kind]()
