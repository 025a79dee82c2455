"""The one path: what it finds in a made-up town, and that nothing but the readings decides it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.engine import Engine
from models.network import parse_site
from models.phrases import day
from models.schema import BAD, READING
from tests.synthetic import DAY, NETWORK_TOML, SITE_TOML, SLOT_MS, START_MS, daily, make_site, readings, run, step_between

DAYS = 40
LATENESS_MINUTES = 240
BURST = step_between(DAYS, 30 * DAY + 40, 32 * DAY + 40, 10.0)


@pytest.fixture(scope="module")
def site():
    return make_site()


@pytest.fixture(scope="module")
def town_with_burst():
    return readings(DAYS, seed=1, b=BURST)


@pytest.fixture(scope="module")
def expected_alerts(site, town_with_burst):
    return run(site, daily(town_with_burst))[0]


def raised(alerts):
    return [(a.type, a.scope.id) for a in alerts if a.event == "raised"]


def slot_time(slot):
    return START_MS + SLOT_MS * slot


@pytest.mark.parametrize("seed", range(4))
def test_a_quiet_town_raises_nothing(site, seed):
    assert raised(run(site, daily(readings(60, seed)))[0]) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_burst_is_raised_within_two_hours_and_clears_after_repair(site, seed):
    alerts = run(site, daily(readings(DAYS, seed, b=BURST)))[0]
    assert raised(alerts) == [("burst", "B")]
    first, last = alerts[0], alerts[-1]
    assert 0 < first.detected_at - slot_time(30 * DAY + 40) <= 2 * 3_600_000
    assert last.event == "cleared"
    assert abs(last.ended_at - slot_time(32 * DAY + 40)) < 6 * 3_600_000
    assert last.estimate.excess_flow == pytest.approx(10.0, rel=0.2)
    assert last.estimate.lost_so_far == pytest.approx(480.0, rel=0.25)


@pytest.mark.parametrize("seed", range(3))
def test_the_repair_of_one_leak_does_not_end_another(site, seed):
    first = step_between(DAYS, 24 * DAY + 40, 31 * DAY + 40, 16.0)
    second = step_between(DAYS, 27 * DAY + 60, 37 * DAY + 40, 9.0)
    alerts = run(site, daily(readings(DAYS, seed, b=first + second)))[0]
    assert raised(alerts) == [("burst", "B")] * 2
    ended = {a.started_at: a.ended_at for a in alerts if a.event == "cleared"}
    large, small = sorted(ended)
    assert abs(ended[large] - slot_time(31 * DAY + 40)) < 12 * 3_600_000
    assert abs(ended[small] - slot_time(37 * DAY + 40)) < 12 * 3_600_000


@pytest.mark.parametrize("seed", range(3))
def test_a_slow_leak_is_found_at_night_and_is_one_alert(site, seed):
    leak = np.zeros(60 * DAY)
    leak[30 * DAY : 50 * DAY] = np.minimum(6.0, 6.0 * np.arange(20 * DAY) / (7 * DAY))
    alerts = run(site, daily(readings(60, seed, a=leak)))[0]
    assert raised(alerts) == [("night_flow_leak", "A")]
    assert alerts[0].detected_at - slot_time(30 * DAY) < 8 * 86_400_000
    assert alerts[-1].event == "cleared"
    # the metric of a raise is its night's, that of a revision by day the slot's
    assert alerts[0].evidence.metric == "mnf"
    assert f"in the night of {day(alerts[0].detected_at, site.timezone)} (02:00" in alerts[0].explanation.observed.en
    assert {a.evidence.metric for a in alerts if a.event == "updated"} <= {"net_inflow"}


@pytest.mark.parametrize("seed", range(3))
def test_an_opened_valve_is_no_burst(site, seed):
    alerts = run(site, daily(readings(DAYS, seed, b=BURST, c=-BURST)))[0]
    assert raised(alerts) == [("boundary_valve", "B")]
    assert any(text.startswith("C lost about as much as this DMA gained") for text in alerts[0].evidence.for_)


def test_a_stuck_meter_is_a_meter_fault_and_its_flow_no_evidence(site):
    block = readings(DAYS, seed=1)
    stuck = (block["meter"] == site.meter_row["in-A"]) & (block["time_ms"] > slot_time(30 * DAY + 30))
    stuck &= block["time_ms"] <= slot_time(31 * DAY + 60)
    block["value"][stuck] = block["value"][stuck][0]
    alerts, results = run(site, daily(block))
    assert raised(alerts) == [("meter_fault", "in-A")]
    assert alerts[0].scope.type == "meter"
    detections = np.concatenate([step.detections for step in results["A"]])
    during = (detections["slot_end_ms"] > slot_time(30 * DAY + 40)) & (detections["slot_end_ms"] < slot_time(31 * DAY + 50))
    assert np.isnan(detections["observed_m3h"][during]).all()


def test_an_unrepaired_leak_becomes_normal_only_after_the_configured_time(site):
    block = readings(100, seed=1, b=step_between(100, 30 * DAY + 40, 100 * DAY, 10.0))
    alerts = [a for a in run(site, daily(block))[0] if a.scope.id == "B"]
    assert alerts[0].event == "raised"
    assert alerts[-1].event == "closed"
    assert "accepted_as_normal" in alerts[-1].reasons
    assert (alerts[-1].updated_at - alerts[0].detected_at) / 86_400_000 == pytest.approx(60, abs=0.1)


def test_a_missing_inlet_is_missing_not_zero(site):
    block = readings(20, seed=1)
    lost = (block["meter"] == site.meter_row["in-C"]) & (block["time_ms"] > slot_time(15 * DAY))
    _, results = run(site, daily(block[~lost]))
    detections = np.concatenate([step.detections for step in results["C"]])
    after = detections["slot_end_ms"] > slot_time(15 * DAY)
    assert np.isnan(detections["observed_m3h"][after]).all()
    assert (detections["coverage"][after] == 0).all()


def test_readings_of_bad_quality_are_never_scored(site):
    block = readings(3, seed=1)
    block["quality"][block["meter"] == site.meter_row["in-A"]] = BAD
    _, results = run(site, daily(block))
    assert np.isnan(np.concatenate([step.detections for step in results["A"]])["observed_m3h"]).all()


def test_warm_up_is_silent(site):
    _, results = run(site, daily(readings(13, seed=1)))
    for steps in results.values():
        detections = np.concatenate([step.detections for step in steps])
        assert not detections["learnable"].any()
        assert (detections["scores"] == 0).all()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), blocks=st.integers(1, 200))
def test_alerts_do_not_depend_on_block_boundaries(site, town_with_burst, expected_alerts, seed, blocks):
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(town_with_burst), blocks))
    assert run(site, np.split(town_with_burst, cuts))[0] == expected_alerts


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_alerts_do_not_depend_on_order_within_lateness_nor_on_duplicates(
    site, town_with_burst, expected_alerts, seed, share
):
    rng = np.random.default_rng(seed)
    again = town_with_burst[rng.random(len(town_with_burst)) < 0.1 * share]
    both = np.concatenate([town_with_burst, again])
    delay_ms = rng.uniform(0, 0.9 * share * LATENESS_MINUTES * 60_000, len(both))
    shuffled = both[np.argsort(both["time_ms"] + delay_ms, kind="stable")]
    assert run(site, daily(shuffled))[0] == expected_alerts


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 4 * DAY * DAYS))
def test_a_restored_engine_continues_exactly(site, town_with_burst, expected_alerts, cut):
    alerts = []
    for dma in site.dmas:
        engine = Engine(site, dma.id)
        alerts += engine.step(town_with_burst[:cut]).alerts
        other = Engine(site, dma.id)
        other.restore(engine.snapshot())
        alerts += other.step(town_with_burst[cut:]).alerts
    assert sorted(alerts, key=lambda a: (a.updated_at, a.alert_id, a.revision)) == expected_alerts


@pytest.mark.parametrize("seed", range(5))
def test_order_within_lateness_does_not_matter_for_several_readings_a_slot_either(site, seed):
    """Five-minute readings on a quarter-hour grid, each up to 200 minutes late."""
    block = np.repeat(readings(20, seed=1), 3)
    block["time_ms"] -= np.tile([600_000, 300_000, 0], len(block) // 3)
    block["value"] += np.tile([-1.0, 0.0, 1.0], len(block) // 3)
    ordered = block[np.argsort(block["time_ms"], kind="stable")]
    delay_ms = np.random.default_rng(seed).uniform(0, 200 * 60_000, len(ordered))
    shuffled = ordered[np.argsort(ordered["time_ms"] + delay_ms, kind="stable")]
    for dma in ("A", "B", "C"):
        one, other = Engine(site, dma), Engine(site, dma)
        a, b = one.step(ordered), other.step(shuffled)
        assert (a.late, b.late) == (0, 0)
        until = min(one.watermark_ms, other.watermark_ms)
        first, second = (d.detections[d.detections["slot_end_ms"] <= until] for d in (a, b))
        assert first.tobytes() == second.tobytes()


def test_meters_that_come_half_a_day_apart_do_not_leave_the_engine_behind_for_good(site):
    """Partitions of a replay: one meter's window after the other's, each just within the lateness."""
    block = readings(10, seed=1)
    window = (block["time_ms"] - 1) // (LATENESS_MINUTES * 60_000 - SLOT_MS)
    by_meter = block[np.lexsort((block["time_ms"], block["meter"], window))]
    for dma in ("A", "B", "C"):
        one, other = Engine(site, dma), Engine(site, dma)
        expected, got = one.step(block), other.step(by_meter)
        assert got.late == 0
        assert one.watermark_ms == other.watermark_ms
        assert got.detections.tobytes() == expected.detections.tobytes()


def test_a_spike_within_a_burst_changes_neither_its_size_nor_its_life(site):
    block = readings(DAYS, seed=1, b=BURST)
    spike = (block["meter"] == site.meter_row["A-B"]) & (block["time_ms"] == slot_time(30 * DAY + 60))
    block["value"][spike] = 65_535.0
    alerts = [a for a in run(site, daily(block))[0] if a.scope.id == "B"]
    assert raised(alerts) == [("burst", "B")]
    assert alerts[-1].estimate.excess_flow == pytest.approx(10.0, rel=0.3)
    assert alerts[-1].estimate.lost_so_far == pytest.approx(480.0, rel=0.4)


def test_a_short_burst_is_not_averaged_with_what_came_after_it(site):
    block = readings(DAYS, seed=2, b=step_between(DAYS, 30 * DAY + 10, 30 * DAY + 26, 15.0))
    alerts = [a for a in run(site, daily(block))[0] if a.scope.id == "B"]
    assert raised(alerts) == [("burst", "B")]
    assert alerts[-1].estimate.excess_flow == pytest.approx(15.0, rel=0.3)
    assert alerts[-1].estimate.lost_so_far == pytest.approx(60.0, rel=0.5)


def test_a_huge_budget_asks_for_more_alerts_not_for_none():
    generous = parse_site(SITE_TOML + "[alerts]\nbudgetPerWeek = 900\n", NETWORK_TOML)
    alerts, results = run(generous, daily(readings(DAYS, seed=1, b=BURST)))
    assert ("burst", "B") in raised(alerts)
    for steps in results.values():
        scores = np.concatenate([step.detections for step in steps])["scores"]
        assert ((scores >= 0) & (scores < 1)).all()


def test_a_late_reading_is_counted_and_changes_nothing(site):
    block = readings(10, seed=1)
    engine, other = Engine(site, "A"), Engine(site, "A")
    engine.step(block)
    other.step(block)
    late = block[block["time_ms"] == slot_time(5 * DAY)]
    result = engine.step(late)
    assert (result.late, result.accepted, len(result.detections)) == (2, 0, 0)
    for name, array in engine._buffers._asdict().items():
        if name == "channels":  # counts the late ones
            continue
        assert array.tobytes() == getattr(other._buffers, name).tobytes(), name


def test_one_clock_a_day_ahead_does_not_close_slots_over_the_others(site):
    block = readings(10, seed=1)
    engine = Engine(site, "B")  # reads A-B and p-B, and for its neighbours in-A and in-C
    half = np.searchsorted(block["time_ms"], slot_time(5 * DAY), "right")
    engine.step(block[:half])
    ahead = np.zeros(1, READING)
    ahead["time_ms"], ahead["value"], ahead["meter"] = slot_time(6 * DAY), 50.0, site.meter_row["A-B"]
    assert engine.step(ahead).accepted == 1
    assert engine.watermark_ms <= slot_time(5 * DAY)
    assert engine.step(block[half:]).late == 0


def test_a_silent_meter_is_waited_for_no_longer_than_the_lateness(site):
    block = readings(3, seed=1)
    silent = (block["meter"] == site.meter_row["p-B"]) & (block["time_ms"] > slot_time(DAY))
    engine = Engine(site, "B")
    engine.step(block[~silent])
    assert engine.watermark_ms == slot_time(3 * DAY - 1) - LATENESS_MINUTES * 60_000


def test_alert_ids_do_not_depend_on_origin(site, town_with_burst):
    live, replay = Engine(site, "B"), Engine(site, "B")
    a, b = live.step(town_with_burst).alerts, replay.step(town_with_burst, "replay").alerts
    assert [x.alert_id for x in a] == [x.alert_id for x in b]
    assert {x.origin for x in a} == {"live"}
    assert {x.origin for x in b} == {"replay"}


def test_alerts_are_plain_json(expected_alerts):
    for alert in expected_alerts:
        assert msgspec.json.decode(msgspec.json.encode(alert), type=type(alert)) == alert


def test_readings_of_other_dmas_are_ignored(site):
    block = readings(2, seed=1)
    result = Engine(site, "A").step(block[block["meter"] == site.meter_row["p-B"]])
    assert (result.accepted, result.late) == (0, 0)
