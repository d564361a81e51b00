"""Law 3 for every loss: two ranks under DDP have one process's losses and gradients.

python -m pytest tests/losses/test_losses_over_ranks.py
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kdam_ray import ranks
from kdam_ray.losses import dist, kdam, plain_kd, supervised_loss
from kdam_ray.tasks import DATASETS, IGNORE

pytestmark = pytest.mark.slow

TASKS = {task.name: task for name in ("rooms", "rooms_pascal") for task in DATASETS[name].tasks}
LOSSES = [
    *TASKS,
    *(
        f"{method}-{reading}"
        for method in ("kdam", "dist", "plain_kd")
        for reading in ("channels", "bernoulli", "spatial", "skip")
    ),
]
HOLES = {  # share of invalid pixels in each of the four images; a rank holds two
    "whole": (0, 0, 0, 0),
    "uneven": (0.1, 0.3, 0.9, 0.5),
    "one rank has none": (0.2, 0.5, 1, 1),
    "nobody has any": (1, 1, 1, 1),
}
SHAPE = (4, 1, 5, 6)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def label_of(kind, channels, valid):
    """A label of the global batch, float64 where it is a number."""
    if kind == "depth":
        return (torch.rand(SHAPE, generator=generator(1)).double() + 1).masked_fill(~valid, 0)
    if kind == "normals":
        return nn.functional.normalize(torch.randn(4, 3, 5, 6, generator=generator(1)).double(), dim=1).masked_fill(
            ~valid, 0
        )
    if kind == "edge":
        return (torch.rand(SHAPE, generator=generator(1)) < 0.3).double().masked_fill(~valid, IGNORE)
    return torch.randint(channels, SHAPE, generator=generator(1)).masked_fill(~valid, IGNORE)[:, 0]


def loss_of(name, student, share, valid):
    """The loss of this rank's share, a slice of the global batch."""
    if name in TASKS:
        label = label_of(TASKS[name].kind, TASKS[name].channels, valid)[share]
        return supervised_loss(TASKS[name], student, label, edge_positive_weight=0.8)
    method, reading = name.split("-")
    teacher = torch.randn(4, 5, 5, 6, generator=generator(2)).double().mul(2)[share]
    value = {"kdam": kdam, "dist": dist, "plain_kd": plain_kd}[method](
        student, teacher, temperature=2, reading=reading, mask=valid[share]
    )
    return value if method == "plain_kd" else value[0] + 3 * value[1]


def loss_and_gradients(name, holes):
    """One name's, on any number of ranks, in float64; a 1x1 convolution stands for the network."""
    world, rank = ranks.world_size(), ranks.rank()
    share = slice(4 * rank // world, 4 * (rank + 1) // world)
    valid = torch.rand(SHAPE, generator=generator(3)) >= torch.tensor(HOLES[holes]).view(4, 1, 1, 1)
    torch.manual_seed(4)
    network = nn.Conv2d(3, TASKS[name].channels if name in TASKS else 5, 1).double()
    wrapped = DistributedDataParallel(network) if world > 1 else network
    image = torch.randn(4, 3, 5, 6, generator=generator(5)).double().mul(2)
    loss = loss_of(name, wrapped(image[share]), share, valid)
    loss.backward()
    return loss.item(), network.weight.grad.numpy(), network.bias.grad.numpy()


def all_losses(holes):
    return {name: loss_and_gradients(name, holes) for name in LOSSES}


@pytest.mark.parametrize("holes", HOLES)
def test_law_3_two_ranks_are_one_process(two_ranks, holes):
    alone = all_losses(holes)
    for rank, together in enumerate(two_ranks(all_losses, holes)):
        for name, (loss, *gradients) in alone.items():
            assert together[name][0] == pytest.approx(loss, rel=1e-9, abs=1e-13), (rank, name)
            for ours, expected in zip(together[name][1:], gradients, strict=True):
                np.testing.assert_allclose(ours, expected, rtol=1e-7, atol=1e-11, err_msg=f"rank {rank}: {name}")
            something = holes != "nobody has any" and not name.endswith("skip")
            assert (loss > 0) == something, name
            assert np.abs(gradients[0]).max() > 1e-6 or not something, name
