"""Networks: sizes, gradients, determinism, the teacher's law.

pytest tests/models/test_network.py
"""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdam_ray.models import Network, Teacher, build_network
from kdam_ray.models.decoders import DECODERS
from kdam_ray.models.heads import TaskFeatures, join_levels, resize
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES
from kdam_ray.zoo import DECODERS as DECODER_NAMES

TASKS = DATASETS["rooms"].tasks
SMALL = ["swin_w12", "resnet_w8", "resnet_w16"]
FAMILIES = ["swin_w12", "swin_w32", "resnet_w8", "hrnet18"]


def build(name: str, seed: int = 0, size: tuple[int, int] = (48, 64)) -> Network:
    torch.manual_seed(seed)
    return build_network(name, "mt_baseline", TASKS, image_size=size)


def images(count: int, height: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(48, 64), (64, 96), (53, 70)])
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_a_quarter_of_any_image_rounded_up(name, size):
    network = build(name).eval()
    with torch.no_grad():
        maps = network.backbone(images(1, *size))
        logits = network(images(1, *size))
    for level, (x, width) in enumerate(zip(maps, network.backbone.channels, strict=True)):
        stride = 4 * 2**level
        assert x.shape == (1, width, -(-size[0] // stride), -(-size[1] // stride))
    assert list(logits) == [task.name for task in TASKS]
    for task in TASKS:
        assert logits[task.name].shape == (1, task.channels, -(-size[0] // 4), -(-size[1] // 4))
        assert logits[task.name].dtype == torch.float32


@pytest.mark.slow
def test_nyud_size_of_the_paper_on_meta():
    with torch.device("meta"):
        for name in ("hrnet18", "swin_t", "swin_s", "swin_b", "swin_l"):
            maps = build(name, size=(425, 560)).backbone(torch.empty(1, 3, 425, 560))
            assert [tuple(x.shape[-2:]) for x in maps] == [(107, 140), (54, 70), (27, 35), (14, 18)]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_gets_a_gradient(name):
    """Otherwise DDP (find_unused_parameters=False) would wait for ever."""
    network = build(name).train()
    sum(x.square().mean() for x in network(images(2, 64, 96)).values()).backward()
    silent = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert not silent
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.usefixtures("in_float64")
def test_eval_output_does_not_depend_on_batch_neighbours(name):
    network = build(name).train()
    with torch.no_grad():
        network(images(4, 64, 64, seed=5))  # batch norm has seen something
        network.eval()
        batch = images(3, 48, 64)
        alone, together = network(batch[:1]), network(batch)
    for key in (
        alone
    ):  # other blockings of the same sums: rounding, some 1e-7 of the terms (about 1) that cancel in a value around 0.1
        torch.testing.assert_close(together[key][:1], alone[key])


@pytest.mark.parametrize("name", SMALL)
def test_bf16_autocast_trains(name):
    network = build(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images(2, 48, 64))
    with torch.no_grad():
        full = network(images(2, 48, 64))
    sum(x.float().square().mean() for x in logits.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    for key, x in logits.items():  # bf16 has 8 bits: percents of the largest logit after some dozen layers
        assert (x.float() - full[key]).abs().max() < 0.1 * full[key].abs().max()


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_seeds_give_equal_weights_and_a_state_dict_carries_a_network_over(name):
    first, same, other = build(name), build(name), build(name, seed=1)
    state = first.state_dict()
    assert all(torch.equal(state[key], value) for key, value in same.state_dict().items())
    assert any(not torch.equal(state[key], value) for key, value in other.state_dict().items())
    assert all(value.is_contiguous() for value in state.values())  # safetensors stores no others
    other.load_state_dict(state)
    with torch.no_grad():
        for left, right in zip(
            first.eval()(images(1, 48, 64)).values(), other.eval()(images(1, 48, 64)).values(), strict=True
        ):
            assert torch.equal(left, right)


@pytest.mark.parametrize("name", SMALL)
def test_a_training_step_repeats_bit_for_bit(name):
    gradients = []
    for _ in range(2):
        network = build(name).train()
        sum(x.square().mean() for x in network(images(2, 48, 64)).values()).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(left, right) for left, right in zip(*gradients, strict=True))


def test_the_teacher_stays_as_it_is():
    """Law 6, whatever is asked of it."""
    teacher = Teacher(build("resnet_w8"))
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    student = nn.ModuleDict({"teacher": teacher}).train()
    teacher.train()
    first, again = teacher(images(2, 48, 64)), student["teacher"](images(2, 48, 64))
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(x.requires_grad for x in first.values())
    assert all(torch.equal(first[key], again[key]) for key in first)
    weight = torch.ones(1, requires_grad=True)
    sum((weight * x).mean() for x in first.values()).backward()  # its output may take part in a student's loss
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


@pytest.mark.usefixtures("in_float64")
def test_joined_task_convolutions_equal_one_per_task():
    """Convolution, batch norm and ReLU of T tasks in one call, against T modules of their own."""
    torch.manual_seed(0)
    joined = TaskFeatures(channels=5, tasks=3, hidden=4).train()
    x = images(2, 6, 7)[:, :1].repeat(1, 5, 1, 1) * torch.arange(1, 6).view(1, 5, 1, 1)
    for index, features in enumerate(joined(x)):
        weight = joined.conv.weight[4 * index : 4 * index + 4]
        y = F.conv2d(x, weight, padding=1)
        mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
        torch.testing.assert_close(features, ((y - mean) / (variance + 1e-5).sqrt()).relu())


@pytest.mark.usefixtures("in_float64")
def test_levels_are_joined_bilinearly_and_so_are_their_gradients():
    maps = [images(2, 6, 8), images(2, 3, 4)]
    ours = [x.clone().requires_grad_() for x in maps]
    plain = [x.clone().requires_grad_() for x in maps]
    expected = torch.cat([plain[0], F.interpolate(plain[1], scale_factor=2, mode="bilinear")], 1)
    joined = join_levels(ours)
    torch.testing.assert_close(joined, expected)
    weight = images(2, 6, 8, seed=3).repeat(1, 2, 1, 1)
    (joined * weight).sum().backward()
    (expected * weight).sum().backward()
    for left, right in zip(ours, plain, strict=True):
        torch.testing.assert_close(left.grad, right.grad)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.usefixtures("in_float64")
def test_resize_is_interpolate_in_any_layout(layout):
    x = images(2, 5, 7).to(memory_format=layout)
    ours, plain = (x.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
    resized, expected = resize(ours, (9, 16)), F.interpolate(plain, size=(9, 16), mode="bilinear")
    assert torch.equal(resized, expected)
    weight = images(2, 9, 16, seed=3)
    (resized * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "swin_x"}, "backbone 'swin_x' is not one of hrnet18, swin_t"),
        ({"decoder": "fcn"}, "decoder 'fcn' is not one of mt_baseline"),
        ({"tasks": ()}, "tasks is empty"),
    ],
)
def test_unknown_names_say_what_there_is(change, message):
    arguments = {"backbone": "swin_w12", "decoder": "mt_baseline", "tasks": TASKS} | change
    with pytest.raises(ValueError, match=message):
        build_network(**arguments, image_size=(48, 64))


def test_the_plain_tables_name_what_can_be_built():
    assert tuple(DECODERS) == DECODER_NAMES
    with torch.device("meta"):
        for name in BACKBONES:
            assert len(build(name).backbone.channels) == 4


def test_importing_the_package_does_not_import_timm():
    heavy = "any(name.split('.')[0] in ('timm', 'torchvision') for name in sys.modules)"
    code = f"import sys, kdam_ray.models; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
