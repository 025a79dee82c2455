"""Expected inflow and pressure for a slot of the local week, with its spread.

A series is the DMA's own net inflow, a neighbour's, or one pressure logger. Each slot of the week keeps one level, moved
by every new week with a gain of 1/n down to 1/6 (six weeks of memory); what is learned is clipped at three spreads from
the expectation (a Huber estimate), so an outlier moves it as little as a plausible value would. A slot is ready after
two weeks. Spread is the exponentially weighted mean absolute residual of the hour of the day, workday and weekend apart.

`drift` follows what the last hours had in common: weather and holidays move a whole day, a burst steps within a slot. (A
drift in spreads, which shrinks at night, was tried and lost: abrupt leaks of L-Town took twice as long.)
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.schema import Record

SERIES = np.dtype(
    [
        ("value", "<f8"),  # this slot: m3/h or kPa, NaN when missing
        ("expected", "<f8"),  # this slot: level of the slot of the week, NaN while warming up
        ("spread", "<f8"),  # this slot: one standard deviation of what is left after drift
        ("residual", "<f8"),  # this slot: value - expected - known events
        ("foreseen", "<f8"),  # this slot: expected + upward drift, NaN while warming up
        ("drift", "<f8"),  # exponentially weighted residual of the last hours
        ("z", "<f8"),  # this slot: (residual - upward drift) / spread
        ("mean_level", "<f8"),  # exponentially weighted mean of value over about a week
    ]
)
SPREAD_BINS: Final = 48  # hour of the day, workday and weekend
READY_WEEKS: Final = 2
MEMORY_WEEKS: Final = 6
DRIFT_HOURS: Final = 6.0
SPREAD_MEMORY_HOURS: Final = 20.0  # four weeks of one workday hour
CLIP_SPREADS: Final = 3.0
SD_PER_MEAN_ABS: Final = 1.2533141373155001  # sqrt(pi/2), of a normal variable
SPREAD_FLOOR: Final = 0.005  # of the level: no meter resolves better than half a percent


@njit(cache=False)
def expect(
    series: Record,
    levels: NDArray[np.float32],
    weeks: NDArray[np.uint8],
    spreads: NDArray[np.float32],
    slot: int,
    spread_bin: int,
    width: float,
    known: float,
) -> None:
    """Fill expected, spread, residual and z of one series (a record) for this slot.

    `levels`, `weeks` (slots of the week,), `spreads` (48,); `width`: of this kind of day, in usual spreads; `known`: excess
    of events already raised, same unit.
    """
    spread = max(float(spreads[spread_bin]), SPREAD_FLOOR * abs(series["mean_level"]))
    if weeks[slot] < READY_WEEKS or not spread > 0.0:
        series["expected"] = np.nan
        series["foreseen"] = np.nan
        series["spread"] = np.nan
        series["residual"] = np.nan
        series["z"] = np.nan
        return
    # Only upward drift is forgiven: flow coming back from a low (a closed valve, a holiday) is not a burst.
    upward = max(series["drift"], 0.0)
    series["expected"] = levels[slot]
    series["foreseen"] = levels[slot] + upward
    series["spread"] = spread * width
    series["residual"] = series["value"] - series["expected"] - known
    series["z"] = (series["residual"] - upward) / series["spread"]


@njit(cache=False)
def learn(
    series: Record,
    levels: NDArray[np.float32],
    weeks: NDArray[np.uint8],
    spreads: NDArray[np.float32],
    counts: NDArray[np.float32],
    slot: int,
    spread_bin: int,
    known: float,
    slot_hours: float,
    teach: bool,
) -> None:
    """Move level, spread and drift towards this slot's value less the `known` excess. Missing values teach nothing.

    `counts` (48,): hours learned per spread bin. Without `teach` only the drift, which forgets within hours, follows.
    """
    value = series["value"] - known
    if np.isnan(value):
        return
    if weeks[slot] >= 1:
        residual = value - levels[slot]
        known_spread = float(spreads[spread_bin])
        rest = abs(residual)
        if known_spread > 0.0 and counts[spread_bin] >= 2.0:
            limit = CLIP_SPREADS * max(known_spread, SPREAD_FLOOR * abs(series["mean_level"]))
            drift = series["drift"]
            residual = min(max(residual, drift - limit), drift + limit)
            rest = abs(residual - drift)
            series["drift"] += slot_hours / DRIFT_HOURS * (residual - drift)
        if not teach:
            return
        counts[spread_bin] += slot_hours
        pace = slot_hours / min(float(counts[spread_bin]), SPREAD_MEMORY_HOURS)
        spreads[spread_bin] += min(pace, 1.0) * (rest * SD_PER_MEAN_ABS - known_spread)
        value = levels[slot] + residual
    elif not teach:
        return
    before = series["mean_level"]
    series["mean_level"] = value if np.isnan(before) else before + slot_hours / 168.0 * (value - before)
    weeks[slot] = min(weeks[slot] + 1, MEMORY_WEEKS)
    levels[slot] += (value - levels[slot]) / weeks[slot]
