"""Events of meters: raised, followed and cleared, at most one at a time of each meter, and one of the DMA for all at once.

silent (data_gap) > stuck > no flow > reverse flow > spiking > clock > drift (`lone_loggers.py`): the first that holds is
raised, and stays until it is over.
Meters of which others report (neighbours' inflows) are watched, but raise nothing here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.clocks import begin_day, is_right, is_shifted, note_hour
from models.customers import AFTER_DAYS, BEGAN, OVER
from models.events import (
    CLEARED,
    CLOCK_SHIFTED,
    CLOSED,
    CUSTOMER_LEAK,
    DATA_GAP,
    DAY_MS,
    DEAD_METER,
    DRIFTING,
    FREE,
    HOUR_MS,
    INTERRUPTED,
    METER_FAULT,
    RAISED,
    REROUTED,
    REVERSE_FLOW,
    SPIKING,
    STUCK,
    UNKNOWN,
    ZERO_FLOW,
    begin,
    drop_night,
    emit,
)  # fmt: skip
from models.meters import watch_flat
from models.params import Params
from models.reopen import remember
from models.schema import NEVER, Record, Records
from models.state import EVENT, Buffers
from models.watch import (
    is_back,
    is_calm,
    is_known,
    is_reversed,
    is_silent,
    is_spiking,
    is_without_flow,
    silent_slots_allowed,
    watch_flow,
    watch_silence,
    watch_spikes,
)  # fmt: skip

COMMON_MS: Final = HOUR_MS  # silences that begin within this time have one cause
LASTING_MS: Final = 3 * HOUR_MS  # flow as usual, before an event of no flow or reverse flow is over
TAKEN_OVER: Final = 0.5  # of what a meter without flow should have brought: less is missing, so others have brought it
ALL_HOURS: Final = (1 << 24) - 1
STUCK_SLOTS: Final = 2  # before the first of equal values: a leak that seems to begin within them begins with it
PRESSURE_FELL_Z: Final = -1.0  # mean of the loggers over the time without flow


@njit(cache=False)
def watch_meters(b: Buffers, p: Params, values: NDArray[np.float64], slot_end_ms: int, day: int, minute: int) -> None:
    """Follow every meter through this slot, and take what is no evidence out of `values` (C,), which become NaN there.

    `minute` of the local `day` in which the slot begins.
    """
    if b.clocks.shape[0] > 0 and b.clocks[0]["day"] != day:
        begin_ms = slot_end_ms - p.slot_ms
        change = np.searchsorted(p.zone_changes_ms, begin_ms, "right") - 1
        begin_day(b.clocks, p.facts["is_home"], day, begin_ms, p.zone_changes_ms[change])
    for c in range(values.shape[0]):
        w, value = b.watch[c], values[c]
        w["value"] = value
        watch_silence(w, np.isnan(value), slot_end_ms, p.slot_ms, p.slot_hours)
        if p.areas_m2[0, c] > 0.0:  # a tank's level has its own ways
            continue
        is_wild = watch_spikes(w, value, slot_end_ms, p.slot_hours)
        if p.facts[c]["is_flow"]:
            w["flat"] = watch_flat(b.channels[c], value, slot_end_ms, p.slot_hours)
            if not is_wild:
                watch_flow(w, value, slot_end_ms, p.slot_ms, p.slot_hours, minute // 60)
        # no flow, and nobody took over: neither a dead meter nor a dry DMA says anything of leaks
        is_dead = b.faults[c]["type"] == ZERO_FLOW and b.faults[c]["cause"] != REROUTED
        if not is_wild:
            note_hour(b.clocks[c], value, minute // 60)
        if is_wild or w["flat"] or (is_dead and w["zero_slots"] > 0):
            values[c] = np.nan


@njit(cache=False)
def judge_meters(b: Buffers, p: Params, slot_end_ms: int, out: Records, count: int) -> int:
    """Raise and end the events of this DMA's meters after `watch_meters`; returns the new count of transitions in `out`."""
    count = withdraw(b, p, slot_end_ms, out, count)
    common = b.faults[b.watch.shape[0]]
    if common["type"] != FREE:
        count = end_common_gap(b, p, common, slot_end_ms, out, count)
    for c in range(b.watch.shape[0]):
        if not p.facts[c]["is_home"]:
            continue
        w, event = b.watch[c], b.faults[c]
        if w["zero_slots"] > 0:
            follow_zero(b, w)
        if event["type"] != FREE:
            count = end_fault(b, p, c, slot_end_ms, out, count)
        elif is_silent(w, p.slot_hours):
            if common["type"] == FREE:
                count = raise_gap(b, p, c, slot_end_ms, out, count)
        elif w["flat"] == 2:
            count = raise_fault(b, c, METER_FAULT, STUCK, b.channels[c]["flat_since_ms"], slot_end_ms, out, count)
        elif p.facts[c]["is_flow"] and is_without_flow(w, p.slot_hours):
            why = why_no_flow(p.signs[0, c], w)
            count = raise_fault(b, c, ZERO_FLOW, why, w["zero_since_ms"], slot_end_ms, out, count)
        elif p.facts[c]["is_flow"] and is_reversed(w, p.slot_hours):
            count = raise_fault(b, c, REVERSE_FLOW, UNKNOWN, w["reverse_since_ms"], slot_end_ms, out, count)
        elif is_spiking(w, p.slot_hours):
            count = raise_fault(b, c, METER_FAULT, SPIKING, w["spiking_since_ms"], slot_end_ms, out, count)
        elif is_shifted(b.clocks[c]):
            since_ms = b.clocks[c]["lag_since_ms"]
            count = raise_fault(b, c, METER_FAULT, CLOCK_SHIFTED, since_ms, slot_end_ms, out, count)
    return count


