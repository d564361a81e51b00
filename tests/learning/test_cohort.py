"""Laws 1, 2, 6 and 7 of training: python -m pytest tests/learning/test_cohort.py"""

import math

import pytest
import torch
from torch import nn

from kdam_ray import zoo
from kdam_ray.config import Optim
from kdam_ray.learning import EpochReport, train_cohort
from kdam_ray.learning import checkpoint as checkpoints
from kdam_ray.learning import member as member_module


def finish(runs, sources, teacher, folder, **options):
    """Train to the end; per run_id the checkpoint's weights and every epoch's metrics."""
    metrics = {}
    for report in train_cohort(runs, **sources, teacher=teacher, **options):
        if isinstance(report, EpochReport):
            metrics.setdefault(report.run.run_id, []).append(report.metrics)
            if not report.failed:
                report.save(folder / report.run.run_id)
    weights = {run.run_id: checkpoints.read(folder / run.run_id)[0] for run in runs if (folder / run.run_id).exists()}
    return weights, metrics


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def dropping(monkeypatch):
    """Students that draw random numbers in training, so that a shared random state would show."""
    build = member_module.network_of

    def build_with_dropout(*args, **options):
        network = build(*args, **options)
        network.register_forward_pre_hook(
            lambda _, inputs: (nn.functional.dropout(inputs[0], 0.2, training=network.training),)
        )
        return network

    monkeypatch.setattr(member_module, "network_of", build_with_dropout)


@pytest.mark.slow
@pytest.mark.usefixtures("dropping")
@pytest.mark.parametrize("method", ["none", "plain_kd", "dist", "kdam"])
def test_a_member_is_its_solo_run_bit_for_bit(method, make_run, sources, teacher, tmp_path):
    run = make_run(method, seed=3)
    others = [
        make_run("none", seed=1),
        make_run("kdam", beta=4.0),
        make_run("plain_kd", beta=2.0, epochs=1, tasks=("semseg",)),
    ]
    alone, alone_metrics = finish([run], sources, teacher, tmp_path / "alone")
    beside, beside_metrics = finish([*others[:2], run, others[2]], sources, teacher, tmp_path / "beside")
    assert same(alone[run.run_id], beside[run.run_id])
    assert alone_metrics[run.run_id] == beside_metrics[run.run_id]


@pytest.mark.slow
def test_students_with_other_decoders_share_a_cohort_under_one_teacher(make_run, sources, teacher, tmp_path):
    """Law 1 for networks that have nothing in common but the batch and the teacher's logits."""
    runs = [make_run("kdam", decoder=decoder, epochs=1) for decoder in zoo.DECODERS]
    together, metrics = finish(runs, sources, teacher, tmp_path / "together")
    assert len(together) == len(zoo.DECODERS)
    for run in runs:
        alone, alone_metrics = finish([run], sources, teacher, tmp_path / "alone")
        assert same(alone[run.run_id], together[run.run_id]), run.decoder
        assert alone_metrics[run.run_id] == metrics[run.run_id]


@pytest.mark.slow
@pytest.mark.parametrize("decoders", [("mt_baseline", "mt_baseline"), ("context_search", "nddr_cnn")])
@pytest.mark.usefixtures("dropping")
def test_interrupted_and_resumed_equals_uninterrupted(decoders, make_run, sources, teacher, tmp_path):
    runs = [
        make_run("kdam", epochs=3, decoder=decoders[0]),
        make_run(
            "none", epochs=3, decoder=decoders[1], optim=Optim(lr=0.01, mixing_lr=3.0), task_weights="uncertainty"
        ),
    ]
    whole, _ = finish(runs, sources, teacher, tmp_path / "whole")
    stop = train_cohort(runs, **sources, teacher=teacher)
    for report in stop:
        if isinstance(report, EpochReport) and report.epoch <= (2 if report.run == runs[0] else 1):
            report.save(tmp_path / "cut" / report.run.run_id)
        if isinstance(report, EpochReport) and report.epoch == 2 and report.run == runs[1]:
            break  # the first member has a checkpoint of epoch 2, the second only of epoch 1
    stop.close()
    resume = {run.run_id: tmp_path / "cut" / run.run_id for run in runs}
    resumed, _ = finish(runs, sources, teacher, tmp_path / "resumed", resume=resume)
    assert all(same(whole[run.run_id], resumed[run.run_id]) for run in runs)


