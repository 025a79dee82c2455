"""What months bring: growing districts, holidays, nights when the clock changes, and warming up."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from models.calendar import EPOCH, day_codes
from models.engine import Engine
from models.network import parse_site
from models.profile import CAUTIOUS, SETTLED, WARMING
from models.schema import NEVER, READING
from tests.synthetic import DAY, demand

DAY_MS = 86_400_000
SLOT_MS = 900_000
NETWORK = '[[dma]]\nid = "A"\n[[meter]]\nid = "in"\nkind = "flow"\nto = "A"\n'


def make(zone="UTC", classes=None):
    return parse_site(f'name = "town"\ntimezone = "{zone}"\n[stream]\nlatenessMinutes = 0\n', NETWORK, classes)


def block(flow_m3h, first_day=20_458):
    """READING of one inlet from a UTC midnight on; 20,458 is Monday 2026-01-05."""
    out = np.zeros(len(flow_m3h), READING)
    out["time_ms"] = first_day * DAY_MS + SLOT_MS * np.arange(1, len(flow_m3h) + 1)
    out["value"] = np.round(flow_m3h, 3)
    return out


def raised(result):
    return [alert.type for alert in result.alerts if alert.event == "raised"]


def test_a_district_that_doubles_within_half_a_year_does_not_alarm_for_ever():
    quiet = grown = 0
    for seed in range(3):
        flow = demand(180, 40.0, seed)
        quiet += len(raised(Engine(make(), "A").step(block(flow))))
        grown += len(raised(Engine(make(), "A").step(block(flow * np.linspace(1.0, 2.0, len(flow))))))
    assert quiet == 0
    assert grown <= 3  # of 18 DMA-months; 0.1 a month are allowed by chance


def holidays_on(days):
    return {EPOCH + timedelta(days=int(day)): "holiday" for day in days}


def test_a_holiday_that_is_like_a_sunday_is_no_burst_where_it_is_known():
    days = 70
    moved = [45, 52, 59]  # Thursdays
    by_day = demand(days, 40.0, 1).reshape(days, DAY)
    by_day[6::7] *= 1.25  # Sundays are busier, and so are these
    for day in moved:
        by_day[day] = by_day[day - day % 7 - 1]
    first = 20_458
    known = Engine(make(classes=holidays_on(first + np.array(moved))), "A").step(block(by_day.ravel()))
    unknown = Engine(make(), "A").step(block(by_day.ravel()))
    assert raised(known) == []
    assert "burst" in raised(unknown)


@pytest.mark.parametrize(("start", "days"), [(date(2026, 2, 9), 56), (date(2026, 9, 7), 56)])
def test_the_nights_when_the_clock_changes_neither_alarm_nor_teach(start, days):
    """People in Rome live by the clock: in March a Sunday lacks the hour from two to three, in October it has it twice."""
    site = make("Europe/Rome")
    first = (start - EPOCH).days
    local = demand(days + 2, 40.0, 3).reshape(-1, DAY)
    ends = first * DAY_MS + SLOT_MS * np.arange(1, days * DAY + 1)
    zone = Engine(site, "A")._params
    offset = zone.zone_offsets_s[np.searchsorted(zone.zone_changes_ms, ends - SLOT_MS, "right") - 1] * 1000
    at = (ends - SLOT_MS + offset - first * DAY_MS) // SLOT_MS
    flow = local.ravel()[at]
    change = int(np.flatnonzero(np.diff(offset))[0]) + 1
    flow[change - 8 : change + 8] *= 1.3  # what is odd in that night
    engine = Engine(site, "A")
    nights = {int(day) for day in range(first, first + days)}
    result = engine.step(block(flow, first))
    assert raised(result) == []
    odd = int((ends[change] + offset[change]) // DAY_MS)
    ring = {int(day) for day in engine._buffers.nights["day"] if day != NEVER}
    assert odd not in ring
    assert {odd - 1, odd + 1} <= ring <= nights


def test_warming_up_is_said_with_since_and_until():
    flow = demand(50, 40.0, 2)
    rows = Engine(make(), "A").step(block(flow)).detections
    begin = 20_458 * DAY_MS
    phases = rows["phase"].reshape(-1, DAY)
    assert (phases[:13] == WARMING).all()
    assert (phases[14:41] == CAUTIOUS).all()
    assert (phases[42:] == SETTLED).all()
    assert (rows["phase_since_ms"][: 13 * DAY] == begin).all()
    assert (rows["phase_until_ms"][: 13 * DAY] == begin + 14 * DAY_MS).all()
    assert (rows["phase_until_ms"][20 * DAY : 40 * DAY] == begin + 42 * DAY_MS).all()
    assert (rows["phase_until_ms"][42 * DAY :] == NEVER).all()


def test_missing_readings_put_the_end_of_the_warm_up_off():
    flow = demand(20, 40.0, 2)
    readings = block(flow)
    there = (np.arange(len(flow)) < 5 * DAY) | (np.arange(len(flow)) >= 8 * DAY)
    rows = Engine(make(), "A").step(readings[there]).detections
    begin = 20_458 * DAY_MS
    assert rows["phase_until_ms"][10 * DAY] == begin + 17 * DAY_MS
    assert rows["phase"][-1] == CAUTIOUS
    assert rows["phase_since_ms"][-1] == begin + 17 * DAY_MS


def night_leak_found_after(days, seed, share):
    """Nights until a step of `share` of the mean, begun after so many days, is found; NaN when it is not within ten."""
    flow = demand(days + 12, 40.0, seed)
    flow[days * DAY :] += share * 40.0
    alerts = [a for a in Engine(make(), "A").step(block(flow)).alerts if a.event == "raised"]
    begun = (20_458 + days) * DAY_MS
    delays = [(a.detected_at - begun) / DAY_MS for a in alerts if a.detected_at > begun]
    return min(delays) if delays and min(delays) < 10 else np.nan


def test_a_leak_is_found_after_two_weeks_already_and_sooner_after_six():
    young = [night_leak_found_after(16, seed, 0.12) for seed in range(6)]
    old = [night_leak_found_after(45, seed, 0.12) for seed in range(6)]
    assert np.isfinite(young).sum() >= 4
    assert np.isfinite(old).all()
    assert np.median(old) <= np.nanmedian(young)


def test_an_alert_of_a_short_past_has_less_confidence_and_says_why():
    confidences = []
    for days in (16, 45):
        flow = demand(days + 2, 40.0, 1)
        flow[days * DAY :] += 25.0
        alert = Engine(make(), "A").step(block(flow)).alerts[0]
        confidences.append(alert.confidence)
        assert any("days of its own past" in word for word in alert.evidence.against) == (days == 16)
    assert confidences[0] < confidences[1]


def test_days_beyond_the_calendar_need_no_restart():
    """A worker that runs on into 2070 judges by the weekday alone."""
    late = (date(2070, 3, 3) - EPOCH).days
    result = Engine(make(classes=holidays_on([20_460])), "A").step(block(demand(30, 40.0, 1), late))
    assert len(result.detections) == 30 * DAY
    assert raised(result) == []
    assert len(day_codes({})) < late
