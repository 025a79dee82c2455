"""Clocks that are hours off: a meter whose day is displaced against its own past, while the others' days are not.

The hourly means of each workday are correlated with the meter's usual workday at every lag up to half a day. What counts
is how much better the best lag fits than none, in units of how well the meter's days usually fit: a meter without a daily
pattern is never judged. Holidays and seasons displace everybody's day, so one of the others must have kept its own. A
meter that is alone is only believed to be off by hours that no custom moves, or by the hour of a change of daylight
saving time, which is the commonest mistake of all.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.schema import NEVER, Record, Records

HOURS: Final = 24
CLOCK = np.dtype(
    [
        ("day", "<i8"),  # local day under way, days since the epoch
        ("begin_ms", "<i8"),  # begin of its first slot
        ("sums", "<f4", (HOURS,)),  # of the values in each local hour of it
        ("counts", "<i2", (HOURS,)),
        ("usual", "<f4", (HOURS,)),  # mean workday
        ("days", "<i2"),  # workdays learned, at most 15
        ("misfit", "<f4"),  # 1 - correlation of a workday with the usual one, mean of the last ones
        ("lag_h", "i1"),  # of the last workday that could be told, + when its times are too late
        ("lag_days", "<i2"),  # workdays in a row with this lag
        ("lag_since_ms", "<i8"),  # begin of the first of them
    ]
)
"""One row per meter that slots wait for, in the order of `Site.channels`."""

LAGS: Final = 12
MEMORY_DAYS: Final = 15
LEARNED_DAYS: Final = 10
FEWEST_HOURS: Final = 21
BETTER: Final = 4.0  # usual misfits: how badly an undisplaced day must fit
GOOD: Final = 1.5  # usual misfits: how well a displaced one must
LEAST_MISFIT: Final = 0.01  # two days of real demand are never more alike
FIT: Final = 0.2  # a worse misfit is no fit, whatever is usual
SHIFTED_DAYS: Final = 3  # workdays in a row that tell the same
STEADY_DAYS: Final = 2  # workdays without a lag, and the clock is right again
NO_CUSTOM_H: Final = 4  # no school holiday, no month of fasting moves a whole day by so much
CHANGED_MS: Final = 5 * 24 * 3_600_000  # daylight saving time changed, and the first workday off came so soon after


def new_clocks(meters: int) -> Records:
    """Rows that have seen nothing."""
    clocks = np.zeros(meters, CLOCK)
    clocks["day"] = clocks["begin_ms"] = clocks["lag_since_ms"] = NEVER
    return clocks


@njit(cache=False)
def misfits(means: NDArray[np.float64], usual: NDArray[np.float32], out: NDArray[np.float64]) -> bool:
    """1 - correlation of a day's hourly means (24,), NaN where missing, with the usual day at lags of -12 to +12 h.

    `out` (25,): at lag L hour h is held against the usual hour h - L, around the clock. False when it can't be told.
    """
    for k in range(2 * LAGS + 1):
        n = x = y = xx = yy = xy = 0.0
        for h in range(HOURS):
            if np.isnan(means[h]):
                continue
            a, b = means[h], float(usual[(h - (k - LAGS)) % HOURS])
            n, x, y, xx, yy, xy = n + 1.0, x + a, y + b, xx + a * a, yy + b * b, xy + a * b
        if n < FEWEST_HOURS:
            return False
        spread = (xx - x * x / n) * (yy - y * y / n)
        if not spread > 1e-9 * (xx * yy):
            return False
        out[k] = 1.0 - (xy - x * y / n) / np.sqrt(spread)
    return True


@njit(cache=False)
def note_hour(clock: Record, value: float, hour: int) -> None:
    """Add a slot's value to its local hour; a missing one is missing."""
    if not np.isnan(value):
        clock["sums"][hour] += value
        clock["counts"][hour] += 1


@njit(cache=False)
def begin_day(clocks: Records, is_home: NDArray[np.bool_], day: int, begin_ms: int, changed_ms: int) -> None:
    """Judge the day that is over, and learn from it, for all meters (C,) of which this DMA reports; begin the local `day`.

    `changed_ms`: the last change of the zone's offset before now.
    """
    over = clocks[0]["day"]
    if over != NEVER and (over + 3) % 7 < 5:  # 1970-01-01 was a Thursday; Monday is 0
        count = clocks.shape[0]
        means, fits = np.full((count, HOURS), np.nan), np.full((count, 2 * LAGS + 1), np.nan)
        known = np.zeros(count, np.bool_)
        for c in range(count):
            clock = clocks[c]
            for h in range(HOURS):
                if clock["counts"][h] > 0:
                    means[c, h] = clock["sums"][h] / clock["counts"][h]
            if clock["days"] > 0:
                known[c] = misfits(means[c], clock["usual"], fits[c])
        for c in range(count):
            if is_home[c]:
                judge_day(clocks, c, known, fits, is_home, changed_ms)
                learn_day(clocks[c], means[c], known[c], fits[c])
    for c in range(clocks.shape[0]):
        clocks[c]["day"], clocks[c]["begin_ms"] = day, begin_ms
        clocks[c]["sums"][:] = 0.0
        clocks[c]["counts"][:] = 0


