"""The table of open events: what an event is, how one is opened, noted down and written out as a transition.

An event's excess is taken off the flow before anything is judged or learned, so the baseline never learns the leak and a
second leak is seen above the first. When events begin and end is decided in `flow_events.py`, `lifecycle.py` and their kin.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import calibration
from models.detectors import BALANCE, BURST, FLOW_SHIFT, NIGHT_FLOW
from models.numbers import numbered
from models.params import Params
from models.schema import NEVER, Record, Records
from models.state import Buffers

EVENT_TYPES: Final = (
    "night_flow_leak", "burst", "boundary_valve", "meter_fault", "data_gap", "zero_flow", "reverse_flow",
    "customer_leak",
)  # fmt: skip
(
    NIGHT_FLOW_LEAK,
    BURST_EVENT,
    BOUNDARY_VALVE,
    METER_FAULT,
    DATA_GAP,
    ZERO_FLOW,
    REVERSE_FLOW,
    CUSTOMER_LEAK,
) = numbered(len(EVENT_TYPES))  # fmt: skip
OF_METERS: Final = (METER_FAULT, DATA_GAP, ZERO_FLOW, REVERSE_FLOW, CUSTOMER_LEAK)  # not in `Buffers.events`
FREE: Final = -1
CAUSES: Final = ("unknown", "stuck", "spiking", "rerouted", "dead_meter", "interrupted", "clock_shifted", "drifting")
UNKNOWN, STUCK, SPIKING, REROUTED, DEAD_METER, INTERRUPTED, CLOCK_SHIFTED, DRIFTING = numbered(len(CAUSES))
"""Why a meter's event came about, as far as can be told."""
CHANGES: Final = ("raised", "updated", "cleared", "closed")
RAISED, UPDATED, CLEARED, CLOSED = numbered(len(CHANGES))

OF_SLOT, OF_NIGHT, OF_BALANCE = numbered(3)
"""What a revision rests on: a slot's net inflow, a night's minimum flow, or a day's flow that no customer's meter shows."""

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
SECOND_MS: Final = 1000
THRESHOLD: Final = 0.5
GONE: Final = 0.4  # of the excess: below this it counts as gone
CORROBORATED: Final = 0.35  # burst score that is enough when the isolation forest agrees
SETTLING_MS: Final = 24 * HOUR_MS  # a young burst's excess is still being averaged, and further evidence belongs to it
PLAIN_SPREADS: Final = 3.0  # of the night flow: an excess of so much more cannot hide in a night
OBVIOUS_SPREADS: Final = 5.0  # or in two, which end an event
NDF_WITHOUT_PRESSURE_H: Final = 21.0  # middle of the usual 18 to 24 h/day (DOMAIN: formulas)


@njit(cache=False)
def known_excess(events: Records) -> float:
    """Sum of the excess (m3/h) of all open leak events of this DMA."""
    total = 0.0
    for i in range(events.shape[0]):
        if events[i]["type"] != FREE:
            total += events[i]["excess_m3h"]
    return total


@njit(cache=False)
def is_unsettled(events: Records, slot_end_ms: int) -> bool:
    """True while a young or a fading event makes the flow unfit to learn from.

    The days of a night-flow leak look gone whenever demand is low: while the nights still see it, they teach.
    """
    for i in range(events.shape[0]):
        event = events[i]
        if (
            event["type"] == NIGHT_FLOW_LEAK
            and event["nights_gone"] == 0
            and slot_end_ms - event["opened_ms"] >= SETTLING_MS
        ):
            continue
        if event["type"] in (BURST_EVENT, BOUNDARY_VALVE, NIGHT_FLOW_LEAK) and (
            slot_end_ms - event["opened_ms"] < SETTLING_MS or event["below_ms"] != NEVER or event["less_ms"] != NEVER
        ):
            return True
    return False


@njit(cache=False)
def is_any_leak_open(events: Records) -> bool:
    """True while any leak event is open."""
    for i in range(events.shape[0]):
        if events[i]["type"] != FREE:
            return True
    return False


@njit(cache=False)
def emit(event: Record, change: int, slot_end_ms: int, out: Records, count: int) -> int:
    """Write one revision of the event to `out[count]`; returns the new count."""
    event["change"] = change
    event["revision"] += 1
    event["updated_ms"] = slot_end_ms
    event["reported_m3h"] = event["excess_m3h"]
    event["largest_m3h"] = max(event["largest_m3h"], event["excess_m3h"])
    out[count] = event
    event["amended_m3"] = 0.0
    return count + 1


