"""Run, Place, Sweep: identity, validation, messages: python -m pytest tests/test_config.py"""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdam_ray.config import (
    YOUNGER,
    Distill,
    Place,
    Run,
    canonical_json,
    change,
    explain,
    flatten,
    one_of,
    single_task,
    untaught,
)
from kdam_ray.contexts import GENOTYPES, published_contexts, read_contexts
from kdam_ray.tasks import DATASETS

BASE = Run(
    dataset="rooms", image_size=(48, 64), train_images=1200, val_images=200,
    tasks=("semseg", "depth", "normals", "edge"), student="swin_w12", teacher="resnet_w16",
    teacher_run="0123456789ab", distill=Distill(method="plain_kd"), epochs=3,
)  # fmt: skip


def message(**changes) -> str:
    with pytest.raises(ValidationError) as caught:
        Run.model_validate(BASE.model_dump() | changes)
    return explain(caught.value)


def test_run_id_is_stable_and_short():
    assert BASE.run_id == Run.model_validate(json.loads(canonical_json(BASE))).run_id
    assert len(BASE.run_id) == 12
    assert set(BASE.run_id) <= set("0123456789abcdef")


def test_run_id_does_not_depend_on_how_a_number_was_spelt():
    assert change(BASE, {"distill.beta": 2}).run_id == change(BASE, {"distill.beta": 2.0}).run_id


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"distill.beta": 2.0}, {"distill.temperature": 1.0}, {"optim.lr": 0.5}, {"epochs": 4},
     {"dataset_hash": "ff"}, {"batch_norm_ranks": 2}, {"teacher_run": "ba9876543210"}, {"student": "resnet_w8"},
     {"decoder": "pad_net"}, {"teacher_decoder": "atrc"}, {"optim.mixing_lr": 100.0}, {"optim.architecture_lr": 0.1},
     {"task_factors": {"edge": 2.0}}],
)  # fmt: skip
def test_whatever_can_change_a_number_changes_the_run_id(changes):
    assert change(BASE, changes).run_id != BASE.run_id


@given(st.floats(min_value=1e-6, max_value=1e6), st.floats(min_value=1e-6, max_value=1e6))
def test_canonical_json_round_trips_every_float(beta, temperature):
    run = change(BASE, {"distill.beta": beta, "distill.temperature": temperature})
    assert Run.model_validate(json.loads(canonical_json(run))) == run


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["distill.beta", "distill.temperature"])
def test_beta_and_temperature_must_be_positive_numbers(field, value):
    with pytest.raises(ValidationError) as caught:
        change(BASE, {field: value})
    assert explain(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "cityscapes"}, ["dataset", "rooms", "nyud"]),
        ({"student": "swin_xxl"}, ["student", "swin_l"]),
        ({"decoder": "magic"}, ["decoder", "mt_baseline"]),
        ({"teacher_decoder": "magic"}, ["teacher_decoder", "mt_baseline"]),
        ({"contexts": published_contexts(BASE.tasks)}, ["contexts", "atrc", "mt_baseline"]),
        ({"decoder": "atrc", "contexts": {"semseg": {"semseg": "none"}}}, ["contexts", "depth", "each target"]),
        ({"decoder": "atrc", "contexts": {"semseg": {"semseg": "far"}}}, ["contexts.semseg.semseg", "'global'", "far"]),
        ({"tasks": ("depth", "semseg")}, ["semseg", "order"]),
        ({"tasks": ("sal",)}, ["tasks", "semseg"]),
        ({"train_images": 3}, ["train_images", "batch"]),
        ({"teacher": None}, ["teacher"]),
        ({"distil": {}}, ["distil"]),
        ({"distill": {"method": "kdam", "inter": False, "intra": False}}, ["inter", "intra"]),
        ({"distill": {"method": "kdam", "reading": {"colours": "channels"}}}, ["colours", "depth"]),
        ({"pretrained": "yes"}, ["pretrained"]),
        ({"pretrained": "imagenet"}, ["pretrained", "swin_w12", "weight file"]),
    ],
)
def test_errors_name_the_field_and_what_is_allowed(changes, words):
    text = message(**changes)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_a_dotted_name_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"distill\.gamma.*beta"):
        change(BASE, {"distill.gamma": 1})
    with pytest.raises(ValueError, match="students"):
        change(BASE, {"students.depth": 1})


def test_default_temperature_follows_the_method():
    assert [Distill(method=method).temperature for method in ("plain_kd", "kdam", "dist")] == [3.0, 1.0, 1.0]
    assert Distill(method="kdam", temperature=2.0).temperature == 2.0


def test_a_changed_reading_keeps_the_others():
    assert Distill(method="kdam", reading={"depth": "channels"}).reading["edge"] == "bernoulli"


