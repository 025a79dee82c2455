"""What minimum night flow is expected: weekdays, noise, seasons, growing leaks."""

from __future__ import annotations

import numpy as np
import pytest

from models.night_level import LAG_NIGHTS, end_day, expected_night, new_night_level, new_nights, note_slot
from models.state import NIGHTS

FIRST = 20_000 - 20_000 % 7
MEAN_M3H = 30.0


def follow(mnf, use=None):
    """Night after night; returns expected MNF (T,), and the standard deviations of its noise and of the expectation."""
    level, nights = new_night_level(), new_nights(NIGHTS)
    said = np.full((len(mnf), 3), np.nan)
    for i, flow in enumerate(mnf):
        day = FIRST + i
        if np.isnan(flow):
            continue
        said[i] = expected_night(level[0], nights, day, MEAN_M3H)
        night = nights[day % NIGHTS]
        night["day"], night["start_ms"], night["mnf_m3h"], night["use_m3h"] = day, day * 86_400_000, flow, np.nan
        night["season_m3h"] = level[0]["season_m3h"]
        if use is not None:
            note_slot(level[0], use[i] + flow)
            end_day(level[0], nights, day, 0.9, True)
    return said.T


def test_the_expected_night_is_weekday_aware():
    """A weekday-blind MNF alarms every Sunday."""
    days = np.arange(42)
    mnf = 10 + 4.0 * (days % 7 == 3) + np.random.default_rng(0).normal(0, 0.2, 42)
    expected, noise, _ = follow(mnf)
    assert expected[38] == pytest.approx(14.0, abs=0.4)
    assert expected[39] == pytest.approx(10.0, abs=0.4)
    assert 0.15 < noise[39] < 0.4


@pytest.mark.parametrize(("nights", "known"), [(5, False), (12, False), (15, True)])
def test_a_night_is_expected_after_two_weeks(nights, known):
    expected, _, _ = follow([10.0] * nights)
    assert np.isfinite(expected[-1]) == known


def test_nights_without_mnf_are_left_out_not_taken_as_zero():
    mnf = np.array([10.0 + 0.1 * (i % 2) for i in range(40)])
    mnf[3] = mnf[20] = np.nan
    assert follow(mnf)[0][39] == pytest.approx(10.05, abs=0.1)


def test_a_dma_without_night_flow_still_has_a_spread_to_judge_by():
    expected, noise, _ = follow([0.0] * 30)
    assert expected[29] == 0.0
    assert noise[29] >= 0.005 * MEAN_M3H


def test_the_expectation_is_not_taught_by_the_last_two_weeks():
    rng = np.random.default_rng(1)
    mnf = 10 + rng.normal(0, 0.2, 80)
    grown = mnf.copy()
    grown[60:] += 0.2 * np.arange(1, 21)
    quiet, leaking = follow(mnf)[0], follow(grown)[0]
    assert leaking[60 : 60 + LAG_NIGHTS] == pytest.approx(quiet[60 : 60 + LAG_NIGHTS], abs=0.35)
    assert leaking[79] < grown[79] - 2.0


def test_a_season_of_use_is_expected_once_its_share_is_known():
    """A year whose nights take 0.6 of a use that swings by half; without it the summer looks like a leak."""
    rng, days = np.random.default_rng(2), np.arange(365)
    use = 20 * (1 + 0.25 * np.sin(2 * np.pi * days / 120))
    mnf = 5 + 0.6 * use + rng.normal(0, 0.3, 365)
    blind, seeing = follow(mnf)[0], follow(mnf, use)[0]
    late = slice(180, 365)
    assert np.sqrt(np.mean((mnf - seeing)[late] ** 2)) < 0.6
    assert np.sqrt(np.mean((mnf - blind)[late] ** 2)) > 1.5


def test_a_leak_does_not_count_as_use():
    """It is in the night and in the day, and cancels: the expectation stays."""
    rng, days = np.random.default_rng(3), np.arange(120)
    use = 20 + rng.normal(0, 0.3, 120)
    mnf = 10 + rng.normal(0, 0.2, 120)
    mnf[110:] += 5.0
    expected = follow(mnf, use)[0]
    assert expected[110:] == pytest.approx(np.full(10, 10.0), abs=0.5)
    assert len(days) == len(expected)


def test_before_its_share_is_known_a_season_widens_the_expectation():
    use = np.concatenate([np.full(40, 20.0), np.full(10, 30.0)])
    _, _, of_level = follow(np.full(50, 10.0), use)
    assert of_level[49] > 3 * of_level[39]


def test_a_day_with_too_much_missing_has_no_use():
    level, nights = new_night_level(), new_nights(NIGHTS)
    nights[FIRST % NIGHTS]["day"], nights[FIRST % NIGHTS]["mnf_m3h"] = FIRST, 10.0
    for hour in range(24):
        note_slot(level[0], 30.0 if hour < 20 else np.nan)
    end_day(level[0], nights, FIRST, 0.9, True)
    assert np.isnan(nights[FIRST % NIGHTS]["use_m3h"])
    assert level[0]["day_slots"] == 0
    for _ in range(24):
        note_slot(level[0], 30.0)
    end_day(level[0], nights, FIRST, 0.9, False)
    assert np.isnan(nights[FIRST % NIGHTS]["use_m3h"])
    for _ in range(24):
        note_slot(level[0], 30.0)
    end_day(level[0], nights, FIRST, 0.9, True)
    assert nights[FIRST % NIGHTS]["use_m3h"] == 20.0
