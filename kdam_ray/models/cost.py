"""A network's parameters and multiply-accumulates, as Tables 1 and 2 print them, and the memory of a training step.

The paper's "GFLOPs" are multiply-accumulates (MACs) of one image of 425x560 pixels: convolutions and linear layers, two
for each element of a batch norm and one for each of a ReLU. So counted, the multi-task baseline gives 17.59, 96.22 and
116.5 G for HRNet18, Swin-T and Swin-S where the paper prints 17.59, 96.29 and 116.63. Products of two activations
(attention) are not in the Swin rows; they are in the HRNet18 rows, which the paper took over from ATRC's (PAP's 35 G
are nothing else).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from kdam_ray.contexts import Contexts
from kdam_ray.models.network import build_network
from kdam_ray.tasks import Task

_aten = torch.ops.aten
LAYERS = {_aten.convolution, _aten._convolution, _aten.mm, _aten.addmm}
# FLOPs per element of the output, two of which make one MAC
ELEMENTWISE = {_aten.native_batch_norm: 4, _aten._native_batch_norm_legit_no_training: 4, _aten.relu: 2, _aten.relu_: 2}


@dataclass(frozen=True)
class Cost:
    """Cost of one network, or of several that are used together (`+`).

    Attributes:
        params: learnt numbers.
        macs: multiply-accumulates of convolutions, linear layers, batch norms and ReLUs, one image forward.
        products: multiply-accumulates of products of two activations, inside attention.
    """

    params: int
    macs: int
    products: int

    @property
    def all_macs(self) -> int:
        return self.macs + self.products

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs, self.products + other.products)


def network_cost(
    backbone: str, decoder: str, tasks: Sequence[Task], *, image_size: tuple[int, int], contexts: Contexts | None = None
) -> Cost:
    """Cost of one network, without allocating or computing it (seconds, even for Swin-L).

    The single-task rows of the tables are the sum over tasks of `network_cost(..., [task], ...)`.

    Args:
        backbone: row of `zoo.BACKBONES`.
        decoder: name in `zoo.DECODERS`.
        tasks: outputs.
        image_size: (height, width), pixels; the paper's costs are at (425, 560).
        contexts: of the decoder "atrc".

    Raises:
        ValueError: an unknown name, or no task.
    """
    with torch.device("meta"):
        network = build_network(backbone, decoder, tasks, image_size=image_size, contexts=contexts).eval()
        image = torch.empty(1, 3, *image_size)
    counted = {operator: partial(_elementwise, per_element) for operator, per_element in ELEMENTWISE.items()}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter, torch.no_grad():
        network(image)
    flops = counter.get_flop_counts()["Global"]  # two a multiply-accumulate
    layers = sum(count for operator, count in flops.items() if operator in LAYERS or operator in ELEMENTWISE)
    products = counter.get_total_flops() - layers
    return Cost(sum(p.numel() for p in network.parameters()), layers // 2, products // 2)


def _elementwise(per_element: int, shape: torch.Size, *_: Any, **__: Any) -> int:
    """FLOPs of an operator from the shape of its first input."""
    return per_element * shape.numel()


def activation_bytes(
    backbone: str,
    decoder: str,
    tasks: Sequence[Task],
    *,
    image_size: tuple[int, int],
    batch: int,
    contexts: Contexts | None = None,
) -> int:
    """What a training step's forward keeps for its backward, in float32: every tensor once, without the parameters.

    Counted without allocating it. The loss at the image's resolution, gradients and the optimiser's state come on top.

    Args:
        backbone, decoder, tasks, image_size, contexts: as `network_cost`.
        batch: images.

    Returns:
        Bytes.
    """
    with torch.device("meta"):
        network = build_network(backbone, decoder, tasks, image_size=image_size, contexts=contexts).train()
        image = torch.empty(batch, 3, *image_size)
    known = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors themselves, so that no storage's identity is given to another

    def keep(x: Tensor) -> Tensor:
        if (identity := x.untyped_storage()._cdata) not in known:
            kept[identity] = x
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        network(image)
    return sum(x.untyped_storage().nbytes() for x in kept.values())
