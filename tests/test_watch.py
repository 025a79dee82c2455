"""One meter against its own past, slot by slot."""

from __future__ import annotations

import numpy as np
import pytest

from models.watch import (
    is_reversed,
    is_silent,
    is_spiking,
    is_without_flow,
    new_watch,
    watch_flow,
    watch_silence,
    watch_spikes,
)  # fmt: skip

SLOT_MS = 900_000
SLOT_HOURS = 0.25
DAY = 96


@pytest.fixture
def meter():
    return new_watch(1)


def follow(meter, values, start=0):
    """Through `values` from slot `start` on; which of them were taken out, and after which slots each verdict held."""
    taken, silent, without, reverse, spiking = [], [], [], [], []
    for i, value in enumerate(values, start):
        end = (i + 1) * SLOT_MS
        watch_silence(meter[0], np.isnan(value), end, SLOT_MS, SLOT_HOURS)
        wild = watch_spikes(meter[0], value, end, SLOT_HOURS)
        if not wild:
            watch_flow(meter[0], value, end, SLOT_MS, SLOT_HOURS, i % DAY // 4)
        taken.append(wild)
        silent.append(is_silent(meter[0], SLOT_HOURS))
        without.append(is_without_flow(meter[0], SLOT_HOURS))
        reverse.append(is_reversed(meter[0], SLOT_HOURS))
        spiking.append(is_spiking(meter[0], SLOT_HOURS))
    return {"taken": taken, "silent": silent, "without": without, "reverse": reverse, "spiking": spiking}


def usual(days, seed=0):
    """A day's shape with 3 % noise."""
    hour = np.arange(days * DAY) % DAY / 4
    noise = np.random.default_rng(seed).standard_normal(days * DAY)
    return 40 * (0.5 + 0.5 * np.exp(-((hour - 8) ** 2) / 8)) * (1 + 0.03 * noise)


@pytest.mark.parametrize("verdict", ["taken", "silent", "without", "reverse", "spiking"])
def test_nothing_is_said_of_a_new_meter_nor_of_a_healthy_one(meter, verdict):
    strange = usual(13)
    strange[::7], strange[1::50], strange[600:700] = 0.0, -500.0, np.nan
    assert not any(follow(new_watch(1), strange)[verdict])
    assert not any(follow(meter, usual(60))[verdict])


def test_silence_is_told_once_it_is_three_times_the_habit(meter):
    values = usual(30)
    values[np.arange(len(values)) % (2 * DAY) < 24] = np.nan  # six hours every second day
    follow(meter, values)
    silent = follow(meter, np.full(4 * DAY, np.nan))["silent"]
    assert silent.index(True) == pytest.approx(3 * 24, abs=3)


def test_one_long_outage_does_not_blind_the_watch(meter):
    follow(meter, np.concatenate([usual(20), np.full(10 * DAY, np.nan), usual(5)]))
    assert follow(meter, np.full(2 * DAY, np.nan))["silent"].index(True) <= 24 * 4


def test_a_step_that_stays_is_held_up_by_one_slot_and_a_spike_is_not_let_through(meter):
    follow(meter, usual(30))
    assert follow(meter, np.array([30.0, 300.0, 301.0, 299.0, 300.0]))["taken"] == [False, True, False, False, False]
    other = new_watch(1)
    follow(other, usual(30))
    assert follow(other, np.array([30.0, 300.0, 30.0, -300.0, 30.0]))["taken"] == [False, True, False, True, False]


def test_a_burst_within_twice_the_meters_range_is_not_held_up_at_all(meter):
    values = usual(30)
    follow(meter, values)
    assert not any(follow(meter, usual(1) + 0.5 * (values.max() - values.min()))["taken"])


def test_demand_that_always_jumps_is_no_spiking_meter(meter):
    """A small DMA: every few hours somebody fills a pool within a slot."""
    values = usual(60)
    values[np.random.default_rng(1).random(len(values)) < 0.06] *= 2.5
    assert not any(follow(meter, values)["spiking"])


def test_a_meter_that_begins_to_spike_is_spiking_within_a_day(meter):
    follow(meter, usual(30))
    values = usual(2, seed=5)
    values[::8] += 100.0
    found = follow(meter, values)["spiking"]
    assert found.index(True) <= DAY


def test_a_zero_is_judged_against_the_meters_own_mean(meter):
    """Half a cubic metre an hour is nothing to a main of fifty, and all there is to a hamlet."""
    follow(meter, usual(30))
    assert follow(meter, np.full(DAY, 0.1))["without"].index(True) == 15
    hamlet = new_watch(1)
    follow(hamlet, usual(30) / 100)
    assert not any(follow(hamlet, np.full(DAY, 0.1))["without"])
