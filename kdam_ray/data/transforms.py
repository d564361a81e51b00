"""The training augmentation of ATRC, which the paper's code base trains with, as one resampling per map.

Scale, crop, flip and pad are four steps in the original. Each of them only says which source pixel an output pixel
takes, so here they are composed into one pair of index vectors per sample (rows, columns), and a map is read once. What
is drawn (`Geometry`, `Colour`) is apart from what is done with it, so that the random numbers come from (data seed,
epoch, index) alone, whoever carries them out: `assemble` here, sample by sample for the CPU, or `on_device.render`, all
at once elsewhere. The conventions are the original's: half-pixel centres without antialiasing for the image
(`F.interpolate(align_corners=False)`, OpenCV's linear), source pixel floor(x * size / scaled) for labels (OpenCV's and
`F.interpolate`'s nearest; in integers here, so it is exact).

Two differences, on purpose. Saturation and hue act on exact HSV values and are rounded back to 8 bits, where OpenCV
also rounds H to 2 degrees and S to 1/255 in between. And invalid normals and depth stay zero, where the original writes
255.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kdam_ray.data.source import Batch, Sample
from kdam_ray.tasks import IGNORE

MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB, of values in [0, 1]
STD = (0.229, 0.224, 0.225)
SCALES = (0.5, 2.0)
CROP_RETRIES = 10
CROP_MAX_SHARE = 0.75  # of the most frequent class in a crop
BRIGHTNESS = 32.0  # grey levels
GAIN = (0.5, 1.5)  # contrast and saturation
HUE = 18  # steps of 2 degrees
PADDING = {"semseg": IGNORE, "human_parts": IGNORE, "sal": IGNORE, "edge": IGNORE, "depth": 0, "normals": 0}
CHUNK_PIXELS = 2**17  # colours are changed for that many pixels at a time, so that large images stay in the cache


@dataclass(frozen=True)
class Geometry:
    """Where one output takes its pixels from.

    Attributes:
        scale: depth is divided by it, metres per metre.
        scaled: (height, width) of the scaled image that the crop is cut from, pixels.
        corner: (top, left) of the crop.
        crop: (height, width) of the crop; smaller than the output where the scaled image is, the rest is padding.
        flip: mirror the crop.
    """

    scale: float
    scaled: tuple[int, int]
    corner: tuple[int, int]
    crop: tuple[int, int]
    flip: bool


@dataclass(frozen=True)
class Colour:
    """Photometric changes of one image, in the order written, but for contrast, which comes second or last.

    Attributes:
        brightness: added, grey levels.
        contrast: factor on the values.
        contrast_first: contrast comes second.
        saturation: factor on S.
        hue: added to H, steps of 2 degrees.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_first: bool = True
    saturation: float = 1.0
    hue: int = 0

    @property
    def steps(self) -> tuple[float, float, float, float, float]:
        """Brightness, contrast if second, saturation, hue, contrast if last; what does not happen is neutral."""
        first, last = (self.contrast, 1.0) if self.contrast_first else (1.0, self.contrast)
        return self.brightness, first, self.saturation, self.hue, last


View = tuple[Geometry, Colour | None]
"""Where a sample is looked at and how its colours change, if they do."""


