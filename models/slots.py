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

from models.borrow import borrowed
from models.customers import DAY_MS, note_use
from models.meters import register_flow
from models.schema import BAD, BATTERY, LEVEL, NEVER, REGISTER, Record, Records

HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000
HABIT_SLOTS: Final = 96  # so many poorer slots in a row, and a meter is expected to send less from now on

LATE, OPEN, COUNTED, FOREIGN = range(4)
"""What becomes of a reading: its slot is closed; it waits for its slot to close; it is counted, and no slot waits for it; it
is of another DMA's meter, or of a battery."""

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


@njit(cache=False, forceinline=True)
def newest_of_others(latest_ms: NDArray[np.int64]) -> int:
    """Newest time that a single wrong clock can't bring about; NEVER before enough meters have spoken."""
    first = second = NEVER
    for c in range(latest_ms.shape[0]):
        if latest_ms[c] > first:
            first, second = latest_ms[c], first
        elif latest_ms[c] > second:
            second = latest_ms[c]
    return second if latest_ms.shape[0] >= 3 else first


@njit(cache=False, forceinline=True)
def bits(mask: int) -> int:
    """Number of bits set."""
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@njit(cache=False, forceinline=True)
def is_due(
    heard: NDArray[np.int64],
    channels: Records,
    facts: Records,
    newest_ms: int,
    end_ms: int,
) -> bool:
    """True when the slot that ends at `end_ms` waits for no meter any more.

    `heard` (C,): which minutes of the slot each meter has a reading in, as bits. A meter has spoken when it has its usual
    number of readings in the slot and one at or past its end; otherwise, and while its habit is not known yet, it is given
    its whole lateness, counted on `newest_ms`, the time of the others.
    """
    for c in range(heard.shape[0]):
        if newest_ms <= end_ms + facts[c]["lateness_ms"]:
            channel = channels[c]
            usual = channel["per_slot"]
            if heard[c] == 0 or usual == 0 or channel["believed_ms"] < end_ms or bits(heard[c]) < usual:
                return False
    return newest_ms != NEVER


@njit(cache=False, forceinline=True)
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


@njit(cache=False, forceinline=True)
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


