"""Layers are compared with their formulas in float64, where no processor's order of sums can decide a test."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Networks and inputs of the test are made in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def in_float32(in_float64: None) -> Iterator[None]:
    """The opposite, for a test about types or bytes in a file whose others are in float64."""
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)