@njit(cache=False)
def judge_day(
    clocks: Records,
    c: int,
    known: NDArray[np.bool_],
    fits: NDArray[np.float64],
    is_home: NDArray[np.bool_],
    changed_ms: int,
) -> None:
    """Whether meter `c`'s day was displaced. A day that can't be told leaves what the days before it told."""
    clock = clocks[c]
    if not known[c] or clock["days"] < LEARNED_DAYS:
        return
    best = int(np.argmin(fits[c]))
    lag = best - LAGS
    usual = max(clock["misfit"], LEAST_MISFIT)
    if fits[c, LAGS] < BETTER * usual or lag == 0:
        lag = 0
    elif fits[c, best] > min(GOOD * usual, FIT):
        return
    is_new = lag != clock["lag_h"] or clock["lag_days"] < SHIFTED_DAYS
    if lag != 0 and is_new and not is_displaced_alone(clocks, c, lag, known, fits, is_home, changed_ms):
        return
    if lag != clock["lag_h"]:
        clock["lag_h"], clock["lag_days"], clock["lag_since_ms"] = lag, 0, clock["begin_ms"]
    clock["lag_days"] = min(clock["lag_days"] + 1, 1000)


@njit(cache=False)
def is_displaced_alone(
    clocks: Records,
    c: int,
    lag: int,
    known: NDArray[np.bool_],
    fits: NDArray[np.float64],
    is_home: NDArray[np.bool_],
    changed_ms: int,
) -> bool:
    """Whether a lag of meter `c` is its clock's, not its DMA's: more others have kept their day than have been displaced.

    Only those tell whose day would fit badly with that lag.
    """
    kept = displaced = 0
    for other in range(clocks.shape[0]):
        if other == c or not is_home[other] or not known[other] or clocks[other]["days"] < LEARNED_DAYS:
            continue
        usual = max(clocks[other]["misfit"], LEAST_MISFIT)
        if fits[other, LAGS] <= GOOD * usual and fits[other, lag + LAGS] >= BETTER * usual:
            kept += 1
        elif fits[other, lag + LAGS] < fits[other, LAGS]:
            displaced += 1
    if kept + displaced > 0:
        return kept > displaced
    after = clocks[c]["begin_ms"] - changed_ms
    return abs(lag) >= NO_CUSTOM_H or (abs(lag) == 1 and 0 <= after <= CHANGED_MS)


@njit(cache=False)
def learn_day(clock: Record, means: NDArray[np.float64], known: bool, fits: NDArray[np.float64]) -> None:
    """Move the usual workday towards this one, unless it was displaced."""
    if clock["days"] == 0:
        if np.isnan(means).any():
            return
        for h in range(HOURS):
            clock["usual"][h] = means[h]
        clock["days"] = 1
        return
    if not known or clock["lag_h"] != 0:
        return
    learned = clock["days"] >= LEARNED_DAYS
    misfit = min(fits[LAGS], BETTER * clock["misfit"]) if learned else fits[LAGS]
    clock["misfit"] += (misfit - clock["misfit"]) / clock["days"]
    clock["days"] = min(clock["days"] + 1, MEMORY_DAYS)
    if learned and fits[LAGS] >= BETTER * max(clock["misfit"], LEAST_MISFIT):
        return  # a holiday, or a displaced day of which the cause can't be told
    for h in range(HOURS):
        if not np.isnan(means[h]):
            clock["usual"][h] += (means[h] - clock["usual"][h]) / clock["days"]


@njit(cache=False)
def is_shifted(clock: Record) -> bool:
    """Whether the clock has been off by the same hours for long enough to be told."""
    return clock["lag_h"] != 0 and clock["lag_days"] >= SHIFTED_DAYS


@njit(cache=False)
def is_right(clock: Record) -> bool:
    """Whether the clock has been right again for long enough."""
    return clock["lag_h"] == 0 and clock["lag_days"] >= STEADY_DAYS
