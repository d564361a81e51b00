"""How the compiled half of odsF is compiled.

Imports numba: nothing imports this module before the first boundary is scored.
"""

from collections.abc import Callable
from typing import Any

import numba


def compiled(signature: str) -> Callable[[Callable], Any]:
    """numba.njit for exactly these types, kept on disk where a folder can be written, only in memory where none can."""

    def compile_now(function: Callable) -> Any:
        try:
            return numba.njit(signature, nogil=True, error_model="numpy", cache=True)(function)
        except (RuntimeError, OSError):  # "cannot cache function: no locator available", or the disk is full
            return numba.njit(signature, nogil=True, error_model="numpy")(function)

    return compile_now
