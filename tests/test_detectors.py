"""One battery that every detector passes, and what each alone must know."""

from __future__ import annotations

import numpy as np
import pytest

from models import loop, pressure_loop
from models.detectors import DETECTORS, night_flow
from models.detectors.night_flow import consume, evidence, expected_night
from models.schema import NEVER
from models.state import NIGHT, NIGHTS
from tests.synthetic import DAY, daily, make_site, readings, run, step_between

DAYS = 40


@pytest.fixture(scope="module")
def detections():
    """Detections of DMA B over a town with gaps and one large burst."""
    site = make_site()
    block = readings(DAYS, seed=5, b=step_between(DAYS, 30 * DAY + 40, 31 * DAY, 25.0))
    gaps = np.random.default_rng(0).random(len(block)) < 0.02
    block["value"][np.random.default_rng(1).random(len(block)) < 0.001] *= 50  # spikes
    steps = run(site, daily(block[~gaps]))[1]["B"]
    return np.concatenate([step.detections for step in steps])


@pytest.mark.parametrize("number", range(len(DETECTORS)), ids=[d.name for d in DETECTORS])
def test_scores_are_finite_and_between_0_and_1_whatever_the_data(detections, number):
    scores = detections["scores"][:, number]
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("number", range(len(DETECTORS)), ids=[d.name for d in DETECTORS])
def test_a_detector_is_silent_in_warm_up(detections, number):
    assert (detections["scores"][: 13 * DAY, number] == 0).all()


@pytest.mark.parametrize("detector", DETECTORS, ids=[d.name for d in DETECTORS])
def test_the_loop_runs_every_detector(detector):
    run = {**loop.detect.py_func.__globals__, **pressure_loop.observe_pressure.py_func.__globals__}
    assert detector.name in run


def test_the_isolation_forest_is_silent_without_a_model(detections):
    assert (detections["scores"][:, 2] == 0).all()


def nights_of(values, day=20_000):
    nights = np.zeros(NIGHTS, NIGHT)
    nights["day"] = NEVER
    for back, value in enumerate(reversed(values), 1):
        if not np.isnan(value):
            nights[(day - back) % NIGHTS] = (day - back, (day - back) * 86_400_000, value, np.nan)
    return nights, day


def test_the_expected_night_is_weekday_aware():
    """A weekday-blind MNF alarms every Sunday."""
    rng = np.random.default_rng(0)
    days = np.arange(20_000 - 35, 20_000)
    values = 10 + 4.0 * (days % 7 == 20_000 % 7) + rng.normal(0, 0.2, 35)
    nights, day = nights_of(values)
    expected, spread = expected_night(nights, day, 20.0)
    assert expected == pytest.approx(14.0, abs=0.4)
    assert 0.1 < spread < 0.5


@pytest.mark.parametrize("count", [0, 5, 11])
def test_the_night_flow_needs_two_weeks(count):
    nights, day = nights_of([10.0] * count)
    assert np.isnan(expected_night(nights, day, 20.0)[0])


def test_nights_without_mnf_are_left_out_not_taken_as_zero():
    values = [10.0 + 0.1 * (i % 2) for i in range(35)]
    values[3] = values[20] = np.nan
    nights, day = nights_of(values)
    assert expected_night(nights, day, 20.0)[0] == pytest.approx(10.05, abs=0.1)


def test_a_dma_without_night_flow_still_has_a_spread_to_judge_by():
    nights, day = nights_of([0.0] * 30)
    expected, spread = expected_night(nights, day, 20.0)
    assert expected == 0.0
    assert spread == pytest.approx(0.1)


def test_evidence_is_the_strongest_run_of_nights():
    """Oracle: all run lengths tried one by one."""
    nights, day = nights_of([10.0] * 20)
    z = [0.5, -1.0, 2.0, 3.0, 2.5]
    for back, value in enumerate(reversed(z)):
        nights[(day - back) % NIGHTS]["day"] = day - back
        nights[(day - back) % NIGHTS]["z"] = value
    expected = max(sum(z[-m:]) / np.sqrt(m) for m in range(1, 6))
    got, length, start = evidence(nights, day)
    assert got == pytest.approx(expected)
    assert length == 3
    assert start == nights[(day - 2) % NIGHTS]["start_ms"]


def test_consumed_evidence_does_not_count_again():
    nights, day = nights_of([10.0] * 20)
    nights["z"] = 5.0
    consume(nights)
    assert evidence(nights, day - 1)[0] == 0.0


def test_the_mnf_is_the_smallest_hour_of_net_inflow():
    from models.state import ROW  # noqa: PLC0415

    row, ring = np.zeros(1, ROW), np.full(4, np.nan)
    row["night_best_m3h"] = np.inf
    flows = [9.0, 8.0, 7.0, 6.0, 5.0, np.nan, 1.0, 1.0]
    for flow in flows:
        night_flow.collect(row[0], ring, flow)
    assert row[0]["night_best_m3h"] == np.mean([8, 7, 6, 5])
    assert row[0]["night_valid"] == 7
