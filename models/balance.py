"""Water supplied less water metered, day by day: what a DMA takes that no customer's meter shows.

    supplied - metered = level + share * (metered - usual metered) + noise          daily means, m3/h

A hot week raises both, so the difference is far quieter than the inflow, and a leak is in one of them only (DOMAIN: EWMA on
supplied - metered where customer meters cover the DMA). Where a part of the customers has no meter that reports, or the
meters count a few percent short, the difference follows the demand by a `share` that every DMA learns from its own past.
Level and share are followed by the Kalman filter of the nights (`night_level.py`), as far behind.

Days are UTC's, as in `customers.py`, and are judged when their last upload has come, on the third day. A customer without a
whole day is stood in for by its usual use, but only in proportion to what the others used: it moves nothing by itself. A
day on which fewer customers than usual were whole says nothing, nor do customers that are too few, or that take less than
half of what is supplied.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.borrow import borrowed
from models.customers import AFTER_DAYS, DAY_MS, RING_DAYS, UNITS_A_M3, hours_in, judge_all
from models.kernels import window_median
from models.night_level import take_value
from models.schema import NEVER, Record, Records

MIN_CUSTOMERS: Final = 10  # of fewer, one that is silent is a good part
DAYS: Final = 56
FIRST_DAYS: Final = 12  # with these begins the level
LAG_DAYS: Final = 14  # that it stays behind
DRIFT: Final = 0.1  # of the noise of a day: so far the level may walk in one
SHARE: Final = (0.0, 1.0)  # before a DMA's own is known: mean, sd
NOISE_FLOOR: Final = 0.005  # of what is supplied: no meter resolves better
LEAST_NOISE_M3H: Final = 1e-3  # of a DMA that takes nothing
USUAL_DAYS: Final = 14.0  # of a customer's use, and of the part of them that is whole
WHOLE_HOURS: Final = 23  # of a customer's day
EVEN: Final = 92  # readings of a day on the quarter of an hour, of a meter that reports every quarter or more often
COVERAGE: Final = 0.9  # of the slots of a day that have a net inflow
LEAST_SHARE: Final = 0.5  # of the customers' usual use that those with a whole day have
FEWER: Final = 0.1  # than usual: such a day is another kind of sum
COVERED: Final = 0.5  # of what is supplied, that is metered
MOST_PART: Final = 2.0  # a day with a shut valve must not speak for months
CLIP_MADS: Final = 3.0
SD_PER_MAD: Final = 1.4826
SD_PER_MEAN_ABS: Final = 1.2533

BALANCE_DAY = np.dtype(
    [
        ("day", "<i8"),  # UTC, days since the epoch; NEVER is empty
        ("start_ms", "<i8"),
        ("slots", "<i4"),  # closed so far
        ("valid", "<i4"),  # of these with a net inflow
        ("inflow_m3h", "<f8"),  # sum over these
        ("due_m3h", "<f8"),  # sum of what was expected, over all slots; NaN while warming up
        ("due_valid_m3h", "<f8"),  # and over those with a net inflow
        ("metered_m3h", "<f8"),  # daily mean; NaN until the customers' day is judged
        ("whole", "<f8"),  # share of the customers' usual use that those with a whole day have
        ("customers", "<i4"),  # with a whole day
        ("ended_m3h", "<f8"),  # daily mean of what leaks that have ended since took of it
        ("known_m3h", "<f8"),  # daily mean of what all leaks that are known by now took of it
        ("rest_m3h", "<f8"),  # beyond expectation, known leaks left out; NaN where it can't be told
    ]
)
"""A ring by day; none where there are fewer than `MIN_CUSTOMERS` customer meters."""

BALANCE = np.dtype(
    [
        ("judged_day", "<i8"),
        ("until_day", "<i8"),  # last day that level and share rest on, NEVER before the first
        ("level_m3h", "<f8"),
        ("share", "<f8"),
        ("level_variance", "<f8"),
        ("covariance", "<f8"),
        ("share_variance", "<f8"),
        ("usual_m3h", "<f8"),  # metered when the level began
        ("usual_whole", "<f8"),  # exponentially weighted; NaN before the first day
        ("usual_part", "<f8"),  # of what is supplied, that is metered; exponentially weighted, NaN before the first day
        ("excess_m3h", "<f8"),  # of the strongest run of days that ends with the last one
        ("start_ms", "<i8"),  # of that run
        ("spread_m3h", "<f8"),  # standard deviation of the last day's rest; NaN where it said nothing
        ("score", "<f8"),  # of the last day, 0 once it was heard
        ("night_score", "<f8"),  # of the last night, likewise
    ]
)
"""State of the expectation; an array of one row."""

METERED = np.dtype(
    [
        ("seen", "<u4", (RING_DAYS, 3)),  # which quarters of an hour of each of the last days (UTC) have a flow, as bits
        ("even", "u1", (RING_DAYS,)),  # readings on the quarter of an hour, at most 250
        ("fine", "u1"),  # days since one had them all, at most 5, else 0: from the first on others between them do not count
        ("used", "<i4", (RING_DAYS,)),  # sum of these flows, in 0.1 L/h: whole numbers, so that their order leaves no trace
        ("usual_m3h", "<f4"),  # mean use, exponentially weighted; NaN before the first whole day
    ]
)
"""One row per customer meter where there is a balance, beside its USE.

