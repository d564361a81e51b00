"""Per-pixel metrics as ATRC and DeMT define them (mIoU, rmse, mErr, maxF), and other codes' as variants of them.

All but the variants that say otherwise are ratios of sums over the whole evaluation set, never averages of per-image
values. `conventions` says which variant belongs to which code base.
"""

import torch
from torch import Tensor

from kdam_ray.metrics.metric import Metric
from kdam_ray.tasks import IGNORE

F_BETA_SQUARED = 0.3
SALIENCY_STEPS = 20  # thresholds 1/20 ... 19/20
MEAN_THRESHOLDS = 15  # of the variant that averages over images: 0.2, 0.25 ... 0.9


class MeanIoU(Metric):
    """mIoU in percent: mean over ALL classes of tp / (tp + fp + fn).

    A class that occurs neither in a label nor in a prediction counts as 0; leaving it out, as macro averages elsewhere
    do, gives higher numbers (ATRC, MTI-Net and InvPT all count it).

    Args:
        classes: number of classes, background included where the data set has one.
    """

    kind = "classes"

    def __init__(self, classes: int) -> None:
        super().__init__(confusion=torch.zeros(classes, classes, dtype=torch.int64))
        self.classes = classes

    def _add(self, prediction: Tensor, label: Tensor) -> None:
        if prediction.numel() and int(prediction.max()) >= self.classes:
            raise ValueError(
                f"predicted class {int(prediction.max())} is none of the {self.classes} (0 .. {self.classes - 1})"
            )
        self._accumulate("confusion", paired_counts(label, prediction, rows=self.classes, columns=self.classes))

    def compute(self) -> dict[str, float]:
        return {"mIoU": self._iou()[0].mean().item()}

    def compute_image(self) -> dict[str, float]:
        """Mean over the classes that occur in the image's label or prediction."""
        iou, occurs = self._iou()
        return {"mIoU": iou[occurs].mean().item()}

    def per_class(self) -> list[float | None]:
        """IoU of each class in percent; None where a class occurs in no label and no prediction."""
        iou, occurs = self._iou()
        return [value if present else None for value, present in zip(iou.tolist(), occurs, strict=True)]

    def _iou(self) -> tuple[Tensor, Tensor]:
        """IoU of each class in percent, 0 where it does not occur; and whether it occurs."""
        confusion = self.sums["confusion"].cpu()  # [label, prediction]
        hits = confusion.diagonal()
        union = confusion.sum(0) + confusion.sum(1) - hits
        return 100 * hits.double() / union.clamp_min(1), union > 0


class MaxF(Metric):
    """maxF in percent: the largest F with beta^2 = 0.3 over 19 thresholds on the probability of channel 1.

    Precision and recall come from sums over the set; a pixel is predicted salient from the threshold on (>=).

    Args:
        squash: apply a sigmoid to the probability first, as InvPT's evaluation does by mistake: every pixel then passes
            the thresholds up to 0.5 and none those above 0.7.
    """

    kind = "saliency"

    def __init__(self, *, squash: bool = False) -> None:
        super().__init__(levels=torch.zeros(2, SALIENCY_STEPS, dtype=torch.int64))
        self.squash = squash

    def _add(self, prediction: Tensor, label: Tensor) -> None:
        thresholds = torch.arange(1, SALIENCY_STEPS, device=label.device, dtype=torch.float64) / SALIENCY_STEPS
        scores = prediction.sigmoid() if self.squash else prediction
        level = torch.bucketize(scores.contiguous(), thresholds.float(), right=True)
        self._accumulate("levels", paired_counts(label, level, rows=2, columns=SALIENCY_STEPS))

    def compute(self) -> dict[str, float]:
        levels = self.sums["levels"].cpu()  # [label, how many thresholds the probability reaches]
        above = levels.flip(1).cumsum(1).flip(1)[:, 1:].double()
        hits, predicted, positives = above[1], above.sum(0), levels[1].sum()
        precision, recall = hits / predicted.clamp_min(1), hits / positives.clamp_min(1)
        return {"maxF": 100 * f_measure(precision, recall, F_BETA_SQUARED).max().item()}