def centred(size: tuple[int, int], limit: tuple[int, int] | None = None) -> Geometry:
    """No scaling and no flip; the centre of the image, at most `limit` (height, width) of it."""
    crop = size if limit is None else (min(size[0], limit[0]), min(size[1], limit[1]))
    return Geometry(1.0, size, ((size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2), crop, flip=False)


def draw(rng: np.random.Generator, sample: Sample, image_size: tuple[int, int]) -> View:
    """Random scale, crop, flip and colours.

    A crop in which one class holds 75 % or more of the labelled pixels is drawn anew, up to 10 times; that looks at
    semseg whichever tasks are learnt, so that runs of different tasks see the same images.

    Args:
        rng: of this sample in this epoch.
        sample: one sample, maps [H, W].
        image_size: (height, width) of the output, pixels.
    """
    for more, crop in _draw_crops(rng, sample, image_size):
        if not more or is_varied(_look(sample["semseg"], crop)):
            return _draw_rest(rng, crop)
    raise AssertionError("the last crop has no more after it")


def draw_candidates(rng: np.random.Generator, sample: Sample, image_size: tuple[int, int]) -> list[View]:
    """1 or 11 views: `draw` returns the first whose crop is varied, or else the last. For who judges crops elsewhere.

    Args:
        rng: as for `draw`; it is left behind the last crop.
        sample: one sample, of which only the size matters and whether it has semseg.
        image_size: (height, width) of the output, pixels.
    """
    views = []
    for _, crop in _draw_crops(rng, sample, image_size):
        state = rng.bit_generator.state
        views.append(_draw_rest(rng, crop))
        rng.bit_generator.state = state  # the next crop is drawn as if this one had been refused at once
    return views


def _draw_crops(
    rng: np.random.Generator, sample: Sample, image_size: tuple[int, int]
) -> Iterator[tuple[int, Geometry]]:
    """Crops at one random scale, each drawn when it is asked for, and how many may still follow."""
    size = sample["image"].shape[:2]
    scale = rng.uniform(*SCALES)
    scaled = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
    crop = (min(scaled[0], image_size[0]), min(scaled[1], image_size[1]))
    room = (scaled[0] - crop[0], scaled[1] - crop[1])
    retries = CROP_RETRIES if "semseg" in sample and room != (0, 0) else 0
    for more in range(retries, -1, -1):
        yield more, Geometry(scale, scaled, _draw_corner(rng, room), crop, flip=False)


def _draw_rest(rng: np.random.Generator, crop: Geometry) -> View:
    return replace(crop, flip=bool(rng.random() < 0.5)), draw_colour(rng)


def _draw_corner(rng: np.random.Generator, room: tuple[int, int]) -> tuple[int, int]:
    return int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))


