"""Table 5: what beta and temperature do to plain KD (Swin-L to Swin-T on NYUD-v2 in the paper).

    kdam sweep-beta-temp            # this machine, procedural rooms and small nets, no download
    kdam sweep-beta-temp --smoke    # the same in about a minute, tiny; its numbers mean nothing
    ray job submit --working-dir . -- python jobs/sweep_beta_temp.py --dataset nyud --root /data/NYUDv2

The paper's 13 cells and the rows they are read against (no KD at three seeds, KDAM at beta 1) run first, so the table
exists even if the job is cut short; Optuna then searches beta and T between them, and the two points that one seed put
first get two more: only what has three seeds is called best. Finished runs are never trained again. On the rooms expect
no trend in beta or T that one seed resolves: the last lines say what it does resolve. Lands in MLflow experiment
kdam/<dataset>/beta_temp.
"""

import sys
from typing import Annotated

import tyro
from pydantic import Field

from kdam_ray.command import bad_input_exits, flags, output, require
from kdam_ray.config import Place
from kdam_ray.studies.beta_temp import BetaTempPoints, beta_temp_sweep


class Flags(BetaTempPoints):
    """What is swept, and what becomes of it.

    Attributes:
        pictures: evaluation images whose predictions the report shows; 0: none.
        plan: print cohorts, members, estimated FLOPs and time; start nothing.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    place: Place = Place()
    pictures: Annotated[int, Field(ge=0)] = 4
    plan: bool = False
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def main() -> int:
    asked = flags(Flags, __doc__)
    with output(asked.as_json) as say:
        with bad_input_exits():
            require("service")
            sweep, teacher = beta_temp_sweep(asked, asked.place)

            from kdam_ray.service.sweep import plan, run_sweep

            planned = plan(sweep, asked.place, teachers=[teacher])
            if asked.plan:
                say(planned.text(), planned.as_json())
                return 0
            require("report")

        from kdam_ray.report.beta_temp import of_result
        from kdam_ray.report.beta_temp_grid import as_grids, as_report
        from kdam_ray.report.drawing.sweep_report import is_there, write_report
        from kdam_ray.report.drawing.what_is_drawn import of_beta_temp
        from kdam_ray.service.result import ended

        result = run_sweep(sweep, asked.place, teachers=[teacher])
        if asked.pair.smoke:
            print("A smoke run: tiny networks, images and schedules. Its numbers mean nothing.", file=sys.stderr)
        if any(row.status == "finished" for row in result.rows):
            results = of_result(result, asked.method)
            say(*as_report(results, result))
            if not is_there(result, asked.place):
                content = of_beta_temp(results, as_grids(results), result, asked.place)
                write_report(content, result, asked.place, images=asked.pictures)
        else:
            failed = [{"run_id": row.run.run_id, "changes": row.changes, "reason": row.reason} for row in result.failed]
            say("No run has finished, so there is no table.", {"failed": failed})
        return ended(result, with_changes=True)
