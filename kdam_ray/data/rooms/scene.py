"""One procedural room: what stands in it, where, made of what, and who looks.

A scene is a list of boxes, cylinders and balls. World coordinates are metres, x to the right, y up from the floor, z
into the room. Every number comes from one stream of uniform draws through +, -, *, / and sqrt alone (directions are
drawn as rational points of the circle, never through sin and cos), so that a scene is the same bits on every machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import NamedTuple

from kdam_ray.data.rooms.draws import Draws
from kdam_ray.data.rooms.paint import Material, draw_material
from kdam_ray.tasks import ROOM_CLASSES

BOX, CYLINDER, BALL = range(3)
CLASS = {name: label for label, name in enumerate(ROOM_CLASSES)}
FACES = (
    "wall",
    "wall",
    "floor",
    "ceiling",
    "wall",
    "wall",
)  # of the room: x = 0, x = width, y = 0, y = height, z = 0, z = length
OBJECTS = (6, 12)  # draws per room, the last excluded; what finds no place is left out
TRIES = 8  # to find a place
NEAREST = 1.0  # metres in front of the camera where objects may begin

Vector = tuple[float, float, float]
Frame = tuple[Vector, Vector, Vector]  # right, up and front of an object, unit vectors in the world
Range = tuple[float, float]


class Camera(NamedTuple):
    """A pinhole; rays have z = 1 in its frame, so a ray's parameter is z-depth.

    Attributes:
        position: world, metres.
        axes: right, down and forward, unit vectors in the world.
        spread: tangent of half the angle of view along the longer side of the image.
    """

    position: Vector
    axes: Frame
    spread: float

    def seen(self, point: Vector) -> Vector:
        """A world point in camera coordinates."""
        offset = minus(point, self.position)
        return dot(self.axes[0], offset), dot(self.axes[1], offset), dot(self.axes[2], offset)


@dataclass
class Scene:
    """What a renderer needs, in plain rows.

    Attributes:
        size: (width, height, length) of the room, metres.
        camera: who looks.
        solids: rows of 15: centre, half sizes, right, up, front.
        marks: rows of 4: shape, region, part, material.
        region_class: semseg class of each region; regions 0 .. 5 are the faces of the room, the others one object each.
        materials: what `marks` points to; 0 .. 5 are the faces of the room.
        shades: (x, z, half width, half depth, cos, sin, strength) of what darkens the floor around it.
        lights: (position, colour) of point lights.
        ambient: light from everywhere.
        grain: noise of the sensor, share of full scale.
        tint: gain of the red, green and blue channel.
    """

    size: Vector
    camera: Camera
    solids: list[tuple[float, ...]] = field(default_factory=list)
    marks: list[tuple[int, int, int, int]] = field(default_factory=list)
    region_class: list[int] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)
    shades: list[tuple[float, ...]] = field(default_factory=list)
    lights: list[tuple[Vector, Vector]] = field(default_factory=list)
    ambient: float = 0.4
    grain: float = 0.03
    tint: Vector = (1.0, 1.0, 1.0)

    def paint(self, material: Material) -> int:
        self.materials.append(material)
        return len(self.materials) - 1


class Body:
    """An object being built: its parts in its own frame (x right, y up from its foot, z to its front), metres."""

    def __init__(self, scene: Scene, draw: Draws, label: str, foot: Vector, turn: tuple[float, float], size: Vector):
        self.scene, self.draw, self.label = scene, draw, label
        self.width, self.height, self.depth = size
        self.foot, (self.cos, self.sin) = foot, turn
        self.frame: Frame = ((self.cos, 0.0, -self.sin), (0.0, 1.0, 0.0), (self.sin, 0.0, self.cos))
        self.region = len(scene.region_class)
        scene.region_class.append(CLASS[label])
        self.main = scene.paint(draw_material(draw, label))

    def other(self) -> int:
        """A second material: most often a shade of the main one, else its own."""
        main = self.scene.materials[self.main]
        if self.draw.chance(0.6):
            return self.scene.paint(main.shaded(self.draw.between(0.55, 1.35)))
        return self.scene.paint(draw_material(self.draw, self.label))

    def world(self, point: Vector) -> Vector:
        x, y, z = point
        return self.foot[0] + self.cos * x + self.sin * z, self.foot[1] + y, self.foot[2] - self.sin * x + self.cos * z

    def add(self, shape: int, centre: Vector, size: Vector, material: int | None = None, part: int = 0) -> None:
        """A solid of that full size, upright in the object's frame."""
        self._put(shape, self.world(centre), size, self.frame, material, part)

    def pair(self, shape: int, centre: Vector, size: Vector, material: int | None = None) -> None:
        """A solid at that centre, to the right of the middle, and one as far to the left, which comes first."""
        for side in (-1, 1):
            self.add(shape, (side * centre[0], centre[1], centre[2]), size, material)

    def limb(self, start: Vector, end: Vector, radius: float, material: int | None = None, part: int = 0) -> None:
        """A round bar between two points."""
        first, last = self.world(start), self.world(end)
        along, centre = (
            minus(last, first),
            ((first[0] + last[0]) / 2, (first[1] + last[1]) / 2, (first[2] + last[2]) / 2),
        )
        up = unit(along)
        side = unit(cross(up, (1.0, 0.0, 0.0) if abs(up[0]) < 0.6 else (0.0, 0.0, 1.0)))
        size = (2 * radius, sqrt(dot(along, along)), 2 * radius)
        self._put(CYLINDER, centre, size, (side, up, cross(side, up)), material, part)

    def _put(self, shape: int, centre: Vector, size: Vector, frame: Frame, material: int | None, part: int) -> None:
        halves = (size[0] / 2, size[1] / 2, size[2] / 2)
        self.scene.solids.append((*centre, *halves, *frame[0], *frame[1], *frame[2]))
        self.scene.marks.append((shape, self.region, part, self.main if material is None else material))