@njit(cache=False)
def begin(event: Record, kind: int, started_ms: int, slot_end_ms: int, excess_m3h: float) -> None:
    """Make a new event of a free row."""
    event["type"] = kind
    event["cause"] = UNKNOWN
    event["channel"] = -1
    event["neighbour"] = -1
    event["revision"] = 0
    event["started_ms"] = started_ms
    event["detected_ms"] = event["opened_ms"] = slot_end_ms
    event["ended_ms"] = NEVER
    event["below_ms"] = NEVER
    event["less_ms"] = NEVER
    event["drift_m3h"] = 0.0
    event["excess_m3h"] = excess_m3h
    event["recent_m3h"] = excess_m3h
    event["usual_m3h"] = excess_m3h
    event["night_m3h"] = excess_m3h
    event["largest_m3h"] = event["fell_m3h"] = event["slot_spread_m3h"] = 0.0
    event["size_sd_m3h"] = np.nan
    event["grown"] = 0
    event["lost_m3"] = max(excess_m3h, 0.0) * (slot_end_ms - started_ms) / HOUR_MS
    event["amended_m3"] = 0.0
    event["slots"] = 0
    event["nights_gone"] = 0
    event["score"] = 0.0
    event["scores"][:] = 0.0
    event["pressure_z"] = np.nan
    event["coverage"] = np.nan
    event["noted_ms"], event["noted_of"] = NEVER, OF_SLOT
    event["logger"] = event["second_logger"] = -1
    event["fall_kpa"] = 0.0
    event["fall_ms"] = NEVER
    event["unmetered"] = 0.0
    event["metered_days"] = 0


@njit(cache=False)
def drop_night(b: Buffers) -> None:
    """The night under way is not to be judged: a part of it was held against another known excess."""
    b.row[0]["night_best_m3h"], b.row[0]["night_valid"] = np.inf, 0
    b.night_flow[:] = np.nan


@njit(cache=False)
def is_taken(events: Records, kind: int, started_ms: int) -> bool:
    """True where one of the events has this type and start, and so the id that a new one would have."""
    for i in range(events.shape[0]):
        if events[i]["type"] == kind and events[i]["started_ms"] == started_ms:
            return True
    return False


@njit(cache=False)
def open_event(b: Buffers, kind: int, started_ms: int, slot_end_ms: int, excess_m3h: float) -> int:
    """Take a free row for a new leak event; its index, or -1 when all are taken (the evidence stays and raises it later)."""
    while is_taken(b.events, kind, started_ms) or is_taken(b.past, kind, started_ms):
        started_ms += SECOND_MS
    for i in range(b.events.shape[0]):
        if b.events[i]["type"] == FREE:
            begin(b.events[i], kind, started_ms, slot_end_ms, excess_m3h)
            drop_night(b)
            return i
    return -1


@njit(cache=False)
def note_scores(event: Record, scores: NDArray[np.float32], pressure_z: float) -> None:
    """Keep the strongest word of every detector and the pressure's latest."""
    for d in range(scores.shape[0]):
        event["scores"][d] = max(event["scores"][d], scores[d])
        event["score"] = max(event["score"], scores[d])
    event["pressure_z"] = pressure_z


@njit(cache=False)
def tell_calibrations(b: Buffers, p: Params, event: Record, scores: NDArray[np.float32]) -> None:
    """Let every detector's calibration know that an event has been raised, and since when it lasts."""
    days = (event["detected_ms"] - event["started_ms"]) // DAY_MS + 1
    for d in range(b.calibrations.shape[0]):
        calibration.alarm(b.calibrations[d], p.return_days, scores[d], days)


@njit(cache=False)
def forget_demand(event: Record) -> None:
    """What ends by itself has not been shown to be demand: a day of customers' meters that said so was one noisy day."""
    if event["unmetered"] < GONE:
        event["metered_days"] = 0


@njit(cache=False)
def grow(b: Buffers, event: Record, more_m3h: float, scores: NDArray[np.float32]) -> None:
    """More excess of the same cause; the next revision reports it."""
    event["excess_m3h"] += more_m3h
    event["recent_m3h"] += more_m3h
    note_scores(event, scores, b.row[0]["pressure_z"])


@njit(cache=False)
def note_band(event: Record, observed: float, expected: float, spread: float, coverage: float, noted_ms: int) -> None:
    """Observed and expected band (three standard deviations) of the metric that this revision rests on: of a slot's net
    inflow, where the caller does not set `noted_of`.
    """
    event["noted_ms"], event["noted_of"] = noted_ms, OF_SLOT
    event["observed"] = observed
    event["expected"] = expected
    event["lower"] = expected - 3.0 * spread
    event["upper"] = expected + 3.0 * spread
    event["coverage"] = coverage


