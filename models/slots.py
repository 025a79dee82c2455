"""Readings onto the slot grid: event-time frontier, allowed lateness, last received wins.

A slot closes as soon as it is complete: every meter has spoken to its end and has as many readings in it as it usually
has. It waits for a meter that has not until the others are more than that meter's lateness past it; "the others" is the
second newest meter where there are three or more: one clock that runs ahead can't close slots over everybody's head. Where
there are fewer, a jump ahead of all needs a second reading to be believed. So whole data is judged at once, a gap or a
silent meter costs one lateness, and no order of arrival within the lateness makes a difference. Customer meters, which
upload a day at once, are never waited for; their lateness only says from when on they count as late.

All decisions are taken reading by reading, so they do not depend on how readings were grouped into blocks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.meters import register_flow
from models.schema import BAD, LEVEL, NEVER, REGISTER, Record, Records

HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000
HABIT_SLOTS: Final = 96  # so many poorer slots in a row, and a meter is expected to send less from now on

LATE, OPEN, COUNTED = range(3)
"""What becomes of a reading: its slot is closed; it waits for its slot to close; it is counted, and no slot waits for it."""

PENDING = np.dtype(
    [
        ("time_ms", "<i8"),
        ("value", "<f8"),
        ("channel", "<i4"),
        ("kind", "u1"),
        ("quality", "u1"),
    ]
)
"""A reading whose slot is still open, in order of arrival."""


@njit(cache=False)
def slot_end(time_ms: int, slot_ms: int) -> int:
    """End of the slot that an interval ending at `time_ms` belongs to: slots are open at the start, closed at the end."""
    return -(-time_ms // slot_ms) * slot_ms


@njit(cache=False)
def newest_of_others(latest_ms: NDArray[np.int64], is_waited_for: NDArray[np.bool_]) -> int:
    """Newest time that a single wrong clock can't bring about; NEVER before enough meters have spoken."""
    first = second = NEVER
    meters = 0
    for c in range(latest_ms.shape[0]):
        if is_waited_for[c]:
            meters += 1
            if latest_ms[c] > first:
                first, second = latest_ms[c], first
            elif latest_ms[c] > second:
                second = latest_ms[c]
    return second if meters >= 3 else first


@njit(cache=False)
def bits(mask: int) -> int:
    """Number of bits set."""
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@njit(cache=False)
def is_due(
    heard: NDArray[np.int64],
    channels: Records,
    is_waited_for: NDArray[np.bool_],
    lateness_ms: NDArray[np.int64],
    newest_ms: int,
    end_ms: int,
) -> bool:
    """True when the slot that ends at `end_ms` waits for no meter any more.

    `heard` (C,): which minutes of the slot each meter has a reading in, as bits. A meter has spoken when it has its usual
    number of readings in the slot and one at or past its end; otherwise, and while its habit is not known yet, it is given
    its whole lateness, counted on `newest_ms`, the time of the others.
    """
    for c in range(heard.shape[0]):
        if is_waited_for[c] and newest_ms <= end_ms + lateness_ms[c]:
            channel = channels[c]
            usual = channel["per_slot"]
            if heard[c] == 0 or usual == 0 or channel["believed_ms"] < end_ms or bits(heard[c]) < usual:
                return False
    return newest_ms != NEVER


@njit(cache=False)
def close_slot(heard: NDArray[np.int64], channels: Records) -> None:
    """Learn how many readings each meter sends in a slot, and clear the slot's row of the ring."""
    for c in range(heard.shape[0]):
        if heard[c] == 0:
            continue
        count, channel = bits(heard[c]), channels[c]
        if count >= channel["per_slot"]:
            channel["per_slot"], channel["fewer_slots"] = count, 0
        else:
            channel["fewer_slots"] += 1
            if channel["fewer_slots"] >= HABIT_SLOTS:
                channel["per_slot"], channel["fewer_slots"] = count, 0
        heard[c] = 0


