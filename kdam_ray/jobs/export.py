"""The student of a run to take away: weights, a card that says what they are, and an ONNX graph.

    kdam export --run 4d8e35a965cf --out exported/                 # a run of --storage, or MLflow's run id
    kdam export --run 4d8e35a965cf --out exported/ --size 480 640  # another image size than the run's
    kdam export --checkpoint runs/checkpoints/4d8e35a965cf/epoch_0004 --out exported/ --images photo.jpg

Writes weights.safetensors, model.onnx and card.json, or nothing: onnxruntime's outputs must equal torch's on random
images, on procedural rooms (if the run learnt on those) and on --images. The graph needs none of this code; it takes
RGB values 0 .. 255 as float32 [batch, 3, H, W], normalises them itself and gives logits at the image's resolution;
`kdam predict --checkpoint OUT` predicts with what was exported. There is no --dataset: a run knows its own. The graph
needs `pip install 'kdam_ray[export]'`; --weights-only does without. Cost: 5 s to a minute, by the decoder.
"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field

from kdam_ray.command import announce, bad_input_exits, flags, output, require
from kdam_ray.config import Frozen, Place

if TYPE_CHECKING:
    import numpy as np

    from kdam_ray.config import Run

ROOMS = 2  # procedural images that a graph is checked on


class Flags(Frozen):
    """Flags of this job: what is taken away.

    Attributes:
        out: folder that appears; an earlier export in it is replaced.
        run: run_id or MLflow's id of a run whose newest checkpoint is taken from `storage`.
        checkpoint: instead of a run: folder that training or this job wrote.
        storage: folder or s3:// URI of the checkpoints.
        tracking_uri: MLflow, for its ids; left out: MLFLOW_TRACKING_URI, else sqlite in `storage`.
        size: height and width of the graph's images, pixels; left out: those of the run's training crops.
        images: image files that the graph is checked on too, resized to `size`.
        weights_only: weights and card without the ONNX graph; needs no extra.
        register_as: also register the run's model in MLflow's registry, under this name.
        as_json: one JSON document, the card, on stdout, everything else on stderr.
    """

    out: str
    run: str | None = None
    checkpoint: str | None = None
    storage: str = "runs"
    tracking_uri: str | None = None
    size: tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]] | None = None
    images: tuple[str, ...] = ()
    weights_only: bool = False
    register_as: Annotated[str | None, tyro.conf.arg(name="register")] = None
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def check(asked: Flags) -> None:
    """Refuse before torch is imported what can be refused.

    Raises:
        ValueError: names what is missing.
    """
    if (asked.run is None) == (asked.checkpoint is None):
        raise ValueError("run: give either --run or --checkpoint")
    if asked.weights_only and (asked.size or asked.images):
        raise ValueError(f"{'size' if asked.size else 'images'}: that is of the graph, which --weights-only leaves out")
    if not asked.weights_only:
        require("export")
    if asked.register_as is not None:
        require("service")
        if not re.fullmatch(r"[\w. -]+", asked.register_as):
            raise ValueError(f"register: {asked.register_as!r} is no name of letters, digits, spaces, dots and dashes")


def checkpoint_folder(asked: Flags) -> Path:
    """The local folder of what is exported."""
    if asked.checkpoint is not None:
        return Path(asked.checkpoint).expanduser()
    from kdam_ray.service.records.checkpoints import checkpoint_of

    return checkpoint_of(asked.run or "", Place(storage=asked.storage, tracking_uri=asked.tracking_uri))


def real_images(asked: Flags, run: "Run", size: tuple[int, int]) -> dict[str, "np.ndarray"]:
    """Those of --images, and rooms if the run learnt on rooms, by name."""
    from kdam_ray.data.opening import Wanted, open_source
    from kdam_ray.learning.infer import read_picture
    from kdam_ray.tasks import DATASETS

    images = {path: read_picture(Path(path), shape=size).image for path in asked.images}
    if DATASETS[run.dataset].is_procedural:
        rooms = open_source(Wanted(DATASETS[run.dataset], "val", ROOMS, size))
        images |= {rooms.name(index): rooms[index]["image"] for index in range(ROOMS)}
    return images


def as_text(card: dict[str, Any], out: str) -> str:
    """What was written and how far it can be trusted."""
    lines = [
        f"{card['backbone']} + {card['decoder']}, run {card['run_id']}, in {out}",
        *(f"  {name}: {file['bytes'] / 1e6:.1f} MB" for name, file in card["files"].items()),
    ]
    graph = card["onnx"]
    if graph is None:
        return "\n".join(lines)
    worst = max(graph["checked"]["largest_difference"].values())
    shape = " x ".join(map(str, graph["input"]["image"]))
    own = max(graph["checked"].get("torch_rounding", {}).values(), default=0.0)
    few = f" at few pixels, where torch's own rounding is {own:.0e}" if own else ""
    real = ", ".join(graph["checked"]["images"]) or "no real one"
    return "\n".join([
        *lines,
        f"  image {shape}; differs from torch by at most {worst:.0e} of an output's largest value{few}",
        f"  checked on {graph['checked']['random_images']} random images and on {real}",
    ])  # fmt: skip


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.as_json) as say:
        check(asked)
        announce(f"opens the network of {asked.run or asked.checkpoint}")
        folder = checkpoint_folder(asked)

        from kdam_ray.learning.export import open_network, write_export

        trained = open_network(folder)
        if trained.unfinished:
            print(trained.unfinished, file=sys.stderr)
        run, out = trained.run, Path(asked.out).expanduser()
        size = asked.size or run.image_size
        images = None if asked.weights_only else real_images(asked, run, size)
        card = write_export(
            out, trained.network, run, metrics=trained.metrics, epoch=trained.epoch, size=size, images=images,
            graph=not asked.weights_only,
        )  # fmt: skip
        text = as_text(card, str(out))
        if asked.register_as:
            from kdam_ray.service.finished.models import register_model

            place = Place(storage=asked.storage, tracking_uri=asked.tracking_uri)
            version = register_model(run, asked.register_as, place)
            text += f"\n  registered in MLflow: {asked.register_as}, version {version}"
            card = card | {"registered": {"name": asked.register_as, "version": version}}
        say(text, card)
    return 0
