"""Does distillation help, and is it the teacher's knowledge? The paper's claim with seeds, controls and a test split.

    python jobs/study_gain.py --seeds 5                     # procedural rooms: 18 variants, converged students; hours on 2 cores
    python jobs/study_gain.py --smoke --seeds 2             # the same tiny, in a few minutes; its numbers mean nothing
    python jobs/study_gain.py --only none kdam labels_kdam  # some of the variants

Every variant is trained at the same seeds, from the same teacher, and scored on the test split, which chose nothing.
Controls: labels in the teacher's place (the same loss, no knowledge), a heavier task without distillation, a teacher
that is the student itself at another seed. Then the choices that the paper leaves open, one at a time. Differences are
paired by seed, with intervals and p-values corrected for their number. Lands in MLflow experiment kdam/<dataset>/gain.
"""

import sys
from typing import Annotated, Any

import tyro
from pydantic import Field

from kdam_ray.command import bad_input_exits, flags, output
from kdam_ray.config import Frozen, Place, Run, Sweep, change, one_of
from kdam_ray.recipes import Pair, Recipe, taught_by

TEACHER_SEED = 1000  # of the teacher that is no better than its students
EPOCHS, TEACHER_EPOCHS = 48, 40  # where the rooms' student has stopped improving; the teacher stays ahead of it

# name: (label, its rival, changes to the student; "teacher": which one)
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "none": ("no KD", "", {}),
    "plain_kd": ("plain KD", "no KD", {"distill": {"method": "plain_kd"}}),
    "dist": ("DIST", "no KD", {"distill": {"method": "dist"}}),
    "kdam": ("KDAM", "no KD", {"distill": {"method": "kdam"}}),
    "labels_plain_kd": ("plain KD, labels", "plain KD", {"distill": {"method": "plain_kd", "source": "labels"}}),
    "labels_dist": ("DIST, labels", "DIST", {"distill": {"method": "dist", "source": "labels"}}),
    "labels_kdam": ("KDAM, labels", "KDAM", {"distill": {"method": "kdam", "source": "labels"}}),
    "peer_kdam": ("KDAM, peer", "KDAM", {"distill": {"method": "kdam"}, "teacher": "peer"}),
    "semseg_x2": ("no KD, semseg x 2", "no KD", {"task_factors": {"semseg": 2.0}}),
    "semseg_x4": ("no KD, semseg x 4", "no KD", {"task_factors": {"semseg": 4.0}}),
    "kdam_channels": (
        "KDAM, channels",
        "KDAM",
        {"distill": {"method": "kdam", "reading": {"depth": "channels", "edge": "channels"}}},
    ),
    "kdam_no_depth": ("KDAM, not depth", "KDAM", {"distill": {"method": "kdam", "reading": {"depth": "skip"}}}),
    "kdam_no_edge": ("KDAM, not edge", "KDAM", {"distill": {"method": "kdam", "reading": {"edge": "skip"}}}),
    "kdam_no_normals": ("KDAM, not normals", "KDAM", {"distill": {"method": "kdam", "reading": {"normals": "skip"}}}),
    "kdam_image": ("KDAM, image size", "KDAM", {"distill": {"method": "kdam", "kd_resolution": "image"}}),
    "kdam_literal": ("KDAM, Eq. 4 literal", "KDAM", {"distill": {"method": "kdam", "literal": True}}),
    "kdam_literal_intra": (
        "KDAM, Eq. 4 literal, intra",
        "KDAM, Eq. 4 literal",
        {"distill": {"method": "kdam", "literal": True, "inter": False}},
    ),
    "labels_kdam_literal": (
        "KDAM, Eq. 4 literal, labels",
        "KDAM, Eq. 4 literal",
        {"distill": {"method": "kdam", "literal": True, "source": "labels"}},
    ),
}


