"""How far one distribution is from another: Cauchy-Schwarz (Eq. 4), Kullback-Leibler (Eq. 1), Pearson (DIST).

One value per item: the caller reduces. Predictions (student) come first, targets (teacher) second, the rest by keyword.
Half precision comes in, float32 arithmetic is done; float64 stays float64, and brings the other one to it.

Each divergence is a function of three sums over the axis, so `..._of_sums` exist beside them for callers whose axis is
spread over several tensors or processes (the columns of Eq. 6).
"""

import torch
from torch import Tensor

# Added to each sum of Eq. 4. By Cauchy-Schwarz it acts like one more component, equal on both sides, so the result
# stays non-negative and zero at equality, and neither value nor gradient can blow up where the two do not overlap. The
# square of a probability of 1e-12, far below what can matter, far above where float32 loses its digits.
CS_EPS = 1e-24
# The same for centred sums; above the square of float32's rounding, so that constant against constant is distance 0.
PEARSON_EPS = 1e-14
# ln of a probability below which nothing is distinguished: exp of it is 0, and 0 times it is 0 where 0 * -inf is not
LOG_FLOOR = -1e4


def at_least_float32(x: Tensor) -> Tensor:
    """[...], half precision widened to float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def in_one_type(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Both [...] in float64 if either is, else in float32, to which half precision is widened."""
    dtype = torch.promote_types(torch.promote_types(p.dtype, q.dtype), torch.float32)
    return p.to(dtype), q.to(dtype)


def cs_divergence(p: Tensor, q: Tensor, *, dim: int, literal: bool = False) -> Tensor:
    """Cauchy-Schwarz divergence, -ln( <p, q> / (|p| |q|) ): Eq. 4 with the squares that its print lacks.

    As printed, Eq. 4 divides by sqrt(sum p * sum q). That is not zero at p = q (0.777 for p = q = (.6, .3, .1)) and
    falls to 0.511 when p goes one-hot, so it rewards over-confidence. The squared form is the Cauchy-Schwarz divergence
    of the literature and the only one for which the sentence below Eq. 4, zero where the two are equal, holds.

    Args:
        p: [...], non-negative weights of the student; need not sum to one.
        q: [...], same shape, of the teacher.
        dim: axis that holds one distribution.
        literal: Eq. 4 exactly as printed, for study.

    Returns:
        [...] without `dim`, nats. Squared: in [0, 55.3], 0 where p and q are proportional, 55.3 where they do not
        overlap.
    """
    p, q = in_one_type(p, q)
    cross, of_p, of_q = (term.sum(dim) for term in cs_terms(p, q, literal=literal))
    return cs_of_sums(cross, of_p, of_q, literal=literal)


def cs_terms(p: Tensor, q: Tensor, *, literal: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """What Eq. 4 sums: (p q, p^2, q^2), or (p q, p, q) as printed; each [...]."""
    return (p * q, p, q) if literal else (p * q, p * p, q * q)


def cs_of_sums(cross: Tensor, of_p: Tensor, of_q: Tensor, *, literal: bool = False) -> Tensor:
    """Eq. 4 from the sums of `cs_terms`; each [...], so is the result."""
    log_cross, log_p, log_q = ((x + CS_EPS).log() for x in (cross, of_p, of_q))
    divergence = (log_p + log_q) / 2 - log_cross
    # rounding can leave -1e-7 at near equality; the literal form is negative where it means to be
    return divergence if literal else divergence.clamp_min(0)


def kl_divergence(log_p: Tensor, log_q: Tensor, *, dim: int) -> Tensor:
    """Kullback-Leibler divergence from logarithms, sum q (ln q - ln p): Eq. 1 with the student p as its prediction.

    From logarithms because they are exact where the probability itself rounds to 0 or 1. The T^2 of Eq. 2 is the
    caller's.

    Args:
        log_p: [...], ln of the student's probabilities; -inf is a zero probability.
        log_q: [...], same shape, of the teacher.
        dim: axis that holds one distribution.

    Returns:
        [...] without `dim`, nats, in [0, 10000], 0 where p and q are equal.
    """
    log_p, log_q = (x.clamp_min(LOG_FLOOR) for x in in_one_type(log_p, log_q))
    return kl_terms(log_p, log_q).sum(dim).clamp_min(0)


def kl_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """What Eq. 1 sums, q (ln q - ln p), for finite logarithms: [...] each, so is the result."""
    return log_q.exp() * (log_q - log_p)


def pearson_distance(p: Tensor, q: Tensor, *, dim: int) -> Tensor:
    """1 - Pearson's correlation, the distance of DIST (Huang et al., NeurIPS 2022; the paper's reference [16]).

    The published code adds its epsilon to the denominator alone, so that a constant is at distance 1 from itself and a
    nearly constant one in between; here it is added to both sides, and equality is distance 0 without exception.

    Args:
        p: [...], the student's.
        q: [...], same shape, the teacher's.
        dim: axis to correlate over.

    Returns:
        [...] without `dim`, in [0, 2]: 0 where one is a positive multiple of the other plus a constant, or both are
        constant; 1 where only one is.
    """
    p, q = (x - x.mean(dim, keepdim=True) for x in in_one_type(p, q))
    return pearson_of_sums((p * q).sum(dim), p.square().sum(dim), q.square().sum(dim))


def pearson_of_sums(cross: Tensor, of_p: Tensor, of_q: Tensor) -> Tensor:
    """`pearson_distance` from the sums of p q, p^2 and q^2 of centred p and q; each [...], so is the result."""
    norms = ((of_p + PEARSON_EPS) * (of_q + PEARSON_EPS)).sqrt()
    return (1 - (cross + PEARSON_EPS) / norms).clamp_min(0)
