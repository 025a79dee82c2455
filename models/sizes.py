"""How well the size of a leak is known: the standard error of an event's excess, kept with the event.

A size is a mean of slots or of nights, and their noise is not independent. How much of it a mean takes out every DMA knows
from its own past: the variance of the mean residual of a day, in spreads of a slot (`SIZING`). Between a slot and a day it
falls off as a power of the number of slots,

    sd(mean of n) = spread * sd_of_day ^ (ln n / ln slots_of_day)

On 18 DMAs with slots of 5 min, 30 min and 1 h a day's mean has 0.17 to 0.54 of a slot's deviation, and the power law is
within a quarter of what means of 1, 4, 6 and 12 h have (in one of them 30 % below); an AR(1) law of the same data says 0.2
to 0.96 of what a day's mean has (2026-11-28).

A night's size has the error of its expectation (`night_level.py`) times what the DMA's past nights were off by in that
measure: 1.5 to 2.6 on six real DMAs, whose nights wander for weeks (neighbouring ones correlate by 0.5 to 0.8). To a mean of
slots comes the start, part of whose slot was before it. How often the intervals hold the truth is in docs/ACCURACY.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

from models.night_level import LAG_NIGHTS, SD_PER_MEAN_ABS
from models.schema import Record, Records

if TYPE_CHECKING:
    from models.state import Buffers

PRIOR_SD: Final = 0.45  # of the mean of a day, in spreads of a slot, worth
PRIOR_DAYS: Final = 5.0
PRIOR_NIGHT_SPREAD: Final = 1.5  # worth as many nights
MEMORY_DAYS: Final = 60.0
COVERAGE: Final = 0.9  # of a day's slots
MOST_SDS: Final = 3.0  # that a day counts at most: an event that was never raised is no noise
OF_A_MEDIAN: Final = 1.2533  # standard error of a median over that of a mean, of a normal variable
OF_THE_START: Final = 0.5  # standard deviation, in slots, of the start
Z_90: Final = 1.6449  # standard deviations on either side that hold 90 %

SIZING = np.dtype(
    [
        ("z_sum", "<f8"),  # of the local day under way
        ("slots", "<i4"),  # of it that had a z, and no leak
        ("variance", "<f8"),  # of the mean z of a day
        ("days", "<f8"),  # learned from, the prior's included
        ("night_spread", "<f8"),  # of past nights, in standard deviations that were expected of them
        ("nights", "<f8"),  # learned from, the prior's included
    ]
)
"""What a DMA's residuals have in common within a day; an array of one row."""


def new_sizing() -> Records:
    """The prior."""
    sizing = np.zeros(1, SIZING)
    sizing["variance"], sizing["days"] = PRIOR_SD**2, PRIOR_DAYS
    sizing["night_spread"], sizing["nights"] = PRIOR_NIGHT_SPREAD, PRIOR_DAYS
    return sizing


@njit(cache=False)
def note_slot(sizing: Record, z: float) -> None:
    """Take one slot without a leak; NaN when missing."""
    if not np.isnan(z):
        sizing["z_sum"] += z
        sizing["slots"] += 1


@njit(cache=False)
def end_day(sizing: Record, slots_of_day: int) -> None:
    """A local day is over: learn from it, unless leaks or gaps have left less than `COVERAGE` of it."""
    if sizing["slots"] >= COVERAGE * slots_of_day:
        mean = sizing["z_sum"] / sizing["slots"]
        gain = 1.0 / min(sizing["days"] + 1.0, MEMORY_DAYS)
        most = MOST_SDS * MOST_SDS * sizing["variance"]
        sizing["variance"] += gain * (min(mean * mean, most) - sizing["variance"])
        sizing["days"] += 1.0
    sizing["z_sum"] = 0.0
    sizing["slots"] = 0


