"""Confidence intervals of what a scorecard counts: a share of leaks found, a rate of alarms."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

Z_95: Final = NormalDist().inv_cdf(0.975)


def wilson(found: int, of: int) -> tuple[float, float]:
    """95 % interval of a share, `found` of `of`; (0, 1) of nothing. Wilson (1927), without continuity correction."""
    if of == 0:
        return 0.0, 1.0
    share, z2 = found / of, Z_95 * Z_95
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z_95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return max(0.0, middle - half), min(1.0, middle + half)


def poisson(count: int) -> tuple[float, float]:
    """95 % interval of the mean of a Poisson law of which `count` was seen. Garwood (1936), exact."""
    low = 0.0 if count == 0 else _mean_where(count - 1, 0.975)
    return low, _mean_where(count, 0.025)


def _mean_where(most: int, probability: float) -> float:
    """The mean for which P(N <= `most`) is `probability`."""
    low, high = 0.0, most + 10.0 * math.sqrt(most + 1.0) + 10.0
    for _ in range(80):  # halvings of the interval: down to the last bit of a double
        middle = (low + high) / 2
        if _at_most(most, middle) > probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(most: int, mean: float) -> float:
    if mean == 0.0:
        return 1.0
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(most + 1))
