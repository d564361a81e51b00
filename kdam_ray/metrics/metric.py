"""What all metrics share: named sums that are filled per batch, added over ranks, and divided once at the end."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from kdam_ray.models.heads import decode
from kdam_ray.tasks import Kind


class Metric(ABC):
    """Sums over the images seen so far.

    Sums are int64 or float64, so that merging halves equals the whole: exactly for counts, up to float64 rounding for
    errors. They live where the predictions live and are brought to the CPU by `state` and `compute` only.

    Attributes:
        kind: of the tasks that it scores.
        sums: by name, the sums.
        images: how many images went in, on this rank.
    """

    kind: ClassVar[Kind]

    def __init__(self, **sums: Tensor) -> None:
        self.sums: dict[str, Tensor] = sums
        self.images = 0

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Adds a batch.

        Args:
            logits: [B, C, H, W], raw outputs of the head at the label's size.
            label: [B, H, W] int (classes, saliency) or [B, ., H, W] float (depth, normals, edge).

        Raises:
            ValueError: the sizes differ, a prediction is NaN (names the image, counted from the first one this metric
                was given), or a label is none of the classes.
        """
        self._refuse(logits, label)
        self._add(decode(self.kind, logits), label)
        self.images += len(logits)

    def update_with(self, prediction: Tensor, label: Tensor) -> None:
        """Adds a batch of predictions in their final form, which is what `models.heads.decode` makes of logits.

        Args:
            prediction: [B, H, W] or [B, ., H, W], see `decode`.
            label: as `update`.

        Raises:
            ValueError: as `update`.
        """
        self._refuse(prediction, label)
        self._add(prediction, label)
        self.images += len(prediction)

    def state(self) -> dict[str, np.ndarray]:
        """A copy of the sums, for `merge` on another rank."""
        return {name: value.cpu().numpy().copy() for name, value in self.sums.items()}

    def merge(self, state: Mapping[str, np.ndarray]) -> None:
        """Adds another metric's sums.

        Raises:
            ValueError: they are another metric's, or the same one's with other thresholds or classes.
        """
        if {name: value.shape for name, value in state.items()} != {
            name: tuple(value.shape) for name, value in self.sums.items()
        }:
            raise ValueError(
                f"{type(self).__name__} cannot take these sums: {', '.join(state)} of another metric or other size"
            )
        for name, value in state.items():
            self._accumulate(name, torch.as_tensor(value))

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The values by metric name, in the units the paper prints; NaN where an average has nothing under it."""

    def compute_image(self) -> dict[str, float]:
        """The values for a metric that has seen one image; only mIoU's differ from `compute`."""
        return self.compute()

    @abstractmethod
    def _add(self, prediction: Tensor, label: Tensor) -> None:
        """Adds a batch that has been checked."""

    def _accumulate(self, name: str, value: Tensor) -> None:
        known = self.sums[name]
        if known.device.type == "cpu":  # the first update decides where sums live
            known = known.to(value.device)
        self.sums[name] = known + value.to(known.device, known.dtype)

    def _refuse(self, logits: Tensor, label: Tensor) -> None:
        if logits.shape[0] != label.shape[0] or logits.shape[-2:] != label.shape[-2:]:
            raise ValueError(
                f"predictions {list(logits.shape)} must have the label's batch and size, {list(label.shape)}"
            )
        if not logits.is_floating_point():
            return
        # a sum is one cheap pass; infinities that cancel are told from NaN by the second look
        if torch.isnan(logits.sum(dtype=torch.float32)):
            broken = torch.isnan(logits).flatten(1).any(1).nonzero()
            if len(broken):
                raise ValueError(f"prediction of image {self.images + int(broken[0])} is NaN")
