"""The slot grid against a slow, plain model of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.balance import new_balance
from models.customers import new_use
from models.params import FACTS, LOOKUP
from models.schema import BAD, BATTERY, FLOW, LEVEL, NEVER, READING, REGISTER
from models.slots import (
    COUNTED,
    FOREIGN,
    LATE,
    OPEN,
    PENDING,
    admit,
    drop_until,
    fill_slots,
    fit_ring,
    in_order,
    newest_of_others,
    place_of,
    slot_end,
)
from models.state import CHANNEL, CUSTOMER, ROW

SLOT = 900_000


def new_channels(count):
    channels = np.zeros(count, CHANNEL)
    for name in ("latest_ms", "believed_ms", "ahead_ms", "register_ms"):
        channels[name] = NEVER
    return channels


def lookup_of(waited):
    """Meters of other DMAs lie between; channels that are waited for come first."""
    lookup = np.zeros(len(waited), LOOKUP)
    lookup["meter"] = 3 * np.arange(len(waited)) + 1
    lookup["channel"] = np.argsort(np.argsort(~waited, kind="stable"), kind="stable")
    return lookup


def facts_of(waited, lateness):
    facts = np.zeros(len(waited), FACTS)
    facts["lateness_ms"][lookup_of(waited)["channel"]] = lateness
    return facts


def readings_of(channel, time_ms):
    out = np.zeros(len(channel), READING)
    out["meter"], out["time_ms"], out["value"] = 3 * np.asarray(channel) + 1, time_ms, np.arange(len(channel))
    return out


def admitted(channel, time_ms, waited, lateness, heard=None, room=2):
    """Verdicts and frontier. There is room for two more readings each time, so most blocks are taken in parts."""
    lookup, facts, block = lookup_of(waited), facts_of(waited, lateness), readings_of(channel, time_ms)
    own = int(waited.sum())
    heard = np.zeros((64, own), np.int64) if heard is None else heard
    verdicts, frontiers = np.zeros(len(channel), np.uint8), np.zeros(len(channel), np.int64)
    longest = int(facts["lateness_ms"][:own].max(initial=0))
    channels, customers = new_channels(own), np.zeros(len(waited) - own, CUSTOMER)
    row, pending, frontier = np.zeros(1, ROW), np.zeros(0, PENDING), NEVER
    row["frontier_ms"] = NEVER
    done = waiting = accepted = late = 0
    while done < len(block):
        if waiting == len(pending):
            pending = np.concatenate([pending, np.zeros(room, PENDING)])
        done, waiting, good, bad, began, frontier = admit(
            block, done, lookup, facts, longest, SLOT, row, channels, customers, new_use(len(customers)),
            new_balance(0)[2], heard, pending, waiting, verdicts, frontiers,
        )  # fmt: skip
        accepted, late = accepted + good, late + bad
        assert frontier == row["frontier_ms"][0] >= began
    assert pending["value"][:waiting].tolist() == np.flatnonzero(verdicts == OPEN).tolist()
    assert pending["channel"][:waiting].tolist() == lookup["channel"][np.asarray(channel)[verdicts == OPEN]].tolist()
    assert (accepted, late) == (int((verdicts != LATE).sum()), int((verdicts == LATE).sum()))
    for name, counts in (("late", verdicts == LATE), ("readings", verdicts >= 0)):
        found = np.concatenate([channels[name], customers[name]])[lookup["channel"]]
        assert found.tolist() == [int(counts[channel == c].sum()) for c in range(len(waited))]
    return verdicts, frontier


def naive_admit(channel, time_ms, waited, lateness):
    """Reading by reading, from the definition, with all of the past at hand."""
    meters = np.flatnonzero(waited).tolist()
    believed, ahead = dict.fromkeys(meters, NEVER), dict.fromkeys(meters, NEVER)
    usual, fewer = dict.fromkeys(meters, 0), dict.fromkeys(meters, 0)
    minutes, frontier, verdicts = {}, NEVER, []
    longest = max((lateness[m] for m in meters), default=0)
    jump = longest + 3_600_000
    for c, time in zip(channel.tolist(), time_ms.tolist(), strict=True):
        if not waited[c]:
            order = sorted(believed.values(), reverse=True)
            newest = (order[1] if len(order) >= 3 else order[0]) if order else NEVER
            verdicts.append(LATE if newest != NEVER and time < newest - lateness[c] else COUNTED)
            continue
        end = -(-time // SLOT) * SLOT
        if frontier == NEVER:
            frontier = end - SLOT - -(-longest // SLOT) * SLOT
        verdicts.append(OPEN if end > frontier else LATE)
        if end > frontier:
            minutes.setdefault((end, c), set()).add((end - time) // 60_000)
        top = max(believed.values())
        near = ahead[c] != NEVER and ahead[c] != time and abs(time - ahead[c]) <= jump
        if top != NEVER and time > top + jump and not near:
            ahead[c] = time
        else:
            believed[c] = max(believed[c], time)
        order = sorted(believed.values(), reverse=True)
        newest = order[1] if len(order) >= 3 else order[0]
        while True:
            following = frontier + SLOT
            have = {m: len(minutes.get((following, m), ())) for m in meters}
            spoken = {m: usual[m] and have[m] >= usual[m] and believed[m] >= following for m in meters}
            if newest == NEVER or not all(spoken[m] or newest > following + lateness[m] for m in meters):
                break
            for m in meters:
                if have[m] >= usual[m] and have[m]:
                    usual[m], fewer[m] = have[m], 0
                elif have[m]:
                    fewer[m] += 1
                    if fewer[m] >= 96:
                        usual[m], fewer[m] = have[m], 0
            frontier = following
    return verdicts, frontier


@settings(max_examples=300, deadline=None)
@given(
    data=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 40 * SLOT) | st.integers(0, 40).map(lambda k: k * SLOT)), min_size=1
    ),
    lateness=st.lists(st.sampled_from([0, SLOT // 2, SLOT, 5 * SLOT]), min_size=5, max_size=5)
    | st.sampled_from([0, SLOT // 2, SLOT, 5 * SLOT]).map(lambda one: [one] * 5),
    meters=st.integers(1, 5),
)
def test_admission_follows_its_definition(data, lateness, meters):
    channel = np.array([c % meters for c, _ in data], np.int32)
    time_ms = np.array([t for _, t in data], np.int64)
    waited = np.array([c != 3 for c in range(meters)])
    got, frontier = admitted(channel, time_ms, waited, lateness[:meters])
    expected, expected_frontier = naive_admit(channel, time_ms, waited, lateness)
    assert got.tolist() == expected
    assert frontier == expected_frontier


def test_meters_that_speak_at_the_same_time_wait_for_each_other_even_without_lateness():
    """The first of two readings of one time must not close the slot over the second."""
    time_ms = np.repeat(SLOT * np.arange(1, 9), 2)
    channel = np.tile(np.array([0, 1], np.int32), 8)
    got, _ = admitted(channel, time_ms, np.ones(2, np.bool_), 0, np.zeros((2, 2), np.int64))
    assert (got == OPEN).all()


def test_a_meter_without_lateness_does_not_hold_a_slot_up():
    """A logger (channel 1) that falls silent; the inlet goes on, and its slots close one after the other."""
    time_ms = np.concatenate([np.repeat(SLOT * np.arange(1, 9), 2), SLOT * np.arange(9, 17)])
    channel = np.concatenate([np.tile(np.array([0, 1], np.int32), 8), np.zeros(8, np.int32)])
    waited = np.ones(2, np.bool_)
    assert admitted(channel, time_ms, waited, [8 * SLOT, 0])[1] == 15 * SLOT
    assert admitted(channel, time_ms, waited, [0, 8 * SLOT])[1] == 8 * SLOT
    assert admitted(channel, time_ms, waited, [4 * SLOT, 4 * SLOT])[1] == 11 * SLOT


def test_another_lateness_keeps_what_was_heard_of_open_slots():
    heard = np.arange(1, 13, dtype=np.int64).reshape(6, 2)
    for rows in (4, 6, 9):
        fitted = fit_ring(heard, rows, 10 * SLOT, SLOT)
        for slot in range(11, 11 + min(rows, 6)):
            assert fitted[slot % rows].tolist() == heard[slot % 6].tolist()
        assert (fitted != 0).sum() == 2 * min(rows, 6)


def test_a_jump_far_ahead_is_believed_with_its_second_reading_only():
    day = 86_400_000
    time_ms = np.array([SLOT, 2 * SLOT, 380 * day, 3 * SLOT, 4 * SLOT, 10 * day, 10 * day + SLOT, 10 * day + 2 * SLOT])
    channel, waited = np.zeros(8, np.int32), np.ones(1, np.bool_)
    frontiers = []
    for n in range(1, 9):
        got, frontier = admitted(channel[:n], time_ms[:n], waited, SLOT, np.zeros((6, 1), np.int64))
        frontiers.append(frontier)
    assert frontiers[4] in (3 * SLOT, 4 * SLOT)
    assert frontiers[5] < 10 * day - day
    assert frontiers[7] > 10 * day - SLOT
    assert (got == OPEN).all()


def test_an_interval_belongs_to_the_slot_that_it_ends_in():
    assert slot_end(1, SLOT) == SLOT
    assert slot_end(SLOT, SLOT) == SLOT
    assert slot_end(SLOT + 1, SLOT) == 2 * SLOT


@pytest.mark.parametrize(
    ("latest", "expected"), [([NEVER, NEVER], NEVER), ([5, 9], 9), ([5, 9, 7], 7), ([5, NEVER, NEVER], NEVER)]
)
def test_one_clock_alone_does_not_move_the_others_time(latest, expected):
    assert newest_of_others(np.array(latest)) == expected


def test_readings_of_other_meters_and_of_batteries_are_passed_over():
    waited = np.ones(2, np.bool_)
    block = readings_of([0, 1, 1, 0], [SLOT, SLOT, 2 * SLOT, 2 * SLOT])
    block["meter"][2], block["kind"][3] = 3, BATTERY
    row, channels, verdicts, frontiers = np.zeros(1, ROW), new_channels(2), np.zeros(4, np.uint8), np.zeros(4, np.int64)
    row["frontier_ms"] = NEVER
    heard, pending, customers = np.zeros((6, 2), np.int64), np.zeros(4, PENDING), np.zeros(0, CUSTOMER)
    found = admit(
        block, 0, lookup_of(waited), facts_of(waited, 0), 0, SLOT, row, channels, customers, new_use(0), new_balance(0)[2],
        heard, pending,
        0, verdicts, frontiers,
    )  # fmt: skip
    assert verdicts.tolist() == [OPEN, OPEN, FOREIGN, FOREIGN]
    assert found[:4] == (4, 2, 2, 0)
    assert channels["readings"].tolist() == [1, 1]


@settings(deadline=None)  # the first call compiles
@given(meters=st.sets(st.integers(0, 30), min_size=1), wanted=st.integers(-1, 31), guess=st.integers(0, 31))
def test_a_meter_is_found_wherever_the_search_begins(meters, wanted, guess):
    lookup = np.zeros(len(meters), LOOKUP)
    lookup["meter"] = sorted(meters)
    expected = sorted(meters).index(wanted) if wanted in meters else -1
    assert place_of(lookup, wanted, guess) == expected


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=40), until=st.integers(-1, 10))
def test_due_readings_come_by_channel_then_time_then_arrival(rows, until):
    pending = np.zeros(len(rows), PENDING)
    pending["time_ms"], pending["channel"] = [t for t, _ in rows], [c for _, c in rows]
    pending["value"] = np.arange(len(rows))
    due = np.flatnonzero(pending["time_ms"] <= until)
    expected = due[np.lexsort((pending["time_ms"][due], pending["channel"][due]))]
    assert in_order(pending, until, 4).tolist() == expected.tolist()
    left = drop_until(pending, len(pending), until)
    assert pending["value"][:left].tolist() == [i for i in range(len(rows)) if i not in due]


def fill(rows, slots=2, channels=1):
    pending = np.array(rows, PENDING)
    order = np.lexsort((pending["time_ms"], pending["channel"]))
    values = np.full((slots, channels), np.nan)
    duplicates = fill_slots(pending, order, new_channels(channels), SLOT, SLOT, values)
    return values, duplicates


def test_a_slot_holds_the_mean_of_its_readings():
    values, duplicates = fill([(SLOT // 3, 1.0, 0, FLOW, 0), (SLOT, 4.0, 0, FLOW, 0), (SLOT + 1, 9.0, 0, FLOW, 0)])
    np.testing.assert_allclose(values[:, 0], [2.5, 9.0])
    assert duplicates == 0


def test_the_last_received_of_a_duplicate_wins():
    values, duplicates = fill([(SLOT, 1.0, 0, FLOW, 0), (SLOT, 7.0, 0, FLOW, 0)])
    assert values[0, 0] == 7.0
    assert duplicates == 1


def test_a_correction_to_bad_quality_takes_the_value_away():
    values, _ = fill([(SLOT, 1.0, 0, FLOW, 0), (SLOT, 1.0, 0, FLOW, BAD)])
    assert np.isnan(values[0, 0])


def test_a_level_is_the_last_of_its_slot():
    values, _ = fill([(SLOT // 2, 1.0, 0, LEVEL, 0), (SLOT, 2.0, 0, LEVEL, 0)])
    assert values[0, 0] == 2.0


def test_a_register_becomes_the_flow_since_its_last_reading():
    values, _ = fill([(SLOT, 100.0, 0, REGISTER, 0), (2 * SLOT, 103.0, 0, REGISTER, 0)])
    assert np.isnan(values[0, 0])
    assert values[1, 0] == 12.0
