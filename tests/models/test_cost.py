"""Costs as the paper's tables print them.

pytest tests/models/test_cost.py
"""

from functools import reduce
from operator import add

import pytest
import torch
from torch import nn

from kdam_ray.models import activation_bytes, build_network, network_cost
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES

NYUD, ROOMS = DATASETS["nyud"], DATASETS["rooms"]
SIZE = (425, 560)

# backbone: parameters (M) and GMACs as printed, multi-task, then the four single-task networks together
PRINTED = {
    "hrnet18": (4.52, 17.59, 16.09, 40.93),
    "swin_t": (32.50, 96.29, 115.08, 161.25),
    "swin_s": (53.82, 116.63, 200.33, 242.63),
}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", PRINTED)
def test_baselines_cost_what_table_1_prints(backbone):
    multi = network_cost(backbone, "mt_baseline", NYUD.tasks, image_size=SIZE)
    single = reduce(add, (network_cost(backbone, "mt_baseline", [task], image_size=SIZE) for task in NYUD.tasks))
    params, gmacs, single_params, single_gmacs = PRINTED[backbone]
    assert multi.params / 1e6 == pytest.approx(params, rel=2e-3)
    assert single.params / 1e6 == pytest.approx(single_params, rel=2e-3)
    assert multi.macs / 1e9 == pytest.approx(gmacs, rel=5e-3)
    assert single.macs / 1e9 == pytest.approx(single_gmacs, rel=5e-3)


@pytest.mark.parametrize(("backbone", "params", "macs"), [("swin_b", 95.60, 208.6), ("swin_l", 214.9, 468.1)])
def test_teachers_with_attention_products(backbone, params, macs):
    cost = network_cost(backbone, "mt_baseline", NYUD.tasks, image_size=SIZE)
    assert cost.params / 1e6 == pytest.approx(params, rel=1e-3)
    assert cost.all_macs / 1e9 == pytest.approx(macs, rel=1e-3)
    assert cost.macs < cost.all_macs


@pytest.mark.parametrize("backbone", ["swin_w12", "resnet_w16", "hrnet18"])
def test_macs_equal_a_count_layer_by_layer(backbone):
    """Independent count: outputs times what each of them sums; two for an element of a batch norm, one for a ReLU's."""
    network = build_network(backbone, "mt_baseline", ROOMS.tasks, image_size=(45, 62)).eval()
    counted = []
    each = {
        nn.Conv2d: lambda layer: layer.weight[0].numel(),
        nn.Linear: lambda layer: layer.weight[0].numel(),
        nn.ReLU: lambda layer: 1,
    }

    def count(layer, _, output):
        counted.append(output.numel() * each[type(layer)](layer))

    for layer in network.modules():
        if type(layer) in each:
            layer.register_forward_hook(count)
        elif isinstance(layer, nn.BatchNorm2d):  # timm's own subclass applies its ReLU itself
            layer.register_forward_hook(lambda layer, _, output: counted.append(output.numel() * 2))
    with torch.no_grad():
        network(torch.zeros(1, 3, 45, 62))
    counted.append(len(ROOMS.tasks) * BACKBONES[backbone].hidden * 12 * 16)  # the head's ReLU is a function
    cost = network_cost(backbone, "mt_baseline", ROOMS.tasks, image_size=(45, 62))
    assert cost.macs == sum(counted)
    assert cost.params == sum(parameter.numel() for parameter in network.parameters())


def test_activations_are_what_autograd_keeps():
    """Against real tensors: every storage that the graph of a forward holds on to, the parameters aside."""
    network = build_network("resnet_w8", "mt_baseline", ROOMS.tasks, image_size=(48, 64)).train()
    known = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept = {}

    def keep(x):
        if x.untyped_storage().data_ptr() not in known:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        network(torch.zeros(4, 3, 48, 64))
    size = sum(x.untyped_storage().nbytes() for x in kept.values())
    assert activation_bytes("resnet_w8", "mt_baseline", ROOMS.tasks, image_size=(48, 64), batch=4) == size
    assert activation_bytes("resnet_w8", "mt_baseline", ROOMS.tasks, image_size=(48, 64), batch=8) == pytest.approx(
        2 * size, rel=0.01
    )