def test_the_teacher_is_bit_identical_after_training_and_stays_in_eval_mode(make_run, sources, teacher, tmp_path):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train()  # what a training loop or a wrapper might do to it
    finish([make_run("kdam"), make_run("dist")], sources, teacher, tmp_path)
    assert same(before, teacher.state_dict())
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.slow
def test_a_member_that_diverges_leaves_and_the_others_do_not_notice(make_run, sources, teacher, tmp_path):
    healthy = make_run("kdam")
    doomed = make_run("kdam", optim=Optim(lr=1e30, momentum=0.0))
    reports = [r for r in train_cohort([doomed, healthy], **sources, teacher=teacher) if isinstance(r, EpochReport)]
    failures = [report for report in reports if report.run == doomed]
    assert len(failures) == 1, "it is reported once, then it is gone"
    assert "became" in failures[0].failed or "not finite" in failures[0].failed
    assert failures[0].metrics == {}
    alone, _ = finish([healthy], sources, teacher, tmp_path / "alone")
    beside, _ = finish([doomed, healthy], sources, teacher, tmp_path / "beside")
    assert same(alone[healthy.run_id], beside[healthy.run_id])


def test_a_pruned_member_leaves_and_the_others_do_not_notice(make_run, sources, teacher, tmp_path):
    kept, dropped = make_run("kdam"), make_run("plain_kd")
    epochs = []
    for report in train_cohort([dropped, kept], **sources, teacher=teacher):
        if isinstance(report, EpochReport):
            epochs.append((report.run.distill.method, report.epoch, report.finished))
            if report.run == dropped:
                report.prune()
            else:
                report.save(tmp_path / "beside")
    assert epochs == [("plain_kd", 1, False), ("kdam", 1, False), ("kdam", 2, True)]
    alone, _ = finish([kept], sources, teacher, tmp_path / "alone")
    assert same(alone[kept.run_id], checkpoints.read(tmp_path / "beside")[0])


def test_training_learns_and_reports_every_term(make_run, sources, teacher):
    run = make_run("kdam", epochs=6)
    reports = [r for r in train_cohort([run], **sources, teacher=teacher) if isinstance(r, EpochReport)]
    assert reports[-1].metrics["train/semseg/loss"] < reports[0].metrics["train/semseg/loss"]
    expected = {f"train/{task}/{term}" for task in run.tasks for term in ("loss", "kd_inter", "kd_intra")} | {
        "train/loss"
    }
    expected |= {"val/semseg/mIoU", "val/depth/rmse", "val/normals/mErr", "val/edge/odsF"}
    assert expected <= reports[-1].metrics.keys()
    assert all(math.isfinite(value) for value in reports[-1].metrics.values())
    assert [report.finished for report in reports] == [False] * 5 + [True]


def test_boundaries_are_only_looked_at_before_the_last_epoch_and_never_mixed_up(make_run, sources, teacher):
    """Members of other lengths in one cohort: each has its full metric at its own end."""
    runs = [make_run("none", epochs=1), make_run("none", epochs=2)]
    names = {}
    for report in train_cohort(runs, **sources, teacher=teacher):
        if isinstance(report, EpochReport):
            names[report.run.epochs, report.epoch] = {name for name in report.metrics if name.startswith("val/edge/")}
    full, look = ({f"val/edge/{name}{suffix}" for name in ("odsF", "oisF", "AP")} for suffix in ("", "_25"))
    assert names == {(1, 1): full, (2, 1): look, (2, 2): full}


def test_evaluation_can_be_thinned_but_never_left_out_at_the_end(make_run, sources, teacher):
    run = make_run("none", epochs=3)
    reports = [
        r for r in train_cohort([run], **sources, teacher=teacher, evaluate_every=2) if isinstance(r, EpochReport)
    ]
    assert ["val/semseg/mIoU" in report.metrics for report in reports] == [False, True, True]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {"data_seed": 1}, "upstream"),
        ({}, {}, "same run"),
        ({"method": "kdam"}, {"method": "kdam", "teacher_run": "ba9876543210"}, "different teachers"),
    ],
)
def test_members_that_cannot_share_are_refused(first, second, message, make_run, sources, teacher):
    with pytest.raises(ValueError, match=message):
        next(train_cohort([make_run(**first), make_run(**second)], **sources, teacher=teacher))


def test_a_missing_teacher_is_refused(make_run, sources):
    with pytest.raises(ValueError, match="teacher"):
        next(train_cohort([make_run("kdam")], **sources, teacher=None))


def test_a_members_draws_are_its_own_and_go_on_from_step_to_step(make_run):
    members = [member_module.Member(make_run(seed=seed), device="cpu") for seed in (1, 2)]
    before = torch.get_rng_state()
    draws = []
    for _ in range(2):
        for member in members:
            with member._own_randomness():
                draws.append(torch.rand(()).item())
    assert len(set(draws)) == 4
    assert torch.equal(before, torch.get_rng_state())
    members[0].begin_epoch(1)
    members[1].begin_epoch(1)
    assert not torch.equal(members[0]._random_state[0], members[1]._random_state[0])
