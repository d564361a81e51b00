"""Predictions of any code base, scored: python -m pytest tests/learning/test_score.py"""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging_files import write_packaging
from PIL import Image
from said import without_progress

from kdam_ray.data.opening import Wanted, open_source
from kdam_ray.data.packaged.export import export_packaging
from kdam_ray.data.predictions import read_prediction, take_inventory, write_prediction
from kdam_ray.learning.evaluate import Candidate, evaluate
from kdam_ray.learning.score import Request, score_images, total
from kdam_ray.models import build_network
from kdam_ray.tasks import DATASETS

NYUD = DATASETS["nyud"]
JOB = Path(__file__).parents[2] / "jobs" / "score_predictions.py"
SIZE = (40, 56)


@pytest.fixture(scope="module")
def packaging(tmp_path_factory):
    return write_packaging(tmp_path_factory.mktemp("data") / "nyud", train=2, val=5, size=SIZE)


@pytest.fixture
def perfect(packaging, tmp_path):
    """The labels themselves, as predictions."""
    folder = tmp_path / "predictions"
    for identity in (packaging / "gt_sets" / "val.txt").read_text().split():
        classes = np.array(Image.open(packaging / "segmentation" / f"{identity}.png"))
        write_prediction(folder, NYUD.task("semseg"), identity, np.maximum(classes.astype(np.int64) - 1, 0))
        write_prediction(folder, NYUD.task("depth"), identity, np.load(packaging / "depth" / f"{identity}.npy")[None])
        write_prediction(
            folder, NYUD.task("edge"), identity, np.array(Image.open(packaging / "edge" / f"{identity}.png"))
        )
        (folder / "normals").mkdir(exist_ok=True)
        shutil.copy(packaging / "normals" / f"{identity}.png", folder / "normals")
    return folder


def request_of(packaging, folder, **options):
    source = open_source(Wanted(NYUD, "val", None, SIZE), root=str(packaging))
    return Request(NYUD, source, take_inventory(folder, NYUD.tasks, source.ids), **options)


def scored(packaging, folder, processes=1, **options):
    request = request_of(packaging, folder, **options)
    return total(request, list(score_images(request, processes=processes)))


def job(capfd, *arguments):
    """Exit code, stdout, stderr of the job, run in this process."""
    dataset = () if "--dataset" in arguments else ("--dataset", "nyud")
    sys.argv = [str(JOB), *dataset, *map(str, arguments)]
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(JOB), run_name="__main__")
    said = capfd.readouterr()
    return stop.value.code, said.out, without_progress(said.err)


def test_perfect_predictions_are_perfect(packaging, perfect):
    scores = scored(packaging, perfect)
    assert scores.images == 5
    assert scores.problems == []
    assert {value for value in scores.per_class["semseg"].values() if value is not None} == {100.0}
    assert scores.metrics["depth/rmse"] == 0
    assert scores.metrics["normals/mErr"] == pytest.approx(0, abs=1e-5)  # float32 unit vectors
    assert all(image["semseg/mIoU"] == 100 for image in scores.per_image.values())


def test_boundaries_of_the_truth_score_a_hundred_but_for_what_the_protocol_takes_away(packaging, perfect):
    """The contour as it is matched scores 100 without suppression, which fades the outer five pixels."""
    from kdam_ray.metrics import true_boundaries

    source = request_of(packaging, perfect).source
    for index, identity in enumerate(source.ids):
        boundary = true_boundaries(source.regions(index), "seg2bmap")
        write_prediction(perfect, NYUD.task("edge"), identity, 255 * boundary.astype(np.uint8))
    assert scored(packaging, perfect, convention="mti").metrics["edge/odsF"] == 100
    assert 60 < scored(packaging, perfect).metrics["edge/odsF"] < 100  # random specks, a third of them near the border


@pytest.mark.slow
def test_processes_change_nothing(packaging, perfect):
    draw = np.random.default_rng(1)
    for path in (perfect / "depth").iterdir():
        np.save(path, draw.uniform(1, 5, SIZE))
    one, two = (scored(packaging, perfect, processes=count) for count in (1, 2))
    assert one.metrics == two.metrics
    assert one.per_image == two.per_image


def test_rmse_is_the_definition_over_the_set(packaging, perfect):
    draw = np.random.default_rng(1)
    errors = []
    for path in sorted((perfect / "depth").iterdir()):
        prediction = draw.uniform(-1, 5, SIZE)
        np.save(path, prediction)
        truth = np.load(packaging / "depth" / path.name)
        errors.append(((np.maximum(prediction, 0) - truth) ** 2)[truth > 0])
    assert scored(packaging, perfect).metrics["depth/rmse"] == pytest.approx(
        np.sqrt(np.concatenate(errors).mean()), abs=1e-6
    )


