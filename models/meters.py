"""From meters' slot values to series: flat lines, tank storage, net inflow. And registers to flows."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.schema import NEVER, Record, Records

SUSPECT_SLOTS: Final = 4  # so many equal values in a row, beyond the meter's habit, are no evidence any more
FAULT_HOURS: Final = 3.0  # and after at least so long the meter is reported
WARM_UP_HOURS: Final = 14 * 24.0  # before, habits are only learned: a small DMA's night may be one value for hours
HABIT: Final = 2  # times the longest run that ended by itself
HABIT_HOURS: Final = 12.0  # a longer run is no habit
SWAP_PEAKS: Final = 10.0  # no main carries ten times the largest flow it ever had: the register was swapped
METER_ROUND_M3: Final = 100_000.0  # registers of five whole digits and up roll over at a power of ten


@njit(cache=False)
def flat_slots_allowed(usual: int) -> int:
    """Longest run of equal values that is still evidence, for a meter whose longest run that ended was `usual`."""
    return max(SUSPECT_SLOTS, HABIT * usual + 1)


@njit(cache=False)
def watch_flat(channel: Record, value: float, slot_end_ms: int, slot_hours: float) -> int:
    """Follow runs of exactly equal values of one channel (a record). 0: fine, 1: suspect, 2: stuck.

    A value of 0 is never a flat line: pumps stop and inlets close. A missing value changes nothing.
    """
    if np.isnan(value):
        return 0
    if value == channel["last_value"] and value != 0.0:
        channel["flat_slots"] += 1
    else:
        if channel["flat_slots"] * slot_hours <= HABIT_HOURS:
            channel["usual_flat_slots"] = max(channel["usual_flat_slots"], channel["flat_slots"])
        channel["flat_slots"] = 0
        channel["flat_since_ms"] = slot_end_ms
    channel["last_value"] = value
    channel["valued_slots"] += 1
    if channel["valued_slots"] * slot_hours < WARM_UP_HOURS:
        return 0
    if channel["flat_slots"] < flat_slots_allowed(channel["usual_flat_slots"]):
        return 0
    return 2 if channel["flat_slots"] * slot_hours >= FAULT_HOURS else 1


@njit(cache=False)
def partial_inflow(
    signs: NDArray[np.int8],
    areas_m2: NDArray[np.float64],
    values: NDArray[np.float64],
    channels: Records,
    slot_hours: float,
) -> float:
    """`net_inflow` (m3/h) without the flows that are missing; NaN where a tank's level is."""
    total = 0.0
    for c in range(values.shape[0]):
        if signs[c] != 0 and not np.isnan(values[c]):
            total += signs[c] * values[c]
        if areas_m2[c] > 0.0:
            total -= areas_m2[c] * (values[c] - channels[c]["level_m"]) / slot_hours
    return total


@njit(cache=False)
def net_inflow(
    signs: NDArray[np.int8],
    areas_m2: NDArray[np.float64],
    values: NDArray[np.float64],
    channels: Records,
    slot_hours: float,
) -> float:
    """Net inflow (m3/h) of one DMA in one slot: inlets - outlets + storage released. NaN when any part is missing.

    `signs`, `areas_m2`, `values` (C,): m3/h for flows, m for levels at the end of the slot; the level at its begin is
    the channels' `level_m`.
    """
    for c in range(values.shape[0]):
        if signs[c] != 0 and np.isnan(values[c]):
            return np.nan
    return partial_inflow(signs, areas_m2, values, channels, slot_hours)


@njit(cache=False)
def register_flow(channel: Record, time_ms: int, register_m3: float) -> float:
    """Mean flow (m3/h) since the last register reading of this channel (a record); NaN where it can't be told.

    A small step back is true reverse flow. A fall from above nine tenths of a power of ten to below one tenth is a
    rollover. What would be more than ten times the largest flow so far, forwards or backwards, is a swapped meter: that
    interval has no flow, the next one starts from the new register.
    """
    before_m3, before_ms = channel["register_m3"], channel["register_ms"]
    if before_ms != NEVER and time_ms <= before_ms:
        return np.nan
    channel["register_m3"], channel["register_ms"] = register_m3, time_ms
    if before_ms == NEVER:
        return np.nan
    step = register_m3 - before_m3
    if step < 0.0:
        modulus = METER_ROUND_M3
        while modulus <= before_m3:
            modulus *= 10.0
        if before_m3 > 0.9 * modulus and register_m3 < 0.1 * modulus:
            step += modulus
    flow = step * 3_600_000.0 / (time_ms - before_ms)
    peak = channel["register_peak_m3h"]
    is_swap = (peak > 0.0 and abs(flow) > SWAP_PEAKS * peak) or (step < 0.0 and register_m3 < 0.5 * before_m3)
    if is_swap and not channel["register_doubt"]:
        channel["register_doubt"] = 1
        return np.nan
    channel["register_doubt"] = 0
    channel["register_peak_m3h"] = max(peak, flow)
    return flow
