"""Images of every kind become what networks learnt on, and predictions lie on the image as its owner sees it.

python -m pytest tests/learning/test_infer.py
"""

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from kdam_ray.data.predictions import read_prediction
from kdam_ray.learning import infer
from kdam_ray.learning.evaluate import Candidate, evaluate
from kdam_ray.learning.infer import InputImage, decoded_enlarged, predict, read_picture
from kdam_ray.models import build_network
from kdam_ray.models.heads import resize
from kdam_ray.tasks import DATASETS

ROOMS = DATASETS["rooms"]
TASKS = [task.name for task in ROOMS.tasks]
LEFT_RED = np.zeros((6, 8, 3), np.uint8)
LEFT_RED[:, :4, 0] = 255


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return build_network("resnet_w8", "mt_baseline", ROOMS.tasks, image_size=(32, 48))


def saved(folder, array, name="image.png", mode=None, **options):
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_survive_every_mode(tmp_path, mode):
    picture = read_picture(saved(tmp_path, LEFT_RED, mode=mode))
    np.testing.assert_array_equal(picture.image, LEFT_RED)
    assert picture.size == (6, 8)


@pytest.mark.parametrize(
    ("mode", "name"), [("L", "a.png"), ("LA", "a.png"), ("1", "a.png"), ("CMYK", "a.tif"), ("L", "a.bmp")]
)
def test_other_modes_become_rgb(tmp_path, mode, name):
    white = read_picture(saved(tmp_path, np.full((6, 8, 3), 255, np.uint8), name, mode)).image
    assert white.shape == (6, 8, 3)
    assert (white == 255).all()


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
@pytest.mark.parametrize("brightest", [255, 256, 65535])
def test_sixteen_bits_become_eight_however_dark_the_image(tmp_path, name, brightest):
    """Pillow opens some of these as mode "I;16" and others as "I"."""
    picture = read_picture(saved(tmp_path, np.array([[0, 200, brightest]], np.uint16), name))
    assert picture.image[0].tolist() == [[0] * 3, [0] * 3, [brightest // 256] * 3]
    assert "8-bit" in picture.notes[0]
    assert f"65535 as white; the brightest is {brightest}" in picture.notes[0]


def test_an_old_pillows_mode_of_sixteen_bits_is_read_alike(tmp_path, monkeypatch):
    path = saved(tmp_path, np.array([[255, 256 * 7]], np.uint16))
    turned = infer.ImageOps.exif_transpose
    monkeypatch.setattr(infer.ImageOps, "exif_transpose", lambda image: turned(image).convert("I"))
    assert read_picture(path).image[0, :, 0].tolist() == [0, 7]


def test_floating_point_has_its_white_at_one(tmp_path):
    picture = read_picture(saved(tmp_path, np.array([[0, 0.5, 0.999, 1]], np.float32), "a.tif"))
    assert picture.image[0, :, 0].tolist() == [0, 128, 255, 255]
    assert "1 as white" in picture.notes[0]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            np.array([[0, 213.5]], np.float32),
            r"deep\.tif: holds floating-point grey values from 0 to 213\.5; scale them to 0 \.\. 1",
        ),
        (np.array([[-0.1, 1]], np.float32), r"from -0\.1 to 1"),
        (np.array([[0, np.nan]], np.float32), r"deep\.tif: holds floating-point grey values"),
        (np.array([[0, 10**6]], np.int32), r"deep\.tif: holds 32-bit or signed grey values.*save it with 8 or 16 bits"),
        (np.array([[0, 200]], np.int32), "32-bit or signed"),  # may be 8 bits, may be a dark image of 16
    ],
)
def test_grey_values_without_a_white_are_refused(tmp_path, values, says):
    with pytest.raises(ValueError, match=says):
        read_picture(saved(tmp_path, values, "deep.tif"))


def test_of_several_frames_the_first_is_read_and_it_is_said(tmp_path):
    frames = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    picture = read_picture(tmp_path / "pages.tif")
    assert (picture.image == 10).all()
    assert picture.notes == ("the first of 2 frames",)


def test_transparency_is_laid_on_white(tmp_path):
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (read_picture(saved(tmp_path, clear)).image == 255).all()


def test_a_turned_photograph_is_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    picture = read_picture(saved(tmp_path, LEFT_RED, exif=exif))
    assert picture.size == (8, 6)
    assert picture.image[0].tolist() == [[255, 0, 0]] * 6  # what was on the left is on top
    assert any("EXIF" in note for note in picture.notes)


def test_what_is_no_image_is_refused_by_name(tmp_path):
    (tmp_path / "notes.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"notes\.jpg: cannot be read as an image"):
        read_picture(tmp_path / "notes.jpg")
    cut = saved(tmp_path, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), "cut.png")
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cut\.png"):
        read_picture(cut)


def test_large_images_are_reduced_and_it_is_said(tmp_path):
    path = saved(tmp_path, np.zeros((100, 400, 3), np.uint8))
    picture = read_picture(path, limit=200)
    assert picture.image.shape == (50, 200, 3)
    assert picture.size == (100, 400)
    assert "100 x 400 to 50 x 200" in picture.notes[0]
    assert read_picture(path, limit=400).notes == ()


@pytest.mark.parametrize("canvas", [(32, 48), (50, 70)])  # the images' own size; larger, so that they are padded
def test_predictions_are_those_of_evaluation(network, tmp_path, canvas):
    source = tiny.TinySource(1, seed=4)
    evaluate({"a": Candidate(network, TASKS, predictions=tmp_path)}, source, ROOMS, image_size=canvas)
    image = source[0]["image"]
    found = predict(network, InputImage(image, image.shape[:2]), ROOMS, TASKS, image_size=canvas)
    assert network.training
    for task in ROOMS.tasks:
        (path,) = (tmp_path / task.name).iterdir()
        np.testing.assert_array_equal(found[task.name], read_prediction(path, task, (32, 48)))


def test_predictions_of_a_reduced_image_have_the_files_size(network):
    picture = InputImage(tiny.TinySource(1)[0]["image"], (75, 111))
    found = predict(network, picture, ROOMS, TASKS, image_size=(32, 48))
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {"semseg": (75, 111), "depth": (1, 75, 111), "normals": (3, 75, 111), "edge": (75, 111)}


def test_enlarging_in_bands_is_enlarging_at_once(monkeypatch):
    logits = torch.randn(1, 17, 9, 13, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(infer, "BAND_NUMBERS", 17 * 50 * 7)  # 7 rows at a time
    torch.testing.assert_close(decoded_enlarged("depth", logits, (40, 50)), resize(logits, (40, 50)))


def test_outputs_that_are_not_finite_are_refused(network):
    broken = build_network("resnet_w8", "mt_baseline", ROOMS.tasks, image_size=(32, 48))
    with torch.no_grad():
        broken.decoder.logits["depth"].bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="depth: the network's output is not finite"):
        predict(broken, InputImage(LEFT_RED, (6, 8)), ROOMS, TASKS, image_size=(32, 48))
