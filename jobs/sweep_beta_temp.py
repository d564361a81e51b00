"""Table 5: what beta and temperature do to plain KD (Swin-L to Swin-T on NYUD-v2 in the paper).

    python jobs/sweep_beta_temp.py            # this machine, procedural rooms and small nets, no download
    python jobs/sweep_beta_temp.py --smoke    # the same in about a minute, tiny; its numbers mean nothing
    ray job submit --working-dir . -- python jobs/sweep_beta_temp.py --dataset nyud --root /data/NYUDv2 --storage s3://...

The paper's 13 cells and the rows they are read against (no KD at three seeds, KDAM at beta 1) run first, so the table
exists even if the job is cut short; Optuna then searches beta, T and alpha between them. Finished runs are never
trained again. On the rooms expect no trend in beta or T that one seed resolves: the last lines say what it does
resolve. Lands in MLflow experiment kdam/<dataset>/beta_temp.
"""

import sys
from typing import Annotated, Any

import tyro
from pydantic import Field

from kdam_ray.command import bad_input_exits, flags, output
from kdam_ray.config import Distill, Frozen, Place, Run, Sweep, change
from kdam_ray.recipes import SEARCHED, Pair, Recipe, taught_by

NO_KD_SEEDS = 3  # at least: their spread says what one seed can resolve


class Flags(Frozen):
    """What is swept.

    Attributes:
        decoder: multi-task head of the students.
        method: plain_kd (what Table 5 shows), kdam or dist.
        betas: Table 5a's, at T = 3.
        temperatures: Table 5b's, at beta = 1.
        seeds: of every cell: 0, 1, ...
        trials: searched runs after the cells.
        pictures: evaluation images whose predictions the report shows; 0: none.
        plan: print cohorts, members, estimated FLOPs and time; start nothing.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    pair: Pair = Pair()
    decoder: str = "mt_baseline"
    method: str = "plain_kd"
    betas: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    temperatures: tuple[float, ...] = (0.1, 0.5, 1.0, 3.0, 4.0, 8.0, 16.0)
    seeds: Annotated[int, Field(ge=1)] = 1
    trials: Annotated[int, Field(ge=0)] | None = None
    place: Place = Place()
    pictures: Annotated[int, Field(ge=0)] = 4
    plan: bool = False
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def sweep_of(asked: Flags, recipe: Recipe, base: Run) -> Sweep:
    """The 13 cells (the one that both tables share once), the references and the space around them."""
    points = dict.fromkeys(
        [(beta, 3.0) for beta in asked.betas] + [(1.0, temperature) for temperature in asked.temperatures]
    )
    cells = [
        {"distill.beta": beta, "distill.temperature": temperature, "seed": seed}
        for seed in range(asked.seeds) for beta, temperature in points
    ]  # fmt: skip
    alone = {"distill": Distill().model_dump(), "teacher": None, "teacher_decoder": "mt_baseline", "teacher_run": None}
    references: list[dict[str, Any]] = [alone | {"seed": seed} for seed in range(max(NO_KD_SEEDS, asked.seeds))]
    references += [{"distill": Distill(method="kdam").model_dump(), "seed": seed} for seed in range(asked.seeds)]
    for changes in cells + references:
        change(base, changes)
    return Sweep(
        name="beta_temp_smoke" if asked.pair.smoke else "beta_temp", table=5, base=base, cells=tuple(cells),
        references=tuple(references), space=SEARCHED, trials=recipe.trials if asked.trials is None else asked.trials,
    )  # fmt: skip


def main() -> int:
    asked = flags(Flags, __doc__)
    with output(asked.as_json) as say:
        with bad_input_exits():
            recipe = asked.pair.recipe()
            distilled = change(
                recipe.student,
                {"decoder": asked.decoder, "distill": {"method": asked.method}} | taught_by(recipe.teacher),
            )
            sweep_of(asked, recipe, distilled)  # a bad beta or T is refused here, before torch is imported

            from kdam_ray.service.sweep import plan, resolve, run_sweep

            teacher = resolve(recipe.teacher, asked.place, teacher=True, weights=asked.pair.teacher_weights)
            base = resolve(change(distilled, {"teacher_run": teacher.run_id}), asked.place, weights=asked.pair.weights)
            sweep = sweep_of(asked, recipe, base)
            planned = plan(sweep, asked.place, teachers=[teacher])
            if asked.plan:
                say(planned.text(), planned.as_json())
                return 0

        from kdam_ray.report.beta_temp import of_result
        from kdam_ray.report.beta_temp_grid import as_grids, as_report
        from kdam_ray.report.drawing.sweep_report import announce, is_there, write_report
        from kdam_ray.report.drawing.what_is_drawn import of_beta_temp

        result = run_sweep(sweep, asked.place, teachers=[teacher])
        if asked.pair.smoke:
            print("A smoke run: tiny networks, images and schedules. Its numbers mean nothing.", file=sys.stderr)
        failed = [{"run_id": row.run.run_id, "changes": row.changes, "reason": row.reason} for row in result.failed]
        if any(row.status == "finished" for row in result.rows):
            results = of_result(result, asked.method, smoke=asked.pair.smoke)
            say(*as_report(results, result))
            if not is_there(result, asked.place):
                content = of_beta_temp(results, as_grids(results), result, asked.place)
                announce(write_report(content, result, asked.place, images=asked.pictures))
        else:
            say("No run has finished, so there is no table.", {"failed": failed})
        for row in failed:
            print(f"failed: {row['run_id']} {row['changes']}: {row['reason']}", file=sys.stderr)
        return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
