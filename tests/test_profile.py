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


class Twin:
    """The same once more, as plainly as Python allows, from the text of models/profile.py."""

    def __init__(self):
        self.shape, self.weeks = {}, {}
        self.spread, self.hours = np.zeros((2, 24)), np.zeros((2, 24))
        self.level = self.drift = 0.0
        self.unrest, self.mean = 1.0, np.nan

    def usual(self, day, hour):
        own, n = self.spread[day, hour], self.hours[day, hour]
        near = [(day, (hour - 1) % 24), (day, (hour + 1) % 24), (1 - day, hour)]
        counts = np.array([self.hours[at] for at in near])
        if counts.sum() > 0:
            beside = np.average([self.spread[at] for at in near], weights=counts)
            weight = min(4.0, counts.sum() / 3)
            own = (n * own + weight * beside) / (n + weight)
        return max(own, 0.005 * abs(self.mean))

    def slot(self, k, value):
        weekday, hour = k // 24 % 7, k % 24
        day = int(weekday >= 5)
        expected = spread = np.nan
        usual = self.usual(day, hour)
        if self.weeks.get((weekday, hour), 0) >= 2 and usual > 0:
            expected, spread = self.shape[weekday, hour] + self.level, usual * max(self.unrest, 1.0)
        if not np.isnan(value):
            self.learn(weekday, hour, day, value)
        return expected, spread

    def first(self, weekday, hour, value):
        same = [self.shape[at] for at in self.shape if at[1] == hour and (at[0] >= 5) == (weekday >= 5)]
        if len(same) < 2:
            return value
        middle = np.median(same)
        limit = max(4.5 * np.median(np.abs(same - middle)), 0.1 * abs(middle))
        return np.clip(value, middle - limit, middle + limit)

    def learn(self, weekday, hour, day, value):
        key = weekday, hour
        if key not in self.weeks:
            self.shape[key] = self.first(weekday, hour, value - self.level)
            self.weeks[key] = 1
            self.mean = value if np.isnan(self.mean) else self.mean + (value - self.mean) / 168
            return
        error, limit = value - self.shape[key] - self.level, 0.0
        rest = abs(error)
        if self.hours[day, hour] >= 2:
            usual = self.usual(day, hour)
            limit = 3 * usual
            rest = abs(np.clip(error - self.drift, -limit, limit))
            error = self.drift + np.clip(error - self.drift, -limit, limit)
            self.drift += (error - self.drift) / 48
            self.unrest += (1.2533141373155001 * rest / usual - self.unrest) / 72 if usual > 0 else 0.0
        self.hours[day, hour] += 1
        self.spread[day, hour] += (1.2533141373155001 * rest - self.spread[day, hour]) / min(self.hours[day, hour], 20)
        self.mean += (self.shape[key] + self.level + error - self.mean) / 168
        if limit > 0:
            error = error / 2 if error < -limit else error
            self.level += np.clip(error, -limit, limit) / 96
        self.weeks[key] = min(self.weeks[key] + 1, 6)
        for other in range(7):
            if other == weekday:
                self.shape[key] += error / self.weeks[key]
            elif (other, hour) in self.shape:
                self.shape[other, hour] += error * (0.1 if (other >= 5) == (weekday >= 5) else 0.05)


@pytest.mark.parametrize("seed", range(3))
def test_the_kernels_agree_with_their_naive_twin(seed):
    """Values with gaps, outliers and a season."""
    rng = np.random.default_rng(seed)
    profile, twin = Profile(), Twin()
    for k in range(8 * SLOTS):
        value = pattern(k, rng) + 0.01 * k
        if rng.random() < 0.03:
            value = rng.choice([np.nan, 1e4, 0.0])
        got = profile.slot(k, value)
        np.testing.assert_allclose(
            (got["expected"], got["spread"]), twin.slot(k, value), rtol=1e-4, atol=1e-3, err_msg=str(k)
        )
    assert profile.series["drift"][0] == pytest.approx(twin.drift, rel=1e-3, abs=1e-3)
    assert profile.series["level"][0] == pytest.approx(twin.level, rel=1e-3, abs=1e-3)


def test_an_outage_in_the_first_week_is_not_expected_for_six():
    profile, rng = Profile(), np.random.default_rng(5)
    for k in range(3 * SLOTS):
        got = profile.slot(k, 0.0 if 3 * 24 + 8 <= k < 3 * 24 + 20 else pattern(k, rng))
        if k >= 2 * SLOTS:
            assert abs(got["expected"] - pattern(k)) < 12.0


def test_a_season_of_two_weeks_is_followed(trained):
    """Oracle: the flow rises by a third within two weeks and stays there; a slot of the week alone would take six."""
    for k in range(6 * SLOTS, 9 * SLOTS):
        got = trained.slot(k, pattern(k) * (1 + min(k - 6 * SLOTS, 2 * SLOTS) / (6 * SLOTS)))
        if k >= 8 * SLOTS + SLOTS // 2:
            assert got["expected"] == pytest.approx(pattern(k) * 4 / 3, rel=0.1)


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
    before = trained.levels[10] + trained.series["level"][0]
    trained.slot(6 * SLOTS + 10, 1e6)
    assert abs(trained.levels[10] + trained.series["level"][0] - before) < 1.5


def test_a_missing_value_teaches_nothing(trained):
    before = trained.levels.copy(), trained.spreads.copy(), trained.series.copy()[["drift", "level", "unrest"]]
    trained.slot(6 * SLOTS, np.nan)
    after = trained.levels, trained.spreads, trained.series[["drift", "level", "unrest"]]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_known_excess_is_neither_judged_nor_learned(trained):
    before = trained.levels.copy()
    out = [trained.slot(k, pattern(k) + 30, known=30.0) for k in range(6 * SLOTS, 7 * SLOTS)]
    assert max(abs(o["z"]) for o in out) < 4
    np.testing.assert_allclose(trained.levels, before, atol=1.0)


def test_without_teaching_only_the_drift_follows(trained):
    before = trained.levels.copy(), trained.series["level"].copy()
    for k in range(6 * SLOTS, 6 * SLOTS + 24):
        trained.slot(k, pattern(k) + 5, teach=False)
    np.testing.assert_array_equal(trained.levels, before[0])
    np.testing.assert_array_equal(trained.series["level"], before[1])
    assert trained.series["drift"][0] > 1.5


def test_flow_back_from_a_low_is_no_excess(trained):
    for k in range(6 * SLOTS, 6 * SLOTS + 48):
        trained.slot(k, pattern(k) - 15)
    assert abs(trained.slot(6 * SLOTS + 48, pattern(6 * SLOTS + 48))["z"]) < 4
