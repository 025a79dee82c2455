"""From evidence to events: raise, grow, clear, accept. One event is one alert however many detectors saw it.

(no event) --burst >= 0.5, or >= 0.35 with isolation or night flow--> burst | boundary_valve
           --flow shift >= 0.5-----------------------> the same, or night_flow_leak where it has grown for over six hours
           --night flow >= 0.5-----------------------> night_flow_leak, or growth of a young event; at 0.35 with the balance
open       --excess off by a quarter-----------------> updated
           --excess gone for 12 h, or two nights-----> cleared; what stands out from the nights not before a night without it
           --open for acceptAfterDays----------------> closed: the new normal by the site's own rule
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.detectors import BALANCE, BURST, FLOW_SHIFT, ISOLATION, NIGHT_FLOW, burst, flow_shift, night_flow
from models.events import (
    BOUNDARY_VALVE,
    BURST_EVENT,
    CLEARED,
    CLOSED,
    CORROBORATED,
    FREE,
    GONE,
    HOUR_MS,
    NIGHT_FLOW_LEAK,
    PLAIN_SPREADS,
    RAISED,
    SETTLING_MS,
    THRESHOLD,
    UPDATED,
    drop_night,
    emit,
    grow,
    is_pressure_only,
    is_seen_at_night,
    is_unseen_by_flow,
    note_band,
    note_scale,
    note_scores,
    open_event,
    tell_calibrations,
)  # fmt: skip
from models.params import Params
from models.schema import NEVER, Record, Records
from models.state import Buffers

GROWING_MS: Final = 14 * 24 * HOUR_MS  # night evidence within this time after the raise is growth, not a second leak
SLOW_MS: Final = 2 * HOUR_MS  # flow that took longer to speak confirms what the pressures have raised
SEEPING_MS: Final = 6 * HOUR_MS  # what grows for longer is for leak detection rather than for a crew
RECENT_HOURS: Final = 3.0
USUAL_HOURS: Final = 48.0
WILD: Final = 4.0  # times the event's size: what one slot may say about it at most
CLEAR_MS: Final = 12 * HOUR_MS
CLEAR_NIGHTS: Final = 2
LESS_MS: Final = 24 * HOUR_MS  # a partial fall must last a whole day: the size of some leaks follows the pressure
REVISE: Final = 0.25  # a revision is worth reading when the excess has changed by so much
REVISE_MS: Final = 6 * HOUR_MS
AMENDED: Final = 0.05  # of the loss: so much that late readings have brought is worth a revision
SURE_SPREADS: Final = 3.0  # that a neighbour must have lost in the sum of its slots
SURE_LEAST: Final = 0.5  # and in their mean
VALVE_SHARE: Final = (0.5, 2.0)  # of the gain that a neighbour must have lost


@njit(cache=False)
def losing_neighbour(b: Buffers, p: Params, gain_m3h: float, slots: int) -> int:
    """Series of the neighbour that lost what this DMA gained in the last `slots`, or -1 (mass conservation).

    Held against as many slots before these: a leak of the neighbour's that ended yesterday is no loss of today.
    """
    newest, length = b.shift[0]["count"], b.shift_slots.shape[0]
    first = newest - slots
    before = min(first, length - 1 - slots, max(slots, 4))
    for s in range(1, p.inflows):
        loss = -(b.shift_rests[newest % length, s] - b.shift_rests[first % length, s]) / slots
        if before > 0:
            loss += (b.shift_rests[first % length, s] - b.shift_rests[(first - before) % length, s]) / before
        # of few slots a mean says little
        sure = b.series[s]["spread"] * max(SURE_LEAST, SURE_SPREADS / np.sqrt(slots))
        if VALVE_SHARE[0] * gain_m3h <= loss <= VALVE_SHARE[1] * gain_m3h and loss > sure:
            return s
    return -1


@njit(cache=False)
def forget_flow(b: Buffers, slots: int) -> None:
    """What the last `slots` have said of the inflow has been heard, and does not count again; nor has it been drift."""
    own = b.series[0]
    own["drift"] = min(own["drift"], flow_shift.drift_before(b.shift[0], b.shift_slots, slots))
    burst.reset(b.row[0])
    flow_shift.reset(b.shift[0], b.shift_slots, b.shift_rests)


@njit(cache=False)
def raise_burst(
    b: Buffers, p: Params, scores: NDArray[np.float32], slot_end_ms: int, coverage: float, out: Records, count: int
) -> int:
    """A new burst or boundary valve when the evidence suffices and no young one explains it; returns the new count."""
    row, shift = b.row[0], b.shift[0]
    is_seconded = scores[ISOLATION] >= THRESHOLD or scores[NIGHT_FLOW] >= THRESHOLD
    by_step = scores[BURST] >= THRESHOLD or (scores[BURST] >= CORROBORATED and is_seconded)
    enough = by_step or scores[FLOW_SHIFT] >= THRESHOLD
    slots = flow_shift.locate(shift, b.shift_slots) if enough else 0
    if slots == 0:
        return count
    excess = flow_shift.excess_m3h(shift, b.shift_slots, slots)
    for i in range(b.events.shape[0]):
        event = b.events[i]
        if event["type"] in (BURST_EVENT, BOUNDARY_VALVE) and slot_end_ms - event["detected_ms"] < SETTLING_MS:
            if is_pressure_only(event):  # the flow's word on its size
                grow(b, event, excess, scores)
            note_scores(event, scores, row["pressure_z"])
            forget_flow(b, slots)
            return count
    if excess < burst.MIN_EXCESS * b.series[0]["mean_level"]:
        return count
    start_ms = flow_shift.started_ms(shift, b.shift_slots, slots)
    lasts_ms = slot_end_ms - start_ms
    for i in range(b.events.shape[0]):
        event = b.events[i]
        young = slot_end_ms - event["detected_ms"] < GROWING_MS
        # a leak that grows does not jump: what took no longer to show is another one
        is_growth = event["type"] == NIGHT_FLOW_LEAK and event["excess_m3h"] >= excess and lasts_ms > SEEPING_MS
        if young and (is_growth or (is_pressure_only(event) and lasts_ms > SLOW_MS)):
            # a leak that grows faster than the nights can follow; a step larger than the leak is another event
            grow(b, event, excess, scores)
            forget_flow(b, slots)
            return count
    neighbour = losing_neighbour(b, p, excess, slots)
    is_seeping = not by_step and lasts_ms > SEEPING_MS and flow_shift.is_growing(shift, b.shift_slots, slots)
    kind = BOUNDARY_VALVE if neighbour >= 0 else NIGHT_FLOW_LEAK if is_seeping else BURST_EVENT
    i = open_event(b, kind, start_ms, slot_end_ms, excess)
    if i < 0:
        return count
    event = b.events[i]
    event["neighbour"] = neighbour
    event["slots"] = slots
    note_scores(event, scores, row["pressure_z"])
    own = b.series[0]
    note_band(event, own["value"], own["foreseen"], own["spread"], coverage)
    note_scale(b, p, event)
    tell_calibrations(b, p, event, scores)
    forget_flow(b, slots)
    return emit(event, RAISED, slot_end_ms, out, count)


@njit(cache=False)
def is_for_nights(row: Record, event: Record) -> bool:
    """True for what the nights can tell the end of, because they have seen it or it stands out from them."""
    stands_out = event["reported_m3h"] >= PLAIN_SPREADS * row["mnf_spread_m3h"]  # False while nothing is known of nights
    is_seen = is_seen_at_night(event) and not is_unseen_by_flow(row, event)
    return is_seen or (event["type"] != FREE and not is_unseen_by_flow(row, event) and stands_out)


@njit(cache=False)
def count_night(row: Record, event: Record, rest_m3h: float) -> None:
    """Whether a leak was there last night; `rest_m3h` is what the night had beside all known events.

    By day a small leak is lost in the noise of demand, so its end, too, is for the nights to tell; and where the season has
    moved the days, the nights tell the end of a large one as well (`night_level.py` follows the season).
    """
    if rest_m3h + event["excess_m3h"] >= GONE * event["reported_m3h"]:
        event["nights_gone"] = 0
        if is_for_nights(row, event):
            event["below_ms"] = NEVER
            event["recent_m3h"] = rest_m3h + event["excess_m3h"]
    else:
        event["nights_gone"] += 1
        if event["below_ms"] == NEVER:
            event["below_ms"] = row["night_start_ms"]


@njit(cache=False)
def ended_tonight(row: Record, events: Records, drop_m3h: float) -> int:
    """Which of several events a night without `drop_m3h` of their flow speaks of: the one nearest in size, or, nearer still,
    all of them together (-1). What is gone of one leak must not end the other.
    """
    best, nearest, total, count = -1, np.inf, 0.0, 0
    for i in range(events.shape[0]):
        if events[i]["type"] == FREE or is_unseen_by_flow(row, events[i]):
            continue
        total += events[i]["reported_m3h"]
        count += 1
        distance = abs(events[i]["reported_m3h"] - drop_m3h)
        if distance < nearest:
            best, nearest = i, distance
    if count < 2 or drop_m3h <= 0.0 or abs(total - drop_m3h) < nearest:
        return -1
    return best


@njit(cache=False)
def judge_night(
    b: Buffers, p: Params, scores: NDArray[np.float32], slot_end_ms: int, coverage: float, out: Records, count: int
) -> int:
    """What last night says: a new night-flow leak, or growth of a young event; returns the new count."""
    row = b.row[0]
    excess = row["mnf_m3h"] - row["mnf_expected_m3h"]
    if np.isnan(excess):
        return count
    ended = ended_tonight(row, b.events, -excess)
    for i in range(b.events.shape[0]):
        if b.events[i]["type"] != FREE and not is_unseen_by_flow(row, b.events[i]) and ended in (i, -1):
            count_night(row, b.events[i], excess)
    # 0 where there is no balance with customers' meters
    is_seconded = scores[NIGHT_FLOW] >= CORROBORATED and b.balance[0]["score"] >= CORROBORATED
    if scores[NIGHT_FLOW] < THRESHOLD:
        excess = min(excess, b.balance[0]["excess_m3h"])  # which is less noisy
    if (scores[NIGHT_FLOW] < THRESHOLD and not is_seconded) or excess <= 0.0:
        return count
    for i in range(b.events.shape[0]):
        event = b.events[i]
        young = slot_end_ms - event["detected_ms"] < GROWING_MS
        if event["type"] != FREE and (young or excess < REVISE * event["excess_m3h"]):  # or within what its size is known by
            grow(b, event, excess, scores)
            night_flow.consume(b.nights, row["night_shift_ms"], excess)
            return count
    i = open_event(b, NIGHT_FLOW_LEAK, row["night_shift_ms"], slot_end_ms, excess)
    if i < 0:
        return count
    event = b.events[i]
    note_scores(event, scores, row["pressure_z"])
    event["scores"][BALANCE] = b.balance[0]["score"]
    note_band(event, row["mnf_m3h"], row["mnf_expected_m3h"], row["mnf_spread_m3h"], coverage)
    note_scale(b, p, event)
    tell_calibrations(b, p, event, scores)
    night_flow.consume(b.nights, row["night_shift_ms"], excess)
    return emit(event, RAISED, slot_end_ms, out, count)


@njit(cache=False)
def accept(b: Buffers, event: Record) -> None:
    """Make the event's excess part of what is expected: by day, by night, and in the mean."""
    excess = event["excess_m3h"]
    for k in range(b.levels.shape[1]):
        b.levels[0, k] += excess
    for i in range(b.nights.shape[0]):
        b.nights[i]["mnf_m3h"] += excess
    b.night_level[0]["level_m3h"] += excess
    b.series[0]["mean_level"] += excess


