"""Customer meters that never come to rest any more: water runs in the house, day and night.

A customer's day is its smallest and its largest hourly flow, kept until two days after it is over, when the last upload
has come; so the order in which a day of flows arrives makes no difference. (Registers are differences of readings that
follow each other in time; one that arrives behind a later one is left out.) A day without rest is one whose smallest flow
is more than next to nothing. Houses where that is usual, such as blocks of flats, have their own habit and are left alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.schema import BAD, NEVER, REGISTER, Record, Records

RING_DAYS: Final = 4
USE = np.dtype(
    [
        ("register_ms", "<i8"),  # last register reading, NEVER before the first
        ("register_m3", "<f8"),
        ("lows", "<f4", (RING_DAYS,)),  # smallest flow (m3/h) of each of the last days (UTC), a ring by day number
        ("highs", "<f4", (RING_DAYS,)),  # largest
        ("hours", "<i4", (RING_DAYS,)),  # hours that have a flow, as bits
        ("low_m3h", "<f4"),  # smallest flow of the run under way
        ("share", "<f4"),  # share of days without rest in about two months
        ("since_day", "<i4"),  # first day of the run
        ("told_day", "<i4"),  # day on which it was reported
        ("calm_day", "<i4"),  # first day with rest after it
        ("days", "<i2"),  # days judged while learning
        ("run", "u1"),  # days without rest in a row
        ("usual_run", "u1"),  # longest such run that ended by itself
        ("calm", "u1"),  # days with rest since the run was reported
        ("is_open", "u1"),  # 1 while it is reported
    ]
)
"""One row per customer meter of the DMA, beside its CUSTOMER."""

NOTHING, BEGAN, OVER = -1, 0, 1
"""What a day of one customer meter brings: nothing to tell, water that runs without rest, its end."""

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
AFTER_DAYS: Final = 3  # a day is judged when the frontier has reached the third day after its begin
REST: Final = 0.02  # of the day's largest flow: next to nothing
FEWEST_HOURS: Final = 20  # of a day, to judge it
LONGEST_STEP_MS: Final = 2 * HOUR_MS  # between two register readings that tell of an hour
LEARN_DAYS: Final = 21
RUN_DAYS: Final = 5
HABIT: Final = 3  # times the longest run that ended by itself
RARE: Final = 0.2  # share of days without rest of a house that does come to rest
MEMORY_DAYS: Final = 60.0
CALM_DAYS: Final = 2
MOST: Final = 250
CELL_MS: Final = 900_000
UNITS_A_M3: Final = 10_000.0
MOST_M3H: Final = 700.0  # of one reading; 96 of them fit 32 bits


def new_use(customers: int) -> Records:
    """Rows that have seen nothing."""
    use = np.zeros(customers, USE)
    use["register_ms"] = NEVER
    return use


@njit(cache=False)
def note_use(u: Record, metered: Records, i: int, reading: Record, frontier_ms: int) -> None:
    """Add a reading (READING) of customer meter `i` to its day, unless the day is judged or too far ahead.

    `u`: its USE; `metered` (N,) METERED, or (0,) where no balance is kept.
    """
    if frontier_ms == NEVER or reading["quality"] == BAD:
        return
    time_ms, flow = reading["time_ms"], reading["value"]
    if reading["kind"] == REGISTER:
        before_ms, step = u["register_ms"], flow - u["register_m3"]
        if time_ms <= before_ms:
            return
        u["register_ms"], u["register_m3"] = time_ms, flow
        if before_ms == NEVER or time_ms - before_ms > LONGEST_STEP_MS or step < 0.0:
            return
        flow = step * HOUR_MS / (time_ms - before_ms)
    day, today = (time_ms - 1) // DAY_MS, frontier_ms // DAY_MS
    if not today - AFTER_DAYS < day <= today - AFTER_DAYS + RING_DAYS:
        return
    k = day % RING_DAYS
    if u["hours"][k] == 0:
        u["lows"][k] = u["highs"][k] = flow
    u["lows"][k] = min(u["lows"][k], np.float32(flow))
    u["highs"][k] = max(u["highs"][k], np.float32(flow))
    u["hours"][k] |= 1 << ((time_ms - 1) % DAY_MS // HOUR_MS)
    if metered.shape[0] > 0:
        note_volume(metered[i], day, time_ms, flow)


@njit(cache=False)
def note_volume(meter: Record, day: int, time_ms: int, flow_m3h: float) -> None:
    """Add a flow to the sum of its day, in a row of METERED (`balance.py`), once."""
    k, cell = day % RING_DAYS, (time_ms - 1) % DAY_MS // CELL_MS
    is_even = time_ms % CELL_MS == 0
    meter["even"][k] = min(meter["even"][k] + is_even, MOST)
    if meter["fine"] and not is_even:
        return
    seen, bit = np.int64(meter["seen"][k, cell // 32]), np.int64(1) << (cell % 32)
    if not seen & bit:
        meter["seen"][k, cell // 32] = seen | bit
        meter["used"][k] += np.int64(round(min(max(flow_m3h, -MOST_M3H), MOST_M3H) * UNITS_A_M3))


@njit(cache=False)
def hours_in(mask: int) -> int:
    """Number of hours in a day's mask."""
    count = 0
    for hour in range(24):
        count += (mask >> hour) & 1
    return count


@njit(cache=False)
def follow_day(u: Record, day: int, low_m3h: float, high_m3h: float) -> int:
    """Judge one day of one customer meter: NOTHING, BEGAN or OVER."""
    flows = low_m3h > REST * high_m3h
    learning = u["days"] < LEARN_DAYS
    if learning:
        u["days"] += 1
    if not u["is_open"]:
        u["share"] += (flows - u["share"]) / (u["days"] if learning else MEMORY_DAYS)
    if flows:
        if u["run"] == 0:
            u["since_day"], u["low_m3h"] = day, low_m3h
        u["run"] = min(u["run"] + 1, MOST)
        u["calm"] = 0
        u["low_m3h"] = min(u["low_m3h"], np.float32(low_m3h))
        long = u["run"] >= max(RUN_DAYS, HABIT * u["usual_run"] + 1)
        if long and not learning and not u["is_open"] and u["share"] <= RARE:
            u["is_open"], u["told_day"] = 1, day + AFTER_DAYS
            return BEGAN
        return NOTHING
    if u["is_open"]:
        if u["calm"] == 0:
            u["calm_day"] = day
        u["calm"] += 1
        if u["calm"] < CALM_DAYS:
            return NOTHING
    told = OVER if u["is_open"] else NOTHING
    u["usual_run"] = max(u["usual_run"], u["run"] if learning else min(u["run"], 2 * u["usual_run"] + 1))
    u["run"] = u["calm"] = u["is_open"] = 0
    return told


@njit(cache=False)
def judge_all(use: Records, day: int, told: NDArray[np.int64]) -> int:
    """Judge a day (UTC, days since the epoch) of all customer meters, and clear its place in the rings.

    `told` (N, 2) becomes row and BEGAN or OVER of those with something to tell; returns how many.
    """
    k, count = day % RING_DAYS, 0
    for i in range(use.shape[0]):
        u = use[i]
        if hours_in(u["hours"][k]) >= FEWEST_HOURS:
            change = follow_day(u, day, u["lows"][k], u["highs"][k])
            if change != NOTHING:
                told[count, 0], told[count, 1] = i, change
                count += 1
        u["hours"][k] = 0
    return count