class Furniture(NamedTuple):
    """How one class of object is drawn and placed.

    Attributes:
        label: semseg class.
        weight: relative frequency of its draws.
        width, height, depth: ranges, metres.
        stands: "wall" (its back to a wall), "free" (anywhere, any way round), "either", or "ceiling".
        lift: range of the height of its foot above the floor, metres.
        shade: how much it darkens the floor around it.
        build: adds the solids.
    """

    label: str
    weight: float
    width: Range
    height: Range
    depth: Range
    stands: str
    lift: Range
    shade: float
    build: Callable[[Body], None]


def draw_scene(draw: Draws, kinds: Sequence[Furniture]) -> Scene:
    """A furnished room with lights and a camera."""
    size = (draw.between(3.2, 6.2), draw.between(2.4, 3.1), draw.between(3.8, 7.5))
    scene = Scene(size, draw_camera(draw, size))
    first_wall = draw_material(draw, "wall")
    for label in FACES:
        scene.region_class.append(CLASS[label])
        same = label == "wall" and draw.chance(0.6)
        scene.paint(first_wall.shaded(draw.between(0.92, 1.08)) if same else draw_material(draw, label))
    if draw.chance(0.3):
        add_pillar(scene, draw)
    taken: list[tuple[Vector, Vector]] = []
    weights = [kind.weight for kind in kinds]
    for _ in range(draw.count(*OBJECTS)):
        place_object(scene, draw, kinds[draw.weighted(weights)], taken)
    draw_light(scene, draw)
    return scene


def draw_camera(draw: Draws, size: Vector) -> Camera:
    """Somebody near the front wall who looks into the room, a little downwards, the head hardly tilted."""
    width, _, length = size
    position = (draw.between(0.2, 0.8) * width, draw.between(1.0, 1.8), draw.between(0.2, 0.15 * length))
    target = (draw.between(0.15, 0.85) * width, draw.between(0.3, 1.4), draw.between(0.65, 1.0) * length)
    forward = unit(minus(target, position))
    right = unit((forward[2], 0.0, -forward[0]))
    down = cross(forward, right)
    down = down if down[1] < 0 else (-down[0], -down[1], -down[2])
    cos, sin = draw.turn(0.03)
    axes = (turned(right, down, cos, sin), turned(down, right, cos, -sin), forward)
    return Camera(position, axes, draw.between(0.58, 0.8))


def draw_light(scene: Scene, draw: Draws) -> None:
    """One or two point lights, warm or cold, with more or less light from everywhere, and a camera's colour balance."""
    width, height, length = scene.size
    for _ in range(draw.count(1, 3)):
        position = (draw.between(0.1, 0.9) * width, draw.between(0.7, 0.97) * height, draw.between(0.05, 0.9) * length)
        power, warm = draw.between(0.35, 1.1), draw.between(-0.15, 0.2)
        scene.lights.append((position, (power * (1 + warm), power, power * (1 - warm))))
    scene.ambient, scene.grain = draw.between(0.12, 0.38), draw.between(0.01, 0.06)
    scene.tint = (draw.between(0.88, 1.12), draw.between(0.95, 1.05), draw.between(0.88, 1.12))


