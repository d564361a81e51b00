"""Recipes: the paper's schedules where its networks are, small ones elsewhere, nothing changed that was not asked for.

python -m pytest tests/test_recipes.py
"""

import pytest

from kdam_ray.config import change
from kdam_ray.recipes import PAPER_SGD, RECIPES, Pair, recipe
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES


def test_every_dataset_has_a_recipe_with_its_own_tasks_and_size():
    assert set(RECIPES) == set(DATASETS)
    for name, row in RECIPES.items():
        for run in (row.teacher, row.student):
            assert run.dataset == name
            assert run.tasks == tuple(task.name for task in DATASETS[name].tasks)
            assert run.image_size == DATASETS[name].image_size
            assert run.distill.method == "none"


def test_nyud_is_trained_as_the_paper_says():
    """Swin-L teaches Swin-T, SGD 0.001, momentum 0.9, weight decay 5e-4, poly 0.9, batch 8, 40k steps."""
    row = recipe("nyud")
    assert (row.teacher.student, row.student.student) == ("swin_l", "swin_t")
    for run in (row.teacher, row.student):
        assert run.optim == PAPER_SGD
        assert (run.optim.lr, run.optim.momentum, run.optim.weight_decay, run.optim.power, run.optim.warmup) == (
            1e-3,
            0.9,
            5e-4,
            0.9,
            0,
        )
        assert run.steps_per_epoch * run.epochs == 39_600
        assert run.image_size == (425, 560)


def test_pascal_is_trained_for_as_many_steps():
    row = recipe("pascal")
    assert (row.teacher.student, row.student.student) == ("swin_l", "swin_t")
    for run in (row.teacher, row.student):
        assert run.optim == PAPER_SGD
        assert run.steps_per_epoch * run.epochs == 39_936
        assert run.image_size == (512, 512)


def test_hrnet_brings_its_published_learning_rate_where_the_schedule_is_the_papers():
    assert Pair(dataset="nyud", student="hrnet18").recipe().student.optim.lr == 1e-2
    assert Pair(dataset="pascal", student="hrnet18").recipe().student.optim.lr == 5e-3
    assert Pair(dataset="rooms", student="hrnet18").recipe().student.optim == recipe("rooms").student.optim


@pytest.mark.parametrize("dataset", RECIPES)
def test_smoke_is_tiny_and_never_the_same_run(dataset):
    full, smoke = recipe(dataset), recipe(dataset, smoke=True)
    for real, tiny in ((full.teacher, smoke.teacher), (full.student, smoke.student)):
        assert tiny.train_images <= 16
        assert tiny.epochs == 1
        assert tiny.pretrained == "none"
        assert BACKBONES[tiny.student].options  # a small member
        assert tiny.run_id != real.run_id


def test_only_what_is_asked_for_changes():
    plain = recipe("rooms")
    asked = Pair(epochs=7, batch=4).recipe()
    assert asked.student == change(plain.student, {"epochs": 7, "batch": 4})
    assert asked.teacher == change(plain.teacher, {"batch": 4})
    assert Pair().recipe().student == plain.student


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"dataset: 'coco' is not one of: rooms, rooms_pascal, nyud, pascal"):
        Pair(dataset="coco").recipe()
    with pytest.raises(ValueError, match=r"teacher: 'vit' is not one of: hrnet18"):
        Pair(teacher="vit").recipe()


def test_other_fields_are_set_by_name_for_the_student_and_for_the_teacher():
    given = ("optim.lr=0.003", "image_size=[64,96]", "precision=bf16", 'task_factors={"semseg":2}')
    row, plain = Pair(set=given, teacher_set=("optim.lr=1e-4",)).recipe(), recipe("rooms")
    assert (row.student.optim.lr, row.student.image_size, row.student.precision) == (0.003, (64, 96), "bf16")
    assert row.student.task_factors == {"semseg": 2}
    assert row.teacher == change(plain.teacher, {"optim.lr": 1e-4})
    assert (
        Pair(dataset="nyud", student="hrnet18", set=("optim.lr=0.5",)).recipe().student.optim.lr == 0.5
    )  # over the published one


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("optim.lr", "is not FIELD=VALUE"), ("optim.lr=", "is not FIELD=VALUE"),
        ("student=swin_t", "a field among optim.*, image_size"),
        ("optim.rate=1", "no such field"), ("optim.lr=fast", "optim.lr"), ("precision=fp8", "precision"),
    ],
)  # fmt: skip
def test_what_cannot_be_set_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Pair(set=(given,)).recipe()
