"""MQTransformer, multi-query transformer (Xu et al., 2022): tasks talk through a few queries each, not pixel by pixel.

With X the joined levels, and for each task t its own projection X_t = W_t X to C = `dim` channels and 64 learned
queries Q_t with positions; attention A(q, k) reads LayerNorms of its inputs, its values are k without position:

    shared encoder        Q_t += A(Q_t + pos, X_t)                 queries ask the pixels of their task
                          Q_t += W LN(Q_t);  Q_t += FFN(Q_t)       "simple reasoning": a 1x1 convolution of queries
    cross-task attention  Q   += MHA(Q, Q, Q);  Q += FFN(Q)        Q = all tasks' queries, end to end
    shared decoder        Y_t  = X_t + A(X_t, Q_t + pos)           pixels ask the queries of their task
                          Y_t += FFN(Y_t);  Y_t += MHA(Y_t);  Y_t += FFN(Y_t)
    logits_t = W ReLU(norm(conv3x3(GELU(Y_t))))

Encoder and decoder have one set of weights for all tasks. Positions belong to the queries (one vector a query, the same
for all heads), so nothing depends on the image's size, and attention is linear in its pixels.

The decoder's MHA. The published code passes (image, pixel, channel) to a module that reads (pixel, image, channel), so
a pixel attends to the same pixel of the *other images of the batch*, and with one image only to itself. Not meant can
be attention across tasks (the paper leaves that to the queries) nor across all pixels (14,980^2 products a task, over
400 GMACs). The layer is called local there, and what surrounds it speaks of patches of 4 x 4 pixels, with a table of
relative positions that nothing reads. It is taken as self-attention among the pixels of each 4 x 4 patch of one task's
map.

Differs further from the published code: each residual adds to what its branch read (there, the MHA's to X_t, which
leaves the decoder's first half to the MHA alone); across tasks a branch is dropped for a whole image, not query by
query. Small networks of the zoo, whose tokens have fewer than 64 channels, keep them all before the logits.

Cost on NYUD-v2, 425 x 560: Swin-T 31.86 M parameters (published code: 33.18), Swin-S 53.18 (54.49), Swin-B 91.58
(92.89), Swin-L 200.81 (202.13; 204.3 printed), HRNet18 7.00 (8.32). The difference is 1.314 M in each, parameters that
the published code builds and no prediction reads: a 4x4 convolution, a second attention, relative positions; and a
LayerNorm before a LayerNorm. Swin-L 299.5 GMACs and 6.8 of products, 365.25 printed: the 4x4 convolution is 4.0 of the
difference, for the rest nothing in the published code accounts; as its parameters, the print is of another variant.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.models.attention import FeedForward, MultiHeadAttention, from_windows, to_windows
from kdam_ray.models.backbones import import_timm
from kdam_ray.models.heads import OwnFeatures, TaskLogits, join_levels
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone

HEADS = 4
QUERIES = 64  # of each task
PATCH = 4  # pixels on the side, within which the decoder's pixels see each other
HIDDEN = 64  # channels before the logits; a token's, where it has fewer
SKIPPED = 0.1  # probability that a branch of encoder or decoder is dropped
CROSS_SKIPPED = 0.5  # the same of the attention across tasks
CROSS_DROPOUT = 0.1  # of its weights
QUERY_STD = 0.02  # of queries and positions at first


class MQTransformer(nn.Module):
    """Joined levels, a projection for each task, queries that ask its pixels, each other, and are asked; a small head.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `dim` is the channels of a token.
    """

    def __init__(self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone) -> None:
        super().__init__()
        hidden = min(HIDDEN, row.dim)
        self.tasks = len(tasks)
        self.project = nn.Linear(sum(channels), self.tasks * row.dim)  # all tasks' W_t in one
        self.queries = TaskQueries(row.dim, self.tasks)
        self.encoder = SharedEncoder(row.dim)
        self.across = CrossTaskAttention(row.dim, self.tasks)
        self.decoder = SharedDecoder(row.dim)
        self.features = OwnFeatures(row.dim, self.tasks, hidden)
        self.logits = TaskLogits(hidden, tasks)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, task's channels, h, w]}."""
        x = self.project(join_levels(maps).permute(0, 2, 3, 1)).unflatten(-1, (self.tasks, -1))
        pixels = x.movedim(3, 0).flatten(0, 1)  # [T * B, h, w, C], task after task
        queries, asking, asked = self.queries(len(x))
        queries = self.across(self.encoder(queries, asking, pixels.flatten(1, 2)))
        refined = F.gelu(self.decoder(pixels, queries, asked)).permute(0, 3, 1, 2)
        return self.logits(self.features(refined.chunk(self.tasks)))


