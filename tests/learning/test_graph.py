"""An exported network computes what the trained one does, or does not exist.

python -m pytest tests/learning/test_graph.py
"""

import hashlib
import json

import numpy as np
import pytest
import tiny
import torch
from safetensors import safe_open

from kdam_ray.learning import graph
from kdam_ray.learning.export import open_network, write_export
from kdam_ray.learning.infer import InputImage, predict
from kdam_ray.models import local, network_of
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import DECODERS

pytestmark = pytest.mark.slow

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
ROOMS = DATASETS["rooms"]


def network_and_run(**changes):
    run = tiny.make_run(**({"student": "resnet_w8"} | changes))
    torch.manual_seed(11)
    return network_of(run).eval(), run


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder, card, network, run, images): one export that several tests look at."""
    folder = tmp_path_factory.mktemp("export") / "student"
    network, run = network_and_run(
        student="swin_w12", method="kdam"
    )  # Swin: the exporter that traces gets its shifts wrong
    images = {"tiny": tiny.TinySource(1)[0]["image"]}
    card = write_export(folder, network, run, metrics={"val/depth/rmse": 0.5}, images=images)
    return folder, card, network, run, images


def test_nothing_but_the_student_is_written(exported):
    folder, card, network, _, _ = exported
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.onnx", "weights.safetensors"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["student"]  # nothing half-written beside it
    count = sum(tensor.numel() for tensor in network.state_dict().values())
    assert card["files"]["weights.safetensors"]["bytes"] < 4 * count + 20_000
    for name, file in card["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == file["sha256"]


def test_the_card_says_what_is_needed(exported):
    folder, _, _, run, _ = exported
    card = json.loads((folder / "card.json").read_text())
    assert (card["backbone"], card["decoder"], card["run_id"]) == ("swin_w12", "mt_baseline", run.run_id)
    assert card["run"] == run.model_dump(mode="json")
    assert card["metrics"] == {"val/depth/rmse": 0.5}
    rows = {row["name"]: row for row in card["tasks"]}
    assert rows["semseg"]["classes"] == list(ROOMS.classes)
    assert (rows["depth"]["metric"], rows["depth"]["unit"], rows["depth"]["channels"]) == ("rmse", "m", 1)
    assert card["onnx"]["input"]["image"] == ["batch", 3, 32, 48]
    assert card["onnx"]["checked"]["images"] == ["tiny"]
    assert max(card["onnx"]["checked"]["largest_difference"].values()) <= card["onnx"]["checked"]["tolerance"]
    assert card["normalisation"]["mean"] == [0.485, 0.456, 0.406]


def test_weights_and_graph_say_what_they_are_without_the_card(exported):
    folder, _, _, run, _ = exported
    wanted = {"run_id": run.run_id, "tasks": "semseg depth normals edge", "image_size": "32x48"}
    with safe_open(folder / "weights.safetensors", "pt") as weights:
        assert weights.metadata().items() >= wanted.items()
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map.items() >= wanted.items()
    assert {path.stat().st_mode & 0o044 for path in folder.iterdir()} == {0o044}  # others may read all of them


def test_the_graph_alone_gives_the_predictions(exported):
    """What a user does without this code: decoded pixels in, argmax out."""
    folder, _, network, run, images = exported
    image = images["tiny"]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    batch = np.stack([image, image[:, ::-1]]).transpose(0, 3, 1, 2).astype(np.float32)  # two at once
    outputs = dict(
        zip((output.name for output in session.get_outputs()), session.run(None, {"image": batch}), strict=True)
    )
    wanted = predict(network, InputImage(image, image.shape[:2]), ROOMS, run.tasks, image_size=run.image_size)
    assert (
        outputs["semseg"][0].argmax(0) == wanted["semseg"]
    ).mean() > 0.999  # float32 in another order may turn a tie
    np.testing.assert_allclose(outputs["depth"][0], wanted["depth"], atol=1e-4)
    np.testing.assert_allclose(outputs["normals"][0], wanted["normals"], atol=1e-4)
    edge = 255 / (1 + np.exp(-outputs["edge"][0, 0]))
    assert np.abs(edge - wanted["edge"]).max() < 1.01


def test_a_round_trip_gives_the_same_network(exported):
    folder, _, network, run, _ = exported
    again = open_network(folder)
    assert again.run == run
    assert again.metrics == {"val/depth/rmse": 0.5}
    state = network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.network.state_dict().items())


def test_altered_weights_are_refused(exported, tmp_path):
    folder = exported[0]
    (tmp_path / "card.json").write_bytes((folder / "card.json").read_bytes())
    with pytest.raises(ValueError, match=r"weights\.safetensors: missing"):
        open_network(tmp_path)
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="SHA-256"):
        open_network(tmp_path)
    with pytest.raises(ValueError, match="holds neither"):
        open_network(folder.parent)


def test_a_graph_that_differs_is_not_kept(exported, tmp_path, monkeypatch):
    _, _, network, run, _ = exported
    monkeypatch.setattr(graph, "TOLERANCE", 0.0)
    monkeypatch.setattr(graph, "write_graph", None)
    kept = exported[0].joinpath("model.onnx").read_bytes()
    monkeypatch.setattr("kdam_ray.learning.export.write_graph", lambda deployed, path, *_: bool(path.write_bytes(kept)))
    with pytest.raises(ValueError, match="ONNX differs from torch by"):
        write_export(tmp_path / "out", network, run, metrics={})
    assert not list(tmp_path.iterdir())


def test_a_graph_of_other_weights_differs(exported, tmp_path):
    other, run = network_and_run(student="swin_w12", method="kdam")
    with torch.no_grad():
        other.decoder.logits["edge"].bias += 0.01
    with pytest.raises(ValueError, match="edge: ONNX differs"):
        graph.check_graph(
            graph.Deployed(other, run.tasks, run.image_size), exported[0] / "model.onnx", images={}, dynamic=True
        )


@pytest.mark.parametrize(
    ("share", "largest", "own", "accepted"),
    [
        (0.005, 6e-2, 5e-2, True),  # PSD before it is trained, 425 x 560
        (0.005, 6e-2, 1e-3, False),  # torch itself is sure of these
        (0.05, 6e-2, 5e-2, False),  # more than single pixels
        (0.005, float("nan"), 5e-2, False),
        (0.005, 6e-2, None, False),  # no float64 to tell
    ],
)
def test_single_pixels_may_differ_as_far_as_torch_itself_is_unsure(share, largest, own, accepted):
    wanted = np.ones((1, 1, 100, 100), np.float32)
    difference = np.where(np.arange(10_000).reshape(wanted.shape) < share * 10_000, largest, 1e-7)
    exact = None if own is None else wanted.astype(np.float64)
    if exact is not None:
        exact[0, 0, 0, 0] -= own
    if accepted:
        assert graph._own_rounding(difference, wanted, exact, "edge", "noise") == pytest.approx(own, rel=1e-6)
    else:
        with pytest.raises(ValueError, match=r"edge: ONNX differs from torch by .* on noise"):
            graph._own_rounding(difference, wanted, exact, "edge", "noise")


def test_float64_tells_torchs_own_rounding():
    network, run = network_and_run()
    deployed, image = graph.Deployed(network, run.tasks, run.image_size), torch.rand(2, 3, 32, 48) * 255
    exact = graph._in_float64(deployed, image)
    assert next(network.parameters()).dtype == torch.float32  # the network itself is left as it was
    with torch.inference_mode():
        for task, found in zip(run.tasks, deployed(image), strict=True):
            assert exact[task].dtype == np.float64
            assert 0 < graph._difference(found.numpy(), exact[task]).max() < graph.TOLERANCE


def test_a_folder_of_something_else_is_left_alone(exported, tmp_path):
    _, _, network, run, _ = exported
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds no card\.json"):
        write_export(tmp_path, network, run, metrics={})
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_local_operators_have_an_equal_in_onnx():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 9).unbind()
    scores = local.local_similarity(query, key, 5)
    torch.testing.assert_close(graph._similarity(query, key, 5), scores)
    torch.testing.assert_close(graph._aggregate(scores, value, 5), local.local_aggregate(scores, value, 5))


def test_a_network_that_cannot_be_exported_is_named(tmp_path):
    class Stubborn(torch.nn.Module):
        def forward(self, image):
            return {"depth": image[:, :1] * float(image.sum())}  # depends on the numbers themselves

    with pytest.raises(ValueError, match=r"decoder: stubborn cannot be exported to ONNX: .+"):
        graph.write_graph(graph.Deployed(Stubborn(), ["depth"], (32, 32)), tmp_path / "model.onnx", "stubborn")


def test_a_network_too_large_for_one_file_is_refused_before_it_is_traced(tmp_path, monkeypatch):
    """Swin-L with MTI-Net has 4.4 GiB."""
    network, run = network_and_run()
    monkeypatch.setattr(graph, "LARGEST", 1000)
    with pytest.raises(
        ValueError, match=r"decoder: mti_net's network has .* GiB of weights, and one ONNX file holds 2"
    ):
        graph.write_graph(graph.Deployed(network, run.tasks, (32, 48)), tmp_path / "model.onnx", "mti_net")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_can_be_exported(tmp_path, decoder):
    network, run = network_and_run(decoder=decoder)
    card = write_export(tmp_path / decoder, network, run, metrics={}, size=(40, 56))
    one_at_a_time = {"mqtransformer", "demt", "invpt"}  # their graphs hold the number of images as a constant
    assert card["onnx"]["dynamic_batch"] == (decoder not in one_at_a_time)
    assert card["onnx"]["outputs"]["semseg"][2:] == [40, 56]