@njit(cache=False)
def withdraw(b: Buffers, p: Params, slot_end_ms: int, out: Records, count: int) -> int:
    """End the leaks that began when a flow meter got stuck, and that no pressure has shown: it is all that they rest on.

    A meter that stops at a value above what the night takes is a burst to the inflow, hours before it is known to be stuck.
    """
    for c in range(b.watch.shape[0]):
        if b.watch[c]["flat"] != 2 or p.signs[0, c] == 0:
            continue
        since_ms = b.channels[c]["flat_since_ms"] - STUCK_SLOTS * p.slot_ms
        for i in range(b.events.shape[0]):
            event = b.events[i]
            if event["type"] == FREE or event["logger"] >= 0 or event["started_ms"] < since_ms:
                continue
            event["cause"], event["channel"] = STUCK, c
            event["ended_ms"], event["lost_m3"] = slot_end_ms, 0.0
            event["metered_days"] = 0
            count = emit(event, CLEARED, slot_end_ms, out, count)
            remember(b, event, False)
            event["type"] = FREE
            drop_night(b)
    return count


@njit(cache=False)
def follow_zero(b: Buffers, w: Record) -> None:
    """Add this slot to what is known of a run without flow: whether the DMA misses the meter's share, and its pressure."""
    own = b.series[0]
    if np.isnan(own["residual"]) or not own["mean_level"] > 0.0:
        return
    w["zero_due_m3h"] += own["expected"] * w["mean_m3h"] / own["mean_level"]
    w["zero_rest_m3h"] += own["residual"]
    if not np.isnan(b.row[0]["pressure_z"]):
        w["zero_pressure_z"] += b.row[0]["pressure_z"]
        w["zero_pressure_slots"] += 1


@njit(cache=False)
def why_no_flow(sign: int, w: Record) -> int:
    """What a run without flow means, from what the rest of the DMA did meanwhile.

    Net inflow as expected: others took over, so a valve is closed or the flow goes another way. The meter's share is
    missing: where pressure fell, supply is interrupted; where it did not, nobody misses that water but the meter. Without
    pressure loggers the two can't be told apart.
    """
    if not w["zero_due_m3h"] > 0.0 or sign == 0:
        return UNKNOWN
    if sign * w["zero_rest_m3h"] > -TAKEN_OVER * w["zero_due_m3h"]:
        return REROUTED
    if w["zero_pressure_slots"] == 0:
        return UNKNOWN
    return INTERRUPTED if w["zero_pressure_z"] < PRESSURE_FELL_Z * w["zero_pressure_slots"] else DEAD_METER


