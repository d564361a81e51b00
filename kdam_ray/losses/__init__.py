"""Losses: supervised (Eq. 8), the divergences, and distillation (Eq. 2, 5, 6 and DIST)."""

from kdam_ray.losses.auxiliary import classified_sums
from kdam_ray.losses.distill import dist, kdam, plain_kd
from kdam_ray.losses.divergences import cs_divergence, kl_divergence, pearson_distance
from kdam_ray.losses.supervised import supervised_loss, supervised_sums, uncertainty_weighted, valid_mask

__all__ = [
    "classified_sums",
    "cs_divergence",
    "dist",
    "kdam",
    "kl_divergence",
    "pearson_distance",
    "plain_kd",
    "supervised_loss",
    "supervised_sums",
    "uncertainty_weighted",
    "valid_mask",
]
