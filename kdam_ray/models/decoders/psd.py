"""PSD, pattern-structure diffusion (Zhou et al., CVPR 2020): tasks exchange the structure of small windows.

With F_t the features of task t at 1/4, E_t = norm(W ReLU(norm(W F_t))) of hidden / 2 = d channels, V_ts = ReLU(norm(W
F_t)) and j a pixel of the 5 x 5 window around pixel i:

    structure     S_t(i, j) = softmax over j of <E_t(i), E_t(j)> / sqrt(d)
    matching      m_ts(i) = cosine of S_t(i, .) and S_s(i, .)
    within t      Y_tt = S_t^3 V_tt: each product widens the reach by a window
    from s to t   Y_ts(i) = m_ts(i) sum over j of S_s(i, j) V_ts(j): the other's structure, where it is like the own
    together      G_t = ReLU(norm(W [F_t, Y_t1, ..., Y_tT]));   logits = W G_t

and initial predictions from F_t, with the task's own loss.

The paper's abstract gives the idea: local structures as small graphs, recursive aggregation within a task, transfer
between tasks at the same position by the matching degree. The numbers behind Table 1 (ATRC's reimplementation inside
its head) are published nowhere. Inferred from 4.71 M and 21.10 G, the baseline plus 0.19 M and 3.5 G: parameters that
all work at 1/4 would take 2.9 of the 3.5 G, so nothing is at a coarser scale and products take some 0.6 G; the widths,
the window, the three steps, one step between tasks, a value of its own for each pair, the cosine and the joint
projection are choices that meet both.

Cost, HRNet18 on NYUD-v2, 425 x 560: 4.711 M parameters (4.71 printed) and 21.14 GMACs (21.10), of which 0.65 are
products.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.models.heads import TaskFeatures, TaskLogits, conv_norm, join_levels
from kdam_ray.models.local import local_aggregate, local_similarity, window_softmax
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone

WINDOW = 5  # pixels on the side of a structure
STEPS = 3  # of aggregation within a task


class PSD(nn.Module):
    """Four maps to logits per task, through the structures of windows.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `hidden` is the channels of each task's features.
    """

    def __init__(self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone) -> None:
        super().__init__()
        hidden, count = row.hidden, len(tasks)
        self.features = TaskFeatures(sum(channels), count, hidden)
        self.initial = TaskLogits(hidden, tasks)
        self.embed = nn.ModuleList(
            nn.Sequential(conv_norm(hidden, hidden), conv_norm(hidden, max(1, hidden // 2), relu=False)) for _ in tasks
        )
        self.values = nn.ModuleList(conv_norm(hidden, count * hidden) for _ in tasks)  # of t: V_t1, ..., V_tT
        self.together = nn.ModuleList(conv_norm((1 + count) * hidden, hidden) for _ in tasks)
        self.logits = TaskLogits(hidden, tasks)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, channels, h, w]}; while training also `aux/initial/<task>`."""
        features = self.features(join_levels(maps))
        structures = [structure(embed(x)) for embed, x in zip(self.embed, features, strict=True)]
        values = [layer(x).chunk(len(features), dim=1) for layer, x in zip(self.values, features, strict=True)]
        diffused = diffuse(structures, values)
        joined = [torch.cat((x, *parts), 1) for x, parts in zip(features, diffused, strict=True)]
        logits = self.logits([layer(x) for layer, x in zip(self.together, joined, strict=True)])
        return logits | (
            {f"aux/initial/{name}": x for name, x in self.initial(features).items()} if self.training else {}
        )


def structure(embedded: Tensor) -> Tensor:
    """How each pixel is connected in its window: [B, d, h, w] -> [B, WINDOW^2, h, w], >= 0, sums over dim 1 are 1."""
    scores = local_similarity(embedded, embedded, WINDOW) * embedded.shape[1] ** -0.5
    return window_softmax(scores, WINDOW)


def diffuse(structures: Sequence[Tensor], values: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """Y of every target and source.

    Args:
        structures: T maps [B, k^2, h, w].
        values: [target][source] -> [B, C, h, w].

    Returns:
        [target][source] -> [B, C, h, w].
    """
    # the first step of a structure serves all targets at once: [source][target]
    steps = [
        local_aggregate(own, torch.cat(column, 1), WINDOW)
        for own, column in zip(structures, zip(*values, strict=True), strict=True)
    ]
    first = [step.chunk(len(structures), dim=1) for step in steps]
    units = [F.normalize(x, dim=1) for x in structures]  # float32, also where the values are not
    return [
        [
            within(first[t][t], structures[t])
            if s == t
            else first[s][t] * matching(units[t], units[s]).to(first[s][t].dtype)
            for s in range(len(structures))
        ]
        for t in range(len(structures))
    ]


def within(x: Tensor, own: Tensor) -> Tensor:
    """The remaining steps of a task's own diffusion: [B, C, h, w] after one step -> the same after STEPS."""
    for _ in range(STEPS - 1):
        x = local_aggregate(own, x, WINDOW)
    return x


def matching(one: Tensor, other: Tensor) -> Tensor:
    """Likeness of two tasks' structures at each pixel: [B, k^2, h, w] twice, of unit length -> [B, 1, h, w], 0 to 1."""
    return (one * other).sum(1, keepdim=True)
