"""Non-maximum suppression of a boundary map, compiled (Dollar's structured edges, as the SEISM evaluator uses it).

Importing this module compiles it, or loads what an earlier process compiled.
"""

import math

import numpy as np

from kdam_ray.metrics.compiled import compiled

TRIANGLE = 4  # radius of the smoothing that orientation is taken from
BORDER = 5  # outer pixels whose strength fades to 0
SLACK = 1.01  # a pixel is suppressed where even this multiple of it stays below a neighbour


@compiled("float32(float32[:, ::1], intp, intp, boolean)")
def slope(values: np.ndarray, y: int, x: int, along_x: bool) -> np.float32:
    """Derivative at a pixel: centred, one-sided at the border, 0 across a single row or column."""
    size, at = (values.shape[1], x) if along_x else (values.shape[0], y)
    low, high = max(at - 1, 0), min(at + 1, size - 1)
    if low == high:
        return np.float32(0)
    rise = values[y, high] - values[y, low] if along_x else values[high, x] - values[low, x]
    return rise / np.float32(high - low)


@compiled("void(float32[:, ::1], float32[:, ::1])")
def smooth_rows(source: np.ndarray, target: np.ndarray) -> None:
    """[1 2 3 4 5 4 3 2 1] / 25 along each row with mirrored ends; the result is written transposed, [W, H]."""
    height, width = source.shape
    padded = np.empty(width + 2 * TRIANGLE, np.float32)
    for y in range(height):
        for i in range(width + 2 * TRIANGLE):
            at = (i - TRIANGLE) % (2 * width)
            padded[i] = source[y, at if at < width else 2 * width - 1 - at]
        for x in range(width):
            total = np.float32(0)
            for k in range(2 * TRIANGLE + 1):
                total += padded[x + k] * np.float32(TRIANGLE + 1 - abs(k - TRIANGLE))
            target[x, y] = total / np.float32((TRIANGLE + 1) ** 2)


@compiled("float32(float32[:, ::1], float32, float32)")
def between(values: np.ndarray, y: np.float32, x: np.float32) -> np.float32:
    """Bilinear value at a point, coordinates clamped to [0, size - 1.001]."""
    height, width = values.shape
    y = max(min(y, np.float32(height - 1.001)), np.float32(0))
    x = max(min(x, np.float32(width - 1.001)), np.float32(0))
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - np.float32(top), x - np.float32(left)
    upper = values[top, left] * (np.float32(1) - dx) + values[top, right] * dx
    lower = values[bottom, left] * (np.float32(1) - dx) + values[bottom, right] * dx
    return upper * (np.float32(1) - dy) + lower * dy


@compiled("boolean(float32[:, ::1], float32[:, ::1], float32[:, ::1], intp, intp)")
def is_ridge(strength: np.ndarray, down: np.ndarray, right: np.ndarray, y: int, x: int) -> bool:
    """Whether no neighbour across the contour is stronger; `down`, `right` are the slopes of the smoothed map.

    The direction across is atan(Oyy sign(-Oxy) / (Oxx + 1e-5)); only its cosine and sine are needed, and both
    neighbours are looked at, so that turning it by pi changes nothing.
    """
    xx, xy, yy = slope(right, y, x, True), slope(down, y, x, True), slope(down, y, x, False)
    across_x = xx + np.float32(1e-5)
    across_y = -yy * np.sign(xy)
    length = math.sqrt(across_x * across_x + across_y * across_y)
    step_x = np.float32(across_x / length) if length > 0 else np.float32(1)
    step_y = np.float32(across_y / length) if length > 0 else np.float32(0)
    own = np.float32(SLACK) * strength[y, x]
    py, px = np.float32(y), np.float32(x)
    return own >= between(strength, py - step_y, px - step_x) and own >= between(strength, py + step_y, px + step_x)


@compiled("float32[:, ::1](uint8[:, ::1])")
def suppressed(grey: np.ndarray) -> np.ndarray:
    """Strength of each pixel on a ridge, 0 off ridges, fading to 0 over the outer five pixels.

    Args:
        grey: uint8 [H, W], boundary probability times 255.

    Returns:
        float32 [H, W], 0 .. 1.
    """
    height, width = grey.shape
    strength = grey / np.float32(255)
    turned, smooth = np.empty((width, height), np.float32), np.empty((height, width), np.float32)
    smooth_rows(strength, turned)
    smooth_rows(turned, smooth)
    down, right, kept = np.empty_like(smooth), np.empty_like(smooth), np.zeros_like(smooth)
    for y in range(height):
        for x in range(width):
            down[y, x] = slope(smooth, y, x, False)
            right[y, x] = slope(smooth, y, x, True)
    reach_y, reach_x = max(min(BORDER, height // 2), 1), max(min(BORDER, width // 2), 1)
    for y in range(height):
        for x in range(width):
            if grey[y, x] > 0 and is_ridge(strength, down, right, y, x):
                kept[y, x] = strength[y, x]
                if width > 1 and min(x, width - 1 - x) < reach_x:
                    kept[y, x] *= np.float32(min(x, width - 1 - x)) / np.float32(reach_x)
                if height > 1 and min(y, height - 1 - y) < reach_y:
                    kept[y, x] *= np.float32(min(y, height - 1 - y)) / np.float32(reach_y)
    return kept
