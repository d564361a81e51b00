"""A trained network that writes its predictions of image files: raw, coloured, and as a summary."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kdam_ray.config import Run
from kdam_ray.data.colours import coloured_prediction
from kdam_ray.data.predictions import write_prediction
from kdam_ray.learning.export import open_network
from kdam_ray.learning.infer import predict, read_picture
from kdam_ray.learning.pictures import summary
from kdam_ray.tasks import DATASETS

SHOWN_SIDE = 1280  # of an image and its maps when a summary is drawn of them
FAR = 3  # times the size that it learnt: a network has seen nothing like it


class ImageError(ValueError):
    """An error of one image; others can still be predicted."""


class Predictor:
    """A network, ready to predict.

    Attributes:
        trained: the network as it was found, and what is recorded of it.
        run: that trained it.
        device: where it is.
    """

    def __init__(self, folder: Path, *, device: str = "auto", limit: int | None = None) -> None:
        """A predictor of the network in a folder.

        Args:
            folder: a checkpoint of training or an export.
            device: "auto", "cpu" or "cuda".
            limit: see `read_picture`.

        Raises:
            ValueError: no such device; no network there, see `open_network`.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: there is no GPU that torch can use; take cpu")
        self.device = torch.device(
            "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
        )
        self.trained = open_network(folder)
        self.run, self.limit, self.dataset = self.trained.run, limit, DATASETS[self.trained.run.dataset]
        self.network = self.trained.network.to(self.device).eval()

    def predict(self, path: Path) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[str, ...]]:
        """(image [h, w, 3] as the network saw it, predictions at the file's size, notes).

        Raises:
            ImageError: not readable as an image, too large for the GPU, or an output is not finite; names the file.
        """
        run = self.run
        try:
            picture = read_picture(path, limit=self.limit, shape=run.image_size if run.resize else None)
        except ValueError as error:
            raise ImageError(str(error)) from None
        try:
            found = predict(
                self.network,
                picture,
                self.dataset,
                run.tasks,
                image_size=run.image_size,
                device=self.device,
                precision=run.precision,
            )
        except ValueError as error:
            raise ImageError(f"{path}: {error}") from None
        except torch.OutOfMemoryError:
            side = max(picture.image.shape)
            raise ImageError(
                f"{path}: {side} pixels need more memory than the GPU has; give a smaller --max-side, or --device cpu"
            ) from None
        return picture.image, found, (*picture.notes, *_scale_note(picture.image.shape[:2], run))

    def write(self, path: Path, out: Path) -> dict[str, Any]:
        """Predicts one file and writes `<task>/<id>`, `coloured/<task>/<id>.png` and `summary/<id>.png` under `out`.

        Returns:
            {"image": ..., "size": [height, width], "notes": [...], "files": {task: file}, "summary": file}.

        Raises:
            ImageError: see `predict`.
            ValueError: a folder that cannot be written to, or where a prediction would replace the image.
        """
        if path.resolve().parent in [
            (out / name).resolve() for name in ("summary", *self.run.tasks, *(f"coloured/{x}" for x in self.run.tasks))
        ]:
            raise ValueError(
                f"out: predictions in {out} would lie among the images, beside {path}, and may replace it; "
                "give another folder"
            )
        image, predictions, notes = self.predict(path)
        try:
            files = {
                name: str(write_prediction(out, self.dataset.task(name), path.stem, found))
                for name, found in predictions.items()
            }
            for name, found in predictions.items():
                colours = coloured_prediction(found, self.dataset.task(name), self.dataset)
                _save(Image.fromarray(colours), out / "coloured" / name / f"{path.stem}.png")
            shown = out / "summary" / f"{path.stem}.png"
            _save(
                summary(path.name, image, {name: _thinned(found) for name, found in predictions.items()}, self.dataset),
                shown,
            )
        except OSError as error:
            raise ValueError(f"out: {out} cannot be written to ({error})") from None
        size = next(iter(predictions.values())).shape[-2:]
        return {"image": str(path), "size": list(size), "notes": list(notes), "files": files, "summary": str(shown)}


def _thinned(prediction: np.ndarray) -> np.ndarray:
    """Every n-th pixel of a huge map, as many as a summary can show."""
    step = -(-max(prediction.shape[-2:]) // SHOWN_SIDE)
    return prediction[..., ::step, ::step]


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _scale_note(shown: tuple[int, ...], run: Run) -> list[str]:
    """A network knows things at the size at which it learnt them: said where an image is shown far larger."""
    learnt = max(run.image_size)
    if run.resize or max(shown) <= FAR * learnt:
        return []
    sizes = f"shown at {shown[0]}x{shown[1]} pixels, learnt from {run.image_size[0]}x{run.image_size[1]}"
    return [f"{sizes}; what looks wrong may be right with --max-side {learnt}"]
