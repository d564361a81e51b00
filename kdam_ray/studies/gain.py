"""What the study of distillation's gain trains: its variants, each with its rival, and a sweep of them per teacher.

Plain data until the runs are resolved, so that a bad value is refused before torch is imported; `gain_runs` trains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kdam_ray.config import Place, Run, Sweep, change, one_of
from kdam_ray.recipes import Pair, Recipe, sweep_name, taught_by
from kdam_ray.tasks import DATASETS

TEACHER_SEED = 1000  # of the teacher that is no better than its students
EPOCHS, TEACHER_EPOCHS = 48, 40  # where the rooms' student has stopped improving; the teacher stays ahead of it

TeacherName = Literal["strong", "peer"]


@dataclass(frozen=True)
class TrainedVariant:
    """A variant of the study and how it is trained.

    Attributes:
        label: how its row is called.
        rival: label of the variant that it is compared with; "": none.
        distill: its distillation; empty: it learns from the labels alone.
        task_factors: weights of tasks beyond their own.
        teacher: the recipe's, or a student at another seed.
    """

    label: str
    rival: str
    distill: Mapping[str, Any] = field(default_factory=dict)
    task_factors: Mapping[str, float] = field(default_factory=dict)
    teacher: TeacherName = "strong"

    def changes(self, teacher: Run, teacher_run: str | None) -> dict[str, Any]:
        """Changes to the student under that teacher; `teacher_run`: None before its inputs are known."""
        own = {"distill": self.distill, "task_factors": self.task_factors}
        changes: dict[str, Any] = {name: dict(value) for name, value in own.items() if value}
        if self.distill and self.distill.get("source") != "labels":
            changes |= taught_by(teacher) | {"teacher_run": teacher_run}
        return changes


def _kdam(label: str, rival: str = "KDAM", *, teacher: TeacherName = "strong", **distill: Any) -> TrainedVariant:
    return TrainedVariant(label, rival, {"method": "kdam", **distill}, teacher=teacher)


VARIANTS: dict[str, TrainedVariant] = {
    "none": TrainedVariant("no KD", ""),
    "plain_kd": TrainedVariant("plain KD", "no KD", {"method": "plain_kd"}),
    "dist": TrainedVariant("DIST", "no KD", {"method": "dist"}),
    "kdam": _kdam("KDAM", "no KD"),
    "labels_plain_kd": TrainedVariant("plain KD, labels", "plain KD", {"method": "plain_kd", "source": "labels"}),
    "labels_dist": TrainedVariant("DIST, labels", "DIST", {"method": "dist", "source": "labels"}),
    "labels_kdam": _kdam("KDAM, labels", source="labels"),
    "peer_kdam": _kdam("KDAM, peer", teacher="peer"),
    "semseg_x2": TrainedVariant("no KD, semseg x 2", "no KD", task_factors={"semseg": 2.0}),
    "semseg_x4": TrainedVariant("no KD, semseg x 4", "no KD", task_factors={"semseg": 4.0}),
    "kdam_channels": _kdam("KDAM, channels", reading={"depth": "channels", "edge": "channels"}),
    "kdam_no_depth": _kdam("KDAM, not depth", reading={"depth": "skip"}),
    "kdam_no_edge": _kdam("KDAM, not edge", reading={"edge": "skip"}),
    "kdam_no_normals": _kdam("KDAM, not normals", reading={"normals": "skip"}),
    "kdam_image": _kdam("KDAM, image size", kd_resolution="image"),
    "kdam_literal": _kdam("KDAM, Eq. 4 literal", literal=True),
    "kdam_literal_intra": _kdam("KDAM, Eq. 4 literal, intra", "KDAM, Eq. 4 literal", literal=True, inter=False),
    "labels_kdam_literal": _kdam("KDAM, Eq. 4 literal, labels", "KDAM, Eq. 4 literal", literal=True, source="labels"),
}


@dataclass(frozen=True)
class VariantSweep:
    """The variants that one teacher teaches: a cohort has one, and so has a sweep.

    Attributes:
        teacher_name: which of the study's teachers it is.
        teacher: its run.
        sweep: every variant at every seed.
        labels: (variant, seed) of each cell of the sweep.
    """

    teacher_name: TeacherName
    teacher: Run
    sweep: Sweep
    labels: tuple[tuple[str, int], ...]


def chosen(only: Sequence[str]) -> dict[str, TrainedVariant]:
    """The variants asked for, or all; the reference is always one of them.

    Raises:
        ValueError: a variant that there is none of.
    """
    for name in only:
        one_of(VARIANTS, "only")(name)
    return {name: row for name, row in VARIANTS.items() if not only or name in (*only, "none")}


def gain_sweeps(
    variants: Mapping[str, TrainedVariant], pair: Pair, place: Place, *, seeds: int
) -> tuple[VariantSweep, ...]:
    """One sweep for each teacher that any of the variants has, resolved.

    Args:
        variants: by name; see `chosen`.
        pair: teacher, student and schedule.
        place: where the data and the records are.
        seeds: of every variant: 0, 1, ...

    Raises:
        ValueError: bad input, in one line that names the field; a value that a run refuses before torch is imported.
    """
    recipe = _recipe_of(pair)
    for variant in variants.values():
        change(recipe.student, variant.changes(recipe.teacher, None))

    from kdam_ray.service.sweep import resolve

    student = resolve(recipe.student, place, weights=pair.weights)
    peer = resolve(change(recipe.student, {"seed": TEACHER_SEED}), place, teacher=True, weights=pair.weights)
    strong = resolve(recipe.teacher, place, teacher=True, weights=pair.teacher_weights)
    found, title = [], sweep_name("gain", smoke=pair.smoke)
    teachers: tuple[tuple[TeacherName, Run, str], ...] = (("strong", strong, title), ("peer", peer, f"{title}_peer"))
    for teacher_name, teacher, name in teachers:
        mine = [key for key, variant in variants.items() if variant.teacher == teacher_name]
        labels = tuple((key, seed) for seed in range(seeds) for key in mine)
        cells = tuple(variants[key].changes(teacher, teacher.run_id) | {"seed": seed} for key, seed in labels)
        if cells:
            sweep = Sweep(name=name, smoke=pair.smoke, base=student, cells=cells)
            found.append(VariantSweep(teacher_name, teacher, sweep, labels))
    return tuple(found)


def _recipe_of(pair: Pair) -> Recipe:
    """The pair's recipe; on procedural data long enough to have converged, unless epochs are given."""
    if pair.dataset in DATASETS and DATASETS[pair.dataset].is_procedural and not pair.smoke:
        lengths = {"epochs": pair.epochs or EPOCHS, "teacher_epochs": pair.teacher_epochs or TEACHER_EPOCHS}
        pair = pair.model_copy(update=lengths)
    return pair.recipe()
