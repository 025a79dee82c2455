"""One battery that every detector passes, and what each alone must know."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from models import balance_events, loop, pressure_loop
from models.calibration import end_day, observe, threshold
from models.detectors import DETECTORS, ISOLATION, isolation, night_flow
from models.detectors.night_flow import consume, evidence
from models.features import FEATURES
from models.night_level import new_nights
from models.state import NIGHTS, ROW, no_past
from tests.synthetic import DAY, daily, make_site, readings, run, step_between
from training.fit import flatten

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
    run |= {"balance": balance_events.observe_balance.py_func.__globals__["detector"].update}
    assert detector.name in run


def test_the_isolation_forest_is_silent_without_a_model(detections):
    assert (detections["scores"][:, 2] == 0).all()


def test_the_isolation_forest_has_no_word_on_a_slot_without_an_excess():
    """Nor has a day of such slots a maximum: zeros among them put the threshold above every score."""
    rng = np.random.default_rng(0)
    forest = flatten(IsolationForest(n_estimators=10, random_state=0).fit(rng.normal(size=(300, len(FEATURES)))))
    row, features = np.zeros(1, ROW), np.zeros(len(FEATURES), np.float32)
    row["forest_score"] = np.nan
    assert np.isnan(isolation.update(row[0], features, forest, 0.25))
    features[1] = isolation.MIN_MEAN_Z
    assert 0 < isolation.update(row[0], features, forest, 0.25) <= 1
    known = no_past()[ISOLATION : ISOLATION + 1]
    for day in range(60):
        observe(known[0], 0.6 if day % 3 == 0 else np.nan)
        end_day(known[0], 600.0, True)
    assert threshold(known[0], 600.0) < 0.75


def night_rests(values, day=20_000):
    nights = new_nights(NIGHTS)
    for back, value in enumerate(reversed(values)):
        night = nights[(day - back) % NIGHTS]
        night["day"], night["start_ms"], night["mnf_m3h"], night["rest_m3h"] = (
            day - back,
            (day - back) * 86_400_000,
            30.0,
            value,
        )
    return nights, day


@pytest.mark.parametrize("of_level", [0.0, 0.8])
def test_evidence_is_the_strongest_run_of_nights(of_level):
    """Oracle: all run lengths tried one by one."""
    rests = [0.5, -1.0, 2.0, 3.0, 2.5]
    nights, day = night_rests(rests)
    tried = [np.mean(rests[-m:]) / np.sqrt(1.5**2 / m + of_level**2) for m in range(1, 6)]
    got, excess, start = evidence(nights, day, 1.5, of_level)
    assert got == pytest.approx(max(tried))
    assert excess == pytest.approx(2.5)
    assert start == nights[(day - 2) % NIGHTS]["start_ms"]


def test_an_uncertain_level_is_not_averaged_away_by_a_long_run():
    nights, day = night_rests([3.0] * 14)
    assert evidence(nights, day, 3.0, 0.0)[0] == pytest.approx(np.sqrt(14))
    assert evidence(nights, day, 3.0, 3.0)[0] < 1.0


def test_one_wild_night_is_not_a_run():
    nights, day = night_rests([0.0] * 13 + [1000.0])
    assert evidence(nights, day, 1.0, 0.0)[0] == pytest.approx(6.0)


def test_nights_that_bear_each_other_out_count_in_full():
    """Oracle: the formula; of these nights only the largest may be one of its own."""
    rests = [0.0] * 10 + [10.0, 15.0, 20.0, 25.0]
    nights, day = night_rests(rests)
    of_run = [
        np.mean(np.minimum(rests[-m:], max(6.0, np.sort(rests[-m:])[-2] if m > 1 else 0.0))) * np.sqrt(m)
        for m in range(1, 15)
    ]
    assert evidence(nights, day, 1.0, 0.0)[0] == pytest.approx(max(of_run))
    assert evidence(nights, day, 1.0, 0.0)[0] > 30.0


def test_consumed_evidence_neither_counts_again_nor_teaches():
    nights, day = night_rests([0.5, 5.0, 5.0, 7.0])
    consume(nights, nights[(day - 2) % NIGHTS]["start_ms"], 6.0)
    assert evidence(nights, day, 1.0, 0.0)[0] == 0.0
    flows = [nights[(day - back) % NIGHTS]["mnf_m3h"] for back in range(3, -1, -1)]
    assert flows == [30.0, 25.0, 25.0, 24.0]


def test_the_mnf_is_the_smallest_hour_of_net_inflow():
    from models.state import ROW  # noqa: PLC0415

    row, ring = np.zeros(1, ROW), np.full(4, np.nan)
    row["night_best_m3h"] = np.inf
    flows = [9.0, 8.0, 7.0, 6.0, 5.0, np.nan, 1.0, 1.0]
    for flow in flows:
        night_flow.collect(row[0], ring, flow)
    assert row[0]["night_best_m3h"] == np.mean([8, 7, 6, 5])
    assert row[0]["night_valid"] == 7
