"""The things that stand in procedural rooms, put together from boxes, cylinders and balls; and the persons.

A builder gets a `Body` whose width, height and depth (metres) are drawn, and adds its solids in the object's own frame:
x to its right, y up from its foot, z to its front.
"""

import itertools

from kdam_ray.data.rooms.paint import draw_material, skin
from kdam_ray.data.rooms.scene import BALL, BOX, CYLINDER, Body, Furniture, Vector, unit
from kdam_ray.tasks import PARTS

HEAD, TORSO, UPPER_ARM, LOWER_ARM, UPPER_LEG, LOWER_LEG = range(1, len(PARTS))


def build_cabinet(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    front, metal = body.other(), body.other()
    body.add(BOX, (0, h / 2, -0.01), (w, h, d - 0.02))
    body.add(BOX, (0, h, 0), (w + 0.04, 0.03, d + 0.03), body.other())
    across, up = (body.draw.count(1, 4), 1) if body.draw.chance(0.6) else (1, body.draw.count(2, 5))
    for i in range(across):
        for j in range(up):
            x, y = w * ((i + 0.5) / across - 0.5), 0.06 + (h - 0.08) * (j + 0.5) / up
            body.add(BOX, (x, y, d / 2), (w / across - 0.03, (h - 0.08) / up - 0.03, 0.02), front)
            body.add(BOX, (x, y + 0.1 / up, d / 2 + 0.02), (0.12, 0.025, 0.03), metal)


def build_bed(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    linen, cover = body.other(), body.other()
    body.add(BOX, (0, h * 0.35, 0), (w, h * 0.4, d), body.other())
    body.add(BOX, (0, h * 0.75, 0.02), (w - 0.01, h * 0.45, d - 0.02))
    body.add(BOX, (0, h * 0.8, d * 0.14), (w + 0.02, h * 0.44, d * 0.66), cover)
    body.add(BOX, (0, h * 0.95, -d / 2 + 0.03), (w + 0.04, h * 1.9, 0.06), body.other())
    pillows = 2 if w > 1.2 else 1
    for i in range(pillows):
        body.add(BALL, (w * ((i + 0.5) / pillows - 0.5), h, -d * 0.36), (0.8 * w / pillows, 0.16, 0.42), linen)
    body.pair(BOX, (w / 2 - 0.06, h * 0.1, d / 2 - 0.06), (0.07, h * 0.2, 0.07), linen)


def build_chair(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    seat, wood = h * 0.5, body.other()
    body.add(BOX, (0, seat, 0), (w, 0.06, d))
    if body.draw.chance(0.5):
        body.add(BOX, (0, (seat + h) / 2 + 0.08, -d / 2 + 0.03), (w, h - seat - 0.16, 0.05))
        body.pair(BOX, (w / 2 - 0.05, seat + 0.1, -d / 2 + 0.03), (0.04, 0.2, 0.03), wood)
    else:
        for y in (0.25, 0.6, 0.95):
            body.add(BOX, (0, seat + (h - seat) * y, -d / 2 + 0.025), (w, 0.08, 0.03))
        body.pair(BOX, (w / 2 - 0.02, (seat + h) / 2, -d / 2 + 0.02), (0.04, h - seat, 0.04), wood)
    if body.draw.chance(0.3):
        body.add(CYLINDER, (0, seat / 2, 0), (0.07, seat, 0.07), wood)
        body.add(CYLINDER, (0, 0.03, 0), (w, 0.05, d), wood)
    else:
        add_legs(body, seat, 0.045, wood)


def build_sofa(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    cushion, arm = body.other(), min(0.22, w * 0.12)
    body.add(BOX, (0, h * 0.25, 0), (w, h * 0.34, d))
    body.add(BOX, (0, h * 0.6, -d / 2 + 0.12), (w, h * 0.8, 0.24))
    for side in (-1, 1):
        body.add(BOX, (side * (w - arm) / 2, h * 0.4, 0.01), (arm, h * 0.55, d))
        body.add(CYLINDER, (side * (w / 2 - 0.08), h * 0.05, d / 2 - 0.08), (0.06, h * 0.1, 0.06), cushion)
    seats = max(1, round(w / 0.75))
    for i in range(seats):
        x = (w - 2 * arm) * ((i + 0.5) / seats - 0.5)
        body.add(BOX, (x, h * 0.48, 0.1), ((w - 2 * arm) / seats - 0.02, h * 0.16, d - 0.3), cushion)
    if body.draw.chance(0.6):
        body.add(BALL, (body.draw.between(-0.3, 0.3) * w, h * 0.7, -d / 2 + 0.3), (0.4, 0.38, 0.18), body.other())


def build_table(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    wood = body.other()
    if body.draw.chance(0.35):
        body.add(CYLINDER, (0, h, 0), (w, 0.05, d))
        body.add(CYLINDER, (0, h / 2, 0), (0.09, h, 0.09), wood)
        body.add(CYLINDER, (0, 0.03, 0), (w * 0.5, 0.05, d * 0.5), wood)
        return
    body.add(BOX, (0, h, 0), (w, 0.05, d))
    if body.draw.chance(0.6):
        body.add(BOX, (0, h - 0.07, 0), (w - 0.1, 0.09, d - 0.1), wood)
    if body.draw.chance(0.2):
        body.pair(BOX, (w / 2 - 0.03, h / 2, 0), (0.04, h, d - 0.04), wood)
    else:
        add_legs(body, h, body.draw.between(0.05, 0.09), wood)


def add_legs(body: Body, height: float, thick: float, material: int) -> None:
    shape = CYLINDER if body.draw.chance(0.5) else BOX
    for x, z in itertools.product((-1, 1), (-1, 1)):
        centre = (x * (body.width - thick) / 2, height / 2, z * (body.depth - thick) / 2)
        body.add(shape, centre, (thick, height, thick), material)


def build_door(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    frame = body.other()
    body.add(BOX, (0, h / 2, -0.01), (w, h, d))
    body.pair(BOX, (w / 2, h / 2, 0), (0.08, h + 0.08, d + 0.03), frame)
    body.add(BOX, (0, h, 0), (w, 0.08, d + 0.03), frame)
    if body.draw.chance(0.6):
        panel = body.other()
        for y, share in ((0.28, 0.4), (0.74, 0.38)):
            body.add(BOX, (0, h * y, d / 2), (w * 0.62, h * share, 0.025), panel)
    body.add(BALL, (body.draw.pick((-1, 1)) * w * 0.38, h * 0.48, d / 2 + 0.04), (0.09, 0.07, 0.07), body.other())


def build_window(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    pane = body.scene.materials[body.main]
    body.scene.materials[body.main] = pane._replace(glow=body.draw.between(0.2, 1.0), gloss=0.3)
    frame = body.scene.paint(draw_material(body.draw, "window"))
    body.add(BOX, (0, h / 2, 0), (w, h, d * 0.5))
    for side in (-1, 1):
        body.add(BOX, (side * w / 2, h / 2, 0), (0.07, h + 0.07, d), frame)
        body.add(BOX, (0, h / 2 + side * h / 2, 0), (w + 0.07, 0.07, d), frame)
    bars = body.draw.count(0, 3)
    for i in range(bars):
        body.add(BOX, (w * ((i + 1) / (bars + 1) - 0.5), h / 2, 0), (0.05, h, d * 0.9), frame)
    if body.draw.chance(0.5):
        body.add(BOX, (0, h * body.draw.pick((0.5, 0.7)), 0), (w, 0.05, d * 0.9), frame)
    body.add(BOX, (0, -0.03, 0.06), (w + 0.16, 0.04, d + 0.12), frame)


def build_shelf(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    boards = max(2, round(h / 0.4))
    body.pair(BOX, (w / 2 - 0.015, h / 2, 0), (0.03, h, d))
    body.add(BOX, (0, h / 2, -d / 2 + 0.01), (w, h, 0.02), body.other())
    books = [body.scene.paint(draw_material(body.draw, "shelf")) for _ in range(3)]
    gap = (h - 0.03) / boards
    for i in range(boards + 1):
        body.add(BOX, (0, 0.015 + i * gap, 0), (w, 0.03, d))
        if i < boards and body.draw.chance(0.8):
            wide, tall = body.draw.between(0.3, 0.9) * w, body.draw.between(0.5, 0.85) * gap
            x = body.draw.between(-0.5, 0.5) * (w - wide)
            body.add(BOX, (x, 0.03 + i * gap + tall / 2, -0.02), (wide, tall, d * 0.7), body.draw.pick(books))


def build_picture(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    body.add(BOX, (0, h / 2, 0), (w, h, d), body.other())
    border = body.draw.between(0.04, 0.12)
    body.add(BOX, (0, h / 2, 0.006), (w - border, h - border, d))


def build_lamp(body: Body) -> None:
    """A standing lamp, or one that hangs from the ceiling when its foot is in the air."""
    w, h = body.width, body.height
    shade = body.scene.materials[body.main]
    body.scene.materials[body.main] = shade._replace(glow=body.draw.between(0.3, 1.2) if body.draw.chance(0.7) else 0.0)
    metal, tall = body.other(), min(0.35, w * 0.8)
    hangs = body.foot[1] > 0.5
    middle = tall / 2 if hangs else h - tall / 2
    body.add(BALL if body.draw.chance(0.3) else CYLINDER, (0, middle, 0), (w, tall, w))
    if hangs:
        body.add(CYLINDER, (0, (tall + h) / 2, 0), (0.025, h - tall, 0.025), metal)
    else:
        body.add(CYLINDER, (0, h / 2 - tall / 4, 0), (0.04, h - tall / 2, 0.04), metal)
        body.add(CYLINDER, (0, 0.02, 0), (w * 0.7, 0.04, w * 0.7), metal)


def build_bin(body: Body) -> None:
    w, h, d = body.width, body.height, body.depth
    if body.draw.chance(0.6):
        body.add(CYLINDER, (0, h / 2, 0), (w, h, w))
        body.add(CYLINDER, (0, h, 0), (w * 1.08, 0.03, w * 1.08), body.other())
    else:
        body.add(BOX, (0, h / 2, 0), (w, h, d))
        body.add(BOX, (0, h, 0), (w * 1.06, 0.05, d * 1.06), body.other())


def build_ball(body: Body) -> None:
    body.add(BALL, (0, body.width / 2, 0), (body.width, body.width, body.width))


def build_rug(body: Body) -> None:
    body.add(CYLINDER if body.draw.chance(0.4) else BOX, (0, 0.003, 0), (body.width, 0.006, body.depth))


def build_person(body: Body) -> None:
    """A standing figure of the 6 parts of PASCAL-Person-Part: the neck is torso, hands and feet are lower limbs."""
    h, draw = body.height, body.draw
    flesh = body.scene.paint(skin(draw))
    trousers, hair = (body.scene.paint(draw_material(draw, "person")) for _ in range(2))
    sleeves = body.main if draw.chance(0.7) else flesh
    body.add(CYLINDER, (0, 0.64 * h, 0), (0.2 * h, 0.32 * h, 0.125 * h), None, TORSO)
    body.add(BALL, (0, 0.785 * h, 0), (0.26 * h, 0.1 * h, 0.13 * h), None, TORSO)
    body.add(CYLINDER, (0, 0.83 * h, 0), (0.06 * h, 0.08 * h, 0.06 * h), flesh, TORSO)
    body.add(BALL, (0, 0.5 * h, 0), (0.205 * h, 0.13 * h, 0.14 * h), trousers, TORSO)
    body.add(BALL, (0, 0.925 * h, 0.01 * h), (0.1 * h, 0.15 * h, 0.115 * h), flesh, HEAD)
    body.add(BALL, (0, 0.945 * h, -0.012 * h), (0.112 * h, 0.125 * h, 0.115 * h), hair, HEAD)
    stride = draw.between(-0.5, 0.5)
    for side in (-1, 1):
        add_arm(body, side, side * stride, (sleeves, flesh))
        add_leg(body, side, -side * stride, (trousers, hair))


def add_arm(body: Body, side: int, swing: float, materials: tuple[int, int]) -> None:
    """An arm from the shoulder, which lies inside the torso, to the hand; hanging, bent or raised."""
    h, draw = body.height, body.draw
    raised = draw.chance(0.2)
    shoulder = (side * 0.118 * h, 0.785 * h, 0.0)
    down = draw.between(-0.8, 0.3) if raised else -1.0
    elbow = reach(
        shoulder, (side * draw.between(0.08, 0.9 if raised else 0.35), down, swing + draw.between(-0.2, 0.2)), 0.17 * h
    )
    bent = draw.between(0.0, 1.2) if draw.chance(0.5) else 0.1
    fore = (side * draw.between(-0.5, 0.25), 0.8 if raised and draw.chance(0.5) else -1.0, swing + bent)
    hand = reach(elbow, fore, 0.16 * h)
    body.limb(shoulder, elbow, 0.032 * h, materials[0], UPPER_ARM)
    body.limb(elbow, hand, 0.026 * h, materials[0] if draw.chance(0.5) else materials[1], LOWER_ARM)
    body.add(BALL, hand, (0.06 * h, 0.075 * h, 0.06 * h), materials[1], LOWER_ARM)


def add_leg(body: Body, side: int, swing: float, materials: tuple[int, int]) -> None:
    """A leg from the hip to the foot, which stays on the floor or a little above it."""
    h = body.height
    hip = (side * 0.052 * h, 0.5 * h, 0.0)
    knee = reach(hip, (side * 0.08, -1.0, swing * 0.7 + 0.05), 0.235 * h)
    ankle = reach(knee, (0.0, -1.0, swing * 0.5 - 0.1), 0.24 * h)
    body.limb(hip, knee, 0.05 * h, materials[0], UPPER_LEG)
    body.limb(knee, ankle, 0.037 * h, materials[0], LOWER_LEG)
    foot = (ankle[0], max(ankle[1] - 0.01 * h, 0.018 * h), ankle[2] + 0.035 * h)
    body.add(BOX, foot, (0.06 * h, 0.035 * h, 0.14 * h), materials[1], LOWER_LEG)


def reach(start: Vector, direction: Vector, length: float) -> Vector:
    x, y, z = unit(direction)
    return start[0] + length * x, start[1] + length * y, start[2] + length * z


KINDS: tuple[Furniture, ...] = (
    #    label    weight width        height       depth        stands     lift         shade
    Furniture("cabinet", 8, (0.5, 1.6), (0.7, 1.9), (0.35, 0.6), "wall", (0.0, 0.0), 0.6, build_cabinet),
    Furniture("bed", 7, (0.9, 1.7), (0.4, 0.6), (1.8, 2.1), "wall", (0.0, 0.0), 0.6, build_bed),
    Furniture("chair", 14, (0.38, 0.55), (0.8, 1.1), (0.38, 0.55), "free", (0.0, 0.0), 0.3, build_chair),
    Furniture("sofa", 7, (0.9, 2.1), (0.7, 0.95), (0.75, 0.95), "either", (0.0, 0.0), 0.6, build_sofa),
    Furniture("table", 10, (0.7, 1.6), (0.4, 0.8), (0.6, 0.9), "free", (0.0, 0.0), 0.3, build_table),
    Furniture("door", 6, (0.75, 1.0), (1.95, 2.15), (0.05, 0.06), "wall", (0.0, 0.0), 0.0, build_door),
    Furniture("window", 7, (0.7, 1.8), (0.8, 1.3), (0.06, 0.1), "wall", (0.8, 1.05), 0.0, build_window),
    Furniture("shelf", 7, (0.6, 1.4), (0.9, 2.1), (0.25, 0.35), "wall", (0.0, 0.0), 0.6, build_shelf),
    Furniture("picture", 11, (0.35, 1.2), (0.35, 0.8), (0.03, 0.05), "wall", (1.15, 1.5), 0.0, build_picture),
    Furniture("lamp", 6, (0.3, 0.55), (1.3, 1.8), (0.3, 0.55), "free", (0.0, 0.0), 0.2, build_lamp),
    Furniture("lamp", 4, (0.3, 0.6), (0.4, 0.8), (0.3, 0.6), "ceiling", (0.0, 0.0), 0.0, build_lamp),
    Furniture("bin", 9, (0.25, 0.45), (0.3, 0.7), (0.25, 0.45), "either", (0.0, 0.0), 0.6, build_bin),
    Furniture("ball", 9, (0.2, 0.6), (0.2, 0.6), (0.2, 0.6), "free", (0.0, 0.0), 0.5, build_ball),
    Furniture("person", 10, (0.5, 0.6), (1.1, 1.9), (0.4, 0.5), "free", (0.0, 0.0), 0.4, build_person),
    Furniture("rug", 7, (1.0, 2.2), (0.01, 0.02), (0.8, 1.6), "free", (0.0, 0.0), 0.0, build_rug),
)
