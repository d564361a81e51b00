"""Cross-Stitch, NDDR-CNN, PAD-Net and MTI-Net: their equations written out with loops, their starts, their costs.

pytest tests/models/decoders/test_convolutional.py
"""

import pytest
import torch
from torch.nn import functional as F

from kdam_ray.config import Optim
from kdam_ray.learning.optimiser import build_optimisers
from kdam_ray.models import build_network, network_cost
from kdam_ray.models.decoders.cross_stitch import CrossStitchUnit
from kdam_ray.models.decoders.mti_net import FeaturePropagation, MTINet, SqueezeExcitation
from kdam_ray.models.decoders.nddr_cnn import NDDR
from kdam_ray.models.decoders.pad_net import Distillation
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

pytestmark = pytest.mark.usefixtures("in_float64")

NYUD, ROOMS = DATASETS["nyud"], DATASETS["rooms"]
TASKS, CHANNELS = 3, 5

# decoder: parameters (M) and GMACs of Table 1, then ours, evaluating; HRNet18, 425x560
COSTS = {
    "cross_stitch": (4.52, 17.59, 4.5166, 17.589),
    "nddr_cnn": (4.59, 18.68, 4.5879, 18.677),
    "pad_net": (5.02, 25.18, 5.0217, 25.120),
    "mti_net": (12.56, 19.14, 12.5959, 19.148),
}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def features(batch=2, height=4, width=6):
    return [draw(batch, CHANNELS, height, width, seed=task) for task in range(TASKS)]


def build(decoder, tasks=ROOMS.tasks, seed=0):
    torch.manual_seed(seed)
    return build_network("resnet_w8", decoder, tasks, image_size=(48, 64))