@njit(cache=False)
def fading_event(row: Record, events: Records) -> int:
    """The open leak event whose size is nearest to a fall of the flow: the one that was probably repaired. -1: none."""
    best, nearest = -1, np.inf
    for i in range(events.shape[0]):
        if events[i]["type"] != FREE and not is_unseen_by_flow(row, events[i]):
            drop = max(events[i]["usual_m3h"], events[i]["reported_m3h"]) - events[i]["recent_m3h"]
            distance = abs(events[i]["reported_m3h"] - drop)
            if distance < nearest:
                best, nearest = i, distance
    return best


@njit(cache=False)
def is_any_fading(row: Record, events: Records) -> bool:
    """True while the excess of an event that the inflow has told of seems gone."""
    for i in range(events.shape[0]):
        if events[i]["type"] != FREE and events[i]["below_ms"] != NEVER and not is_unseen_by_flow(row, events[i]):
            return True
    return False


@njit(cache=False)
def follow(b: Buffers, p: Params, slot_end_ms: int, coverage: float, out: Records, count: int) -> int:
    """Carry every open leak event through one slot: size, loss, revision, end; returns the new count."""
    own = b.series[0]
    rest = own["z"] * own["spread"]  # what is left beside all known events
    is_fading = is_any_fading(
        b.row[0], b.events
    )  # a fall of the flow that is probably the end of one says nothing of the others
    for i in range(b.events.shape[0]):
        event = b.events[i]
        if event["type"] == FREE:
            continue
        if slot_end_ms - event["detected_ms"] >= p.accept_ms:
            accept(b, event)
            count = emit(event, CLOSED, slot_end_ms, out, count)
            event["type"] = FREE
            continue
        if np.isnan(rest) or event["detected_ms"] == slot_end_ms:
            continue
        # one wild slot is no change of size
        limit = WILD * max(event["excess_m3h"], event["reported_m3h"])
        excess = min(max(rest + event["excess_m3h"], -limit), limit)
        event["recent_m3h"] += min(1.0, p.slot_hours / RECENT_HOURS) * (excess - event["recent_m3h"])
        if event["below_ms"] == NEVER:
            if not is_fading:
                event["usual_m3h"] += min(1.0, p.slot_hours / USUAL_HOURS) * (excess - event["usual_m3h"])
            if event["type"] == NIGHT_FLOW_LEAK:
                event["lost_m3"] += event["excess_m3h"] * p.slot_hours * event["ndf_h"] / 24.0
            elif (
                is_fading or excess >= GONE * event["reported_m3h"]
            ):  # a slot after the repair is neither loss nor a measure of it
                event["lost_m3"] += event["excess_m3h"] * p.slot_hours
                if slot_end_ms - event["detected_ms"] < SETTLING_MS and not is_fading:
                    event["slots"] += 1
                    event["excess_m3h"] += (excess - event["excess_m3h"]) / event["slots"]
        changed = abs(event["excess_m3h"] - event["reported_m3h"]) > REVISE * abs(event["reported_m3h"])
        changed = changed or event["amended_m3"] > AMENDED * event["lost_m3"]
        if changed and slot_end_ms - event["updated_ms"] >= REVISE_MS:
            note_band(event, own["value"], own["foreseen"], own["spread"], coverage)
            count = emit(event, UPDATED, slot_end_ms, out, count)
    if np.isnan(rest):
        return count
    return fade(b, fading_event(b.row[0], b.events), slot_end_ms, out, count)


