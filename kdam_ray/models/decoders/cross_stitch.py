"""Cross-Stitch networks (Misra et al., CVPR 2016): every task reads a learnt combination of all tasks' features.

    out_i = sum over j of a_ij * x_j,    a_ij: one number per channel

The paper puts such units between the stages of T whole networks, trained one by one beforehand. The row of Table 1
costs as much as the multi-task baseline (4.52 M parameters, 17.59 GMACs for HRNet18; T backbones alone are over 15 M),
so it can only be one unit in the head of one shared backbone, on the task features at 1/4 resolution, and all is
trained together from the start. Ours: 4.517 M and 17.59 G; the additions of weighted maps are in neither count.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from kdam_ray.models.decoders.mt_baseline import MTBaseline

OWN, OTHERS = 0.9, 0.1  # a_ij at the start, for j = i and for the rest


class CrossStitchUnit(nn.Module):
    """out_i = sum over j of a_ij * x_j; `weight` [T, T, C, 1, 1] holds a_ij.

    Args:
        channels: of each task's features.
        tasks: number of tasks.
    """

    def __init__(self, channels: int, tasks: int) -> None:
        super().__init__()
        shares = torch.full((tasks, tasks), OTHERS).fill_diagonal_(OWN)
        self.weight = nn.Parameter(shares[:, :, None, None, None].repeat(1, 1, channels, 1, 1))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """T maps [B, C, h, w] -> T maps [B, C, h, w]."""
        # products of maps and numbers, not one einsum: that would copy all maps so that channels come first
        terms = ([a * x for a, x in zip(row, features, strict=True)] for row in self.weight)
        return [sum(rest, start=own) for own, *rest in terms]


# the multi-task baseline with a cross-stitch unit before the logits; one task alone is the baseline itself
CrossStitch = partial(MTBaseline, unit=CrossStitchUnit)
