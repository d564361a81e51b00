"""Where images and labels come from, how they are augmented, and how they become batches."""

from kdam_ray.data.loader import train_batches, val_batches
from kdam_ray.data.source import Batch, Sample, Source, open_source

__all__ = ["Batch", "Sample", "Source", "open_source", "train_batches", "val_batches"]
