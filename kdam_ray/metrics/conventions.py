"""Which definition of each metric a code base uses: published numbers can be compared only within one of them.

| | atrc (DeMT, KDAM; the default) | invpt | mti | astmt |
|---|---|---|---|---|
| mIoU | all classes count, absent ones 0 | same | same | same |
| rmse | over all pixels of the set | same | same | mean over images |
| mErr | 2 atan2(|p - g|, |p + g|) | same | arc cosine: equal to 1e-6 | same |
| maxF | beta^2 0.3, 19 thresholds, over the set | squashed twice | beta 1, 15 thresholds, by image | as mti |
| odsF | suppressed, > 101 thresholds | same | not suppressed, >= 99 thresholds | as atrc |
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from kdam_ray.metrics.boundary import HED_THRESHOLDS, MONITOR_THRESHOLDS, BoundaryF
from kdam_ray.metrics.dense import MaxF, MeanAngle, MeanImageF, MeanImageRMS, MeanIoU, RootMeanSquare
from kdam_ray.metrics.metric import Metric
from kdam_ray.tasks import Dataset, Kind, Task

Convention = Literal["atrc", "invpt", "mti", "astmt"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
# from the threshold on rather than strictly above it: above the largest float32 below it
MTI_THRESHOLDS = tuple(float(np.nextafter(np.float32(i / 100), np.float32(0))) for i in range(1, 100))

VARIANTS: dict[tuple[Kind, Convention], Callable[[], Metric]] = {
    ("saliency", "invpt"): lambda: MaxF(squash=True),
    ("saliency", "mti"): MeanImageF,
    ("saliency", "astmt"): MeanImageF,
    ("depth", "astmt"): MeanImageRMS,
}


def build_metric(task: Task, dataset: Dataset, *, monitor: bool = False, convention: Convention = "atrc") -> Metric:
    """The metric of a task, as the multi-task papers compute it.

    Args:
        task: whose.
        dataset: its row; odsF reads its tolerance and its rule for the ground truth.
        monitor: odsF at 25 thresholds instead of 101, for a look during training. It is then called `odsF_25`, so that
            it is never taken for the published metric. Nothing else changes.
        convention: whose definition.

    Returns:
        An empty metric. `compute()` has `task.metric` among its keys, except for a monitored edge task.
    """
    if (variant := VARIANTS.get((task.kind, convention))) is not None:
        return variant()
    build: dict[Kind, Callable[[], Metric]] = {
        "classes": lambda: MeanIoU(task.channels),
        "saliency": MaxF,
        "depth": RootMeanSquare,
        "normals": MeanAngle,
        "edge": lambda: _boundary(dataset, monitor, convention),
    }
    return build[task.kind]()


def _boundary(dataset: Dataset, monitor: bool, convention: Convention) -> BoundaryF:
    full = MTI_THRESHOLDS if convention == "mti" else HED_THRESHOLDS
    return BoundaryF(
        max_dist=dataset.edge_max_dist, truth=dataset.edge_truth, thresholds=MONITOR_THRESHOLDS if monitor else full,
        full=full, suppress=convention != "mti",
    )  # fmt: skip
