"""An image and its six label maps, made of a scene and of what the rays hit (`rays`).

Texture and light are computed once, for the surfaces that are seen. Pixels only meet float32 operations whose result
IEEE 754 fixes (+, -, *, /, sqrt, floor, comparisons) and no sums over arrays, here and in `rays`, so an image is the
same bytes on every machine.
"""

import numpy as np

from kdam_ray.data.rooms.draws import Draws
from kdam_ray.data.rooms.furniture import KINDS
from kdam_ray.data.rooms.paint import colour
from kdam_ray.data.rooms.rays import (
    ROUND_BALL,
    ROUND_CYLINDER,
    Solids,
    Traced,
    Triple,
    cast,
    project,
    surface_normals,
    surface_points,
)
from kdam_ray.data.rooms.scene import CLASS, Scene, draw_scene
from kdam_ray.data.source import Sample
from kdam_ray.tasks import IGNORE

VERSION = 1
"""Raised whenever `render` gives other bytes than before: caches and run ids depend on it."""

SALIENT = ("bed", "chair", "sofa", "table", "lamp", "bin", "ball", "person")
SALIENT_SHARE = 0.002  # of the image: smaller objects are not noticed
PERSON_WEIGHT = 3


def render(seed: int, index: int, *, image_size: tuple[int, int]) -> Sample:
    """Image `index` of the stream `seed`, with all six tasks.

    Args:
        seed: of the stream, >= 0.
        index: >= 0.
        image_size: (height, width), pixels; the longer side always spans the same angle.

    Returns:
        with "image" [H, W, 3] uint8; "semseg" [H, W] uint8, ids of `tasks.ROOM_CLASSES`; "human_parts" [H, W] uint8,
        ids of `tasks.PARTS`, all 255 where no person is seen; "sal" [H, W] uint8 0 / 1 (see `saliency`); "depth" [H, W]
        float32 metres; "normals" [H, W, 3] float16, x right, y up, z to the viewer, as NYUD-v2's packaging has them;
        "edge" [H, W] uint8 0 / 1.
    """
    rng = np.random.default_rng([seed, index])
    draw = Draws(rng)
    scene = draw_scene(draw, KINDS)
    salt = draw.count(0, 2**20)
    with np.errstate(all="ignore"):  # rays beside a solid give infinities and NaN, which no comparison lets through
        solids = project(scene, image_size)
        view = cast(solids, image_size, scene.camera.spread)
        local = surface_points(solids, view)
        normals = surface_normals(solids, view, local)
        image = shade(scene, solids, view, local, normals, salt, rng)
    region = solids.marks[:, 1].take(view.solid)
    parts = solids.marks[:, 2].astype(np.uint8).take(view.solid)
    return {
        "image": image,
        "semseg": np.array(scene.region_class, np.uint8).take(region),
        "human_parts": parts if parts.any() else np.full_like(parts, IGNORE),
        "sal": saliency(region, scene.region_class),
        "edge": contours(region),
        "depth": view.depth,
        "normals": np.stack((normals[0], -normals[1], -normals[2]), axis=-1).astype(np.float16),
    }


def contours(region: np.ndarray) -> np.ndarray:
    """1 where the pixel to the right or below belongs to another region; lines of 1 pixel.

    Args:
        region: [H, W] integers; every object and every wall is a region.
    """
    edge = np.zeros(region.shape, np.uint8)
    edge[:, :-1] |= region[:, :-1] != region[:, 1:]
    edge[:-1] |= region[:-1] != region[1:]
    return edge


def saliency(region: np.ndarray, region_class: list[int]) -> np.ndarray:
    """What draws the eye: movable things and persons that are seen large and near the middle; [H, W] uint8 0 / 1.

    An object scores its visible pixels, each counted once, twice in the middle 60 % and three times in the middle 30 %
    of the image, and persons three times that. Salient is every movable object with at least half of the best score;
    walls, openings, pictures, rugs and what is fitted to a wall never are. All 0 where nothing movable is seen.
    """
    height, width = region.shape
    weight = np.ones(region.shape, np.int64)
    for margin in (0.2, 0.35):
        top, left = int(height * margin), int(width * margin)
        weight[top : height - top, left : width - left] += 1
    regions = len(region_class)
    seen = np.bincount(region.ravel(), minlength=regions)
    score = np.bincount(region.ravel(), weight.ravel(), minlength=regions).astype(
        np.int64
    )  # whole numbers: exact in any order
    classes = np.array(region_class)
    score[~np.isin(classes, [CLASS[name] for name in SALIENT]) | (seen < SALIENT_SHARE * region.size)] = 0
    score[classes == CLASS["person"]] *= PERSON_WEIGHT
    return ((score > 0) & (2 * score >= score.max())).astype(np.uint8).take(region)


