"""What the camera sees of a scene: one ray through the middle of every pixel, and the nearest surface it meets.

Rays have z = 1 in the camera frame (x right, y down, z forward), so a ray's parameter is z-depth. Every solid is tested
only inside the rectangle that its corners span on the screen.
"""

from typing import NamedTuple

import numpy as np

from kdam_ray.data.rooms.scene import BALL, BOX, CYLINDER, FACES, Scene, Vector

NEAR = 0.05  # metres: what is nearer to the camera's plane has no projection
ROUND_CYLINDER, ROUND_BALL = 3, 4  # sides of a solid, after the flat ones 0, 1, 2 named by their axis

Triple = list[np.ndarray]
Hit = tuple[np.ndarray, np.ndarray, np.ndarray | np.int8]


class Solids(NamedTuple):
    """The solids of a scene in the camera's frame; the first six are the faces of the room, which share their numbers.

    Attributes:
        frames: [N, 3, 3] float32, unit vectors right, up and front in camera coordinates.
        halves: [N, 3] float32, half sizes, metres.
        eyes: [N, 3] float32, the camera in the solid's frame, metres.
        windows: [N, 4] integers, first and last + 1 row and column of the screen that it can touch.
        marks: [N, 4] int32: shape, region, part, material.
    """

    frames: np.ndarray
    halves: np.ndarray
    eyes: np.ndarray
    windows: np.ndarray
    marks: np.ndarray


class Traced(NamedTuple):
    """The rays, and the surface that each of them hits.

    Attributes:
        u, v: [W], [H] float32, the rays (u, v, 1).
        depth: [H, W] float32, z-depth, metres.
        solid: [H, W] int32, number of the solid.
        side: [H, W] int8, its axis where the surface is flat, else ROUND_CYLINDER or ROUND_BALL.
    """

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    solid: np.ndarray
    side: np.ndarray


def project(scene: Scene, image_size: tuple[int, int]) -> Solids:
    """Moves all solids into the camera's frame and finds their rectangles on the screen."""
    room = tuple(side / 2 for side in scene.size)
    upright = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    rows = np.array([(*room, *room, *upright)] * len(FACES) + scene.solids)
    marks = np.array([(BOX, face, 0, face) for face in range(len(FACES))] + scene.marks, np.int32)
    axes = rows[:, 6:15].reshape(-1, 3, 3)
    offset = np.array(scene.camera.position) - rows[:, 0:3]
    frames = np.stack([inner(axes, axis) for axis in scene.camera.axes], axis=-1)
    middle = np.stack([-inner(offset, axis) for axis in scene.camera.axes], axis=-1)
    eyes = np.stack(
        [axes[:, k, 0] * offset[:, 0] + axes[:, k, 1] * offset[:, 1] + axes[:, k, 2] * offset[:, 2] for k in range(3)],
        axis=-1,
    )
    windows = screen_windows(middle, frames * rows[:, 3:6, None], image_size, scene.camera.spread)
    return Solids(frames.astype(np.float32), rows[:, 3:6].astype(np.float32), eyes.astype(np.float32), windows, marks)


def inner(vectors: np.ndarray, axis: Vector) -> np.ndarray:
    """Inner products over the last axis, in a fixed order of additions."""
    return vectors[..., 0] * axis[0] + vectors[..., 1] * axis[1] + vectors[..., 2] * axis[2]


def screen_windows(middle: np.ndarray, arms: np.ndarray, image_size: tuple[int, int], spread: float) -> np.ndarray:
    """Rectangles around the projected corners; the whole screen for what reaches behind the camera.

    Args:
        middle: [N, 3] centres, camera frame.
        arms: [N, 3, 3] half axes, camera frame.
        image_size: (height, width), pixels.
        spread: tangent of half the angle of view along the longer side.

    Returns:
        [N, 4] integers: first row, last row + 1, first column, last column + 1; empty where nothing is seen.
    """
    corners = np.stack([
        middle + i * arms[:, 0] + j * arms[:, 1] + k * arms[:, 2] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)
    ])  # fmt: skip
    behind = (corners[..., 2] < NEAR).any(0)
    windows = np.empty((len(middle), 4), np.int64)
    scale = max(image_size) / 2 / spread
    for first, length, axis in ((0, image_size[0], 1), (2, image_size[1], 0)):
        pixel = corners[..., axis] / np.maximum(corners[..., 2], NEAR) * scale + length / 2
        windows[:, first] = np.where(behind, 0, np.clip(np.floor(pixel.min(0)) - 1, 0, length))
        windows[:, first + 1] = np.where(behind, length, np.clip(np.ceil(pixel.max(0)) + 1, 0, length))
    windows[(corners[..., 2] < NEAR).all(0)] = 0
    return windows


def cast(solids: Solids, image_size: tuple[int, int], spread: float) -> Traced:
    """Finds the nearest surface along every ray."""
    height, width = image_size
    step = 2 * spread / max(image_size)
    u, v = (((np.arange(n) - (n - 1) / 2) * step).astype(np.float32) for n in (width, height))
    view = Traced(u, v, *inside_room(local_rays(solids.frames[0], u, v), solids))
    for number in range(len(FACES), len(solids.marks)):
        top, bottom, left, right = solids.windows[number]
        if top >= bottom or left >= right:
            continue
        rays = local_rays(solids.frames[number], u[left:right], v[top:bottom])
        found, depth, side = HITS[int(solids.marks[number, 0])](rays, solids.eyes[number], solids.halves[number])
        nearest = view.depth[top:bottom, left:right]
        found &= (depth > NEAR) & (depth < nearest)
        np.copyto(nearest, depth, where=found)
        np.copyto(view.solid[top:bottom, left:right], number, where=found)
        np.copyto(view.side[top:bottom, left:right], side, where=found)
    return view


