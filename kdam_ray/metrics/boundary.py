"""odsF, oisF and AP of boundaries, by the protocol of the SEISM evaluator that the multi-task papers use.

Per image: the probability is stored in 8 bits, non-maxima are suppressed once, and for each threshold what is strictly
above it is thinned and matched one-to-one with the thinned true boundary, within a tolerance. Counts are summed over
the set per threshold; odsF is the best F over the thresholds.

Where we differ: the evaluator matches by minimum cost through random sparse graphs, we find the largest matching there
is. F needs only the number of pairs, and the random graphs miss 0 to 22 of some thousands per map, so ours reads about
0.1 points (of 100) higher, and the same every time.
"""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kdam_ray.metrics.metric import Metric
from kdam_ray.tasks import IGNORE

HED_THRESHOLDS = (0.001, *(i / 100 for i in range(1, 100)), 0.999)
MONITOR_THRESHOLDS = HED_THRESHOLDS[2::4]  # 25 of them, 0.02, 0.06 ... 0.98
WAITING = 64  # images that may wait to be counted, of one metric


def boundary_counts(
    probability: np.ndarray,
    edges: np.ndarray,
    *,
    max_dist: float,
    thresholds: Iterable[float] = HED_THRESHOLDS,
    valid: np.ndarray | None = None,
    suppress: bool = True,
) -> np.ndarray:
    """Matched and present boundary pixels of one image at each threshold.

    Args:
        probability: [H, W], raw output of the network (not suppressed, not thinned): float in 0 .. 1, which is cut to 8
            bits as floor(255 p), or uint8.
        edges: bool [H, W], the true boundary in the form it is matched in, one pixel wide (see `true_boundaries`).
        max_dist: largest distance of a pair as a fraction of the image's diagonal.
        thresholds: T of them, ascending; a pixel counts where its suppressed strength is strictly above (in float32).
        valid: bool [H, W]; pixels that are not neither are predicted nor true. They are left out after suppression, and
            the diagonal is the whole map's: crop padding away first, as `BoundaryF` does.
        suppress: suppress non-maxima before thresholding (all evaluators do but MTI-Net's).

    Returns:
        int64 [4, T], (cnt_r, sum_r, cnt_p, sum_p): matched true, all true, matched predicted, all predicted pixels.
        With one annotation per image cnt_r == cnt_p, the size of the largest matching.

    Raises:
        ValueError: a map is not [H, W] or another size than the others, a probability is NaN or outside 0 .. 1, the
            thresholds do not ascend, or max_dist is negative or so large that pairs could not be numbered.
    """
    from kdam_ray.metrics import contours, ridges  # compiles

    limits = ascending(thresholds)
    grey = in_eight_bits(probability)
    edges = np.array(edges, np.bool_, order="C")
    if grey.ndim != 2 or grey.shape != edges.shape or not max_dist >= 0:
        raise ValueError(
            f"probability {grey.shape} and edges {edges.shape} must be [H, W] of one size, max_dist ({max_dist}) >= 0"
        )
    if not grey.size:
        return np.zeros((4, len(limits)), np.int64)
    strength = ridges.suppressed(grey) if suppress else grey / np.float32(255)
    if valid is not None:
        strength[~valid] = 0
        edges &= valid
    radius = max_dist * float(np.hypot(*grey.shape))
    true_cells = np.flatnonzero(edges).astype(np.int32)
    if len(true_cells) * min(grey.size, np.pi * (radius + 1) ** 2) >= 2**31:
        raise ValueError(
            f"max_dist: {max_dist} is {radius:.0f} pixels here, more than 2^31 possible pairs; "
            "published values are about 0.01"
        )
    pairs, predicted = contours.pairs_per_threshold(strength, true_cells, radius, limits)
    return np.stack((pairs, np.full_like(pairs, len(true_cells)), pairs, predicted))


