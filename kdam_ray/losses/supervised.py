"""Supervised losses L_n of Eq. 8, as the multi-task papers that the tables compare with train them (ATRC, DeMT).

One loss per kind of task, each the mean over the valid pixels of all ranks. Labels as the data sources give them: 255
is ignored in class and edge maps, depth 0 and the zero normal are "not measured".
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdam_ray.losses.divergences import at_least_float32
from kdam_ray.ranks import all_sum, global_mean
from kdam_ray.tasks import IGNORE, Kind, Task

# under the root of a normal's length: its gradient is then at most 1e4 at a zero vector, where it does not exist
NORMAL_EPS = 1e-8
REGRESSIONS: tuple[Kind, ...] = ("depth", "normals")


def valid_mask(kind: Kind, label: Tensor) -> Tensor:
    """Pixels with a usable label.

    Args:
        kind: of the task.
        label: classes, saliency int [B, H, W]; edge, depth [B, 1, H, W]; normals [B, 3, H, W].

    Returns:
        bool [B, 1, H, W]. Depth counts where > 0, a normal where it is not the zero vector, everything else where !=
        255.
    """
    if kind == "depth":
        return label > 0
    if kind == "normals":
        return (label != 0).any(1, keepdim=True)
    return (label if kind == "edge" else label.unsqueeze(1)) != IGNORE


def supervised_loss(task: Task, logits: Tensor, label: Tensor, *, edge_positive_weight: float) -> Tensor:
    """L_n of Eq. 8, unweighted: the mean over the valid pixels of all ranks.

    Args:
        task: as for `supervised_sums`.
        logits: likewise.
        label: likewise.
        edge_positive_weight: likewise.

    Returns:
        [], equal on every rank; nats (classes, saliency, edge), metres (depth) or sum of three absolute differences
        (normals). Zero, with a gradient of zero, where no pixel is valid.

    Raises:
        ValueError: logits and label are not of one size.
    """
    return global_mean(
        *supervised_sums(task, logits, label, valid_mask(task.kind, label), edge_positive_weight=edge_positive_weight)
    )


def supervised_sums(
    task: Task, logits: Tensor, label: Tensor, valid: Tensor, *, edge_positive_weight: float
) -> tuple[Tensor, Tensor]:
    """What L_n of Eq. 8 is the quotient of, on this rank.

    Args:
        task: whose loss.
        logits: [B, C, H, W] at the label's size, any float type; float32 arithmetic.
        label: see `valid_mask`.
        valid: the label's `valid_mask`.
        edge_positive_weight: w of the edge loss, in [0, 1].

    Returns:
        [] each, the sum over this rank's valid pixels and their number.

    Raises:
        ValueError: logits and label are not of one size.
    """
    if logits.shape[-2:] != label.shape[-2:] or logits.shape[0] != label.shape[0]:
        raise ValueError(
            f"{task.name}: logits {list(logits.shape)} must have the label's batch and size, {list(label.shape)}"
        )
    logits = at_least_float32(logits)
    losses = {
        "classes": lambda: cross_entropy(logits, label),
        "saliency": lambda: balanced_cross_entropy(logits, label),
        "depth": lambda: absolute_error(logits, label),
        "normals": lambda: normal_error(logits, label),
        "edge": lambda: edge_cross_entropy(logits, label, positive_weight=edge_positive_weight),
    }
    per_pixel = losses[task.kind]()
    return per_pixel.masked_fill(~valid, 0).sum(), valid.sum()


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Softmax cross-entropy per pixel: logits [B, C, H, W], label int [B, H, W] -> [B, 1, H, W], 0 where ignored."""
    return F.cross_entropy(logits, label.long(), ignore_index=IGNORE, reduction="none").unsqueeze(1)


def balanced_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of two classes, each weighted by the other's share of the valid pixels of all ranks' batch.

    Args:
        logits: [B, 2, H, W].
        label: int [B, H, W], 1 salient, 0 not, 255 ignored.

    Returns:
        [B, 1, H, W], 0 where ignored.
    """
    counts = all_sum(torch.stack([(label == 0).sum(), (label == 1).sum()]).to(logits.dtype))
    of_negatives, of_positives = counts.flip(0) / counts.sum().clamp_min(1)
    weight = torch.where(label == 1, of_positives, of_negatives)
    return cross_entropy(logits, label) * weight.unsqueeze(1)


def absolute_error(prediction: Tensor, label: Tensor) -> Tensor:
    """L1 per pixel, metres: [B, 1, H, W] both -> [B, 1, H, W]."""
    return (prediction - label).abs()


def normal_error(prediction: Tensor, label: Tensor) -> Tensor:
    """L1 between the prediction's unit vector and the label, summed over x, y, z: [B, 3, H, W] both -> [B, 1, H, W]."""
    unit = prediction * (prediction.square().sum(1, keepdim=True) + NORMAL_EPS).rsqrt()
    return (unit - label).abs().sum(1, keepdim=True)


def edge_cross_entropy(logits: Tensor, label: Tensor, *, positive_weight: float) -> Tensor:
    """Binary cross-entropy per pixel, edges weighing w and the rest 1 - w; the weights do not enter the mean's count.

    Args:
        logits: [B, 1, H, W].
        label: [B, 1, H, W], 1 edge, 0 not, 255 ignored (its value here means nothing).
        positive_weight: w.

    Returns:
        [B, 1, H, W].
    """
    is_edge = label == 1
    weight = torch.where(is_edge, positive_weight, 1 - positive_weight).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, is_edge.to(logits.dtype), weight=weight, reduction="none")


def uncertainty_weighted(task: Task, loss: Tensor, log_variance: Tensor) -> Tensor:
    """Homoscedastic uncertainty in place of lambda_n of Eq. 8 (Kendall et al., CVPR 2018).

    Regression: L / (2 s^2) + ln s; classification: L / s^2 + ln s; with log_variance = ln s^2, so that s stays
    positive.

    Args:
        task: depth and normals are regressions, the rest classifications.
        loss: [], L_n.
        log_variance: [], learnt.

    Returns:
        [], may be negative.
    """
    factor = 0.5 if task.kind in REGRESSIONS else 1.0
    return factor * torch.exp(-log_variance) * loss + log_variance / 2
