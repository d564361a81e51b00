"""The same augmentation as `transforms.assemble`, for a whole batch at once and on any device.

Samples travel as they are stored (3.3 MB for an image of 425x560 with the four maps of NYUD, a third of what a batch
holds) and become a batch where it is used: `collate` on the host, `Raw.to`, `render` there. Everything in `render` has
a shape that the host knows, so that it never waits for the device. That includes the choice of the crop: the host draws
the crops that might be wanted with all that follows from each (`draw_candidates`), and the device takes the first that
is varied.

Index arithmetic and its types are those of `transforms`, so maps are the same bit for bit; the image and its colours
are the same operations too, rounded as the device rounds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from kdam_ray.data.source import Batch, Sample
from kdam_ray.data.transforms import CROP_MAX_SHARE, MEAN, PADDING, STD, View, ignore_empty, saturate, shift_hue
from kdam_ray.tasks import IGNORE


@dataclass(frozen=True)
class Raw:
    """What a batch is made of.

    Attributes:
        maps: "image", the tasks' maps and, where crops are judged, "semseg": [B, H, W] or [B, H, W, 3] in the stored
            types, each sample in the upper left corner; what lies beside it is undefined.
        places: [B, K, 9] int64, of each of K candidates: size, scaled, corner and crop as (height, width), flip.
        scale: [B] float32, metres per metre.
        steps: [B, K, 5] float32, `Colour.steps`; None: colours are left alone.
        tasks: names of the maps that the batch shall hold.
        canvas: (height, width) of the batch, pixels.
    """

    maps: dict[str, Tensor]
    places: Tensor
    scale: Tensor
    steps: Tensor | None
    tasks: tuple[str, ...]
    canvas: tuple[int, int]

    def to(self, device: torch.device | str) -> "Raw":
        """Copied without waiting, which page-locked memory allows."""
        maps = {name: tensor.to(device, non_blocking=True) for name, tensor in self.maps.items()}
        places, scale = (tensor.to(device, non_blocking=True) for tensor in (self.places, self.scale))
        steps = None if self.steps is None else self.steps.to(device, non_blocking=True)
        return Raw(maps, places, scale, steps, self.tasks, self.canvas)


class Axis(NamedTuple):
    """Along one axis of the canvas, per sample: [B, length] each.

    Attributes:
        offset: pixel of the scaled image.
        inside: whether the crop covers it; elsewhere `offset` is the nearest that it covers.
        size: [B, 1], of the image, pixels.
        scaled: [B, 1], of the scaled image.
    """

    offset: Tensor
    inside: Tensor
    size: Tensor
    scaled: Tensor


def collate(
    samples: Sequence[Sample],
    candidates: Sequence[Sequence[View]],
    *,
    tasks: Sequence[str],
    canvas: tuple[int, int],
    pin: bool,
) -> Raw:
    """Samples of any sizes side by side, as they are stored.

    Args:
        samples: B samples, which must have all of `tasks`.
        candidates: per sample one view or several, of which the first is taken whose crop is varied, or else the last;
            either all change colours or none does.
        tasks: names of the maps that the batch shall hold.
        canvas: (height, width) of the batch, pixels; no crop is larger.
        pin: into page-locked memory.
    """
    count = max(len(views) for views in candidates)
    names = dict.fromkeys(["image", *tasks, *(["semseg"] if count > 1 else [])])
    sizes = [sample["image"].shape[:2] for sample in samples]
    filled = [[*views, *[views[-1]] * (count - len(views))] for views in candidates]
    places = [[_place(size, view) for view in views] for size, views in zip(sizes, filled, strict=True)]
    colours = [[colour.steps for _, colour in views if colour is not None] for views in filled]
    small = [torch.tensor(places), torch.tensor([views[0][0].scale for views in filled]), torch.tensor(colours)]
    if pin:
        small = [tensor.pin_memory() for tensor in small]
    maps = {name: _side_by_side([sample.get(name) for sample in samples], sizes, pin) for name in names}
    return Raw(maps, small[0], small[1], small[2] if small[2].numel() else None, tuple(tasks), canvas)


def _place(size: tuple[int, ...], view: View) -> tuple[int, ...]:
    geometry, _ = view
    return (*size, *geometry.scaled, *geometry.corner, *geometry.crop, int(geometry.flip))


def _side_by_side(arrays: Sequence, sizes: Sequence[tuple[int, ...]], pin: bool) -> Tensor:
    """A map of every sample, [B, H, W] or [B, H, W, 3]; undefined for those that lack it, which need it for nothing."""
    first = next(array for array in arrays if array is not None)
    height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
    dtype = torch.from_numpy(first[:0].copy()).dtype
    stored = torch.empty(len(arrays), height, width, *first.shape[2:], dtype=dtype, pin_memory=pin)
    for one, array in zip(stored.numpy(), arrays, strict=True):
        if array is not None:
            one[: array.shape[0], : array.shape[1]] = array
    return stored


def render(raw: Raw) -> Batch:
    """The batch, where `raw` is; does not wait for the device."""
    which = torch.arange(len(raw.places), device=raw.places.device)
    chosen = _first_varied(raw)
    place = raw.places[which, chosen]
    rows, columns = _axes(place, raw.canvas, flip=place[:, 8, None] > 0)
    inside = rows.inside[:, :, None] & columns.inside[:, None, :]
    image = _bilinear(raw.maps["image"], rows, columns).permute(0, 3, 1, 2).contiguous()
    if raw.steps is not None:
        _recolour(image, raw.steps[which, chosen])
    mean, deviation = _levels(image.device)
    image.sub_(mean).div_(deviation).masked_fill_(~inside[:, None], 0)
    at = (which[:, None, None], _nearest(rows)[:, :, None], _nearest(columns)[:, None, :])
    labels = {name: _label(name, raw.maps[name][at], place[:, 8], raw.scale, ~inside) for name in raw.tasks}
    if "human_parts" in labels:
        ignore_empty(labels["human_parts"])
    return {"image": image, **labels}


def _first_varied(raw: Raw) -> Tensor:
    """[B] which candidate is taken, by `transforms.is_varied`.

    One candidate after the other, and a histogram per row: that bounds memory, and how many pixels add to the same
    number.
    """
    batch, device = len(raw.places), raw.places.device
    which = torch.arange(batch, device=device)[:, None, None]
    varied = []
    for place in raw.places[:, :-1].unbind(1):
        rows, columns = _axes(place, raw.canvas, flip=None)
        seen = raw.maps["semseg"][which, _nearest(rows)[:, :, None], _nearest(columns)[:, None, :]]
        seen = seen.long().masked_fill_(~(rows.inside[:, :, None] & columns.inside[:, None, :]), IGNORE)
        per_row = torch.zeros(batch, seen.shape[1], IGNORE + 1, dtype=torch.int32, device=device)
        per_row.scatter_add_(2, seen, torch.ones_like(seen, dtype=torch.int32))
        counts = per_row.sum(1)[:, :IGNORE]
        varied.append(counts.amax(1) < CROP_MAX_SHARE * counts.sum(1).double())
    last = torch.ones(batch, dtype=torch.uint8, device=device)
    return torch.stack([*varied, last]).argmax(0)  # the first of equals


def _axes(place: Tensor, canvas: tuple[int, int], *, flip: Tensor | None) -> tuple[Axis, Axis]:
    """Rows and columns of the canvas, by places [B, 9]; `flip` [B, 1] mirrors columns."""
    return _axis(place[:, 0:8:2], canvas[0], None), _axis(place[:, 1:8:2], canvas[1], flip)


def _axis(place: Tensor, length: int, flip: Tensor | None) -> Axis:
    size, scaled, corner, crop = place.unsqueeze(2).unbind(1)
    position = torch.arange(length, device=place.device) - (length - crop) // 2
    inside = (position >= 0) & (position < crop)
    position = torch.minimum(position.clamp_min(0), crop - 1)
    if flip is not None:
        position = torch.where(flip, crop - 1 - position, position)
    return Axis(corner + position, inside, size, scaled)


def _nearest(line: Axis) -> Tensor:
    return line.offset * line.size // line.scaled


def _between(line: Axis) -> tuple[Tensor, Tensor, Tensor]:
    """[B, length] each: the two source pixels and the weight of the second, half-pixel centres, edges held."""
    position = (line.offset.double() + 0.5) * (line.size.double() / line.scaled) - 0.5
    position = torch.minimum(position.clamp_min(0), (line.size - 1).double())
    low = position.long()
    return low, torch.minimum(low + 1, line.size - 1), (position - low).float()


def _bilinear(image: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """[B, *canvas, 3] float32 grey levels of [B, H, W, 3]."""
    top, bottom, down = _between(rows)
    left, right, along = _between(columns)
    which = torch.arange(len(image), device=image.device)[:, None, None]

    def between_rows(column: Tensor) -> Tensor:
        low, high = (image[which, row[:, :, None], column[:, None, :]].float() for row in (top, bottom))
        return low.lerp_(high, down[:, :, None, None])

    return between_rows(left).lerp_(between_rows(right), along[:, None, :, None])


def _recolour(x: Tensor, steps: Tensor) -> None:
    """`transforms.recolour` without asking which steps are neutral: those leave whole grey levels as they are."""
    brightness, first, saturation, hue, last = steps.unbind(1)
    x.floor_()
    x.add_(brightness.reshape(-1, 1, 1, 1)).clamp_(0, 255).floor_()
    x.mul_(first.reshape(-1, 1, 1, 1)).clamp_(0, 255).floor_()
    x.copy_(shift_hue(saturate(x, saturation), hue))
    x.mul_(last.reshape(-1, 1, 1, 1)).clamp_(0, 255).floor_()


@cache
def _levels(device: torch.device) -> tuple[Tensor, Tensor]:
    """ImageNet mean and deviation in grey levels, [3, 1, 1]; kept, for copying them there would wait."""
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) * 255 for values in (MEAN, STD))
    return mean.to(device), deviation.to(device)


def _label(name: str, picked: Tensor, flip: Tensor, scale: Tensor, outside: Tensor) -> Tensor:
    """A map's pixels as the batch holds them; normals turn with the flip, depth shrinks as the scene comes nearer."""
    if name == "normals":
        picked = picked.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        picked[:, 0].mul_((1 - 2 * flip)[:, None, None])
    elif name in ("depth", "edge"):
        picked = picked.float()[:, None]
    else:
        picked = picked.long()
    if name == "depth":
        picked.div_(scale.reshape(-1, 1, 1, 1))
    return picked.masked_fill_(outside if picked.ndim == 3 else outside[:, None], PADDING[name])