class MeanImageF(Metric):
    """maxF in percent as MTI-Net and ASTMT take it: precision and recall averaged over images, F with beta = 1.

    15 thresholds from 0.2 to 0.9, strictly above counts. An image that predicts nothing has precision 0, one without a
    salient pixel recall 0.
    """

    kind = "saliency"

    def __init__(self) -> None:
        empty = torch.zeros(MEAN_THRESHOLDS, dtype=torch.float64)
        super().__init__(precision=empty, recall=empty.clone(), seen=torch.zeros((), dtype=torch.int64))

    def _add(self, prediction: Tensor, label: Tensor) -> None:
        thresholds = torch.linspace(0.2, 0.9, MEAN_THRESHOLDS, device=label.device, dtype=torch.float64).float()
        for probability, truth in zip(prediction, label, strict=True):
            level = torch.bucketize(probability.contiguous(), thresholds, right=False)
            levels = paired_counts(truth, level, rows=2, columns=MEAN_THRESHOLDS + 1)
            above = levels.flip(1).cumsum(1).flip(1)[:, 1:].double()
            self._accumulate("precision", above[1] / above.sum(0).clamp_min(1))
            self._accumulate("recall", above[1] / levels[1].sum().clamp_min(1))
        self._accumulate("seen", torch.tensor(len(prediction)))

    def compute(self) -> dict[str, float]:
        seen = self.sums["seen"].cpu()
        precision, recall = (self.sums[name].cpu() / seen for name in ("precision", "recall"))
        return {"maxF": 100 * f_measure(precision, recall, 1.0).max().item()}


class RootMeanSquare(Metric):
    """rmse in metres: root of the mean squared error over all pixels with a depth, predictions below 0 taken as 0.

    Valid is depth > 0; a NaN in the label is not. (ATRC's own code masks zeros after having replaced them by 255, which
    is harmless only for maps without holes.)
    """

    kind = "depth"

    def __init__(self) -> None:
        super().__init__(squares=torch.zeros((), dtype=torch.float64), pixels=torch.zeros((), dtype=torch.int64))

    def _add(self, prediction: Tensor, label: Tensor) -> None:
        squares, pixels = squared_errors(prediction, label)
        self._accumulate("squares", squares.sum())
        self._accumulate("pixels", pixels.sum())

    def compute(self) -> dict[str, float]:
        return {"rmse": (self.sums["squares"] / self.sums["pixels"]).sqrt().item()}


class MeanImageRMS(Metric):
    """rmse in metres as ASTMT takes it: the mean of the images' own rmse, images without a depth left out."""

    kind = "depth"

    def __init__(self) -> None:
        super().__init__(roots=torch.zeros((), dtype=torch.float64), seen=torch.zeros((), dtype=torch.int64))

    def _add(self, prediction: Tensor, label: Tensor) -> None:
        squares, pixels = (x.flatten(1).sum(1) for x in squared_errors(prediction, label))
        self._accumulate("roots", (squares / pixels.clamp_min(1)).sqrt().sum())
        self._accumulate("seen", (pixels > 0).sum())

    def compute(self) -> dict[str, float]:
        return {"rmse": (self.sums["roots"] / self.sums["seen"]).item()}


class MeanAngle(Metric):
    """mErr in degrees: mean of 2 atan2(|p - g|, |p + g|) over all pixels with a normal, p and g of unit length.

    This form keeps its precision at small angles, where the arc cosine of a dot product (MTI-Net) loses it; the two
    agree to 1e-6 otherwise.
    """

    kind = "normals"

    def __init__(self) -> None:
        super().__init__(degrees=torch.zeros((), dtype=torch.float64), pixels=torch.zeros((), dtype=torch.int64))

    def _add(self, prediction: Tensor, label: Tensor) -> None:
        valid = (label != 0).any(1)
        predicted, true = (
            vectors / length(vectors).clamp_min(1e-12) for vectors in (prediction.double(), label.double())
        )
        angle = 2 * torch.atan2(length(predicted - true), length(predicted + true))
        self._accumulate("degrees", angle[:, 0].rad2deg().where(valid, 0.0).sum())
        self._accumulate("pixels", valid.sum())

    def compute(self) -> dict[str, float]:
        return {"mErr": (self.sums["degrees"] / self.sums["pixels"]).item()}


def squared_errors(prediction: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 1, H, W] both, metres -> squared errors float64, 0 where there is no depth; bool, where there is one."""
    valid = label > 0
    error = prediction.double().clamp_min(0) - label
    return error.square().where(valid, 0.0), valid


def f_measure(precision: Tensor, recall: Tensor, beta_squared: float) -> Tensor:
    """F of precision and recall, 0 where both are."""
    both = beta_squared * precision + recall
    return (1 + beta_squared) * precision * recall / torch.where(both > 0, both, 1.0)


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
        raise ValueError(
            f"label {int(wrong)} is neither one of the {rows} classes (0 .. {rows - 1}) nor {IGNORE} (ignored)"
        )
    row = label.where(counted, rows)  # one more row that is dropped: no masked copies
    counts = torch.bincount((row * columns + found).flatten(), minlength=(rows + 1) * columns)
    return counts.view(rows + 1, columns)[:rows]
