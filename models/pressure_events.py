"""From the pressures' evidence to events, and their end where the flow never saw them.

(no event) --pressure step >= 0.5, or >= 0.35 with burst >= 0.35--> burst; night_flow_leak when it took hours
           --pressure trend >= 0.5--------------------------------> night_flow_leak

A leak that is open takes either as one more voice, but for a step elsewhere that the inflow took as well. An event of
pressures alone ends when the logger that showed it has risen by most of its fall for 12 h. A leak that begins or ends
moves every residual: what they usually are is then learned anew.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import calibration, pairs
from models.detectors import BURST, PRESSURE_STEP, PRESSURE_TREND, pressure_step
from models.events import (
    BURST_EVENT,
    CLEARED,
    CORROBORATED,
    DAY_MS,
    FREE,
    HOUR_MS,
    METER_FAULT,
    NIGHT_FLOW_LEAK,
    RAISED,
    SETTLING_MS,
    THRESHOLD,
    emit,
    is_any_leak_open,
    is_pressure_only,
    note_band,
    note_scale,
    note_scores,
    open_event,
)  # fmt: skip
from models.kernels import window_median
from models.params import Params
from models.schema import NEVER, Record, Records
from models.state import Buffers

RISEN: Final = 0.6  # of the fall
CLEAR_MS: Final = 12 * HOUR_MS
NIGHT_SPEAKS_Z: Final = 1.0
ABRUPT_MS: Final = 3 * HOUR_MS  # what took longer to pass the threshold is a leak that grows
JUMP_Z: Final = -4.0  # growth of a leak does not reach this within a slot
ALARM_DAYS: Final = 89.0  # as if so many were known
GROWING_MS: Final = 14 * DAY_MS  # a trend within this time after the raise is growth, not a second leak


@njit(cache=False)
def note_logger(event: Record, logger: int, following: int, fall_kpa: float, since_ms: int) -> None:
    """The loggers that showed the event; the first to speak stay, or the alert would name others with each slot."""
    if event["logger"] < 0:
        event["logger"], event["second_logger"] = logger, following
        event["fall_kpa"], event["fall_ms"] = fall_kpa, since_ms


@njit(cache=False)
def same_cause(events: Records, slot_end_ms: int, young_ms: int, logger: int, following: int, is_new: bool) -> int:
    """Row of the open leak that this evidence belongs to, or -1: of the same loggers, or raised less than `young_ms` ago.

    Else only what `is_new`, a step that the inflow took as well, is another leak; the rest is that one's growth, which
    spreads from logger to logger. (Each of them by itself: 9 alarms for one leak of L-Town's May, 2026-11-27.)
    """
    found = -1
    for i in range(events.shape[0]):
        event = events[i]
        if event["type"] in (FREE, METER_FAULT):
            continue
        is_here = event["logger"] >= 0 and (
            event["logger"] in (logger, following) or event["second_logger"] in (logger, -2 if following < 0 else following)
        )
        is_young = slot_end_ms - event["detected_ms"] < young_ms and (event["type"] != NIGHT_FLOW_LEAK or not is_new)
        if is_young or (is_here and not is_new):
            return i
        if not is_new and (found < 0 or event["detected_ms"] > events[found]["detected_ms"]):
            found = i
    return found


@njit(cache=False)
def recent_excess(b: Buffers, slots: int) -> float:
    """Median excess (m3/h) of the net inflow in the last slots, at most the ring's; 0 where there is none."""
    recent = np.empty(max(1, min(slots, b.flow_z.shape[0])))
    for i in range(recent.shape[0]):
        recent[i] = b.flow_z[(b.row[0]["position"] - i) % b.flow_z.shape[0]]
    excess = window_median(recent) * b.series[0]["spread"]
    return max(excess, 0.0) if not np.isnan(excess) else 0.0


@njit(cache=False)
def tell_pressure_calibrations(b: Buffers, p: Params, event: Record, scores: NDArray[np.float32], is_shared: bool) -> None:
    """As `events.tell_calibrations`; but what the flow has shared (`is_shared`) was no noise of the pressures'.

    And noise lifts their thresholds by a fifteenth, not the more the fewer days are known: true leaks in the first months
    of L-Town would otherwise have lifted them from 10 to 70 (2026-11-27).
    """
    days = (event["detected_ms"] - event["started_ms"]) // DAY_MS + 1
    for d in range(b.calibrations.shape[0]):
        own = b.calibrations[d]
        if d not in (PRESSURE_STEP, PRESSURE_TREND):
            calibration.alarm(own, p.return_days, scores[d], days)
            continue
        known = own["days"]
        own["days"] = max(known, ALARM_DAYS)
        calibration.alarm(own, p.return_days, 0.0 if is_shared else scores[d], days)
        own["days"] = known


@njit(cache=False)
def judge_step(
    b: Buffers,
    p: Params,
    scores: NDArray[np.float32],
    most: int,
    following: int,
    slot_end_ms: int,
    coverage: float,
    out: Records,
    count: int,
) -> int:
    """What this slot's pressures say of a burst: a new event, or a voice for an open one; returns the new count."""
    enough = scores[PRESSURE_STEP] >= THRESHOLD or (scores[PRESSURE_STEP] >= CORROBORATED and scores[BURST] >= CORROBORATED)
    if most < 0 or not enough:
        return count
    logger = b.loggers[most]
    fall, since_ms = logger["fall"] / logger["slots"], logger["since_ms"]
    is_shared = pressure_step.flow_word(logger) >= pressure_step.FLOW_SPEAKS_Z
    is_abrupt = slot_end_ms - since_ms <= ABRUPT_MS
    is_jump = is_shared and logger["z"] <= JUMP_Z
    is_new = is_abrupt and (is_jump or scores[BURST] >= CORROBORATED)
    i = same_cause(b.events, slot_end_ms, SETTLING_MS, most, following, is_new)
    if i >= 0:
        hear(b, b.events[i], scores, most, following, fall, since_ms)
        return count
    kind = BURST_EVENT if is_abrupt else NIGHT_FLOW_LEAK
    i = open_event(b, kind, since_ms, slot_end_ms, recent_excess(b, logger["slots"]))
    if i < 0:
        return count
    event, own = b.events[i], b.series[0]
    event["slots"] = logger["slots"]
    note_scores(event, scores, b.row[0]["pressure_z"])
    note_logger(event, most, following, fall, since_ms)
    note_band(event, own["value"], own["foreseen"], own["spread"], coverage)
    note_scale(b, p, event)
    tell_pressure_calibrations(b, p, event, scores, is_shared)
    return emit(event, RAISED, slot_end_ms, out, count)


@njit(cache=False)
def hear(
    b: Buffers, event: Record, scores: NDArray[np.float32], most: int, following: int, fall_kpa: float, since_ms: int
) -> None:
    """One more voice for an open leak; its size is for the inflow to tell."""
    note_scores(event, scores, b.row[0]["pressure_z"])
    note_logger(event, most, following, fall_kpa, since_ms)
    pairs.refresh_falling(b.loggers, most)


@njit(cache=False)
def judge_trend(
    b: Buffers,
    p: Params,
    scores: NDArray[np.float32],
    most: int,
    days: int,
    slot_end_ms: int,
    coverage: float,
    out: Records,
    count: int,
) -> int:
    """What the day that is over says of a growing leak: a new event, or a voice for an open one; returns the new count."""
    if most < 0 or scores[PRESSURE_TREND] < THRESHOLD:
        return count
    row = b.row[0]
    fall, since_ms = float(b.loggers[most]["days"][0]), slot_end_ms - p.slot_ms - days * DAY_MS
    excess = row["mnf_m3h"] - row["mnf_expected_m3h"]
    excess = max(excess, 0.0) if not np.isnan(excess) else 0.0
    i = same_cause(b.events, slot_end_ms, GROWING_MS, most, -1, False)
    if i >= 0:
        hear(b, b.events[i], scores, most, -1, fall, since_ms)
        return count
    i = open_event(b, NIGHT_FLOW_LEAK, since_ms, slot_end_ms, excess)
    if i < 0:
        return count
    event = b.events[i]
    note_scores(event, scores, row["pressure_z"])
    note_logger(event, most, -1, fall, since_ms)
    note_band(event, row["mnf_m3h"], row["mnf_expected_m3h"], row["mnf_spread_m3h"], coverage)
    note_scale(b, p, event)
    tell_pressure_calibrations(b, p, event, scores, row["night_z"] >= NIGHT_SPEAKS_Z)
    return emit(event, RAISED, slot_end_ms, out, count)


@njit(cache=False)
def follow_pressure(b: Buffers, slot_end_ms: int, out: Records, count: int) -> int:
    """Clear the events of pressures alone whose logger has risen again; returns the new count."""
    if b.loggers.shape[0] == 0:
        return count
    for i in range(b.events.shape[0]):
        event = b.events[i]
        if not is_pressure_only(event):
            continue
        if b.loggers[event["logger"]]["recent"] < -RISEN * event["fall_kpa"]:
            event["below_ms"] = NEVER
        elif event["below_ms"] == NEVER:
            event["below_ms"] = slot_end_ms
        elif slot_end_ms - event["below_ms"] >= CLEAR_MS:
            event["ended_ms"] = event["below_ms"]
            count = emit(event, CLEARED, slot_end_ms, out, count)
            event["type"] = FREE
    return count


@njit(cache=False)
def refresh_after(b: Buffers, transitions: Records, before: int, count: int, was_quiet: bool) -> None:
    """Where one of this slot's transitions began or ended a leak, learn the loggers' offsets anew, or take the old ones."""
    for i in range(before, count):
        if transitions[i]["type"] == METER_FAULT or transitions[i]["change"] not in (RAISED, CLEARED):
            continue
        if was_quiet:
            pairs.keep(b.loggers, b.logger_offsets, b.logger_quiet_offsets)
        if is_any_leak_open(b.events):
            pairs.refresh(b.loggers)
        else:
            pairs.bring_back(b.loggers, b.logger_offsets, b.logger_quiet_offsets)
        return
