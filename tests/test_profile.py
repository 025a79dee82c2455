"""Expected value of a slot of the week: ready after two weeks, unmoved by outliers and known events, like its naive twin."""

from __future__ import annotations

import numpy as np
import pytest

from models.calendar import BESIDE, ORDINARY, UNUSUAL
from models.profile import (
    FIRST_BAND,
    FIRST_WIDTH_HOURS,
    FIRST_WIDTHS,
    SERIES,
    SPREAD_BINS,
    expect,
    follow_band,
    learn,
    slot_spread,
)

SLOTS = 168


class Profile:
    """One hourly series fed week after week."""

    def __init__(self):
        self.series = np.zeros(1, SERIES)
        self.series["mean_level"] = np.nan
        self.series["unrest"], self.series["band"] = 1.0, FIRST_BAND
        self.series["widths"], self.series["width_hours"] = FIRST_WIDTHS, FIRST_WIDTH_HOURS
        self.levels, self.weeks = np.zeros(SLOTS, np.float32), np.zeros(SLOTS, np.uint8)
        self.spreads, self.hours = np.zeros(SPREAD_BINS, np.float32), np.zeros(SPREAD_BINS, np.float32)

    def slot(self, k, value, known=0.0, teach=True, kind=ORDINARY):
        k %= SLOTS
        spread_bin = k % 24 + (24 if k // 24 >= 5 else 0)
        self.series["value"] = value
        arrays = (self.levels, self.weeks, self.spreads, self.hours)
        expect(self.series[0], *arrays, k, spread_bin, kind, known)
        out = self.series[0].copy()
        if teach:
            follow_band(self.series[0], 1.0)
        learn(self.series[0], *arrays, k, spread_bin, kind, known, 1.0, teach)
        return out


def pattern(k, rng=None):
    return 50 + 20 * np.sin(2 * np.pi * k / 24) + (0 if rng is None else rng.normal())


def trained_profile():
    profile, rng = Profile(), np.random.default_rng(3)
    for k in range(6 * SLOTS):
        profile.slot(k, pattern(k, rng))
    return profile


@pytest.fixture
def trained():
    return trained_profile()


class Twin:
    """The same once more, as plainly as Python allows, from the text of models/profile.py."""

    def __init__(self):
        self.shape, self.weeks = {}, {}
        self.spread, self.hours = np.zeros((2, 24)), np.zeros((2, 24))
        self.level = self.drift = 0.0
        self.unrest, self.mean = 1.0, np.nan
        self.widths, self.width_hours = [1.5, 2.0], [48.0, 48.0]

    def usual(self, day, hour):
        own, n = self.spread[day, hour], self.hours[day, hour]
        near = [(day, (hour - 1) % 24), (day, (hour + 1) % 24), (1 - day, hour)]
        counts = np.array([self.hours[at] for at in near])
        if counts.sum() > 0:
            beside = np.average([self.spread[at] for at in near], weights=counts)
            weight = min(4.0, counts.sum() / 3)
            own = (n * own + weight * beside) / (n + weight)
        return max(own, 0.005 * abs(self.mean))

    def slot(self, k, value, kind):
        weekday, hour = k // 24 % 7, k % 24
        day = int(weekday >= 5)
        key, which = (weekday, hour), min(kind, 2) - 1
        expected = spread = np.nan
        usual = self.usual(day, hour)
        if self.weeks.get(key, 0) >= 2 and usual > 0:
            spread = usual * (self.widths[which] if kind else 1) * max(self.unrest, 1.0)
            expected = self.shape[key] + self.level
        if not np.isnan(value):
            self.learn(key, day, value, kind, which)
        return expected, spread

    def learn(self, key, day, value, kind, which):
        weekday, hour = key
        if key not in self.weeks:
            if kind < 2:
                self.weeks[key], self.shape[key] = 1, value - self.level
                self.mean = value if np.isnan(self.mean) else self.mean + (value - self.mean) / 168
            return
        error, usual = value - self.shape[key] - self.level, 0.0
        rest = abs(error)
        if self.hours[day, hour] >= 2:
            usual = self.usual(day, hour)
            wide = 3 * usual * (self.widths[which] if kind else 1)
            rest = abs(error - self.drift)
            error = np.clip(error, self.drift - wide, self.drift + wide)
            self.drift += (error - self.drift) / 24
        if kind and usual > 0:
            ratio = min(1.2533141373155001 * rest / usual, 3 * self.widths[which])
            self.width_hours[which] = min(self.width_hours[which] + 1, 240)
            self.widths[which] = max(self.widths[which] + (ratio - self.widths[which]) / self.width_hours[which], 1)
        if kind == 2:
            return
        if usual > 0:
            self.unrest += (min(rest / usual, 4) * 1.2533141373155001 - self.unrest) / 72
        if kind == 0:
            rest = min(rest, 3 * usual) if usual > 0 else rest
            self.hours[day, hour] += 1
            self.spread[day, hour] += (1.2533141373155001 * rest - self.spread[day, hour]) / min(self.hours[day, hour], 20)
        self.mean += (self.shape[key] + self.level + error - self.mean) / 168
        if usual > 0:
            error = error / 2 if error < -3 * usual else error
            self.level += np.clip(error, -3 * usual, 3 * usual) / 48
        self.weeks[key] = min(self.weeks[key] + 1, 6)
        for other in range(7):
            if other == weekday:
                self.shape[key] += error / self.weeks[key]
            elif (other, hour) in self.shape:
                self.shape[other, hour] += error * (0.1 if (other >= 5) == (weekday >= 5) else 0.05)


@pytest.mark.parametrize("seed", range(3))
def test_the_kernels_agree_with_their_naive_twin(seed):
    """Values with gaps, outliers, a season and all kinds of days."""
    rng = np.random.default_rng(seed)
    profile, twin = Profile(), Twin()
    for k in range(10 * SLOTS):
        kind = int(rng.choice([ORDINARY, BESIDE, UNUSUAL], p=[0.9, 0.05, 0.05]))
        value = pattern(k, rng) + 0.01 * k
        if rng.random() < 0.03:
            value = rng.choice([np.nan, 1e4, 0.0])
        got = profile.slot(k, value, kind=kind)
        expected, spread = twin.slot(k, value, kind)
        np.testing.assert_allclose(
            (got["expected"], got["spread"]), (expected, spread), rtol=1e-4, atol=1e-3, err_msg=str(k)
        )
    assert profile.series["drift"][0] == pytest.approx(twin.drift, rel=1e-3, abs=1e-3)
    assert profile.series["widths"][0].tolist() == pytest.approx(twin.widths, rel=1e-3)


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
    assert 0.8 < np.median([g["spread"] for g in got]) < 1.6


def test_an_outlier_moves_the_level_as_little_as_a_plausible_value(trained):
    before = trained.levels[10] + trained.series["level"][0]
    trained.slot(6 * SLOTS + 10, 1e6)
    assert abs(trained.levels[10] + trained.series["level"][0] - before) < 1.5


def test_a_missing_value_teaches_nothing(trained):
    before = trained.levels.copy(), trained.spreads.copy(), trained.series["drift"].copy(), trained.series["level"].copy()
    trained.slot(6 * SLOTS, np.nan)
    after = trained.levels, trained.spreads, trained.series["drift"], trained.series["level"]
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
    assert trained.slot(6 * SLOTS + 48, pattern(6 * SLOTS + 48))["z"] < 4


def test_a_summer_is_followed_within_two_weeks(trained):
    """Level up by half, the busy hours later: what remains after two weeks is little beside what it was."""

    def summer(k):
        return 75 + 20 * np.sin(2 * np.pi * (k - 2) / 24)

    rng = np.random.default_rng(0)
    got = [trained.slot(k, summer(k) + rng.normal()) for k in range(6 * SLOTS, 9 * SLOTS)]
    errors = np.array([abs(g["value"] - g["expected"]) for g in got])
    assert errors[:24].mean() > 20
    assert errors[2 * SLOTS :].mean() < 3


def test_the_level_moves_by_a_spread_and_a_half_a_day_at_most(trained):
    spread = trained.slot(6 * SLOTS, pattern(0))["spread"]
    before = trained.series["level"][0]
    for k in range(6 * SLOTS + 1, 6 * SLOTS + 25):
        trained.slot(k, pattern(k) + 1000)
    assert 0 < trained.series["level"][0] - before < 2 * 1.5 * spread


@pytest.mark.parametrize("kind", [UNUSUAL])
def test_a_holiday_teaches_no_weekday(trained, kind):
    before = trained.levels.copy(), trained.spreads.copy(), trained.series["level"].copy()
    for k in range(6 * SLOTS, 6 * SLOTS + 24):
        trained.slot(k, pattern(k) - 25, kind=kind)
    after = trained.levels, trained.spreads, trained.series["level"]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_holidays_are_judged_within_a_wider_spread_until_they_have_shown_to_be_like_their_weekday(trained):
    usual = trained_profile().slot(6 * SLOTS, pattern(0))["spread"]
    first = trained.slot(6 * SLOTS, pattern(0), kind=UNUSUAL)["spread"]
    assert first == pytest.approx(2 * usual, rel=1e-6)
    for _ in range(10):
        for k in range(6 * SLOTS, 6 * SLOTS + 24):
            trained.slot(k, pattern(k), kind=UNUSUAL)
    assert trained.slot(6 * SLOTS, pattern(0), kind=UNUSUAL)["spread"] < 0.7 * first


def test_a_spread_of_few_hours_is_drawn_towards_its_neighbours():
    profile = Profile()
    profile.series["mean_level"] = 10.0
    profile.spreads[:], profile.hours[:] = 1.0, 20.0
    profile.spreads[3], profile.hours[3] = 5.0, 2.0
    young = slot_spread(profile.series[0], profile.spreads, profile.hours, 3)
    profile.hours[3] = 200.0
    old = slot_spread(profile.series[0], profile.spreads, profile.hours, 3)
    assert young == pytest.approx((2 * 5 + 4 * 1) / 6)
    assert old == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("law", ["normal", "laplace", "student"])
def test_nineteen_in_twenty_lie_inside_the_band_whatever_the_noise(law):
    rng = np.random.default_rng(5)
    draw = {"normal": rng.normal, "laplace": rng.laplace, "student": lambda: rng.standard_t(3)}[law]
    profile, inside = Profile(), []
    for k in range(30 * SLOTS):
        out = profile.slot(k, pattern(k) + draw())
        if k >= 4 * SLOTS:
            inside.append(abs(out["value"] - out["foreseen"]) <= out["band"] * out["spread"])
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)