def local_rays(frame: np.ndarray, u: np.ndarray, v: np.ndarray) -> Triple:
    """The rays (u, v, 1) in a solid's frame: three arrays [h, w]."""
    return [axis[0] * u + (axis[1] * v + axis[2])[:, None] for axis in frame]


def inside_room(rays: Triple, solids: Solids) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, face and axis [H, W] where rays leave the room."""
    leave = [
        (np.copysign(half, ray) - eye) / ray
        for ray, eye, half in zip(rays, solids.eyes[0], solids.halves[0], strict=True)
    ]
    depth = np.minimum(np.minimum(leave[0], leave[1]), leave[2])
    side = np.where(depth == leave[0], 0, np.where(depth == leave[1], 1, 2)).astype(np.int8)
    ahead = np.choose(side, rays) > 0
    return depth, 2 * side.astype(np.int32) + ahead, side


def hit_box(rays: Triple, eye: np.ndarray, half: np.ndarray) -> Hit:
    """Where rays enter a box: the test by slabs. Returns found, depth and axis of the side, [h, w]."""
    slabs = [hit_slab(ray, start, reach) for ray, start, reach in zip(rays, eye, half, strict=True)]
    (enter_x, leave_x), (enter_y, leave_y), (enter_z, leave_z) = slabs
    depth = np.maximum(np.maximum(enter_x, enter_y), enter_z)
    found = depth < np.minimum(np.minimum(leave_x, leave_y), leave_z)
    side = (depth != enter_x).astype(np.int8)
    side += (depth != enter_y) & (side > 0)
    return found, depth, side


def hit_ball(rays: Triple, eye: np.ndarray, half: np.ndarray) -> Hit:
    """Where rays enter an ellipsoid; returns as `hit_box`."""
    depth, leave = hit_round(rays, eye, half, (0, 1, 2))
    return depth < leave, depth, np.int8(ROUND_BALL)


def hit_cylinder(rays: Triple, eye: np.ndarray, half: np.ndarray) -> Hit:
    """Where rays enter an upright elliptic cylinder; returns as `hit_box`."""
    depth, leave = hit_round(rays, eye, half, (0, 2))
    enter_lid, leave_lid = hit_slab(rays[1], eye[1], half[1])
    side = np.where(enter_lid > depth, 1, ROUND_CYLINDER).astype(np.int8)
    depth = np.maximum(depth, enter_lid)
    return depth < np.minimum(leave, leave_lid), depth, side


def hit_slab(ray: np.ndarray, eye: np.float32, half: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave the space between two parallel planes."""
    inverse = 1 / ray
    middle, extent = inverse * -eye, np.abs(inverse) * half
    return middle - extent, middle + extent


def hit_round(rays: Triple, eye: np.ndarray, half: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave a ball or an endless cylinder, scaled to radius 1; NaN where they pass by.

    Points are first moved along the ray to about the solid's distance: seen from the eye the squares would cancel.
    """
    start = np.sqrt(eye[0] * eye[0] + eye[1] * eye[1] + eye[2] * eye[2])
    square = middle = constant = np.float32(0)
    for k in axes:
        scale = 1 / half[k]
        ray = rays[k] * scale
        point = eye[k] * scale + start * ray
        square, middle, constant = square + ray * ray, middle + point * ray, constant + point * point
    root = np.sqrt(middle * middle - square * (constant - 1))
    return start - (middle + root) / square, start - (middle - root) / square


HITS = {BOX: hit_box, CYLINDER: hit_cylinder, BALL: hit_ball}


def surface_points(solids: Solids, view: Traced) -> Triple:
    """The seen points in the frame of their solid, metres: three arrays [H, W]."""
    points = []
    for k in range(3):
        axis = [solids.frames[:, k, c].take(view.solid) for c in range(3)]
        points.append(
            solids.eyes[:, k].take(view.solid) + view.depth * (axis[0] * view.u + axis[1] * view.v[:, None] + axis[2])
        )
    return points


def surface_normals(solids: Solids, view: Traced, local: Triple) -> Triple:
    """Unit normals towards the camera, in camera coordinates: three arrays [H, W]."""
    flat = np.minimum(view.side, 2)
    rows = view.solid * 3 + flat
    table = solids.frames.reshape(-1, 3)
    normals = [table[:, c].take(rows) for c in range(3)]
    away = normals[0] * view.u + normals[1] * view.v[:, None] + normals[2] > 0
    for normal in normals:
        np.negative(normal, out=normal, where=away)
    bent = np.nonzero(view.side >= ROUND_CYLINDER)
    if len(bent[0]):
        for normal, values in zip(normals, bent_normals(solids, view, local, bent), strict=True):
            normal[bent] = values
    return normals


def bent_normals(solids: Solids, view: Traced, local: Triple, bent: tuple[np.ndarray, ...]) -> Triple:
    """Gradients of the ellipsoid or elliptic cylinder, at the chosen pixels only."""
    solid, is_ball = view.solid[bent], view.side[bent] == ROUND_BALL
    slopes = []
    for k in range(3):
        half = solids.halves[:, k].take(solid)
        slopes.append(local[k][bent] / (half * half) * (is_ball if k == 1 else 1))
    values = [
        slopes[0] * solids.frames[:, 0, c].take(solid) + slopes[1] * solids.frames[:, 1, c].take(solid)
        + slopes[2] * solids.frames[:, 2, c].take(solid) for c in range(3)
    ]  # fmt: skip
    length = np.sqrt(values[0] * values[0] + values[1] * values[1] + values[2] * values[2])
    return [value / length for value in values]
