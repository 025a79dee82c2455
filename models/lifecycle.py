"""What nights say, and how open events go on: grow, shrink, clear, accept. One event is one alert however many saw it.

What the inflow raises by the slot is in `flow_events.py`.

(no event) --night flow >= 0.5-----------------------> night_flow_leak, or growth of a young event; at 0.35 with the balance
open       --excess off by a quarter-----------------> updated
           --excess gone for 12 h, or two nights-----> cleared; what stands out from the nights not before a night without it
           --open for acceptAfterDays----------------> closed: the new normal by the site's own rule
cleared    --evidence again, and no repair was seen--> updated: the same event, open again (`reopen.py`)
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import sizes
from models.detectors import BALANCE, NIGHT_FLOW, night_flow
from models.events import (
    CLEARED,
    CLOSED,
    CORROBORATED,
    FREE,
    GONE,
    HOUR_MS,
    NIGHT_FLOW_LEAK,
    OF_NIGHT,
    PLAIN_SPREADS,
    SETTLING_MS,
    THRESHOLD,
    UPDATED,
    drop_night,
    emit,
    forget_demand,
    grow,
    growing_event,
    is_pressure_only,
    is_seen_at_night,
    is_unseen_by_flow,
    note_band,
    note_scale,
    note_scores,
)  # fmt: skip
from models.params import Params
from models.reopen import announce, open_leak, remember
from models.schema import NEVER, Record, Records
from models.state import Buffers

GROWING_MS: Final = 14 * 24 * HOUR_MS  # night evidence within this time after the raise is growth, not a second leak
RECENT_HOURS: Final = 3.0
USUAL_HOURS: Final = 48.0
WILD: Final = 4.0  # times the event's size: what one slot may say about it at most
CLEAR_MS: Final = 12 * HOUR_MS
CLEAR_NIGHTS: Final = 2
FALL_MS: Final = 6 * HOUR_MS  # twice the time that the recent excess looks back
LESS_MS: Final = 24 * HOUR_MS  # a partial fall must last a whole day: the size of some leaks follows the pressure
REVISE: Final = 0.25  # a revision is worth reading when the excess has changed by so much
REVISE_MS: Final = 6 * HOUR_MS
AMENDED: Final = 0.05  # of the loss: so much that late readings have brought is worth a revision


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
    excess = rest_m3h + event["excess_m3h"]
    if excess >= GONE * event["reported_m3h"]:
        event["nights_gone"] = 0
        event["night_m3h"], event["fell_m3h"] = excess, 0.0
        if is_for_nights(row, event):
            event["below_ms"] = NEVER
            event["recent_m3h"] = excess
    else:
        if event["nights_gone"] == 0:
            event["fell_m3h"] = max(event["fell_m3h"], event["night_m3h"] - excess)
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
    of = -1
    for i in range(b.events.shape[0]):
        event = b.events[i]
        young = slot_end_ms - event["opened_ms"] < GROWING_MS
        if event["type"] != FREE and (young or excess < REVISE * event["excess_m3h"]):  # or within what its size is known by
            of = i
            break
    if of < 0:
        of = growing_event(b.events, excess)
    if of >= 0:
        event = b.events[of]
        is_fresh = is_pressure_only(event) or slot_end_ms - event["opened_ms"] < GROWING_MS
        grow(b, event, excess, scores)
        sizes.note_night(event, sizes.night_sd(b), is_fresh)
        event["grown"] += 1
        night_flow.consume(b.nights, row["night_shift_ms"], excess)
        return count
    i = open_leak(b, p, NIGHT_FLOW_LEAK, -1, -1, row["night_shift_ms"], slot_end_ms, excess)
    if i < 0:
        return count
    event = b.events[i]
    event["slots"] = b.levels.shape[1] // 7  # what a night says counts as much as a day's mean, where it is a burst's
    sizes.note_night(event, sizes.night_sd(b), True)
    note_scores(event, scores, row["pressure_z"])
    event["scores"][BALANCE] = b.balance[0]["score"]
    note_band(event, row["mnf_m3h"], row["mnf_expected_m3h"], row["mnf_spread_m3h"], coverage, row["night_start_ms"])
    event["noted_of"] = OF_NIGHT
    note_scale(b, p, event)
    night_flow.consume(b.nights, row["night_shift_ms"], excess)
    return announce(b, p, event, scores, slot_end_ms, out, count)


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
        if slot_end_ms - event["opened_ms"] >= p.accept_ms:
            accept(b, event)
            count = emit(event, CLOSED, slot_end_ms, out, count)
            remember(b, event, False)
            event["type"] = FREE
            continue
        if np.isnan(rest) or event["opened_ms"] == slot_end_ms:
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
                if slot_end_ms - event["opened_ms"] < SETTLING_MS and not is_fading:
                    event["slots"] += 1
                    event["excess_m3h"] += (excess - event["excess_m3h"]) / event["slots"]
                    sizes.average_slot(b, event)
        changed = abs(event["excess_m3h"] - event["reported_m3h"]) > REVISE * abs(event["reported_m3h"])
        changed = changed or event["amended_m3"] > AMENDED * event["lost_m3"]
        if changed and slot_end_ms - event["updated_ms"] >= REVISE_MS:
            note_band(event, own["value"], own["foreseen"], own["spread"], coverage, slot_end_ms)
            count = emit(event, UPDATED, slot_end_ms, out, count)
    if np.isnan(rest):
        return count
    return fade(b, p, fading_event(b.row[0], b.events), slot_end_ms, out, count)


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
def note_fall(event: Record, slot_end_ms: int) -> None:
    """How far the excess has fallen within hours of being gone: in a step it is most of it, where it fades little."""
    if event["below_ms"] == NEVER:
        event["fell_m3h"] = 0.0
    elif slot_end_ms - event["below_ms"] <= FALL_MS:
        event["fell_m3h"] = max(event["fell_m3h"], event["usual_m3h"] - event["recent_m3h"])


@njit(cache=False)
def is_less(event: Record, share: float) -> bool:
    """True where only a `share` of the excess is left; for a leak that nights see they must say so, too.

    By day its growth passes for weather. (Without, two of 13 leaks put into real DMAs were cut by half as they grew.)
    """
    if is_seen_at_night(event) and event["night_m3h"] >= (1.0 - REVISE) * event["reported_m3h"]:
        return False
    return GONE <= share < 1.0 - REVISE


@njit(cache=False)
def shrink(b: Buffers, p: Params, event: Record) -> None:
    """Make an event as large as what is left of it."""
    left = event["recent_m3h"]
    if is_seen_at_night(event):
        left = event["night_m3h"]
        sizes.note_night(event, sizes.night_sd(b), True)
    else:
        event["size_sd_m3h"] = sizes.mean_sd(b, b.series[0]["spread"], 2.0 * RECENT_HOURS / p.slot_hours)
    release(b, event, left)
    event["excess_m3h"] = event["recent_m3h"] = left
    event["less_ms"] = NEVER


@njit(cache=False)
def fade(b: Buffers, p: Params, fading: int, slot_end_ms: int, out: Records, count: int) -> int:
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
        if i != fading or is_gone or not is_less(event, share):
            event["less_ms"] = NEVER
        elif event["less_ms"] == NEVER:
            event["less_ms"] = slot_end_ms
        note_fall(event, slot_end_ms)
        is_over = event["below_ms"] != NEVER and slot_end_ms - event["below_ms"] >= CLEAR_MS
        if is_for_nights(b.row[0], event):
            is_over = is_over and is_gone and event["nights_gone"] > 0
        is_over = is_over or event["nights_gone"] >= CLEAR_NIGHTS
        if is_over:
            event["ended_ms"] = event["below_ms"]
            forget_demand(event)
            count = emit(event, CLEARED, slot_end_ms, out, count)
            remember(b, event, True)
            event["type"] = FREE
            release(b, event, 0.0)
        elif event["less_ms"] != NEVER and slot_end_ms - event["less_ms"] >= LESS_MS:
            shrink(b, p, event)
            count = emit(event, UPDATED, slot_end_ms, out, count)
    return count
