"""Expected inflow and pressure for a slot of the local week, with its spread.

A series is the DMA's own net inflow, a neighbour's, or one pressure logger. What is expected is a level plus the shape of
the week, one value a slot, both moved by each slot's error (exponential smoothing with two seasons: Gould et al. 2008, Eur.
J. Oper. Res. 191). The level forgets within two days, so a summer in a tourist town or a new district is followed. A slot
moves by 1/n of its error down to 1/6 (six weeks of memory), the same time of the other workdays (or of the other weekend
day) by a tenth, of all others by a twentieth: a season that changes the shape of the day is learned in two weeks. Errors are
clipped at three spreads (a Huber estimate), so an outlier moves it as little as a plausible value would, and the level by
at most a spread and a half a day. While a leak event is open, the DMA's own profile is frozen (`loop.learn_all`).

Mean error of a day-ahead forecast of six Italian DMAs, in percent of their mean inflow: same slot of last week 8.1, median
of four weeks 7.7, the slot of the week alone (as it was) 8.6, with level 6.0, and with neighbours moved too 5.5. A level
in proportion to the slot instead of added 5.5 (and of no use for pressures); own gains from 1/12 to 1/3 5.9 to 5.6; level
memory of 1 to 3 days 5.7 to 5.5 (2026-11-27).

Unusual days (`models/calendar.py`) are expected like the weekday that they behave like, within a spread that is wider by
what such days have shown so far, and teach nothing but that.

`drift` follows what the last day had in common: weather moves a whole day, a burst steps within a slot. At as many alarms
a memory of 24 h finds more than one of 6 or 12 h. (A drift in spreads, which shrinks at night, was tried and lost: abrupt
leaks of L-Town took twice as long.) `unrest` widens the spread while the last three days were less orderly than usual, as
at the begin of a summer: a fifth fewer alarms on the Italian DMAs at the same recall (2026-11-27).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.calendar import BESIDE, ORDINARY, UNUSUAL
from models.schema import Record

SERIES = np.dtype(
    [
        ("value", "<f8"),  # this slot: m3/h or kPa, NaN when missing
        ("expected", "<f8"),  # this slot: level + slot of the week, NaN while warming up
        ("spread", "<f8"),  # this slot: one standard deviation of what is left after drift
        ("usual", "<f8"),  # this slot: spread on an ordinary day of an orderly week
        ("residual", "<f8"),  # this slot: value - expected - known events
        ("foreseen", "<f8"),  # this slot: expected + upward drift, NaN while warming up
        ("drift", "<f8"),  # exponentially weighted residual of the last day
        ("z", "<f8"),  # this slot: (residual - upward drift) / spread
        ("mean_level", "<f8"),  # exponentially weighted mean of value over about a week
        ("level", "<f8"),  # what the last two days had above or below the shape of the week
        ("band", "<f8"),  # half the width of the 95 % band in spreads
        ("unrest", "<f8"),  # deviation of the last three days, as a multiple of the usual spread
        ("widths", "<f8", (2,)),  # spread of days beside holidays and of unusual days, as a multiple of the usual
        ("width_hours", "<f8", (2,)),  # hours that they were learned from
    ]
)
SPREAD_BINS: Final = 48  # hour of the day, workday and weekend
READY_WEEKS: Final = 2
WARMING, CAUTIOUS, SETTLED = range(3)
"""How far a DMA has warmed up: nothing is judged before two weeks; six weeks are the memory of a slot."""
PHASE_HOURS: Final = (14 * 24.0, 42 * 24.0)
MEMORY_WEEKS: Final = 6
SAME_KIND_GAIN: Final = 0.1  # of the error: for the same time of the other workdays, or the other weekend day
OTHER_KIND_GAIN: Final = 0.05
LEVEL_HOURS: Final = 48.0
DEEP_LOW_PACE: Final = 0.5  # of the error, where it is more than three spreads down
DRIFT_HOURS: Final = 24.0
SPREAD_MEMORY_HOURS: Final = 20.0  # four weeks of one workday hour
NEIGHBOURS_HOURS: Final = 4.0  # what the hours beside, and the same hour of the other kind of day, count for
CLIP_SPREADS: Final = 3.0
UNREST_HOURS: Final = 72.0
SD_PER_MEAN_ABS: Final = 1.2533141373155001  # sqrt(pi/2), of a normal variable
SPREAD_FLOOR: Final = 0.005  # of the level: no meter resolves better than half a percent
FIRST_WIDTHS: Final = (1.5, 2.0)  # of days beside holidays and of unusual ones, before any was seen
FIRST_WIDTH_HOURS: Final = 48.0  # what that guess counts for
WIDTH_MEMORY_HOURS: Final = 240.0  # ten such days
FIRST_BAND: Final = 1.96
BAND_OUTSIDE: Final = 0.05
BAND_PACE: Final = 0.05  # spreads an hour outside; so the share outside is held over some two weeks


@njit(cache=False)
def slot_spread(series: Record, spreads: NDArray[np.float32], counts: NDArray[np.float32], spread_bin: int) -> float:
    """Usual spread of an hour, drawn towards that of the hours beside it while it rests on few; 0 if none is known.

    `spreads`, `counts` (48,): spread of each bin, and the hours it was learned from.
    """
    own_hours = float(counts[spread_bin])
    spread = float(spreads[spread_bin])
    first = 0 if spread_bin < 24 else 24
    hour = spread_bin - first
    before, after = first + (hour + 23) % 24, first + (hour + 1) % 24
    other = (24 - first) + hour
    near_hours = counts[before] + counts[after] + counts[other]
    if near_hours > 0.0:
        near = counts[before] * spreads[before] + counts[after] * spreads[after] + counts[other] * spreads[other]
        weight = min(NEIGHBOURS_HOURS, near_hours / 3.0)
        spread = (own_hours * spread + weight * near / near_hours) / (own_hours + weight)
    return max(spread, SPREAD_FLOOR * abs(series["mean_level"]))


@njit(cache=False)
def expect(
    series: Record,
    levels: NDArray[np.float32],
    weeks: NDArray[np.uint8],
    spreads: NDArray[np.float32],
    counts: NDArray[np.float32],
    slot: int,
    spread_bin: int,
    kind: int,
    known: float,
) -> None:
    """Fill expected, spread, residual and z of one series (a record) for this slot.

    `levels`, `weeks` (slots of the week,), `spreads`, `counts` (48,); `kind` of day; `known`: excess of
    events already raised.
    """
    spread = slot_spread(series, spreads, counts, spread_bin)
    series["usual"] = spread
    if weeks[slot] < READY_WEEKS or not spread > 0.0:
        series["expected"] = np.nan
        series["foreseen"] = np.nan
        series["spread"] = np.nan
        series["residual"] = np.nan
        series["z"] = np.nan
        return
    if kind != ORDINARY:
        spread *= series["widths"][min(kind, UNUSUAL) - BESIDE]
    spread *= max(series["unrest"], 1.0)
    # Only upward drift is forgiven: flow coming back from a low (a closed valve, a holiday) is not a burst.
    upward = max(series["drift"], 0.0)
    series["expected"] = levels[slot] + series["level"]
    series["foreseen"] = series["expected"] + upward
    series["spread"] = spread
    series["residual"] = series["value"] - series["expected"] - known
    series["z"] = (series["residual"] - upward) / spread


@njit(cache=False)
def follow_band(series: Record, slot_hours: float) -> None:
    """Widen the band when this slot lies outside of it, else narrow it: nineteen in twenty are to lie inside.

    Stochastic approximation of a quantile (Robbins and Monro 1951).
    """
    if np.isnan(series["z"]):
        return
    step = BAND_PACE * slot_hours
    if abs(series["z"]) > series["band"]:
        series["band"] += step
    else:
        series["band"] -= step * BAND_OUTSIDE / (1.0 - BAND_OUTSIDE)


@njit(cache=False)
def learn(
    series: Record,
    levels: NDArray[np.float32],
    weeks: NDArray[np.uint8],
    spreads: NDArray[np.float32],
    counts: NDArray[np.float32],
    slot: int,
    spread_bin: int,
    kind: int,
    known: float,
    slot_hours: float,
    teach: bool,
) -> None:
    """Move level, shape, spread and drift towards this slot's value less the `known` excess, after `expect` of the slot.

    Missing values teach nothing. `counts` (48,): hours learned per spread bin. Without `teach` only the drift follows, which
    forgets within days.
    """
    value = series["value"] - known
    if np.isnan(value):
        return
    if weeks[slot] < 1:
        if teach and kind < UNUSUAL:
            weeks[slot] = 1
            levels[slot] = value - series["level"]
            _learn_mean(series, value, slot_hours)
        return
    residual = value - levels[slot] - series["level"]
    rest, usual = abs(residual), 0.0
    if counts[spread_bin] >= 2.0:
        usual = series["usual"]
        wide = usual if kind == ORDINARY else usual * series["widths"][min(kind, UNUSUAL) - BESIDE]
        drift = series["drift"]
        rest = abs(residual - drift)
        residual = min(max(residual, drift - CLIP_SPREADS * wide), drift + CLIP_SPREADS * wide)
        series["drift"] += slot_hours / DRIFT_HOURS * (residual - drift)
    if not teach:
        return
    if kind != ORDINARY and usual > 0.0:
        _learn_width(series, min(kind, UNUSUAL) - BESIDE, rest * SD_PER_MEAN_ABS / usual, slot_hours)
    if kind >= UNUSUAL:
        return
    if usual > 0.0:
        ratio = min(rest / usual, CLIP_SPREADS + 1.0) * SD_PER_MEAN_ABS
        series["unrest"] += slot_hours / UNREST_HOURS * (ratio - series["unrest"])
    if kind == ORDINARY:
        if usual > 0.0:
            rest = min(rest, CLIP_SPREADS * usual)
        counts[spread_bin] += slot_hours
        pace = slot_hours / min(float(counts[spread_bin]), SPREAD_MEMORY_HOURS)
        spreads[spread_bin] += min(pace, 1.0) * (rest * SD_PER_MEAN_ABS - spreads[spread_bin])
    _learn_mean(series, levels[slot] + series["level"] + residual, slot_hours)
    if usual > 0.0:
        # a deep low is a closed valve or an outage rather than a season: were it learned at once, its end would be a burst
        if residual < -CLIP_SPREADS * usual:
            residual *= DEEP_LOW_PACE
        bounded = min(max(residual, -CLIP_SPREADS * usual), CLIP_SPREADS * usual)
        series["level"] += slot_hours / LEVEL_HOURS * bounded
    _learn_shape(levels, weeks, slot, residual)


@njit(cache=False)
def _learn_mean(series: Record, value: float, slot_hours: float) -> None:
    before = series["mean_level"]
    series["mean_level"] = value if np.isnan(before) else before + slot_hours / 168.0 * (value - before)


@njit(cache=False)
def _learn_width(series: Record, which: int, ratio: float, slot_hours: float) -> None:
    """Take one slot's ratio of deviation to usual spread into the width of such days."""
    hours = min(series["width_hours"][which] + slot_hours, WIDTH_MEMORY_HOURS)
    series["width_hours"][which] = hours
    ratio = min(ratio, CLIP_SPREADS * series["widths"][which])
    series["widths"][which] = max(series["widths"][which] + slot_hours / hours * (ratio - series["widths"][which]), 1.0)


@njit(cache=False)
def _learn_shape(levels: NDArray[np.float32], weeks: NDArray[np.uint8], slot: int, residual: float) -> None:
    """Move the slot by its share of the error, and the same time of the other weekdays by less."""
    weeks[slot] = min(weeks[slot] + 1, MEMORY_WEEKS)
    own = 1.0 / weeks[slot]
    slots_of_day = levels.shape[0] // 7
    weekend = 5 * slots_of_day
    for k in range(slot % slots_of_day, levels.shape[0], slots_of_day):
        if k == slot:
            levels[k] += own * residual
        elif weeks[k] > 0:
            same = (k >= weekend) == (slot >= weekend)
            levels[k] += (SAME_KIND_GAIN if same else OTHER_KIND_GAIN) * residual
