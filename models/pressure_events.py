"""From the pressures' evidence to events, and their end where the flow never saw them.

(no event) --pressure step >= 0.5, or >= 0.35 with burst >= 0.35--> burst; night_flow_leak when it took hours
           --pressure trend >= 0.5--------------------------------> night_flow_leak

A leak that is open takes either as one more voice, but for a step elsewhere that the inflow took as well. An event of
pressures alone ends when the logger that showed it has risen by most of its fall for 12 h. A leak that begins or ends
moves every residual: what they usually are is then learned anew (`pairs.py`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import calibration, pairs, sizes
from models.detectors import PRESSURE_STEP, PRESSURE_TREND, pressure_step
from models.events import (
    BURST_EVENT,
    CLEARED,
    CORROBORATED,
    DAY_MS,
    DRIFTING,
    FREE,
    HOUR_MS,
    METER_FAULT,
    NIGHT_FLOW_LEAK,
    OF_NIGHT,
    OF_SLOT,
    RAISED,
    SETTLING_MS,
    THRESHOLD,
    UPDATED,
    begin,
    emit,
    flow_word,
    forget_demand,
    is_pressure_only,
    note_band,
    note_scale,
    note_scores,
)  # fmt: skip
from models.kernels import window_median
from models.lone_loggers import DUE, QUIET, TOLD
from models.params import Params
from models.reopen import forget_days, open_leak, remember
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
        if event["type"] == FREE:
            continue
        is_here = event["logger"] >= 0 and (
            event["logger"] in (logger, following) or event["second_logger"] in (logger, -2 if following < 0 else following)
        )
        is_young = slot_end_ms - event["opened_ms"] < young_ms and (event["type"] != NIGHT_FLOW_LEAK or not is_new)
        if is_young or (is_here and not is_new):
            return i
        if not is_new and (found < 0 or event["opened_ms"] > events[found]["opened_ms"]):
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
        own, told = b.calibrations[d], float(scores[d])
        known = own["days"]
        if d in (PRESSURE_STEP, PRESSURE_TREND):
            own["days"] = max(known, ALARM_DAYS)
            if is_shared:
                told = 0.0
        calibration.alarm(own, p.return_days, told, days)
        if d in (PRESSURE_STEP, PRESSURE_TREND):
            own["days"] = known


@njit(cache=False)
def announce_pressure(
    b: Buffers, p: Params, event: Record, scores: NDArray[np.float32], is_shared: bool, now_ms: int, out: Records, count: int
) -> int:
    """As `reopen.announce`, with what pressures tell the calibrations."""
    if event["revision"] > 0:
        forget_days(b, p, event)
        return emit(event, UPDATED, now_ms, out, count)
    tell_pressure_calibrations(b, p, event, scores, is_shared)
    return emit(event, RAISED, now_ms, out, count)


@njit(cache=False)
def judge_pressure(
    b: Buffers,
    p: Params,
    scores: NDArray[np.float32],
    said: tuple[int, int, int, int],
    slot_end_ms: int,
    coverage: float,
    out: Records,
    count: int,
) -> int:
    """What pressures say of leaks, by a step and by a trend: new events, or voices for open ones; returns the new count.

    `said`: the logger that shows a step most and the next, that of the trend, and the days since it began; -1 for none.
    """
    row, own = b.row[0], b.series[0]
    sudden, following, growing, days = said
    if scores[PRESSURE_STEP] < THRESHOLD and (scores[PRESSURE_STEP] < CORROBORATED or flow_word(scores) < CORROBORATED):
        sudden = -1
    if scores[PRESSURE_TREND] < THRESHOLD:
        growing = -1
    for is_trend in range(2):
        most = growing if is_trend else sudden
        if most < 0 or b.lone[most]["state"] == TOLD:  # a logger that drifts is no witness
            continue
        logger = b.loggers[most]
        if is_trend and np.isnan(logger["days"][0]):  # the step that it heard of in this slot has made it forget
            continue
        if not is_trend:
            fall, since_ms, slots = logger["fall"] / logger["slots"], logger["since_ms"], logger["slots"]
            excess, young_ms = recent_excess(b, slots), SETTLING_MS
            is_shared = pressure_step.flow_word(logger) >= pressure_step.FLOW_SPEAKS_Z
            is_abrupt = slot_end_ms - since_ms <= ABRUPT_MS
            is_new = is_abrupt and ((is_shared and logger["z"] <= JUMP_Z) or flow_word(scores) >= CORROBORATED)
            observed, expected, spread, noted_ms = own["value"], own["foreseen"], own["spread"], slot_end_ms
        else:
            following = -1
            fall, since_ms, slots = float(logger["days"][0]), slot_end_ms - p.slot_ms - days * DAY_MS, 0
            excess, young_ms = row["mnf_m3h"] - row["mnf_expected_m3h"], GROWING_MS
            is_shared, is_abrupt, is_new = row["night_z"] >= NIGHT_SPEAKS_Z, False, False
            observed, expected, spread = row["mnf_m3h"], row["mnf_expected_m3h"], row["mnf_spread_m3h"]
            noted_ms = row["night_start_ms"]
        excess = max(excess, 0.0) if not np.isnan(excess) else 0.0
        i = same_cause(b.events, slot_end_ms, young_ms, most, following, is_new)
        is_known = i >= 0
        if not is_known:
            kind = BURST_EVENT if is_abrupt else NIGHT_FLOW_LEAK
            i = open_leak(b, p, kind, -1, most, since_ms, slot_end_ms, excess)
        if i < 0:
            continue
        event = b.events[i]
        note_scores(event, scores, row["pressure_z"])
        note_logger(event, most, following, fall, since_ms)
        if is_known:  # one more voice; the size is for the inflow to tell
            if is_trend:
                pairs.rebase(b.loggers)
            else:
                pairs.refresh(b.loggers, most, 0.5 * logger["cusum"])
            continue
        event["slots"] = slots
        sizes.note_first(b, event, slots)
        note_band(event, observed, expected, spread, coverage, noted_ms)
        event["noted_of"] = OF_NIGHT if is_trend else OF_SLOT
        note_scale(b, p, event)
        count = announce_pressure(b, p, event, scores, is_shared, slot_end_ms, out, count)
    return count


@njit(cache=False)
def follow_pressure(b: Buffers, slot_end_ms: int, out: Records, count: int) -> int:
    """Clear the events of pressures alone whose logger has risen again; returns the new count."""
    for i in range(b.events.shape[0]):
        event = b.events[i]
        if not is_pressure_only(event):
            continue
        logger = b.loggers[event["logger"]]
        # since it was raised the leak may have grown, and the offsets gone with it
        depth = max(-event["fall_kpa"], -logger["moved"])
        if logger["recent"] < RISEN * depth:
            event["below_ms"] = NEVER
        elif event["below_ms"] == NEVER:
            event["below_ms"] = slot_end_ms
        elif slot_end_ms - event["below_ms"] >= CLEAR_MS:
            event["ended_ms"] = event["below_ms"]
            forget_demand(event)
            count = emit(event, CLEARED, slot_end_ms, out, count)
            remember(b, event, True)
            event["type"] = FREE
    return count


@njit(cache=False)
def tell_drifts(b: Buffers, p: Params, slot_end_ms: int, out: Records, count: int) -> int:
    """Raise the fault of each logger that was found to drift; returns the new count."""
    for i in range(b.lone.shape[0]):
        lone, channel = b.lone[i], p.pressure_channel[i]
        event = b.faults[channel]
        if lone["state"] == TOLD and (event["type"] == FREE or event["cause"] != DRIFTING):
            lone["state"], lone["days"], lone["sign"] = QUIET, 0, 0  # accepted as it is
        if lone["state"] == DUE and event["type"] == FREE and p.facts[channel]["is_home"]:
            begin(event, METER_FAULT, lone["since_ms"], slot_end_ms, 0.0)
            event["channel"], event["cause"], event["score"] = channel, DRIFTING, 1.0
            event["observed"], event["expected"] = lone["shift_kpa"], 0.0
            event["lower"] = event["upper"] = np.nan
            event["slots"] = (slot_end_ms - lone["since_ms"]) // DAY_MS
            count = emit(event, RAISED, slot_end_ms, out, count)
            lone["state"] = TOLD
    return count


@njit(cache=False)
def refresh_after(b: Buffers, transitions: Records, before: int, count: int) -> None:
    """Where one of this slot's transitions began or ended a leak, learn the loggers' offsets anew."""
    for i in range(before, count):
        if transitions[i]["change"] == CLEARED or transitions[i]["updated_ms"] == transitions[i]["opened_ms"]:
            pairs.refresh(b.loggers, -1, 0.0)
            return
