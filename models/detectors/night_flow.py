"""Night-flow leaks: minimum night flow against what the DMA's own past and its use lead to expect, over runs of nights.

MNF is the minimum rolling 60-minute mean of net inflow in the local night window; a night with less than 90 % coverage
has none (DOMAIN: formulas). What is expected is told in `night_level.py`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.detectors.kind import Detector
from models.night_level import expected_night
from models.schema import Record, Records

# a leak may grow for weeks before it is seen, and must not teach its own threshold in that time
DETECTOR: Final = Detector("night_flow", prior_mean=1.3, prior_sd=0.9, quarantine_days=28)
COVERAGE: Final = 0.9
RUN_NIGHTS: Final = 14  # longest run of nights summed up: as long as the expectation lags behind
CLIP: Final = 6.0  # standard deviations: one wild night is not a run of them
MIN_EXCESS: Final = 0.01  # of the mean inflow: below the accuracy of the inlet meters there is no evidence


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
def evidence(nights: Records, day: int, noise: float, of_level: float) -> tuple[float, float, int]:
    """Strongest run of nights that ends with `day`: its statistic, its mean excess (m3/h), and when it began (epoch ms).

    Generalised likelihood ratio for an upward shift of unknown start: max over m of mean(rest) / sqrt(noise^2 / m +
    of_level^2). The nights of a run share what is uncertain in the expectation, so a longer run does not average it away;
    and unlike a CUSUM it forgets a slow season after `RUN_NIGHTS`. The largest night of a run counts `CLIP` standard
    deviations, or as much as the next: clipped all of them, a leak of 25 could not pass the threshold of a DMA with unruly
    nights (13 instead of 10 of 60 leaks grown into six real DMAs found in 14 days, with no more alarms; 2026-11-28).
    """
    best, excess, start = 0.0, 0.0, nights[day % nights.shape[0]]["start_ms"]
    limit = CLIP * np.sqrt(noise * noise + of_level * of_level)
    total, count, largest, second = 0.0, 0, 0.0, 0.0
    for back in range(RUN_NIGHTS):
        night = nights[(day - back) % nights.shape[0]]
        if night["day"] != day - back or np.isnan(night["rest_m3h"]):
            continue
        rest = max(night["rest_m3h"], -limit)
        total += rest
        count += 1
        if rest > largest:
            largest, second = rest, largest
        else:
            second = max(second, rest)
        mean = (total - largest + min(largest, max(limit, second))) / count
        statistic = mean / np.sqrt(noise * noise / count + of_level * of_level)
        if statistic > best:
            best, excess, start = statistic, mean, night["start_ms"]
    return best, excess, start


@njit(cache=False)
def consume(nights: Records, since_ms: int, excess_m3h: float) -> None:
    """Evidence that has raised or grown an event by `excess_m3h` does not count again, nor teach what is expected."""
    for i in range(nights.shape[0]):
        night = nights[i]
        if night["start_ms"] >= since_ms and night["rest_m3h"] > 0.0:
            night["mnf_m3h"] -= min(night["rest_m3h"], excess_m3h)
        night["rest_m3h"] = night["z"] = np.nan


@njit(cache=False)
def update(row: Record, level: Record, nights: Records, mean_level_m3h: float) -> float:
    """Close the night under way and return its statistic; NaN for a night without MNF or while warming up."""
    day = row["night_day"]
    covered = row["night_slots"] > 0 and row["night_valid"] >= COVERAGE * row["night_slots"]
    mnf = row["night_best_m3h"]
    row["mnf_m3h"] = np.nan
    if not covered or np.isinf(mnf):
        return np.nan
    expected, noise, of_level = expected_night(level, nights, day, mean_level_m3h)
    night = nights[day % nights.shape[0]]
    night["day"], night["mnf_m3h"], night["start_ms"] = day, mnf, row["night_start_ms"]
    night["use_m3h"], night["season_m3h"] = np.nan, level["season_m3h"]
    night["rest_m3h"] = night["z"] = np.nan
    spread = np.sqrt(noise * noise + of_level * of_level)
    row["mnf_m3h"], row["mnf_expected_m3h"], row["mnf_spread_m3h"] = mnf, expected, spread
    if np.isnan(expected) or not spread > 0.0:
        row["night_z"] = 0.0
        return np.nan
    night["rest_m3h"] = mnf - expected
    row["night_z"] = night["z"] = (mnf - expected) / spread
    statistic, excess, row["night_shift_ms"] = evidence(nights, day, noise, of_level)
    if min(excess, mnf - expected) < MIN_EXCESS * mean_level_m3h:
        return 0.0
    return statistic