def true_boundaries(mask: np.ndarray, rule: Literal["mask", "seg2bmap"]) -> np.ndarray:
    """The true boundary as it is matched, from an edge mask or a segmentation.

    Args:
        mask: bool [H, W]; with "seg2bmap" also a segmentation, int [H, W].
        rule: "mask" thins the mask. "seg2bmap" thins the contours of a segmentation: a pixel is on one where its east,
            south or south-east neighbour differs. The evaluator of the published PASCAL-Context numbers gives it all of
            the image's labels; that of NYUD-v2 the edge mask, as if it were a segmentation: a line one pixel wide stays
            one line, shifted by half a pixel; a thick one becomes two.

    Returns:
        bool [H, W], lines one pixel wide.
    """
    from kdam_ray.metrics import contours  # compiles

    if rule == "seg2bmap":
        contour = np.zeros(mask.shape, np.bool_)
        contour[:, :-1] |= mask[:, :-1] != mask[:, 1:]
        contour[:-1] |= mask[:-1] != mask[1:]
        contour[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
        mask = contour
    return contours.thinned(np.array(mask, np.bool_, order="C"))


def warm_up() -> None:
    """Compiles everything, or loads it from the cache. Safe to call from a thread while something else runs."""
    spot = np.zeros((4, 4), np.uint8)
    boundary_counts(spot, true_boundaries(spot > 0, "mask"), max_dist=0.1, thresholds=(0.5,))


class BoundaryF(Metric):
    """odsF, oisF and AP in percent, over the thresholds of HED (101).

    Images are counted in the background on `torch.get_num_threads()` threads, while a GPU goes on with the next batch;
    with one thread and no GPU at once. Rows and columns without any valid pixel (the padding of an image smaller than
    the batch) are cut off first, so that the image's own border and diagonal count; other ignored pixels are neither
    predicted nor true.

    Args:
        max_dist: largest distance of a pair as a fraction of the diagonal.
        truth: how the true boundary is read from the label, see `true_boundaries`.
        thresholds: ascending; other ones than `full` put their number into the names: odsF_25.
        full: the thresholds of the published metric.
        suppress: see `boundary_counts`.
    """

    kind = "edge"

    def __init__(
        self,
        *,
        max_dist: float,
        truth: Literal["mask", "seg2bmap"] = "mask",
        thresholds: Iterable[float] = HED_THRESHOLDS,
        full: Iterable[float] = HED_THRESHOLDS,
        suppress: bool = True,
    ) -> None:
        self.thresholds = tuple(thresholds)
        self.max_dist, self.truth, self.suppress = max_dist, truth, suppress
        self.suffix = "" if self.thresholds == tuple(full) else f"_{len(self.thresholds)}"
        self._waiting: deque[Future[np.ndarray]] = deque()
        ascending(self.thresholds)
        super().__init__(
            counts=torch.zeros(4, len(self.thresholds), dtype=torch.int64), best=torch.zeros(4, dtype=torch.int64)
        )

    def _add(self, prediction: Tensor, label: Tensor) -> None:
        grey = prediction.cpu().numpy()
        valid = (label[:, 0] != IGNORE).cpu().numpy()
        edges = (label[:, 0] >= 0.5).cpu().numpy() & valid
        threads = torch.get_num_threads()
        if threads == 1 and not prediction.is_cuda:
            for image in zip(grey, edges, valid, strict=True):
                self._add_counts(self._image_counts(*image))
            return
        self._waiting += [
            counters(threads).submit(self._image_counts, *image) for image in zip(grey, edges, valid, strict=True)
        ]
        self._collect(leave=WAITING)

    def _collect(self, leave: int = 0) -> None:
        """Wait for counts until at most `leave` images are still being counted."""
        while len(self._waiting) > leave:
            self._add_counts(self._waiting.popleft().result())

    def state(self) -> dict[str, np.ndarray]:
        """See `Metric.state`; waits for the images that are being counted."""
        self._collect()
        return super().state()

    def update_boundary(self, prediction: np.ndarray, boundary: np.ndarray) -> None:
        """Adds one image whose true boundary is at hand.

        Args:
            prediction: uint8 [H, W], 255 times the probability.
            boundary: bool [H, W], see `true_boundaries`.
        """
        self._add_counts(self._count(prediction, boundary))
        self.images += 1

    def _add_counts(self, counts: np.ndarray) -> None:
        best = int(f_score(counts).argmax())
        self._accumulate("counts", torch.from_numpy(counts))
        self._accumulate("best", torch.from_numpy(counts[:, best]))

    def _image_counts(self, grey: np.ndarray, edges: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """int64 [4, T] of one image, without its padding."""
        inner = None
        if not valid.all():
            rows, columns = (np.flatnonzero(valid.any(axis)) for axis in (1, 0))
            box = tuple(slice(where[0], where[-1] + 1) if len(where) else slice(0, 0) for where in (rows, columns))
            grey, edges, inner = grey[box], edges[box], valid[box]
        return self._count(grey, true_boundaries(edges, self.truth), inner)

    def _count(self, grey: np.ndarray, boundary: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        return boundary_counts(
            grey, boundary, max_dist=self.max_dist, thresholds=self.thresholds, valid=valid, suppress=self.suppress
        )

    def compute(self) -> dict[str, float]:
        self._collect()
        counts, best = self.sums["counts"].numpy(), self.sums["best"].numpy()
        values = {"odsF": f_score(counts).max(), "oisF": f_score(best), "AP": average_precision(counts)}
        return {name + self.suffix: 100 * float(value) for name, value in values.items()}


@cache
def counters(threads: int) -> ThreadPoolExecutor:
    """The threads that count; the compiled functions release the interpreter."""
    return ThreadPoolExecutor(threads, thread_name_prefix="boundaries")


def ascending(thresholds: Iterable[float]) -> np.ndarray:
    """Thresholds as float32 [T].

    Raises:
        ValueError: there are none, or one does not exceed the one before it.
    """
    limits = np.array(tuple(thresholds), np.float32)
    if not len(limits) or not (limits[1:] > limits[:-1]).all():
        raise ValueError(f"thresholds: must be one or more ascending numbers, not {tuple(thresholds)}")
    return limits


def in_eight_bits(probability: np.ndarray) -> np.ndarray:
    """floor(255 p) as the papers' code stores predictions, uint8 and contiguous; uint8 passes.

    Raises:
        ValueError: a probability is NaN or outside 0 .. 1.
    """
    if probability.dtype != np.uint8:
        if not ((probability >= 0) & (probability <= 1)).all():
            raise ValueError("probability: must lie in 0 .. 1 everywhere (logits? NaN?)")
        probability = probability * np.asarray(255, probability.dtype)
    return np.array(probability, np.uint8, order="C")


def f_score(counts: np.ndarray) -> np.ndarray:
    """F = 2PR / (P + R) from [4, ...] counts of `boundary_counts`; 0 where nothing is predicted or nothing true."""
    precision, recall = precision_recall(counts)
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0)


def precision_recall(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P, R from [4, ...] counts; the evaluator's conventions: nothing true: P 0, R 1; nothing predicted: P 1, R 0."""
    cnt_r, sum_r, cnt_p, sum_p = counts.astype(np.float64)
    precision = np.where(sum_p > 0, cnt_p / np.maximum(sum_p, 1), np.where(sum_r > 0, 1, 0))
    recall = np.where(sum_r > 0, cnt_r / np.maximum(sum_r, 1), 1)
    return precision, recall


def average_precision(counts: np.ndarray) -> float:
    """Area under P over R, from P interpolated linearly at R = 0, 0.01 ... 1; nothing outside the recalls reached."""
    precision, recall = precision_recall(counts)
    reached, first = np.unique(recall, return_index=True)
    if len(reached) < 2:
        return 0.0
    return float(np.interp(np.arange(101) / 100, reached, precision[first], left=0, right=0).sum() / 100)
