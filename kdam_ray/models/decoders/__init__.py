"""Decoders by name: how four feature maps become logits per task. One file a system, one line here (and in `zoo.DECODERS`).

A decoder is built from (channels of the four levels, tasks, hidden=channels per task) and maps the four levels to
{Task.name: logits at the size of level 0}. It sees all levels and all tasks at once, so it may mix them as it likes.
"""

from collections.abc import Callable

from torch import nn

from kdam_ray.models.decoders.mt_baseline import MTBaseline

DECODERS: dict[str, Callable[..., nn.Module]] = {
    "mt_baseline": MTBaseline,
}
