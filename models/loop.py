"""The compiled loop over closed slots: meters -> inflows -> expectation -> features -> detectors -> events -> learning.

One pass, in event time, one slot after the other, with all state in `Buffers`: what comes out depends only on the
sequence of slots, never on how many of them were closed in one call.

The parts are compiled into the loop (`forceinline`) and share arrays that are not counted (`borrow.py`): a slot of a quiet
DMA takes 1.5 µs instead of 4.6, and compiling no longer (2026-11-24).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import calibration
from models.borrow import borrowed
from models.calendar import CLOCK_CHANGE, day_of
from models.detectors import BURST, ISOLATION, NIGHT_FLOW, burst, isolation, night_flow
from models.events import is_any_leak_open, known_excess
from models.features import slot_features
from models.forest import Forest
from models.gaps import missing_flows, note_gap
from models.lifecycle import follow, judge_meter, judge_night, raise_burst
from models.meters import net_inflow, partial_inflow, watch_flat
from models.params import Params
from models.profile import PHASE_HOURS, SETTLED, expect, follow_band, learn
from models.schema import NEVER, Record, Records
from models.slots import drop_until, fill_slots, in_order
from models.state import Buffers

DAY_MS = 86_400_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000


@njit(cache=False, forceinline=True)
def local_time(p: Params, slot_start_ms: int) -> tuple[int, int]:
    """Local day (days since the epoch) and minute of that day in which a slot begins."""
    change = np.searchsorted(p.zone_changes_ms, slot_start_ms, "right") - 1
    local_ms = slot_start_ms + p.zone_offsets_s[change] * 1000
    return local_ms // DAY_MS, (local_ms % DAY_MS) // MINUTE_MS


@njit(cache=False, forceinline=True)
def judge_meters(b: Buffers, p: Params, values: NDArray[np.float64], slot_end_ms: int, out: Records, count: int) -> int:
    """Take flat-lined flow meters out of this slot (NaN in `values`) and raise or clear their faults."""
    for c in range(values.shape[0]):
        if not p.facts[c]["is_flow"]:
            continue
        value = values[c]
        verdict = watch_flat(b.channels[c], value, slot_end_ms, p.slot_hours)
        if p.facts[c]["is_home"]:
            count = judge_meter(b, c, verdict == 2, value, slot_end_ms, p.slot_ms, out, count)
        if verdict:
            values[c] = np.nan
    return count


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
    total, loggers = 0.0, 0
    for s in range(b.series.shape[0]):
        expect(
            b.series[s], b.levels[s], b.weeks[s], b.spreads[s], b.spread_hours[s], slot, spread_bin, kind,
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
    slot_start_ms: int,
    day: int,
    minute: int,
    weekday: int,
    kind: int,
    known: float,
) -> bool:
    """Run every detector on this slot and calibrate its statistic into `scores`; True when a night was closed."""
    row = b.row[0]
    night_over = False
    scores[NIGHT_FLOW] = 0.0
    # when the clock changes the window lasts an hour less or more, so its minimum is no MNF
    in_window = p.night_start_min <= minute < p.night_end_min and kind != CLOCK_CHANGE
    if in_window and b.nights[day % b.nights.shape[0]]["day"] != day:
        if row["night_day"] != day:
            row["night_day"], row["night_slots"], row["night_valid"] = day, 0, 0
            row["night_best_m3h"], row["night_start_ms"] = np.inf, slot_start_ms
        night_flow.collect(row, b.night_flow, b.series[0]["value"] - known)
        if minute + p.slot_ms // MINUTE_MS >= p.night_end_min:
            statistic = night_flow.update(row, b.nights, weekday, kind, b.series[0])
            scores[NIGHT_FLOW] = calibrated(b, p, NIGHT_FLOW, statistic)
            row["night_day"] = NEVER
            night_over = True
    limit = 3.0 * calibration.threshold(b.calibrations[BURST], p.return_days)
    statistic = burst.update(row, b.series, b.burst_sums, p.inflows, slot_start_ms, limit)
    scores[BURST] = calibrated(b, p, BURST, statistic)
    scores[ISOLATION] = calibrated(b, p, ISOLATION, isolation.update(row, features, forest, p.slot_hours))
    return night_over


@njit(cache=False, forceinline=True)
def calibrated(b: Buffers, p: Params, detector: int, statistic: float) -> float:
    """Score of a detector's statistic against the DMA's own past; the statistic joins the day's maximum."""
    calibration.observe(b.calibrations[detector], statistic)
    level = calibration.threshold(b.calibrations[detector], p.return_days)
    return calibration.score(statistic, level)