def shade(
    scene: Scene, solids: Solids, view: Traced, local: Triple, normals: Triple, salt: int, rng: np.random.Generator
) -> np.ndarray:
    """The image [H, W, 3] uint8: materials under lights, floor darkened around objects, a slight blur, noise."""
    material = solids.marks[:, 3].take(view.solid)
    table = np.array([row.row() for row in scene.materials], np.float32)
    rows = [np.ascontiguousarray(column).take(material) for column in table.T]
    facing = -(normals[0] * view.u + normals[1] * view.v[:, None] + normals[2])
    footprint = view.depth * (view.u[1] - view.u[0] if len(view.u) > 1 else 0.01) / np.maximum(facing, 0.05)
    albedo, gloss, glow = colour(
        rows, surface_plane(view, local, normals, solids), material + np.int32(salt), footprint
    )
    points = [view.depth * view.u, view.depth * view.v[:, None], view.depth]
    light, shine = illuminate(scene, points, normals, gloss)
    dark = floor_shade(scene, solids, view, points)
    image = np.empty((*view.depth.shape, 3), np.uint8)
    for channel in range(3):
        value = albedo[channel] * (light[channel] * dark + glow) + shine
        value = blurred(np.sqrt(np.clip(value * np.float32(scene.tint[channel]), 0.0, 1.0)))
        noise = rng.random(value.shape, np.float32) + rng.random(value.shape, np.float32) - 1
        image[..., channel] = (np.clip(value + noise * np.float32(scene.grain), 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return image


def surface_plane(view: Traced, local: Triple, normals: Triple, solids: Solids) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates along the surface, metres: of the plane that the normal of a round solid is nearest to."""
    side = view.side.copy()
    bent = np.nonzero(side >= ROUND_CYLINDER)
    if len(bent[0]):
        across, up, along = (np.abs(local[k][bent]) / solids.halves[:, k].take(view.solid[bent]) for k in range(3))
        up = up * (side[bent] == ROUND_BALL)
        side[bent] = np.where((up >= across) & (up >= along), 1, np.where(across >= along, 0, 2))
    return np.where(side == 0, local[2], local[0]), np.where(side == 1, local[2], local[1])


def illuminate(scene: Scene, points: Triple, normals: Triple, gloss: np.ndarray) -> tuple[Triple, np.ndarray]:
    """Light of each colour that falls on every point, and the highlight it sees; no shadows are cast."""
    up = scene.camera.axes
    sky = normals[0] * np.float32(up[0][1]) + normals[1] * np.float32(up[1][1]) + normals[2] * np.float32(up[2][1])
    base = np.float32(scene.ambient) * (1 + np.float32(0.25) * sky)
    light, shine = [base, base, base], np.zeros_like(gloss)
    distance = np.sqrt(points[0] * points[0] + points[1] * points[1] + points[2] * points[2])
    for position, strength in scene.lights:
        toward = [np.float32(c) - point for c, point in zip(scene.camera.seen(position), points, strict=True)]
        square = toward[0] * toward[0] + toward[1] * toward[1] + toward[2] * toward[2] + np.float32(1e-4)
        length = np.sqrt(square)
        lambert = (normals[0] * toward[0] + normals[1] * toward[1] + normals[2] * toward[2]) / length
        lit = np.maximum(lambert, 0) / (1 + square / 8)
        light = [value + np.float32(c) * lit for value, c in zip(light, strength, strict=True)]
        half = [a / length - b / distance for a, b in zip(toward, points, strict=True)]
        cosine = (normals[0] * half[0] + normals[1] * half[1] + normals[2] * half[2]) / np.sqrt(
            half[0] * half[0] + half[1] * half[1] + half[2] * half[2] + np.float32(1e-6)
        )
        for _ in range(5):
            cosine = cosine * cosine
        shine = shine + gloss * np.float32(strength[1]) * cosine * (lambert > 0)
    return light, shine


def floor_shade(scene: Scene, solids: Solids, view: Traced, points: Triple) -> np.ndarray:
    """Factor [H, W] on the light: the floor and rugs are darker under and around what stands on them."""
    dark = np.ones_like(view.depth)
    lies = np.isin(np.array(scene.region_class), (CLASS["floor"], CLASS["rug"]))[solids.marks[:, 1]].take(view.solid)
    where = np.nonzero(lies)
    seen = [point[where] for point in points]
    axes, position = scene.camera.axes, scene.camera.position
    x, z = (
        np.float32(position[c])
        + seen[0] * np.float32(axes[0][c])
        + seen[1] * np.float32(axes[1][c])
        + seen[2] * np.float32(axes[2][c])
        for c in (0, 2)
    )
    factor = np.ones_like(x)
    for shade in np.array(scene.shades, np.float32).reshape(-1, 7):
        left, back, half_width, half_depth, cos, sin, strength = shade
        east, north = x - left, z - back
        beside = np.maximum(np.abs(cos * east - sin * north) - half_width, 0)
        before = np.maximum(np.abs(sin * east + cos * north) - half_depth, 0)
        factor = factor * (1 - strength / (1 + 40 * (beside * beside + before * before)))
    dark[where] = factor
    return dark


def blurred(value: np.ndarray) -> np.ndarray:
    """A lens: 1 6 1 over rows and columns, so that contours are not steps."""
    padded = np.pad(value, 1, mode="edge")
    rows = padded[:-2] + 6 * padded[1:-1] + padded[2:]
    return (rows[:, :-2] + 6 * rows[:, 1:-1] + rows[:, 2:]) / 64