@njit(cache=False)
def raise_gap(b: Buffers, p: Params, channel: int, slot_end_ms: int, out: Records, count: int) -> int:
    """A silent meter; where most of the DMA's meters fell silent with it, one event for all. Returns the new count."""
    run = b.watch[channel]["silent_slots"]
    known = together = 0
    for c in range(b.watch.shape[0]):
        w = b.watch[c]
        if not p.facts[c]["is_home"] or not is_known(w, p.slot_hours):
            continue
        known += 1
        apart = abs(w["silent_slots"] - run) - w["usual_silent_slots"]
        is_quiet = w["silent_slots"] > w["usual_silent_slots"] and b.faults[c]["type"] != DATA_GAP
        together += is_quiet and apart * p.slot_ms <= COMMON_MS
    is_common = together >= 2 and 2 * together >= known
    event = b.faults[b.watch.shape[0] if is_common else channel]
    begin(event, DATA_GAP, slot_end_ms - run * p.slot_ms, slot_end_ms, 0.0)
    event["channel"], event["score"] = -1 if is_common else channel, 1.0
    event["slots"], event["nights_gone"] = together if is_common else 1, known
    note_silence(event, run * p.slot_hours, b.watch[channel], p.slot_hours)
    return emit(event, RAISED, slot_end_ms, out, count)


@njit(cache=False)
def note_silence(event: Record, silent_h: float, w: Record, slot_hours: float) -> None:
    """Hours of silence, and what is usual."""
    event["observed"] = silent_h
    event["expected"] = w["usual_silent_slots"] * slot_hours
    event["lower"] = 0.0
    event["upper"] = silent_slots_allowed(w, slot_hours) * slot_hours


@njit(cache=False)
def end_common_gap(b: Buffers, p: Params, event: Record, slot_end_ms: int, out: Records, count: int) -> int:
    """Clear the DMA's gap once most of its meters are back for good; who is not is silent alone. Returns the new count."""
    known = silent = 0
    ended_ms = NEVER
    for c in range(b.watch.shape[0]):
        w = b.watch[c]
        if not p.facts[c]["is_home"] or not is_known(w, p.slot_hours):
            continue
        known += 1
        if is_back(w, slot_end_ms):
            if w["back_ms"] > event["started_ms"]:
                ended_ms = max(ended_ms, w["back_ms"])
        else:
            silent += 1
    if silent >= 2 and 2 * silent >= known:
        return count
    event["observed"] = (ended_ms - event["started_ms"]) / HOUR_MS
    return end(event, CLEARED, ended_ms, slot_end_ms, out, count)


@njit(cache=False)
def raise_fault(
    b: Buffers, channel: int, kind: int, cause: int, started_ms: int, slot_end_ms: int, out: Records, count: int
) -> int:
    """A new event of one meter; returns the new count."""
    event, w = b.faults[channel], b.watch[channel]
    begin(event, kind, started_ms, slot_end_ms, 0.0)
    event["channel"], event["cause"], event["score"] = channel, cause, 1.0
    event["observed"], event["expected"] = w["value"], w["mean_m3h"]
    event["lower"] = event["upper"] = np.nan
    event["slots"] = w["zero_slots"] if kind == ZERO_FLOW else w["reverse_slots"]
    if cause == STUCK:
        event["slots"], event["expected"] = b.channels[channel]["flat_slots"], np.nan
    elif cause == SPIKING:
        event["observed"], event["expected"] = w["spikes"], w["usual_spikes"]
    elif cause == CLOCK_SHIFTED:
        event["observed"], event["expected"] = 60.0 * b.clocks[channel]["lag_h"], 0.0
        event["slots"] = b.clocks[channel]["lag_days"]
    return emit(event, RAISED, slot_end_ms, out, count)