def perturbed(module, seed=7):
    """Every parameter moved away from its start."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * draw(*parameter.shape, seed=seed))
    return module


@pytest.mark.slow
@pytest.mark.parametrize("decoder", COSTS)
def test_row_of_table_1(decoder):
    cost = network_cost("hrnet18", decoder, NYUD.tasks, image_size=(425, 560))
    printed_params, printed_macs, params, macs = COSTS[decoder]
    assert cost.params / 1e6 == pytest.approx(params, rel=1e-4)
    assert cost.all_macs / 1e9 == pytest.approx(macs, rel=1e-4)
    assert params == pytest.approx(printed_params, rel=4e-3)
    assert macs == pytest.approx(printed_macs, rel=4e-3)


@pytest.mark.parametrize("decoder", ["cross_stitch", "nddr_cnn", "pad_net"])
def test_one_task_alone_is_the_baseline(decoder):
    ours, baseline = build(decoder, ROOMS.tasks[:1]).eval(), build("mt_baseline", ROOMS.tasks[:1]).eval()
    assert ours.state_dict().keys() == baseline.state_dict().keys()
    image = draw(1, 3, 48, 64)
    torch.testing.assert_close(ours(image), baseline(image), rtol=0, atol=0)
    assert not any("/" in key for key in ours.train()(draw(2, 3, 48, 64)))


@pytest.mark.parametrize("decoder", ["cross_stitch", "nddr_cnn"])
def test_only_the_mixing_units_learn_at_their_own_rate(decoder):
    network = build(decoder)
    groups = build_optimisers(Optim(mixing_lr=100.0), network.named_parameters())["optimiser"].param_groups
    quick = {parameter for group in groups if group["factor"] == 100 for parameter in group["params"]}
    assert quick == set(network.decoder.mix.parameters()) != set()


# Cross-Stitch


def test_cross_stitch_is_a_sum_over_tasks_per_channel():
    unit, x = perturbed(CrossStitchUnit(CHANNELS, TASKS)), features()
    outputs = unit(x)
    for i in range(TASKS):
        for c in range(CHANNELS):
            expected = sum(unit.weight[i, j, c].item() * x[j][:, c] for j in range(TASKS))
            torch.testing.assert_close(outputs[i][:, c], expected)


def test_cross_stitch_starts_at_nine_tenths_of_its_own():
    x = features()
    for i, output in enumerate(CrossStitchUnit(CHANNELS, TASKS)(x)):
        torch.testing.assert_close(output, 0.9 * x[i] + 0.1 * sum(x[j] for j in range(TASKS) if j != i))


def test_cross_stitch_with_the_identity_is_the_baseline():
    ours, baseline = build("cross_stitch").eval(), build("mt_baseline").eval()
    with torch.no_grad():
        ours.decoder.mix.weight.copy_(torch.eye(4)[:, :, None, None, None].expand_as(ours.decoder.mix.weight))
    baseline.load_state_dict({name: value for name, value in ours.state_dict().items() if ".mix." not in name})
    image = draw(1, 3, 48, 64)
    torch.testing.assert_close(ours(image), baseline(image))


# NDDR-CNN


def test_nddr_is_a_linear_reduction_of_every_pixel_then_norm_and_relu():
    layer, x = perturbed(NDDR(CHANNELS, TASKS)).eval(), features()
    with torch.no_grad():
        layer.norm.running_mean.copy_(draw(TASKS * CHANNELS, seed=11))
        layer.norm.running_var.copy_(draw(TASKS * CHANNELS, seed=12).exp())
    weight = (
        layer.conv.weight[:, :, 0, 0].unflatten(0, (TASKS, CHANNELS)).unflatten(2, (TASKS, CHANNELS))
    )  # target c source d
    reduced = torch.einsum("icjd,jbdhw->ibchw", weight, torch.stack(x))
    mean, deviation, scale, shift = (
        value.unflatten(0, (TASKS, CHANNELS))[:, None, :, None, None]
        for value in (
            layer.norm.running_mean,
            (layer.norm.running_var + 1e-5).sqrt(),
            layer.norm.weight,
            layer.norm.bias,
        )
    )
    expected = ((reduced - mean) / deviation * scale + shift).clamp_min(0)
    torch.testing.assert_close(torch.stack(layer(x)), expected)


def test_nddr_starts_at_nine_tenths_of_its_own_and_forgets_slowly():
    layer, x = NDDR(CHANNELS, TASKS), features()
    reduced = layer.conv(torch.cat(x, dim=1)).chunk(TASKS, dim=1)
    for i in range(TASKS):
        torch.testing.assert_close(reduced[i], 0.9 * x[i] + 0.1 * sum(x[j] for j in range(TASKS) if j != i))
    layer(x)
    torch.testing.assert_close(layer.norm.running_mean, 0.05 * torch.cat(reduced, dim=1).mean(dim=(0, 2, 3)))


# PAD-Net


def test_distillation_adds_gated_messages_of_every_other_task():
    module, x = perturbed(Distillation(CHANNELS, TASKS)), features()
    outputs = module(x)
    for target in range(TASKS):
        message = torch.zeros_like(x[target])
        for source in range(TASKS):
            if source == target:
                continue
            receivers = [task for task in range(TASKS) if task != source]
            rows = slice(receivers.index(target) * CHANNELS, (receivers.index(target) + 1) * CHANNELS)
            message += F.conv2d(x[source], module.messages[source].weight[rows], padding=1)
        gate = module.gates[target]
        logits = torch.einsum("dc,bchw->bdhw", gate.weight[:, :, 0, 0], x[target]) + gate.bias[:, None, None]
        torch.testing.assert_close(outputs[target], x[target] + message / (1 + torch.exp(-logits)))


def test_a_closed_gate_lets_nothing_through():
    module, x = Distillation(CHANNELS, TASKS), features()
    torch.nn.init.constant_(module.gates[1].bias, -1e4)
    outputs = module(x)
    assert torch.equal(outputs[1], x[1])
    assert not torch.allclose(outputs[0], x[0])


def test_initial_predictions_are_made_before_distillation():
    network = build("pad_net").train()
    head = network.decoder
    head.initial.load_state_dict(head.logits.state_dict())
    image = draw(2, 3, 48, 64)
    outputs = network(image)
    assert [key for key in outputs if "/" in key] == [f"aux/initial/{task.name}" for task in ROOMS.tasks]
    assert not any(torch.allclose(outputs[task.name], outputs[f"aux/initial/{task.name}"]) for task in ROOMS.tasks)
    for conv in head.distillation.messages:
        torch.nn.init.zeros_(conv.weight)
    outputs = network(image)
    assert all(torch.equal(outputs[task.name], outputs[f"aux/initial/{task.name}"]) for task in ROOMS.tasks)


# MTI-Net


def test_propagation_is_a_residual_of_what_the_mask_selects():
    module, x = perturbed(FeaturePropagation(CHANNELS, TASKS)).eval(), features()
    scores = module.attention(torch.cat(x, dim=1))
    scores = [scores[:, task * CHANNELS : (task + 1) * CHANNELS].exp() for task in range(TASKS)]
    masked = torch.cat([score / sum(scores) * x_t for score, x_t in zip(scores, x, strict=True)], dim=1)
    shared = module.reduce(masked)
    for excite, x_t, output in zip(module.excitations, x, module(x), strict=True):
        torch.testing.assert_close(output, x_t + excite(shared))


def test_an_even_mask_gives_every_task_an_equal_share():
    module, x = FeaturePropagation(CHANNELS, TASKS).eval(), features()
    for parameter in module.attention[-1].parameters():
        torch.nn.init.zeros_(parameter)
    expected = [
        x_t + excite(module.reduce(torch.cat(x, dim=1) / TASKS))
        for excite, x_t in zip(module.excitations, x, strict=True)
    ]
    torch.testing.assert_close(module(x), expected)


def test_squeeze_and_excitation_scales_channels_by_their_means():
    module, x = perturbed(SqueezeExcitation(32)), draw(2, 32, 3, 4)
    for sample in range(2):
        hidden = (module.squeeze.weight @ x[sample].flatten(1).mean(1)).clamp_min(0)
        expected = x[sample] * torch.sigmoid(module.excite.weight @ hidden)[:, None, None]
        torch.testing.assert_close(module(x)[sample], expected)
    assert module.squeeze.weight.shape == (2, 32)


def pyramid(height=12, width=16):
    channels = (8, 16, 32, 64)
    sizes = [(-(-height // 2**k), -(-width // 2**k)) for k in range(4)]
    return channels, [draw(2, c, *size, seed=k) for k, (c, size) in enumerate(zip(channels, sizes, strict=True))]


def test_the_four_scales_written_out():
    channels, maps = pyramid(11, 17)
    torch.manual_seed(0)
    net = perturbed(MTINet(channels, ROOMS.tasks, BACKBONES["resnet_w8"])).eval()

    def enlarged(x, like):
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

    three, two, one, zero = reversed(net.scales)
    x3 = [initial(maps[3]) for initial in three.initial]
    p3 = three.propagation(x3)
    x2 = [
        initial(torch.cat([maps[2], enlarged(p, maps[2])], dim=1)) for initial, p in zip(two.initial, p3, strict=True)
    ]
    p2 = two.propagation(x2)
    x1 = [
        initial(torch.cat([maps[1], enlarged(p, maps[1])], dim=1)) for initial, p in zip(one.initial, p2, strict=True)
    ]
    p1 = one.propagation(x1)
    x0 = [
        initial(torch.cat([maps[0], enlarged(p, maps[0])], dim=1)) for initial, p in zip(zero.initial, p1, strict=True)
    ]
    distilled = [scale.distillation(x) for scale, x in zip((zero, one, two, three), (x0, x1, x2, x3), strict=True)]
    outputs = net(maps)
    for index, task in enumerate(ROOMS.tasks):
        joined = torch.cat([enlarged(levels[index], maps[0]) for levels in distilled], dim=1)
        torch.testing.assert_close(outputs[task.name], net.logits[task.name](net.fuse[index](joined)))


def test_features_flow_from_coarse_to_fine_only():
    """The initial prediction of a scale depends on its own level and all coarser ones, the final one on all."""
    channels, maps = pyramid()
    torch.manual_seed(0)
    net = perturbed(MTINet(channels, ROOMS.tasks, BACKBONES["resnet_w8"])).eval()
    net.training = True  # auxiliary outputs, with norms that do not learn
    for scale in net.scales:
        scale.training = True
    before = net(maps)
    keys = [f"aux/{scale}/{task.name}" for scale in range(4) for task in ROOMS.tasks]
    assert {key for key in before if "/" in key} == set(keys)
    for changed in range(4):
        after = net([x + (level == changed) for level, x in enumerate(maps)])
        assert {key for key in keys if not torch.equal(before[key], after[key])} == {
            key for key in keys if int(key[4]) <= changed
        }
        assert not any(torch.equal(before[task.name], after[task.name]) for task in ROOMS.tasks)
    assert all(before[f"aux/{scale}/depth"].shape[-2:] == maps[scale].shape[-2:] for scale in range(4))


def test_a_task_alone_keeps_its_scales_and_sends_nothing():
    network = build("mti_net", ROOMS.tasks[:1]).train()
    assert [key for key in network(draw(2, 3, 48, 64)) if "/" in key] == [
        f"aux/{scale}/semseg" for scale in (3, 2, 1, 0)
    ]
    assert not any("distillation" in name or "propagation" in name for name, _ in network.named_parameters())


@pytest.mark.parametrize("size", [(32, 32), (17, 45), (32, 48)])
def test_a_map_of_one_pixel_and_a_batch_of_two_can_be_trained_on(size):
    outputs = build("mti_net").train()(draw(2, 3, *size))
    loss = sum(value.square().mean() for value in outputs.values())
    loss.backward()
    assert loss.isfinite()
    assert outputs["aux/3/semseg"].shape[-2:] == (-(-size[0] // 32), -(-size[1] // 32))