@njit(cache=False, forceinline=True)
def close_due(
    heard: NDArray[np.int64],
    channels: Records,
    facts: Records,
    newest_ms: int,
    frontier_ms: int,
    slot_ms: int,
) -> int:
    """Close all slots that are due; returns the new frontier."""
    while True:
        following = frontier_ms + slot_ms
        minutes = heard[(following // slot_ms) % heard.shape[0]]
        if not is_due(minutes, channels, facts, newest_ms, following):
            return frontier_ms
        close_slot(minutes, channels)
        frontier_ms = following


@njit(cache=False, forceinline=True)
def count(
    customers: Records,
    use: Records,
    metered: Records,
    i: int,
    reading: Record,
    newest_ms: int,
    lateness_ms: int,
    frontier_ms: int,
) -> bool:
    """Note the reading (READING) of customer meter `i` in its CUSTOMER, USE and METERED; whether it is late."""
    customer, time_ms = customers[i], reading["time_ms"]
    is_late = newest_ms != NEVER and time_ms < newest_ms - lateness_ms
    customer["readings"] += 1
    customer["late"] += is_late
    customer["latest_ms"] = max(customer["latest_ms"], time_ms)
    note_use(use[i], metered, i, reading, frontier_ms)
    return is_late


@njit(cache=False, forceinline=True)
def place_of(lookup: Records, meter: int, guess: int) -> int:
    """Row of `lookup` with this meter, -1 where there is none. A meter comes again, or they take turns: a `guess` saves most
    searches, and no DMA holds a table of all meters of the site."""
    for k in range(guess, min(guess + 2, lookup.shape[0])):
        if lookup[k]["meter"] == meter:
            return k
    low, high = 0, lookup.shape[0]
    while low < high:
        middle = (low + high) // 2
        if lookup[middle]["meter"] < meter:
            low = middle + 1
        else:
            high = middle
    return low if low < lookup.shape[0] and lookup[low]["meter"] == meter else -1


@njit(cache=True)
def admit(
    readings: Records,
    done: int,
    lookup: Records,
    facts: Records,
    longest_lateness_ms: int,
    slot_ms: int,
    row: Records,
    channels: Records,
    customers: Records,
    use: Records,
    metered: Records,
    heard: NDArray[np.int64],
    pending: Records,
    waiting: int,
    verdicts: NDArray[np.uint8],
    frontiers_ms: NDArray[np.int64],
) -> tuple[int, int, int, int, int, int]:
    """Decide for each reading whether its slot is still open, move the frontier, and put what waits into `pending`.

    `readings` (n,) READING in order of arrival, from `done` on. `verdicts` (n,) becomes OPEN, LATE or, for customer
    meters, which no slot waits for, COUNTED or LATE, or FOREIGN; `frontiers_ms` (n,) the frontier when the reading came,
    NEVER before the first. `heard` (R, W): the minutes in which each meter has a reading, for each of the R slots past the
    frontier, a ring by slot number. A slot further ahead than R is not noted, so it waits for its lateness.

    Returns how many readings are done, less than all when `pending` was full or the frontier has entered a new day, on
    which the customers' days are judged (`customers.py`); how many wait; how many are neither late nor
    foreign; how many are late; and the frontier (end of the newest closed slot) before the first one and after the last.
    """
    readings, lookup, facts, channels = borrowed((readings, lookup, facts, channels))
    customers, use, metered, heard, pending = borrowed((customers, use, metered, heard, pending))
    believed = channels["believed_ms"]
    frontier_ms = began_ms = row[0]["frontier_ms"]
    newest = newest_of_others(believed)
    top = NEVER
    for c in range(channels.shape[0]):
        top = max(top, believed[c])
    ring = heard.shape[0]
    accepted = late = k = 0
    while done < readings.shape[0]:
        reading = readings[done]
        found = place_of(lookup, reading["meter"], k)
        if found < 0 or reading["kind"] == BATTERY:
            verdicts[done] = FOREIGN
            done += 1
            continue
        k = found
        c, time = lookup[k]["channel"], reading["time_ms"]
        frontiers_ms[done] = frontier_ms
        if c >= channels.shape[0]:
            is_late = count(
                customers, use, metered, c - channels.shape[0], reading, newest, facts[c]["lateness_ms"], frontier_ms
            )
            verdicts[done] = LATE if is_late else COUNTED
            late, accepted = late + is_late, accepted + (not is_late)
            done += 1
            continue
        if waiting == pending.shape[0]:
            break
        end = slot_end(time, slot_ms)
        if frontier_ms == NEVER:
            # the grid begins a lateness before the first reading; nothing earlier was ever open
            frontier_ms = began_ms = end - slot_ms - slot_end(longest_lateness_ms, slot_ms)
        is_late = end <= frontier_ms
        verdicts[done] = LATE if is_late else OPEN
        channels[c]["readings"] += 1
        channels[c]["late"] += is_late
        late, accepted = late + is_late, accepted + (not is_late)
        if not is_late:
            wait(pending[waiting], reading, c)
            waiting += 1
            if end - frontier_ms <= ring * slot_ms:
                heard[(end // slot_ms) % ring, c] |= np.int64(1) << ((end - time) // MINUTE_MS)
        done += 1
        if believe(channels[c], time, top, longest_lateness_ms + HOUR_MS):
            top = max(top, time)
        if time > newest:
            newest = newest_of_others(believed)
        frontier_ms = close_due(heard, channels, facts, newest, frontier_ms, slot_ms)
        if customers.shape[0] > 0 and frontier_ms // DAY_MS != began_ms // DAY_MS:
            break
    row[0]["frontier_ms"] = frontier_ms
    return done, waiting, accepted, late, began_ms, frontier_ms


@njit(cache=False, forceinline=True)
def wait(place: Record, reading: Record, channel: int) -> None:
    """Put a reading (READING) where it waits (PENDING)."""
    place["time_ms"], place["value"], place["channel"] = reading["time_ms"], reading["value"], channel
    place["kind"], place["quality"] = reading["kind"], reading["quality"]


@njit(cache=False, forceinline=True)
def in_order(pending: Records, until_ms: int, channels: int) -> NDArray[np.int64]:
    """Places of the readings up to `until_ms`, by channel, then time, then arrival: np.lexsort without its 3 µs."""
    starts = np.zeros(channels + 1, np.int64)
    for reading in pending:
        if reading["time_ms"] <= until_ms:
            starts[reading["channel"] + 1] += 1
    for c in range(channels):
        starts[c + 1] += starts[c]
    order = np.empty(starts[channels], np.int64)
    ends = starts.copy()
    is_sorted = np.ones(channels, np.bool_)
    for i in range(pending.shape[0]):
        time, c = pending[i]["time_ms"], pending[i]["channel"]
        if time <= until_ms:
            if ends[c] > starts[c] and pending[order[ends[c] - 1]]["time_ms"] > time:
                is_sorted[c] = False
            order[ends[c]] = i
            ends[c] += 1
    for c in range(channels):
        if not is_sorted[c]:
            sort_by_time(order[starts[c] : ends[c]], pending)
    return order


@njit(cache=False)
def sort_by_time(places: NDArray[np.int64], pending: Records) -> None:
    """Sort places of `pending` by time, those of one time in their order: merges of ever longer runs.

    Numba's own stable sort takes 2 s to compile, and a backlog is too long for a simple one.
    """
    size, width = places.shape[0], 1
    merged = np.empty_like(places)
    while width < size:
        for low in range(0, size, 2 * width):
            middle, high = min(low + width, size), min(low + 2 * width, size)
            i, j = low, middle
            for k in range(low, high):
                if j == high or (i < middle and pending[places[i]]["time_ms"] <= pending[places[j]]["time_ms"]):
                    merged[k] = places[i]
                    i += 1
                else:
                    merged[k] = places[j]
                    j += 1
        places[:] = merged
        width *= 2


@njit(cache=False, forceinline=True)
def drop_until(pending: Records, waiting: int, until_ms: int) -> int:
    """Take the readings up to `until_ms` out of pending[:waiting], the rest in their order; returns how many are left."""
    left = 0
    for i in range(waiting):
        if pending[i]["time_ms"] > until_ms:
            pending[left] = pending[i]
            left += 1
    return left


@njit(cache=False, forceinline=True)
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
