"""What a meter does that its own past doesn't know: silence, no flow, reverse flow, single wild values.

Each slot is followed meter by meter, on the slot's value alone, so that no cut of the stream makes a difference. A run of
silent (zero, reverse) slots is held against the longest such run that ended by itself: a meter that uploads once a day, a
pump that stops every night have their habits. A run that was reported teaches at most a doubling of the habit, so one long
outage doesn't blind the watch, and outages that come again become one. Nothing is said before 14 days have been watched.

Events are made of this in `faults.py`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from models.schema import NEVER, Record, Records

WATCH = np.dtype(
    [
        ("watched_slots", "<i4"),  # slots since the first value
        ("valued_slots", "<i4"),  # of these, with a value
        ("silent_slots", "<i4"),  # in a row, up to this one
        ("usual_silent_slots", "<f4"),  # longest run that ended by itself; fades over months
        ("back_slots", "<i4"),  # slots with a value since the last silence beyond the habit
        ("back_ms", "<i8"),  # begin of the first of these
        ("value", "<f8"),  # of this slot, as it came
        ("flat", "u1"),  # what `meters.watch_flat` says of this slot
        ("mean_m3h", "<f8"),  # mean of the flow's size, about a week
        ("zero_slots", "<i4"),  # slots in a row that are next to nothing
        ("usual_zero_slots", "<f4"),
        ("zero_since_ms", "<i8"),
        ("zero_share", "<f4"),  # share of such slots in about a month
        ("zero_due_m3h", "<f8"),  # sum over the run: what the meter should have brought its DMA
        ("zero_rest_m3h", "<f8"),  # sum over the run: what its DMA's net inflow had beyond expectation
        ("zero_pressure_z", "<f8"),  # sum over the run: what the loggers had beyond expectation
        ("zero_pressure_slots", "<i4"),  # slots of the run in which they had a word
        ("reverse_slots", "<i4"),  # slots in a row with reverse flow
        ("usual_reverse_slots", "<f4"),
        ("reverse_since_ms", "<i8"),
        ("reverse_hours", "<i4"),  # hours of the day in which flow has been seen to reverse, as bits
        ("strange_slots", "<i4"),  # of the run, those in other hours
        ("accepted", "<f8"),  # last value that was taken for true
        ("before", "<f8"),  # the one before it
        ("high", "<f8"),  # largest accepted value, fading over a month towards what comes
        ("low", "<f8"),
        ("held", "<f8"),  # a wild value of the last slot, taken out until the next one tells; NaN: none
        ("step", "<f8"),  # mean size of a step from slot to slot, about a week, outliers clipped
        ("spikes", "<f4"),  # jumps up and straight back, about a day
        ("usual_spikes", "<f4"),  # the same over about two months
        ("spiking_since_ms", "<i8"),  # first of the spikes that still count
    ]
)
"""One row per meter that slots wait for, in the order of `Site.channels`."""

HABIT: Final = 3.0  # times the longest run that ended by itself
FADE_HOURS: Final = 60 * 24.0  # of a habit
SILENT_HOURS: Final = 12.0  # a shorter silence is for the data health, not for an alert
BACK_MS: Final = 3 * 3_600_000  # with values, before a meter counts as back
WATCH_HOURS: Final = 14 * 24.0
FEWEST_VALUES: Final = 48  # a meter with fewer values has no habits yet
NOTHING: Final = 0.01  # of the mean flow: next to nothing
ZERO_HOURS: Final = 4.0  # without flow, where there has always been some
RARELY: Final = 0.02  # share of slots without flow of an inlet that always carries water
OFTEN_HOURS: Final = 24.0  # without flow, where that is not rare
REVERSE_HOURS: Final = 4.0
REVERSED: Final = 0.03  # of the mean flow
WEEK_HOURS: Final = 168.0
MONTH_HOURS: Final = 720.0
SPIKE_STEPS: Final = 8.0  # usual steps, up and straight back
OUTSIDE: Final = 0.25  # of the range: so far beyond it
RETURNED: Final = 0.25  # of the jump: so much may be left of it
FEW_SPIKES: Final = 3.0  # within about a day
DAY_HOURS: Final = 24.0


def new_watch(meters: int) -> Records:
    """Rows that have seen nothing."""
    watch = np.zeros(meters, WATCH)
    for name in ("back_ms", "zero_since_ms", "reverse_since_ms", "spiking_since_ms"):
        watch[name] = NEVER
    for name in ("value", "mean_m3h", "accepted", "before", "high", "low", "held"):
        watch[name] = np.nan
    return watch


@njit(cache=False)
def is_known(w: Record, slot_hours: float) -> bool:
    """Whether the meter has been watched long enough to judge it."""
    return w["watched_slots"] * slot_hours >= WATCH_HOURS and w["valued_slots"] >= FEWEST_VALUES


@njit(cache=False)
def habit_after(usual: float, run: float, least: float) -> float:
    """Longest usual run once a run has ended. One beyond twice the habit, and `least`, teaches no more than that."""
    return max(usual, min(run, max(2.0 * usual, least)))


@njit(cache=False)
def watch_silence(w: Record, is_missing: bool, slot_end_ms: int, slot_ms: int, slot_hours: float) -> None:
    """Follow the slots without a value of one meter (a WATCH record)."""
    if w["watched_slots"] == 0 and is_missing:
        return
    w["watched_slots"] += 1
    if is_missing:
        w["silent_slots"] += 1
        if w["silent_slots"] > w["usual_silent_slots"]:
            w["back_slots"] = 0
        return
    w["valued_slots"] += 1
    if w["silent_slots"] > 0:
        w["usual_silent_slots"] = habit_after(w["usual_silent_slots"], w["silent_slots"], SILENT_HOURS / HABIT / slot_hours)
        w["silent_slots"] = 0
    w["usual_silent_slots"] *= 1.0 - slot_hours / FADE_HOURS
    if w["back_slots"] == 0:
        w["back_ms"] = slot_end_ms - slot_ms
    w["back_slots"] += 1


@njit(cache=False)
def is_back(w: Record, slot_end_ms: int) -> bool:
    """Whether the meter has had values for a while since its last silence."""
    return w["back_slots"] >= 2 and slot_end_ms - w["back_ms"] >= BACK_MS


@njit(cache=False)
def silent_slots_allowed(w: Record, slot_hours: float) -> float:
    """Longest silence that is still nothing to report."""
    return max(SILENT_HOURS / slot_hours, HABIT * w["usual_silent_slots"] + 1.0)


@njit(cache=False)
def is_silent(w: Record, slot_hours: float) -> bool:
    """Whether the meter has been silent for much longer than is its habit."""
    return w["silent_slots"] > silent_slots_allowed(w, slot_hours) and is_known(w, slot_hours)


@njit(cache=False)
def watch_flow(w: Record, value: float, slot_end_ms: int, slot_ms: int, slot_hours: float, hour: int) -> None:
    """Follow the slots without flow, and those with reverse flow, of one meter; a missing value changes nothing.

    `hour` of the local day. `mean_m3h` learns nothing from a run beyond the habit.
    """
    if np.isnan(value):
        return
    size = abs(value)
    known = min(w["valued_slots"] * slot_hours, MONTH_HOURS)  # so that the beginning weighs as much as what follows
    pace = slot_hours / max(min(known, WEEK_HOURS), slot_hours)
    mean = size if np.isnan(w["mean_m3h"]) else w["mean_m3h"]
    is_zero = size <= NOTHING * mean
    if is_zero:
        if w["zero_slots"] == 0:
            w["zero_since_ms"] = slot_end_ms - slot_ms
            w["zero_due_m3h"] = w["zero_rest_m3h"] = w["zero_pressure_z"] = 0.0
            w["zero_pressure_slots"] = 0
        w["zero_slots"] += 1
    else:
        if w["zero_slots"] > 0:
            w["usual_zero_slots"] = habit_after(w["usual_zero_slots"], w["zero_slots"], ZERO_HOURS / HABIT / slot_hours)
            w["zero_slots"] = 0
        w["usual_zero_slots"] *= 1.0 - slot_hours / FADE_HOURS
    if w["zero_slots"] <= max(w["usual_zero_slots"], 1.0):
        w["mean_m3h"] = mean + pace * (size - mean)
        w["zero_share"] += slot_hours / max(known, slot_hours) * (is_zero - w["zero_share"])
    if value < -REVERSED * mean:
        if w["reverse_slots"] == 0:
            w["reverse_since_ms"] = slot_end_ms - slot_ms
        w["reverse_slots"] += 1
        w["strange_slots"] += (w["reverse_hours"] >> hour) & 1 == 0
        if not is_known(w, slot_hours):
            w["reverse_hours"] |= 1 << hour
    elif w["reverse_slots"] > 0:
        run = float(w["reverse_slots"])
        w["usual_reverse_slots"] = habit_after(w["usual_reverse_slots"], run, REVERSE_HOURS / HABIT / slot_hours)
        w["reverse_hours"] |= hours_of(hour, run * slot_hours)
        w["reverse_slots"] = w["strange_slots"] = 0


@njit(cache=False)
def hours_of(hour: int, lasting_h: float) -> int:
    """The hours of the day, as bits, of a run that has just ended in `hour`."""
    mask = 0
    for back in range(min(int(lasting_h) + 2, 24)):
        mask |= 1 << ((hour - back) % 24)
    return mask


@njit(cache=False)
def is_without_flow(w: Record, slot_hours: float) -> bool:
    """Whether the meter shows no flow for much longer than is its habit."""
    least = ZERO_HOURS if w["zero_share"] < RARELY else OFTEN_HOURS
    longest = max(least / slot_hours, HABIT * w["usual_zero_slots"] + 1.0)
    return w["zero_slots"] >= longest and is_known(w, slot_hours)


@njit(cache=False)
def is_reversed(w: Record, slot_hours: float) -> bool:
    """Whether flow has been reversed for long at a meter that never had it, or had it at other hours or far shorter."""
    least = REVERSE_HOURS / slot_hours
    strange = w["strange_slots"] >= least or w["reverse_slots"] >= max(least, HABIT * w["usual_reverse_slots"] + 1.0)
    return strange and is_known(w, slot_hours)


@njit(cache=False)
def watch_spikes(w: Record, value: float, slot_end_ms: int, slot_hours: float) -> bool:
    """Follow jumps of one meter; True when this slot's value is so wild that it is no evidence yet.

    Wild is what lies further outside the range of about a month than that range is wide. The next slot tells: a step that
    stays is no spike and is taken for true from its second slot on, so a burst of any size is held up by one slot at most.
    A spike is what jumped out of the range by eight usual steps and went straight back.
    """
    fading = 1.0 - slot_hours / DAY_HOURS
    w["spikes"] *= fading
    if is_known(w, slot_hours):
        if w["spikes"] < FEW_SPIKES:  # an open fault teaches no habit
            w["usual_spikes"] += slot_hours / FADE_HOURS * (w["spikes"] - w["usual_spikes"])
    else:
        w["usual_spikes"] = max(w["usual_spikes"] * (1.0 - slot_hours / FADE_HOURS), w["spikes"])
    if np.isnan(value):
        return False
    last = w["accepted"]
    if np.isnan(last):
        w["accepted"] = w["high"] = w["low"] = value
        return False
    reach = w["high"] - w["low"]
    is_high, is_low = value > w["high"] + reach, value < w["low"] - reach
    held = w["held"]
    if (is_high or is_low) and is_known(w, slot_hours):
        if np.isnan(held) or (held > last) != is_high:
            if not np.isnan(held):
                count_spike(w, slot_end_ms)
            w["held"] = value
            return True
    elif not np.isnan(held):
        count_spike(w, slot_end_ms)
    elif is_spike(w, value):
        count_spike(w, slot_end_ms)
        last = w["before"]  # the way back is no step of its own
    else:
        widen(w, last, slot_hours)  # a slot behind, so that no spike widens the range
    if not np.isnan(held):
        widen(w, value, slot_hours)
    learn_step(w, abs(value - last), slot_hours)
    w["held"], w["before"], w["accepted"] = np.nan, last, value
    return False


@njit(cache=False)
def learn_step(w: Record, jump: float, slot_hours: float) -> None:
    """Let the usual step know one more, of three times its size at most."""
    known = max(min(w["valued_slots"] * slot_hours, WEEK_HOURS), slot_hours)
    if w["step"] > 0.0 and known >= DAY_HOURS:
        jump = min(jump, 3.0 * w["step"])
    w["step"] += slot_hours / known * (jump - w["step"])


@njit(cache=False)
def widen(w: Record, value: float, slot_hours: float) -> None:
    """Let the range of about a month know one more value."""
    pace = slot_hours / MONTH_HOURS
    w["high"] = max(value, w["high"] - pace * (w["high"] - value))
    w["low"] = min(value, w["low"] + pace * (value - w["low"]))


@njit(cache=False)
def is_spike(w: Record, after: float) -> bool:
    """Whether the last accepted value jumped out of the meter's range and straight back. NaN is no spike."""
    before, middle = w["before"], w["accepted"]
    beyond = OUTSIDE * (w["high"] - w["low"])
    if w["low"] - beyond <= middle <= w["high"] + beyond:
        return False  # pumps start and stop within their range
    up, down = middle - before, after - middle
    return abs(up) > SPIKE_STEPS * w["step"] > 0.0 and up * down < 0.0 and abs(after - before) < RETURNED * abs(up)


@njit(cache=False)
def count_spike(w: Record, slot_end_ms: int) -> None:
    """One more."""
    if w["spikes"] < 0.5:
        w["spiking_since_ms"] = slot_end_ms
    w["spikes"] += 1.0


@njit(cache=False)
def is_spiking(w: Record, slot_hours: float) -> bool:
    """Whether the meter spikes far more often than is its habit."""
    return w["spikes"] > FEW_SPIKES + HABIT * w["usual_spikes"] and is_known(w, slot_hours)


@njit(cache=False)
def is_calm(w: Record) -> bool:
    """Whether a spiking meter has become as it was."""
    return w["spikes"] <= 1.0 + w["usual_spikes"]
