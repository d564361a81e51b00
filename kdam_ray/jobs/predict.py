"""What a trained network says about any image: every task as raw arrays, coloured, and one summary picture an image.

    kdam predict photo.jpg scan.png --run 4d8e35a965cf --out predictions/    # of --storage, or MLflow's id
    kdam predict images/*.png --checkpoint exported/ --out predictions/      # of training or `kdam export`

OUT/<task>/<id>.png|npy are raw, at the image's own size, as `kdam score` scores them;
OUT/coloured/<task>/<id>.png and OUT/summary/<id>.png are for people. <id> is the file's name without its ending. Images
are read as 8-bit RGB, upright by their EXIF orientation, transparency on white. One larger than --max-side is reduced
for the network and its predictions enlarged again. A network that learnt small images sees photographs as it knows them
with a --max-side of that size. There is no --dataset: a checkpoint knows what it learnt. An image that cannot be read
is named and the others are predicted (exit code 1).
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field

from kdam_ray.command import announce, bad_input_exits, flags, output
from kdam_ray.config import Frozen, Place, one_of

DEVICES = ("auto", "cpu", "cuda")


class Flags(Frozen):
    """Flags of this job: what is predicted, and by which network.

    Attributes:
        images: image files, of any size and format that Pillow opens.
        out: folder of the predictions; what is there under the same names is replaced.
        run: run_id or MLflow's id of a run whose newest checkpoint is taken from `storage`.
        checkpoint: instead of a run: folder that training or `kdam export` wrote.
        storage: folder or s3:// URI of the checkpoints.
        tracking_uri: MLflow, for its ids; left out: MLFLOW_TRACKING_URI, else sqlite in `storage`.
        device: auto (a GPU if there is one), cpu or cuda.
        max_side: longest side that the network is shown, pixels; memory grows with its square.
        as_json: one JSON document on stdout (run, epoch, one row an image, failed: file -> why), everything else on
            stderr.
    """

    images: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    out: str = ""
    run: str | None = None
    checkpoint: str | None = None
    storage: str = "runs"
    tracking_uri: str | None = None
    device: str = "auto"
    max_side: Annotated[int, Field(ge=16)] = 1280
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def check(asked: Flags) -> None:
    """Refuse before torch is imported what can be refused.

    Raises:
        ValueError: names the flag and what it takes, or the file.
    """
    if (asked.run is None) == (asked.checkpoint is None):
        raise ValueError("run: give either --run or --checkpoint")
    one_of(DEVICES, "device")(asked.device)
    if not asked.images:
        raise ValueError("images: give at least one file")
    if not asked.out:
        raise ValueError("out: give the folder of the predictions, --out DIR")
    names: dict[str, str] = {}
    for image in asked.images:
        if Path(image).is_dir():
            raise ValueError(f"images: {image} is a folder; give its files, as {image.rstrip('/')}/*.png")
        if not Path(image).is_file():
            raise ValueError(f"images: {image} is no file")
        if (other := names.setdefault(Path(image).stem, image)) != image:
            raise ValueError(f"images: {other} and {image} would write the same files; give one at a time")


def checkpoint_folder(asked: Flags) -> Path:
    """The local folder of what predicts."""
    if asked.checkpoint is not None:
        return Path(asked.checkpoint).expanduser()
    from kdam_ray.service.records.checkpoints import checkpoint_of

    return checkpoint_of(asked.run or "", Place(storage=asked.storage, tracking_uri=asked.tracking_uri))


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.as_json) as say:
        check(asked)
        announce(f"opens the network of {asked.run or asked.checkpoint}")

        from kdam_ray.learning.predictor import ImageError, Predictor
        from kdam_ray.service.wording import tracked

        predictor = Predictor(checkpoint_folder(asked), device=asked.device, limit=asked.max_side)
        trained, out = predictor.trained, Path(asked.out).expanduser()
        if trained.unfinished:
            print(trained.unfinished, file=sys.stderr)
        rows: list[dict[str, Any]] = []
        failed: dict[str, str] = {}
        for image in tracked(asked.images, "images predicted", len(asked.images)):
            try:
                rows.append(predictor.write(Path(image), out))
            except ImageError as error:
                failed[image] = str(error)
                print(f"error: {error}", file=sys.stderr)
                continue
            for note in rows[-1]["notes"]:
                print(f"{image}: {note}", file=sys.stderr)
        if not rows:
            return 2
        count = f"{len(rows)} of {len(asked.images)}" if failed else str(len(rows))
        text = f"{count} images, {', '.join(predictor.run.tasks)}, in {out}; pictures in {out / 'summary'}"
        standing = {"run_id": predictor.run.run_id, "epoch": trained.epoch, "epochs": predictor.run.epochs}
        say(text, standing | {"device": str(predictor.device), "images": rows, "failed": failed})
    return 1 if failed else 0