def test_a_run_of_before_the_decoders_keeps_its_id():
    """Recorded then; fields that came later do not take part while they say what was so before."""
    assert BASE.run_id == "85911aa30e17"
    assert change(BASE, YOUNGER).run_id == BASE.run_id
    values = BASE.model_dump()
    assert {path for path in YOUNGER if "." not in path} <= values.keys()


def test_atrc_carries_the_contexts_it_was_trained_with():
    run = change(BASE, {"decoder": "atrc"})
    assert run.contexts == GENOTYPES["nyud"]
    assert change(BASE, {"decoder": "atrc", "contexts": GENOTYPES["nyud"]}).run_id == run.run_id
    other = {target: dict.fromkeys(run.tasks, "global") for target in run.tasks}
    assert change(run, {"contexts": other}).run_id != run.run_id
    two = change(BASE, {"decoder": "atrc", "tasks": ("semseg", "edge")})
    assert two.contexts == {
        "semseg": {"semseg": "target", "edge": "source"},
        "edge": {"semseg": "target", "edge": "target"},
    }
    assert json.loads(canonical_json(two))["contexts"] == two.contexts
    assert Run.model_validate(json.loads(canonical_json(two))) == two
    assert flatten(run).keys() == flatten(BASE).keys()
    assert json.loads(flatten(run)["contexts"]) == run.contexts


def test_contexts_are_read_from_a_file_or_refused(tmp_path):
    path = tmp_path / "contexts.json"
    path.write_text(json.dumps(GENOTYPES["pascal"]))
    assert read_contexts(path) == GENOTYPES["pascal"]
    path.write_text(json.dumps({"contexts": GENOTYPES["nyud"], "run_id": "x"}))
    assert read_contexts(path) == GENOTYPES["nyud"]
    for content, words in [
        ("{", "not a readable"),
        ('{"semseg": {"depth": "near"}}', "semseg.depth"),
        ("[]", "dictionary"),
    ]:
        path.write_text(content)
        with pytest.raises(ValueError, match=words) as caught:
            read_contexts(path)
        assert "contexts.json" in str(caught.value)
    with pytest.raises(ValueError, match=r"absent\.json"):
        read_contexts(tmp_path / "absent.json")


def test_flatten_uses_dotted_names():
    flat = flatten(BASE)
    assert flat["distill.beta"] == 1.0
    assert flat["student"] == "swin_w12"
    assert not any(isinstance(value, dict) for key, value in flat.items() if key != "distill.reading")


def test_models_are_frozen_and_forbid_strangers():
    with pytest.raises(ValidationError):
        BASE.seed = 2
    with pytest.raises(ValidationError):
        Place(wokers=2)


def test_a_place_means_the_folder_where_the_command_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Place(root="data")
    monkeypatch.chdir("/")
    assert (place.storage, place.root) == (str(tmp_path / "runs"), str(tmp_path / "data"))
    assert Place(storage="s3://bucket/x").storage == "s3://bucket/x"


def test_plain_data_does_not_import_torch():
    code = "import sys, kdam_ray.config, kdam_ray.tasks, kdam_ray.zoo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_dataset_row_is_complete():
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert [task.name for task in dataset.tasks] == list(dict.fromkeys(task.name for task in dataset.tasks))
        assert all(task.weight > 0 and task.channels > 0 for task in dataset.tasks)
        assert not dataset.classes or len(dataset.classes) == dataset.task("semseg").channels


def test_without_its_teacher_a_run_is_the_same_student():
    alone = change(BASE, {"teacher": None, "teacher_run": None, "distill": {}})
    assert untaught(change(BASE, {"teacher_decoder": "demt", "distill.beta": 2.0})) == alone
    assert untaught(alone) == alone
    assert untaught(change(BASE, {"seed": 3})).seed == 3


def test_a_single_task_run_has_no_teacher_no_decoder_that_mixes_and_no_factors():
    alone = change(untaught(BASE), {"tasks": ("depth",)})
    mixed = {
        "decoder": "cross_stitch",
        "optim.mixing_lr": 100.0,
        "seed": 5,
        "task_factors": {"depth": 2.0, "edge": 2.0},
    }
    assert single_task(change(BASE, mixed), "depth") == single_task(change(BASE, {"decoder": "atrc"}), "depth") == alone
    assert single_task(change(BASE, {"epochs": 9}), "depth") == change(alone, {"epochs": 9})


def test_what_is_not_allowed_is_named_with_its_field():
    with pytest.raises(ValueError, match=r"^device: 'tpu' is not one of: cpu, cuda$"):
        one_of(("cpu", "cuda"), "device")("tpu")
    with pytest.raises(ValueError, match=r"^'tpu' is not"):
        one_of(("cpu", "cuda"))("tpu")
