"""MTFormer (Xu, Zhao et al., ECCV 2022): Swin layers for all tasks, for each task, and across tasks.

    S = Swin(W [levels at 1/8]);   F_t = Swin_t(S);   G_t = Cross_t(F_t, the other F_s);   logits = head_t(G_t)

Every layer has two blocks of attention in windows of 7 x 7, the second's windows shifted by 3. The cross-task layer of
a target t reads the other tasks' features as they are and updates the target's own, x (LN: one norm for all tasks):

    Y_s = W softmax(Q(LN F_s) K(LN F_s)^T / sqrt(d) + bias) V(LN x), s over all tasks, with F_t = x
    x <- x + Y_t + MLP[MLP_t(Y_t), the MLP_s(Y_s)];   x <- x + MLP(LN x)

So what crosses over is where another task looks, not what it sees: queries and keys are the source's, values the
target's. With one task there is no cross-task layer.

Published for two tasks (NYUD-v2) and three (PASCAL-Context). What those two have in common gives the general rule: MLPs
of the cross-task layer are T C wide inside, a source's gives C / (T - 1) channels. What we decided:
- All four levels are joined (the finest halved); published without the finest, whose last layers then never learn.
- Padding to whole windows is masked out of attention; published code attends to it.
- A target's values are projected once, not once for each source: the same numbers.
- Depth has the published depth head, without its last ReLU (a dead pixel would never learn); all other tasks the
  published class head.
- The contrastive loss between the tasks' pooled features is left out: it needs a bank of features of every training
  image. The paper's uncertainty weights are `Run.task_weights="uncertainty"`.

Cost, Swin-S, SemSeg and depth of NYUD-v2: the published construction has 64.03 M parameters, exactly as printed; 3.15 M
of them are patch embeddings that it never calls, and ours, without those, has 60.91 M. Printed are 117.73 GMACs; ours
are 91.34 G at 425 x 560 and 120.86 G at 480 x 640, the size that MTFormer was published for
(`benchmarks/results/mtformer-2026-11-23.md`). A batch of 8 keeps 14.3 GiB for the backward pass, four tasks 30.9 GiB:
T^2 cross-task MLPs, T C wide.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.models.heads import conv_norm, join_levels, resize
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone

WINDOW = 7  # tokens on the side
SHIFT = WINDOW // 2  # of every second block's windows
HEADS = 4
MLP_RATIO = 4
DEPTH_HIDDEN = 32  # channels before the depth head's last layer
INIT_STD = 0.02  # of the table of biases


class MTFormer(nn.Module):
    """Four maps to logits per task, at the second level's size until the heads.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `dim` is the channels of a token.
    """

    def __init__(self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone) -> None:
        super().__init__()
        self.names = [task.name for task in tasks]
        self.reduce = nn.Conv2d(sum(channels), row.dim, 1)
        self.shared = WindowLayer(row.dim, SwinBlock)
        self.own = nn.ModuleList(WindowLayer(row.dim, SwinBlock) for _ in tasks)
        across = partial(CrossTaskBlock, tasks=len(tasks))
        self.cross = nn.ModuleList(WindowLayer(row.dim, across) for _ in tasks) if len(tasks) > 1 else None
        self.heads = nn.ModuleList(
            (DepthHead if task.kind == "depth" else ClassHead)(row.dim, task.channels) for task in tasks
        )

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, task's channels, h, w]}."""
        finest, *coarser = maps
        x = self.reduce(join_levels([coarser[0], finest, *coarser[1:]])).permute(0, 2, 3, 1)
        x = self.shared(x)
        features = [layer(x) for layer in self.own]
        if self.cross is not None:
            others = [features[:t] + features[t + 1 :] for t in range(len(features))]
            features = [layer(x, sources) for layer, x, sources in zip(self.cross, features, others, strict=True)]
        parts = zip(self.names, self.heads, features, strict=True)
        return {name: head(x.permute(0, 3, 1, 2), finest.shape[-2:]) for name, head, x in parts}


class WindowLayer(nn.Module):
    """Two blocks, the second with shifted windows, and a norm.

    Args:
        dim: C.
        block: (dim, shift of its windows) -> `SwinBlock` or `CrossTaskBlock`.
    """

    def __init__(self, dim: int, block: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block(dim, shift) for shift in (0, SHIFT))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, *others: Sequence[Tensor]) -> Tensor:
        """[B, h, w, C], across tasks also the T - 1 other tasks', which stay as they are -> [B, h, w, C]."""
        for block in self.blocks:
            x = block(x, *others)
        return self.norm(x)