def fit_ring(heard: NDArray[np.int64], rows: int, frontier_ms: int, slot_ms: int) -> NDArray[np.int64]:
    """`heard` as a ring of `rows` slots: another lateness makes another length."""
    if len(heard) == rows:
        return heard
    fitted = np.zeros((rows, heard.shape[1]), np.int64)
    if frontier_ms != NEVER and len(heard):
        for slot in range(frontier_ms // slot_ms + 1, frontier_ms // slot_ms + 1 + min(rows, len(heard))):
            fitted[slot % rows] = heard[slot % len(heard)]
    return fitted


@njit(cache=False)
def believe(channel: Record, time_ms: int, newest_ms: int, jump_ms: int) -> bool:
    """Whether the meter's time moves its DMA's; a jump ahead of everybody needs a second, different reading near it."""
    channel["latest_ms"] = max(channel["latest_ms"], time_ms)
    if newest_ms != NEVER and time_ms > newest_ms + jump_ms:
        before = channel["ahead_ms"]
        if before in (NEVER, time_ms) or abs(time_ms - before) > jump_ms:
            channel["ahead_ms"] = time_ms
            return False
    channel["believed_ms"] = max(channel["believed_ms"], time_ms)
    return True


@njit(cache=True)
def admit(
    channel: NDArray[np.int32],
    time_ms: NDArray[np.int64],
    channels: Records,
    heard: NDArray[np.int64],
    is_waited_for: NDArray[np.bool_],
    lateness_ms: NDArray[np.int64],
    longest_lateness_ms: int,
    slot_ms: int,
    frontier_ms: int,
    verdicts: NDArray[np.uint8],
    frontiers_ms: NDArray[np.int64],
) -> int:
    """Decide for each reading whether its slot is still open; returns the new frontier (end of the newest closed slot).

    `channel`, `time_ms` (n,) in order of arrival; `verdicts` (n,) becomes OPEN, LATE or, for customer meters, which no slot
    waits for, COUNTED or LATE; `frontiers_ms` (n,) the frontier when the reading came, NEVER before the first. `lateness_ms`
    (C,), of which the longest is waited for. `heard` (R, C): the minutes in which each meter has a reading, for each of the
    R slots past the frontier, a ring by slot number. A slot further ahead than R is not noted, so it waits for its lateness.
    """
    believed = channels["believed_ms"]
    newest = newest_of_others(believed, is_waited_for)
    top = believed.max() if believed.shape[0] else NEVER
    ring = heard.shape[0]
    for i in range(channel.shape[0]):
        c, time = channel[i], time_ms[i]
        channels[c]["readings"] += 1
        frontiers_ms[i] = frontier_ms
        if not is_waited_for[c]:
            channels[c]["latest_ms"] = max(channels[c]["latest_ms"], time)
            is_late = newest != NEVER and time < newest - lateness_ms[c]
            verdicts[i] = LATE if is_late else COUNTED
            channels[c]["late"] += is_late
            continue
        end = slot_end(time, slot_ms)
        if frontier_ms == NEVER:
            frontier_ms = end - slot_ms - slot_end(longest_lateness_ms, slot_ms)
        is_late = end <= frontier_ms
        verdicts[i] = LATE if is_late else OPEN
        channels[c]["late"] += is_late
        if not is_late and end - frontier_ms <= ring * slot_ms:
            heard[(end // slot_ms) % ring, c] |= np.int64(1) << ((end - time) // MINUTE_MS)
        if believe(channels[c], time, top, longest_lateness_ms + HOUR_MS):
            top = max(top, time)
        if time > newest:
            newest = newest_of_others(believed, is_waited_for)
        while True:
            following = frontier_ms + slot_ms
            row = heard[(following // slot_ms) % ring]
            if not is_due(row, channels, is_waited_for, lateness_ms, newest, following):
                break
            close_slot(row, channels)
            frontier_ms = following
    return frontier_ms


@njit(cache=True)
def fill_slots(
    pending: Records,
    order: NDArray[np.int64],
    channels: Records,
    first_end_ms: int,
    slot_ms: int,
    values: NDArray[np.float64],
) -> int:
    """Mean of each meter in each slot; returns how many readings were superseded by a later one of the same time.

    `pending[order]` is sorted by channel, then time, then arrival; `values` (n, C) starts as NaN. Levels take the last
    value of the slot, registers become flows, readings of bad quality count as missing.
    """
    duplicates = 0
    counts = np.zeros(values.shape, np.int32)
    for i in range(order.shape[0]):
        reading = pending[order[i]]
        if i + 1 < order.shape[0]:
            following = pending[order[i + 1]]
            if following["channel"] == reading["channel"] and following["time_ms"] == reading["time_ms"]:
                duplicates += 1
                continue
        if reading["quality"] == BAD:
            continue
        c = reading["channel"]
        slot = (slot_end(reading["time_ms"], slot_ms) - first_end_ms) // slot_ms
        value = reading["value"]
        if reading["kind"] == REGISTER:
            value = register_flow(channels[c], reading["time_ms"], value)
            if np.isnan(value):
                continue
        if reading["kind"] == LEVEL or counts[slot, c] == 0:
            values[slot, c] = value
        else:
            values[slot, c] += (value - values[slot, c]) / (counts[slot, c] + 1)
        counts[slot, c] += 1
    return duplicates
