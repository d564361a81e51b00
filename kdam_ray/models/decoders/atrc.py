"""ATRC, adaptive task-relational context (Bruggemann et al., ICCV 2021): each task attends to what each other task saw.

For a target task t, every source task s (t among them) gives a context of one type, chosen by a search and stored as
data (`kdam_ray.contexts`). F are the tasks' features, A the auxiliary logits of a label cut into classes; query from
F_t, key and value from the source, each projected to `inner` = hidden / 2 channels:

    none            nothing
    global          y = V phi(K)^T phi(q) / (sum of phi(K))^T phi(q), phi = softplus: linear attention over all pixels
    local           softmax attention over the 9 x 9 window around the pixel (`models.local`)
    target, source  regions R = F_s softmax(A)^T, the softmax over the pixels, one region a class of the label of the
                    target (or of the source); y = V(R) softmax(K(R)^T q / sqrt(inner))

    C_t = norm(W [y_t1, ..., y_tT]), its gain starting at 0;  G_t = dropout(ReLU(norm(W [F_t, C_t])));  logits = W G_t

A is predicted from detached levels, so its losses do not train the backbone; the contexts that use it do train A.
A target whose sources are all `none` has G_t from F_t alone.

Differs from the published code: a local window is cut at the border of the image instead of padded with zero logits,
and no mask excludes padded pixels from the regions (the published one compares with a value that normalised images
never have). Bilinear enlargement to the image is left to the loss, as everywhere here.

Cost, HRNet18 on NYUD-v2, 425 x 560: 5.061 M parameters (5.06 printed) and 25.29 GMACs, of which 0.77 are products of
activations (25.76 printed).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.contexts import Contexts, ContextType, check_contexts, published_contexts
from kdam_ray.models.heads import TaskFeatures, TaskLogits, conv_norm, join_levels
from kdam_ray.models.local import local_attention
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone

WINDOW = 9  # pixels on the side of a local context
DROPOUT = 0.05  # of whole channels
TINY = 1e-12  # below any denominator of the global context


class ATRC(nn.Module):
    """Four maps to logits per task, through the contexts of each pair of tasks.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `hidden` is the channels of each task's features.
        contexts: target -> source -> type; None: as published for these tasks.

    Raises:
        ValueError: contexts that do not fit the tasks, or tasks that ATRC was not published for.
    """

    def __init__(
        self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone, *, contexts: Contexts | None = None
    ) -> None:
        super().__init__()
        self.names = [task.name for task in tasks]
        contexts = published_contexts(self.names) if contexts is None else contexts
        check_contexts(contexts, self.names)
        self.features = TaskFeatures(sum(channels), len(tasks), row.hidden)
        labels = label_tasks(contexts)
        self.labels = LabelMaps(sum(channels), [task for task in tasks if task.name in labels]) if labels else None
        given = {
            target: {source: contexts[target][source] for source in self.names if contexts[target][source] != "none"}
            for target in self.names
        }
        self.contexts = nn.ModuleDict({target: TaskContexts(kinds, row.hidden) for target, kinds in given.items()})
        self.logits = TaskLogits(row.hidden, tasks)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, task's channels, h, w]}.

        While training also {"classified/label/<task>": [B, task's label classes, h, w]} of the tasks whose labels
        serve.
        """
        joined = join_levels(maps)
        features = dict(zip(self.names, self.features(joined), strict=True))
        labels = {} if self.labels is None else self.labels(joined.detach())
        regions = {name: spatial_softmax(logits) for name, logits in labels.items()}
        refined = [
            block(features[target], features, regions.get(target), regions) for target, block in self.contexts.items()
        ]
        auxiliary = {f"classified/label/{name}": logits for name, logits in labels.items()} if self.training else {}
        return self.logits(refined) | auxiliary


def label_tasks(contexts: Contexts) -> set[str]:
    """The tasks whose label maps some pair of these contexts reads."""
    pairs = [(target, source, kind) for target, row in contexts.items() for source, kind in row.items()]
    return {target for target, _, kind in pairs if kind == "target"} | {
        source for _, source, kind in pairs if kind == "source"
    }


def spatial_softmax(logits: Tensor) -> Tensor:
    """Each class as a distribution over the pixels: [B, L, h, w] -> [B, L, h w], sums over the last dim are 1."""
    return logits.flatten(2).softmax(2)


