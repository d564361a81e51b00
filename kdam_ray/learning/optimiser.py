"""Optimisers and the polynomial schedule of the paper's lineage (SGD, poly 0.9), and AdamW for small nets from scratch."""

from collections.abc import Iterable

import torch
from torch import nn

from kdam_ray.config import Optim


def build_optimiser(optim: Optim, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over all parameters, fused where torch has it."""
    parameters = list(parameters)
    if optim.name == "sgd":
        return torch.optim.SGD(parameters, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay, fused=True)
    return torch.optim.AdamW(parameters, lr=optim.lr, weight_decay=optim.weight_decay, fused=True)


def learning_rate(optim: Optim, step: int, steps: int) -> float:
    """Learning rate of one step: linear warm-up, then lr * (1 - step / steps) ** power.

    Args:
        optim: peak rate, warm-up share, power.
        step: 0 .. steps - 1.
        steps: of the whole run.

    Returns:
        A positive rate; 0 is reached only after the last step.
    """
    warmup = int(optim.warmup * steps)
    if step < warmup:
        return optim.lr * (step + 1) / warmup
    return optim.lr * (1 - (step - warmup) / (steps - warmup)) ** optim.power
