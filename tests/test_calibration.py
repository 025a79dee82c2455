"""Thresholds from the alert budget on the DMA's own past."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration import CALIBRATION, alarm, end_day, observe, score, threshold

WEEK = 7


def fresh(mean, variance, days, long_tail=False, quarantine_days=WEEK):
    calibration = np.zeros(1, CALIBRATION)
    calibration[0] = (mean, variance, days, -1.0, long_tail, quarantine_days, 1.0, -1.0)
    return calibration


@pytest.fixture
def calibration():
    return fresh(2.0, 1.0, 5.0)


def live(calibration, maxima, return_days=1000.0, quiet=True):
    for value in maxima:
        observe(calibration[0], value)
        end_day(calibration[0], return_days, quiet)


def test_the_threshold_is_passed_once_in_the_return_period():
    """Oracle: simulated Gumbel maxima; the method of moments finds the quantile of the law they were drawn from."""
    rng = np.random.default_rng(0)
    maxima = rng.gumbel(5.0, 1.5, 400)
    calibration = fresh(maxima.mean(), maxima.var(), 90.0)
    expected = 5.0 - 1.5 * np.log(-np.log(1 - 1 / 200))
    assert threshold(calibration[0], 200.0) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("days", "measured"), [(300.0, 9.1), (900.0, 14.2)])
def test_of_a_long_tail_the_threshold_is_passed_once_in_the_return_period(days, measured):
    """Oracle: the tail of 4,712 real days, in standard deviations above their mean."""
    assert threshold(fresh(4.0, 9.0, 90.0, long_tail=True)[0], days) == pytest.approx(4.0 + 3.0 * measured, rel=0.2)


def test_of_a_long_tail_one_day_does_not_count_more_than_three_spreads():
    calibration = fresh(4.0, 9.0, 90.0, long_tail=True)
    alarm(calibration[0], 1000.0, 0.6, 1)
    same = fresh(4.0, 9.0, 90.0, long_tail=True)
    live(same, [13.0, *[-1.0] * WEEK])
    for name in ("mean", "variance", "days"):
        assert calibration[0][name] == same[0][name]
    assert threshold(calibration[0], 1000.0) < 1.1 * threshold(fresh(4.0, 9.0, 90.0, long_tail=True)[0], 1000.0)


def test_a_larger_share_of_the_budget_lowers_the_threshold_as_a_larger_budget_does():
    equal, double = fresh(2.0, 1.0, 5.0), fresh(2.0, 1.0, 5.0)
    double["share"] = 2.0
    assert threshold(double[0], 1000.0) == threshold(equal[0], 500.0)


def test_a_detector_of_slow_leaks_learns_a_day_four_weeks_later():
    calibration = fresh(2.0, 1.0, 5.0, quarantine_days=28)
    live(calibration, [9.0] * 28)
    assert calibration[0]["days"] == 5.0
    alarm(calibration[0], 1000.0, 0.4, 20)
    live(calibration, [9.0] * 20)
    assert calibration[0]["days"] == 5.0 + 8


def test_a_day_is_learned_a_week_later(calibration):
    live(calibration, [9.0] * WEEK)
    assert calibration[0]["days"] == 5.0
    live(calibration, [9.0])
    assert calibration[0]["days"] == 6.0
    assert calibration[0]["mean"] > 2.0


def test_days_of_an_event_are_not_learned(calibration):
    live(calibration, [9.0] * 20, quiet=False)
    assert calibration[0]["days"] == 5.0


def test_an_event_takes_back_the_days_since_its_start_only(calibration):
    live(calibration, [3.0] * WEEK)
    alarm(calibration[0], 1000.0, 0.4, 3)
    assert calibration[0]["waiting"][:WEEK].tolist() == [-1.0] * 3 + [3.0] * 4


def test_an_alarm_lifts_the_threshold_of_the_detector_that_made_it(calibration):
    other = calibration.copy()
    before = threshold(calibration[0], 1000.0)
    alarm(calibration[0], 1000.0, 0.6, 1)
    alarm(other[0], 1000.0, 0.4, 1)
    assert threshold(calibration[0], 1000.0) > before
    assert threshold(other[0], 1000.0) == before


def test_one_enormous_day_counts_as_the_threshold(calibration):
    limit = threshold(calibration[0], 1000.0)
    live(calibration, [1e9] + [0.0] * WEEK)
    assert calibration[0]["mean"] <= 2.0 + (limit - 2.0) / 6.0 + 1e-12


def test_a_day_without_a_statistic_teaches_nothing(calibration):
    live(calibration, [np.nan] * 20)
    assert calibration[0]["days"] == 5.0


def test_score_is_a_half_at_the_threshold_and_zero_where_missing():
    assert score(7.0, 7.0) == 0.5
    assert score(np.nan, 7.0) == 0.0
    assert score(0.0, 7.0) == 0.0
    assert 0.99 < score(1e6, 7.0) < 1.0


def test_a_larger_budget_means_a_lower_threshold(calibration):
    assert threshold(calibration[0], 30.0) < threshold(calibration[0], 300.0)
