"""Attention against torch's own module, windows against their definition, branches that are skipped.

pytest tests/models/test_attention.py
"""

import pytest
import torch
from torch import nn

from kdam_ray.models import attention
from kdam_ray.models.attention import MultiHeadAttention, from_windows, to_windows
from kdam_ray.models.backbones import import_timm

pytestmark = pytest.mark.usefixtures("in_float64")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(dim=8, heads=2):
    """Ours, and torch's with the same weights."""
    torch.manual_seed(0)
    ours, theirs = MultiHeadAttention(dim, heads), nn.MultiheadAttention(dim, heads, batch_first=True)
    with torch.no_grad():
        for kind in ("weight", "bias"):
            joined = [getattr(layer, kind) for layer in (ours.query, ours.key, ours.value)]
            getattr(theirs, f"in_proj_{kind}").copy_(torch.cat(joined))
            getattr(theirs.out_proj, kind).copy_(getattr(ours.out, kind))
    return ours, theirs


def test_it_is_torchs_multi_head_attention():
    ours, theirs = pair()
    query, key, value = draw(3, 5, 8), draw(3, 7, 8, seed=1), draw(3, 7, 8, seed=2)
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value)[0])
    mask = draw(3, 7, seed=3) > 0
    mask[:, 0] = True
    torch.testing.assert_close(ours(query, key, value, mask), theirs(query, key, value, key_padding_mask=~mask)[0])


@pytest.mark.parametrize("masked", [False, True])
def test_many_sequences_go_in_parts(monkeypatch, masked):
    ours, _ = pair()
    x = draw(7, 3, 8)
    mask = torch.tensor([True, True, False]).expand(7, 3) if masked else None
    whole = ours(x, x, x, mask)
    monkeypatch.setattr(attention, "SEQUENCES", 2)
    torch.testing.assert_close(ours(x, x, x, mask), whole)


def test_weights_are_dropped_while_training_only():
    layer = MultiHeadAttention(8, 2, dropout=0.5)
    x = draw(2, 6, 8)
    assert not torch.equal(layer(x, x, x), layer(x, x, x))
    layer.eval()
    assert torch.equal(layer(x, x, x), layer(x, x, x))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="heads is 3, which does not divide dim, 8"):
        MultiHeadAttention(8, 3)


def test_a_branch_is_skipped_for_whole_sequences_and_kept_on_average():
    torch.manual_seed(0)
    drop = import_timm().layers.DropPath(0.25)
    kept = drop(torch.ones(20_000, 2, 3)).flatten(1)
    assert (kept == kept[:, :1]).all()
    assert set(kept[:, 0].tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert kept.mean().item() == pytest.approx(1, abs=0.02)  # 5 standard deviations of the mean of 20,000
    x = draw(4, 3)
    assert drop.eval()(x) is x


@pytest.mark.parametrize("size", [(8, 12), (5, 7), (3, 2), (4, 9)])
def test_windows_hold_the_pixels_of_their_square(size):
    rows, columns = torch.meshgrid(*(torch.arange(1, n + 1) for n in size), indexing="ij")
    numbers = torch.stack(
        [torch.full_like(rows, image) + 1000 * (10 * image + 1) + 20 * rows + columns for image in range(2)]
    )
    windows, mask = to_windows(numbers.unsqueeze(-1).float(), 4)
    squares = [
        numbers[image, top : top + 4, left : left + 4].flatten().tolist()
        for image in range(2)
        for top in range(0, size[0], 4)
        for left in range(0, size[1], 4)
    ]
    assert windows.shape == (len(squares), 16, 1)
    assert (mask is None) == (size[0] % 4 == size[1] % 4 == 0)
    real = torch.ones(len(squares), 16, dtype=torch.bool) if mask is None else mask
    assert [window[inside, 0].int().tolist() for window, inside in zip(windows, real, strict=True)] == squares
    assert torch.equal(from_windows(windows, 4, size).squeeze(-1).int(), numbers.int())
