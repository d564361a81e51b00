"""PAD-Net (Xu et al., CVPR 2018): initial predictions of all tasks, then distillation between their features.

    out_t = x_t + sigmoid(G_t x_t) * sum over s != t of W_st x_s        (the paper's module C, attention-guided)

W_st: 3x3 convolution without bias, one for each ordered pair of tasks; G_t: 1x1 convolution, one for each target. The
initial predictions are logits of x_t, supervised by the task's own loss; they are auxiliary outputs, computed while
training only.

The multi-task code that circulates gates with the source's features and one 3x3 convolution for each pair. The paper's
equation gates with the target's, one map for all its sources, and that is also what the row of Table 1 (5.02 M
parameters, 25.18 GMACs for HRNet18) leaves room for: with the pairs' twelve 3x3 convolutions, four 1x1 gates. Both x_t
and the prediction are the multi-task baseline's, in place of the paper's deconvolutions. Ours: 5.022 M and 25.12 G, or
25.17 G with the initial logits, which are not computed once training is over. With one task nothing of it is left.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from kdam_ray.models.heads import TaskFeatures, TaskLogits, join_levels
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone


class Distillation(nn.Module):
    """Messages between tasks: out_t = x_t + sigmoid(G_t x_t) * sum over s != t of W_st x_s.

    `messages[s]` is all W_st of one source: (T - 1) * C outputs, target after target in order, without s itself.

    Args:
        channels: C, of each task's features.
        tasks: T, number of tasks, at least two.
    """

    def __init__(self, channels: int, tasks: int) -> None:
        super().__init__()
        self.messages = nn.ModuleList(
            nn.Conv2d(channels, (tasks - 1) * channels, 3, padding=1, bias=False) for _ in range(tasks)
        )
        self.gates = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(tasks))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """T maps [B, C, h, w] -> T maps [B, C, h, w]."""
        others = len(features) - 1
        sent = [conv(x).chunk(others, dim=1) for conv, x in zip(self.messages, features, strict=True)]
        distilled = []
        for target, (gate, x) in enumerate(zip(self.gates, features, strict=True)):
            first, *rest = (parts[target - (target > source)] for source, parts in enumerate(sent) if source != target)
            distilled.append(x + gate(x).sigmoid() * sum(rest, start=first))
        return distilled


class PADNet(nn.Module):
    """The multi-task baseline with initial predictions and distillation; one task alone is the baseline itself.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `hidden` is the channels of each task's features.
    """

    def __init__(self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone) -> None:
        super().__init__()
        self.features = TaskFeatures(sum(channels), len(tasks), row.hidden)
        self.logits = TaskLogits(row.hidden, tasks)
        several = len(tasks) > 1  # alone, the initial prediction would be the prediction a second time
        self.initial = TaskLogits(row.hidden, tasks if several else ())
        self.distillation = Distillation(row.hidden, len(tasks)) if several else nn.Identity()

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, channels, h, w]}; while training also `aux/initial/<task>`."""
        features = self.features(join_levels(maps))
        outputs = self.logits(self.distillation(features))
        initial = self.initial(features) if self.training and self.initial else {}
        return outputs | {f"aux/initial/{name}": logits for name, logits in initial.items()}
