"""Leaks that were said to be over and come back: the alert is re-opened, unless a repair was seen.

A repair is a step down of about the leak's size. An excess that faded, or drifted out of sight with the season, was not
repaired; nor was one that is back within a day. Evidence for a leak of about that size, within the site's
`reopenAfterDays`, then belongs to the same event (DOMAIN: after repair, verify the step down, and re-open if there is none).
Events that were accepted as normal, or were none, do not return.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import calibration
from models.events import (
    BOUNDARY_VALVE,
    DAY_MS,
    FREE,
    HOUR_MS,
    RAISED,
    UPDATED,
    drop_night,
    emit,
    is_pressure_only,
    open_event,
    tell_calibrations,
)  # fmt: skip
from models.params import Params
from models.schema import NEVER, Record, Records
from models.state import Buffers

REPAIRED: Final = 0.6  # of the size: so much must have gone in a step
VERIFY_MS: Final = 24 * HOUR_MS  # with 72, two bursts of L-Town passed for a repair of two days before that did not hold
ALIKE: Final = (0.5, 2.0)  # of the size: what is back so soon after a step is the same leak; anything larger is another


@njit(cache=False)
def remember(b: Buffers, event: Record, may_return: bool) -> None:
    """Keep an event that has just ended, in place of the one that ended first; where it may not return, for its start alone.

    Type and start make the id, and days and nights begin at the same time for every leak: the next must not have it again.
    """
    oldest = 0
    for i in range(b.past.shape[0]):
        if b.past[i]["type"] == FREE:
            oldest = i
            break
        if b.past[i]["updated_ms"] < b.past[oldest]["updated_ms"]:
            oldest = i
    b.past[oldest] = event
    if not may_return:
        b.past[oldest]["opened_ms"] = NEVER


@njit(cache=False)
def same_leak(
    b: Buffers, p: Params, kind: int, neighbour: int, logger: int, start_ms: int, now_ms: int, excess_m3h: float
) -> int:
    """Row of the remembered event that evidence for a leak belongs to, the last one to end; -1: it is a new one.

    `logger`: that of the pressures' evidence, -1 for that of the inflow; `excess_m3h` is since `start_ms`.
    """
    found = -1
    for i in range(b.past.shape[0]):
        old = b.past[i]
        if old["type"] == FREE or old["opened_ms"] == NEVER or now_ms - old["updated_ms"] > p.reopen_ms:
            continue
        if (old["type"] == BOUNDARY_VALVE) != (kind == BOUNDARY_VALVE) or old["neighbour"] != neighbour:
            continue
        is_late = start_ms - old["ended_ms"] > VERIFY_MS
        share = excess_m3h / max(old["largest_m3h"], 1e-9)
        is_repaired = old["fell_m3h"] >= REPAIRED * old["largest_m3h"]
        if is_pressure_only(old):  # it ended with a rise where it had fallen: only a fall there, and soon, is the same
            is_other = is_late or logger != old["logger"]
        elif logger < 0:
            is_other = share > ALIKE[1] or (is_repaired and (is_late or share < ALIKE[0]))
        else:
            is_other = is_repaired or logger != old["logger"]
        if is_other:
            continue
        if found < 0 or old["updated_ms"] > b.past[found]["updated_ms"]:
            found = i
    return found


@njit(cache=False)
def open_again(b: Buffers, row: int, start_ms: int, now_ms: int, excess_m3h: float) -> int:
    """Put a remembered event back among the open ones; its index, or -1 when all rows are taken."""
    for i in range(b.events.shape[0]):
        event = b.events[i]
        if event["type"] == FREE:
            unseen_ms = max(start_ms, b.past[row]["ended_ms"])  # what ran before that has been counted
            b.events[i] = b.past[row]
            b.past[row]["type"] = FREE
            event["opened_ms"] = now_ms
            event["ended_ms"] = event["below_ms"] = event["less_ms"] = NEVER
            event["nights_gone"] = event["slots"] = 0
            event["excess_m3h"] = event["recent_m3h"] = event["usual_m3h"] = event["night_m3h"] = excess_m3h
            event["fell_m3h"] = event["slot_spread_m3h"] = 0.0
            event["size_sd_m3h"] = np.nan
            event["unmetered"], event["metered_days"] = 0.0, 0
            event["logger"] = event["second_logger"] = -1
            event["lost_m3"] += max(excess_m3h, 0.0) * max(now_ms - unseen_ms, 0) / HOUR_MS
            drop_night(b)
            return i
    return -1


@njit(cache=False)
def open_leak(
    b: Buffers, p: Params, kind: int, neighbour: int, logger: int, start_ms: int, now_ms: int, excess_m3h: float
) -> int:
    """A new event, or an old one that has come back (`same_leak`); its row, -1 when all are taken."""
    old = same_leak(b, p, kind, neighbour, logger, start_ms, now_ms, excess_m3h)
    if old >= 0:
        return open_again(b, old, start_ms, now_ms, excess_m3h)
    i = open_event(b, kind, start_ms, now_ms, excess_m3h)
    if i >= 0:
        b.events[i]["neighbour"] = neighbour
    return i


@njit(cache=False)
def forget_days(b: Buffers, p: Params, event: Record) -> None:
    """A leak that came back was there all the time: no day since it began teaches a threshold, nor does its return.

    The budget is for alerts, and this is no other alert.
    """
    days = (event["opened_ms"] - event["started_ms"]) // DAY_MS + 1
    for d in range(b.calibrations.shape[0]):
        calibration.alarm(b.calibrations[d], p.return_days, 0.0, days)


@njit(cache=False)
def announce(
    b: Buffers, p: Params, event: Record, scores: NDArray[np.float32], now_ms: int, out: Records, count: int
) -> int:
    """Tell the calibrations of an event that has just been opened, and write its first revision, or its next."""
    if event["revision"] > 0:
        forget_days(b, p, event)
        return emit(event, UPDATED, now_ms, out, count)
    tell_calibrations(b, p, event, scores)
    return emit(event, RAISED, now_ms, out, count)
