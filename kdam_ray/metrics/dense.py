"""Per-pixel metrics as the code of ATRC and DeMT defines them: mIoU, rmse, mErr, maxF.

All are ratios of sums over the whole evaluation set, never averages of per-image values.
"""

import torch
from torch import Tensor

from kdam_ray.metrics.metric import Metric
from kdam_ray.tasks import IGNORE

F_BETA_SQUARED = 0.3
SALIENCY_STEPS = 20  # thresholds 1/20 ... 19/20


class MeanIoU(Metric):
    """mIoU in percent: mean over ALL classes of tp / (tp + fp + fn).

    A class that occurs neither in a label nor in a prediction counts as 0; leaving it out, as macro averages elsewhere
    do, gives higher numbers (ATRC, MTI-Net and InvPT all count it).

    Args:
        classes: number of classes, background included where the data set has one.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(confusion=torch.zeros(classes, classes, dtype=torch.int64))
        self.classes = classes

    def _add(self, logits: Tensor, label: Tensor) -> None:
        # `max` is three times as fast as `argmax` across channels
        counts = paired_counts(label, logits.max(1).indices, rows=self.classes, columns=self.classes)
        self._accumulate("confusion", counts)

    def compute(self) -> dict[str, float]:
        confusion = self.sums["confusion"].cpu()  # [label, prediction]
        hits = confusion.diagonal()
        union = confusion.sum(0) + confusion.sum(1) - hits
        return {"mIoU": 100 * (hits.double() / union.clamp_min(1)).mean().item()}


class MaxF(Metric):
    """maxF in percent: the largest F with beta^2 = 0.3 over 19 thresholds on the probability of channel 1.

    Precision and recall come from sums over the set; a pixel is predicted salient from the threshold on (>=). Code
    derived from MTI-Net differs: beta = 1 and averages over images; InvPT's squashes the probability twice.
    """

    def __init__(self) -> None:
        super().__init__(levels=torch.zeros(2, SALIENCY_STEPS, dtype=torch.int64))

    def _add(self, logits: Tensor, label: Tensor) -> None:
        thresholds = torch.arange(1, SALIENCY_STEPS, device=logits.device, dtype=torch.float64) / SALIENCY_STEPS
        level = torch.bucketize(logits.float().softmax(1)[:, 1].contiguous(), thresholds.float(), right=True)
        self._accumulate("levels", paired_counts(label, level, rows=2, columns=SALIENCY_STEPS))

    def compute(self) -> dict[str, float]:
        levels = self.sums["levels"].cpu()  # [label, how many thresholds the probability reaches]
        above = levels.flip(1).cumsum(1).flip(1)[:, 1:].double()
        hits, predicted, positives = above[1], above.sum(0), levels[1].sum()
        precision, recall = hits / predicted.clamp_min(1), hits / positives.clamp_min(1)
        both = F_BETA_SQUARED * precision + recall
        score = (1 + F_BETA_SQUARED) * precision * recall / torch.where(both > 0, both, 1.0)
        return {"maxF": 100 * score.max().item()}


class RootMeanSquare(Metric):
    """rmse in metres: root of the mean squared error over all pixels with a depth, predictions below 0 taken as 0.

    Valid is depth > 0; a NaN in the label is not. (ATRC's own code masks zeros after having replaced them by 255, which is
    harmless only for maps without holes.)
    """

    def __init__(self) -> None:
        super().__init__(squares=torch.zeros((), dtype=torch.float64), pixels=torch.zeros((), dtype=torch.int64))

    def _add(self, logits: Tensor, label: Tensor) -> None:
        valid = label > 0
        error = logits.double().clamp_min(0) - label
        self._accumulate("squares", error.square().where(valid, 0.0).sum())
        self._accumulate("pixels", valid.sum())

    def compute(self) -> dict[str, float]:
        return {"rmse": (self.sums["squares"] / self.sums["pixels"]).sqrt().item()}


class MeanAngle(Metric):
    """mErr in degrees: mean of 2 atan2(|p - g|, |p + g|) over all pixels with a normal, p and g of unit length.

    This form keeps its precision at small angles, where the arc cosine of a dot product loses it.
    """

    def __init__(self) -> None:
        super().__init__(degrees=torch.zeros((), dtype=torch.float64), pixels=torch.zeros((), dtype=torch.int64))

    def _add(self, logits: Tensor, label: Tensor) -> None:
        valid = (label != 0).any(1)
        predicted, true = (vectors / length(vectors).clamp_min(1e-12) for vectors in (logits.double(), label.double()))
        angle = 2 * torch.atan2(length(predicted - true), length(predicted + true))
        self._accumulate("degrees", angle[:, 0].rad2deg().where(valid, 0.0).sum())
        self._accumulate("pixels", valid.sum())

    def compute(self) -> dict[str, float]:
        return {"mErr": (self.sums["degrees"] / self.sums["pixels"]).item()}


def length(vectors: Tensor) -> Tensor:
    """Euclidean length over dim 1, [B, 3, H, W] to [B, 1, H, W]; several times faster than `norm` along such a dim."""
    x, y, z = vectors.split(1, dim=1)
    return (x * x + y * y + z * z).sqrt()


def paired_counts(label: Tensor, found: Tensor, *, rows: int, columns: int) -> Tensor:
    """How often each pair (label, found) occurs, ignored pixels left out.

    Args:
        label: [...], int, 0 .. rows - 1 or 255.
        found: [...], int, 0 .. columns - 1.
        rows: number of labels.
        columns: number of values of `found`.

    Returns:
        int64 [rows, columns].

    Raises:
        ValueError: a label is neither below `rows` nor 255; names it.
    """
    label = label.long()
    counted = label != IGNORE
    known = label.where(counted, 0)
    if int(known.min()) < 0 or int(known.max()) >= rows:
        wrong = known[(known < 0) | (known >= rows)][0]
        raise ValueError(f"label {int(wrong)} is neither one of the {rows} classes (0 .. {rows - 1}) nor {IGNORE} (ignored)")
    row = label.where(counted, rows)  # one more row that is dropped: no masked copies
    counts = torch.bincount((row * columns + found).flatten(), minlength=(rows + 1) * columns)
    return counts.view(rows + 1, columns)[:rows]
