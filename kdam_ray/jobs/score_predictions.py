"""Scores predictions of any code base against a dataset's packaging; trains nothing, needs no network.

    kdam score --dataset nyud --root /data/NYUDv2 --predictions out/
    kdam score --dataset pascal --root /data/PASCAL --predictions out/ --convention mti --json

Files: semseg/<id>.png and human_parts/<id>.png hold uint8 class ids from 0; sal/<id>.png and edge/<id>.png uint8 255 *
probability; depth/<id>.npy float metres; normals/<id>.npy float (H, W, 3) or .png as the packaging encodes it. Only the
tasks whose folders are there are scored. Boundaries take about 0.15 CPU seconds an image for all 101 thresholds.
"""

import sys
from typing import Annotated, Any

import tyro
from pydantic import Field

from kdam_ray.command import announce, bad_input_exits, flags, output, refuse
from kdam_ray.config import Frozen, one_of
from kdam_ray.machine import usable_cpus
from kdam_ray.tasks import DATASETS

SCORED = ("nyud", "pascal")
SPLITS = ("train", "val")
TRUTHS = ("regions", "label")
NAMED = 5  # unusable files that the refusal names


class Flags(Frozen):
    """Flags of this job: what is scored, and how.

    Attributes:
        dataset: nyud or pascal.
        root: folder of the packaging.
        predictions: folder of the predictions.
        split: val or train.
        convention: whose definitions of the metrics: atrc (DeMT's and KDAM's too), invpt, mti or astmt.
        edge_ids: file with the ids on which boundaries are scored, one a line; "all": every image of the split. Left
            out: on pascal's val the published subset, ROOT/ImageSets/Context/test_new.txt; everywhere else all.
        edge_truth: regions: boundaries of what the published evaluator takes (pascal: LabelMap; nyud: the edge mask);
            label: the edge labels that networks are trained on.
        allow_missing: score what there is instead of refusing a folder that is incomplete or has files that cannot be
            used.
        processes: side by side; left out: one per core.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    dataset: str
    root: str
    predictions: str
    split: str = "val"
    convention: str = "atrc"
    edge_ids: str | None = None
    edge_truth: str = "regions"
    allow_missing: bool = False
    processes: Annotated[int, Field(ge=1)] | None = None
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def check(asked: Flags) -> None:
    """Refuse values that do not exist.

    Raises:
        ValueError: names the flag and what it takes.
    """
    conventions = ("atrc", "invpt", "mti", "astmt")  # metrics.CONVENTIONS, without importing torch
    allowed = {"dataset": SCORED, "split": SPLITS, "convention": conventions, "edge_truth": TRUTHS}
    for name, values in allowed.items():
        one_of(values, name)(getattr(asked, name))


def as_text(asked: Flags, scores: Any) -> str:
    """The metrics with their units, then classes if there are any."""
    units = {task.metric_key: task.unit for task in DATASETS[asked.dataset].tasks}
    lines = [f"{asked.dataset} {asked.split}, {scores.images} images, convention {asked.convention}"]
    lines += [f"  {name:20}{value:10.4f} {units.get(name, '%')}" for name, value in scores.metrics.items()]
    for task, classes in scores.per_class.items():
        known = {name: value for name, value in classes.items() if value is not None}
        absent = len(classes) - len(known)
        note = f"; {absent} classes occur nowhere and count 0 in mIoU" if absent else ""
        lines.append(f"  {task} by class: {', '.join(f'{name} {value:.2f}' for name, value in known.items())}{note}")
    return "\n".join(lines)


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.as_json) as say:
        check(asked)
        announce(f"opens {asked.root} and looks through {asked.predictions}")

        from kdam_ray.report.scores import open_request, progress

        request = open_request(asked)  # type: ignore[arg-type]  # `check` has seen the convention
        scores = progress(request, processes=asked.processes or usable_cpus())
        if scores.problems and not asked.allow_missing:
            first = "; ".join(scores.problems[:NAMED])
            refuse(f"{len(scores.problems)} predictions cannot be scored: {first}; --allow-missing leaves them out")
        document = {
            "dataset": asked.dataset, "split": asked.split, "images": scores.images, "convention": asked.convention,
            "metrics": scores.metrics, "per_class": scores.per_class, "per_image": scores.per_image,
            "left_out": [*request.inventory.missing, *scores.problems],
        }  # fmt: skip
        for problem in scores.problems:
            print(f"left out: {problem}", file=sys.stderr)
        say(as_text(asked, scores), document)
    return 0
