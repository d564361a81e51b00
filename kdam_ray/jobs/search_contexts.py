"""ATRC's search: which context each task takes from each other (the ATRC rows of Tables 1 and 3 come from one).

    kdam search-contexts --out contexts.json                  # procedural rooms, this machine
    kdam train-student --decoder atrc --contexts contexts.json
    ray job submit --working-dir . -- python jobs/search_contexts.py --dataset nyud --root /data/NYUDv2

Trains one network that holds every type of context for every pair of tasks and learns which to keep; then prints the
choice. The published rate of the choice is for 40,000 steps; the rooms' 600 steps get a 40 times larger one.
Lands in MLflow experiment kdam/<dataset>/contexts, the choice as artifact contexts.json.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from kdam_ray.command import bad_input_exits, flags, output, require
from kdam_ray.config import Frozen, Optim, Place, Sweep, change
from kdam_ray.recipes import Pair, sweep_name
from kdam_ray.tasks import DATASETS

SHORT_LR = 0.02  # some hundred steps instead of 40,000
CLIP = 10.0  # ATRC's search clips gradients at this norm


class Flags(Frozen):
    """Flags of this job: what is searched, and for how long.

    Attributes:
        seed: initialisation and sampled types.
        architecture_lr: learning rate of the choice; left out: the published 5e-4, on procedural rooms 0.02.
        out: file for the choice, as --contexts of `kdam train-student` takes it.
        plan: print the run and its estimated cost; start nothing.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    pair: Pair = Pair()
    seed: int = 0
    architecture_lr: float | None = None
    out: str | None = None
    place: Place = Place()
    plan: bool = False
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def changes_of(asked: Flags) -> dict[str, Any]:
    """What a search differs in from a student."""
    published = Optim().architecture_lr
    rate = SHORT_LR if DATASETS[asked.pair.dataset].is_procedural else published
    return {
        "decoder": "context_search",
        "seed": asked.seed,
        "optim.clip_norm": CLIP,
        "optim.architecture_lr": rate if asked.architecture_lr is None else asked.architecture_lr,
    }


def as_text(document: dict[str, Any]) -> str:
    """One line a target: the type taken from each source, and the probability that the search gives it."""
    lines = ["target        takes from each source (probability)"]
    for target, row in document["contexts"].items():
        taken = (
            f"{source}: {kind} ({document['probabilities'][target][source][kind]:.2f})" for source, kind in row.items()
        )
        lines.append(f"{target:14}{'  '.join(taken)}")
    return "\n".join(lines)


def main() -> int:
    asked = flags(Flags, __doc__)
    with output(asked.as_json) as say:
        with bad_input_exits():
            require("service")
            if asked.out and not Path(asked.out).absolute().parent.is_dir():
                raise ValueError(f"out: {Path(asked.out).absolute().parent} is no folder")
            run = change(asked.pair.recipe().student, changes_of(asked))

            from kdam_ray.service.sweep import plan, resolve, run_sweep

            run = resolve(run, asked.place, weights=asked.pair.weights)
            name = sweep_name("contexts", smoke=asked.pair.smoke)
            sweep = Sweep(name=name, smoke=asked.pair.smoke, base=run, cells=({},))
            planned = plan(sweep, asked.place)
            if asked.plan:
                say(planned.text(), planned.as_json())
                return 0

        from kdam_ray.service.finished.chosen_contexts import searched_contexts
        from kdam_ray.service.result import ended

        result = run_sweep(sweep, asked.place)
        if result.failed:
            say("The search failed, so there is no choice.", {"failed": result.failed[0].reason})
            return ended(result)
        document = searched_contexts(run, asked.place)
        if asked.out:
            Path(asked.out).write_text(json.dumps(document, indent=1) + "\n")
        say("\n".join([as_text(document), f"MLflow: {result.tracking_uri}, experiment {result.experiment}"]), document)
    return 0
