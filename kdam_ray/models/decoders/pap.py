"""PAP-Net, pattern-affinitive propagation (Zhang et al., CVPR 2019): tasks share which pixels belong together.

With F_t the features of task t at 1/8 of the image, N pixels, E_t their 1x1 projection (batch norm) to hidden / 4
channels:

    affinity          M_t = softmax over j of <E_t(i), E_t(j)>                         [N, N]
    across tasks      A_t = sum over s of a_ts M_s,  a_t = softmax of learnt weights   [N, N]
    within a task     D_0 = F_t,  D_(r+1) = A_t D_r,  r < 9;   D = b_t D_9 + (1 - b_t) F_t,  b_t learnt
    reconstruction    G_t = F_t at 1/4 + enlarged norm(W D);   logits = W G_t

and initial predictions from F_t, with the task's own loss.

The paper gives the equations; the numbers behind Table 1 (ATRC's reimplementation inside its head) are published
nowhere. Inferred from 4.54 M and 53.04 G, the baseline plus 0.02 M and 35.5 G, which so few parameters can only spend
in products of N x N matrices: the scale (at 1/4, N^2 is 224 million, 0.9 GB a task and image), the width of E, the nine
steps and the reconstruction at 1/8. Ours too: the weights across tasks sum to 1, so that A_t stays an average and no
number of steps makes features grow; the reconstruction adds to F_t, so that detail at 1/4 survives. The paper's further
loss, which compares affinities with those of the labels, is left out: here a decoder gives predictions, and losses
compare these with labels.

Cost, HRNet18 on NYUD-v2, 425 x 560: 4.542 M parameters (4.54 printed) and 53.05 GMACs (53.04), of which 35.38 are
products. The backward keeps M_t and A_t: 0.46 GB an image in float32, 3.7 of the 6.7 GB that a step of batch 8 keeps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdam_ray.models.heads import TaskFeatures, TaskLogits, conv_norm, join_levels, resize
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone

STEPS = 9  # of diffusion
NARROWER = 4  # hidden channels per channel of an affinity's embedding


class PAP(nn.Module):
    """Four maps to logits per task, through affinities mixed across tasks.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `hidden` is the channels of each task's features.
    """

    def __init__(self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone) -> None:
        super().__init__()
        hidden = row.hidden
        self.features = TaskFeatures(sum(channels), len(tasks), hidden)
        self.initial = TaskLogits(hidden, tasks)
        self.embed = nn.ModuleList(conv_norm(hidden, max(1, hidden // NARROWER), relu=False) for _ in tasks)
        self.across = AcrossTasks(len(tasks))
        self.within = nn.Parameter(torch.full((len(tasks),), 0.5))  # b
        self.reconstruct = nn.ModuleList(conv_norm(hidden, hidden, relu=False) for _ in tasks)
        self.logits = TaskLogits(hidden, tasks)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, channels, h, w]}; while training also `aux/initial/<task>`."""
        features = self.features(join_levels(maps))
        coarse = [resize(x, maps[1].shape[-2:]) for x in features]
        affinities = self.across([affinity(embed(x)) for embed, x in zip(self.embed, coarse, strict=True)])
        diffused = [
            x + share * (diffuse(x, a) - x) for x, a, share in zip(coarse, affinities, self.within, strict=True)
        ]
        added = [resize(layer(x), maps[0].shape[-2:]) for layer, x in zip(self.reconstruct, diffused, strict=True)]
        logits = self.logits([x + y for x, y in zip(features, added, strict=True)])
        return logits | (
            {f"aux/initial/{name}": x for name, x in self.initial(features).items()} if self.training else {}
        )


class AcrossTasks(nn.Module):
    """Each task's average of all tasks' affinities, equal shares when training begins; nothing to learn for one."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(tasks, tasks)) if tasks > 1 else None

    def forward(self, affinities: Sequence[Tensor]) -> list[Tensor]:
        """T maps [B, N, N], rows sum to 1 -> T such maps."""
        if self.weights is None:
            return list(affinities)
        return [self._average(shares, affinities) for shares in self.weights.softmax(1)]

    @staticmethod
    def _average(shares: Tensor, affinities: Sequence[Tensor]) -> Tensor:
        """Term by term: a stack of the T maps would be a copy of the largest tensors there are."""
        total = shares[0] * affinities[0]
        for share, matrix in zip(shares[1:], affinities[1:], strict=True):
            total = torch.addcmul(total, share, matrix)
        return total


def affinity(embedded: Tensor) -> Tensor:
    """How much each pixel belongs with each other: [B, C, h, w] -> [B, h w, h w], rows sum to 1."""
    flat = embedded.flatten(2)
    return (flat.mT @ flat).softmax(2)


def diffuse(x: Tensor, matrix: Tensor) -> Tensor:
    """`x` after STEPS products with one affinity.

    Args:
        x: [B, C, h, w].
        matrix: [B, h w, h w], rows sum to 1.

    Returns:
        [B, C, h, w]; every value between the least and the greatest of its channel.
    """
    matrix = matrix.to(x.dtype)  # once, not in each product: under autocast each would keep a copy of its own
    pixels = x.flatten(2).mT
    for _ in range(STEPS):
        pixels = matrix @ pixels
    return pixels.mT.unflatten(2, x.shape[-2:])
