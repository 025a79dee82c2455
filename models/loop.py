"""The compiled loop over closed slots: meters -> inflows -> expectation -> features -> detectors -> events -> learning.

One pass, in event time, one slot after the other, with all state in `Buffers`: what comes out depends only on the
sequence of slots, never on how many of them were closed in one call.

The parts are compiled into the loop (`forceinline`) and share arrays that are not counted (`borrow.py`): a slot of a quiet
DMA takes 1.5 µs instead of 4.6, and compiling no longer (2026-11-24). Numba optimizes a function again in every caller, and
compiles it anew for every literal integer that it is handed. So the tree of calls is flat, and what numbers events,
detectors and counts is a numpy integer: the pairs of loggers add 19 s to 69 s of compiling, not 65. (Tried and lost:
`close_slots` as a part of `close_until`, 67 s in all, but 1.9 µs a slot instead of 1.2. 2026-11-28.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import calibration, night_level, sizes
from models.balance_events import conclude_balance, observe_balance
from models.borrow import borrowed
from models.calendar import BESIDE, CLOCK_CHANGE, UNUSUAL, day_of
from models.detectors import (
    BALANCE,
    BURST,
    FLOW_SHIFT,
    ISOLATION,
    NIGHT_FLOW,
    PRESSURE_STEP,
    PRESSURE_TREND,
    burst,
    flow_shift,
    isolation,
    night_flow,
)
from models.events import is_any_leak_open, is_any_leak_seen, is_unsettled, known_excess
from models.faults import judge_meters, watch_meters
from models.features import slot_features
from models.flow_events import raise_burst
from models.forest import Forest
from models.gaps import missing_flows, note_gap
from models.lifecycle import follow, judge_night
from models.meters import net_inflow, partial_inflow
from models.numbers import numbered
from models.params import Params
from models.pressure_loop import conclude_pressure, observe_pressure
from models.profile import expect, learn
from models.schema import NEVER, Record, Records
from models.slots import drop_until, fill_slots, in_order
from models.state import Buffers

DAY_MS = 86_400_000
MINUTE_MS = 60_000
BAND_SPREADS = 3.0
NONE_YET = numbered(1)[0]
WIDTHS = np.array([1.0, 1.5, 2.0, 1.0])
"""By kind of day, its spread in usual ones: a holiday is like a Sunday, but not quite, and so are the days beside it."""


@njit(cache=False, forceinline=True)
def local_time(p: Params, slot_start_ms: int) -> tuple[int, int]:
    """Local day (days since the epoch) and minute of that day in which a slot begins."""
    change = np.searchsorted(p.zone_changes_ms, slot_start_ms, "right") - 1
    local_ms = slot_start_ms + p.zone_offsets_s[change] * 1000
    return local_ms // DAY_MS, (local_ms % DAY_MS) // MINUTE_MS


@njit(cache=False, forceinline=True)
def fill_series(b: Buffers, p: Params, values: NDArray[np.float64]) -> float:
    """Net inflows and pressures of this slot; returns the share of the DMA's own flow and level meters with a value."""
    for s in range(p.inflows):
        b.series[s]["value"] = net_inflow(p.signs[s], p.areas_m2[s], values, b.channels, p.slot_hours)
    for s in range(p.pressure_channel.shape[0]):
        b.series[p.inflows + s]["value"] = values[p.pressure_channel[s]]
    needed = present = 0
    for c in range(values.shape[0]):
        if p.signs[0, c] != 0 or p.areas_m2[0, c] > 0.0:
            needed += 1
            present += not np.isnan(values[c])
        b.channels[c]["level_m"] = values[c]
    return present / max(needed, 1)


