"""The one stream of random numbers that a procedural room is made of."""

import itertools
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Draws:
    """Uniform draws, taken in blocks because a single one costs microseconds."""

    def __init__(self, rng: np.random.Generator):
        self._stream = itertools.chain.from_iterable(rng.random(1024).tolist() for _ in itertools.count())

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._stream)

    def about(self, mean: float, deviation: float) -> float:
        """Nearly normal: three uniform draws."""
        return mean + deviation * (self.between(-1, 1) + self.between(-1, 1) + self.between(-1, 1))

    def chance(self, probability: float) -> bool:
        return next(self._stream) < probability

    def count(self, low: int, high: int) -> int:
        """A whole number in [low, high)."""
        return low + int((high - low) * next(self._stream))

    def pick(self, items: Sequence[Item]) -> Item:
        return items[self.count(0, len(items))]

    def weighted(self, weights: Sequence[float]) -> int:
        """An index, in proportion to its weight."""
        left = self.between(0, sum(weights))
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return index
        return len(weights) - 1

    def turn(self, most: float = 1.0) -> tuple[float, float]:
        """(cos, sin) of an angle in +-90 degrees (most = 1), +-53 (0.5), +-23 (0.2)."""
        t = self.between(-most, most)
        return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
