"""Optimisers (SGD; AdamW for small nets from scratch) and the polynomial schedule of the paper's lineage, poly 0.9."""

from collections.abc import Iterable

import torch
from torch import nn

from kdam_ray.config import Optim


def build_optimisers(optim: Optim, parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, torch.optim.Optimizer]:
    """Who moves which parameters.

    Args:
        optim: of the weights.
        parameters: by name; a module named `mix` or `architecture` in it decides (see `models.decoders`).

    Returns:
        "optimiser", of the weights: SGD with momentum or AdamW, fused where torch has it; a group's "factor" multiplies
        the learning rate. "architecture", where there are such parameters: Adam at a constant rate, as ATRC's search
        has it.
    """
    kinds: dict[str, list[nn.Parameter]] = {"weights": [], "mix": [], "architecture": []}
    for name, parameter in parameters:
        kinds[next((kind for kind in ("mix", "architecture") if kind in name.split(".")), "weights")].append(parameter)
    groups = [{"params": kinds["weights"], "factor": 1.0}]
    if kinds["mix"]:
        groups.append({"params": kinds["mix"], "factor": optim.mixing_lr})
    optimisers: dict[str, torch.optim.Optimizer] = {}
    if optim.name == "sgd":
        optimisers["optimiser"] = torch.optim.SGD(
            groups, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay, fused=True
        )
    else:
        optimisers["optimiser"] = torch.optim.AdamW(groups, lr=optim.lr, weight_decay=optim.weight_decay, fused=True)
    if kinds["architecture"]:
        optimisers["architecture"] = torch.optim.Adam(kinds["architecture"], lr=optim.architecture_lr)
    return optimisers


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
