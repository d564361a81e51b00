"""What a search for contexts came to: read from its last checkpoint, recorded beside its metrics."""

from typing import Any

from kdam_ray.config import Place, Run
from kdam_ray.learning.checkpoint import load_network
from kdam_ray.models.decoders import ContextSearch
from kdam_ray.service.records import Storage, Tracking, latest_checkpoint

NAME = "contexts.json"


def searched_contexts(run: Run, place: Place) -> dict[str, Any]:
    """The choice of a finished run with the decoder `context_search`; also logged as an artifact of that run.

    Returns:
        {"run_id", "contexts": target -> source -> type, "probabilities": target -> source -> type -> probability}.

    Raises:
        ValueError: no whole checkpoint of the run's last epoch.
    """
    folder = latest_checkpoint(Storage(place.storage), run.run_id, epoch=run.epochs)
    if folder is None:
        raise ValueError(
            f"storage: {place.storage} holds no whole checkpoint of run {run.run_id} at epoch {run.epochs}"
        )
    decoder = load_network(folder).decoder
    assert isinstance(decoder, ContextSearch)
    document = {"run_id": run.run_id, "contexts": decoder.chosen(), "probabilities": decoder.probabilities()}
    tracking = Tracking(place)
    if found := tracking.find_finished(run.run_id):
        tracking.log_document(found.mlflow_run, NAME, document)
    return document