Of a meter that reports more often, the readings on the quarter count: which it is must not depend on which came first.
"""


def new_balance(customers: int) -> tuple[Records, Records, Records]:
    """BALANCE (1,), BALANCE_DAY and METERED of which nothing is known; no days and meters where there are too few."""
    is_watched = customers >= MIN_CUSTOMERS
    balance = np.zeros(1, BALANCE)
    balance["judged_day"] = balance["until_day"] = balance["start_ms"] = NEVER
    balance["usual_m3h"] = balance["usual_whole"] = balance["usual_part"] = balance["spread_m3h"] = np.nan
    balance["share"], balance["share_variance"] = SHARE[0], SHARE[1] ** 2
    days = np.zeros(DAYS if is_watched else 0, BALANCE_DAY)
    days["day"] = NEVER
    metered = np.zeros(customers if is_watched else 0, METERED)
    metered["usual_m3h"] = np.nan
    return balance, days, metered


@njit(cache=False)
def row_of(days: Records, day: int) -> int:
    """Row of `day` in the ring, emptied of an older one."""
    k = day % days.shape[0]
    row = days[k]
    if row["day"] < day:
        row["day"], row["start_ms"] = day, day * DAY_MS
        row["slots"] = row["valid"] = row["customers"] = 0
        row["inflow_m3h"] = row["due_m3h"] = row["due_valid_m3h"] = row["ended_m3h"] = row["known_m3h"] = row["whole"] = 0.0
        row["metered_m3h"] = row["rest_m3h"] = np.nan
    return k


@njit(cache=False)
def note_supply(days: Records, inflow_m3h: float, expected_m3h: float, slot_end_ms: int) -> None:
    """Add a slot's net inflow, NaN when missing, to its day."""
    row = days[row_of(days, (slot_end_ms - 1) // DAY_MS)]
    row["slots"] += 1
    row["due_m3h"] += expected_m3h
    if not np.isnan(inflow_m3h):
        row["valid"] += 1
        row["inflow_m3h"] += inflow_m3h
        row["due_valid_m3h"] += expected_m3h


@njit(cache=False)
def flows_in(seen: NDArray[np.uint32]) -> int:
    """Number of quarters of an hour with a flow."""
    count = 0
    for word in range(seen.shape[0]):
        mask = np.int64(seen[word])
        while mask:
            mask &= mask - 1
            count += 1
    return count


@njit(cache=False)
def meter_day(use: Records, metered: Records, days: Records, day: int) -> None:
    """Sum a day of the customers up, follow what each usually uses, and clear the day's place in their rings.

    `use` (N,) USE of which the day is not cleared yet. A customer's day is the mean of its flows; one that has had no whole
    day before does not count yet, on either side. Oracle: tests/naive_balance.py.
    """
    k = day % RING_DAYS
    used = of = total = 0.0
    count = 0
    for i in range(metered.shape[0]):
        meter = metered[i]
        usual = float(meter["usual_m3h"])
        is_known = not np.isnan(usual)
        if is_known:
            total += usual
        if meter["fine"] > 0 or meter["even"][k] >= EVEN:
            meter["fine"] = min(meter["fine"] + 1, RING_DAYS + 1)
        # in the days that had begun by then, what counted depends on the order in which it came
        is_clear = meter["fine"] == 0 or meter["fine"] > RING_DAYS
        flows = flows_in(meter["seen"][k])
        if hours_in(use[i]["hours"][k]) >= WHOLE_HOURS and is_clear and flows > 0:
            mean = meter["used"][k] / UNITS_A_M3 / flows
            if is_known:
                used += mean
                of += usual
                count += 1
                mean = usual + (mean - usual) / USUAL_DAYS
            meter["usual_m3h"] = mean
        meter["used"][k] = meter["even"][k] = 0
        for word in range(meter["seen"].shape[1]):
            meter["seen"][k, word] = 0
    row = days[row_of(days, day)]
    if row["day"] == day and of > 0.0 and total > 0.0:
        row["customers"], row["whole"], row["metered_m3h"] = count, of / total, used * total / of


@njit(cache=False)
def supplied_m3h(row: Record, slots_of_day: int) -> float:
    """Mean net inflow of a day, NaN where too much is missing; what is missing stands in proportion to what was expected."""
    if row["valid"] < COVERAGE * slots_of_day:
        return np.nan
    if row["due_valid_m3h"] > 0.0 and row["due_m3h"] > 0.0:  # both False while warming up
        return row["inflow_m3h"] * row["due_m3h"] / row["due_valid_m3h"] / row["slots"]
    return row["inflow_m3h"] / row["valid"]


@njit(cache=False)
def unmetered_m3h(row: Record, usual_whole: float, slots_of_day: int) -> float:
    """Supplied less metered of a day; NaN where it can't be told."""
    if row["day"] == NEVER or row["whole"] < max(LEAST_SHARE, usual_whole - FEWER):
        return np.nan
    return supplied_m3h(row, slots_of_day) - row["metered_m3h"]


@njit(cache=False)
def noise_of(days: Records, values: NDArray[np.float64], share: float, last_day: int) -> float:
    """Standard deviation of a day, from the differences between neighbouring days; NaN before `FIRST_DAYS` days are known.

    `values` (N,): supplied less metered and less known leaks, by row. A leak is in few of the differences.
    """
    length = days.shape[0]
    steps, count, known = np.full(length, np.nan), 0, 0
    before = np.nan
    for back in range(length - 1, -1, -1):
        k = (last_day - back) % length
        value = np.nan
        if days[k]["day"] == last_day - back:
            value = values[k] - share * days[k]["metered_m3h"]
        known += not np.isnan(value)
        if not np.isnan(value - before):
            steps[count] = abs(value - before)
            count += 1
        before = value
    if known < FIRST_DAYS or count < FIRST_DAYS // 2:
        return np.nan
    limit, total = CLIP_MADS * SD_PER_MAD * window_median(steps), 0.0
    for i in range(count):
        total += min(steps[i], limit)
    return SD_PER_MEAN_ABS * total / count / np.sqrt(2.0)


@njit(cache=False)
def begin_level(balance: Record, days: Records, values: NDArray[np.float64], day: int, noise: float) -> None:
    """Start the level from all the days before `day`."""
    total, usual, count = 0.0, 0.0, 0
    for k in range(days.shape[0]):
        if days[k]["day"] < day and not np.isnan(values[k]):
            total += values[k]
            usual += days[k]["metered_m3h"]
            count += 1
    balance["level_m3h"], balance["usual_m3h"] = total / count, usual / count
    balance["level_variance"] = noise * noise / count
    balance["until_day"] = day - 1


@njit(cache=False)
def judge(balance: Record, days: Records, values: NDArray[np.float64], day: int, mean_m3h: float) -> float:
    """Fill the rests of the days up to `day`; returns the noise of a day (m3/h), NaN while it can't be told.

    `values` (N,): supplied less metered and less known leaks of each row, NaN where it can't be told.
    """
    noise = noise_of(days, values, balance["share"], day)
    balance["spread_m3h"] = np.nan
    if np.isnan(noise):
        return np.nan
    noise = max(noise, NOISE_FLOOR * abs(mean_m3h), LEAST_NOISE_M3H)
    if balance["until_day"] == NEVER:
        begin_level(balance, days, values, day, noise)
    for past in range(max(balance["until_day"] + 1, day - days.shape[0] + 1), day - LAG_DAYS + 1):
        k = past % days.shape[0]
        balance["level_variance"] += DRIFT * DRIFT * noise * noise
        # the size of a leak is known by a tenth or so: its days would teach that error
        if days[k]["day"] == past and days[k]["known_m3h"] == 0.0 and not np.isnan(values[k]):
            take_value(balance, values[k], days[k]["metered_m3h"] - balance["usual_m3h"], noise)
            balance["share"] = max(balance["share"], 0.0)  # customers who use more make no leak smaller
        balance["until_day"] = past
    for k in range(days.shape[0]):
        rise = days[k]["metered_m3h"] - balance["usual_m3h"]
        days[k]["rest_m3h"] = values[k] - balance["level_m3h"] - balance["share"] * rise
    return noise


@njit(cache=False)
def level_spread(balance: Record, row: Record, day: int, noise: float) -> float:
    """Standard deviation of what is expected of a day (m3/h)."""
    rise = row["metered_m3h"] - balance["usual_m3h"]
    variance = balance["level_variance"] + rise * (2.0 * balance["covariance"] + rise * balance["share_variance"])
    return np.sqrt(max(variance + max(day - balance["until_day"], 0) * DRIFT * DRIFT * noise * noise, 0.0))


@njit(cache=False)
def follow_cover(balance: Record, row: Record, supplied: float) -> bool:
    """Learn how much of what is supplied is usually metered, and by how many; whether that is enough to speak of."""
    if np.isnan(row["metered_m3h"]) or not supplied > 0.0:
        return False
    part = min(row["metered_m3h"] / supplied, MOST_PART)
    if np.isnan(balance["usual_part"]):
        balance["usual_part"], balance["usual_whole"] = part, row["whole"]
    balance["usual_part"] += (part - balance["usual_part"]) / USUAL_DAYS
    balance["usual_whole"] += (row["whole"] - balance["usual_whole"]) / USUAL_DAYS
    return balance["usual_part"] >= COVERED


@njit(cache=False)
def due_day(slot_end_ms: int) -> int:
    """The newest day of which all uploads have come at the end of a slot."""
    return slot_end_ms // DAY_MS - AFTER_DAYS


@njit(cache=True)
def judge_customers(use: Records, metered: Records, days: Records, day: int, told: NDArray[np.int64]) -> int:
    """`customers.judge_all`, once the day is summed up where there is a balance."""
    use, metered, days = borrowed((use, metered, days))
    if metered.shape[0] > 0:
        meter_day(use, metered, days, day)
    return judge_all(use, day, told)
