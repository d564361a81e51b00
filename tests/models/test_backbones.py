"""Backbones against timm's own networks, and the torchvision trap.

pytest tests/models/test_backbones.py
"""

import subprocess
import sys

import pytest
import torch

from kdam_ray.models.backbones import Swin, build_backbone, import_timm
from kdam_ray.zoo import BACKBONES


@pytest.mark.usefixtures("in_float64")
def test_hrnet_equals_timms_where_its_fixed_factors_are_exact():
    torch.manual_seed(0)
    ours = build_backbone("hrnet18").eval()
    timms = (
        import_timm()
        .create_model("hrnet_w18_small_v2", features_only=True, feature_location="", out_indices=(1, 2, 3, 4))
        .eval()
    )
    timms.load_state_dict(ours.net.state_dict())
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for left, right in zip(ours(image), timms(image), strict=True):
            torch.testing.assert_close(left, right)
        with pytest.raises(RuntimeError, match="size of tensor"):  # why ours exists
            timms(image[..., :53, :70])


@pytest.mark.usefixtures("in_float64")
def test_swin_equals_timms_maps_normalised():
    torch.manual_seed(0)
    ours = build_backbone("swin_w32").eval()
    row = BACKBONES["swin_w32"]
    timms = import_timm().create_model(
        row.timm, features_only=True, strict_img_size=False, always_partition=True, **row.options
    ).eval()  # fmt: skip
    timms.load_state_dict({key.replace("layers.", "layers_"): value for key, value in ours.net.state_dict().items()})
    image = torch.randn(1, 3, 48, 80, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for left, right in zip(ours(image), timms(image), strict=True):
            centred = right - right.mean(-1, keepdim=True)
            expected = (
                centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            )  # layer norm at its initial 1 and 0
            torch.testing.assert_close(left, expected.permute(0, 3, 1, 2))


def test_swin_pads_at_the_bottom_and_the_right_with_zeros():
    torch.manual_seed(0)
    swin = build_backbone("swin_w12").eval()
    image = torch.randn(1, 3, 45, 62, generator=torch.Generator().manual_seed(1))
    padded = torch.zeros(1, 3, 48, 64)
    padded[..., :45, :62] = image
    with torch.no_grad():
        assert all(torch.equal(left, right) for left, right in zip(swin(image), swin(padded), strict=True))


@pytest.mark.parametrize(("name", "rate"), [("swin_t", 0.1), ("swin_s", 0.1), ("swin_w12", 0.0), ("swin_w32", 0.0)])
def test_stochastic_depth_grows_to_the_published_rate_and_small_members_have_none(name, rate):
    with torch.device("meta"):
        swin = Swin(BACKBONES[name])
    rates = [module.drop_prob for module in swin.modules() if type(module).__name__ == "DropPath"]
    assert max(rates, default=0.0) == pytest.approx(rate)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", ["from kdam_ray.models.backbones import declare_torchvision_operators as d; d(); d()", "import torch"]
)
def test_torchvision_imports_after_its_operators_are_declared(first):
    """Always with the declaration; without it only where the compiled library loads (then it did nothing)."""
    code = f"{first}; import torchvision; from torchvision.extension import _has_ops; print(_has_ops())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "declare" in first:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 0 or "torchvision::nms does not exist" in done.stderr


def test_declaring_leaves_an_imported_torchvision_alone():
    import_timm()
    from kdam_ray.models.backbones import declare_torchvision_operators

    before = torch.ops.torchvision.nms.default
    declare_torchvision_operators()
    assert torch.ops.torchvision.nms.default is before
