"""A leak that grows for days, seen by the pressures: daily means of what one logger shows below what the others say.

Windowed generalised likelihood ratio of a downward shift of unknown start, as for the nights (`night_flow.py`), over the
daily means that `pairs.py` keeps. Judged once a day, for the day that is over.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from models.detectors.kind import Detector
from models.schema import Record, Records

DETECTOR: Final = Detector("pressure_trend", prior_mean=3.5, prior_sd=1.0)
RUN_DAYS: Final = 10
LEAST_DAYS: Final = 2
SPREAD_FLOOR: Final = 1e-4  # of the mean pressure, for the mean of a day
LEAST_KNOWN: Final = 5  # days that a spread is made of
Z_CLIP: Final = 12.0


@njit(cache=False)
def evidence(logger: Record) -> tuple[float, int]:
    """Strongest run of days that ends yesterday: its statistic, and how many days back it began. NaN while unknown.

    The offset that the days are compared with is itself a mean of n days, so a run of m has the variance m + m^2 / n.
    """
    if np.isnan(logger["days"][0]) or logger["day_count"] < LEAST_KNOWN:
        return np.nan, 0
    spread = max(logger["day_spread"], SPREAD_FLOOR * abs(logger["mean"]))
    known = max(logger["offset_hours"] / 24.0, 1.0)
    best, length = 0.0, 0
    total, count = 0.0, 0
    for back in range(RUN_DAYS):
        day = logger["days"][back]
        if np.isnan(day):
            continue
        total += min(max(-day / spread, -Z_CLIP), Z_CLIP)
        count += 1
        statistic = total / np.sqrt(count + count * count / known)
        if count >= LEAST_DAYS and statistic > best:
            best, length = statistic, back + 1
    return best, length


@njit(cache=False)
def update(loggers: Records) -> tuple[float, int, int]:
    """Statistic of the day that is over, NaN when it can't tell; the logger it speaks of, and the days since the start."""
    best, most, length = np.nan, -1, 0
    for i in range(loggers.shape[0] - 1):
        statistic, days = evidence(loggers[i])
        if not np.isnan(statistic) and not statistic <= best:
            best, most, length = statistic, i, days
    return best, most, length
