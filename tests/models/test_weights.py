"""Pretrained weights: files of three origins, and errors in one line.

pytest tests/models/test_weights.py
"""

import pytest
import torch
from safetensors.torch import save_file

from kdam_ray.models import build_network, weights
from kdam_ray.models.backbones import build_backbone, import_timm
from kdam_ray.tasks import DATASETS

TASKS = DATASETS["rooms"].tasks


@pytest.fixture(scope="module")
def donor():
    torch.manual_seed(7)
    return build_network("swin_w12", "mt_baseline", TASKS, image_size=(48, 64))


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_a_network_of_ours_as_safetensors_sets_the_whole_backbone(donor, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(donor.state_dict(), path)
    torch.manual_seed(0)
    backbone = build_backbone("swin_w12", pretrained=str(path))
    assert same(backbone.state_dict(), donor.backbone.state_dict())


def test_timms_names_in_a_wrapped_pth_set_all_but_the_output_norms(donor, tmp_path):
    path = tmp_path / "swin.pth"
    torch.save({"model": donor.backbone.net.state_dict(), "epoch": 3}, path)
    backbone = build_backbone("swin_w12")
    report = weights.load(backbone, weights.read(path), source="swin.pth")
    assert same(backbone.net.state_dict(), donor.backbone.net.state_dict())
    assert len(report.matched) == len(donor.backbone.net.state_dict())
    assert set(report.missing) == {f"norms.{level}.{kind}" for level in range(4) for kind in ("weight", "bias")}
    assert (report.reshaped, report.unused) == ((), ())


def test_the_swin_authors_names_are_understood(donor, tmp_path):
    theirs = {}
    for name, value in donor.backbone.net.state_dict().items():
        for stage in (1, 2, 3):
            name = name.replace(f"layers.{stage}.downsample", f"layers.{stage - 1}.DOWN")
        theirs["backbone." + name.replace("DOWN", "downsample")] = value
    torch.save({"state_dict": theirs}, tmp_path / "swin.pth")
    backbone = build_backbone("swin_w12", pretrained=str(tmp_path / "swin.pth"))
    assert same(backbone.net.state_dict(), donor.backbone.net.state_dict())


def test_what_does_not_fit_keeps_its_initialisation_and_is_reported(donor):
    backbone = build_backbone("swin_w12")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    tensors = {"patch_embed.proj.bias": torch.ones(12), "patch_embed.proj.weight": torch.ones(3, 3), "head.fc.weight": torch.ones(2)}
    report = weights.load(backbone, tensors, source="test")
    assert report.matched == ("net.patch_embed.proj.bias",)
    assert report.reshaped == ("net.patch_embed.proj.weight",)
    assert report.unused == ("head.fc.weight",)
    changed = [key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])]
    assert changed == ["net.patch_embed.proj.bias"]


def one_line(error: pytest.ExceptionInfo, *parts: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("pretrained: ")
    for part in parts:
        assert part in text


def test_files_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "other.pth")
    for name, part in [
        ("absent.pth", "no file"), ("broken.safetensors", "not a readable"), ("broken.pth", "not a readable"),
        ("list.pth", "no named tensors"), ("other.pth", "does not fit this backbone"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="pretrained") as error:
            build_backbone("resnet_w8", pretrained=str(tmp_path / name))
        one_line(error, name, part)


def test_code_in_a_weight_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="not a readable"):
        build_backbone("resnet_w8", pretrained=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "owned").exists()


def test_imagenet_weights_without_a_network_say_so_in_one_line(monkeypatch):
    timm = import_timm()
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise ConnectionError("no route\nto host")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match="pretrained") as error, torch.device("meta"):
        build_backbone("swin_t", pretrained="imagenet")
    one_line(error, "swin_tiny_patch4_window7_224", "ConnectionError: no route", "'none'")


def test_imagenet_weights_are_loaded_by_the_same_names(monkeypatch):
    timm = import_timm()
    create = timm.create_model
    downloaded = create("hrnet_w18_small_v2", num_classes=0)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **o: downloaded if pretrained else create(name, **o))
    state = build_backbone("hrnet18", pretrained="imagenet").net.state_dict()
    assert all(torch.equal(value, downloaded.state_dict()[key]) for key, value in state.items())


def test_small_members_have_no_imagenet_weights():
    with pytest.raises(ValueError, match="pretrained") as error:
        build_backbone("swin_w12", pretrained="imagenet")
    one_line(error, "swin_w12", "weight file")