class TaskQueries(nn.Module):
    """What is learned of each query: itself, its position when it asks, its position when it is asked.

    Args:
        dim: channels of a query.
        tasks: number of tasks.
    """

    def __init__(self, dim: int, tasks: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(tasks, QUERIES, dim))
        self.asking = nn.Parameter(torch.empty(tasks, QUERIES, dim // HEADS))
        self.asked = nn.Parameter(torch.empty(tasks, QUERIES, dim // HEADS))
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=QUERY_STD)

    def forward(self, images: int) -> tuple[Tensor, ...]:
        """For B images: queries, positions of asking, positions of being asked, each [T * B, 64, C]."""
        learned = (self.tokens, self.asking.repeat(1, 1, HEADS), self.asked.repeat(1, 1, HEADS))
        return tuple(x.repeat_interleave(images, dim=0) for x in learned)


class NormedAttention(nn.Module):
    """Multi-head attention that normalises what it reads: A of the module's equations.

    Args:
        dim: channels of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.attention = MultiHeadAttention(dim, HEADS, bias=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[B, L, C], [B, S, C], [B, S, C] -> [B, L, C]; the caller adds the residual."""
        return self.attention(*(norm(x) for norm, x in zip(self.norms, (query, key, value), strict=True)))


class SharedEncoder(nn.Module):
    """Queries gather what they look for in the pixels of their task.

    Args:
        dim: channels of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = NormedAttention(dim)
        self.norm = nn.LayerNorm(dim)
        self.reason = nn.Linear(dim, dim, bias=False)  # a 1x1 convolution over a row of queries
        self.feed_forward = FeedForward(dim, 1)
        self.drop = import_timm().layers.DropPath(SKIPPED)

    def forward(self, queries: Tensor, positions: Tensor, pixels: Tensor) -> Tensor:
        """Queries and their positions [T * B, 64, C] and pixels [T * B, N, C] -> queries [T * B, 64, C]."""
        queries = queries + self.drop(self.attention(queries + positions, pixels, pixels))
        queries = queries + self.reason(self.norm(queries))
        return queries + self.drop(self.feed_forward(queries))


class CrossTaskAttention(nn.Module):
    """All queries of an image, of whatever task, attend to each other.

    Args:
        dim: channels of a query.
        tasks: number of tasks.
    """

    def __init__(self, dim: int, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.attention = MultiHeadAttention(dim, HEADS, dropout=CROSS_DROPOUT)
        self.feed_forward = FeedForward(dim, 1)
        self.drop = import_timm().layers.DropPath(CROSS_SKIPPED)

    def forward(self, queries: Tensor) -> Tensor:
        """[T * B, 64, C] -> [T * B, 64, C]."""
        x = queries.unflatten(0, (self.tasks, -1)).transpose(0, 1).flatten(1, 2)  # [B, T * 64, C]
        x = x + self.drop(self.attention(x, x, x))
        x = x + self.drop(self.feed_forward(x))
        return x.unflatten(1, (self.tasks, -1)).transpose(0, 1).flatten(0, 1)


class SharedDecoder(nn.Module):
    """Pixels gather what the queries of their task have come to know, then look around in their patch.

    Args:
        dim: channels of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = NormedAttention(dim)
        self.local = MultiHeadAttention(dim, HEADS)
        self.feed_forward = nn.ModuleList(FeedForward(dim, 3) for _ in range(2))
        self.drop = import_timm().layers.DropPath(SKIPPED)

    def forward(self, pixels: Tensor, queries: Tensor, positions: Tensor) -> Tensor:
        """Pixels [T * B, h, w, C], queries and their positions [T * B, 64, C] -> pixels [T * B, h, w, C]."""
        asked = self.attention(pixels.flatten(1, 2), queries + positions, queries)
        x = pixels + self.drop(asked.view(pixels.shape))
        x = x + self.drop(self.feed_forward[0](x))
        x = x + self.drop(self._look_around(x))
        return x + self.drop(self.feed_forward[1](x))

    def _look_around(self, x: Tensor) -> Tensor:
        patches, real = to_windows(x, PATCH)
        return from_windows(self.local(patches, patches, patches, real), PATCH, (x.shape[1], x.shape[2]))
