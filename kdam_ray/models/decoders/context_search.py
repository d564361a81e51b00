"""The search for ATRC's contexts (Bruggemann et al., ICCV 2021): every pair of tasks holds all types, and learns which.

For each pair of target and source, logits a over `CONTEXT_TYPES` are learnt beside the weights. While training, a step
draws two types of each pair by Gumbel noise g and mixes them:

    w = softmax((a + g) / tau) over the two largest, 0 elsewhere;   y = sum_k w_k y_k   (y of `none` is 0)

tau falls from 1 to 0.05 over training. The mean entropy of softmax(a) over the pairs is added to the loss with a weight
that grows from -0.02 (explore) to 0.06 (decide). In eval each pair shows the one type that it would keep; `chosen`
names it. The values of all types are normalised without learnt gain, so that w alone says how much a type contributes.

Differs from the published search: all types are computed at every step, sampled or not, so that the graph is the same
at every step and on every rank (DDP without unused parameters, synchronised batch norm); it costs about twice the work.
Mean over pairs rather than sum is our reading of the entropy. The logits learn with Adam at `Optim.architecture_lr`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdam_ray.contexts import CONTEXT_TYPES, Contexts
from kdam_ray.models.decoders.atrc import LabelMaps, context_block, gather_contexts, refine_features, spatial_softmax
from kdam_ray.models.heads import TaskFeatures, TaskLogits, join_levels
from kdam_ray.tasks import Task
from kdam_ray.zoo import Backbone

TAU = (1.0, 0.05)  # at the beginning and at the end of training
ENTROPY = (-0.02, 0.06)  # weight of the entropy, likewise
SAMPLED = 2  # types of a pair that take part in one step


class ContextSearch(nn.Module):
    """ATRC with every type of context for every pair of tasks.

    Args:
        channels: of the four levels.
        tasks: outputs, in order.
        row: `hidden` is the channels of each task's features.
    """

    def __init__(self, channels: Sequence[int], tasks: Sequence[Task], row: Backbone) -> None:
        super().__init__()
        self.names = [task.name for task in tasks]
        self.progress = 0.0
        self.features = TaskFeatures(sum(channels), len(tasks), row.hidden)
        self.labels = LabelMaps(sum(channels), tasks)
        self.targets = nn.ModuleDict({target: TargetSearch(self.names, row.hidden) for target in self.names})
        self.architecture = nn.Parameter(torch.zeros(len(tasks), len(tasks), len(CONTEXT_TYPES)))
        self.logits = TaskLogits(row.hidden, tasks)

    def at(self, progress: float) -> None:
        """How far training is, a share in [0, 1): what tau and the weight of the entropy follow."""
        self.progress = progress

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Four maps [B, C_k, h_k, w_k] -> {task: [B, task's channels, h, w]}.

        While training also "classified/label/<task>" as `ATRC`, and "penalty/entropy" [].
        """
        joined = join_levels(maps)
        features = dict(zip(self.names, self.features(joined), strict=True))
        labels = self.labels(joined.detach())
        regions = {name: spatial_softmax(logits) for name, logits in labels.items()}
        weights = self._sampled() if self.training else one_hot(self.architecture)
        refined = [
            block(target, features, regions, weights[i]) for i, (target, block) in enumerate(self.targets.items())
        ]
        predictions = self.logits(refined)
        if not self.training:
            return predictions
        auxiliary = {f"classified/label/{name}": logits for name, logits in labels.items()}
        return predictions | auxiliary | {"penalty/entropy": self._between(ENTROPY) * entropy(self.architecture)}

    def _sampled(self) -> Tensor:
        uniform = torch.rand_like(self.architecture).clamp(1e-6, 1 - 1e-6)
        return sampled(self.architecture, -torch.log(-torch.log(uniform)), tau=self._between(TAU))

    def _between(self, ends: tuple[float, float]) -> float:
        return ends[0] + (ends[1] - ends[0]) * self.progress

    def chosen(self) -> Contexts:
        """The combination that the search has arrived at: of each pair the type with the largest logit."""
        best = self.architecture.argmax(2).tolist()
        return {
            target: {source: CONTEXT_TYPES[best[i][j]] for j, source in enumerate(self.names)}
            for i, target in enumerate(self.names)
        }

    def probabilities(self) -> dict[str, dict[str, dict[str, float]]]:
        """softmax(a) of each pair: target -> source -> type -> probability."""
        table = self.architecture.detach().softmax(2).tolist()
        return {
            target: {source: dict(zip(CONTEXT_TYPES, table[i][j], strict=True)) for j, source in enumerate(self.names)}
            for i, target in enumerate(self.names)
        }


class TargetSearch(nn.Module):
    """All types of context of one target from all sources, and the target's features refined by their mixtures.

    Args:
        sources: names of the tasks.
        hidden: channels of a task's features.
    """

    def __init__(self, sources: Sequence[str], hidden: int) -> None:
        super().__init__()
        inner = hidden // 2
        self.blocks = nn.ModuleDict({
            source: nn.ModuleDict({
                kind: context_block(kind, hidden, inner, affine=False) for kind in CONTEXT_TYPES if kind != "none"
            })
            for source in sources
        })  # fmt: skip
        self.gather = gather_contexts(len(sources) * inner, hidden)
        self.refine = refine_features(2 * hidden, hidden)

    def forward(
        self, target: str, features: Mapping[str, Tensor], regions: Mapping[str, Tensor], weights: Tensor
    ) -> Tensor:
        """The target's refined features.

        Args:
            target: its name.
            features: of every task, [B, hidden, h, w].
            regions: of every task, [B, L, h w].
            weights: [sources, types], of each context.

        Returns:
            [B, hidden, h, w].
        """
        own, mixtures = features[target], []
        for row, (source, kinds) in zip(weights, self.blocks.items(), strict=True):
            contexts = (
                row[CONTEXT_TYPES.index(kind)] * block(own, features[source], regions[target], regions[source])
                for kind, block in kinds.items()  # type: ignore[operator]
            )
            mixtures.append(sum(contexts, start=torch.zeros((), device=own.device)))
        return self.refine(torch.cat((own, self.gather(torch.cat(mixtures, 1))), 1))


def sampled(logits: Tensor, noise: Tensor, *, tau: float) -> Tensor:
    """Weights of the two types of each pair that the noise favours.

    Args:
        logits: [..., K].
        noise: [..., K], Gumbel.
        tau: temperature.

    Returns:
        [..., K], two of them positive, with sum 1 and a gradient to their logits.
    """
    scores = (logits + noise) / tau
    threshold = scores.topk(SAMPLED, dim=-1).values[..., -1:]
    return scores.masked_fill(scores < threshold, float("-inf")).softmax(-1)


def one_hot(logits: Tensor) -> Tensor:
    """[..., K] -> the same shape: 1 at the largest, 0 elsewhere."""
    return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax over the last dim, nats, mean over the rest: [..., K] -> []."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
