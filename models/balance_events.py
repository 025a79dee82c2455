"""From the balance's evidence to events: raised, seconded, contradicted, ended. Called once a slot where there is one.

(no event) --balance >= 0.5, or >= 0.35 with the last night->= 0.35--> night_flow_leak
open       --balance >= 0.5------------------------------------------> growth of a young event
           --customers' meters show the water, beyond doubt----------> cleared: it was demand, and is the new normal
           --seen by the balance better than by night, and gone for two days-->  cleared
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import balance, calibration
from models.customers import DAY_MS, RING_DAYS
from models.detectors import BALANCE, NIGHT_FLOW
from models.detectors import balance as detector
from models.events import (
    BURST_EVENT,
    CLEARED,
    CLOSED,
    CORROBORATED,
    FREE,
    GONE,
    NIGHT_FLOW_LEAK,
    OF_BALANCE,
    THRESHOLD,
    drop_night,
    emit,
    grow,
    is_for_balance,
    note_band,
    note_scale,
    note_scores,
)  # fmt: skip
from models.lifecycle import CLEAR_NIGHTS, GROWING_MS, accept, release
from models.params import Params
from models.pressure_events import ALARM_DAYS
from models.reopen import announce, open_leak, remember
from models.schema import NEVER, Record, Records
from models.state import Buffers

DOUBTLESS: Final = 5.0  # spreads of a day's rest that an event must have to be contradicted by a day without it


@njit(cache=False)
def rate_m3h(event: Record) -> float:
    """Mean flow of a leak over a whole day."""
    return event["excess_m3h"] * (event["ndf_h"] / 24.0 if event["type"] == NIGHT_FLOW_LEAK else 1.0)


@njit(cache=False)
def night_scale(event: Record) -> float:
    """What a daily mean is to be multiplied by to be the event's size, which is that of a night for a night-flow leak."""
    return 24.0 / event["ndf_h"] if event["type"] == NIGHT_FLOW_LEAK and event["ndf_h"] > 0.0 else 1.0


@njit(cache=False)
def part_of_day(event: Record, until_ms: int, start_ms: int) -> float:
    """Share of the day that begins at `start_ms` in which a leak ran that ended, or seems gone, at `until_ms`, or runs."""
    end_ms = start_ms + DAY_MS
    if until_ms != NEVER:
        end_ms = min(end_ms, until_ms)
    return max(end_ms - max(event["started_ms"], start_ms), 0) / DAY_MS


@njit(cache=False)
def fill_values(b: Buffers, slots_of_day: int, values: NDArray[np.float64]) -> None:
    """Supplied less metered of every day in the ring, less the leaks that are known by now; NaN where it can't be told."""
    whole = b.balance[0]["usual_whole"]
    for k in range(values.shape[0]):
        row = b.balance_days[k]
        row["known_m3h"] = row["ended_m3h"]
        for i in range(b.events.shape[0]):
            event = b.events[i]
            if event["type"] != FREE:
                row["known_m3h"] += rate_m3h(event) * part_of_day(event, event["below_ms"], row["start_ms"])
        values[k] = balance.unmetered_m3h(row, whole, slots_of_day) - row["known_m3h"]


@njit(cache=False)
def observe_balance(
    b: Buffers, p: Params, scores: NDArray[np.float32], statistics: NDArray[np.float64], slot_end_ms: int, night_over: bool
) -> int:
    """Add the slot to its day, and judge the days whose uploads have all come, of which there mostly is none.

    Fills score and statistic. Returns the day that was judged last, NEVER where there was none.
    """
    own, days = b.balance[0], b.balance_days
    if night_over:
        own["night_score"] = scores[NIGHT_FLOW]
    balance.note_supply(days, b.series[0]["value"], b.series[0]["expected"], slot_end_ms)
    due, judged, statistic = balance.due_day(slot_end_ms), NEVER, np.nan
    if due <= own["judged_day"]:
        return judged
    slots_of_day = DAY_MS // p.slot_ms
    values = np.empty(days.shape[0])
    for day in range(max(own["judged_day"] + 1, due - RING_DAYS + 1), due + 1):
        row = days[day % days.shape[0]]
        if row["day"] != day:
            continue
        judged = day
        supplied = balance.supplied_m3h(row, slots_of_day)
        is_covered = balance.follow_cover(own, row, supplied)
        fill_values(b, slots_of_day, values)
        statistic = detector.update(own, days, values, day, supplied, is_covered, b.series[0]["mean_level"])
        if p.silent[BALANCE]:
            statistic, own["excess_m3h"] = np.nan, 0.0
        if row["known_m3h"] == 0.0:  # what stands out beside a known leak is mostly that leak's growth, and no lesson
            statistics[BALANCE] = statistic
            calibration.observe(b.calibrations[BALANCE], statistic)
    own["judged_day"] = due
    level = calibration.threshold(b.calibrations[BALANCE], p.return_days)
    if own["excess_m3h"] > 0.0:
        scores[BALANCE] = calibration.score(statistic, level)
    own["score"] = scores[BALANCE]
    return judged