def _look(label: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A label map's crop, not mirrored."""
    rows, columns = (_nearest(label.shape[i], geometry.scaled[i], geometry.corner[i], geometry.crop[i]) for i in (0, 1))
    return label.take(rows, 0).take(columns, 1)


def is_varied(semseg: np.ndarray) -> bool:
    """Whether a crop has at least two classes, and none with 75 % or more of the labelled pixels.

    Args:
        semseg: [h, w] uint8, 255 = unlabelled.
    """
    counts = np.bincount(semseg.ravel(), minlength=IGNORE + 1)[:IGNORE]
    return bool(counts.max() < CROP_MAX_SHARE * counts.sum())


def draw_colour(rng: np.random.Generator) -> Colour:
    """Random photometric changes, each with probability 1/2."""
    brightness, contrast, first, saturation, hue = (rng.random(5) < 0.5).tolist()
    return Colour(
        brightness=rng.uniform(-BRIGHTNESS, BRIGHTNESS) if brightness else 0.0,
        contrast=rng.uniform(*GAIN) if contrast else 1.0,
        contrast_first=first,
        saturation=rng.uniform(*GAIN) if saturation else 1.0,
        hue=int(rng.integers(-HUE, HUE)) if hue else 0,
    )


def assemble(
    samples: Sequence[Sample], views: Sequence[View], *, tasks: Sequence[str], canvas: tuple[int, int]
) -> Batch:
    """Samples, resampled, recoloured, normalised and centred on a padded canvas.

    Args:
        samples: B samples of any sizes, which must have all of `tasks`.
        views: one a sample; no crop is larger than the canvas; either all change colours or none does.
        tasks: names of the maps that the batch shall hold.
        canvas: (height, width) of the batch, pixels.

    Returns:
        A batch of B on the CPU; values that pad a map are ignored or invalid there.
    """
    image = torch.empty(len(samples), 3, *canvas)
    labels = {name: _empty(name, len(samples), canvas) for name in tasks}
    for i, (sample, (geometry, _)) in enumerate(zip(samples, views, strict=True)):
        place = (i, ..., *_visible(geometry, canvas))
        if geometry.crop != canvas:
            for name, tensor in (("image", image), *labels.items()):
                tensor[i].fill_(PADDING.get(name, 0))
        size = sample["image"].shape[:2]
        rows = _nearest(size[0], geometry.scaled[0], geometry.corner[0], geometry.crop[0])
        columns = _nearest(size[1], geometry.scaled[1], geometry.corner[1], geometry.crop[1])
        image[place] = _bilinear(sample["image"], geometry)
        for name, label in labels.items():
            label[place] = _pick(name, sample[name], rows, columns[::-1] if geometry.flip else columns, geometry)
    colours = [colour for _, colour in views if colour is not None]
    if colours:
        recolour(image, colours)
    _normalise(image, [geometry for geometry, _ in views])
    if "human_parts" in labels:
        ignore_empty(labels["human_parts"])
    return {"image": image, **labels}


def _empty(name: str, count: int, canvas: tuple[int, int]) -> Tensor:
    shape = {"normals": (count, 3, *canvas), "depth": (count, 1, *canvas), "edge": (count, 1, *canvas)}.get(
        name, (count, *canvas)
    )
    dtype = torch.int64 if len(shape) == 3 else torch.float32
    return torch.empty(shape, dtype=dtype)


def _visible(geometry: Geometry, canvas: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the canvas that the crop covers."""
    top, left = ((canvas[i] - geometry.crop[i]) // 2 for i in (0, 1))
    return slice(top, top + geometry.crop[0]), slice(left, left + geometry.crop[1])


def _nearest(size: int, scaled: int, offset: int, length: int) -> np.ndarray:
    """[length] source pixels of pixels offset .. offset + length of a line scaled from `size` to `scaled` pixels."""
    return np.arange(offset, offset + length) * size // scaled


def _pick(name: str, label: np.ndarray, rows: np.ndarray, columns: np.ndarray, geometry: Geometry) -> Tensor:
    """A map's pixels at `rows` x `columns`; normals turn with the flip, depth shrinks as the scene comes nearer."""
    if name == "normals":
        picked = torch.from_numpy(label.transpose(2, 0, 1).take(rows, 1).take(columns, 2))
        if geometry.flip:
            picked[0].neg_()
        return picked
    picked = torch.from_numpy(label.take(rows, 0).take(columns, 1))
    return picked.div_(geometry.scale) if name == "depth" else picked


def _bilinear(image: np.ndarray, geometry: Geometry) -> Tensor:
    """[3, h, w] float32 grey levels: the scaled image's crop, mirrored if the geometry says so."""
    size, planes = image.shape[:2], np.ascontiguousarray(image.transpose(2, 0, 1))
    low, high, weight = _between(size[0], geometry.scaled[0], geometry.corner[0], geometry.crop[0])
    rows = torch.from_numpy(planes.take(low, 1)).float()
    rows.lerp_(torch.from_numpy(planes.take(high, 1)).float(), torch.from_numpy(weight)[:, None])
    low, high, weight = _between(size[1], geometry.scaled[1], geometry.corner[1], geometry.crop[1])
    if geometry.flip:
        low, high, weight = low[::-1], high[::-1], weight[::-1].copy()
    # numpy's take is several times faster than torch's index_select along the last axis of a small map
    columns = torch.from_numpy(rows.numpy().take(low, 2))
    return columns.lerp_(torch.from_numpy(rows.numpy().take(high, 2)), torch.from_numpy(weight))


def _between(size: int, scaled: int, offset: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[length] each: the two source pixels and the weight of the second, half-pixel centres, edges held."""
    position = (np.arange(offset, offset + length) + 0.5) * (size / scaled) - 0.5
    position = position.clip(0, size - 1)
    low = position.astype(np.int64)
    return low, np.minimum(low + 1, size - 1), (position - low).astype(np.float32)


def recolour(image: Tensor, colours: Sequence[Colour]) -> None:
    """Photometric changes in place; values are cut to whole grey levels at every step, as a cast to uint8 does.

    Args:
        image: [B, 3, H, W] float32 in [0, 255].
        colours: one an image.
    """
    step = max(1, CHUNK_PIXELS // (image.shape[-1] * image.shape[-2]))
    for start in range(0, len(colours), step):
        _recolour(image[start : start + step], colours[start : start + step])


def _recolour(x: Tensor, colours: Sequence[Colour]) -> None:
    x.floor_()
    brightness, first, _, _, last = torch.tensor([colour.steps for colour in colours]).T.reshape(5, -1, 1, 1, 1)
    if brightness.any():
        x.add_(brightness).clamp_(0, 255).floor_()
    if (first != 1).any():
        x.mul_(first).clamp_(0, 255).floor_()
    _each(x, [c.saturation for c in colours], 1, saturate)
    _each(x, [c.hue for c in colours], 0, shift_hue)
    if (last != 1).any():
        x.mul_(last).clamp_(0, 255).floor_()


def _each(x: Tensor, amounts: Sequence[float], neutral: float, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Apply `change` to those images whose amount is not neutral."""
    chosen = [i for i, amount in enumerate(amounts) if amount != neutral]
    if len(chosen) == len(x):
        x.copy_(change(x, torch.tensor(amounts, dtype=torch.float32)))
    elif chosen:
        x[chosen] = change(x[chosen], torch.tensor([amounts[i] for i in chosen], dtype=torch.float32))


def saturate(x: Tensor, gain: Tensor) -> Tensor:
    """S of HSV times `gain`, at most 1; H and V as they are.

    S is 1 - min / max of the channels, so scaling it scales every channel's distance to the largest.

    Args:
        x: [B, 3, H, W] whole grey levels.
        gain: [B].
    """
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    gain = torch.minimum(gain.reshape(-1, 1, 1, 1), value / (value - least).clamp_min(1))
    return (value - x).mul_(gain).neg_().add_(value).round_()


def shift_hue(x: Tensor, steps: Tensor) -> Tensor:
    """H of HSV turned by `steps` of 2 degrees; S and V as they are.

    Args:
        x: [B, 3, H, W] whole grey levels.
        steps: [B], each at most 30 in absolute value.
    """
    red, green, blue = x.unbind(1)
    value, least = x.amax(1), x.amin(1)
    chroma = value - least
    # which channel is the largest, as 0 or 1: products with it are exact, and several times as fast as torch.where
    not_red, not_green = (value - red).clamp_max_(1), (value - green).clamp_max_(1)
    is_red, is_green, is_blue = 1 - not_red, not_red * (1 - not_green), not_red * not_green
    sixth = (green - blue).mul_(is_red).add_((blue - red).mul_(is_green)).add_((red - green).mul_(is_blue))
    sixth.div_(chroma.clamp_min(1))  # whole levels: only grey pixels have less, and they have no hue to turn
    sixth.add_(is_green.mul_(2)).add_(is_blue.mul_(4)).add_(steps.reshape(-1, 1, 1) / 30)
    turned = torch.empty_like(x)
    for channel, offset in enumerate((5, 3, 1)):
        torch.sub(value, _distance(sixth + offset).mul_(chroma), out=turned[:, channel])
    return turned.round_()


def _distance(sixth: Tensor) -> Tensor:
    """How far a channel lies below the largest, 0 .. 1, by the hue's distance to its own in sixths of the circle.

    Args:
        sixth: from -2 to 12.
    """
    here, next_turn = torch.minimum(sixth, 4 - sixth), torch.minimum(sixth - 6, 10 - sixth)
    return torch.maximum(here, next_turn, out=here).clamp_(0, 1)


def _normalise(image: Tensor, geometries: Sequence[Geometry]) -> None:
    """ImageNet mean and deviation, in place; then zero in the padding."""
    scale = torch.tensor(STD).reshape(3, 1, 1) * 255
    image.sub_(torch.tensor(MEAN).reshape(3, 1, 1) * 255).div_(scale)
    canvas = (image.shape[-2], image.shape[-1])
    for one, geometry in zip(image, geometries, strict=True):
        if geometry.crop != canvas:
            rows, columns = _visible(geometry, canvas)
            one[:, : rows.start], one[:, rows.stop :] = 0, 0
            one[:, :, : columns.start], one[:, :, columns.stop :] = 0, 0


def ignore_empty(parts: Tensor) -> None:
    """Human parts of an image without people teach nothing and count nowhere: [B, H, W] becomes 255 there, in place."""
    parts.masked_fill_(((parts == 0) | (parts == IGNORE)).flatten(1).all(1)[:, None, None], IGNORE)