class LabelMaps(nn.Module):
    """Auxiliary logits of labels cut into classes; per task 1x1 convolution, batch norm, ReLU, 1x1 convolution.

    Args:
        channels: of the joined levels.
        tasks: those whose labels serve.
    """

    def __init__(self, channels: int, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.tasks = len(tasks)
        self.trunk = conv_norm(channels, len(tasks) * channels)
        self.logits = TaskLogits(channels, [replace(task, channels=task.label_classes) for task in tasks])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[B, C, h, w] -> {task: [B, task's label classes, h, w]}."""
        return self.logits(self.trunk(x).chunk(self.tasks, dim=1))


class TaskContexts(nn.Module):
    """All contexts of one target, and the target's features refined by them.

    Args:
        sources: source -> type, without `none`; empty: the features are refined alone.
        hidden: channels of a task's features.
    """

    def __init__(self, sources: Mapping[str, ContextType], hidden: int) -> None:
        super().__init__()
        inner = hidden // 2
        self.blocks = nn.ModuleDict({source: context_block(kind, hidden, inner) for source, kind in sources.items()})
        self.gather = gather_contexts(len(sources) * inner, hidden) if sources else None
        self.refine = refine_features(2 * hidden if sources else hidden, hidden)

    def forward(
        self, target: Tensor, features: Mapping[str, Tensor], regions_t: Tensor | None, regions: Mapping[str, Tensor]
    ) -> Tensor:
        """The target's refined features.

        Args:
            target: [B, hidden, h, w].
            features: of every task, like `target`.
            regions_t: [B, L, h w], of the target's label.
            regions: of every task that has them.

        Returns:
            [B, hidden, h, w].
        """
        if self.gather is None:
            return self.refine(target)
        contexts = [
            block(target, features[source], regions_t, regions.get(source)) for source, block in self.blocks.items()
        ]
        return self.refine(torch.cat((target, self.gather(torch.cat(contexts, 1))), 1))


def gather_contexts(inputs: int, hidden: int) -> nn.Sequential:
    """Contexts side by side to `hidden` channels, which are zero when training begins."""
    layers = conv_norm(inputs, hidden, relu=False)
    nn.init.zeros_(layers[1].weight)  # type: ignore[arg-type]
    return layers


def refine_features(inputs: int, hidden: int) -> nn.Sequential:
    """Features and contexts side by side to refined features."""
    return nn.Sequential(conv_norm(inputs, hidden), nn.Dropout2d(DROPOUT))


class Projections(nn.Module):
    """Query, key and value of one pair of tasks.

    Args:
        channels: of the features.
        inner: of each projection.
        relu: whether query and key end in a ReLU.
        affine: whether the value's batch norm learns a gain and a bias.
    """

    def __init__(self, channels: int, inner: int, *, relu: bool, affine: bool) -> None:
        super().__init__()
        self.query = nn.Sequential(conv_norm(channels, inner), conv_norm(inner, inner, relu=relu))
        self.key = nn.Sequential(conv_norm(channels, inner), conv_norm(inner, inner, relu=relu))
        self.value = conv_norm(channels, inner, affine=affine)

    def forward(self, target: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, C, h, w], [B, C, m, n] -> query [B, inner, h, w], key and value [B, inner, m, n]."""
        return self.query(target), self.key(source), self.value(source)


class GlobalContext(nn.Module):
    """Linear attention of every pixel of the target to all pixels of the source; arguments as `context_block`."""

    def __init__(self, channels: int, inner: int, *, affine: bool = True) -> None:
        super().__init__()
        self.project = Projections(channels, inner, relu=False, affine=affine)

    def forward(self, target: Tensor, source: Tensor, regions_t: Tensor | None, regions_s: Tensor | None) -> Tensor:
        """[B, C, h, w] as `context_block` says; the regions are not read."""
        query, key, value = (x.flatten(2) for x in self.project(target, source))  # [B, inner, n]
        query, key = F.softplus(query), F.softplus(key)
        summary = value @ key.mT  # [B, inner (values), inner (keys)]
        total = key.sum(2).unsqueeze(1)  # [B, 1, inner]
        context = (summary @ query) / (total @ query).clamp_min(TINY)
        return context.unflatten(2, target.shape[-2:])


class LocalContext(nn.Module):
    """Attention of every pixel of the target to a window of the source; arguments as `context_block`."""

    def __init__(self, channels: int, inner: int, *, affine: bool = True) -> None:
        super().__init__()
        self.project = Projections(channels, inner, relu=True, affine=affine)

    def forward(self, target: Tensor, source: Tensor, regions_t: Tensor | None, regions_s: Tensor | None) -> Tensor:
        """[B, C, h, w] as `context_block` says; the regions are not read."""
        query, key, value = self.project(target, source)
        return local_attention(query, key, value, WINDOW)


class RegionContext(nn.Module):
    """Attention of every pixel of the target to the source's features gathered class by class.

    Args:
        channels, inner, affine: as `context_block`.
        of: whose label has the classes.
    """

    def __init__(self, channels: int, inner: int, *, of: Literal["target", "source"], affine: bool = True) -> None:
        super().__init__()
        self.of = of
        self.project = Projections(channels, inner, relu=True, affine=affine)

    def forward(self, target: Tensor, source: Tensor, regions_t: Tensor | None, regions_s: Tensor | None) -> Tensor:
        """[B, C, h, w] as `context_block` says; reads the regions of the label that it is `of`."""
        pixels = regions_t if self.of == "target" else regions_s
        assert pixels is not None, "label_tasks names the tasks whose labels must be predicted"
        regions = source.flatten(2) @ pixels.mT  # [B, C, L]
        projected = self.project(target, regions.unsqueeze(3))
        query, key, value = (x.flatten(2).mT.unsqueeze(1) for x in projected)  # [B, 1 head, n or L, inner]
        context = F.scaled_dot_product_attention(query, key, value)
        return context.squeeze(1).mT.unflatten(2, target.shape[-2:])


CONTEXT_BLOCKS: dict[ContextType, Callable[..., nn.Module]] = {
    "global": GlobalContext,
    "local": LocalContext,
    "target": partial(RegionContext, of="target"),
    "source": partial(RegionContext, of="source"),
}


def context_block(kind: ContextType, channels: int, inner: int, *, affine: bool = True) -> nn.Module:
    """One context of one pair of tasks.

    Its forward takes (target [B, C, h, w], source [B, C, h, w], the target's regions [B, L, h w] or None, the source's
    or None), the regions as `spatial_softmax` gives them, and returns [B, inner, h, w].

    Args:
        kind: any but `none`, which has no block.
        channels: C, of the features.
        inner: of the context.
        affine: whether the values' batch norm learns; without, contexts of all types have one scale (for a search).
    """
    return CONTEXT_BLOCKS[kind](channels, inner, affine=affine)
