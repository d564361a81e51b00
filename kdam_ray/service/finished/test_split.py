"""Finished runs on the test split: images by which no schedule, learning rate, cell or trial was chosen."""

from collections.abc import Sequence

from kdam_ray.config import Place, Run
from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.source import Source
from kdam_ray.learning.checkpoint import load_network
from kdam_ray.learning.evaluate import Candidate, evaluate
from kdam_ray.service.records import Storage, Tracking, latest_checkpoint
from kdam_ray.service.wording import say
from kdam_ray.tasks import DATASETS

PREFIX = "test/"
TOGETHER = 16  # networks that share one pass over the images


def score_unseen(runs: Sequence[Run], place: Place) -> dict[str, dict[str, float]]:
    """Metrics of finished runs on the dataset's whole test split, recorded in MLflow as `test/<task>/<metric>`.

    Evaluated once, in this process, from the last checkpoint; a run that has been before is only read.

    Args:
        runs: of one dataset and image size, as a sweep's are.
        place: where their records and checkpoints are.

    Returns:
        run_id -> {"semseg/mIoU": ...}; runs that have not finished or whose checkpoint is gone are left out.

    Raises:
        ValueError: the dataset has no test split.
    """
    tracking, storage = Tracking(place), Storage(place.storage)
    records = {
        name: record
        for name, record in tracking.find([run.run_id for run in runs]).items()
        if record.status == "finished"
    }
    known = {
        run_id: {name.removeprefix(PREFIX): value for name, value in record.metrics.items() if name.startswith(PREFIX)}
        for run_id, record in records.items()
    }
    missing = [run for run in runs if run.run_id in known and not known[run.run_id]]
    if missing:
        source = _open(missing[0], place)
        say(f"test split: {len(missing)} runs on {len(source)} images that chose nothing")
    for start in range(0, len(missing), TOGETHER):
        part = missing[start : start + TOGETHER]
        candidates = {
            run.run_id: Candidate(load_network(folder), run.tasks)
            for run in part
            if (folder := latest_checkpoint(storage, run.run_id, epoch=run.epochs)) is not None
        }
        first = part[0]
        found = evaluate(
            candidates, source, DATASETS[first.dataset], image_size=first.image_size, precision=first.precision
        )
        known |= found
        for run_id, metrics in found.items():
            record, named = records[run_id], {PREFIX + key: value for key, value in metrics.items()}
            tracking.log_epoch(record.mlflow_run, named, record.run.epochs)
    return {name: metrics for name, metrics in known.items() if metrics}


def _open(run: Run, place: Place) -> Source:
    cache = Storage(place.storage).cache()
    cache.mkdir(parents=True, exist_ok=True)
    return open_source(Wanted(DATASETS[run.dataset], "test", None, run.image_size, run.resize), cache=cache)
