"""Pictures of what members predict, beside their teacher and the same student without it, recorded with their runs."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from kdam_ray.config import Place, Run, untaught
from kdam_ray.data.source import Source
from kdam_ray.learning.checkpoint import load_network
from kdam_ray.learning.pictures import draw, fixed_indices
from kdam_ray.models import Teacher
from kdam_ray.service.layout import open_sources
from kdam_ray.service.records import Storage, Tracking, latest_checkpoint
from kdam_ray.service.wording import say
from kdam_ray.tasks import DATASETS

FOLDER = "pictures"  # among a run's artifacts
IMAGES = 4  # of the evaluation split, evenly spread


@dataclass(frozen=True)
class Drawn:
    """What became of a run's picture.

    Attributes:
        run_id: of the run.
        mlflow_run: that has the picture; None: MLflow has no finished record of the run.
        path: the PNG; None: not drawn, or nobody asked for a folder to keep it in.
        columns: titles of the networks that are shown.
        reason: why it was not drawn; None: it was.
    """

    run_id: str
    mlflow_run: str | None
    path: Path | None = None
    columns: tuple[str, ...] = ()
    reason: str | None = None


def picture_name(epoch: int) -> str:
    """The file of an epoch's picture."""
    return f"epoch_{epoch:04d}.png"


def draw_runs(
    runs: Sequence[Run], place: Place, *, images: int = IMAGES, folder: Path | None = None, again: bool = False
) -> list[Drawn]:
    """Draw the last epoch of finished runs, in this process, and record the pictures in MLflow.

    Columns are the teacher, if there is one, the finished run like it but without distillation (same seed), if MLflow
    has one, and the run itself.

    Args:
        runs: which; one that is drawn already, has no finished record or no whole checkpoint is left out, with the
            reason.
        place: where checkpoints, images and MLflow are.
        images: how many of the evaluation split.
        folder: keeps `<run_id>/epoch_0004.png` of each; None: only MLflow does.
        again: also draw what is drawn already.

    Raises:
        ValueError: images that cannot be read.
    """
    device = "cuda" if torch.cuda.is_available() and place.gpus is not False else "cpu"
    gallery = _Gallery(place, device)
    return [gallery.draw(run, images, folder, again) for run in runs]


def draw_member(
    network: nn.Module,
    run: Run,
    epoch: int,
    *,
    source: Source,
    place: Place,
    mlflow_run: str,
    teacher: nn.Module | None = None,
    images: int = IMAGES,
) -> None:
    """Draw a network that is being trained and record the picture; it goes on as if nothing had happened.

    Args:
        network: the member's, without wrappers, on whatever device it is; no random number is drawn.
        run: that it belongs to.
        epoch: that it has completed.
        source: the evaluation split.
        place: where MLflow is.
        mlflow_run: the member's.
        teacher: on the same device; None: no such column.
        images: how many of the evaluation split.
    """
    device = next(network.parameters()).device
    columns = ({} if teacher is None else {f"teacher {run.teacher}": teacher}) | {title_of(run): network}
    with _kept(None, run, epoch) as path:
        _draw(columns, run, source, images, device).save(path)
        Tracking(place).log_file(mlflow_run, path, FOLDER)


def title_of(run: Run) -> str:
    """Title of a run's column: `student swin_w12 + kdam`, or `swin_w12 demt` where nothing is distilled."""
    name = run.student if run.decoder == "mt_baseline" else f"{run.student} {run.decoder}"
    return name if run.distill.method == "none" else f"student {name} + {run.distill.method}"


class _Gallery:
    """Networks and images that several pictures need."""

    def __init__(self, place: Place, device: str):
        self.place, self.device = place, device
        self.storage, self.tracking = Storage(place.storage), Tracking(place)
        self._sources: dict[tuple, Source] = {}
        self._shared: dict[str, nn.Module | None] = {}  # teachers and baselines, by run_id

    def draw(self, run: Run, images: int, folder: Path | None, again: bool) -> Drawn:
        record = self.tracking.find_finished(run.run_id)
        if record is None:
            return Drawn(run.run_id, None, reason="MLflow has no finished record of it")
        name = picture_name(run.epochs)
        client = self.tracking.client
        if not again and any(
            item.path == f"{FOLDER}/{name}" for item in client.list_artifacts(record.mlflow_run, FOLDER)
        ):
            return Drawn(run.run_id, record.mlflow_run, reason=f"has {FOLDER}/{name} already")
        own = self._load(run.run_id, run.epochs)
        if own is None:
            return Drawn(
                run.run_id,
                record.mlflow_run,
                reason=f"{self.place.storage} holds no whole checkpoint of epoch {run.epochs}",
            )
        columns = {**self._beside(run), title_of(run): own}
        with _kept(folder, run, run.epochs) as path:
            _draw(columns, run, self._source(run), images, self.device).save(path)
            self.tracking.log_file(record.mlflow_run, path, FOLDER)
        say(f"pictures of run {run.run_id}: {', '.join(columns)}")
        return Drawn(run.run_id, record.mlflow_run, path if folder else None, tuple(columns))

    def _beside(self, run: Run) -> dict[str, nn.Module]:
        """Teacher and baseline by title, those that can be had."""
        found: dict[str, nn.Module] = {}
        if run.teacher_run and (teacher := self._known(run.teacher_run)) is not None:
            found[f"teacher {run.teacher}"] = teacher
        if run.distill.method != "none" and (baseline := self._known(untaught(run).run_id)) is not None:
            found[f"baseline {run.student}"] = baseline
        return found

    def _known(self, run_id: str) -> nn.Module | None:
        if run_id not in self._shared:
            record = self.tracking.find_finished(run_id)
            network = self._load(run_id, record.run.epochs) if record else None
            self._shared[run_id] = None if network is None else Teacher(network)
        return self._shared[run_id]

    def _load(self, run_id: str, epoch: int) -> nn.Module | None:
        folder = latest_checkpoint(self.storage, run_id, epoch=epoch)
        return None if folder is None else load_network(folder).to(self.device)

    def _source(self, run: Run) -> Source:
        if run.upstream not in self._sources:
            self._sources[run.upstream] = open_sources(run, self.place)[1]
        return self._sources[run.upstream]


def _draw(
    columns: Mapping[str, nn.Module], run: Run, source: Source, images: int, device: torch.device | str
) -> Image.Image:
    return draw(
        columns, source, DATASETS[run.dataset], fixed_indices(len(source), images), image_size=run.image_size,
        tasks=run.tasks, device=device, precision=run.precision,
    )  # fmt: skip


@contextmanager
def _kept(folder: Path | None, run: Run, epoch: int) -> Iterator[Path]:
    """Where a picture is written: in `folder`, or where it is gone afterwards."""
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch) / picture_name(epoch)
        return
    path = folder / run.run_id / picture_name(epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path
