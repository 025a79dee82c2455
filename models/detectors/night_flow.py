"""Night-flow leaks: minimum night flow against the DMA's own past nights, weekday-aware, summed over runs of nights.

MNF is the minimum rolling 60-minute mean of net inflow in the local night window; a night with less than 90 % coverage
has none (DOMAIN: formulas). Expected is the median of the last four weeks plus the median deviation of the same weekday.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.calendar import BESIDE, ORDINARY, UNUSUAL
from models.detectors.kind import Detector
from models.kernels import window_mad, window_mean, window_median
from models.schema import Record, Records

DETECTOR: Final = Detector("night_flow", prior_mean=2.0, prior_sd=1.5)
COVERAGE: Final = 0.9
BASE_NIGHTS: Final = 28
SAME_WEEKDAY: Final = 2  # ready after two weeks
RUN_NIGHTS: Final = 10  # longest run of nights summed up
Z_CLIP: Final = 12.0  # one wild night is not a run of them
SPREAD_FLOOR: Final = 0.01  # of the expected MNF, and half of MIN_EXCESS where that is nothing
MIN_EXCESS: Final = 0.01  # of the mean inflow: below the accuracy of the inlet meters there is no evidence
SD_PER_MAD: Final = 1.4826
SD_PER_MEAN_ABS: Final = 1.2533
CLIP_MADS: Final = 3.0


@njit(cache=False)
def expected_night(nights: Records, day: int, today: int, mean_level_m3h: float) -> tuple[float, float]:
    """Expected MNF and its standard deviation (m3/h) on a local `day` like the weekday `today`; NaN while warming up.

    `nights` (N,) NIGHT: a ring, in any order; those of unusual days are left out. The spread is the mean absolute deviation
    of past nights about their own expectation, each clipped at three MAD (a plain MAD of two weeks is too noisy, a plain
    mean believes outliers), widened by sqrt((n+1)/(n-1)) because the n nights of a weekday also made that expectation.
    """
    recent = np.empty(nights.shape[0])
    count = 0
    for back in range(1, nights.shape[0] + 1):
        night = nights[(day - back) % nights.shape[0]]
        if night["day"] == day - back and night["weekday"] >= 0 and count < BASE_NIGHTS:
            recent[count] = night["mnf_m3h"]
            count += 1
    if count < 7 * SAME_WEEKDAY - 2:
        return np.nan, np.nan
    base = window_median(recent[:count])

    weekday_shift = np.zeros(7)
    weekday_nights = np.zeros(7, np.int64)
    for weekday in range(7):
        shifts = np.full(nights.shape[0] // 7 + 1, np.nan)
        found = 0
        for i in range(nights.shape[0]):
            night = nights[i]
            if day - nights.shape[0] <= night["day"] < day and night["weekday"] == weekday:
                shifts[found] = night["mnf_m3h"] - base
                found += 1
        weekday_nights[weekday] = found
        if found:
            weekday_shift[weekday] = window_median(shifts)
    same = weekday_nights[today]
    if same < SAME_WEEKDAY:
        return np.nan, np.nan
    rest = np.full(nights.shape[0], np.nan)
    for i in range(nights.shape[0]):
        night = nights[i]
        if day - nights.shape[0] <= night["day"] < day and night["weekday"] >= 0:
            rest[i] = night["mnf_m3h"] - base - weekday_shift[night["weekday"]]
    expected = base + weekday_shift[today]
    limit = CLIP_MADS * SD_PER_MAD * window_mad(rest)
    for i in range(rest.shape[0]):
        rest[i] = min(abs(rest[i]), limit)
    spread = SD_PER_MEAN_ABS * window_mean(rest) * np.sqrt((same + 1.0) / (same - 1.0))
    return expected, max(spread, SPREAD_FLOOR * abs(expected), MIN_EXCESS / 2.0 * mean_level_m3h)


@njit(cache=False)
def collect(row: Record, ring: NDArray[np.float64], flow_m3h: float) -> None:
    """Take one slot of the night window: `flow_m3h` is net inflow less known events, NaN when missing."""
    ring[row["night_slots"] % ring.shape[0]] = flow_m3h
    row["night_slots"] += 1
    if not np.isnan(flow_m3h):
        row["night_valid"] += 1
    if row["night_slots"] >= ring.shape[0]:
        total = 0.0
        for i in range(ring.shape[0]):
            total += ring[i]
        if not np.isnan(total):
            row["night_best_m3h"] = min(row["night_best_m3h"], total / ring.shape[0])


@njit(cache=False)
def evidence(nights: Records, day: int) -> tuple[float, int, int]:
    """Strongest run of nights that ends with `day`: its statistic, its length in nights, and when it began (epoch ms).

    Windowed generalised likelihood ratio for an upward shift of unknown start: max over m of sum(z) / sqrt(m). Unlike a
    CUSUM it forgets a slow season after `RUN_NIGHTS`, so a trend does not add up for ever.
    """
    best, length, start = 0.0, 0, nights[day % nights.shape[0]]["start_ms"]
    total, count = 0.0, 0
    for back in range(RUN_NIGHTS):
        night = nights[(day - back) % nights.shape[0]]
        if night["day"] != day - back or np.isnan(night["z"]):
            continue
        total += min(max(night["z"], -Z_CLIP), Z_CLIP)
        count += 1
        if total / np.sqrt(count) > best:
            best, length, start = total / np.sqrt(count), count, night["start_ms"]
    return best, length, start


@njit(cache=False)
def consume(nights: Records) -> None:
    """Evidence that has raised or grown an event does not count again."""
    for i in range(nights.shape[0]):
        nights[i]["z"] = np.nan


@njit(cache=False)
def update(row: Record, nights: Records, weekday: int, kind: int, own: Record) -> float:
    """Close the night under way and return its statistic; NaN for a night without MNF or while warming up.

    `weekday` and `kind` of the day (`calendar.day_of`); `own` is the SERIES record of the net inflow.
    """
    day, mean_level_m3h = row["night_day"], own["mean_level"]
    covered = row["night_slots"] > 0 and row["night_valid"] >= COVERAGE * row["night_slots"]
    mnf = row["night_best_m3h"]
    row["mnf_m3h"] = np.nan
    if not covered or np.isinf(mnf):
        return np.nan
    expected, spread = expected_night(nights, day, weekday, mean_level_m3h)
    if kind != ORDINARY:
        spread *= own["widths"][min(kind, UNUSUAL) - BESIDE]
    night = nights[day % nights.shape[0]]
    night["weekday"] = -1 if kind >= UNUSUAL else weekday
    night["day"], night["mnf_m3h"], night["z"], night["start_ms"] = day, mnf, np.nan, row["night_start_ms"]
    row["mnf_m3h"], row["mnf_expected_m3h"], row["mnf_spread_m3h"] = mnf, expected, spread
    if np.isnan(expected) or not spread > 0.0:
        row["night_z"] = 0.0
        return np.nan
    row["night_z"] = night["z"] = (mnf - expected) / spread
    statistic, _, row["night_shift_ms"] = evidence(nights, day)
    if mnf - expected < MIN_EXCESS * mean_level_m3h:
        return 0.0
    return statistic
