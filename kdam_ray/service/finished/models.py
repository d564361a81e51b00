"""Finished members as models of MLflow: weights with a signature, that `mlflow.pyfunc.load_model` opens.

No code is pickled: the folder holds the weights, the manifest that says which Run they are of, and MLflow's
description, which names this module as the one that opens them. It takes images as ONNX exports do
(`learning.graph.Deployed`).
"""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdam_ray.config import Place, Run
from kdam_ray.service.records import Storage, Tracking, latest_checkpoint
from kdam_ray.tasks import DATASETS

if TYPE_CHECKING:
    import numpy as np

KEPT = ("weights.safetensors", "manifest.json")


def keep_model(run: Run, mlflow_run: str, storage: Storage, tracking: Tracking) -> str | None:
    """The model of MLflow that a finished member is kept as, made if it is not there yet.

    Args:
        run: the member's.
        mlflow_run: its record.
        storage: where its checkpoint is.
        tracking: MLflow.

    Returns:
        The model's id; None where the checkpoint is gone.
    """
    if known := tracking.model_of(mlflow_run):
        return known
    checkpoint = latest_checkpoint(storage, run.run_id, epoch=run.epochs)
    if checkpoint is None:
        return None
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        for name in KEPT:
            shutil.copy(checkpoint / name, folder / name)
        described(run).save(str(folder / "MLmodel"))
        return tracking.log_model(mlflow_run, run, folder, tracking.outcome(mlflow_run)[1])


def register_model(run: Run, name: str, place: Place) -> str:
    """Register the model of a run in MLflow's registry. Returns its new version.

    Args:
        run: that has finished.
        name: in the registry.
        place: whose storage and MLflow.

    Raises:
        ValueError: it has no finished record, or its checkpoint is gone.
    """
    tracking = Tracking(place)
    record = tracking.find_finished(run.run_id)
    model = keep_model(run, record.mlflow_run, Storage(place.storage), tracking) if record else None
    if model is None:
        raise ValueError(f"register: {tracking.shown} has no finished run {run.run_id} with a whole checkpoint")
    return tracking.register(model, name)


def described(run: Run) -> Any:
    """MLflow's description of a network: who opens it, what goes in, what comes out."""
    import numpy as np
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    def tensor(name: str, channels: int) -> TensorSpec:
        return TensorSpec(np.dtype("float32"), (-1, channels, *run.image_size), name)

    tasks = [DATASETS[run.dataset].task(name) for name in run.tasks]
    signature = ModelSignature(
        Schema([tensor("image", 3)]), Schema([tensor(task.name, task.channels) for task in tasks])
    )
    model = Model(signature=signature)
    model.add_flavor("python_function", loader_module=__name__)
    return model


class LoadedModel:
    """A network as `mlflow.pyfunc.load_model` gives it."""

    def __init__(self, folder: Path):
        from kdam_ray.learning.checkpoint import MANIFEST, load_network, read_record, recorded_run
        from kdam_ray.learning.graph import Deployed

        run = recorded_run(read_record(folder / MANIFEST), folder / MANIFEST)
        self.deployed = Deployed(load_network(folder).eval(), run.tasks, run.image_size)

    def predict(self, images: "dict[str, np.ndarray]", params: Any = None) -> "dict[str, np.ndarray]":
        """{"image": [B, 3, H, W] RGB, 0 .. 255} -> per task [B, C, H, W], logits."""
        import torch

        with torch.no_grad():
            logits = self.deployed(torch.as_tensor(images["image"]))
        return {task: values.numpy() for task, values in zip(self.deployed.tasks, logits, strict=True)}


def _load_pyfunc(path: str) -> LoadedModel:
    """What MLflow calls to open a model."""
    return LoadedModel(Path(path))
