"""A meter's clock against its own days and those of its DMA's other meters."""

from __future__ import annotations

import numpy as np
import pytest

from models.clocks import LAGS, begin_day, is_shifted, misfits, new_clocks, note_hour
from models.schema import NEVER

MONDAY = 20_458  # 2026-01-05
DAY_MS = 86_400_000


def shape(hours):
    """Hourly demand of a workday, around the clock."""
    h = np.arange(24)
    h = (h - hours) % 24
    return 0.4 + np.exp(-((h - 7.5) ** 2) / 3) + 0.8 * np.exp(-((h - 19) ** 2) / 6) + 0.3 * ((h > 8) & (h < 18))


def follow(clocks, days, lags, changed_ms=NEVER, first=MONDAY, seed=0):
    """`lags` (C,) hours by which each meter's times are too late; the days on which a shifted clock was told."""
    rng = np.random.default_rng(seed + first)
    told = [[] for _ in lags]
    home = np.ones(len(lags), bool)
    for day in range(first, first + days):
        begin_day(clocks, home, day, day * DAY_MS, changed_ms)
        for c, lag in enumerate(lags):
            if is_shifted(clocks[c]):
                told[c].append((day - first, int(clocks[c]["lag_h"])))
            weekend = (day + 3) % 7 >= 5
            for hour, value in enumerate(shape(lag + 2 * weekend) * (1 + 0.05 * rng.standard_normal(24))):
                note_hour(clocks[c], value * (c + 1), hour)
    return told


def test_misfits_are_least_at_the_lag_of_the_day():
    out = np.empty(2 * LAGS + 1)
    for lag in (-11, -1, 0, 1, 6):
        assert misfits(shape(lag), shape(0).astype(np.float32), out)
        assert np.argmin(out) - LAGS == lag
    assert not misfits(np.ones(24), shape(0).astype(np.float32), out)
    assert not misfits(np.where(np.arange(24) < 20, shape(0), np.nan), shape(0).astype(np.float32), out)


@pytest.mark.parametrize("lag", [-1, 1, 3, -6])
def test_a_clock_hours_off_beside_right_ones_is_told_after_three_workdays(lag):
    clocks = new_clocks(3)
    assert follow(clocks, 28, [0, 0, 0]) == [[], [], []]
    told = follow(clocks, 14, [0, lag, 0], first=MONDAY + 28)
    assert told[0] == told[2] == []
    assert told[1][0] == (3, lag)


def test_everybody_an_hour_later_is_a_holiday_not_a_clock():
    clocks = new_clocks(3)
    follow(clocks, 28, [0, 0, 0])
    assert follow(clocks, 14, [1, 1, 1], first=MONDAY + 28) == [[], [], []]


def test_a_meter_that_is_alone_is_off_by_an_hour_only_when_summer_time_has_just_begun_or_ended():
    alone, changed = new_clocks(1), new_clocks(1)
    follow(alone, 28, [0])
    follow(changed, 28, [0])
    assert follow(alone, 14, [1], first=MONDAY + 28) == [[]]
    sunday_ms = (MONDAY + 27) * DAY_MS
    assert follow(changed, 14, [1], sunday_ms, first=MONDAY + 28)[0][0] == (3, 1)


def test_a_meter_without_a_daily_pattern_is_never_off():
    clocks = new_clocks(1)
    rng = np.random.default_rng(0)
    for day in range(MONDAY, MONDAY + 200):
        begin_day(clocks, np.ones(1, bool), day, day * DAY_MS, day * DAY_MS)
        assert not is_shifted(clocks[0])
        for hour in range(24):
            note_hour(clocks[0], 50 + rng.standard_normal(), hour)
