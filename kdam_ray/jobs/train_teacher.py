"""The teacher of a dataset's recipe, trained like any run and then frozen (Tables 4 and 5: Swin-L on NYUD-v2).

    kdam train-teacher                                        # small teacher on the procedural rooms
    kdam train-teacher --dataset nyud --root /data/NYUDv2     # Swin-L, 400 epochs
    ray job submit --working-dir . -- python jobs/train_teacher.py --smoke

The sweep trains a missing teacher by itself; this job does it ahead. A finished one is found by its run_id and not
trained again. Data-parallel over two gloo ranks on CPUs. Lands in MLflow experiment kdam/<dataset>/teachers.
"""

import sys
from typing import Annotated

import tyro

from kdam_ray.command import bad_input_exits, flags, output, require
from kdam_ray.config import Frozen, Place, Sweep
from kdam_ray.recipes import Pair


class Flags(Frozen):
    """Which teacher.

    Attributes:
        plan: print the run and its estimated cost; start nothing.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    pair: Pair = Pair()
    place: Place = Place()
    plan: bool = False
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def main() -> int:
    asked = flags(Flags, __doc__)
    with output(asked.as_json) as say:
        with bad_input_exits():
            require("service")
            recipe = asked.pair.recipe()

            from kdam_ray.service.sweep import plan, resolve

            run = resolve(recipe.teacher, asked.place, teacher=True, weights=asked.pair.teacher_weights)
            planned = plan(Sweep(name="teachers", base=run, cells=()), asked.place, teachers=[run])
            if asked.plan:
                say(planned.text(), planned.as_json())
                return 0

        from kdam_ray.report.tables import metric_lines
        from kdam_ray.service.records import Storage, checkpoint_name
        from kdam_ray.service.teachers import find_or_train

        found = find_or_train(run, asked.place)
        if found.status == "failed":
            why = {"run_id": run.run_id, "failed": found.reason}
            say(f"teacher {run.student} on {run.dataset}, run {run.run_id}: failed", why)
            print(f"failed: {run.run_id}: {found.reason}", file=sys.stderr)
            return 1
        state = "found, not trained again" if found.reused else "trained"
        text = [f"teacher {run.student} on {run.dataset}, run {run.run_id}: {state}", *metric_lines(run, found.metrics)]
        checkpoint = Storage(asked.place.storage).uri(checkpoint_name(run.run_id, run.epochs))
        document = {
            "run_id": run.run_id, "metrics": found.metrics, "checkpoint": checkpoint, "mlflow_run": found.mlflow_run,
            "reused": found.reused,
        }  # fmt: skip
        say("\n".join([*text, f"checkpoint: {checkpoint}"]), document)
    return 0
