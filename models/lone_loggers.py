"""Pressure loggers that drift: one moves against all others for days, which a leak does to several at once.

In a year of L-Town with 14 leaks, with and without noise, the logger that had moved most had never moved by more than 1.7
times the next, where it was sure (statistic of 6). One that is made to drift by 1 m in 30 days moves by 2.5 to 40 times
the next (14 ramps of either sign and either noise, 2026-11-28). Where loggers are few they stand far apart, and a leak may
well be seen by one alone: then nothing is told.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from models.schema import NEVER, Record, Records

LEAST_LOGGERS: Final = 10  # that are known on a day
SURE: Final = 6.0  # statistic of its strongest run of days (`detectors.pressure_trend`)
LONE: Final = 2.5  # times the shift of the next
TELL_DAYS: Final = 3  # on which it was seen alone, each within
WITHIN_DAYS: Final = 10  # of the one before
DAY_MS: Final = 86_400_000
QUIET, DUE, TOLD = range(3)

LONE_LOGGER = np.dtype(
    [
        ("sign", "<i4"),  # of its shift: 1 up, -1 down, 0 none
        ("days", "<i4"),  # on which it was seen alone
        ("last_day", "<i8"),  # the newest of them
        ("since_ms", "<i8"),  # when the first of these runs began
        ("shift_kpa", "<f8"),  # mean of the last run
        ("state", "<i4"),  # QUIET, DUE to be told, or TOLD
    ]
)
"""One row per pressure logger that is compared with others, beside its LOGGER."""


def new_lone(loggers: int) -> Records:
    """Rows that have seen nothing, for LOGGER rows with the inflow's behind them."""
    lone = np.zeros(max(loggers - 1, 0), LONE_LOGGER)
    lone["last_day"] = lone["since_ms"] = NEVER
    return lone


@njit(cache=False)
def mean_shift(logger: Record, days: int) -> float:
    """Mean of the logger's last days, kPa; NaN where none is known."""
    total, count = 0.0, 0
    for back in range(days):
        if not np.isnan(logger["days"][back]):
            total += logger["days"][back]
            count += 1
    return total / count if count else np.nan


@njit(cache=False)
def is_lone(loggers: Records, one: int, days: int) -> bool:
    """Whether a logger has moved by far more than every other in the last `days`. Oracle: tests/test_lone_loggers.py."""
    own, known = abs(mean_shift(loggers[one], days)), 0
    for i in range(loggers.shape[0] - 1):
        shift = abs(mean_shift(loggers[i], days))
        if np.isnan(shift):
            continue
        known += 1
        if i != one and shift * LONE > own:
            return False
    return known >= LEAST_LOGGERS


@njit(cache=False)
def note_lone(lone: Record, sign: int, shift_kpa: float, day: int, start_ms: int) -> None:
    """Add a day on which the logger was seen alone; `start_ms` of its run."""
    if lone["sign"] != sign or day - lone["last_day"] > WITHIN_DAYS:
        lone["sign"], lone["days"], lone["since_ms"] = sign, 0, start_ms
    lone["days"] += 1
    lone["last_day"], lone["shift_kpa"] = day, shift_kpa
    if lone["days"] >= TELL_DAYS and lone["state"] == QUIET:
        lone["state"] = DUE
