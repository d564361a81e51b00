"""DeMT (Xu, Yang and Zhang, AAAI 2023): deformable mixers, one a task, then attention across tasks.

With X the joined levels projected to C = `dim` channels (linear layer, LayerNorm) and, for each task t, its own
weights:

    Y_t = norm(GELU(W X))                             channel-aware mixing: 1x1 convolution
    Z_t = Y_t + norm(GELU(D(Y_t)))                    spatial-aware mixing: deformable 1x1 convolution
    F   = LN(W MHA(Z, Z, Z))                          task interaction: Z_1, ..., Z_T of one pixel are T tokens
    O_t = Z_t + LN(W MHA_t(Z_t, F, F))                task query: one token of the pixel asks the T fused ones
    logits_t = W ReLU(norm(conv3x3(O_t)))

D samples each channel c of its input at a place of its own, (y + dy_c, x + dx_c), bilinear and zero outside, then mixes
channels linearly. A 3x3 convolution that starts at zero gives 9 dy and 9 dx, to which the pixel's coordinates are
added; a second one of two groups spreads them to C dy and C dx.

Attention is across the tasks of one pixel. The published code passes (image, token, channel) to a module that reads
(token, image, channel), so its tokens attend to the same token of the *other images of the batch*: a result depends on
the company, and current torch refuses the task query. With one image, and the torch of its day, what it computes in the
task query is attention over the T tasks at each pixel; that is taken here for both. All T * 14,980 tokens attending to
each other, the other way to read the paper, would alone be 1.8 TMACs where 100.7 G are printed. With one task both
vanish.

Differs further from the published code, all at the same cost: coordinates run from -1 to 1 over the map of any size,
not from 1 to its pixels, for which untrained offsets are some 30 pixels, most of them beyond the border, and grow with
the image; the groups of the second convolution are dy and dx (there: each first half and second half of the channels,
so that one half never hears of columns, the other never of rows); the mixing of channels comes first, as in the paper.

Cost on NYUD-v2, 425 x 560: Swin-T 32.07 M parameters (32.07 printed), Swin-S 53.39 (53.03), Swin-B 91.97 (90.9), Swin-L
201.6 (201.64), HRNet18 6.75 (4.76: a narrower variant that was not published). Swin-T 127.8 GMACs and 1.0 of products,
100.7 printed: a task query projects keys and values of all T tokens of a pixel; counted as if there were one (-23.6),
and without the deformable weights, which no counter of layers sees (-3.9), it is 100.3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.models.attention import MultiHeadAttention
from kdam_ray.models.heads import OwnFeatures, TaskLogits, join_levels
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone

HEADS = 4
NEIGHBOURS = 9  # dy, and dx, between the two convolutions that give offsets
NARROWING = 8  # joined channels to those before the logits


class DeMT(nn.Module):
    """Joined levels, a deformable mixer for each task, attention across the tasks at each pixel, a small head each.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `dim` is the channels of a token.
    """

    def __init__(self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone) -> None:
        super().__init__()
        hidden = max(1, sum(channels) // NARROWING)
        self.project = linear_norm(sum(channels), row.dim)
        self.mixers = nn.ModuleList(DeformableMixer(row.dim) for _ in tasks)
        self.interaction = TaskInteraction(row.dim, len(tasks)) if len(tasks) > 1 else nn.Identity()
        self.features = OwnFeatures(row.dim, len(tasks), hidden)
        self.logits = TaskLogits(hidden, tasks)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, task's channels, h, w]}."""
        x = self.project(join_levels(maps).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        tokens = torch.stack([mixer(x).permute(0, 2, 3, 1) for mixer in self.mixers], dim=3)
        tokens = self.interaction(tokens.flatten(0, 2)).unflatten(0, tokens.shape[:3])
        return self.logits(self.features([task.permute(0, 3, 1, 2) for task in tokens.unbind(3)]))


def linear_norm(inputs: int, outputs: int) -> nn.Sequential:
    """Linear layer and LayerNorm, over the last axis."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs))


class DeformableMixer(nn.Module):
    """Channels mixed at each pixel, then pixels mixed for each channel: Z of the module's equations.

    Args:
        dim: channels, in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix_channels = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.GELU(), nn.BatchNorm2d(dim))
        self.mix_pixels = nn.Sequential(DeformableConv(dim), nn.GELU(), nn.BatchNorm2d(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        x = self.mix_channels(x)
        return x + self.mix_pixels(x)


class DeformableConv(nn.Module):
    """1x1 convolution of which each input channel is read at a place of its own: D of the module's equations.

    Args:
        dim: channels, in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(dim, 2 * NEIGHBOURS, 3, padding=1)
        self.spread = nn.Conv2d(2 * NEIGHBOURS, 2 * dim, 3, padding=1, groups=2)
        self.weight = nn.Conv2d(dim, dim, 1)
        nn.init.zeros_(self.offsets.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        dy, dx = self.spread(self.offsets(x) + coordinates(x)).chunk(2, dim=1)
        return self.weight(sample_moved(x, dy, dx))


def coordinates(x: Tensor) -> Tensor:
    """Where each pixel of a map is: its row, `NEIGHBOURS` times, then its column as often.

    Args:
        x: [B, C, h, w].

    Returns:
        [2 * NEIGHBOURS, h, w] in (-1, 1), float32 at least: centres of pixels, the map's borders being -1 and 1.
    """
    height, width = x.shape[-2:]
    rows, columns = (
        (2 * torch.arange(size, device=x.device, dtype=_wide(x)) + 1) / size - 1 for size in (height, width)
    )
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return grid.repeat_interleave(NEIGHBOURS, dim=0)


def sample_moved(x: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """Each channel read at a place of its own, out[b, c, i, j] = x[b, c, i + dy[b, c, i, j], j + dx[b, c, i, j]].

    Args:
        x: [B, C, h, w].
        dy: [B, C, h, w], pixels, downwards.
        dx: [B, C, h, w], pixels, to the right.

    Returns:
        [B, C, h, w], float32 at least, channels-last in memory; bilinear, zero beyond the border. On CUDA the gradient
        of x is summed in no fixed order, as that of bilinear resizing is.
    """
    height, width = x.shape[-2:]
    wide = _wide(x)  # a bfloat16 cannot tell column 139 from 139.4
    rows = torch.arange(height, device=x.device, dtype=wide).unsqueeze(1) + dy.to(wide)
    columns = torch.arange(width, device=x.device, dtype=wide) + dx.to(wide)
    places = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    planes = x.to(wide).reshape(-1, 1, height, width)
    moved = F.grid_sample(planes, places.flatten(0, 1), mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.view(x.shape).contiguous(memory_format=torch.channels_last)


def _wide(x: Tensor) -> torch.dtype:
    """float64 for float64, float32 for all else."""
    return torch.promote_types(x.dtype, torch.float32)


class TaskInteraction(nn.Module):
    """Attention across the tasks of a pixel: F and O of the module's equations.

    Args:
        dim: channels of a token.
        tasks: number of tasks.
    """

    def __init__(self, dim: int, tasks: int) -> None:
        super().__init__()
        self.fusion = MultiHeadAttention(dim, HEADS)
        self.fused = linear_norm(dim, dim)
        self.queries = nn.ModuleList(MultiHeadAttention(dim, HEADS) for _ in range(tasks))
        self.answers = nn.ModuleList(linear_norm(dim, dim) for _ in range(tasks))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of N pixels [N, T, C] -> [N, T, C]; pixels do not see each other."""
        fused = self.fused(self.fusion(tokens, tokens, tokens))
        asked = tokens.split(1, dim=1)
        answers = [
            answer(query(token, fused, fused))
            for token, query, answer in zip(asked, self.queries, self.answers, strict=True)
        ]
        return tokens + torch.cat(answers, dim=1)
