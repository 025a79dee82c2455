"""Expected value of a slot of the week: ready after two weeks, unmoved by outliers and known events."""

from __future__ import annotations

import numpy as np
import pytest

from models.profile import SERIES, SPREAD_BINS, expect, learn

SLOTS = 168


class Profile:
    """One hourly series fed week after week."""

    def __init__(self):
        self.series = np.zeros(1, SERIES)
        self.series["mean_level"] = np.nan
        self.series["unrest"] = 1.0
        self.levels, self.weeks = np.zeros(SLOTS, np.float32), np.zeros(SLOTS, np.uint8)
        self.spreads, self.hours = np.zeros(SPREAD_BINS, np.float32), np.zeros(SPREAD_BINS, np.float32)

    def slot(self, k, value, known=0.0, teach=True):
        k %= SLOTS
        spread_bin = k % 24 + (24 if k // 24 >= 5 else 0)
        self.series["value"] = value
        expect(self.series[0], self.levels, self.weeks, self.spreads, self.hours, k, spread_bin, 1.0, known)
        out = self.series[0].copy()
        learn(self.series[0], self.levels, self.weeks, self.spreads, self.hours, k, spread_bin, known, 1.0, teach)
        return out


def pattern(k, rng=None):
    return 50 + 20 * np.sin(2 * np.pi * k / 24) + (0 if rng is None else rng.normal())


@pytest.fixture
def trained():
    profile, rng = Profile(), np.random.default_rng(3)
    for k in range(6 * SLOTS):
        profile.slot(k, pattern(k, rng))
    return profile


def test_nothing_is_expected_before_two_weeks():
    profile = Profile()
    for k in range(2 * SLOTS):
        assert np.isnan(profile.slot(k, pattern(k) + k % 3)["z"])
    assert np.isfinite(profile.slot(2 * SLOTS, 50.0)["expected"])


def test_expectation_and_spread_match_the_series(trained):
    got = [trained.slot(k, pattern(k)) for k in range(6 * SLOTS, 7 * SLOTS)]
    expected = [pattern(k) for k in range(6 * SLOTS, 7 * SLOTS)]
    np.testing.assert_allclose([g["expected"] for g in got], expected, atol=2.0)
    # one sd of noise, widened by that of the expectation itself
    assert 0.8 < np.median([g["spread"] for g in got]) < 1.5


def test_an_outlier_moves_the_level_as_little_as_a_plausible_value(trained):
    before = trained.levels[10]
    trained.slot(6 * SLOTS + 10, 1e6)
    assert abs(trained.levels[10] - before) < 1.5


def test_a_missing_value_teaches_nothing(trained):
    before = trained.levels.copy(), trained.spreads.copy(), trained.series["drift"].copy()
    trained.slot(6 * SLOTS, np.nan)
    for old, new in zip(before, (trained.levels, trained.spreads, trained.series["drift"]), strict=True):
        np.testing.assert_array_equal(old, new)


def test_known_excess_is_neither_judged_nor_learned(trained):
    before = trained.levels.copy()
    out = [trained.slot(k, pattern(k) + 30, known=30.0) for k in range(6 * SLOTS, 7 * SLOTS)]
    assert max(abs(o["z"]) for o in out) < 4
    np.testing.assert_allclose(trained.levels, before, atol=1.0)


def test_without_teaching_only_the_drift_follows(trained):
    before = trained.levels.copy()
    for k in range(6 * SLOTS, 6 * SLOTS + 24):
        trained.slot(k, pattern(k) + 5, teach=False)
    np.testing.assert_array_equal(trained.levels, before)
    assert trained.series["drift"][0] > 1.5


def test_flow_back_from_a_low_is_no_excess(trained):
    for k in range(6 * SLOTS, 6 * SLOTS + 48):
        trained.slot(k, pattern(k) - 15)
    assert abs(trained.slot(6 * SLOTS + 48, pattern(6 * SLOTS + 48))["z"]) < 4
