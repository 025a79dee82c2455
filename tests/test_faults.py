"""Meters' events through the engine: one a cause, told apart by what the rest of the DMA does, and over when it is over."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from models.engine import Engine
from models.network import parse_site
from models.schema import FLOW, PRESSURE, READING
from tests.synthetic import DAY, SITE_TOML, SLOT_MS, START_MS, demand

DAYS = 30
EVENT_SLOT = 24 * DAY + 40
HOUR = 4
HOUR_MS = 3_600_000
SITE = parse_site(
    SITE_TOML,
    """
[[dma]]
id = "D"
[[meter]]
id = "east"
kind = "flow"
to = "D"
[[meter]]
id = "west"
kind = "flow"
to = "D"
[[meter]]
id = "p-1"
kind = "pressure"
dma = "D"
[[meter]]
id = "p-2"
kind = "pressure"
dma = "D"
""",
)


@cache
def columns(seed=0):
    """Quarter-hour values of the four meters, 30 days; no DMA but this one."""
    own = demand(DAYS, 60.0, seed)
    rng = np.random.default_rng(seed + 99)
    pressure = 400.0 - 0.005 * own**2
    loggers = [pressure + rng.normal(0, 0.5, len(own)) for _ in range(2)]
    split = 1 + 0.01 * rng.standard_normal(len(own))
    east = 0.6 * own * split
    return np.round(np.column_stack([east, own - east, *loggers]), 3)


def block_of(values):
    """READING in order of time; NaN is not sent."""
    out = np.zeros(values.shape, READING)
    out["time_ms"] = (START_MS + SLOT_MS * np.arange(1, len(values) + 1))[:, None]
    out["value"] = values
    out["meter"] = [SITE.meter_row[name] for name in ("east", "west", "p-1", "p-2")]
    out["kind"] = [FLOW, FLOW, PRESSURE, PRESSURE]
    return out[~np.isnan(values)]


def alerts_of(values, parts=1):
    engine = Engine(SITE, "D")
    return [a for part in np.array_split(block_of(values), parts) for a in engine.step(part).alerts]


def raised(alerts):
    return [(a.type, a.scope.type, a.scope.id) for a in alerts if a.event == "raised"]


def at(slot):
    return START_MS + SLOT_MS * slot


EAST, WEST, P1, P2 = range(4)


@pytest.mark.parametrize("seed", range(3))
def test_healthy_meters_raise_nothing(seed):
    assert alerts_of(columns(seed)) == []


def test_a_meter_silent_beyond_its_habit_is_one_gap_and_clears_once_it_reports_for_good():
    values = columns().copy()
    values[EVENT_SLOT : EVENT_SLOT + 20 * HOUR, EAST] = np.nan
    values[EVENT_SLOT + 20 * HOUR + 1 : EVENT_SLOT + 26 * HOUR, EAST] = np.nan  # one value is no return
    first, last = alerts_of(values)
    assert raised([first]) == [("data_gap", "meter", "east")]
    assert first.started_at == at(EVENT_SLOT)
    assert 12 * HOUR_MS < first.detected_at - first.started_at <= 13 * HOUR_MS
    assert (last.event, last.alert_id) == ("cleared", first.alert_id)
    assert last.ended_at == at(EVENT_SLOT + 26 * HOUR)
    assert last.evidence.observed == pytest.approx(26.0)


def test_a_meter_that_uploads_once_a_day_is_not_gapped_after_half_a_day():
    """Of a logger's day only the last two hours come in time, and the next day none do."""
    values = columns().copy()
    hour = np.arange(len(values)) % DAY // HOUR
    values[hour < 22, P1] = np.nan
    assert alerts_of(values) == []
    values[EVENT_SLOT : EVENT_SLOT + 4 * DAY, P1] = np.nan
    assert raised(alerts_of(values)) == [("data_gap", "logger", "p-1")]


def test_meters_that_fall_silent_together_are_one_gap_of_the_dma():
    values = columns().copy()
    values[EVENT_SLOT : EVENT_SLOT + 30 * HOUR, [EAST, P1, P2]] = np.nan
    values[EVENT_SLOT + 2 : EVENT_SLOT + 30 * HOUR, P1] = np.nan
    first, last = alerts_of(values)
    assert raised([first]) == [("data_gap", "dma", "D")]
    assert "3 of 4 meters" in first.title.en
    assert last.event == "cleared"
    assert last.ended_at == at(EVENT_SLOT + 30 * HOUR)


