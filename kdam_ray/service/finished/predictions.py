"""Predictions of finished runs on the evaluation images, in the layout that `kdam score` scores."""

from pathlib import Path

import torch

from kdam_ray.config import Place, Run
from kdam_ray.learning.checkpoint import load_network
from kdam_ray.learning.evaluate import Candidate, evaluate
from kdam_ray.service.layout import open_sources
from kdam_ray.service.records import Storage, latest_checkpoint
from kdam_ray.service.wording import say
from kdam_ray.tasks import DATASETS


def save_predictions(run: Run, place: Place, folder: Path) -> dict[str, float]:
    """Evaluate the last checkpoint of a run and write what it predicts, in this process.

    Args:
        run: a finished one.
        place: where its checkpoint and images are.
        folder: gets `<task>/<id>.png` or `.npy`.

    Returns:
        Its metrics: "semseg/mIoU", ...

    Raises:
        ValueError: no whole checkpoint of the run's last epoch, or images that cannot be read.
    """
    checkpoint = latest_checkpoint(Storage(place.storage), run.run_id, epoch=run.epochs)
    if checkpoint is None:
        raise ValueError(
            f"storage: {place.storage} holds no whole checkpoint of run {run.run_id} at epoch {run.epochs}"
        )
    device = "cuda" if torch.cuda.is_available() and place.gpus is not False else "cpu"
    say(f"predictions of run {run.run_id} to {folder}")
    candidate = Candidate(load_network(checkpoint).to(device), run.tasks, predictions=folder)
    metrics = evaluate(
        {run.run_id: candidate}, open_sources(run, place)[1], DATASETS[run.dataset],
        image_size=run.image_size, device=device, precision=run.precision,
    )  # fmt: skip
    return metrics.get(run.run_id, {})
