"""Parts that decoders are made of: joining the four levels, features per task, logits per task.

Legend of shapes: B images, C channels, T tasks, h x w: size of level 0, a quarter of the image rounded up.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.tasks import Kind, Task

LOGIT_STD = 0.01  # of the initial weights of the last layer, as in ATRC's head


def join_levels(maps: Sequence[Tensor]) -> Tensor:
    """All levels at the size of the finest, side by side.

    Args:
        maps: [B, C_k, h_k, w_k], finest first.

    Returns:
        [B, sum of C_k, h, w], bilinear (half-pixel centres), channels-last in memory if the maps are.
    """
    size = maps[0].shape[-2:]
    return torch.cat([maps[0], *(resize(x, size) for x in maps[1:])], dim=1)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """`x` at another height and width, bilinear with half-pixel centres.

    Args:
        x: [B, C, h, w]; channels-last in memory (as networks here return it) is several times faster on CPU.
        size: (height, width).

    Returns:
        [B, C, height, width], in x's memory layout.
    """
    resized = F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
    if resized.requires_grad and x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last):
        # what comes back is often not channels-last (a slice of `cat`'s gradient, the gradient of a cross-entropy), for
        # which the backward of interpolate takes a path up to 10 times slower
        resized.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return resized


DECODINGS: dict[Kind, Callable[[Tensor], Tensor]] = {
    "classes": lambda logits: logits.max(1).indices,  # three times as fast as `argmax` across channels
    "saliency": lambda logits: logits.float().softmax(1)[:, 1],
    "depth": lambda logits: logits,
    "normals": lambda logits: logits,
    "edge": lambda logits: (logits[:, 0].float().sigmoid() * 255).byte(),  # byte() cuts
}


def decode(kind: Kind, logits: Tensor) -> Tensor:
    """A prediction in its final form: the one that is scored, drawn and written to files.

    Args:
        kind: of the task.
        logits: [B, C, H, W], raw outputs of the head.

    Returns:
        classes int64 [B, H, W]; saliency float32 [B, H, W], the probability of salient; depth [B, 1, H, W], metres, and
        normals [B, 3, H, W], of any length, as they are; edge uint8 [B, H, W], floor(255 p).
    """
    return DECODINGS[kind](logits)


class TaskFeatures(nn.Module):
    """Per task: 3x3 convolution without bias, batch norm, ReLU.

    All tasks read the same map, so their convolutions are one with T * hidden outputs, task after task: the same
    numbers and the same cost as T modules, in a quarter of the calls (1.24x on a whole training step of the smallest
    student).

    Args:
        channels: of the joined levels.
        tasks: number of tasks.
        hidden: channels of each task.
    """

    def __init__(self, channels: int, tasks: int, hidden: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.conv = nn.Conv2d(channels, tasks * hidden, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(tasks * hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """[B, C, h, w] -> T maps [B, hidden, h, w]."""
        return F.relu(self.norm(self.conv(x)), inplace=True).chunk(self.tasks, dim=1)


class TaskLogits(nn.ModuleDict):
    """Per task: 1x1 convolution with bias to the task's channels; weights start at N(0, 0.01), biases at 0.

    Args:
        hidden: channels of each task's features.
        tasks: in the order of the features.
    """

    def __init__(self, hidden: int, tasks: Sequence[Task]) -> None:
        super().__init__()
        for task in tasks:
            conv = self[task.name] = nn.Conv2d(hidden, task.channels, 1)
            nn.init.normal_(conv.weight, std=LOGIT_STD)
            nn.init.zeros_(cast(Tensor, conv.bias))

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """T maps [B, hidden, h, w] -> {task: [B, task's channels, h, w]}."""
        return {name: conv(x) for (name, conv), x in zip(self.items(), features, strict=True)}


def conv_norm(inputs: int, outputs: int, *, relu: bool = True, affine: bool = True) -> nn.Sequential:
    """1x1 convolution without bias, batch norm (`affine`: with a gain and a bias to learn), ReLU if `relu`."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs, affine=affine)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


def conv_block(inputs: int, outputs: int, *, dilation: int = 1) -> nn.Sequential:
    """3x3 convolution without bias, batch norm, ReLU; the size stays."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class OwnFeatures(nn.ModuleList):
    """Per task, each from a map of its own: 3x3 convolution without bias, batch norm, ReLU; as `TaskFeatures`.

    Args:
        channels: of each map.
        tasks: number of tasks.
        hidden: channels of each task's features.
    """

    def __init__(self, channels: int, tasks: int, hidden: int) -> None:
        super().__init__(conv_block(channels, hidden) for _ in range(tasks))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """T maps [B, channels, h, w] -> T maps [B, hidden, h, w]."""
        return [features(x) for features, x in zip(self, maps, strict=True)]