def test_a_meter_that_stays_silent_when_the_others_are_back_is_silent_alone():
    values = columns().copy()
    values[EVENT_SLOT : EVENT_SLOT + 30 * HOUR, [EAST, P1, P2]] = np.nan
    values[EVENT_SLOT : EVENT_SLOT + 60 * HOUR, P1] = np.nan
    alerts = alerts_of(values)
    assert raised(alerts) == [("data_gap", "dma", "D"), ("data_gap", "logger", "p-1")]
    assert [a.event for a in alerts] == ["raised", "cleared", "raised", "cleared"]


def test_a_dead_inlet_is_told_from_a_closed_valve_and_from_an_interruption():
    """The rest of the DMA decides: the other inlet takes over, or pressure falls, or nothing happens at all."""
    hours = slice(EVENT_SLOT, EVENT_SLOT + 2 * DAY)
    dead, rerouted, interrupted = columns().copy(), columns().copy(), columns().copy()
    for values in (dead, rerouted, interrupted):
        values[hours, EAST] = 0.0
    rerouted[hours, WEST] += columns()[hours, EAST]
    interrupted[hours, P1:] -= 80.0
    for values, reason, severity in (
        (dead, "pressure_unchanged", "medium"),
        (rerouted, "flow_taken_over", "low"),
        (interrupted, "pressure_fell", "high"),
    ):
        alerts = alerts_of(values)
        assert raised(alerts) == [("zero_flow", "meter", "east")], reason
        assert alerts[0].reasons == ["no_flow", reason]
        assert alerts[0].severity == severity
        assert alerts[0].started_at == at(EVENT_SLOT)
        assert alerts[0].detected_at - alerts[0].started_at <= 5 * HOUR_MS
        assert (alerts[-1].event, alerts[-1].ended_at) == ("cleared", at(EVENT_SLOT + 2 * DAY))


def test_what_a_dead_meter_says_is_no_evidence():
    values = columns().copy()
    values[EVENT_SLOT : EVENT_SLOT + 2 * DAY, EAST] = 0.0
    detections = Engine(SITE, "D").step(block_of(values)).detections
    during = (detections["slot_end_ms"] > at(EVENT_SLOT + 6 * HOUR)) & (
        detections["slot_end_ms"] <= at(EVENT_SLOT + 2 * DAY)
    )
    assert np.isnan(detections["observed_m3h"][during]).all()
    after = detections["slot_end_ms"] > at(EVENT_SLOT + 2 * DAY + 1)
    assert not np.isnan(detections["observed_m3h"][after]).any()


def test_a_pump_that_stops_every_night_is_habit_and_its_death_is_not():
    values = columns().copy()
    hour = np.arange(len(values)) % DAY // HOUR
    night = hour < 5
    values[night, WEST] += values[night, EAST]
    values[night, EAST] = 0.0
    assert alerts_of(values) == []
    values[EVENT_SLOT : EVENT_SLOT + 3 * DAY, EAST] = 0.0
    assert raised(alerts_of(values)) == [("zero_flow", "meter", "east")]


def test_flow_reversed_for_hours_is_told_and_flow_that_reverses_every_night_is_not():
    values = columns().copy()
    hour = np.arange(len(values)) % DAY // HOUR
    night = hour < 3
    values[night, WEST] += values[night, EAST] + 5.0
    values[night, EAST] = -5.0
    assert alerts_of(values) == []
    day = slice(EVENT_SLOT, EVENT_SLOT + 8 * HOUR)  # 10:00 to 18:00
    values[day, WEST] += values[day, EAST] + 5.0
    values[day, EAST] = -5.0 - 0.01 * np.arange(8 * HOUR)
    first, last = alerts_of(values)
    assert raised([first]) == [("reverse_flow", "meter", "east")]
    assert first.detected_at - at(EVENT_SLOT) <= 5 * HOUR_MS
    assert (last.event, last.ended_at) == ("cleared", at(EVENT_SLOT + 8 * HOUR))


