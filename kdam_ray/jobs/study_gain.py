"""Does distillation help, and is it the teacher's knowledge? The paper's claim with seeds, controls and a test split.

    kdam study-gain --seeds 5                     # rooms: 18 variants, converged students; hours on 2 cores
    kdam study-gain --smoke --seeds 2             # the same tiny, in a few minutes; its numbers mean nothing
    kdam study-gain --only none kdam labels_kdam  # some of the variants

Every variant is trained at the same seeds, from the same teacher, and scored on the test split, which chose nothing.
Controls: labels in the teacher's place (the same loss, no knowledge), a heavier task without distillation, a teacher
that is the student itself at another seed. Then the choices that the paper leaves open, one at a time. Differences are
paired by seed, with intervals and p-values corrected for their number. Lands in MLflow experiment kdam/<dataset>/gain.
"""

import sys
from typing import Annotated

import tyro
from pydantic import Field

from kdam_ray.command import bad_input_exits, flags, output, require
from kdam_ray.config import Frozen, Place
from kdam_ray.recipes import Pair
from kdam_ray.studies.gain import chosen, gain_sweeps


class Flags(Frozen):
    """Flags of this job: what is compared, at how many seeds.

    Attributes:
        only: some of the variants, by name; left out: all.
        seeds: of every variant: 0, 1, ...
        pictures: evaluation images whose predictions the report shows; 0: none.
        plan: print the runs and their estimated cost; start nothing.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    pair: Pair = Pair()
    only: tuple[str, ...] = ()
    seeds: Annotated[int, Field(ge=1)] = 5
    place: Place = Place()
    pictures: Annotated[int, Field(ge=0)] = 4
    plan: bool = False
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def main() -> int:
    asked = flags(Flags, __doc__)
    with output(asked.as_json) as say:
        with bad_input_exits():
            require("service")
            variants = chosen(asked.only)
            sweeps = gain_sweeps(variants, asked.pair, asked.place, seeds=asked.seeds)

            from kdam_ray.service.sweep import plan

            if asked.plan:
                plans = [plan(wanted.sweep, asked.place, teachers=[wanted.teacher]) for wanted in sweeps]
                say("\n".join(item.text() for item in plans), [item.as_json() for item in plans])
                return 0
            require("report")

        from kdam_ray.report.drawing.sweep_report import is_there, write_report
        from kdam_ray.report.drawing.what_is_drawn import of_gain
        from kdam_ray.report.gain import as_json, as_text
        from kdam_ray.service.result import ended
        from kdam_ray.studies.gain_runs import run_study

        study, results = run_study(sweeps, variants, asked.place)
        if asked.pair.smoke:
            print("A smoke run: tiny networks, images and schedules. Its numbers mean nothing.", file=sys.stderr)
        say(as_text(study), as_json(study))
        if study.rows[0].seeds and not is_there(results[0], asked.place):
            write_report(of_gain(study, results, asked.place), results[0], asked.place, images=asked.pictures)
        return ended(*results)
