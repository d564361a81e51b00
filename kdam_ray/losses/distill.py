"""Distillation of one task's logits: KDAM (Eq. 5, 6), DIST, plain KD (Eq. 2, 3); the sum of Eq. 7 is the caller's.

All three compare two tables of probabilities, rows x columns. **Rows of Eq. 5 are all pixels of the batch, over all
ranks; columns of Eq. 6 are channels over those pixels.** The paper leaves both open ("batch", "channel"); this is how
DIST does it, from which KDAM takes the two groupings. Ratios over columns divide sums over all ranks, so that two
processes compute what one computes.

A softmax over one channel is constant, so the paper's formula would teach nothing to depth and edge. A *reading* says
how the logits [B, C, h, w] of a task become such a table:

| reading   | distribution                     | rows              | columns                  |
|-----------|----------------------------------|-------------------|--------------------------|
| channels  | softmax over C                   | pixels            | channels                 |
| bernoulli | [sigmoid(z/T), 1 - sigmoid(z/T)] | pixels x channels | the two outcomes         |
| spatial   | softmax over the valid h x w     | images x channels | pixels over those rows   |
| skip      | none: every loss is 0            |                   |                          |

`channels` with C = 1 is allowed and is zero with zero gradient for all three losses, which is what the paper's text
says literally for depth and edge.

Masked pixels are in no softmax over pixels, no sum and no mean, whatever their logits hold, NaN included.

Shapes: a table is [A, K, M], K columns and A x M rows. The logits' own layout is kept (K is not moved to the end),
because the reordered copy of four tensors costs as much as the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kdam_ray.losses.divergences import (
    at_least_float32,
    cs_of_sums,
    cs_terms,
    in_one_type,
    kl_terms,
    pearson_of_sums,
)
from kdam_ray.ranks import all_sum, global_mean

# logits or mask [B, C, h, w] -> [A, K, M]; a Bernoulli is the softmax of (z, 0)
_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels": lambda z: z.flatten(2),
    "bernoulli": lambda z: torch.stack((z, torch.zeros_like(z)), 1).flatten(2),
    "spatial": lambda z: z.flatten(2).flatten(0, 1).unsqueeze(-1),
}
# mask [B, 1, h, w], channels -> [A, 1 or K, M]
_MASK_LAYOUTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "channels": lambda mask, channels: mask.flatten(2),
    "bernoulli": lambda mask, channels: mask.expand(-1, channels, -1, -1).flatten(1).unsqueeze(1),
    "spatial": lambda mask, channels: mask.expand(-1, channels, -1, -1).flatten(2).flatten(0, 1).unsqueeze(-1),
}


@dataclass(frozen=True)
class LogitPair:
    """Logits of student and teacher, divided by T and laid out as rows x columns.

    Attributes:
        student: [A, K, M], float32 or float64, with gradient.
        teacher: [A, K, M], without.
        valid: [A, 1 or K, M], 1 for entries that count, 0 for the others (their logits are equal); None: all do.
    """

    student: Tensor
    teacher: Tensor
    valid: Tensor | None

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """Eq. 3, [A, K, M] each; zero where invalid, and so is their gradient."""
        p, q = self.student.softmax(1), self.teacher.softmax(1)
        return (p, q) if self.valid is None else (p * self.valid, q * self.valid)

    def centred(self, table: Tensor, mean: Tensor) -> Tensor:
        """table - mean, [A, K, M], zero where invalid; `table` is zero there, `mean` broadcasts to it."""
        return table - mean if self.valid is None else torch.addcmul(table, self.valid, mean, value=-1)

    def row_counts(self) -> Tensor | int:
        """Valid columns of each row: [A, M], or K where all are."""
        columns = self.student.shape[1]
        return columns if self.valid is None else self.valid.sum(1) * (columns // self.valid.shape[1])

    def column_counts(self) -> Tensor:
        """Valid rows of each column over all ranks: [K]."""
        a, k, m = self.student.shape
        counts = self.student.new_tensor(a * m) if self.valid is None else self.valid.sum((0, 2))
        return all_sum(counts.expand(k))

    def mean_over_rows(self, values: Tensor) -> Tensor:
        """The 1/B sum of Eq. 5 over the rows of all ranks that have a valid column.

        Args:
            values: [A, M], zero with zero gradient for rows that have none.

        Returns:
            [].
        """
        counts = self.row_counts()
        return global_mean(values.sum(), values.numel() if isinstance(counts, int) else (counts > 0).sum())

    def sum_over_rows(self, *tables: Tensor) -> Tensor:
        """Column sums over the rows of all ranks: n tables [A, K, M] -> [n, K], in one exchange."""
        return all_sum(torch.stack([table.sum((0, 2)) for table in tables]))


def kdam(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float,
    reading: str,
    mask: Tensor | None = None,
    literal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Eq. 5 and Eq. 6 of one task: Cauchy-Schwarz divergence between rows, and between columns.

    Columns do not sum to one, and the divergence is 0 for proportional ones: the intra term compares where in the batch
    a channel is likely, not how likely it is. T is not stated for KDAM; 1 is the default of a run.

    Args:
        student: [B, C, h, w], logits, any float type.
        teacher: [B, C, h, w], logits; detached here.
        temperature: T of Eq. 3, > 0.
        reading: channels, bernoulli, spatial or skip (see the top of this file).
        mask: bool [B, 1, h, w], pixels that count; None: all.
        literal: Eq. 4 exactly as printed, without squares (not zero at equality).

    Returns:
        (inter, intra), each [], nats, >= 0 unless literal, equal on every rank. Zero, with a gradient of zero, where no
        pixel of any rank counts.

    Raises:
        ValueError: shapes that disagree, a temperature that is not positive, or an unknown reading.
    """
    pair = _pair(student, teacher, temperature, reading, mask)
    if pair is None:
        return _connected_zero(student), _connected_zero(student)
    terms = cs_terms(*pair.probabilities(), literal=literal)
    inter = pair.mean_over_rows(cs_of_sums(*(term.sum(1) for term in terms), literal=literal))
    intra = cs_of_sums(*pair.sum_over_rows(*terms), literal=literal)
    return inter, _mean_over_columns(intra, pair.column_counts())


