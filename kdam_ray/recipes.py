"""Which teacher teaches which student on which dataset, and how each is trained, as a literal table.

Plain data: a job takes a row, changes what its command line asks for, and hands it to the service. The published sizes
follow the training code that the paper builds on (ATRC, DeMT): SGD, momentum 0.9, weight decay 5e-4, poly 0.9, batch 8,
40,000 steps: 400 epochs of 99 on NYUD-v2, 64 of 624 on PASCAL-Context (the paper's 400 epochs there would be 250,000
steps; it does not say for which dataset they hold). The rooms' nets are small members of the same families, sized for
two CPU cores; a Swin as their teacher stayed below its own student from random initialisation, so the teacher is
convolutional there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdam_ray.config import Frozen, Optim, Run, change, one_of
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

PAPER_SGD = Optim(name="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4, power=0.9)
PAPER_HRNET_LR = {"nyud": 1e-2, "pascal": 5e-3}  # of hrnet18, where PAPER_SGD is the recipe's
CONFIRMED, SMOKE_CONFIRMED = 2, 1  # points of a search that get further seeds
SMALL_ADAMW = Optim(name="adamw", weight_decay=0.05, warmup=0.1, clip_norm=10.0)


@dataclass(frozen=True)
class Recipe:
    """Who teaches whom on a dataset, and how both are trained.

    Attributes:
        teacher: the teacher's run.
        student: the student's run, without a teacher.
        smoke: changes to both that make everything end within a minute, networks included.
        trials: runs that a sweep searches beyond its cells.
        confirmed: points that come out first and get further seeds.
    """

    teacher: Run
    student: Run
    smoke: dict[str, Any]
    trials: int
    confirmed: int = CONFIRMED


def _run(dataset: str, student: str, epochs: int, optim: Optim, **changes: Any) -> Run:
    row = DATASETS[dataset]
    values = {
        "dataset": dataset, "image_size": row.image_size, "train_images": row.train_images,
        "val_images": row.val_images, "tasks": tuple(task.name for task in row.tasks), "student": student,
        "epochs": epochs, "optim": optim,
    }  # fmt: skip
    return Run.model_validate(values | changes)


def _small(dataset: str, student: str, epochs: int, lr: float) -> Run:
    return _run(dataset, student, epochs, SMALL_ADAMW.model_copy(update={"lr": lr}))


_TINY = {"train_images": 16, "val_images": 8, "epochs": 1}

RECIPES: dict[str, Recipe] = {
    "rooms": Recipe(
        _small("rooms", "resnet_w16", epochs=10, lr=6e-3), _small("rooms", "swin_w12", epochs=4, lr=5e-3),
        smoke={"image_size": (32, 48), **_TINY}, trials=4,
    ),
    "rooms_pascal": Recipe(
        _small("rooms_pascal", "resnet_w16", epochs=10, lr=6e-3), _small("rooms_pascal", "swin_w12", epochs=3, lr=5e-3),
        smoke={"image_size": (32, 48), **_TINY}, trials=4,
    ),
    "nyud": Recipe(
        _run("nyud", "swin_l", 400, PAPER_SGD, pretrained="imagenet"),
        _run("nyud", "swin_t", 400, PAPER_SGD, pretrained="imagenet"),
        smoke={"image_size": (48, 64), "resize": True, "pretrained": "none", **_TINY}, trials=8,
    ),
    "pascal": Recipe(
        _run("pascal", "swin_l", 64, PAPER_SGD, pretrained="imagenet"),
        _run("pascal", "swin_t", 64, PAPER_SGD, pretrained="imagenet"),
        smoke={"image_size": (48, 64), "resize": True, "pretrained": "none", **_TINY}, trials=8,
    ),
}  # fmt: skip
# searched in log scale: what Table 5 varies, over its range
SEARCHED = {"distill.beta": (0.1, 16.0), "distill.temperature": (0.1, 16.0)}
SEARCHED_ALPHA = {"distill.alpha": (0.25, 4.0)}  # only where asked: no cell of Table 5 leaves alpha 1
# fields of a Run that neither a flag nor a table's row names; those that end in a dot have parts
SETTABLE = ("optim.", "image_size", "resize", "augment", "task_weights", "task_factors", "precision")
SMOKE_NETWORKS = ("resnet_w16", "swin_w12")  # teacher and student, whatever the dataset
SMOKE_TRIALS = 2


def recipe(dataset: str, *, smoke: bool = False) -> Recipe:
    """The dataset's row, its smoke changes applied if asked.

    Raises:
        ValueError: no such dataset; names those there are.
    """
    row = RECIPES[one_of(RECIPES, "dataset")(dataset)]
    if not smoke:
        return row
    small = RECIPES["rooms"]
    teacher, student = (
        change(run, {**row.smoke, "student": network, "optim": optim})
        for run, network, optim in zip(
            (row.teacher, row.student), SMOKE_NETWORKS, (small.teacher.optim, small.student.optim), strict=True
        )
    )
    return Recipe(teacher, student, row.smoke, SMOKE_TRIALS, SMOKE_CONFIRMED)


class Schedule(Frozen):
    """What a command line changes in a recipe, whatever the networks; what is left out stays as the recipe has it.

    Attributes:
        dataset: rooms, rooms_pascal (both procedural), nyud or pascal (both need --root).
        teacher_epochs: passes of the teacher over the training images; left out: 10 on the rooms, 400 on nyud, 64 on
            pascal.
        epochs: passes of the student; left out: 4 on rooms, 3 on rooms_pascal (five tasks), 400 on nyud, 64 on pascal.
        batch: images per step, of both; left out: 8.
        train_images: images of the training split, the first ones; left out: 1200 on the rooms, else the official list.
        val_images: images of the evaluation split; left out: 200 on the rooms, else the official list.
        pretrained: none, or imagenet (timm's weights, downloaded), of both; left out: none on the rooms, else imagenet.
        data_seed: order and augmentation; left out: 0.
        set: FIELD=VALUE, other fields of the students' runs: optim.lr=0.003 optim.weight_decay=0.01 image_size=[64,96]
            precision=bf16 augment=none task_weights=uncertainty task_factors={"semseg":2}; --plan shows the recipe's.
        teacher_set: the same of the teacher's run.
        smoke: a one-minute version: tiny networks and images, and runs of its own.
    """

    dataset: str = "rooms"
    teacher_epochs: int | None = None
    epochs: int | None = None
    batch: int | None = None
    train_images: int | None = None
    val_images: int | None = None
    pretrained: str | None = None
    data_seed: int | None = None
    set: tuple[str, ...] = ()
    teacher_set: tuple[str, ...] = ()
    smoke: bool = False

    def recipe_of(self, teacher: str | None, student: str | None) -> Recipe:
        """The dataset's recipe with the changes and these backbones; None: the recipe's own.

        Raises:
            ValueError: no such dataset or backbone, or a value that is not allowed; names the field.
        """
        row = recipe(self.dataset, smoke=self.smoke)
        both = self.model_dump(include={"batch", "train_images", "val_images", "pretrained", "data_seed"})
        teaching, taught = (
            with_backbone(row.teacher, teacher, "teacher"),
            with_backbone(row.student, student, "student"),
        )
        return replace(
            row,
            teacher=_changed(teaching, both | {"epochs": self.teacher_epochs}, self.teacher_set),
            student=_changed(taught, both | {"epochs": self.epochs}, self.set),
        )


class Pair(Schedule):
    """A recipe and what a command line changes in it, the networks too.

    Attributes:
        teacher: backbone that teaches; left out: resnet_w16 on the rooms and in smoke runs, else swin_l.
        teacher_decoder: multi-task head of the teacher.
        student: backbone that learns; left out: swin_w12 on the rooms and in smoke runs, else swin_t.
        weights: local file (.safetensors, .pth) that the student's backbone starts from instead.
        teacher_weights: the same for the teacher's.
    """

    teacher: str | None = None
    teacher_decoder: str = "mt_baseline"
    student: str | None = None
    weights: str | None = None
    teacher_weights: str | None = None

    def recipe(self) -> Recipe:
        """The dataset's recipe with the changes.

        Raises:
            ValueError: no such dataset or backbone, or a value that is not allowed; names the field.
        """
        row = self.recipe_of(self.teacher, self.student)
        return replace(row, teacher=change(row.teacher, {"decoder": self.teacher_decoder}))


def _changed(run: Run, changes: dict[str, Any], given: Sequence[str]) -> Run:
    return change(
        run, {name: value for name, value in changes.items() if value is not None} | dict(map(setting, given))
    )


def setting(text: str) -> tuple[str, Any]:
    """`optim.lr=0.003` -> ("optim.lr", 0.003); the value is JSON, or else a word.

    Raises:
        ValueError: no FIELD=VALUE, or a field that flags or a table's rows decide.
    """
    field, equals, value = text.partition("=")
    settable = any(field == name or (name.endswith(".") and field.startswith(name)) for name in SETTABLE)
    if not (equals and value and settable):
        raise ValueError(
            f"set: {text!r} is not FIELD=VALUE with a field among "
            f"{', '.join(f'{name}*' if name.endswith('.') else name for name in SETTABLE)}"
        )
    try:
        return field, json.loads(value)
    except json.JSONDecodeError:
        return field, value


def with_backbone(run: Run, backbone: str | None, role: str) -> Run:
    """`run` with another backbone, and that backbone's published learning rate where the recipe is the paper's.

    Args:
        run: the recipe's.
        backbone: row of `zoo.BACKBONES`; None: the recipe's own.
        role: "teacher" or "student", for the message.

    Raises:
        ValueError: no such backbone; names those there are.
    """
    if backbone is None:
        return run
    one_of(BACKBONES, role)(backbone)
    paper_hrnet = backbone == "hrnet18" and run.optim == PAPER_SGD
    return change(run, {"student": backbone, "optim.lr": PAPER_HRNET_LR[run.dataset] if paper_hrnet else run.optim.lr})


def sweep_name(name: str, *, smoke: bool) -> str:
    """The name of a sweep; smoke runs have sweeps of their own."""
    return f"{name}_smoke" if smoke else name


def taught_by(teacher: Run) -> dict[str, Any]:
    """What a student's Run says of its teacher, before that one's inputs are known: the changes to make in it."""
    return {"teacher": teacher.student, "teacher_decoder": teacher.decoder}
