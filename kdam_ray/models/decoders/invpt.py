"""InvPT, inverted pyramid multi-task transformer (Ye and Xu, ECCV 2022).

All pixels of all tasks attend to each other, while the map grows.

    start     F_t = two 3x3 convolutions of the last level, P_t = W F_t a first prediction, X_t = W [F_t, P_t]
    stage i   Q = W D(X), K = W A(X), V = W A(X) over the tokens of all tasks; D: depthwise 3x3 of stride 2, batch norm,
              A: average over 2, 4, 8 pixels, so that each task has as many keys at every stage
              S_i = Q K^T / sqrt(C);  from the second stage on S_i <- W [S_i, up(S_i-1)], W over the heads of both
              X <- X + up(W softmax(S_i) V);  X <- X + MLP(X)
    between   X_t <- ReLU(norm(conv(ReLU(norm(conv(up(X_t))))))) + skip, the skip from the backbone's level of that size
    end       Y_t = ReLU(norm(conv(sum over stages of up(W LN(X)_t) at 1/4)));  logits = W Y_t;  LN over all channels,
              W from the second stage on

The three stages work at 1/32, 1/16 and 1/8 of the image, on width, width / 2 and width / 4 channels (576, 288, 144:
twice `row.dim` and an eighth more for the prediction that is mixed in). P_t is an auxiliary output with the task's own
loss.

Scores are maps [B, heads, T Nq, T Nk]: at 425 x 560 a task has Nq = 63, 252 and 945 queries (7x9, 14x18, 27x35) and
Nk = 63 keys at every stage; four tasks, batch 8: 61 MB at the largest.

Only the version on ViT-L was published, whose levels all have one size; the table's InvPT-T was not. What we decided:
- Sizes are the levels' own, so that the pyramid fits odd images; the published code doubles.
- A stage's skip is a 3x3 convolution of the level of its size. The finest level has no stage; the last skip reads it
  too (halved): as published the last skip is the shallowest level's, and no parameter of a backbone may go unused.
- Left out, for they are never used or change nothing: a skip for the first stage, a projection of it, a fusion of
  scores where there are none before, biases of the fusion and before a batch norm, and stochastic depth: the declared
  0.15 is spread over the blocks of a stage from 0 upwards, and a stage has one.
- Batch norm is plain (synchronised by whoever trains on several devices), and the width is a multiple of 8, for small
  `dim`.

Cost on NYUD-v2 at 425 x 560, with no print to compare: 94.99 M parameters and 239.85 GMACs with Swin-T, 341.70 M and
407.72 G with Swin-L (1.2 and 2.8 G more are products of activations); 179 G are the last 3x3 convolutions. A batch of 8
keeps 10.8 and 19.4 GiB for the backward pass.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.models.heads import TaskLogits, conv_block, resize
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone

POOLS = (2, 4, 8)  # pixels on the side of one key, of each stage
HEADS = 2
MLP_RATIO = 4
INIT_STD = 0.02  # of linear layers and of the last 3x3 convolution


class InvPT(nn.Module):
    """Four maps to logits per task, through three stages of joint attention.

    Tasks travel side by side in the channels, [B, T C, h, w], task after task.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `dim` is half the channels of the first features.
    """

    def __init__(self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone) -> None:
        super().__init__()
        count, width = len(tasks), token_width(row.dim)
        widths = (width, width // 2, width // 4)
        self.initial = InitialDecoder(channels[3], 2 * row.dim, width, tasks)
        self.up = nn.ModuleList(UpEmbed(widths[i - 1], widths[i], count) for i in (1, 2))
        self.skips = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1)
            for inputs, outputs in ((channels[2], widths[1]), (sum(channels[:2]), widths[2]))
        )
        self.stages = nn.ModuleList(Stage(widths[i], count, POOLS[i], first=i == 0) for i in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(count * w) for w in widths)
        self.widen = nn.ModuleList(PerTask(count, partial(nn.Conv2d, w, width, 1)) for w in widths[1:])
        self.project = PerTask(count, lambda: conv_block(width, width))
        self.logits = TaskLogits(width, tasks)
        self.project.apply(_initialise)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, task's channels, h, w]}.

        While training also {"aux/initial/<task>": [B, task's channels, h_3, w_3]}.
        """
        x, initial = self.initial(maps[3])
        size = maps[0].shape[-2:]
        skips = (maps[2], torch.cat([resize(maps[0], maps[1].shape[-2:]), maps[1]], dim=1))
        x, scores = self.stages[0](x, None)
        total = resize(_normed(self.norms[0], x, 1), size)
        for i, level in enumerate(skips):
            x = self.up[i](x, self.skips[i](level))
            x, scores = self.stages[i + 1](x, scores)
            total = total + resize(self.widen[i](_normed(self.norms[i + 1], x, 1)), size)
        outputs = self.logits(self.project(total).chunk(len(self.logits), dim=1))
        return outputs | ({f"aux/initial/{name}": value for name, value in initial.items()} if self.training else {})


