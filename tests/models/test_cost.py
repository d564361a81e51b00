"""Costs as the paper's tables print them.

pytest tests/models/test_cost.py
"""

from functools import reduce
from operator import add

import pytest
import torch
from torch import nn

from kdam_ray.models import build_network, network_cost
from kdam_ray.tasks import DATASETS

NYUD, ROOMS = DATASETS["nyud"], DATASETS["rooms"]
SIZE = (425, 560)

# backbone: parameters (M) and GMACs, multi-task, then the four single-task networks together
MEASURED = {
    "hrnet18": (4.516, 17.48, 16.098, 40.50),
    "swin_t": (32.502, 96.20, 115.065, 161.0),
    "swin_s": (53.820, 116.52, 200.336, 242.25),
}
PRINTED = {
    "hrnet18": (4.52, 17.59, 16.09, 40.93),
    "swin_t": (32.50, 96.29, 115.08, 161.25),
    "swin_s": (53.82, 116.63, 200.33, 242.63),
}


@pytest.mark.parametrize("backbone", MEASURED)
def test_rows_of_table_1(backbone):
    multi = network_cost(backbone, "mt_baseline", NYUD.tasks, image_size=SIZE)
    single = reduce(add, (network_cost(backbone, "mt_baseline", [task], image_size=SIZE) for task in NYUD.tasks))
    ours = (multi.params / 1e6, multi.macs / 1e9, single.params / 1e6, single.macs / 1e9)
    for value, measured, printed in zip(ours, MEASURED[backbone], PRINTED[backbone], strict=True):
        assert value == pytest.approx(measured, rel=5e-4)
        # the authors' counter adds batch norm and ReLU: up to 1.1 % for HRNet's many thin layers
        assert value == pytest.approx(printed, rel=2e-3 if measured in MEASURED[backbone][::2] else 1.2e-2)


@pytest.mark.parametrize(("backbone", "params", "macs"), [("swin_b", 95.60, 208.6), ("swin_l", 214.9, 468.1)])
def test_teachers_with_attention_products(backbone, params, macs):
    cost = network_cost(backbone, "mt_baseline", NYUD.tasks, image_size=SIZE)
    assert cost.params / 1e6 == pytest.approx(params, rel=1e-3)
    assert cost.all_macs / 1e9 == pytest.approx(macs, rel=1e-3)
    assert cost.macs < cost.all_macs


@pytest.mark.parametrize("backbone", ["swin_w12", "resnet_w16", "hrnet18"])
def test_macs_equal_a_count_layer_by_layer(backbone):
    """Independent count: outputs of every convolution and linear layer times what each of them sums."""
    network = build_network(backbone, "mt_baseline", ROOMS.tasks, image_size=(45, 62)).eval()
    counted = []

    def count(layer, _, output):
        counted.append(output.numel() * layer.weight[0].numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 45, 62))
    cost = network_cost(backbone, "mt_baseline", ROOMS.tasks, image_size=(45, 62))
    assert cost.macs == sum(counted)
    assert cost.params == sum(parameter.numel() for parameter in network.parameters())
