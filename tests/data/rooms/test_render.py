"""Procedural rooms: the same bytes everywhere, and labels that agree with each other and with geometry.

python -m pytest tests/data/rooms/test_render.py
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy._core._multiarray_umath as numpy_core
import pytest

from kdam_ray.data.rooms.draws import Draws
from kdam_ray.data.rooms.furniture import KINDS
from kdam_ray.data.rooms.rays import HITS, cast, local_rays, project
from kdam_ray.data.rooms.render import VERSION, contours, render, saliency
from kdam_ray.data.rooms.scene import BALL, BOX, CLASS, CYLINDER, draw_scene
from kdam_ray.tasks import IGNORE, PARTS, ROOM_CLASSES

SIZE = (48, 64)
PINNED = {
    1: "bae1272199587e8f1588358ba67fb83b6d55e70278de9cad77d91cb23198837b"
}  # version: hash of three rooms; whoever changes a pixel raises the version


def digest(sample: Any) -> str:
    total = hashlib.sha256()
    for field in sorted(sample):
        total.update(field.encode() + np.ascontiguousarray(sample[field]).tobytes())
    return total.hexdigest()


def scene_of(seed: int, index: int) -> Any:
    return draw_scene(Draws(np.random.default_rng([seed, index])), KINDS)


def rays(shape: Any, spread: Any) -> Any:
    """[H, W, 3], z = 1; x right, y down."""
    step = 2 * spread / max(shape)
    x, y = ((np.arange(n) - (n - 1) / 2) * step for n in shape[::-1])
    return np.stack((*np.meshgrid(x, y), np.ones(shape)), axis=-1)


def in_camera(normals: Any) -> Any:
    """From the packaging's y up, z to the viewer, to y down, z forward."""
    return normals.astype(float) * (1, -1, -1)


@pytest.fixture(scope="module", params=range(6))
def room(request: pytest.FixtureRequest) -> Any:
    return render(3, request.param, image_size=(96, 128)), scene_of(3, request.param)


def test_a_room_is_a_function_of_seed_and_index() -> None:
    first = digest(render(1, 5, image_size=SIZE))
    assert first == digest(render(1, 5, image_size=SIZE))
    assert len({first, digest(render(1, 6, image_size=SIZE)), digest(render(2, 5, image_size=SIZE))}) == 3


def three_rooms() -> str:
    return hashlib.sha256("".join(digest(render(0, index, image_size=SIZE)) for index in range(3)).encode()).hexdigest()


def test_pixels_do_not_change_silently() -> None:
    assert PINNED.get(VERSION) == three_rooms(), "pixels changed: raise rooms.render.VERSION and pin this hash under it"


def test_another_process_on_an_older_processor_renders_the_same_bytes() -> None:
    """numpy chooses its loops by the processor; without the newer instructions they must give the same bits."""
    newer = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__.get(name)]
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import test_render; print(test_render.three_rooms())"
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(newer)}
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout
    assert answer.strip() == three_rooms()


def test_a_finer_image_shows_the_same_room() -> None:
    """Every third pixel of an image three times as large has the ray of a pixel of the small one."""
    small, large = render(4, 1, image_size=(30, 40)), render(4, 1, image_size=(90, 120))
    assert np.mean(small["semseg"] == large["semseg"][1::3, 1::3]) > 0.999
    assert np.quantile(np.abs(small["depth"] - large["depth"][1::3, 1::3]), 0.99) < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (37, 51), (120, 31), (425, 560)])
def test_any_size(size: Any) -> None:
    sample = render(0, 2, image_size=size)
    shapes = {field: array.shape for field, array in sample.items()}
    assert shapes == {field: (*size, 3) if field in ("image", "normals") else size for field in shapes}
    types = {field: array.dtype.name for field, array in sample.items()}
    maps = dict.fromkeys(("image", "semseg", "human_parts", "sal", "edge"), "uint8")
    assert types == maps | {"depth": "float32", "normals": "float16"}


def test_depth_is_positive_and_in_the_room(room: Any) -> None:
    sample, scene = room
    points = sample["depth"][..., None] * rays(sample["depth"].shape, scene.camera.spread)
    world = np.array(scene.camera.position) + points @ np.array(scene.camera.axes)
    assert (sample["depth"] > 0).all()
    assert (world > -1e-3).all()
    assert (world < np.array(scene.size) + 1e-3).all()


