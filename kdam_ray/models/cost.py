"""What a network costs: parameters and multiply-accumulates, as Tables 1 and 2 print them.

The paper's "GFLOPs" are multiply-accumulates (MACs) of one image of 425x560 pixels, counted over convolutions and linear
layers; products of two activations (attention) are not in them. So counted, the multi-task baseline gives 17.48, 96.20
and 116.52 G for HRNet18, Swin-T and Swin-S where the paper prints 17.59, 96.29 and 116.63.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from kdam_ray.models.network import build_network
from kdam_ray.tasks import Task

_aten = torch.ops.aten
LAYERS = {_aten.convolution, _aten._convolution, _aten.mm, _aten.addmm}


@dataclass(frozen=True)
class Cost:
    """Of one network, or of several that are used together (`+`).

    Attributes:
        params: learnt numbers.
        macs: multiply-accumulates of convolutions and linear layers, one image forward: the paper's "FLOPs".
        all_macs: those and the products inside attention.
    """

    params: int
    macs: int
    all_macs: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs, self.all_macs + other.all_macs)


def network_cost(backbone: str, decoder: str, tasks: Sequence[Task], *, image_size: tuple[int, int]) -> Cost:
    """Cost of one network, without allocating or computing it (seconds, even for Swin-L).

    The single-task rows of the tables are the sum over tasks of `network_cost(..., [task], ...)`.

    Args:
        backbone: row of `zoo.BACKBONES`.
        decoder: name in `zoo.DECODERS`.
        tasks: outputs.
        image_size: (height, width), pixels; the paper's costs are at (425, 560).

    Raises:
        ValueError: an unknown name, or no task.
    """
    with torch.device("meta"):
        network = build_network(backbone, decoder, tasks, image_size=image_size).eval()
        image = torch.empty(1, 3, *image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    flops = counter.get_flop_counts()["Global"]  # two a multiply-accumulate
    layers = sum(count for operator, count in flops.items() if operator in LAYERS)
    return Cost(sum(p.numel() for p in network.parameters()), layers // 2, counter.get_total_flops() // 2)