@njit(cache=False)
def note_scale(b: Buffers, p: Params, event: Record) -> None:
    """What the event is measured against: the DMA's mean inflow, and its night-day factor.

    NDF (h/day) = sum over 24 h of (P_i / P_MNF)^N1 with N1 = 1 (mixed leaks), from the loggers' expected pressures.
    """
    event["mean_m3h"] = b.series[0]["mean_level"]
    slots_of_day = b.levels.shape[1] // 7
    all_day = at_night = 0.0
    hours_night = 0.0
    for s in range(p.inflows, b.levels.shape[0]):
        for k in range(b.levels.shape[1]):
            minute = (k % slots_of_day) * 1440 // slots_of_day
            expected_kpa = b.levels[s, k] + b.series[s]["level"]
            all_day += expected_kpa
            if p.night_start_min <= minute < p.night_end_min:
                at_night += expected_kpa
                hours_night += p.slot_hours / (b.levels.shape[0] - p.inflows)
    if at_night > 0.0:
        hours = 168.0
        event["ndf_h"] = 24.0 * (all_day / hours) / (at_night / hours_night)
    else:
        event["ndf_h"] = NDF_WITHOUT_PRESSURE_H


@njit(cache=False)
def flow_word(scores: NDArray[np.float32]) -> float:
    """The stronger score of the two detectors that look at the inflow slot by slot."""
    return max(scores[BURST], scores[FLOW_SHIFT])


@njit(cache=False)
def is_pressure_only(event: Record) -> bool:
    """True for a leak that pressures have raised and the flow has not confirmed: its end is for pressures to tell."""
    return (
        event["type"] != FREE
        and event["logger"] >= 0
        and flow_word(event["scores"]) < CORROBORATED
        and event["scores"][NIGHT_FLOW] < CORROBORATED
    )


@njit(cache=False)
def growing_event(events: Records, excess_m3h: float) -> int:
    """Row of the open leak that has been growing, and that so much more in the night is the growth of; -1: none is.

    Either the nights have found more of it before, or the pressures have raised it and the nights had yet to see it. What
    more than doubles a leak is another one.
    """
    best = -1
    for i in range(events.shape[0]):
        event = events[i]
        if event["type"] != NIGHT_FLOW_LEAK:
            continue
        has_grown = event["grown"] > 0 and excess_m3h <= event["excess_m3h"]
        if (has_grown or is_pressure_only(event)) and (best < 0 or event["updated_ms"] > events[best]["updated_ms"]):
            best = i
    return best


def is_reopened(event: Any) -> bool:
    """True for the transition that re-opens an event: cleared before, and active again."""
    return bool(event["change"] == UPDATED and event["opened_ms"] == event["updated_ms"] and event["type"] not in OF_METERS)


@njit(cache=False)
def is_for_balance(row: Record, event: Record) -> bool:
    """True for a leak whose end the balance tells: it has seen it better than the nights, in which the leak could hide."""
    scores = event["scores"]
    is_seen = event["logger"] < 0 and scores[BALANCE] >= max(CORROBORATED, scores[NIGHT_FLOW])
    is_plain = event["reported_m3h"] >= OBVIOUS_SPREADS * row["mnf_spread_m3h"]  # False while nothing is known of nights
    return event["type"] != FREE and is_seen and flow_word(scores) < CORROBORATED and not is_plain


@njit(cache=False)
def is_unseen_by_flow(row: Record, event: Record) -> bool:
    """True for a leak whose end is not for the inflow to tell."""
    return is_pressure_only(event) or is_for_balance(row, event)


@njit(cache=False)
def is_any_leak_seen(row: Record, events: Records) -> bool:
    """True while a leak is open that makes the inflow's statistics unfit to learn from.

    One that could hide in the inflow does not, and may last for months. (Without thresholds that go on learning then, three
    more false bursts a year in L-Town's area C, 2026-11-28.)
    """
    for i in range(events.shape[0]):
        if events[i]["type"] != FREE and not is_for_balance(row, events[i]):
            return True
    return False


@njit(cache=False)
def is_seen_at_night(event: Record) -> bool:
    """True for a night-flow leak, and for any other that the nights have confirmed."""
    return (
        event["type"] != FREE
        and not is_pressure_only(event)
        and (event["type"] == NIGHT_FLOW_LEAK or event["scores"][NIGHT_FLOW] >= THRESHOLD)
    )