@njit(cache=False)
def conclude_balance(
    b: Buffers,
    p: Params,
    scores: NDArray[np.float32],
    judged: int,
    slot_end_ms: int,
    coverage: float,
    out: Records,
    before: int,
    count: int,
) -> int:
    """Hear what the balance says of the day `judged`, NEVER for none, and note what has ended; returns the new count.

    `before`: count before the leaks of this slot were judged.
    """
    if judged != NEVER and not np.isnan(b.balance[0]["spread_m3h"]):
        count = hear_of_events(b, p, judged, slot_end_ms, out, count)
        count = raise_leak(b, p, scores, judged, slot_end_ms, coverage, out, count)
    for i in range(before, count):
        if out[i]["change"] == CLEARED and not is_demand(out[i]):
            for k in range(b.balance_days.shape[0]):
                row = b.balance_days[k]
                if row["day"] != NEVER:
                    row["ended_m3h"] += rate_m3h(out[i]) * part_of_day(out[i], out[i]["ended_ms"], row["start_ms"])
        elif out[i]["change"] == CLOSED:
            b.balance[0]["level_m3h"] += rate_m3h(out[i])
    return count


@njit(cache=False)
def is_demand(event: Record) -> bool:
    """Whether customers' meters show most of the water that an event is about."""
    return event["metered_days"] > 0 and event["unmetered"] < GONE


@njit(cache=False)
def hear_of_events(b: Buffers, p: Params, day: int, slot_end_ms: int, out: Records, count: int) -> int:
    """What the customers' meters leave of each open leak on a `day` that it was there; returns the new count.

    A leak that grows is smaller than its size for most of the time before it was raised, which therefore tells nothing.
    """
    row, spread = b.balance_days[day % b.balance_days.shape[0]], b.balance[0]["spread_m3h"]
    for i in range(b.events.shape[0]):
        event = b.events[i]
        rate = rate_m3h(event)
        if (
            event["type"] == FREE
            or not rate > 0.0
            or row["start_ms"] < max(event["started_ms"], event["opened_ms"] - DAY_MS)
        ):
            continue
        seen = row["rest_m3h"] + rate * part_of_day(event, event["below_ms"], row["start_ms"])
        is_told_here = is_for_balance(b.row[0], event)
        if is_told_here:
            here = seen / rate * event["excess_m3h"]  # as a size, beside which a repair is a step
            if seen >= GONE * rate:
                event["nights_gone"], event["below_ms"] = 0, NEVER
                event["night_m3h"], event["fell_m3h"] = here, 0.0
            else:
                if event["nights_gone"] == 0:
                    event["fell_m3h"] = max(event["fell_m3h"], event["night_m3h"] - here)
                event["nights_gone"] += 1
                if event["below_ms"] == NEVER:
                    event["below_ms"] = row["start_ms"]
        elif event["below_ms"] != NEVER:
            continue
        event["metered_days"] += 1
        event["unmetered"] += (seen / rate - event["unmetered"]) / event["metered_days"]
        root = np.sqrt(event["metered_days"])
        level = calibration.threshold(b.calibrations[BALANCE], p.return_days)
        sure = calibration.score(root * event["unmetered"] * rate / spread, level)
        if seen >= GONE * rate:
            event["scores"][BALANCE] = max(event["scores"][BALANCE], sure)
        if is_told_here:
            if event["nights_gone"] >= CLEAR_NIGHTS:
                event["ended_ms"] = event["below_ms"]
                event["unmetered"] = max(event["unmetered"], GONE)  # what is over is no demand
                count = emit(event, CLEARED, slot_end_ms, out, count)
                remember(b, event, True)
                event["type"] = FREE
                release(b, event, 0.0)
        elif is_contradicted(event, spread):
            event["ended_ms"] = row["start_ms"] + DAY_MS
            event["scores"][BALANCE] = 0.0
            count = emit(event, CLEARED, slot_end_ms, out, count)
            remember(b, event, False)
            # what is left of it by now is demand like any other
            event["excess_m3h"] = min(max(event["recent_m3h"], 0.0), event["excess_m3h"])
            accept(b, event)
            event["type"] = FREE
            drop_night(b)
    return count


