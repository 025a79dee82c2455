"""A leak that grows for days, seen by the pressures: daily means of what one logger shows below what the others say.

Windowed generalised likelihood ratio of a downward shift of unknown start, as for the nights (`night_flow.py`), over the
daily means that `pairs.py` keeps. Judged once a day, for the day that is over.

A leak pulls the loggers near it further down than it seems to lift the others. Where one has risen further than any has
fallen, or the nights have taken less water meanwhile, something was repaired: that is no leak.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from models.detectors.kind import Detector
from models.lone_loggers import SURE, is_lone, mean_shift, note_lone
from models.pairs import rebase
from models.schema import Record, Records

DETECTOR: Final = Detector("pressure_trend", prior_mean=3.5, prior_sd=1.0)
DAY_MS: Final = 86_400_000
RUN_DAYS: Final = 10
LEAST_DAYS: Final = 2
SPREAD_FLOOR: Final = 1e-4  # of the mean pressure, for the mean of a day
LEAST_KNOWN: Final = 5  # days that a spread is made of
Z_CLIP: Final = 12.0
NIGHTS_FELL_Z: Final = -2.0  # of the summed z of the nights over the square root of their number


@njit(cache=False)
def evidence(logger: Record, sign: float) -> tuple[float, int]:
    """Strongest run of days that ends yesterday: its statistic, and how many days back it began. NaN while unknown.

    `sign`: -1 for a fall, 1 for a rise. The offset that the days are compared with is itself a mean of n days, so a run of m
    has the variance m + m^2 / n.
    """
    if np.isnan(logger["days"][0]) or logger["day_count"] < LEAST_KNOWN:
        return np.nan, 0
    spread = max(logger["day_spread"], SPREAD_FLOOR * abs(logger["mean"]))
    known = max(logger["offset_hours"] / 24.0, 1.0)
    best, length, total, count = 0.0, 0, 0.0, 0
    for back in range(RUN_DAYS):
        day = sign * float(logger["days"][back]) / spread
        if np.isnan(day):
            continue
        total += min(max(day, -Z_CLIP), Z_CLIP)
        count += 1
        statistic = total / np.sqrt(count + count * count / known)
        if count >= LEAST_DAYS and statistic > best:
            best, length = statistic, back + 1
    return best, length


@njit(cache=False)
def nights_word(nights: Records, day: int, days: int) -> float:
    """What the nights of the last `days` until `day` took beyond expectation: summed z over the root of their number."""
    total, count = 0.0, 0
    for back in range(days):
        night = nights[(day - back) % nights.shape[0]]
        if night["day"] == day - back and not np.isnan(night["z"]):
            total += min(max(night["z"], -Z_CLIP), Z_CLIP)
            count += 1
    return total / np.sqrt(max(count, 1))


@njit(cache=False)
def update(loggers: Records, lone: Records, nights: Records, day: int, end_ms: int, level: float) -> tuple[float, int, int]:
    """Statistic of `day`, which is over, NaN when it can't tell; the logger it speaks of, and the days since the start.

    A rise that passes `level`, the threshold, was a repair that nobody had told of: what it left is usual from here on.
    What one logger shows alone is its own drift, and speaks neither of a leak nor of a repair. `lone` (L,) LONE_LOGGER.
    """
    best, most, length, rise = np.nan, -1, 0, 0.0
    for i in range(loggers.shape[0] - 1):
        fall, days = evidence(loggers[i], -1.0)
        risen, risen_days = evidence(loggers[i], 1.0)
        if max(fall, risen) >= SURE:
            sign, run = (-1, days) if fall >= risen else (1, risen_days)
            if is_lone(loggers, i, run):
                note_lone(lone[i], sign, mean_shift(loggers[i], run), day, end_ms - run * DAY_MS)
                continue
        if not np.isnan(fall) and not fall <= best:
            best, most, length = fall, i, days
        if risen > rise:
            rise = risen
    if rise <= best and nights_word(nights, day, length) > NIGHTS_FELL_Z:
        return best, most, length
    if rise >= level and rise > best:
        rebase(loggers)
    return np.nan, -1, 0
