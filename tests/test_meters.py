"""Meters as they are: registers that roll over, meters that are swapped or stick, tanks that fill."""

from __future__ import annotations

import numpy as np
import pytest

from models.meters import net_inflow, register_flow, watch_flat
from models.schema import NEVER
from models.state import CHANNEL

HOUR_MS = 3_600_000


@pytest.fixture
def channel():
    channels = np.zeros(1, CHANNEL)
    channels["register_ms"] = channels["flat_since_ms"] = NEVER
    channels["last_value"] = channels["level_m"] = np.nan
    channels["valued_slots"] = 14 * 96
    return channels


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (100.0, 105.0, 5.0),
        (99_998.0, 3.0, 5.0),  # five digits roll over
        (999_999.0, 1.0, 2.0),  # six digits
        (500.0, 499.5, -0.5),  # true reverse flow
        (500.0, 0.2, np.nan),  # swapped: drop to near zero
    ],
)
def test_register_differences_decide(channel, before, after, expected):
    assert np.isnan(register_flow(channel[0], 0, before))
    np.testing.assert_allclose(register_flow(channel[0], HOUR_MS, after), expected)


def test_after_a_swap_the_new_register_counts(channel):
    for time, register in ((0, 5000.0), (HOUR_MS, 0.0)):
        register_flow(channel[0], time, register)
    assert register_flow(channel[0], 2 * HOUR_MS, 4.0) == 4.0


def test_a_register_from_the_past_says_nothing(channel):
    register_flow(channel[0], HOUR_MS, 10.0)
    assert np.isnan(register_flow(channel[0], HOUR_MS, 11.0))
    assert register_flow(channel[0], 2 * HOUR_MS, 12.0) == 2.0


def test_what_no_main_carries_is_a_swapped_meter(channel):
    """A new meter whose register begins high, or at more than half of the old one's."""
    for hour, register in enumerate((50_000.0, 50_005.0)):
        register_flow(channel[0], hour * HOUR_MS, register)
    assert np.isnan(register_flow(channel[0], 2 * HOUR_MS, 30_000.0))
    assert register_flow(channel[0], 3 * HOUR_MS, 30_004.0) == 4.0
    assert np.isnan(register_flow(channel[0], 4 * HOUR_MS, 250_000.0))
    assert register_flow(channel[0], 5 * HOUR_MS, 250_006.0) == 6.0


def verdicts(channel, values, slot_hours=0.25):
    return [watch_flat(channel[0], v, i, slot_hours) for i, v in enumerate(values)]


def test_a_flat_line_is_first_suspect_then_stuck(channel):
    got = verdicts(channel, [1.0, 2.0] + [3.0] * 14)
    assert got == [0] * 6 + [1] * 8 + [2] * 2


def test_zero_is_no_flat_line(channel):
    assert set(verdicts(channel, [0.0] * 50)) == {0}


def test_a_meter_that_often_repeats_itself_is_given_longer(channel):
    verdicts(channel, ([1.0] * 4 + [2.0] * 4) * 5)
    assert set(verdicts(channel, [3.0] * 7)) == {0}


def test_a_night_of_one_value_is_a_habit_not_a_fault(channel):
    """A small DMA: the same 0.6 for five hours of every night."""
    day = [0.6] * 20 + [float(i) for i in range(1, 77)]
    channel["valued_slots"] = 0
    assert set(verdicts(channel, day * 30)) == {0}
    assert verdicts(channel, [7.7] * 60)[-1] == 2


def test_a_gap_does_not_end_a_flat_line(channel):
    got = verdicts(channel, [3.0] * 6 + [np.nan] * 5 + [3.0] * 10)
    assert got[-1] == 2


def test_net_inflow_is_inlets_less_outlets_plus_storage_released(channel):
    channels = np.concatenate([channel] * 3)
    channels["level_m"] = [np.nan, np.nan, 3.0]
    values = np.array([50.0, 20.0, 2.9])
    got = net_inflow(np.array([1, -1, 0], np.int8), np.array([0.0, 0.0, 200.0]), values, channels, 0.5)
    np.testing.assert_allclose(got, 50 - 20 + 200 * 0.1 / 0.5)


def test_net_inflow_misses_when_a_part_misses(channel):
    channels = np.concatenate([channel] * 2)
    assert np.isnan(net_inflow(np.array([1, 1], np.int8), np.zeros(2), np.array([50.0, np.nan]), channels, 0.5))
    assert net_inflow(np.array([1, 0], np.int8), np.zeros(2), np.array([50.0, np.nan]), channels, 0.5) == 50.0