def test_normals_are_unit_and_face_the_camera(room: Any) -> None:
    sample, scene = room
    normals = in_camera(sample["normals"])
    toward = (normals * rays(sample["depth"].shape, scene.camera.spread)).sum(-1)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-3)  # float16
    assert toward.max() < 2e-3  # a round thing is seen edge-on at its contour, up to float16
    assert np.mean(toward < 0) > 0.999


def test_normals_agree_with_depth(room: Any) -> None:
    """Fitted planes, independent of how normals are made: every 3x3 patch of one flat surface."""
    sample, scene = room
    points = sample["depth"][..., None] * rays(sample["depth"].shape, scene.camera.spread)
    normals = in_camera(sample["normals"])
    patches = np.lib.stride_tricks.sliding_window_view(points, (3, 3), (0, 1)).reshape(94, 126, 3, 9)
    _, sizes, basis = np.linalg.svd((patches - patches.mean(-1, keepdims=True)).swapaxes(-1, -2), full_matrices=False)
    same = (np.lib.stride_tricks.sliding_window_view(normals, (3, 3), (0, 1)).std((-1, -2)) == 0).all(-1)
    flat = same & (sizes[..., 2] < 0.01 * sizes[..., 1])
    cosine = np.abs((basis[..., 2, :] * normals[1:-1, 1:-1]).sum(-1))[flat]
    assert flat.mean() > 0.5
    assert np.quantile(np.degrees(np.arccos(np.minimum(cosine, 1))), 0.99) < 2


def test_the_floor_is_a_plane_below(room: Any) -> None:
    sample, scene = room
    floor = sample["semseg"] == CLASS["floor"]
    points = (sample["depth"][..., None] * rays(floor.shape, scene.camera.spread))[floor]
    plane = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][2]
    normal = in_camera(sample["normals"])[floor].mean(0)
    assert np.degrees(np.arccos(min(abs(plane @ normal) / np.linalg.norm(normal), 1))) < 0.5
    assert sample["normals"][floor][:, 1].min() > 0.7  # y is up in the packaging


def test_parts_are_persons() -> None:
    seen = 0
    for index in range(20):
        sample = render(3, index, image_size=SIZE)
        person, parts = sample["semseg"] == CLASS["person"], sample["human_parts"]
        if person.any():
            np.testing.assert_array_equal((parts > 0) & (parts < len(PARTS)), person)
            seen |= sum(1 << part for part in np.unique(parts))
        else:
            assert (parts == IGNORE).all()
    assert seen == (1 << len(PARTS)) - 1


def holds(shape: Any, row: Any, points: Any) -> bool:
    """Any of the points lies in the solid, or within 5 % of its size beside it."""
    local = (points - row[:3]) @ row[6:15].reshape(3, 3).T / row[3:6] / 1.05
    beside = {
        BOX: np.abs(local).max(-1),
        BALL: (local**2).sum(-1),
        CYLINDER: np.maximum((local[:, ::2] ** 2).sum(-1), np.abs(local[:, 1])),
    }
    return bool((beside[shape] <= 1).any())


def test_a_body_hangs_together() -> None:
    """No arm floats beside its torso: solids that hold an end or the middle of another join, and all of a person are
    joined.
    """
    persons = 0
    for index in range(40):
        scene = scene_of(5, index)
        for region in [r for r, label in enumerate(scene.region_class) if label == CLASS["person"]]:
            solids = [(m[0], np.array(row)) for row, m in zip(scene.solids, scene.marks, strict=True) if m[1] == region]
            spots = [row[:3] + np.array([[-1], [0], [1]]) * row[9:12] * row[4] for _, row in solids]
            joined, news = {0}, [0]
            while news:
                one = news.pop()
                touched = {
                    i for i in range(len(solids)) if holds(*solids[one], spots[i]) or holds(*solids[i], spots[one])
                } - joined
                joined |= touched
                news += touched
            assert len(joined) == len(solids)
            persons += 1
    assert persons > 10


