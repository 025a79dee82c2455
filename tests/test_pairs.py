"""Pressure loggers beside each other: the regression, what it finds, and what it must not take for a leak."""

from __future__ import annotations

import numpy as np
import pytest

from models import pairs
from models.detectors import PRESSURE_STEP, PRESSURE_TREND
from models.schema import PRESSURE
from tests import loggers, naive_pairs
from tests.synthetic import DAY, SLOT_MS, START_MS

DAYS = 45


@pytest.mark.parametrize("missing", [(), (2,), (0,), (1, 2, 3, 4)])
def test_the_residual_is_the_median_over_the_partners_that_are_there(missing):
    """Oracle: naive_pairs.pair_residual."""
    rng = np.random.default_rng(7)
    _, beside = pairs.new_loggers(6)
    partners, slopes = beside["logger_partners"], rng.normal(1.0, 0.3, (6, 5))
    partners[:] = [[j for j in range(6) if j != i] for i in range(6)]
    partners[5, 4] = -1
    lifted = rng.normal(size=6)
    lifted[list(missing)] = np.nan
    got = [pairs.residual(partners, slopes, lifted, i) for i in range(6)]
    expected = [naive_pairs.pair_residual(lifted, partners, slopes, i) for i in range(6)]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_the_moments_are_those_of_all_hours_and_forget_after_four_weeks():
    """Oracle: naive_pairs.pair_moments, which weights every hour at once."""
    rng = np.random.default_rng(3)
    for count in (5, 400, 1500):
        hours = rng.normal(400.0, 3.0, (count, 6)) @ rng.normal(size=(6, 6))
        rows, beside = pairs.new_loggers(5)
        for hour in hours:
            rows["hour_sum"], rows["hour_slots"] = 2 * hour, 2
            pairs.end_hour(rows, beside["logger_cov"], beside["logger_offsets"], 0, True)
        mean, cov = naive_pairs.pair_moments(hours, pairs.MEMORY_HOURS)
        np.testing.assert_allclose(rows["mean"], mean, rtol=1e-9)
        np.testing.assert_allclose(beside["logger_cov"], cov, rtol=1e-6, atol=1e-9)


def test_a_logger_that_is_silent_for_days_leaves_the_others_moments_alone():
    rng = np.random.default_rng(4)
    hours = rng.normal(400.0, 3.0, (300, 6))
    found = []
    for silent in (False, True):
        rows, beside = pairs.new_loggers(5)
        for at, hour in enumerate(hours):
            rows["hour_sum"], rows["hour_slots"] = hour, 1
            if silent and 100 <= at < 200:
                rows["hour_sum"][1] = rows["hour_slots"][1] = 0
            pairs.end_hour(rows, beside["logger_cov"], beside["logger_offsets"], 0, True)
        found.append(np.delete(np.delete(beside["logger_cov"], 1, 0), 1, 1))
    np.testing.assert_array_equal(found[0], found[1])


def test_four_loggers_are_not_compared():
    rows, beside = pairs.new_loggers(4)
    assert len(rows) == 0
    assert all(array.size == 0 for array in beside.values())


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
    assert any("p-3" in text and "below what its neighbours say since" in text for text in first.evidence.for_)


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