class SwinBlock(nn.Module):
    """x + attention(LN x), then x + MLP(LN x); [B, h, w, C] -> [B, h, w, C]."""

    def __init__(self, dim: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = mlp(dim, MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        windows = Windows(x.shape[1:3], self.shift)
        tokens = windows.cut(self.norm_attention(x))
        x = x + windows.join(self.attention(tokens.unsqueeze(0), tokens, windows.mask(x.device))[0])
        return x + self.mlp(self.norm_mlp(x))


class CrossTaskBlock(nn.Module):
    """A target's features, updated by where every task looks; one set of projections and norms for all of them.

    Args:
        dim: C.
        shift: of the windows, tokens.
        tasks: T, at least 2.
    """

    def __init__(self, dim: int, shift: int, *, tasks: int) -> None:
        super().__init__()
        self.shift = shift
        share = max(1, dim // (tasks - 1))
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim)
        self.read = nn.ModuleList(mlp(dim, tasks * dim, dim if source == 0 else share) for source in range(tasks))
        self.fuse = mlp(dim + (tasks - 1) * share, tasks * dim, dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = mlp(dim, MLP_RATIO * dim, dim)

    def forward(self, x: Tensor, others: Sequence[Tensor]) -> Tensor:
        """The target's [B, h, w, C] and the other tasks' -> the target's, updated."""
        windows = Windows(x.shape[1:3], self.shift)
        tokens = torch.stack([windows.cut(self.norm_attention(source)) for source in (x, *others)])
        attended = self.attention(tokens, tokens[0], windows.mask(x.device))
        fused = self.fuse(torch.cat([read(y) for read, y in zip(self.read, attended, strict=True)], dim=-1))
        x = x + windows.join(fused + attended[0])
        return x + self.mlp(self.norm_mlp(x))


class WindowAttention(nn.Module):
    """Attention within windows, whose values may come from elsewhere than its queries and keys.

    Args:
        dim: C, channels of a token; divisible by the heads.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = (dim // HEADS) ** -0.5
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.bias = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * WINDOW - 1) ** 2, HEADS), std=INIT_STD))

    def forward(self, sources: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """softmax(Q K^T / sqrt(d) + bias) V, in each window.

        Args:
            sources: [S, B, windows, tokens, C], what looks.
            target: [B, windows, tokens, C], what is looked at.
            mask: [windows, 1, tokens, tokens], 0 or -inf.

        Returns:
            [S, B, windows, tokens, C].
        """
        query, key, value = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(-3, -2)  # [..., heads, tokens, C / heads]
            for layer, x in ((self.query, sources), (self.key, sources), (self.value, target))
        )
        scores = self.scale * query @ key.transpose(-2, -1) + (self.relative_bias() + mask)
        return self.output((scores.softmax(dim=-1) @ value).transpose(-3, -2).flatten(-2))

    def relative_bias(self) -> Tensor:
        """[heads, tokens, tokens]: of query i and key j, one learnt number for each of their 13 x 13 displacements."""
        position = torch.arange(WINDOW, device=self.bias.device)
        place = torch.cartesian_prod(position, position)
        apart = place.unsqueeze(1) - place.unsqueeze(0) + WINDOW - 1
        return self.bias[apart[..., 0] * (2 * WINDOW - 1) + apart[..., 1]].permute(2, 0, 1)


class Windows:
    """A map cut into windows of 7 x 7, from (-shift, -shift) on around the border, and put together again.

    Args:
        size: (height, width) of the map.
        shift: tokens.
    """

    def __init__(self, size: Sequence[int], shift: int) -> None:
        self.size, self.shift = tuple(size), shift
        self.padding = tuple(-side % WINDOW for side in size)
        self.count = tuple(-(-side // WINDOW) for side in size)

    def cut(self, x: Tensor) -> Tensor:
        """[B, h, w, C] -> [B, windows, tokens, C], zeros where the map ends."""
        return self._partition(F.pad(x, (0, 0, 0, self.padding[1], 0, self.padding[0])))

    def join(self, x: Tensor) -> Tensor:
        """[B, windows, tokens, C] -> [B, h, w, C], `cut` undone."""
        x = x.unflatten(1, self.count).unflatten(3, (WINDOW, WINDOW)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return x.roll((self.shift, self.shift), (1, 2))[:, : self.size[0], : self.size[1]]

    def mask(self, device: torch.device) -> Tensor:
        """[windows, 1, tokens, tokens]: -inf where a window holds tokens of opposite borders, or of map and padding."""
        rows, columns = (self._regions(axis, device) for axis in (0, 1))
        regions = self._partition((3 * rows.unsqueeze(1) + columns).view(1, len(rows), -1, 1))[0, ..., 0]
        apart = regions.unsqueeze(1) != regions.unsqueeze(2)
        return torch.zeros(apart.shape, device=device).masked_fill(apart, -torch.inf).unsqueeze(1)

    def _partition(self, x: Tensor) -> Tensor:
        """[B, whole windows, whole windows, C] -> [B, windows, tokens, C]."""
        x = x.roll((-self.shift, -self.shift), (1, 2))
        x = x.unflatten(2, (self.count[1], WINDOW)).unflatten(1, (self.count[0], WINDOW))
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _regions(self, axis: int, device: torch.device) -> Tensor:
        """Along one side: 0 the map, 1 what the shift carries to the other end, 2 padding."""
        place = torch.arange(WINDOW * self.count[axis], device=device)
        return torch.where(place >= self.size[axis], 2, (place < self.shift).long())


class ClassHead(nn.Module):
    """1x1 convolution, batch norm, ReLU, 1x1 convolution, enlarged."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.predict = nn.Sequential(conv_norm(dim, dim), nn.Conv2d(dim, channels, 1))

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """[B, C, h, w] -> [B, channels, *size]."""
        return resize(self.predict(x), size)


class DepthHead(nn.Module):
    """1x1 convolution to half the channels, enlarged, 1x1 convolution, ReLU, 1x1 convolution."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(dim, dim // 2, 1)
        self.predict = nn.Sequential(
            nn.Conv2d(dim // 2, DEPTH_HIDDEN, 1), nn.ReLU(inplace=True), nn.Conv2d(DEPTH_HIDDEN, channels, 1)
        )

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """[B, C, h, w] -> [B, channels, *size]."""
        return self.predict(resize(self.halve(x), size))


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, GELU, linear."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
