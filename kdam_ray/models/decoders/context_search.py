"""Not written yet."""

from kdam_ray.models.decoders.mt_baseline import MTBaseline


class ContextSearch(MTBaseline):
    """Placeholder."""

    def at(self, progress: float) -> None:
        """Placeholder."""
