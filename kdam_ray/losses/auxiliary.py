"""Losses of auxiliary predictions over labels cut into classes, for decoders that read regions off them (ATRC).

Semantic classes, body parts and saliency are classes already. Depth becomes 40 bins, logarithmic between 0.7 and 10 m;
normals the nearest of 40 directions; edges two classes. ATRC ships its 40 directions as a data file; ours are spread
evenly over the hemisphere that faces the camera (z > 0), the only one that a visible surface's normal lies in.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdam_ray.losses.divergences import at_least_float32
from kdam_ray.losses.supervised import balanced_cross_entropy, cross_entropy, valid_mask
from kdam_ray.tasks import DEPTH_BINS, DEPTH_RANGE, IGNORE, NORMAL_DIRECTIONS, Kind, Task


def directions(count: int = NORMAL_DIRECTIONS) -> Tensor:
    """Unit vectors spread evenly over the hemisphere z > 0 by the golden angle: [count, 3], float32."""
    index = torch.arange(count, dtype=torch.float64)
    z = (index + 0.5) / count
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z.square()).sqrt()
    return torch.stack((radius * angle.cos(), radius * angle.sin(), z), 1).float()


def label_to_classes(kind: Kind, label: Tensor) -> Tensor:
    """A label as class indices.

    Args:
        kind: of the task.
        label: as `supervised.valid_mask` takes it.

    Returns:
        int64 [B, H, W], 255 where the label is not valid.
    """
    if kind in ("classes", "saliency"):
        return label.long()
    if kind == "edge":
        return label[:, 0].long()
    if kind == "depth":
        near, far = (math.log(bound) for bound in DEPTH_RANGE)
        position = (label[:, 0].float().clamp_min(1e-6).log() - near) / (far - near) * DEPTH_BINS
        classes = position.floor().clamp(0, DEPTH_BINS - 1).long()
    else:
        classes = F.conv2d(label.float(), directions().to(label.device)[:, :, None, None]).argmax(1)
    return classes.masked_fill(~valid_mask(kind, label)[:, 0], IGNORE)


def classified_sums(
    task: Task, logits: Tensor, label: Tensor, valid: Tensor, *, edge_positive_weight: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits over the classes that a label was cut into.

    Saliency is balanced as in the task's own loss; edges weigh w and the rest 1 - w.

    Args:
        task: whose label.
        logits: [B, task.label_classes, H, W] at the label's size, any float type; float32 arithmetic.
        label: as `supervised.valid_mask` takes it.
        valid: that mask.
        edge_positive_weight: w.

    Returns:
        [] each, the sum over this rank's valid pixels, nats, and their number.
    """
    logits, classes = at_least_float32(logits), label_to_classes(task.kind, label)
    loss = balanced_cross_entropy(logits, classes) if task.kind == "saliency" else cross_entropy(logits, classes)
    if task.kind == "edge":
        loss = loss * torch.where(classes == 1, edge_positive_weight, 1 - edge_positive_weight).unsqueeze(1)
    return loss.masked_fill(~valid, 0).sum(), valid.sum()
