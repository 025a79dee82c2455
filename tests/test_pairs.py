"""Pressure loggers beside each other: the regression, what it finds, and what it must not take for a leak."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from models import pairs
from models.calendar import EPOCH
from models.detectors import PRESSURE_STEP, PRESSURE_TREND
from models.engine import Engine
from models.schema import PRESSURE
from tests import loggers, naive_pairs
from tests.synthetic import DAY, SLOT_MS, START_MS

DAYS = 45


@pytest.mark.parametrize("missing", [(), (2,), (0,), (1, 2, 3, 4)])
def test_the_residual_is_the_median_over_the_partners_that_are_there(missing):
    """Oracle: naive_pairs.pair_residual."""
    rng = np.random.default_rng(7)
    rows, _ = pairs.new_loggers(6)
    partners, slopes = np.full((6, pairs.MOST_PARTNERS), -1), rng.normal(1.0, 0.3, (6, pairs.MOST_PARTNERS))
    partners[:, :5] = [[j for j in range(6) if j != i] for i in range(6)]
    partners[5, 4] = -1
    values, pivots, flow_slopes = rng.normal(size=7), rng.normal(size=7), rng.normal(size=6)
    values[list(missing)] = np.nan
    rows["value"], rows["pivot"], rows["flow_slope"][:6] = values, pivots, flow_slopes
    rows["partners"][:6], rows["slopes"][:6] = partners, slopes
    pairs.compare(rows)
    lifted = (values - pivots)[:6] - flow_slopes * (values - pivots)[6]
    expected = [naive_pairs.pair_residual(lifted, partners, slopes, i) for i in range(6)]
    np.testing.assert_allclose(rows["residual"][:6], expected, rtol=1e-12)


def hourly_moments(hours, silent=None):
    """LOGGER rows and covariances after `hours` (T, n) of hourly means; `silent`: (logger, first, last) without a value."""
    rows, cov = pairs.new_loggers(hours.shape[1] - 1)
    for at, hour in enumerate(hours):
        rows["hour_sum"], rows["hour_slots"] = 2 * hour, 2
        if silent and silent[1] <= at < silent[2]:
            rows["hour_sum"][silent[0]] = rows["hour_slots"][silent[0]] = 0
        pairs.end_hour(rows, cov, 0, True)
    return rows, cov


def test_the_moments_are_those_of_all_hours_and_forget_after_four_weeks():
    """Oracle: naive_pairs.pair_moments, which weights every hour at once."""
    rng = np.random.default_rng(3)
    for count in (5, 400, 1500):
        hours = rng.normal(400.0, 3.0, (count, 6)) @ rng.normal(size=(6, 6))
        rows, got = hourly_moments(hours)
        mean, expected = naive_pairs.pair_moments(hours, pairs.MEMORY_HOURS)
        np.testing.assert_allclose(rows["mean"], mean, rtol=1e-9)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_a_logger_that_is_silent_for_days_leaves_the_others_moments_alone():
    hours = np.random.default_rng(4).normal(400.0, 3.0, (300, 6))
    got, expected = (np.delete(np.delete(hourly_moments(hours, silent)[1], 1, 0), 1, 1) for silent in ((1, 100, 200), None))
    np.testing.assert_array_equal(got, expected)


def test_partners_are_the_loggers_with_the_highest_correlation_once_the_inflow_is_explained():
    """Oracle: naive_pairs.pair_partners."""
    rng = np.random.default_rng(6)
    rows, cov = hourly_moments(rng.normal(400.0, 3.0, (400, 20)) @ rng.normal(size=(20, 20)))
    pairs.take_over(rows, cov)
    partners, slopes = naive_pairs.pair_partners(cov, pairs.MOST_PARTNERS)
    np.testing.assert_array_equal(rows["partners"][:-1], partners)
    np.testing.assert_allclose(rows["slopes"][:-1], slopes, rtol=1e-9)
    np.testing.assert_allclose(rows["flow_slope"][:-1], cov[:-1, -1] / cov[-1, -1], rtol=1e-12)


def test_four_loggers_are_not_compared():
    rows, cov = pairs.new_loggers(4)
    assert len(rows) == 0
    assert cov.size == 0


def quiet_with(change):
    """Alerts and steps of a made-up DMA after `change(flow, pressure)`, in place."""
    site = loggers.make_site()
    flow, pressure = loggers.columns(DAYS, seed=11)
    change(flow, pressure)
    return loggers.watch(site, loggers.readings(site, flow, pressure))


def of_pressure(alerts):
    return [a for a in alerts if a.event == "raised" and "pressure_below_neighbours" in a.reasons]


def test_a_quiet_dma_stays_quiet_though_its_loggers_are_judged():
    alerts, steps, engine = quiet_with(lambda _, __: None)
    assert of_pressure(alerts) == []
    scores = np.concatenate([step.detections["scores"] for step in steps])
    assert (scores[: 13 * DAY, PRESSURE_STEP:] == 0.0).all()
    assert (scores[20 * DAY :, PRESSURE_TREND] > 0.0).any()
    assert np.isfinite(engine._buffers.loggers["z"][:-1]).all()


def test_a_burst_is_found_within_two_hours_and_names_the_logger_beside_it():
    start = 30.4
    alerts, _, _ = quiet_with(lambda f, p: loggers.leak(f, p, loggers.ramp(DAYS, start, 36, 6.0), at=3))
    first = next(a for a in alerts if a.detected_at >= START_MS + start * DAY * SLOT_MS)
    assert first.type == "burst"
    assert first.detected_at - (START_MS + start * DAY * SLOT_MS) <= 6 * SLOT_MS
    assert "pressure_below_neighbours" in first.reasons
    assert "p-3" in first.evidence.meters
    assert any("p-3" in text and "lower than the other loggers suggest since" in text for text in first.evidence.for_)


def test_a_leak_too_small_for_the_flow_is_found_by_pressures_alone_and_ends_when_they_rise():
    size = loggers.ramp(DAYS, 25.0, 38.0, 1.2, growth_days=5.0)
    alerts, _, _ = quiet_with(lambda f, p: loggers.leak(f, p, size, at=1))
    raised = of_pressure(alerts)
    assert len(raised) == 1
    assert raised[0].evidence.metric == "pressure_residual"
    assert raised[0].evidence.observed < 0.0
    assert "p-1" in raised[0].title.en
    assert "p-1" in raised[0].title.zh
    ends = [a for a in alerts if a.alert_id == raised[0].alert_id and a.event == "cleared"]
    assert len(ends) == 1
    assert 0 <= ends[0].ended_at - (START_MS + 38 * DAY * SLOT_MS) <= 24 * 3_600_000


def test_one_leak_is_one_event_of_flow_and_pressures():
    alerts, _, _ = quiet_with(lambda f, p: loggers.leak(f, p, loggers.ramp(DAYS, 28.3, 40, 8.0), at=2))
    assert len({a.alert_id for a in alerts if a.detected_at < START_MS + 40 * DAY * SLOT_MS}) == 1


@pytest.mark.parametrize("size", [1.2, 3.0, 6.0])
@pytest.mark.parametrize("start", [0.0, 24.4], ids=["never_known", "known"])
def test_the_way_back_from_a_repair_is_no_leak(size, start):
    repaired = 32.4
    alerts, _, _ = quiet_with(lambda f, p: loggers.leak(f, p, loggers.ramp(DAYS, start, repaired, size), at=3))
    assert [a for a in of_pressure(alerts) if a.detected_at > START_MS + repaired * DAY * SLOT_MS] == []


def test_a_fall_that_is_forgotten_at_midnight_is_not_judged_in_its_first_slot():
    """A repair that nobody knew of settles at midnight, while another logger is falling (divided by its slots, once)."""
    site = loggers.make_site()
    flow, pressure = loggers.columns(40, seed=11)
    pressure[39 * DAY :, 1] -= 12.0
    block = loggers.readings(site, flow, pressure)
    engine = Engine(site, "D")
    slot = 1 + loggers.LOGGERS
    engine.step(block[: 39 * DAY * slot])
    rows = engine._buffers.loggers
    rows["days"][:-1] = 0.0
    rows["days"][4, :5] = 30.0 * rows["day_spread"][4]
    rows["recent"] = 0.0
    rows["cusum"][1], rows["slots"][1], rows["fall"][1], rows["flow_z"][1], rows["raw"][1] = 60.0, 6, -60.0, 30.0, -60.0
    rows["since_ms"][1] = block[39 * DAY * slot]["time_ms"] - 7 * SLOT_MS
    result = engine.step(block[39 * DAY * slot : 39 * DAY * slot + 6 * slot])
    assert len(result.detections) > 0
    assert np.isnan(rows["days"][4]).all()


def test_a_second_burst_after_a_repair_is_found_again():
    def change(flow, pressure):
        for start, end in ((24.4, 30.4), (36.4, 44.0)):
            loggers.leak(flow, pressure, loggers.ramp(DAYS, start, end, 6.0), at=3)

    alerts, _, _ = quiet_with(change)
    begun = START_MS + 36.4 * DAY * SLOT_MS
    again = [a for a in of_pressure(alerts) if a.detected_at >= begun]
    assert len(again) == 1
    assert again[0].detected_at - begun <= 8 * SLOT_MS


def test_a_holiday_teaches_the_pairs_nothing():
    site = loggers.make_site()
    block = loggers.readings(site, *loggers.columns(25, seed=11))
    holiday = EPOCH + timedelta(days=START_MS // 86_400_000 + 20)
    plain, spared = Engine(site, "D"), Engine(replace(site, classes={holiday: "holiday"}), "D")
    plain.step(block)
    spared.step(block)
    lost = plain._buffers.loggers["hours"] - spared._buffers.loggers["hours"]
    np.testing.assert_array_equal(lost, 24.0)
    hours = [engine._buffers.loggers["spread_hours"][:-1] for engine in (plain, spared)]
    np.testing.assert_allclose(hours[0] - hours[1], 1.0, atol=1e-3)


def test_a_leak_that_is_open_teaches_moments_and_spreads_nothing():
    site = loggers.make_site()
    flow, pressure = loggers.columns(DAYS, seed=11)
    loggers.leak(flow, pressure, loggers.ramp(DAYS, 30.4, DAYS, 12.0), at=3)
    block = loggers.readings(site, flow, pressure)
    engine = Engine(site, "D")
    half = 32 * DAY * (1 + loggers.LOGGERS)
    engine.step(block[:half])
    assert engine.open_events == 1
    before = engine._buffers.loggers[["mean", "hours", "spreads", "spread_hours"]].copy()
    engine.step(block[half:])
    assert engine.open_events == 1
    np.testing.assert_array_equal(engine._buffers.loggers[["mean", "hours", "spreads", "spread_hours"]], before)


def raise_head(_, pressure):
    pressure[32 * DAY :] += 25.0


def offset(_, pressure):
    pressure[32 * DAY + 40 :, 4] -= 6.0


def dead(_, pressure):
    pressure[32 * DAY :, 2] = 0.0


def stuck(_, pressure):
    pressure[32 * DAY + 30 :, 2] = pressure[32 * DAY + 29, 2]


def spikes(_, pressure):
    rng = np.random.default_rng(1)
    pressure[rng.random(pressure.shape) < 0.002] -= 60.0


@pytest.mark.parametrize("change", [raise_head, offset, dead, stuck, spikes])
def test_what_is_no_leak_is_not_taken_for_a_burst_by_pressures(change):
    alerts, _, _ = quiet_with(change)
    assert [a for a in of_pressure(alerts) if a.type == "burst"] == []


def test_a_dead_logger_does_not_take_the_others_along():
    def change(flow, pressure):
        pressure[20 * DAY :, 0] = np.nan
        loggers.leak(flow, pressure, loggers.ramp(DAYS, 30.4, 36, 6.0), at=3)

    alerts, _, _ = quiet_with(change)
    raised = of_pressure(alerts)
    assert len(raised) == 1
    assert "p-3" in raised[0].evidence.meters


def test_cuts_order_and_restarts_leave_no_trace():
    site = loggers.make_site()
    flow, pressure = loggers.columns(DAYS, seed=2)
    loggers.leak(flow, pressure, loggers.ramp(DAYS, 24.4, 33, 6.0), at=3)
    block = loggers.readings(site, flow, pressure)
    whole = loggers.Engine(site, "D")
    expected = whole.step(block)
    assert len(expected.alerts) >= 2
    rng = np.random.default_rng(0)
    late = rng.uniform(0, 200 * 60_000, len(block)) * (block["kind"] != PRESSURE)
    shuffled = block[np.argsort(block["time_ms"] + late, kind="stable")]
    engine, alerts, rows = loggers.Engine(site, "D"), [], []
    for part in np.split(shuffled, np.sort(rng.integers(0, len(block), 60))):
        result = engine.step(part)
        alerts += result.alerts
        rows.append(result.detections)
        blob = engine.snapshot()
        engine = loggers.Engine(site, "D")
        engine.restore(blob)
    assert alerts == expected.alerts
    got = np.concatenate(rows)
    assert got.tobytes() == expected.detections[: len(got)].tobytes()