@njit(cache=False)
def learn_night(sizing: Record, nights: Records, day: int) -> None:
    """Learn how far the night `LAG_NIGHTS` before `day` was off: one that belongs to a leak has been found out by then."""
    night = nights[(day - LAG_NIGHTS) % nights.shape[0]]
    if night["day"] == day - LAG_NIGHTS and not np.isnan(night["z"]):
        off = SD_PER_MEAN_ABS * min(abs(night["z"]), MOST_SDS * sizing["night_spread"])
        sizing["night_spread"] += (off - sizing["night_spread"]) / min(sizing["nights"] + 1.0, MEMORY_DAYS)
        sizing["nights"] += 1.0


@njit(cache=False)
def night_sd(b: Buffers) -> float:
    """Standard error (m3/h) of what last night says of a leak; NaN without a night."""
    return b.row[0]["mnf_spread_m3h"] * max(b.sizing[0]["night_spread"], 1.0)


@njit(cache=False)
def mean_sd(b: Buffers, spread_m3h: float, slots: float) -> float:
    """Standard error (m3/h) of the mean residual of `slots` (1 and up) whose spread is `spread_m3h`."""
    slots_of_day = b.levels.shape[1] // 7
    share = min(np.log(max(slots, 1.0)) / np.log(float(slots_of_day)), 1.0)
    return spread_m3h * b.sizing[0]["variance"] ** (0.5 * share)


@njit(cache=False)
def shift_spread(b: Buffers, slots: int) -> float:
    """Root mean square spread (m3/h) of the last `slots` of the ring of `flow_shift.py`; this slot's where it has none."""
    own, shift, ring = b.series[0]["spread"], b.shift[0], b.shift_slots
    slots = min(slots, shift["count"], ring.shape[0] - 1)
    total = 0.0
    for i in range(slots):
        newer, older = ring[(shift["count"] - i) % ring.shape[0]], ring[(shift["count"] - i - 1) % ring.shape[0]]
        weight = newer["weight_sum"] - older["weight_sum"]
        total += 1.0 / weight if weight > 0.0 else own * own
    return np.sqrt(total / slots) if slots > 0 else own


@njit(cache=False)
def note_shift(b: Buffers, event: Record, slots: int, before_m3h: float) -> None:
    """The event's size is the median of the last `slots`, above what was known to be `before_m3h` uncertain."""
    spread = shift_spread(b, slots)
    event["slot_spread_m3h"] = spread
    noise = OF_A_MEDIAN * mean_sd(b, spread, float(slots))
    start = OF_THE_START * abs(event["excess_m3h"]) / max(slots, 1)
    event["size_sd_m3h"] = np.sqrt(noise * noise + start * start + before_m3h * before_m3h)


@njit(cache=False)
def note_first(b: Buffers, event: Record, slots: int) -> None:
    """The size that an event begins with is that of the last `slots`, or, with none, of last night."""
    if slots > 0:
        note_shift(b, event, slots, 0.0)
    else:
        note_night(event, night_sd(b), True)


@njit(cache=False)
def average_slot(b: Buffers, event: Record) -> None:
    """One more slot, this one, is in the mean that the event's size is; `slots` counts it already."""
    own, slots = b.series[0]["spread"], event["slots"]
    before = event["slot_spread_m3h"] if event["slot_spread_m3h"] > 0.0 else own
    event["slot_spread_m3h"] = np.sqrt(before * before + (own * own - before * before) / slots)
    noise = mean_sd(b, event["slot_spread_m3h"], float(slots))
    start = OF_THE_START * abs(event["excess_m3h"]) / slots
    event["size_sd_m3h"] = np.sqrt(noise * noise + start * start)


@njit(cache=False)
def note_night(event: Record, night_sd_m3h: float, is_fresh: bool) -> None:
    """A night has said how large the event is. Where what it is held against knows part of the leak already, because it
    has run for longer than the expectation lags behind (not `is_fresh`), the error of that part stays in it.
    """
    before = 0.0 if is_fresh or np.isnan(event["size_sd_m3h"]) else event["size_sd_m3h"]
    event["size_sd_m3h"] = np.sqrt(night_sd_m3h * night_sd_m3h + before * before)