@njit(cache=False, forceinline=True)
def begin_slot(b: Buffers, p: Params, day: int) -> None:
    """At local midnight, let the calibrations take in the day that is over."""
    row = b.row[0]
    if row["day"] == day:
        return
    if row["day"] != NEVER:
        quiet = not is_any_leak_open(b.events)
        for d in range(b.calibrations.shape[0]):
            calibration.end_day(b.calibrations[d], p.return_days, quiet)
    row["day"] = day


@njit(cache=False, forceinline=True)
def push_rings(b: Buffers, p: Params, features: NDArray[np.float32]) -> None:
    """Put this slot's residuals into the rings and compute its features."""
    row = b.row[0]
    row["position"] = (row["position"] + 1) % b.flow_z.shape[0]
    b.flow_z[row["position"]] = b.series[0]["z"]
    b.pressure_z[row["position"]] = row["pressure_z"]
    slot_features(b.flow_z, b.pressure_z, row["position"], p.slots_1h, row["night_z"], features)


@njit(cache=False, forceinline=True)
def learn_all(b: Buffers, p: Params, slot: int, spread_bin: int, kind: int, known: float) -> None:
    """Teach every profile this slot; the DMA's own is frozen while a leak event is open.

    Its size is never known well enough: what an event's excess leaves over would be learned within days. (Learning the flow
    less the excess of settled events finds 2 of L-Town's 8 incipient leaks instead of 3, 2026-11-27.)
    """
    is_quiet = not is_any_leak_open(b.events)
    if is_quiet:
        follow_band(b.series[0], p.slot_hours)
    for s in range(b.series.shape[0]):
        learn(
            b.series[s], b.levels[s], b.weeks[s], b.spreads[s], b.spread_hours[s], slot, spread_bin, kind,
            known if s == 0 else 0.0, p.slot_hours, is_quiet or s > 0,
        )  # fmt: skip


@njit(cache=False, forceinline=True)
def warm_up(row: Record, p: Params, slot_end_ms: int, has_value: bool) -> int:
    """Count what is learned and how far the DMA has warmed up; returns when this phase ends, NEVER for the last one."""
    if row["phase_ms"] == NEVER:
        row["phase_ms"] = slot_end_ms - p.slot_ms
    if row["phase"] == SETTLED:
        return NEVER
    if has_value:
        row["learned_hours"] += p.slot_hours
    if row["learned_hours"] >= PHASE_HOURS[row["phase"]]:
        row["phase"] += 1
        row["phase_ms"] = slot_end_ms
        if row["phase"] == SETTLED:
            return NEVER
    return slot_end_ms + int((PHASE_HOURS[row["phase"]] - row["learned_hours"]) * HOUR_MS)


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
    written = count = 0
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

        begin_slot(b, p, day)
        missing = missing_flows(p.signs[0], values[i])
        count = judge_meters(b, p, values[i], end_ms, transitions, count)
        # what a stuck meter said is no evidence when it comes late either
        is_gap = missing > 0 and missing == missing_flows(p.signs[0], values[i]) and is_any_leak_open(b.events)
        partial = partial_inflow(p.signs[0], p.areas_m2[0], values[i], b.channels, p.slot_hours) if is_gap else np.nan
        coverage = fill_series(b, p, values[i])
        known = known_excess(b.events)
        expect_all(b, p, slot, spread_bin, kind, known)
        if kind == CLOCK_CHANGE and minute < p.night_end_min:
            # people live by the clock, roof tanks and logger clocks may not: that night says nothing, its morning does
            b.series[0]["z"] = np.nan
        if is_gap:
            note_gap(b, missing, partial, end_ms)
        out = detections[written]
        push_rings(b, p, out["features"])
        night_over = detect(
            b, p, forest, out["features"], out["scores"], end_ms - p.slot_ms, day, minute, weekday, kind, known
        )

        own = b.series[0]
        expected = own["foreseen"]
        out["slot_end_ms"], out["observed_m3h"], out["expected_m3h"] = end_ms, own["value"], expected
        out["lower_m3h"] = expected - own["band"] * own["spread"]
        out["upper_m3h"] = expected + own["band"] * own["spread"]
        out["coverage"] = coverage
        out["learnable"] = not np.isnan(own["z"]) and not is_any_leak_open(b.events)
        out["phase_until_ms"] = warm_up(row, p, end_ms, not np.isnan(own["value"]))
        out["phase"], out["phase_since_ms"] = row["phase"], row["phase_ms"]
        written += 1

        count = raise_burst(b, p, out["scores"], end_ms, coverage, transitions, count)
        if night_over:
            count = judge_night(b, p, out["scores"], end_ms, coverage, transitions, count)
        count = follow(b, p, end_ms, coverage, transitions, count)
        learn_all(b, p, slot, spread_bin, kind, known_excess(b.events))
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
