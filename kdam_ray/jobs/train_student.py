"""One student at one or more seeds: alone, distilled, with any decoder, or on a single task (Delta_mt's reference).

    kdam train-student                                           # multi-task baseline, no distillation
    kdam train-student --method kdam --beta 1                    # distilled; a missing teacher is trained
    kdam train-student --method kdam --decoder pad_net atrc demt # systems of the paper under one teacher
    for t in semseg depth normals edge; do kdam train-student --tasks $t; done      # single-task references

The single-task runs take the place of the no-KD mean as the reference of every table's Delta once all tasks have one.
Lands in MLflow experiment kdam/<dataset>/student.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field

from kdam_ray.command import bad_input_exits, flags, output, require
from kdam_ray.config import Frozen, Place, Run, Sweep, change
from kdam_ray.contexts import read_contexts
from kdam_ray.recipes import Pair, Recipe, sweep_name, taught_by


class Flags(Frozen):
    """Which student.

    Attributes:
        decoder: multi-task heads, one student each: the paper's systems, rows of the README's table.
        contexts: JSON file of the contexts of the decoder atrc, as `kdam search-contexts` writes it; left out: the
            published ones.
        mixing_lr: factor on the learning rate of the units of cross_stitch and nddr_cnn (published with 100).
        method: none, plain_kd, kdam or dist.
        literal: Eq. 4 as it is printed, which is no divergence, instead of with squares; of kdam.
        source: teacher, or labels: a control that distils what the labels say, so that no teacher is needed.
        beta: weight of the distillation loss.
        temperature: T of Eq. 3; left out: 3 for plain_kd, else 1.
        alpha: weight of the supervised loss.
        tasks: the tasks learnt; left out: all of the dataset.
        seeds: how many: 0, 1, ...
        save_predictions: folder that gets <run_id>/<task>/<id>.png|.npy on the evaluation images, as
            `kdam score` scores them; of runs that finished earlier too.
        plan: print the runs and their estimated cost; start nothing.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    pair: Pair = Pair()
    decoder: Annotated[tuple[str, ...], Field(min_length=1)] = ("mt_baseline",)
    contexts: str | None = None
    mixing_lr: float | None = None
    method: str = "none"
    literal: bool = False
    source: str = "teacher"
    beta: float | None = None
    temperature: float | None = None
    alpha: float | None = None
    tasks: tuple[str, ...] = ()
    seeds: Annotated[int, Field(ge=1)] = 1
    save_predictions: str | None = None
    place: Place = Place()
    plan: bool = False
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def student_of(asked: Flags, recipe: Recipe, teacher: Run | None) -> Run:
    """The student's run; `teacher` is the resolved one, None where nothing is distilled or before it is known."""
    if asked.literal and asked.method != "kdam":
        raise ValueError(f"literal: Eq. 4 is in the method kdam, not in {asked.method}")
    given = {name: getattr(asked, name) for name in ("method", "literal", "source", "beta", "temperature", "alpha")}
    changes: dict[str, Any] = {"distill": {name: value for name, value in given.items() if value is not None}}
    if asked.tasks:
        changes["tasks"] = asked.tasks
    if asked.mixing_lr is not None:
        changes["optim.mixing_lr"] = asked.mixing_lr
    if asked.method != "none" and asked.source == "teacher":
        changes |= taught_by(recipe.teacher) | {"teacher_run": teacher and teacher.run_id}
    return change(recipe.student, changes)


def sweep_of(asked: Flags, base: Run) -> Sweep:
    """One cell per decoder and seed."""
    contexts = read_contexts(asked.contexts) if asked.contexts else None
    if contexts and "atrc" not in asked.decoder:
        raise ValueError(f"contexts: only the decoder atrc takes them, not {', '.join(asked.decoder)}")
    cells = tuple(
        {"decoder": decoder, "contexts": contexts if decoder == "atrc" else None, "seed": seed}
        for decoder in dict.fromkeys(asked.decoder) for seed in range(asked.seeds)
    )  # fmt: skip
    for changes in cells:
        change(base, changes)
    smoke = asked.pair.smoke
    return Sweep(name=sweep_name("student", smoke=smoke), smoke=smoke, base=base, cells=cells)


def report(result: Any, metric_lines: Callable) -> tuple[str, dict[str, Any]]:
    """What is printed, and what --json prints."""
    text, rows = [], []
    for row in result.rows:
        run = row.run
        text += [
            f"{run.student} + {run.decoder}, seed {run.seed}, run {run.run_id}: {row.status}",
            *metric_lines(run, row.metrics),
        ]
        facts = {"run_id": run.run_id, "decoder": run.decoder, "seed": run.seed}
        rows.append(facts | {"status": row.status, "metrics": row.metrics})
    text.append(f"MLflow: {result.tracking_uri}, experiment {result.experiment}, parent run {result.parent}")
    return "\n".join(text), {"rows": rows, "experiment": result.experiment, "tracking_uri": result.tracking_uri}


def main() -> int:
    asked = flags(Flags, __doc__)
    with output(asked.as_json) as say:
        with bad_input_exits():
            require("service")
            recipe = asked.pair.recipe()
            sweep_of(asked, student_of(asked, recipe, None))  # a bad value is refused here, before torch is imported

            from kdam_ray.service.sweep import plan, resolve, run_sweep

            teacher = None
            if asked.method != "none" and asked.source == "teacher":
                teacher = resolve(recipe.teacher, asked.place, teacher=True, weights=asked.pair.teacher_weights)
            base = resolve(student_of(asked, recipe, teacher), asked.place, weights=asked.pair.weights)
            teachers = [teacher] if teacher else []
            sweep = sweep_of(asked, base)
            planned = plan(sweep, asked.place, teachers=teachers)
            if asked.plan:
                say(planned.text(), planned.as_json())
                return 0

        from kdam_ray.report.tables import metric_lines
        from kdam_ray.service.finished.predictions import save_predictions
        from kdam_ray.service.result import ended

        result = run_sweep(sweep, asked.place, teachers=teachers)
        for row in result.rows if asked.save_predictions else ():
            if row.status == "finished":
                save_predictions(row.run, asked.place, Path(asked.save_predictions or ".") / row.run.run_id)
        say(*report(result, metric_lines))
        return ended(result)
