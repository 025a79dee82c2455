"""Through the engine: a holiday is like a Sunday and teaches nobody; the night of a clock change gets no verdict."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from models.calendar import EPOCH
from models.engine import Engine
from models.network import parse_site
from models.schema import READING
from tests.synthetic import DAY, demand

NETWORK = '[[dma]]\nid = "A"\n[[meter]]\nid = "in"\nkind = "flow"\nto = "A"\n'
FIRST_DAY = 20_458  # Monday 2026-01-05
SLOT_MS = 900_000
DAYS = 60
HOLIDAYS = (44, 52)  # Wednesday and Thursday


def make(holidays=(), zone="UTC"):
    site = parse_site(f'name = "town"\ntimezone = "{zone}"\n[stream]\nlatenessMinutes = 0\n', NETWORK)
    return replace(site, classes={EPOCH + timedelta(days=FIRST_DAY + day): "holiday" for day in holidays})


def block(flow):
    readings = np.zeros(len(flow), READING)
    readings["time_ms"] = FIRST_DAY * 86_400_000 + SLOT_MS * (1 + np.arange(len(flow)))
    readings["value"] = flow
    return readings


def with_holidays(seed, holidays=HOLIDAYS):
    """Weekends 15 % up and two hours later, and holidays like Sundays."""
    flow = demand(DAYS, 40.0, seed).reshape(DAYS, DAY)
    late = flow.copy()
    for day in range(DAYS):
        if day % 7 >= 5 or day in holidays:
            late[day] = np.roll(flow[day], 8) * (1.0 if day % 7 >= 5 else 1.15)
    return late.ravel()


def on(result, days):
    """Detections of these days."""
    ends = (result.detections["slot_end_ms"] - SLOT_MS) // 86_400_000 - FIRST_DAY
    return result.detections[np.isin(ends, days)]


@pytest.mark.parametrize("seed", range(3))
def test_a_holiday_is_expected_like_a_sunday_and_alarms_nobody(seed):
    flow = with_holidays(seed)
    blind, known = (Engine(make(holidays), "A").step(block(flow)) for holidays in ((), HOLIDAYS))
    assert known.alerts == []

    def error(result):
        rows = on(result, HOLIDAYS)
        return np.nanmean(np.abs(rows["observed_m3h"] - rows["expected_m3h"]))

    assert error(known) < 0.5 * error(blind)
    assert np.nanmax(on(known, HOLIDAYS)["scores"][:, 1]) < np.nanmax(on(blind, HOLIDAYS)["scores"][:, 1])


def test_a_holiday_teaches_its_weekday_nothing():
    ordinary = with_holidays(1, ())
    flow = with_holidays(1)

    def expected(holidays, flow):
        return on(Engine(make(holidays), "A").step(block(flow)), [day + 7 for day in HOLIDAYS])["expected_m3h"]

    never = expected((), ordinary)
    taught, spared = (np.abs(expected(holidays, flow) - never).mean() for holidays in ((), HOLIDAYS))
    assert spared < 0.6 * taught  # what is left is the noise of a day that was not learned


def test_a_burst_on_a_holiday_is_still_found():
    flow = with_holidays(2)
    flow[HOLIDAYS[0] * DAY + 40 : HOLIDAYS[0] * DAY + 90] += 25.0
    (first, *_) = Engine(make(HOLIDAYS), "A").step(block(flow)).alerts
    assert first.type == "burst"
    assert first.detected_at <= (FIRST_DAY + HOLIDAYS[0]) * 86_400_000 + 60 * SLOT_MS


def test_the_night_of_a_clock_change_is_not_judged_and_its_morning_is():
    change = 83  # Sunday 2026-03-29: from 2:00 to 3:00
    flow = demand(change + 2, 40.0, 3)
    begin = change * DAY
    flow[begin : begin + 16] *= 1.6  # roof tanks fill by the old clock
    readings = block(np.concatenate((flow[: begin + 8], flow[begin + 12 :])))
    readings["time_ms"] -= 3_600_000  # the first day begins at local midnight
    result = Engine(make(zone="Europe/Rome"), "A").step(readings)
    assert result.alerts == []
    judged = result.detections["learnable"]
    assert not judged[begin : begin + 12].any()
    assert judged[begin + 13 :].all()