def test_boundaries_on_a_list_of_images_only(packaging, perfect):
    ids = request_of(packaging, perfect).source.ids
    scores = scored(packaging, perfect, edge_ids=frozenset(ids[:2]))
    assert [identity for identity, image in scores.per_image.items() if "edge/odsF" in image] == ids[:2]
    assert len(scores.per_image) == 5


def test_the_job_prints_what_was_agreed(packaging, perfect, capfd):
    code, out, err = job(capfd, "--root", packaging, "--predictions", perfect, "--json", "--processes", 1)
    document = json.loads(out)
    assert code == 0, err
    assert (document["dataset"], document["split"], document["images"], document["convention"]) == (
        "nyud",
        "val",
        5,
        "atrc",
    )
    assert set(document["metrics"]) == {
        "semseg/mIoU",
        "depth/rmse",
        "normals/mErr",
        "edge/odsF",
        "edge/oisF",
        "edge/AP",
    }
    assert len(document["per_image"]) == 5
    code, out, _ = job(capfd, "--root", packaging, "--predictions", perfect, "--processes", 1)
    assert code == 0
    assert "semseg/mIoU" in out
    assert "%" in out


def test_only_the_tasks_that_are_there_are_scored(packaging, perfect, capfd):
    shutil.rmtree(perfect / "semseg")
    shutil.rmtree(perfect / "edge")
    code, out, _ = job(capfd, "--root", packaging, "--predictions", perfect, "--json", "--processes", 1)
    assert code == 0
    assert set(json.loads(out)["metrics"]) == {"depth/rmse", "normals/mErr"}


def missing(folder):
    (folder / "depth" / "0003.npy").unlink()
    return "1 missing: depth/0003.npy"


def extra(folder):
    (folder / "edge" / "9999.png").touch()
    return "1 extra: edge/9999.png"


def truncated(folder):
    path = folder / "edge" / "0003.png"
    path.write_bytes(path.read_bytes()[:60])
    return "0003.png"


def other_size(folder):
    Image.new("L", (30, 20)).save(folder / "semseg" / "0004.png")
    return "0004.png: is 20 x 30, but should be 40 x 56"


def not_a_number(folder):
    array = np.full(SIZE, np.nan)
    np.save(folder / "depth" / "0005.npy", array)
    return "0005.npy: holds NaN or infinite"


def whole_numbers(folder):
    np.save(folder / "depth" / "0005.npy", np.ones(SIZE, int))
    return "0005.npy: holds int64"


def no_such_class(folder):
    Image.fromarray(np.full(SIZE, 40, np.uint8)).save(folder / "semseg" / "0003.png")
    return "0003.png: holds class 40; semseg has 40, 0 to 39"


def pickled(folder):
    np.save(folder / "depth" / "0004.npy", np.array([{}], dtype=object), allow_pickle=True)
    return "0004.npy: cannot be read"


def empty_file(folder):
    (folder / "semseg" / "0003.png").write_bytes(b"")
    return "0003.png: cannot be read"


@pytest.mark.parametrize(
    "spoil", [missing, extra, truncated, other_size, not_a_number, whole_numbers, no_such_class, pickled, empty_file]
)  # fmt: skip
def test_what_cannot_be_scored_is_named_and_left_out_only_if_asked(spoil, packaging, perfect, capfd):
    words = spoil(perfect)
    arguments = ("--root", packaging, "--predictions", perfect, "--processes", 1)
    code, out, err = job(capfd, *arguments)
    assert (code, out) == (2, "")
    assert words in err.splitlines()[-1]
    assert "--allow-missing" in err
    code, out, _ = job(capfd, *arguments, "--allow-missing", "--json")
    assert code == 0
    document = json.loads(out)
    assert len(document["left_out"]) == (0 if spoil is extra else 1)
    assert document["images"] == 5


@pytest.mark.parametrize(("folder", "words"), [("absent", "is no folder"), (".", "none of the folders")])
def test_a_folder_that_holds_no_predictions_is_refused(folder, words, packaging, tmp_path, capfd):
    code, _, err = job(capfd, "--root", packaging, "--predictions", tmp_path / folder)
    assert code == 2
    assert words in err


def test_two_files_for_one_prediction_are_refused(packaging, perfect):
    np.save(perfect / "normals" / "0003.npy", np.ones((*SIZE, 3)))
    with pytest.raises(ValueError, match="one file per image and task"):
        request_of(packaging, perfect)


