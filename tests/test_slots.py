"""The slot grid against a slow, plain model of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.schema import BAD, FLOW, LEVEL, NEVER, REGISTER
from models.slots import PENDING, admit, fill_slots, newest_of_others, slot_end
from models.state import CHANNEL

SLOT = 900_000


def new_channels(count):
    channels = np.zeros(count, CHANNEL)
    channels["latest_ms"] = channels["register_ms"] = NEVER
    return channels


def naive_admit(channel, time_ms, waited, lateness):
    """Reading by reading, from the definition, with all of the past at hand."""
    meters = np.flatnonzero(waited).tolist()
    latest, slots, frontier, accepted = dict.fromkeys(meters, NEVER), set(), NEVER, []
    for c, time in zip(channel.tolist(), time_ms.tolist(), strict=True):
        if not waited[c]:
            accepted.append(False)
            continue
        end = -(-time // SLOT) * SLOT
        if frontier == NEVER:
            frontier = end - SLOT - -(-lateness // SLOT) * SLOT
        accepted.append(end > frontier)
        slots.add((end, c))
        latest[c] = max(latest[c], time)
        order = sorted(latest.values(), reverse=True)
        newest = order[1] if len(order) >= 3 else order[0]
        while True:
            following = frontier + SLOT
            complete = all((following, m) in slots and latest[m] >= following for m in meters)
            if newest < following + lateness and not complete:
                break
            frontier = following
    return accepted, frontier


@settings(max_examples=300, deadline=None)
@given(
    data=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 40 * SLOT) | st.integers(0, 40).map(lambda k: k * SLOT)), min_size=1
    ),
    lateness=st.sampled_from([0, SLOT // 2, SLOT, 5 * SLOT]),
    meters=st.integers(1, 5),
)
def test_admission_follows_its_definition(data, lateness, meters):
    channel = np.array([c % meters for c, _ in data], np.int32)
    time_ms = np.array([t for _, t in data], np.int64)
    waited = np.array([c != 3 for c in range(meters)])
    got = np.zeros(len(data), np.bool_)
    heard = np.zeros((64, meters), np.bool_)
    frontier = admit(channel, time_ms, new_channels(meters), heard, waited, NEVER, SLOT, lateness, got)
    expected, expected_frontier = naive_admit(channel, time_ms, waited, lateness)
    assert got.tolist() == expected
    assert frontier == expected_frontier


def test_an_interval_belongs_to_the_slot_that_it_ends_in():
    assert slot_end(1, SLOT) == SLOT
    assert slot_end(SLOT, SLOT) == SLOT
    assert slot_end(SLOT + 1, SLOT) == 2 * SLOT


@pytest.mark.parametrize(
    ("latest", "expected"), [([NEVER, NEVER], NEVER), ([5, 9], 9), ([5, 9, 7], 7), ([5, NEVER, NEVER], NEVER)]
)
def test_one_clock_alone_does_not_move_the_others_time(latest, expected):
    assert newest_of_others(np.array(latest), np.ones(len(latest), np.bool_)) == expected


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
