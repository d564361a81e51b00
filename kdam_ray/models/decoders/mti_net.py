"""MTI-Net (Vandenhende et al., ECCV 2020): PAD-Net's distillation at every scale, from coarse to fine.

At each of the four scales, coarsest first:

    x_t = initial module of task t, on [level; p_t of the next coarser scale, enlarged]; supervised through 1x1 logits
    F   = [x_1; ...; x_T];  M = softmax over tasks of f(F), channel by channel             feature propagation module
    p_t = x_t + SE_t(r(M * F))
    o_t = distillation between the x_t of this scale, as `pad_net`

and the prediction of t reads its o_t of all scales, joined at 1/4 resolution. The auxiliary outputs
`aux/<scale>/<task>` (the level's number, 0 finest) are computed while training only; all tasks are auxiliary.

The published code with all four tasks auxiliary has 17.96 M parameters and 22.62 GMACs for HRNet18; the row of Table 1
has 12.56 M and 19.14 G, and no source says what was left out. Ours, 12.596 M (+0.3 %) and 19.15 G (19.17 with the
initial logits, which are not computed once training is over), is as published in its initial modules (two residual
blocks per task and scale) and its final layers (1x1 of the joined channels, batch norm, ReLU, 1x1 logits). It differs
in two parts:

- distillation is the one that fits the same table's PAD-Net row, a 1x1 gate per target instead of a 3x3 gate per pair;
- f is one residual block to T * C / 8 channels and a 1x1 convolution back (published: two blocks, T * C / 4), r one 1x1
  convolution with batch norm and ReLU (published: a residual block).

Other constructions fit as well: benchmarks/results/mti-net-2026-11-23.md. Parameters grow with the square of the
levels' widths: this is a decoder for HRNet, Swin-T becomes 275 M and 339 G with it.

Enlarging goes to the finer level's size rather than by two, so any image size will do. One task alone has neither
propagation module nor distillation: its coarse features reach the finer scale as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.models.decoders.pad_net import Distillation
from kdam_ray.models.heads import TaskLogits, conv_norm, join_levels, resize
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone

BLOCKS = 2  # residual blocks of an initial module
NARROW = 8  # f works on T * C / 8 channels
SQUEEZE = 16  # squeeze-and-excitation works on C / 16 channels


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and the input added before the last ReLU (ResNet's basic block).

    Args:
        inputs: channels of x.
        outputs: channels of the result; where they differ from `inputs`, a 1x1 convolution with batch norm brings x
            there.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity() if inputs == outputs else conv_norm(inputs, outputs, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, h, w], non-negative."""
        return F.relu(self.path(x) + self.shortcut(x))


class SqueezeExcitation(nn.Module):
    """x times a number in (0, 1) for each channel, computed from the channels' means (Hu et al., CVPR 2018).

    No batch norm inside: the means of a small image's batch are too few to normalise.

    Args:
        channels: of x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(channels // SQUEEZE, 1)
        self.squeeze = nn.Linear(channels, narrow, bias=False)
        self.excite = nn.Linear(narrow, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        shares = self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))).sigmoid()
        return x * shares[:, :, None, None]


class FeaturePropagation(nn.Module):
    """p_t = x_t + SE_t(r(M * F)), with F = [x_1; ...; x_T] and M = softmax over tasks of f(F).

    Args:
        channels: C, of each task's features.
        tasks: T, number of tasks.
    """

    def __init__(self, channels: int, tasks: int) -> None:
        super().__init__()
        joined = tasks * channels
        narrow = max(joined // NARROW, 1)
        self.attention = nn.Sequential(ResidualBlock(joined, narrow), nn.Conv2d(narrow, joined, 1))
        self.reduce = conv_norm(joined, channels)
        self.excitations = nn.ModuleList(SqueezeExcitation(channels) for _ in range(tasks))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """T maps [B, C, h, w] -> T maps [B, C, h, w]."""
        joined = torch.cat(list(features), dim=1)
        mask = self.attention(joined).unflatten(1, (len(features), -1)).softmax(dim=1).flatten(1, 2)
        shared = self.reduce(mask * joined)
        return [x + excite(shared) for x, excite in zip(features, self.excitations, strict=True)]


class DistilledScale(nn.Module):
    """What happens at one scale: initial features and logits, distillation, and what is handed to the next finer scale.

    Args:
        channels: C, of the level.
        coarser: channels of the next coarser level; 0 at the coarsest.
        tasks: outputs, in order.
        finest: nothing is handed on.
    """

    def __init__(self, channels: int, coarser: int, tasks: Sequence[Task], *, finest: bool) -> None:
        super().__init__()
        inputs = (channels + coarser, *[channels] * (BLOCKS - 1))
        self.initial = nn.ModuleList(nn.Sequential(*(ResidualBlock(x, channels) for x in inputs)) for _ in tasks)
        self.logits = TaskLogits(channels, tasks)
        several = len(tasks) > 1
        self.distillation = Distillation(channels, len(tasks)) if several else nn.Identity()
        self.propagation = FeaturePropagation(channels, len(tasks)) if several and not finest else nn.Identity()

    def forward(self, level: Tensor, coarse: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """One scale.

        Args:
            level: [B, C, h, w].
            coarse: per task [B, coarser, any h, any w], handed on by the next coarser scale; empty at the coarsest.

        Returns:
            T maps [B, C, h, w] distilled; T maps [B, C, h, w] for the next finer scale; initial logits {task:
            [B, task's channels, h, w]}, empty unless training.
        """
        if coarse:
            arriving = [torch.cat([level, resize(x, level.shape[-2:])], dim=1) for x in coarse]
        else:
            arriving = [level] * len(self.initial)
        features = [module(x) for module, x in zip(self.initial, arriving, strict=True)]
        return self.distillation(features), self.propagation(features), self.logits(features) if self.training else {}


class MTINet(nn.Module):
    """Initial predictions, propagation and distillation at four scales; prediction from all of them.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: nothing of it is used: all widths follow from the levels.
    """

    def __init__(self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone) -> None:
        super().__init__()
        pairs = zip(channels, [*channels[1:], 0], strict=True)
        self.scales = nn.ModuleList(
            DistilledScale(own, coarser, tasks, finest=k == 0) for k, (own, coarser) in enumerate(pairs)
        )
        width = sum(channels)
        self.fuse = nn.ModuleList(conv_norm(width, width) for _ in tasks)
        self.logits = TaskLogits(width, tasks)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, channels, h, w]}; while training also `aux/<scale>/<task>`."""
        auxiliary: dict[str, Tensor] = {}
        distilled: list[list[Tensor]] = []  # finest first
        coarse: list[Tensor] = []
        for k in reversed(range(len(maps))):
            features, coarse, logits = self.scales[k](maps[k], coarse)
            distilled.insert(0, features)
            auxiliary |= {f"aux/{k}/{name}": x for name, x in logits.items()}
        joined = (join_levels(levels) for levels in zip(*distilled, strict=True))
        return self.logits([fuse(x) for fuse, x in zip(self.fuse, joined, strict=True)]) | auxiliary