@njit(cache=False)
def is_contradicted(event: Record, spread_m3h: float) -> bool:
    """Whether an event that no pressure logger has shown is demand beyond doubt: it could not hide in the balance."""
    root = np.sqrt(event["metered_days"])
    is_plain = rate_m3h(event) * root >= DOUBTLESS * spread_m3h
    is_flow = event["type"] in (NIGHT_FLOW_LEAK, BURST_EVENT) and event["logger"] < 0
    return is_flow and is_plain and event["unmetered"] + spread_m3h / root / rate_m3h(event) < GONE


@njit(cache=False)
def raise_leak(
    b: Buffers, p: Params, scores: NDArray[np.float32], day: int, slot_end_ms: int, coverage: float, out: Records, count: int
) -> int:
    """A leak that the balance shows, by itself or with the last night, or growth of a young one. Returns the new count."""
    own, row = b.balance[0], b.balance_days[day % b.balance_days.shape[0]]
    excess = own["excess_m3h"]
    is_seconded = scores[BALANCE] >= CORROBORATED and own["night_score"] >= CORROBORATED
    if not (scores[BALANCE] >= THRESHOLD or is_seconded) or not excess > 0.0:
        return count
    for i in range(b.events.shape[0]):
        event = b.events[i]
        young = slot_end_ms - event["opened_ms"] < GROWING_MS
        if event["type"] != FREE and (
            young or excess < event["excess_m3h"]
        ):  # so slow a voice can't tell a second one apart
            before = 0.0 if np.isnan(event["size_sd_m3h"]) else event["size_sd_m3h"]
            scale = night_scale(event)
            grow(b, event, excess * scale, scores)
            event["size_sd_m3h"] = np.sqrt(before * before + (own["spread_m3h"] * scale) ** 2)
            event["grown"] += 1
            own["score"] = own["night_score"] = 0.0
            return count
    i = open_leak(b, p, NIGHT_FLOW_LEAK, -1, -1, own["start_ms"], slot_end_ms, excess)
    if i < 0:
        return count
    event = b.events[i]
    note_scores(event, scores, b.row[0]["pressure_z"])
    if is_seconded:
        event["scores"][NIGHT_FLOW] = own["night_score"]
    rest = row["rest_m3h"]
    observed = row["inflow_m3h"] / row["valid"] - row["metered_m3h"]
    note_band(event, observed, observed - rest, own["spread_m3h"], coverage, row["start_ms"])
    event["noted_of"] = OF_BALANCE
    note_scale(b, p, event)
    for_night = night_scale(event)
    event["excess_m3h"] = event["recent_m3h"] = event["usual_m3h"] = event["night_m3h"] = excess * for_night
    event["size_sd_m3h"] = own["spread_m3h"] * for_night
    event["slots"] = b.levels.shape[1] // 7
    calibrated = b.calibrations[BALANCE]
    known = calibrated["days"]
    calibrated["days"] = max(known, ALARM_DAYS)  # as for the pressures: a leak of the first months is no noise
    count = announce(b, p, event, scores, slot_end_ms, out, count)
    calibrated["days"] = known
    own["score"] = own["night_score"] = 0.0
    return count
