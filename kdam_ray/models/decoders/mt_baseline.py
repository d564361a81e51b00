"""The multi-task baseline head of Tables 1 to 3 (with one task: the single-task baseline).

The paper gives no layers, only parameters and GFLOPs; this head (ATRC's FCN head) reproduces them for HRNet18, Swin-T
and Swin-S to the printed digits of the parameters: see `models.cost`.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from kdam_ray.models.heads import TaskFeatures, TaskLogits, join_levels
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone


class MTBaseline(nn.Module):
    """Levels joined at 1/4 resolution; per task 3x3 convolution, batch norm, ReLU, 1x1 convolution.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `hidden` is the channels between a task's two convolutions.
        unit: (channels, number of tasks) -> what mixes the tasks' features before the logits, in Cross-Stitch and
            NDDR-CNN; one task alone has nothing to mix.
    """

    def __init__(
        self,
        channels: Sequence[int],
        tasks: Sequence[Task],
        row: Backbone,
        *,
        unit: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.features = TaskFeatures(sum(channels), len(tasks), row.hidden)
        self.mix = unit(row.hidden, len(tasks)) if unit and len(tasks) > 1 else nn.Identity()
        self.logits = TaskLogits(row.hidden, tasks)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, task's channels, h, w]}."""
        return self.logits(self.mix(self.features(join_levels(maps))))
