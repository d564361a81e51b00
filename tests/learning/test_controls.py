"""Controls that separate knowledge from extra loss: labels in the teacher's place, heavier tasks.

python -m pytest tests/learning/test_controls.py
"""

import math

import pytest
import tiny
import torch
from pydantic import ValidationError

from kdam_ray.config import Distill, change
from kdam_ray.learning import EpochReport, train_cohort
from kdam_ray.learning.objective import Shared, distillation, label_logits, objective, share
from kdam_ray.losses import valid_mask
from kdam_ray.tasks import DATASETS

ROOMS = DATASETS["rooms_pascal"]
BASE = tiny.make_run("none")


def labels_of(task, size=(8, 12)):
    draw = torch.Generator().manual_seed(0)
    if task.kind in ("classes", "saliency"):
        return torch.randint(0, task.channels, (2, *size), generator=draw)
    if task.kind == "edge":
        return torch.randint(0, 2, (2, 1, *size), generator=draw).float()
    if task.kind == "depth":
        return 1 + torch.rand(2, 1, *size, generator=draw)
    return torch.nn.functional.normalize(torch.randn(2, 3, *size, generator=draw), dim=1)


@pytest.mark.parametrize("name", ["semseg", "human_parts", "sal"])
def test_the_class_is_sure_and_picked_where_the_logits_are(name):
    task = ROOMS.task(name)
    label = labels_of(task)
    logits = label_logits(task, label, (2, 3))
    assert logits.shape == (2, task.channels, 2, 3)
    assert torch.equal(logits.argmax(1), label[:, 2::4, 2::4])  # the pixel nearest to each centre
    assert logits.softmax(1).amax(1).min() > 0.999


def test_edges_depth_and_normals():
    edge = labels_of(ROOMS.task("edge"))
    assert torch.equal(label_logits(ROOMS.task("edge"), edge, (8, 12)).sigmoid() > 0.5, edge == 1)
    depth = DATASETS["rooms"].task("depth")
    assert torch.equal(label_logits(depth, labels_of(depth), (8, 12)), labels_of(depth))
    assert label_logits(ROOMS.task("normals"), labels_of(ROOMS.task("normals")), (2, 3)).shape == (2, 3, 2, 3)


@pytest.mark.parametrize("method", ["plain_kd", "dist", "kdam"])
@pytest.mark.parametrize("name", ["semseg", "sal", "normals", "edge"])
def test_a_student_that_says_the_labels_has_nothing_to_learn_from_them(name, method):
    task = ROOMS.task(name)
    label = labels_of(task)
    invalid = torch.rand(2, 8, 12, generator=torch.Generator().manual_seed(1)) < 0.2
    label = {
        "normals": label.masked_fill(invalid.unsqueeze(1), 0),
        "edge": label.masked_fill(invalid.unsqueeze(1), 255),
    }.get(name, label.masked_fill(invalid, 255) if label.dim() == 3 else label)
    shared = Shared(torch.zeros(2, 3, 8, 12), {name: label}, None, {name: valid_mask(task.kind, label)})
    terms = distillation(Distill(method=method, source="labels"), task, label_logits(task, label, (8, 12)), shared)
    other = distillation(Distill(method=method, source="labels"), task, torch.randn(2, task.channels, 8, 12), shared)
    for term, value in terms.items():
        assert value.item() == pytest.approx(0, abs=1e-5)
        assert other[term] > 1e-3


def test_labels_need_no_teacher_and_make_another_run(make_run, sources, tmp_path):
    run = change(make_run("kdam", epochs=2), {"teacher": None, "teacher_run": None, "distill.source": "labels"})
    reports = [report for report in train_cohort([run], **sources) if isinstance(report, EpochReport)]
    assert reports[-1].metrics["train/semseg/kd_inter"] > 0
    assert run.run_id != make_run("kdam", epochs=2).run_id
    with pytest.raises(ValidationError, match=r"teacher is set but distill\.source is 'labels'"):
        change(make_run("kdam"), {"distill.source": "labels"})


def test_a_factor_makes_one_task_heavier(make_run, sources):
    run = make_run("none")
    heavy = change(run, {"task_factors": {"semseg": 3.0}})
    batch = {"image": torch.zeros(2, 3, 8, 12), **{task.name: labels_of(task) for task in DATASETS["rooms"].tasks}}
    shared = share(batch, DATASETS["rooms"], None)
    logits = {task.name: torch.randn(2, task.channels, 2, 3).double() for task in DATASETS["rooms"].tasks}
    (plain, terms), (heavier, same) = objective(run, logits, shared), objective(heavy, logits, shared)
    assert terms["semseg/loss"] == same["semseg/loss"]
    assert (heavier - plain).item() == pytest.approx(2 * terms["semseg/loss"].item(), rel=1e-9)
    assert run.run_id != heavy.run_id
    with pytest.raises(ValidationError, match="task_factors: 'sal' is not one of the tasks"):
        change(run, {"task_factors": {"sal": 2.0}})


def test_auxiliary_losses_weigh_as_their_task_does_and_learnt_weights_count_once():
    run = change(BASE, {"tasks": ("semseg",)})
    task = DATASETS["rooms"].task("semseg")
    shared = share({"image": torch.zeros(2, 3, 8, 12), "semseg": labels_of(task)}, DATASETS["rooms"], None)
    final, initial = (torch.randn(2, task.channels, *size).double() for size in ((2, 3), (4, 6)))
    total, terms = objective(
        run, {"semseg": final, "aux/initial/semseg": initial, "penalty/x": torch.tensor(0.5)}, shared
    )
    assert total.item() == pytest.approx(terms["semseg/loss"].item() + terms["semseg/aux"].item() + 0.5, rel=1e-9)
    learnt, _ = objective(run, {"semseg": final, "aux/initial/semseg": initial}, shared, {"semseg": torch.tensor(0.4)})
    expected = (terms["semseg/loss"] + terms["semseg/aux"]).item() * math.exp(-0.4) + 0.2
    assert learnt.item() == pytest.approx(expected, rel=1e-6)  # the learnt weight is a float32