def test_a_meter_that_spikes_is_told_once_and_its_wild_values_are_no_evidence():
    values = columns().copy()
    wild = EVENT_SLOT + 9 * np.arange(16)
    values[wild, EAST] = 6553.5
    engine = Engine(SITE, "D")
    result = engine.step(block_of(values))
    assert raised(result.alerts) == [("meter_fault", "meter", "east")]
    assert result.alerts[0].reasons == ["spikes"]
    assert result.alerts[-1].event == "cleared"
    found = result.detections[np.isin(result.detections["slot_end_ms"], at(wild + 1))]
    assert np.isnan(found["observed_m3h"]).all()
    assert np.isnan(result.detections["observed_m3h"]).sum() == len(wild)


@pytest.mark.parametrize("parts", [7, 400])
def test_meters_events_do_not_depend_on_block_boundaries(parts):
    values = columns().copy()
    values[EVENT_SLOT : EVENT_SLOT + 30 * HOUR, EAST] = np.nan
    values[EVENT_SLOT : EVENT_SLOT + 30 * HOUR, P1] = np.nan
    values[EVENT_SLOT + 2 * DAY : EVENT_SLOT + 3 * DAY, WEST] = 0.0
    values[EVENT_SLOT + 9 * np.arange(16), P2] = -1e5
    assert alerts_of(values, parts) == alerts_of(values)
    assert len(raised(alerts_of(values))) >= 3


def test_both_languages_tell_the_same_numbers():
    values = columns().copy()
    values[EVENT_SLOT : EVENT_SLOT + 30 * HOUR, P1] = np.nan
    values[EVENT_SLOT + 2 * DAY : EVENT_SLOT + 3 * DAY, WEST] = 0.0
    values[EVENT_SLOT + 9 * np.arange(16), P2] = -1e5
    for alert in alerts_of(values):
        assert re.search(r"[\u4e00-\u9fff]", alert.title.zh)
        assert re.findall(r"\d+\.\d+", alert.title.en) == re.findall(r"\d+\.\d+", alert.title.zh)


def test_a_logger_an_hour_ahead_is_told_and_cleared_when_its_clock_is_right_again():
    values = columns().copy()
    begin, over = 15 * DAY, 22 * DAY  # a Tuesday, and the next one
    values[begin:over, P1] = values[begin - 4 : over - 4, P1]
    first, last = alerts_of(values)
    assert raised([first]) == [("meter_fault", "logger", "p-1")]
    assert first.title.en == "Clock of logger p-1 is about 60 min ahead"
    assert first.started_at == at(begin)
    assert first.detected_at - first.started_at <= 4 * 24 * HOUR_MS
    assert (last.event, last.reasons, last.ended_at) == ("cleared", ["clock_right"], at(over))


EAGER = replace(SITE, alerts_per_week=1.0)
"""A site that asks for much: four equal values of a meter are out of the usual soon enough to be a burst first."""


def run_stuck(raised_m3h, slots_before):
    """Alerts of the inflow's own where `east` takes so much more, and sends the same value from so many slots later on."""
    values = columns().copy()
    values[EVENT_SLOT - slots_before :, 0] += raised_m3h
    values[EVENT_SLOT:, 0] = values[EVENT_SLOT, 0]
    alerts = Engine(EAGER, "D").step(block_of(values)[: (EVENT_SLOT + 8 * HOUR) * 4]).alerts
    return [a for a in alerts if a.scope.type == "dma" and a.started_at >= at(EVENT_SLOT - slots_before - 2)], alerts


def test_a_burst_that_only_a_stuck_meter_has_shown_is_withdrawn_when_that_is_known():
    own, alerts = run_stuck(40.0, 0)
    assert [(alert.type, alert.event) for alert in own] == [("burst", "raised"), ("burst", "cleared")]
    assert "meter_stuck" in own[1].reasons
    assert own[1].title.en == "No leak in D: flow meter east is stuck"
    assert own[1].estimate.lost_so_far == 0.0
    fault = next(alert for alert in alerts if alert.type == "meter_fault")
    assert (fault.scope.id, fault.detected_at) == ("east", own[1].updated_at)


def test_a_burst_that_ran_before_its_meter_got_stuck_stays_open():
    own, alerts = run_stuck(40.0, 5 * HOUR)
    assert [(alert.type, alert.event) for alert in own] == [("burst", "raised")]
    assert any(alert.type == "meter_fault" and alert.scope.id == "east" for alert in alerts)
