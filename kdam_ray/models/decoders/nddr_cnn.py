"""NDDR-CNN (Gao et al., CVPR 2019): each task's features are a learnt reduction of all tasks', pixel by pixel.

    out_i = ReLU(BN(W_i [x_1; ...; x_T])),    W_i: 1x1 convolution from T * C to C channels, no bias

W_i starts as 0.9 times the task's own features plus 0.1 times each other's, and batch norm has the published momentum
of 0.05. As with Cross-Stitch, the paper fuses T networks after every stage, whereas the row of Table 1 (4.59 M
parameters, 18.68 GMACs for HRNet18) is one such layer per task in the head of one shared backbone. Ours: 4.588 M and
18.68 G.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.models.decoders.mt_baseline import MTBaseline

OWN, OTHERS = 0.9, 0.1  # weight of the same channel at the start, of the task's own features and of each other's
MOMENTUM = 0.05  # of batch norm's running statistics


class NDDR(nn.Module):
    """All W_i as one 1x1 convolution with T * C outputs, task after task; batch norm, ReLU.

    Args:
        channels: C, of each task's features.
        tasks: T, number of tasks.
    """

    def __init__(self, channels: int, tasks: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(tasks * channels, tasks * channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(tasks * channels, momentum=MOMENTUM)
        shares = torch.full((tasks, tasks), OTHERS).fill_diagonal_(OWN)
        with torch.no_grad():
            self.conv.weight.copy_(torch.kron(shares, torch.eye(channels))[:, :, None, None])

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """T maps [B, C, h, w] -> T maps [B, C, h, w]."""
        return F.relu(self.norm(self.conv(torch.cat(list(features), dim=1))), inplace=True).chunk(len(features), dim=1)


# the multi-task baseline with an NDDR layer before the logits; one task alone is the baseline itself
NDDRCNN = partial(MTBaseline, unit=NDDR)
