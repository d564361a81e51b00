"""Not written yet."""

from kdam_ray.models.decoders.mt_baseline import MTBaseline


class NDDRCNN(MTBaseline):
    """Placeholder."""
