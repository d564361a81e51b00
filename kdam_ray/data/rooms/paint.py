"""What surfaces of a procedural room are made of, and how colour is computed at every pixel.

A class only suggests its look: with probability `PRIOR` a surface has the hue, pattern and period that its class tends
to have, else any. Colour therefore helps, but shape and place have to tell the rest.
"""

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from typing import NamedTuple

import numpy as np

from kdam_ray.data.rooms.draws import Draws

PRIOR = 0.6
HUE_DEVIATION = 0.07
PLAIN, STRIPES, CHECKER, WAVES, DOTS, TILES, CLOUDS = range(7)

LOOK = {  # hue, pattern, repeats per metre
    "wall": (0.12, PLAIN, 3.0), "floor": (0.08, WAVES, 5.0), "ceiling": (0.15, PLAIN, 2.0),
    "cabinet": (0.06, WAVES, 8.0),
    "bed": (0.60, CHECKER, 5.0), "chair": (0.02, PLAIN, 4.0), "sofa": (0.95, CLOUDS, 6.0), "table": (0.09, WAVES, 6.0),
    "door": (0.10, WAVES, 3.0), "window": (0.55, PLAIN, 1.0), "shelf": (0.07, STRIPES, 6.0),
    "picture": (0.40, CLOUDS, 9.0),
    "lamp": (0.14, PLAIN, 5.0), "bin": (0.33, STRIPES, 9.0), "ball": (0.85, STRIPES, 7.0), "person": (0.70, PLAIN, 7.0),
    "rug": (0.98, DOTS, 5.0),
}  # fmt: skip


Colour = tuple[float, float, float]


class Material(NamedTuple):
    """A surface: two colours in a pattern.

    Attributes:
        first, second: linear RGB.
        pattern: index, PLAIN .. CLOUDS.
        repeats: periods per metre.
        turn: (cos, sin) of the pattern's direction.
        rough: share of blotches over the pattern.
        gloss: strength of the highlight.
        glow: light of its own.
    """

    first: Colour
    second: Colour
    pattern: int
    repeats: float
    turn: tuple[float, float]
    rough: float
    gloss: float
    glow: float = 0.0

    def shaded(self, factor: float) -> "Material":
        """The same material, darker or lighter."""
        r, g, b = (min(value * factor, 1.0) for value in self.first)
        s, t, u = (min(value * factor, 1.0) for value in self.second)
        return self._replace(first=(r, g, b), second=(s, t, u))

    def row(self) -> tuple[float, ...]:
        """Numbers in the order that `colour` reads them."""
        return (*self.first, *self.second, self.pattern, self.repeats, *self.turn, self.rough, self.gloss, self.glow)


def draw_material(draw: Draws, label: str) -> Material:
    """A surface of that class, which has its class's look with probability PRIOR."""
    hue, pattern, repeats = LOOK[label]
    if draw.chance(PRIOR):
        hue, repeats = draw.about(hue, HUE_DEVIATION), repeats * draw.between(0.8, 1.25)
    else:
        hue, pattern, repeats = draw.between(0, 1), draw.count(PLAIN, CLOUDS + 1), draw.between(1.0, 9.0)
    pale = label in ("wall", "ceiling")
    saturation, value = draw.between(0.05, 0.45 if pale else 0.8), draw.between(0.5 if pale else 0.25, 0.95)
    first = hsv_to_rgb(hue % 1.0, saturation, value)
    contrast = draw.between(0.55, 0.85) if draw.chance(0.5) else draw.between(1.15, 1.5)
    second = hsv_to_rgb(
        (hue + draw.about(0.0, 0.08)) % 1.0, saturation * draw.between(0.5, 1.0), min(value * contrast, 1.0)
    )
    turn = draw.turn(0.1) if draw.chance(0.7) else draw.turn()
    gloss = draw.between(0.1, 0.5) if draw.chance(0.3) else 0.0
    return Material(first, second, pattern, repeats, turn, draw.between(0.03, 0.25), gloss)


def skin(draw: Draws) -> Material:
    """Material of a person's skin."""
    colour = hsv_to_rgb(draw.between(0.04, 0.09), draw.between(0.25, 0.6), draw.between(0.3, 0.95))
    return Material(colour, colour, PLAIN, 1.0, (1.0, 0.0), 0.08, 0.1)


def colour(
    rows: Sequence[np.ndarray], place: tuple[np.ndarray, np.ndarray], seed: np.ndarray, footprint: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Albedo, gloss and glow of every pixel.

    Args:
        rows: 13 arrays [H, W] float32, `Material.row` of each pixel's material.
        place: two coordinates [H, W] on the surface, metres.
        seed: [H, W] int32, what blotches are drawn from.
        footprint: [H, W] metres of surface that one pixel covers; a pattern finer than that fades.

    Returns:
        three channels [H, W], gloss [H, W], glow [H, W].
    """
    first, second = rows[0:3], rows[3:6]
    pattern, repeats, cos, sin, rough, gloss, glow = rows[6:13]
    a = (cos * place[0] + sin * place[1]) * repeats
    b = (cos * place[1] - sin * place[0]) * repeats
    blotches = smooth_noise(a, b, seed)
    fade = np.clip(1.6 - 1.6 * footprint * repeats, 0.0, 1.0)
    mix = (mask_of(pattern.astype(np.int8), a, b, blotches) - 0.5) * fade + 0.5
    level = 1 + rough * (2 * blotches - 1) * fade
    return [(x + (y - x) * mix) * level for x, y in zip(first, second, strict=True)], gloss, glow


def mask_of(pattern: np.ndarray, a: np.ndarray, b: np.ndarray, blotches: np.ndarray) -> np.ndarray:
    """Share of the second colour at pattern coordinates (a, b), periods; [H, W] in 0 .. 1."""
    below_a, below_b = np.floor(a), np.floor(b)
    part_a, part_b = a - below_a, b - below_b
    wave = a + 0.7 * blotches
    choices = (
        np.zeros_like(a),
        part_a < 0.5,
        (part_a < 0.5) != (part_b < 0.5),
        np.abs(2 * (wave - np.floor(wave)) - 1),
        (part_a - 0.5) * (part_a - 0.5) + (part_b - 0.5) * (part_b - 0.5) < 0.09,
        (part_a < 0.12) | (part_b < 0.12),
        blotches,
    )
    mask = np.zeros_like(a)
    for index, choice in enumerate(choices):
        np.copyto(mask, choice, where=pattern == index)
    return mask


def smooth_noise(a: np.ndarray, b: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Random values on the whole numbers of the plane, blended between them; 0 .. 1."""
    a, b = a * 1.7, b * 1.7
    below_a, below_b = np.floor(a), np.floor(b)
    x, y = a - below_a, b - below_b
    x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
    # An infinite coordinate (none is expected) must not turn into a platform's own choice of integer.
    column, row = (np.clip(v, -1e6, 1e6).astype(np.int32) for v in (below_a, below_b))
    corners = [[hashed(column + i, row + j, seed) for i in (0, 1)] for j in (0, 1)]
    upper, lower = (left + (right - left) * x for left, right in corners)
    return upper + (lower - upper) * y


def hashed(column: np.ndarray, row: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """A fixed pseudo-random value in [0, 1) for whole numbers; wraps around in 32 bits by intent."""
    mixed = column.astype(np.uint32) * np.uint32(0x9E3779B1) + row.astype(np.uint32) * np.uint32(0x85EBCA77)
    mixed += seed.astype(np.uint32) * np.uint32(0xC2B2AE3D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed ^= mixed >> np.uint32(12)
    return (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
