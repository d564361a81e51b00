"""Training without a service: a cohort as a generator, its objective, its evaluation, its checkpoints."""

from kdam_ray.learning.cohort import EpochReport, StepReport, train_cohort
from kdam_ray.learning.evaluate import Candidate, evaluate

__all__ = ["Candidate", "EpochReport", "StepReport", "evaluate", "train_cohort"]