@njit(cache=False)
def end_fault(b: Buffers, p: Params, channel: int, slot_end_ms: int, out: Records, count: int) -> int:
    """Clear one meter's event when it is over, or close it as the new normal; returns the new count."""
    event, w = b.faults[channel], b.watch[channel]
    kind = event["type"]
    ended_ms = NEVER
    if kind == DATA_GAP:
        if is_back(w, slot_end_ms):
            ended_ms = w["back_ms"]
            event["observed"] = (ended_ms - event["started_ms"]) / HOUR_MS
    elif not np.isnan(w["value"]) and is_fault_over(b, channel, slot_end_ms, p.slot_ms):
        ended_ms = slot_end_ms - p.slot_ms if event["below_ms"] == NEVER else event["below_ms"]
        if event["cause"] != CLOCK_SHIFTED:
            event["observed"] = w["spikes"] if event["cause"] == SPIKING else w["value"]
    if ended_ms != NEVER:
        return end(event, CLEARED, ended_ms, slot_end_ms, out, count)
    lasts = kind in (ZERO_FLOW, REVERSE_FLOW) or event["cause"] in (CLOCK_SHIFTED, DRIFTING)
    if lasts and slot_end_ms - event["detected_ms"] >= p.accept_ms:
        if event["cause"] == CLOCK_SHIFTED:
            b.clocks[channel]["days"], b.clocks[channel]["lag_h"], b.clocks[channel]["lag_days"] = 0, 0, 0
        elif event["cause"] != DRIFTING:
            accept(w, kind)
        return end(event, CLOSED, NEVER, slot_end_ms, out, count)
    return count


@njit(cache=False)
def is_fault_over(b: Buffers, channel: int, slot_end_ms: int, slot_ms: int) -> bool:
    """Whether one meter's event, no data gap, is over at a slot in which it has a value."""
    event, w, clock = b.faults[channel], b.watch[channel], b.clocks[channel]
    if event["cause"] == STUCK:
        return w["flat"] != 2 and b.channels[channel]["flat_slots"] == 0
    if event["cause"] == SPIKING:
        return is_calm(w)
    if event["cause"] == DRIFTING:  # its offset has been learned: nothing tells that it is right again
        return False
    if event["cause"] == CLOCK_SHIFTED:
        if is_right(clock):
            event["below_ms"] = clock["lag_since_ms"]
        return is_right(clock)
    run = w["zero_slots"] if event["type"] == ZERO_FLOW else w["reverse_slots"]
    return is_as_usual(event, run, slot_end_ms, slot_ms)


@njit(cache=False)
def is_as_usual(event: Record, run: int, slot_end_ms: int, slot_ms: int) -> bool:
    """Whether an event of no flow, or of reverse flow, has been over for long enough; `run`: such slots in a row by now."""
    if run > 0:
        event["below_ms"] = NEVER
        return False
    if event["below_ms"] == NEVER:
        event["below_ms"] = slot_end_ms - slot_ms
    return slot_end_ms - event["below_ms"] >= LASTING_MS


@njit(cache=False)
def accept(w: Record, kind: int) -> None:
    """What has lasted so long is the meter's habit."""
    if kind == ZERO_FLOW:
        w["usual_zero_slots"] = w["zero_slots"]
    else:
        w["usual_reverse_slots"], w["strange_slots"], w["reverse_hours"] = w["reverse_slots"], 0, ALL_HOURS


@njit(cache=False)
def end(event: Record, change: int, ended_ms: int, slot_end_ms: int, out: Records, count: int) -> int:
    """Write the last revision and free the row; returns the new count."""
    event["ended_ms"] = ended_ms
    count = emit(event, change, slot_end_ms, out, count)
    event["type"] = FREE
    return count


def customer_transition(use: Record, channel: int, change: int, day: int) -> Record:
    """The event (EVENT) of one customer meter's run of days without rest, as `customers.judge_all` tells it of a day."""
    event = np.zeros(1, EVENT)[0]
    begin(event, CUSTOMER_LEAK, int(use["since_day"]) * DAY_MS, (day + AFTER_DAYS) * DAY_MS, float(use["low_m3h"]))
    event["channel"], event["score"] = channel, 1.0
    event["change"], event["revision"] = (RAISED, 1) if change == BEGAN else (CLEARED, 2)
    event["updated_ms"] = event["detected_ms"]
    if change == OVER:
        event["ended_ms"] = int(use["calm_day"]) * DAY_MS
        event["detected_ms"] = int(use["told_day"]) * DAY_MS
    until_day = int(use["calm_day"]) if change == OVER else day + 1
    event["observed"], event["expected"], event["lower"], event["upper"] = use["low_m3h"], 0.0, 0.0, np.nan
    event["slots"] = until_day - int(use["since_day"])
    event["lost_m3"] = 24.0 * event["slots"] * event["excess_m3h"]
    return event