def token_width(dim: int) -> int:
    """Channels of a task's token at the first stage: 2 dim and an eighth of that, up to a multiple of 8 (256 -> 576).

    A quarter of it must be divisible by the heads.
    """
    return 8 * ceil(dim * 9 / 32)


class PerTask(nn.ModuleList):
    """One module a task; [B, T C, h, w] -> [B, T C', h', w'], task after task."""

    def __init__(self, tasks: int, build: Callable[[], nn.Module]) -> None:
        super().__init__(build() for _ in range(tasks))

    def forward(self, x: Tensor) -> Tensor:
        """Each module reads its own share of the channels."""
        return torch.cat([module(part) for module, part in zip(self, x.chunk(len(self), dim=1), strict=True)], dim=1)


class InitialDecoder(nn.Module):
    """Features, a first prediction and both mixed, per task, from the coarsest level.

    Args:
        channels: of that level.
        embed: channels of a task's features.
        width: channels of what goes into the first stage.
        tasks: outputs, in order.
    """

    def __init__(self, channels: int, embed: int, width: int, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(conv_block(channels, channels), conv_block(channels, embed)) for _ in tasks
        )
        self.logits = TaskLogits(embed, tasks)
        self.join = nn.ModuleList(nn.Conv2d(embed + task.channels, width, 1) for task in tasks)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """[B, C, h, w] -> [B, T width, h, w] and {task: [B, task's channels, h, w]}."""
        features = [module(x) for module in self.features]
        predictions = self.logits(features)
        parts = zip(self.join, features, predictions.values(), strict=True)
        return torch.cat(
            [join(torch.cat([feature, logits], dim=1)) for join, feature, logits in parts], dim=1
        ), predictions


class UpEmbed(nn.Module):
    """The step from one stage to the next: enlarge, two 3x3 convolutions (dilation 2) per task, add the backbone's map.

    Args:
        inputs, outputs: channels of a task.
        tasks: number of tasks.
    """

    def __init__(self, inputs: int, outputs: int, tasks: int) -> None:
        super().__init__()
        self.convs = PerTask(
            tasks,
            lambda: nn.Sequential(conv_block(inputs, outputs, dilation=2), conv_block(outputs, outputs, dilation=2)),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """[B, T inputs, h, w] and [B, outputs, h', w'], the same for every task -> [B, T outputs, h', w']."""
        x = self.convs(resize(x, skip.shape[-2:]))
        return x + skip.repeat(1, len(self.convs), 1, 1)


class Stage(nn.Module):
    """One block of joint attention and its MLP; weights are shared by the tasks, but for the depthwise convolutions.

    Args:
        width: C, channels of a task.
        tasks: T.
        pool: pixels on the side of one key.
        first: no scores come in.
    """

    def __init__(self, width: int, tasks: int, pool: int, *, first: bool) -> None:
        super().__init__()
        self.tasks = tasks
        self.norm_attention = nn.LayerNorm(width)
        self.attention = JointAttention(width, tasks, pool, first=first)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width))
        self.apply(_initialise)

    def forward(self, x: Tensor, message: Tensor | None) -> tuple[Tensor, Tensor]:
        """[B, T C, h, w] and the previous stage's scores -> [B, T C, h, w] and this stage's (`JointAttention`)."""
        attended, scores = self.attention(_normed(self.norm_attention, x, self.tasks), message)
        x = x + resize(attended, x.shape[-2:])
        return x + _normed(nn.Sequential(self.norm_mlp, self.mlp), x, self.tasks), scores