@njit(cache=False)
def release(b: Buffers, event: Record, rest_m3h: float) -> None:
    """An event's excess becomes `rest_m3h`: what it no longer explains is neither a burst nor the end of another leak.

    The residual jumps, so the drift goes back to where it was before the flow fell; what the event leaves of its flow when
    it ends is weather from now on. The fall was no other event's, and the night under way was held against the old excess.
    """
    left = min(max(event["recent_m3h"], 0.0), event["excess_m3h"])
    b.series[0]["drift"] = max(b.series[0]["drift"], event["drift_m3h"]) + max(left - rest_m3h, 0.0)
    for i in range(b.events.shape[0]):
        if b.events[i]["type"] != FREE:
            b.events[i]["recent_m3h"] += event["excess_m3h"] - left
    drop_night(b)


@njit(cache=False)
def fade(b: Buffers, fading: int, slot_end_ms: int, out: Records, count: int) -> int:
    """Clear the fading event once its excess has been gone long enough, or make it smaller; returns the new count."""
    for i in range(b.events.shape[0]):
        event = b.events[i]
        if event["type"] == FREE or is_unseen_by_flow(b.row[0], event):
            continue
        if event["below_ms"] == NEVER and event["less_ms"] == NEVER:
            event["drift_m3h"] = b.series[0]["drift"]
        share = event["recent_m3h"] / max(event["reported_m3h"], 1e-9)
        is_gone = share < GONE or event["recent_m3h"] < event["usual_m3h"] - (1.0 - GONE) * event["reported_m3h"]
        if event["nights_gone"] == 0 and (i != fading or not is_gone):
            event["below_ms"] = NEVER
        elif event["below_ms"] == NEVER:
            event["below_ms"] = slot_end_ms
        if i != fading or is_gone or not GONE <= share < 1.0 - REVISE:
            event["less_ms"] = NEVER
        elif event["less_ms"] == NEVER:
            event["less_ms"] = slot_end_ms
        is_over = event["below_ms"] != NEVER and slot_end_ms - event["below_ms"] >= CLEAR_MS
        if is_for_nights(b.row[0], event):
            is_over = is_over and is_gone and event["nights_gone"] > 0
        is_over = is_over or event["nights_gone"] >= CLEAR_NIGHTS
        if is_over:
            event["ended_ms"] = event["below_ms"]
            count = emit(event, CLEARED, slot_end_ms, out, count)
            event["type"] = FREE
            release(b, event, 0.0)
        elif event["less_ms"] != NEVER and slot_end_ms - event["less_ms"] >= LESS_MS:
            recent = event["recent_m3h"]
            release(b, event, recent)
            event["excess_m3h"] = event["recent_m3h"] = recent
            event["less_ms"] = NEVER
            count = emit(event, UPDATED, slot_end_ms, out, count)
    return count
