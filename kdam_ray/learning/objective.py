"""The training objective: Eq. 8 (supervised), Eq. 9 (plus distillation), for one member and one batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kdam_ray.config import Distill, Run
from kdam_ray.losses import classified_sums, dist, kdam, plain_kd, supervised_sums, uncertainty_weighted, valid_mask
from kdam_ray.losses.divergences import at_least_float32
from kdam_ray.models.heads import resize
from kdam_ray.ranks import global_means
from kdam_ray.tasks import DATASETS, Dataset, Task

# what a decoder may give while it trains, beside its predictions: first part of the key -> loss (see `models.decoders`)
AUXILIARY: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"aux": supervised_sums, "classified": classified_sums}
PENALTY = "penalty"
LABEL_LOGIT = 10.0  # of what a label says, where labels take the teacher's place


@dataclass(frozen=True)
class Shared:
    """What all members of a cohort see of one batch; computed once.

    Attributes:
        image: [B, 3, H, W], normalised.
        labels: per task name, at the image's size (see `data.source`).
        teacher: per task name [B, C, h, w] logits of the teacher at its head's resolution; None if nobody is taught.
        masks: per task name [B, 1, H, W], True where the label is valid.
    """

    image: Tensor
    labels: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor] | None
    masks: Mapping[str, Tensor]


def share(batch: Mapping[str, Tensor], dataset: Dataset, teacher: Mapping[str, Tensor] | None) -> Shared:
    """One batch as the whole cohort sees it."""
    labels = {task.name: batch[task.name] for task in dataset.tasks if task.name in batch}
    masks = {name: valid_mask(dataset.task(name).kind, label) for name, label in labels.items()}
    return Shared(batch["image"], labels, teacher, masks)


def objective(
    run: Run, student: Mapping[str, Tensor], shared: Shared, log_variances: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """alpha * L_mt + beta * L_KD (Eq. 9).

    Args:
        run: which tasks, which distillation.
        student: per task name [B, C, h, w] logits at the head's resolution; and a decoder's auxiliary outputs.
        shared: labels, masks and teacher of the batch.
        log_variances: per task name [], with `task_weights="uncertainty"`; replaces lambda_n of Eq. 8.

    Returns:
        The loss [] with gradient, and its terms [] without: "loss", "semseg/loss", "semseg/kd_inter", ... A sum over
        all ranks' pixels, equal on every rank; DDP's average of its gradients is the gradient of one process.
    """
    dataset = DATASETS[run.dataset]
    total = shared.image.new_zeros(())
    terms: dict[str, Tensor] = {}
    for name, supervised in _supervised(run, dataset, student, shared).items():
        task = dataset.task(name)
        terms |= {f"{name}/{role}": value.detach() for role, value in supervised.items()}
        loss = supervised["loss"] + supervised["aux"] if "aux" in supervised else supervised["loss"]
        weight = task.weight * run.task_factors.get(name, 1.0)
        weighted = weight * loss if log_variances is None else uncertainty_weighted(task, loss, log_variances[name])
        total = total + run.distill.alpha * weighted
        for term, value in distillation(run.distill, task, student[name], shared).items():
            total = total + run.distill.beta * value
            terms[f"{name}/{term}"] = value.detach()
    for key, value in student.items():
        if key.startswith(f"{PENALTY}/"):
            total = total + value
            terms[key] = value.detach()
    terms["loss"] = total.detach()
    return total, terms


def _supervised(
    run: Run, dataset: Dataset, student: Mapping[str, Tensor], shared: Shared
) -> dict[str, dict[str, Tensor]]:
    """Per task {"loss": L_n, and where there are auxiliary predictions of the task "aux": their sum}.

    Both weigh lambda_n, as in their papers. All means are taken in one exchange between ranks: each is a wait.
    """
    size = (shared.image.shape[-2], shared.image.shape[-1])
    places, sums = [], []
    for name in run.tasks:
        for key, logits in student.items():
            first, last = key.split("/")[0], key.split("/")[-1]
            if last == name and first != PENALTY:
                measure = AUXILIARY.get(first, supervised_sums)
                resized, label, valid = resize(at_least_float32(logits), size), shared.labels[name], shared.masks[name]
                weight = dataset.edge_positive_weight
                places.append((name, "loss" if key == name else "aux"))
                sums.append(measure(dataset.task(name), resized, label, valid, edge_positive_weight=weight))
    losses: dict[str, dict[str, Tensor]] = {name: {} for name in run.tasks}
    for (name, role), value in zip(places, global_means(sums), strict=True):
        losses[name][role] = losses[name][role] + value if role in losses[name] else value
    return losses


def _logits_to_distil(distill: Distill, task: Task, shared: Shared, size: tuple[int, int]) -> Tensor:
    """[B, C, h, w] of the teacher, or, at the same size, of the labels."""
    if distill.source == "labels":
        return label_logits(task, shared.labels[task.name], size)
    assert shared.teacher is not None, "a Run that distils names its teacher; the cohort brings it"
    return shared.teacher[task.name]


def label_logits(task: Task, label: Tensor, size: tuple[int, int]) -> Tensor:
    """What a teacher without any knowledge of its own would say: the label, surely.

    Args:
        task: whose label.
        label: see `losses.valid_mask`; what is not valid gives any logits, which the masks leave out.
        size: (height, width) of the student's logits; labels are picked there, not averaged.

    Returns:
        [B, C, *size]: classes and saliency 10 for the class and 0 for the others, edges 10 and -10; depth in metres and
        normals as they are.
    """
    if task.kind in ("depth", "normals"):
        return F.interpolate(label, size=size, mode="nearest-exact")
    picked = F.interpolate(
        (label if task.kind == "edge" else label.unsqueeze(1)).float(), size=size, mode="nearest-exact"
    )
    if task.kind == "edge":
        return torch.where(picked == 1, LABEL_LOGIT, -LABEL_LOGIT)
    return LABEL_LOGIT * (picked == torch.arange(task.channels, device=label.device).reshape(-1, 1, 1))


def distillation(distill: Distill, task: Task, student: Tensor, shared: Shared) -> dict[str, Tensor]:
    """The terms of L_KD for one task (Eq. 2, or Eq. 5 and 6), {} where nothing is distilled.

    Args:
        distill: method, temperature, reading.
        task: whose logits.
        student: [B, C, h, w] logits.
        shared: teacher and masks; pixels without a valid label are left out, padding among them.

    Returns:
        {"kd": []} or {"kd_inter": [], "kd_intra": []}, unweighted.
    """
    reading = distill.reading[task.kind]
    if distill.method == "none" or reading == "skip":
        return {}
    mask = shared.masks[task.name]
    size = (
        (mask.shape[-2], mask.shape[-1]) if distill.kd_resolution == "image" else (student.shape[-2], student.shape[-1])
    )
    teacher = _logits_to_distil(distill, task, shared, (student.shape[-2], student.shape[-1]))
    if distill.kd_resolution == "image":
        student, teacher = resize(student, size), resize(teacher, size)
    if mask.shape[-2:] != size:
        mask = F.interpolate(mask.to(torch.uint8), size=size, mode="nearest-exact").bool()
    if distill.method == "plain_kd":
        return {"kd": plain_kd(student, teacher, temperature=distill.temperature, reading=reading, mask=mask)}
    if distill.method == "dist":
        inter, intra = dist(student, teacher, temperature=distill.temperature, reading=reading, mask=mask)
    elif distill.method == "kdam":
        inter, intra = kdam(
            student, teacher, temperature=distill.temperature, reading=reading, mask=mask, literal=distill.literal
        )
    else:
        raise ValueError(f"distill.method: {distill.method!r} has no loss")
    return ({"kd_inter": inter} if distill.inter else {}) | ({"kd_intra": intra} if distill.intra else {})
