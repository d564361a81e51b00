"""Multi-head attention, and what goes with it: windows of a map, the layers between.

Legend of shapes: B sequences, L queries of each, S keys and values of each, C channels, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SEQUENCES = 2**15  # in one call: CUDA's kernels launch no grid with 2^16 of them


class MultiHeadAttention(nn.Module):
    """softmax(Q K^T / sqrt(C / H)) V of each head, with Q, K, V and the joined heads projected linearly.

    Args:
        dim: C.
        heads: H; divides C.
        bias: of the projections to Q, K and V; that of the output always has one.
        dropout: of attention weights, while training.

    Raises:
        ValueError: heads that do not divide dim.
    """

    def __init__(self, dim: int, heads: int, *, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads is {heads}, which does not divide dim, {dim}")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.Linear(dim, dim, bias=bias)
        self.value = nn.Linear(dim, dim, bias=bias)
        self.out = nn.Linear(dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Each query gathers values of its own sequence.

        Args:
            query: [B, L, C].
            key: [B, S, C].
            value: [B, S, C].
            mask: [B, S], True where a key takes part; None: all do. At least one of a sequence must.

        Returns:
            [B, L, C].
        """
        projected = (self.query(query), self.key(key), self.value(value))
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in projected)
        mask = None if mask is None else mask[:, None, None]
        joined = attend(q, k, v, mask=mask, dropout=self.dropout if self.training else 0.0)
        return self.out(joined.transpose(1, 2).flatten(2))


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention of any number of sequences.

    Args:
        query: [B, H, L, C / H].
        key: [B, H, S, C / H].
        value: [B, H, S, C / H].
        mask: [B, 1, 1, S] or None.
        dropout: of the weights.

    Returns:
        [B, H, L, C / H].
    """
    parts = [x.split(SEQUENCES) for x in (query, key, value)]
    masks = [None] * len(parts[0]) if mask is None else mask.split(SEQUENCES)
    done = [
        F.scaled_dot_product_attention(q, k, v, attn_mask=m, dropout_p=dropout)
        for q, k, v, m in zip(*parts, masks, strict=True)
    ]
    return done[0] if len(done) == 1 else torch.cat(done)


class FeedForward(nn.Module):
    """LayerNorm, linear layer, GELU, linear layer.

    Args:
        dim: channels of a token.
        ratio: of the hidden layer's channels to the token's.
    """

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, dim * ratio)
        self.narrow = nn.Linear(dim * ratio, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]; the caller adds the residual."""
        return self.narrow(F.gelu(self.widen(self.norm(x))))


def to_windows(x: Tensor, side: int) -> tuple[Tensor, Tensor | None]:
    """A map cut into squares, each a sequence; maps that squares do not tile are filled up at the bottom and the right.

    Args:
        x: [B, h, w, C].
        side: pixels on the side of a square.

    Returns:
        [B * squares, side * side, C], and the mask [B * squares, side * side] that is False where it was filled up;
        None if nowhere.
    """
    bottom, right = -x.shape[1] % side, -x.shape[2] % side
    if not bottom and not right:
        return _cut(x, side), None
    padding = (0, 0, 0, right, 0, bottom)
    real = F.pad(x.new_ones(*x.shape[:3], 1), padding)
    return _cut(F.pad(x, padding), side), _cut(real, side).squeeze(2) > 0


def _cut(x: Tensor, side: int) -> Tensor:
    return x.unflatten(1, (-1, side)).unflatten(3, (-1, side)).transpose(2, 3).flatten(0, 2).flatten(1, 2)


def from_windows(windows: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """Inverse of `to_windows`: [B * squares, side * side, C] -> [B, h, w, C] with size = (h, w)."""
    rows, columns = -(-size[0] // side), -(-size[1] // side)
    squares = windows.unflatten(1, (side, side)).unflatten(0, (-1, rows, columns))
    return squares.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, : size[0], : size[1]]
