"""Integers that numba does not take for literals."""

from __future__ import annotations

from typing import cast

import numpy as np


def numbered(count: int) -> list[int]:
    """0 … count - 1 as numpy integers.

    A function is compiled once for each literal Python integer that it is handed, even from a constant: `raise_fault` five
    times, `emit` five times, and all that they call with them (2026-11-28).
    """
    return cast("list[int]", list(np.arange(count)))
