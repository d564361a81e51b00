"""Maps as people read them: labels and predictions of every task as RGB pixels.

Classes have the colours of PASCAL VOC, saliency and edges are grey levels of the probability, normals (n + 1) / 2,
depth goes from light (near) to dark (far). One grey, which none of these can be, is everywhere what does not count:
void, no depth, no normal.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from kdam_ray.tasks import IGNORE, PARTS, Dataset, Task

IGNORED = 216  # grey level of what does not count
BACKGROUND = "background"  # a first class of that name is black, as VOC has it
NAMES = {"human_parts": PARTS, "sal": (BACKGROUND, "salient"), "edge": ("no edge", "edge")}
NEAR_TO_FAR = np.array([(252, 243, 150), (250, 165, 65), (205, 70, 90), (100, 32, 122), (12, 8, 40)], np.float64)
STEPS = 256  # of the depth scale


def class_names(task: Task, dataset: Dataset) -> Sequence[str]:
    """What a task's labels are called, in label order; numbers where nobody has named them."""
    found = NAMES.get(task.name, dataset.classes if task.kind == "classes" else ())
    return found or [str(number) for number in range(task.channels)]


def class_colours(names: Sequence[str]) -> np.ndarray:
    """[256, 3] uint8, by label: VOC's, from black on if the first class is the background, else from the next on.

    Bits 0, 1, 2 of the label are the highest bits of red, green and blue, bits 3, 4, 5 the next, and so on.
    """
    labels = np.arange(256) + (0 if names and names[0] == BACKGROUND else 1)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    colours[IGNORE] = IGNORED
    return colours


def coloured(
    label: np.ndarray, task: Task, dataset: Dataset, *, depth: tuple[float, float] | None = None
) -> np.ndarray:
    """A label map as a `Sample` holds it, [H, W, 3] uint8.

    Args:
        label: [H, W], normals [H, W, 3].
        task: whose it is.
        dataset: names the classes.
        depth: (nearest, farthest) of the depth scale, metres; None: those of this map.
    """
    if task.kind == "depth":
        return depth_colours(label, depth or depth_range([label]))
    if task.kind == "normals":
        return normal_colours(label)
    if task.kind in ("edge", "saliency"):
        colours = np.where(label[..., None] == 1, 255, 0).astype(np.uint8).repeat(3, -1)
        colours[label == IGNORE] = IGNORED
        return colours
    return class_colours(class_names(task, dataset))[label]


def coloured_prediction(
    prediction: np.ndarray, task: Task, dataset: Dataset, *, depth: tuple[float, float] | None = None
) -> np.ndarray:
    """Colours [H, W, 3] uint8 of one image's prediction, in the form of `models.heads.decode`.

    Args:
        prediction: classes int [H, W]; saliency float [H, W] probability; edge uint8 [H, W], 255 * probability; depth
            [1, H, W] metres; normals [3, H, W], any length.
        task: whose it is.
        dataset: names the classes.
        depth: as in `coloured`; below the nearest and beyond the farthest the scale ends.
    """
    if task.kind == "depth":
        return depth_colours(
            np.maximum(prediction[0], 1e-3), depth or depth_range([prediction[0]])
        )  # below 0 scores as 0
    if task.kind == "normals":
        return normal_colours(np.moveaxis(prediction, 0, -1))
    if task.kind in ("edge", "saliency"):
        grey = prediction if task.kind == "edge" else np.rint(255 * prediction)
        return grey.astype(np.uint8)[..., None].repeat(3, -1)
    return class_colours(class_names(task, dataset))[prediction]


def normal_colours(normals: np.ndarray) -> np.ndarray:
    """[H, W, 3] vectors of any length, zero = invalid -> (n + 1) / 2 of the unit vectors."""
    normals = normals.astype(np.float32)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    known = np.isfinite(length) & (length > 0)
    unit = np.where(known, normals, 0) / np.where(known, length, 1)
    return np.where(known, np.rint((unit + 1) * 127.5), IGNORED).astype(np.uint8)


def depth_colours(depth: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """[H, W] metres, 0 or not finite = unknown -> colours of `depth_scale` between the limits (nearest, farthest)."""
    known = np.isfinite(depth) & (depth > 0)
    place = (np.where(known, depth, limits[0]).astype(np.float64) - limits[0]) / max(limits[1] - limits[0], 1e-6)
    colours = depth_scale()[np.rint(place.clip(0, 1) * (STEPS - 1)).astype(int)]
    colours[~known] = IGNORED
    return colours


def depth_range(maps: Iterable[np.ndarray]) -> tuple[float, float]:
    """(nearest, farthest) of all maps together, metres, a hundredth of the pixels left out at either end.

    (0, 1) if nothing is known.
    """
    known = [depth[np.isfinite(depth) & (depth > 0)] for depth in maps]
    joined = np.concatenate([array.ravel() for array in known]) if known else np.zeros(0)
    if not joined.size:
        return 0.0, 1.0
    low, high = np.percentile(joined, (1, 99)).tolist()
    return low, high


def depth_scale() -> np.ndarray:
    """Colours from near to far, [256, 3] uint8: equal steps look equally large, by the anchors' distances in CIELAB."""
    steps = np.linalg.norm(np.diff(_lab(NEAR_TO_FAR), axis=0), axis=1)
    places = np.concatenate([[0], steps.cumsum()]) / steps.sum()
    wanted = np.linspace(0, 1, STEPS)
    return np.rint(np.stack([np.interp(wanted, places, NEAR_TO_FAR[:, channel]) for channel in range(3)], -1)).astype(
        np.uint8
    )


def _lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB [N, 3], 0 .. 255 -> CIELAB, white D65."""
    linear = np.where(rgb <= 0.04045 * 255, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    matrix = np.array([(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)])
    x, y, z = (
        np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
        for t in (linear @ matrix.T / matrix.sum(1)).T
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)
