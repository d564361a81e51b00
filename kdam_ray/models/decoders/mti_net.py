"""Not written yet."""

from kdam_ray.models.decoders.mt_baseline import MTBaseline


class MTINet(MTBaseline):
    """Placeholder."""
