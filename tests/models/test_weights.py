"""Pretrained weights: files of four origins, and errors in one line.

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


def as_openmmlab(state: dict) -> dict:
    """A UPerNet checkpoint as OpenMMLab writes it, from timm's names: written independently of the importer."""
    theirs = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "layers":
            parts[0] = "stages"
            if parts[2] == "downsample":
                parts[1] = str(int(parts[1]) - 1)
                blocks = value.unflatten(-1, (4, -1))  # (row, column) = 00, 10, 01, 11
                value = torch.stack([blocks[..., place, :] for place in (0, 2, 1, 3)], -1).flatten(-2)
        name = ".".join(parts)
        for timms, their in [
            (".attn.", ".attn.w_msa."), (".mlp.fc1.", ".ffn.layers.0.0."), (".mlp.fc2.", ".ffn.layers.1."),
            ("patch_embed.proj", "patch_embed.projection"),
        ]:  # fmt: skip
            name = name.replace(timms, their)
        theirs["backbone." + name] = value
    return theirs


def test_a_whole_upernet_of_openmmlab_is_understood(donor, tmp_path):
    theirs = as_openmmlab(donor.backbone.net.state_dict())
    theirs |= {
        f"backbone.norm{level}.{kind}": value
        for level in range(4)
        for kind, value in donor.backbone.norms[level].state_dict().items()
    }
    theirs["decode_head.conv_seg.weight"] = torch.ones(150, 8, 1, 1)
    torch.save({"meta": {"epoch": 1}, "state_dict": theirs}, tmp_path / "upernet.pth")
    backbone = build_backbone("swin_w12")
    report = weights.load(backbone, weights.read(tmp_path / "upernet.pth"), source="upernet.pth")
    assert same(backbone.state_dict(), donor.backbone.state_dict())
    assert (report.missing, report.reshaped, report.unused) == ((), (), ("decode_head.conv_seg.weight",))


@pytest.mark.usefixtures("in_float64")
def test_openmmlabs_patch_merging_computes_the_same_with_the_imported_order():
    """Its definition: unfold 2x2 blocks, norm, reduction."""
    merging = import_timm().models.swin_transformer.PatchMerging(dim=3)
    torch.nn.init.normal_(merging.norm.weight)
    norm = torch.nn.LayerNorm(12)
    reduction = torch.nn.Linear(12, 6, bias=False)
    norm.weight.data.normal_()
    theirs = {
        f"x.downsample.{name}": value
        for name, value in {"norm.weight": norm.weight, "reduction.weight": reduction.weight}.items()
    }
    ours = {name.removeprefix("x.downsample."): weights._regrouped(name, value) for name, value in theirs.items()}
    merging.load_state_dict({**ours, "norm.bias": torch.zeros(12)})
    x = torch.randn(2, 6, 8, 3)
    unfolded = torch.nn.functional.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
    torch.testing.assert_close(merging(x).flatten(1, 2), reduction(norm(unfolded)))


def test_position_tables_of_another_window_are_interpolated(donor):
    state = dict(donor.backbone.net.state_dict())
    name = "layers.0.blocks.0.attn.relative_position_bias_table"  # 7x7 positions of a window of 4
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, 23), torch.linspace(-1, 1, 23), indexing="ij"
    )  # of a window of 12
    state[name] = (2 * rows + columns).reshape(-1, 1)
    backbone = build_backbone("swin_w12")
    report = weights.load(backbone, state, source="test")
    assert report.interpolated == (f"net.{name}",)
    assert "1 position tables interpolated" in str(report)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 7), indexing="ij")
    table = backbone.state_dict()[f"net.{name}"].reshape(7, 7)
    torch.testing.assert_close(
        table[2:5, 2:5], (2 * rows + columns)[2:5, 2:5], atol=0.02, rtol=0
    )  # linear inside; cubic borders


def test_what_does_not_fit_keeps_its_initialisation_and_is_reported(donor):
    backbone = build_backbone("swin_w12")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    tensors = {
        "patch_embed.proj.bias": torch.ones(12),
        "patch_embed.proj.weight": torch.ones(3, 3),
        "head.fc.weight": torch.ones(2),
    }
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


@pytest.mark.slow
def test_imagenet_weights_are_loaded_by_the_same_names(monkeypatch):
    timm = import_timm()
    create = timm.create_model
    downloaded = create("hrnet_w18_small_v2", num_classes=0)
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained=False, **o: downloaded if pretrained else create(name, **o)
    )
    state = build_backbone("hrnet18", pretrained="imagenet").net.state_dict()
    assert all(torch.equal(value, downloaded.state_dict()[key]) for key, value in state.items())


def test_small_members_have_no_imagenet_weights():
    with pytest.raises(ValueError, match="pretrained") as error:
        build_backbone("swin_w12", pretrained="imagenet")
    one_line(error, "swin_w12", "weight file")