class Flags(Frozen):
    """What is studied.

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


def chosen(asked: Flags) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """The variants asked for; the reference is always one of them.

    Raises:
        ValueError: a variant that there is none of.
    """
    for name in asked.only:
        try:
            one_of(VARIANTS)(name)
        except ValueError as error:
            raise ValueError(f"only: {error}") from None
    return {name: row for name, row in VARIANTS.items() if not asked.only or name in (*asked.only, "none")}


def recipe_of(asked: Flags) -> Recipe:
    """The pair's recipe; on the rooms long enough to have converged, unless epochs are given."""
    long = asked.pair.dataset in ("rooms", "rooms_pascal") and not asked.pair.smoke
    pair = asked.pair.model_copy(update={
        "epochs": asked.pair.epochs or (EPOCHS if long else None),
        "teacher_epochs": asked.pair.teacher_epochs or (TEACHER_EPOCHS if long else None),
    })  # fmt: skip
    return pair.recipe()


def cell(row: tuple[str, str, dict[str, Any]], teacher: Run, teacher_run: str | None) -> dict[str, Any]:
    """Changes to the student for one variant under that teacher."""
    changes = {key: value for key, value in row[2].items() if key != "teacher"}
    taught = "distill" in changes and changes["distill"].get("source") != "labels"
    return changes | (taught_by(teacher) | {"teacher_run": teacher_run} if taught else {})


def main() -> int:
    asked = flags(Flags, __doc__)
    with output(asked.as_json) as say:
        with bad_input_exits():
            variants, recipe = chosen(asked), recipe_of(asked)
            for row in variants.values():
                change(
                    recipe.student, cell(row, recipe.teacher, None)
                )  # a bad value is refused before torch is imported

            from kdam_ray.service.sweep import plan, resolve

            student = resolve(recipe.student, asked.place, weights=asked.pair.weights)
            peer = resolve(
                change(recipe.student, {"seed": TEACHER_SEED}), asked.place, teacher=True, weights=asked.pair.weights
            )
            strong = resolve(recipe.teacher, asked.place, teacher=True, weights=asked.pair.teacher_weights)
            teachers = {"strong": strong, "peer": peer}
            sweeps = sweeps_of(asked, variants, student, teachers)
            if asked.plan:
                plans = [plan(sweep, asked.place, teachers=[teachers[name]]) for name, sweep, _ in sweeps]
                say("\n".join(item.text() for item in plans), [item.as_json() for item in plans])
                return 0

        from kdam_ray.report.drawing.sweep_report import announce, is_there, write_report
        from kdam_ray.report.drawing.what_is_drawn import of_gain
        from kdam_ray.report.gain import as_json, as_text
        from kdam_ray.studies.gain_runs import run_study

        study, results = run_study(sweeps, teachers, variants, asked.place)
        if asked.pair.smoke:
            print("A smoke run: tiny networks, images and schedules. Its numbers mean nothing.", file=sys.stderr)
        say(as_text(study), as_json(study))
        if study.rows[0].seeds and not is_there(results[0], asked.place):
            announce(write_report(of_gain(study, results, asked.place), results[0], asked.place, images=asked.pictures))
        failed = [row for result in results for row in result.failed]
        for row in failed:
            print(f"failed: {row.run.run_id}: {row.reason}", file=sys.stderr)
        return 1 if failed else 0


def sweeps_of(
    asked: Flags, variants: dict[str, tuple[str, str, dict[str, Any]]], student: Run, teachers: dict[str, Run]
) -> list[tuple[str, Sweep, list[tuple[str, int]]]]:
    """One sweep per teacher, for a cohort has one: (teacher, sweep, (variant, seed) of each cell)."""
    found = []
    for name, teacher in teachers.items():
        mine = {key: row for key, row in variants.items() if row[2].get("teacher", "strong") == name}
        labels = [(key, seed) for seed in range(asked.seeds) for key in mine]
        cells = tuple(cell(variants[key], teacher, teacher.run_id) | {"seed": seed} for key, seed in labels)
        title = ("gain_smoke" if asked.pair.smoke else "gain") + ("" if name == "strong" else f"_{name}")
        if cells:
            found.append((name, Sweep(name=title, base=student, cells=cells), labels))
    return found


if __name__ == "__main__":
    sys.exit(main())