def add_pillar(scene: Scene, draw: Draws) -> None:
    """A piece of the back or a side wall that stands out: walls are not always planes."""
    height = scene.size[1]
    size = (draw.between(0.3, 1.0), height, draw.between(0.15, 0.5))
    foot, turn = draw_wall_spot(scene, draw, size, 0.0)
    pillar = Body(scene, draw, "wall", foot, turn, size)
    pillar.add(BOX, (0.0, height / 2, 0.0), size, draw.pick((0, 5, pillar.main)))


def place_object(scene: Scene, draw: Draws, kind: Furniture, taken: list[tuple[Vector, Vector]]) -> None:
    """Builds one object where it is in view and touches nothing; nowhere, when no such place is found."""
    size = (draw.between(*kind.width), draw.between(*kind.height), draw.between(*kind.depth))
    lift = scene.size[1] - size[1] if kind.stands == "ceiling" else draw.between(*kind.lift)
    at_wall = kind.stands == "wall" or (kind.stands == "either" and draw.chance(0.5))
    for _ in range(TRIES):
        foot, turn = (draw_wall_spot if at_wall else draw_free_spot)(scene, draw, size, lift)
        box = bounds(foot, turn, size)
        if is_in_view(scene, foot, size) and (kind.label == "rug" or not any(overlap(box, other) for other in taken)):
            break
    else:
        return
    if kind.label != "rug":
        taken.append(box)
    kind.build(Body(scene, draw, kind.label, foot, turn, size))
    if kind.shade:
        scene.shades.append((foot[0], foot[2], size[0] / 2, size[2] / 2, *turn, kind.shade))


def draw_wall_spot(scene: Scene, draw: Draws, size: Vector, lift: float) -> tuple[Vector, tuple[float, float]]:
    """A foot and a turn with the back to the left, right or back wall."""
    width, _, length = scene.size
    wall = draw.pick(("left", "right", "back", "back"))
    reach = width if wall == "back" else length
    along, out = draw.between(size[0] / 2, max(size[0] / 2, reach - size[0] / 2)), size[2] / 2 + 0.002
    return {
        "left": ((out, lift, along), (0.0, 1.0)),
        "right": ((width - out, lift, along), (0.0, -1.0)),
        "back": ((along, lift, length - out), (-1.0, 0.0)),
    }[wall]


def draw_free_spot(scene: Scene, draw: Draws, size: Vector, lift: float) -> tuple[Vector, tuple[float, float]]:
    """A foot and a turn anywhere in the room."""
    width, _, length = scene.size
    margin = max(size[0], size[2]) / 2 + 0.05
    cos, sin = draw.turn()
    side = draw.pick((1.0, -1.0))
    x, z = draw.between(margin, max(margin, width - margin)), draw.between(margin, max(margin, length - margin))
    return (x, lift, z), (side * cos, side * sin)


def is_in_view(scene: Scene, foot: Vector, size: Vector) -> bool:
    """The middle of the object lies between the sides of the image and all of it in front of the camera."""
    x, _, z = scene.camera.seen((foot[0], foot[1] + size[1] / 2, foot[2]))
    return z > NEAREST + max(size[0], size[2]) / 2 and abs(x) < 0.95 * scene.camera.spread * z


def bounds(foot: Vector, turn: tuple[float, float], size: Vector) -> tuple[Vector, Vector]:
    """Lower and upper corner of the upright box around an object."""
    cos, sin = abs(turn[0]), abs(turn[1])
    x, z = (cos * size[0] + sin * size[2]) / 2, (sin * size[0] + cos * size[2]) / 2
    return (foot[0] - x, foot[1], foot[2] - z), (foot[0] + x, foot[1] + size[1], foot[2] + z)


def overlap(one: tuple[Vector, Vector], other: tuple[Vector, Vector]) -> bool:
    return all(one[0][i] < other[1][i] and other[0][i] < one[1][i] for i in range(3))


def turned(a: Vector, b: Vector, cos: float, sin: float) -> Vector:
    """`a`, turned towards `b`."""
    return cos * a[0] + sin * b[0], cos * a[1] + sin * b[1], cos * a[2] + sin * b[2]


def dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def unit(a: Vector) -> Vector:
    length = sqrt(dot(a, a))
    return a[0] / length, a[1] / length, a[2] / length