@njit(cache=False, forceinline=True)
def expect_all(b: Buffers, p: Params, slot: int, spread_bin: int, kind: int, known: float) -> None:
    """Expectation and residual of every series, and the mean word of the pressure loggers."""
    width = WIDTHS[kind]
    total, loggers = 0.0, 0
    for s in range(b.series.shape[0]):
        expect(
            b.series[s], b.levels[s], b.weeks[s], b.spreads[s], b.spread_hours[s], slot, spread_bin, width,
            known if s == 0 else 0.0,
        )  # fmt: skip
        if s >= p.inflows and not np.isnan(b.series[s]["z"]):
            # pressure drift matters in both directions: a booster that runs lower all day is not a burst
            total += (b.series[s]["residual"] - b.series[s]["drift"]) / b.series[s]["spread"]
            loggers += 1
    b.row[0]["pressure_z"] = total / loggers if loggers else np.nan


@njit(cache=False, forceinline=True)
def detect(
    b: Buffers,
    p: Params,
    forest: Forest,
    features: NDArray[np.float32],
    scores: NDArray[np.float32],
    statistics: NDArray[np.float64],
    slot_start_ms: int,
    day: int,
    minute: int,
    kind: int,
    known: float,
) -> bool:
    """Run every detector on this slot and calibrate its statistic into `scores`; True when a night was closed."""
    row = b.row[0]
    night_over = False
    scores[NIGHT_FLOW] = scores[PRESSURE_STEP] = scores[PRESSURE_TREND] = scores[BALANCE] = 0.0
    statistics[:] = np.nan
    # a holiday's night is no weekday's, and when the clock changes the window lasts an hour less or more
    in_window = p.night_start_min <= minute < p.night_end_min and kind <= BESIDE
    if in_window and b.nights[day % b.nights.shape[0]]["day"] != day:
        if row["night_day"] != day:
            row["night_day"], row["night_slots"], row["night_valid"] = day, 0, 0
            row["night_best_m3h"], row["night_start_ms"] = np.inf, slot_start_ms
        night_flow.collect(row, b.night_flow, b.series[0]["value"] - known)
        if minute + p.slot_ms // MINUTE_MS >= p.night_end_min:
            statistics[NIGHT_FLOW] = night_flow.update(row, b.night_level[0], b.nights, b.series[0]["mean_level"])
            scores[NIGHT_FLOW] = calibrated(b, p, NIGHT_FLOW, statistics)
            row["night_day"] = NEVER
            night_over = True
            if not is_any_leak_open(b.events):
                sizes.learn_night(b.sizing[0], b.nights, day)
    night_level.note_slot(b.night_level[0], b.series[0]["value"] - known)
    limit = 3.0 * calibration.threshold(b.calibrations[BURST], p.return_days)
    statistics[BURST] = burst.update(row, b.series[0], limit)
    scores[BURST] = calibrated(b, p, BURST, statistics)
    statistics[FLOW_SHIFT] = flow_shift.update(b.shift[0], b.shift_slots, b.shift_rests, b.series, slot_start_ms)
    scores[FLOW_SHIFT] = calibrated(b, p, FLOW_SHIFT, statistics)
    statistics[ISOLATION] = isolation.update(row, features, forest, p.slot_hours)
    scores[ISOLATION] = calibrated(b, p, ISOLATION, statistics)
    return night_over


@njit(cache=False, forceinline=True)
def calibrated(b: Buffers, p: Params, detector: int, statistics: NDArray[np.float64]) -> float:
    """Score of a detector's statistic against the DMA's own past; the statistic joins the day's maximum."""
    if p.silent[detector]:
        statistics[detector] = np.nan
    calibration.observe(b.calibrations[detector], statistics[detector])
    level = calibration.threshold(b.calibrations[detector], p.return_days)
    return calibration.score(statistics[detector], level)