def dist(
    student: Tensor, teacher: Tensor, *, temperature: float, reading: str, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """DIST (Huang et al., NeurIPS 2022): 1 - Pearson's correlation between rows, and between columns.

    With two columns (saliency, bernoulli) a row's correlation is +1 or -1: inter then has next to no gradient.

    Args:
        student: [B, C, h, w], logits, any float type.
        teacher: [B, C, h, w], logits; detached here.
        temperature: T of Eq. 3, > 0; 1 in the publication.
        reading: channels, bernoulli, spatial or skip (see the top of this file).
        mask: bool [B, 1, h, w], pixels that count; None: all.

    Returns:
        (inter, intra), each [], in [0, 2], equal on every rank. Zero, with a gradient of zero, where no pixel of any
        rank counts.

    Raises:
        ValueError: shapes that disagree, a temperature that is not positive, or an unknown reading.
    """
    pair = _pair(student, teacher, temperature, reading, mask)
    if pair is None:
        return _connected_zero(student), _connected_zero(student)
    tables = pair.probabilities()
    counts = torch.as_tensor(pair.row_counts(), device=student.device).clamp_min(1)
    # the means are detached: the derivative by a mean is a sum of centred values, which is zero
    rows = tuple(pair.centred(x, (x.detach().sum(1) / counts).unsqueeze(1)) for x in tables)
    inter = pair.mean_over_rows(pearson_of_sums(*(term.sum(1) for term in cs_terms(*rows))))

    column_counts = pair.column_counts()
    means = pair.sum_over_rows(*(x.detach() for x in tables)) / column_counts.clamp_min(1)
    columns = tuple(pair.centred(x, mean[:, None]) for x, mean in zip(tables, means, strict=True))
    intra = pearson_of_sums(*pair.sum_over_rows(*cs_terms(*columns)))
    return inter, _mean_over_columns(intra, column_counts)


def plain_kd(
    student: Tensor, teacher: Tensor, *, temperature: float, reading: str, mask: Tensor | None = None
) -> Tensor:
    """Plain KD, Eq. 2 and 3: T^2 KL(teacher | student), averaged over rows (the paper leaves the reduction open).

    Args:
        student: [B, C, h, w], logits, any float type.
        teacher: [B, C, h, w], logits; detached here.
        temperature: T of Eq. 3, > 0; 3 in the paper.
        reading: channels, bernoulli, spatial or skip (see the top of this file).
        mask: bool [B, 1, h, w], pixels that count; None: all.

    Returns:
        [], nats times T^2, >= 0, equal on every rank. Zero, with a gradient of zero, where no pixel of any rank counts.

    Raises:
        ValueError: shapes that disagree, a temperature that is not positive, or an unknown reading.
    """
    pair = _pair(student, teacher, temperature, reading, mask)
    if pair is None:
        return _connected_zero(student)
    rows = kl_terms(pair.student.log_softmax(1), pair.teacher.log_softmax(1)).sum(1).clamp_min(0)
    return temperature**2 * pair.mean_over_rows(rows)


def _pair(student: Tensor, teacher: Tensor, temperature: float, reading: str, mask: Tensor | None) -> LogitPair | None:
    """Checks the arguments that the three losses share and lays them out; None where nothing is to be compared."""
    _check(student, teacher, temperature, reading, mask)
    if reading == "skip":
        return None
    layout = _LAYOUTS[reading]
    logits = in_one_type(student, teacher.detach())
    # x / 1 is x, bit for bit, but a copy
    of_student, of_teacher = (layout(z if temperature == 1 else z / temperature) for z in logits)
    if mask is None:
        return LogitPair(of_student, of_teacher, None)
    invalid = ~_MASK_LAYOUTS[reading](mask, student.shape[1])
    # the lowest number, not -inf: a softmax over nothing valid is then uniform on both sides rather than NaN
    lowest = torch.finfo(of_student.dtype).min
    return LogitPair(
        of_student.masked_fill(invalid, lowest),
        of_teacher.masked_fill(invalid, lowest),
        (~invalid).to(of_student.dtype),
    )


def _check(student: Tensor, teacher: Tensor, temperature: float, reading: str, mask: Tensor | None) -> None:
    if student.ndim != 4 or student.shape != teacher.shape:
        raise ValueError(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} must both be [B, C, h, w] of one shape; "
            "resize one to the other first"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, not {temperature}")
    if reading not in (*_LAYOUTS, "skip"):
        raise ValueError(f"reading {reading!r} is not one of: {', '.join((*_LAYOUTS, 'skip'))}")
    if mask is not None:
        expected = (student.shape[0], 1, *student.shape[2:])
        if mask.dtype != torch.bool or mask.shape != expected:
            raise ValueError(f"mask must be bool {list(expected)}, not {mask.dtype} {list(mask.shape)}")


def _mean_over_columns(values: Tensor, counts: Tensor) -> Tensor:
    """The 1/C sum of Eq. 6 over the columns [K] that have a valid row on any rank; the others are zero already."""
    return values.sum() / (counts > 0).sum().clamp_min(1)


def _connected_zero(student: Tensor) -> Tensor:
    """[], 0 whose gradient for `student` is 0, even where `student` is NaN."""
    return at_least_float32(student.flatten()[:0]).sum()