@pytest.mark.parametrize("name", ["semseg", "human_parts", "sal", "depth", "normals", "edge"])
def test_what_is_written_is_read_back(name, tmp_path):
    dataset = DATASETS["nyud"] if name in ("depth",) else DATASETS["rooms_pascal"]
    task, draw = dataset.task(name), np.random.default_rng(0)
    arrays = {
        "classes": lambda: draw.integers(0, task.channels, SIZE),
        "saliency": lambda: (draw.integers(0, 256, SIZE) / np.float32(255)).astype(np.float32),
        "depth": lambda: draw.random((1, *SIZE)),
        "normals": lambda: draw.standard_normal((3, *SIZE)),
        "edge": lambda: draw.integers(0, 256, SIZE, np.uint8),
    }
    prediction = arrays[task.kind]()
    path = write_prediction(tmp_path, task, "0001", prediction)
    found = read_prediction(path, task, SIZE)
    np.testing.assert_allclose(found, prediction, atol=1 / 255 if task.kind == "saliency" else 0)
    assert found.shape == prediction.shape


def test_our_own_evaluation_writes_what_then_scores_the_same(packaging, tmp_path):
    """Images smaller than the batch's canvas: the padding is cut off again."""
    torch.manual_seed(0)
    network = build_network("resnet_w8", "mt_baseline", NYUD.tasks, image_size=SIZE)
    names = [task.name for task in NYUD.tasks]
    source = open_source(Wanted(NYUD, "val", None, SIZE), root=str(packaging))
    candidate = Candidate(network, names, predictions=tmp_path / "out")
    ours = evaluate({"x": candidate}, source, NYUD, image_size=(48, 80))["x"]
    theirs = scored(packaging, tmp_path / "out").metrics
    assert {name.partition("/")[0] for name in ours} == set(names)
    for name, value in ours.items():
        # normals of training labels are kept in 16 bits, those that are scored in 32
        assert theirs[name] == pytest.approx(value, abs=0.02 if name == "normals/mErr" else 1e-6), name


# ---- PASCAL-Context, written from procedural rooms


@pytest.fixture(scope="module")
def pascal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pascal")
    row = DATASETS["rooms_pascal"]
    rooms = open_source(Wanted(row, "val", 3, (144, 192)), cache=folder / "cache")
    export_packaging(rooms, row, folder / "PASCALContext", "val")
    return folder / "PASCALContext"


def pascal_job(capfd, root, folder, *arguments):
    return job(
        capfd, "--dataset", "pascal", "--root", root, "--predictions", folder, "--processes", 1, "--json", *arguments
    )


@pytest.fixture
def perfect_pascal(pascal, tmp_path):
    dataset = DATASETS["pascal"]
    source = open_source(Wanted(dataset, "val", None, (48, 64)), root=str(pascal))
    for index, identity in enumerate(source.ids):
        maps = source.labels(index, [task.name for task in dataset.tasks])
        for name in ("semseg", "human_parts"):
            write_prediction(tmp_path, dataset.task(name), identity, np.where(maps[name] == 255, 0, maps[name]))
        write_prediction(tmp_path, dataset.task("sal"), identity, (maps["sal"] == 1).astype(np.float32))
        write_prediction(tmp_path, dataset.task("normals"), identity, np.moveaxis(maps["normals"], -1, 0))
        write_prediction(tmp_path, dataset.task("edge"), identity, 255 * (maps["edge"] == 1).astype(np.uint8))
    return tmp_path


def test_published_boundaries_of_pascal_are_of_a_list_that_must_be_there(pascal, perfect_pascal, capfd):
    code, _, err = pascal_job(capfd, pascal, perfect_pascal)
    assert code == 2
    assert "2,498" in err
    assert "test_new.txt" in err
    listed = pascal / "ImageSets" / "Context" / "test_new.txt"
    listed.write_text("\n".join((pascal / "ImageSets" / "Context" / "val.txt").read_text().split()[:1]))
    try:
        code, out, _ = pascal_job(capfd, pascal, perfect_pascal)
    finally:
        listed.unlink()
    document = json.loads(out)
    assert code == 0
    assert sum("edge/odsF" in image for image in document["per_image"].values()) == 1


def test_perfect_predictions_on_pascal(pascal, perfect_pascal, capfd):
    code, out, err = pascal_job(capfd, pascal, perfect_pascal, "--edge-ids", "all")
    assert code == 0, err
    document = json.loads(out)
    for name in ("semseg", "human_parts"):
        assert {value for value in document["per_class"][name].values() if value is not None} == {100.0}
    assert document["metrics"]["sal/maxF"] == 100
    assert document["metrics"]["normals/mErr"] == pytest.approx(0, abs=1e-4)
    of_regions = document["metrics"]["edge/odsF"]
    code, out, _ = pascal_job(capfd, pascal, perfect_pascal, "--edge-ids", "all", "--edge-truth", "label")
    of_labels = json.loads(out)["metrics"]["edge/odsF"]
    assert of_labels != of_regions  # contours between pixels against a thinned Laplacian: half a pixel apart
    assert min(of_labels, of_regions) > 80