@njit(cache=False, forceinline=True)
def begin_slot(b: Buffers, p: Params, day: int) -> bool:
    """At local midnight, let calibrations and night level take in the day that is over; True when there was one."""
    row = b.row[0]
    if row["day"] == day:
        return False
    is_over = row["day"] != NEVER
    if row["day"] != NEVER:
        quiet = not is_any_leak_seen(row, b.events)
        for d in range(b.calibrations.shape[0]):
            calibration.end_day(b.calibrations[d], p.return_days, quiet)
        night_level.end_day(
            b.night_level[0], b.nights, row["day"], night_flow.COVERAGE, day_of(p.days, row["day"])[1] < UNUSUAL
        )
        sizes.end_day(b.sizing[0], b.levels.shape[1] // 7)
    row["day"] = day
    return is_over


@njit(cache=False, forceinline=True)
def push_rings(b: Buffers, p: Params, features: NDArray[np.float32]) -> None:
    """Put this slot's residuals into the rings and compute its features."""
    row = b.row[0]
    row["position"] = (row["position"] + 1) % b.flow_z.shape[0]
    b.flow_z[row["position"]] = b.series[0]["z"]
    b.pressure_z[row["position"]] = row["pressure_z"]
    slot_features(b.flow_z, b.pressure_z, row["position"], p.slots_1h, row["night_z"], features)


@njit(cache=False, forceinline=True)
def learn_all(b: Buffers, p: Params, slot: int, spread_bin: int, kind: int, known: float, slot_end_ms: int) -> None:
    """Teach every profile this slot. The DMA's own is spared what an unsettled event brings, all what a holiday does."""
    settled = not is_unsettled(b.events, slot_end_ms)
    usual = kind < UNUSUAL
    if usual and not is_any_leak_open(b.events):
        sizes.note_slot(b.sizing[0], b.series[0]["z"])
    for s in range(b.series.shape[0]):
        learn(
            b.series[s], b.levels[s], b.weeks[s], b.spreads[s], b.spread_hours[s], slot, spread_bin,
            known if s == 0 else 0.0, p.slot_hours, usual and (settled or s > 0),
        )  # fmt: skip


@njit(cache=False, forceinline=True)
def note_detection(b: Buffers, out: Record, slot_end_ms: int, coverage: float) -> None:
    """What is published of a judged slot, beside its features and scores."""
    own = b.series[0]
    expected = own["foreseen"]
    out["slot_end_ms"], out["observed_m3h"], out["expected_m3h"] = slot_end_ms, own["value"], expected
    out["lower_m3h"] = expected - BAND_SPREADS * own["spread"]
    out["upper_m3h"] = expected + BAND_SPREADS * own["spread"]
    out["coverage"] = coverage
    out["learnable"] = not np.isnan(own["z"]) and not is_any_leak_open(b.events)


@njit(cache=False, forceinline=True)
def close_slots(
    b: Buffers,
    p: Params,
    forest: Forest,
    values: NDArray[np.float64],
    closed_ms: int,
    detections: Records,
    transitions: Records,
) -> tuple[int, int]:
    """Judge the n slots that follow `closed_ms`. Returns how many detections and transitions were written.

    `values` (n, C): mean of each meter in each slot (m3/h, kPa; m at the end of the slot for levels), NaN when missing;
    overwritten. `detections` (n,), `transitions` holds three of each event and slot.
    """
    row = b.row[0]
    written = count = NONE_YET
    past = np.empty((b.calibrations.shape[0], 2))
    for i in range(values.shape[0]):
        end_ms = closed_ms + (i + 1) * p.slot_ms
        row["frontier_ms"] = end_ms
        if not row["started"]:
            if np.all(np.isnan(values[i])):
                continue
            row["started"] = 1
        day, minute = local_time(p, end_ms - p.slot_ms)
        weekday, kind = day_of(p.days, day)
        slot = weekday * (DAY_MS // p.slot_ms) + minute * MINUTE_MS // p.slot_ms
        spread_bin = minute // 60 + (24 if weekday >= 5 else 0)

        is_new_day = begin_slot(b, p, day)
        missing = missing_flows(p.signs[0], values[i])
        watch_meters(b, p, values[i], end_ms, day, minute)
        # what a stuck meter said is no evidence when it comes late either
        is_gap = missing > 0 and missing == missing_flows(p.signs[0], values[i]) and is_any_leak_open(b.events)
        partial = partial_inflow(p.signs[0], p.areas_m2[0], values[i], b.channels, p.slot_hours) if is_gap else np.nan
        coverage = fill_series(b, p, values[i])
        known = known_excess(b.events)
        expect_all(b, p, slot, spread_bin, kind, known)
        if kind == CLOCK_CHANGE and minute < p.night_end_min:
            # people live by the clock, roof tanks and logger clocks may not: that night says nothing, its morning does
            b.series[0]["z"] = np.nan
        count = judge_meters(b, p, end_ms, transitions, count)
        if is_gap:
            note_gap(b, missing, partial, end_ms)
        out = detections[written]
        push_rings(b, p, out["features"])
        night_over = detect(
            b, p, forest, out["features"], out["scores"], out["statistics"], end_ms - p.slot_ms, day, minute, kind, known
        )
        balanced = (
            observe_balance(b, p, out["scores"], out["statistics"], end_ms, night_over)
            if b.balance_days.shape[0] > 0
            else NEVER
        )
        said = (-1, -1, -1, 0)
        if b.loggers.shape[0] > 0:
            width = (
                np.inf if kind > BESIDE and minute < p.night_end_min else WIDTHS[kind]
            )  # no night of theirs says anything
            said = observe_pressure(b, p, out["scores"], out["statistics"], end_ms, day, minute, width, is_new_day)
        note_detection(b, out, end_ms, coverage)

        written, before = written + 1, count
        for d in range(past.shape[0]):
            past[d, 0], past[d, 1] = b.calibrations[d]["mean"], b.calibrations[d]["days"]
        count = raise_burst(b, p, out["scores"], end_ms, coverage, transitions, count)
        if night_over and count == before:  # else the night has seen what was raised just now
            count = judge_night(b, p, out["scores"], end_ms, coverage, transitions, count)
        count = follow(b, p, end_ms, coverage, transitions, count)
        if b.loggers.shape[0] > 0:
            count = conclude_pressure(
                b, p, out["scores"], said, end_ms, minute, kind < UNUSUAL, coverage, transitions, before, count
            )
        if b.balance_days.shape[0] > 0:
            count = conclude_balance(b, p, out["scores"], balanced, end_ms, coverage, transitions, before, count)
        for d in range(past.shape[0]):  # since `before` only an alarm has taught a calibration anything
            own = b.calibrations[d]
            out["alarmed"][d] = 0 if own["mean"] == past[d, 0] else (1 if own["days"] > past[d, 1] else 2)
        out["leak_open"] = is_any_leak_seen(row, b.events)
        learn_all(b, p, slot, spread_bin, kind, known_excess(b.events), end_ms)
    return written, count


@njit(cache=True)
def close_until(
    buffers: tuple[Any, ...],
    params: tuple[Any, ...],
    trees: tuple[Any, ...],
    pending: Records,
    waiting: int,
    closed_ms: int,
    until_ms: int,
    detections: Records,
    transitions: Records,
) -> tuple[int, int, int, int]:
    """Fill and judge the slots that end in (closed_ms, until_ms] from `pending[:waiting]`, which keeps the rest.

    `buffers` is a Buffers, `params` a Params, `trees` a Forest, each as a plain tuple: numba takes 4.8 µs a call to see what
    three named ones are, 2.2 for these (2026-11-24). Returns how many readings still wait, how many were superseded by a
    later one of the same time, and how many detections and transitions were written.
    """
    b, p, forest = borrowed(Buffers(*buffers)), borrowed(Params(*params)), borrowed(Forest(*trees))
    values = np.full(((until_ms - closed_ms) // p.slot_ms, b.channels.shape[0]), np.nan)
    order = in_order(pending[:waiting], until_ms, b.channels.shape[0])
    duplicates = fill_slots(pending, order, b.channels, closed_ms + p.slot_ms, p.slot_ms, values)
    waiting = drop_until(pending, waiting, until_ms)
    written, count = close_slots(b, p, forest, values, closed_ms, detections, transitions)
    return waiting, duplicates, written, count
