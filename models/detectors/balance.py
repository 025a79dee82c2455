"""Leaks that no customer's meter shows: supplied less metered against what the DMA's own past leads to expect.

What is expected is told in `models/balance.py`. The statistic is that of the nights (`night_flow.evidence`): the strongest
run of days that ends with the last one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import balance
from models.detectors.kind import Detector
from models.detectors.night_flow import evidence
from models.schema import Record, Records

# as for the nights, a leak must not teach its own threshold while it grows
DETECTOR: Final = Detector("balance", prior_mean=1.3, prior_sd=0.9, quarantine_days=28)
MIN_EXCESS: Final = 0.02  # of what is supplied: below the accuracy of the meters there is nothing to tell


@njit(cache=False)
def update(
    state: Record, days: Records, values: NDArray[np.float64], day: int, supplied: float, is_covered: bool, mean_m3h: float
) -> float:
    """Judge one day; its statistic, NaN where it says nothing, and the excess that it speaks of in `state`, 0 for none.

    `values` (N,): supplied less metered and less known leaks by row of `days`, NaN where it can't be told; `supplied`: of
    the day, m3/h.
    """
    state["excess_m3h"], state["start_ms"] = 0.0, days[day % days.shape[0]]["start_ms"]
    noise = balance.judge(state, days, values, day, mean_m3h)
    row = days[day % days.shape[0]]
    if np.isnan(noise) or not is_covered or row["day"] != day or np.isnan(row["rest_m3h"]):
        return np.nan
    of_level = balance.level_spread(state, row, day, noise)
    state["spread_m3h"] = np.sqrt(noise * noise + of_level * of_level)
    statistic, excess, state["start_ms"] = evidence(days, day, noise, of_level)
    if min(excess, row["rest_m3h"]) >= MIN_EXCESS * supplied:
        state["excess_m3h"] = excess
    return statistic