class JointAttention(nn.Module):
    """Attention over the tokens of all tasks, whose scores learn from the scores of the stage before.

    Args:
        width: C, channels of a task.
        tasks: T.
        pool: pixels on the side of one key.
        first: no scores come in.
    """

    def __init__(self, width: int, tasks: int, pool: int, *, first: bool) -> None:
        super().__init__()
        self.tasks, self.pool, self.scale = tasks, pool, width**-0.5
        channels = tasks * width
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False), nn.BatchNorm2d(channels)
        )
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.fuse = None if first else nn.Conv2d(2 * HEADS, HEADS, 1, bias=False)

    def forward(self, x: Tensor, message: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attended maps, and the scores as they go into the softmax.

        Args:
            x: [B, T C, h, w].
            message: [B, heads, h'', w'', T, keys], scores of the stage before, on its grid of queries.

        Returns:
            [B, T C, h', w'] with h' = ceil(h / 2), and [B, heads, h', w', T, keys]; keys of all tasks, the same number
            at every stage.
        """
        query, pooled = self.reduce(x), F.avg_pool2d(x, self.pool, self.pool, ceil_mode=True)
        key, value = (self._heads(layer, pooled) for layer in (self.key, self.value))
        batch, (height, width) = len(x), query.shape[-2:]
        scores = self.scale * self._heads(self.query, query) @ key.transpose(-2, -1)
        if self.fuse is not None and message is not None:
            enlarged = enlarge_scores(message, (height, width)).reshape(scores.shape)
            scores = self.fuse(torch.cat([scores, enlarged], dim=1))
        attended = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, height, width, self.tasks, -1)
        return _as_map(self.output(attended)), scores.unflatten(2, (height, width, self.tasks))

    def _heads(self, layer: nn.Module, x: Tensor) -> Tensor:
        """[B, T C, h, w] -> [B, heads, h w T, C / heads]."""
        return layer(_tokens(x, self.tasks)).flatten(1, 3).unflatten(-1, (HEADS, -1)).transpose(1, 2)


def enlarge_scores(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Scores of a coarse grid of queries, at a finer one; every key's scores are one map over the queries.

    Args:
        scores: [B, heads, h, w, T, keys].
        size: (height, width).

    Returns:
        [B, heads, height, width, T, keys], bilinear.
    """
    maps = scores.flatten(4).flatten(0, 1).permute(0, 3, 1, 2)
    return resize(maps, size).permute(0, 2, 3, 1).reshape(*scores.shape[:2], *size, *scores.shape[4:])


def _tokens(x: Tensor, tasks: int) -> Tensor:
    """[B, T C, h, w] -> [B, h, w, T, C], a view."""
    return x.permute(0, 2, 3, 1).unflatten(-1, (tasks, -1))


def _as_map(tokens: Tensor) -> Tensor:
    """[B, h, w, T, C] -> [B, T C, h, w], in channels-last memory if the tokens are dense."""
    return tokens.flatten(-2).permute(0, 3, 1, 2)


def _normed(layer: nn.Module, x: Tensor, tasks: int) -> Tensor:
    """`layer` over the channels of each of so many tasks: [B, T C, h, w] -> the same shape."""
    return _as_map(layer(_tokens(x, tasks)))


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear) or (
        isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.groups == 1
    ):
        nn.init.trunc_normal_(layer.weight, std=INIT_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