def test_edges_are_where_regions_meet(room: Any) -> None:
    sample, scene = room
    solids = project(scene, (96, 128))
    with np.errstate(all="ignore"):
        region = solids.marks[:, 1][cast(solids, (96, 128), scene.camera.spread).solid]
    expected = np.zeros((96, 128), int)
    for y, x in np.ndindex(96, 128):
        expected[y, x] = any(region[y, x] != region[b, a] for b, a in ((y, x + 1), (y + 1, x)) if b < 96 and a < 128)
    np.testing.assert_array_equal(sample["edge"], expected)
    np.testing.assert_array_equal(sample["semseg"], np.array(scene.region_class)[region])


def test_an_edge_is_one_pixel_wide() -> None:
    region = np.zeros((6, 8), int)
    region[2:5, 3:6] = 1
    assert contours(region).tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 1, 0, 0],
        [0, 0, 1, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_saliency_prefers_persons_and_the_middle() -> None:
    region = np.zeros((20, 20), int)  # a wall
    region[8:12, 8:12] = 1  # a chair in the middle: 16 pixels that count three times
    region[0:3, 0:8] = 2  # a bin in the corner: 24 pixels that count once, half of the chair's score
    region[0:3, 12:19] = 3  # a ball in the corner: 21 pixels, less than half
    region[14:20, 0:20] = 4  # a cabinet, which is fitted
    labels = [CLASS[name] for name in ("wall", "chair", "bin", "ball", "cabinet")]
    assert np.unique(region[saliency(region, labels) == 1]).tolist() == [1, 2]
    labels[3] = CLASS["person"]
    assert np.unique(region[saliency(region, labels) == 1]).tolist() == [1, 3]
    assert not saliency(region, [CLASS["wall"]] * 5).any()


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        (BOX, lambda p: np.abs(p).max(-1) < 1),
        (BALL, lambda p: (p**2).sum(-1) < 1),
        (CYLINDER, lambda p: (p[..., 0] ** 2 + p[..., 2] ** 2 < 1) & (np.abs(p[..., 1]) < 1)),
    ],
)
def test_rays_hit_what_marching_finds(shape: int, inside: Callable[[np.ndarray], np.ndarray]) -> None:
    """Against walking along each ray in small steps, float64."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        frame = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        half, centre = rng.uniform(0.2, 0.8, 3), np.array([*rng.uniform(-0.5, 0.5, 2), rng.uniform(2, 4)])
        u, v = np.linspace(-0.6, 0.6, 24), np.linspace(-0.5, 0.5, 20)
        eye = -(frame @ centre)
        with np.errstate(all="ignore"):
            single = [a.astype(np.float32) for a in (frame, u, v, eye, half)]
            found, depth, _ = HITS[shape](local_rays(*single[:3]), *single[3:])
        steps = np.linspace(1, 5, 2001)
        local = (np.stack((*np.meshgrid(u, v), np.ones((20, 24))), -1) @ frame.T)[:, :, None] * steps[:, None] + eye
        within = inside(local / half)
        assert np.mean(found == within.any(-1)) > 0.99  # a ray that grazes may fall between the steps
        both = found & within.any(-1)
        assert both.sum() > 10
        assert np.abs(depth - steps[within.argmax(-1)])[both].max() < 4e-3  # two steps


def test_rooms_hold_every_class() -> None:
    """And none is drowned: a class that is never seen cannot be learnt."""
    samples = [render(0, index, image_size=(32, 48))["semseg"] for index in range(200)]
    seen = np.array([np.bincount(semseg.ravel(), minlength=len(ROOM_CLASSES)) for semseg in samples])
    assert seen.shape[1] == len(ROOM_CLASSES)
    assert (seen > 0).mean(0).min() > 0.15
    assert (seen.sum(0) / seen.sum()).max() < 0.6


def test_light_and_colour_vary() -> None:
    """The same class has many colours: no look-up of a colour gives the class."""
    colours = []
    for index in range(40):
        sample = render(0, index, image_size=(32, 48))
        colours.append(sample["image"][sample["semseg"] == CLASS["floor"]].mean(0))
    assert np.std(colours, axis=0).min() > 15


def test_rendering_is_quick_enough() -> None:
    """CPU time, so that a busy machine does not matter; about 6 ms were measured, the bar is 20 ms."""
    render(0, 0, image_size=(96, 128))
    start = time.process_time()
    for index in range(20):
        render(0, index, image_size=(96, 128))
    assert (time.process_time() - start) / 20 < 0.04
