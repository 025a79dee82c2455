"""What was watched: the minimum night flow against a plain loop, and what counts as judged."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from models.network import parse_site
from tests.scoring import DAY, HOUR, watched_of
from tests.synthetic import make_site
from training.watched import Watched

ROME = parse_site(
    'name = "rome"\ntimezone = "Europe/Rome"\n', '[[dma]]\nid = "A"\n[[meter]]\nid = "m"\nkind = "flow"\nto = "A"\n'
)
START_MS = int(datetime(2026, 3, 1, tzinfo=ZoneInfo("Europe/Rome")).timestamp() * 1000)


@pytest.mark.parametrize("slot_minutes", [5, 15, 60])
def test_minimum_night_flow_is_the_lowest_hour_of_each_local_night(slot_minutes: int) -> None:
    slots = 40 * 1440 // slot_minutes  # over the change to summer time on 29 March
    rng = np.random.default_rng(slot_minutes)
    flow = rng.uniform(5, 50, slots).astype(np.float32)
    flow[rng.random(slots) < 0.02] = np.nan
    part = watched_of(flow, slots, START_MS, slot_minutes * 60_000)
    expected = {}
    hour = 60 // slot_minutes
    by_day: dict[object, list[float]] = {}
    for slot in range(slots):
        local = datetime.fromtimestamp((START_MS + slot * slot_minutes * 60_000) / 1000, ZoneInfo("Europe/Rome"))
        if 2 <= local.hour < 4:
            by_day.setdefault(local.date(), []).append(float(flow[slot]))
    for day, values in by_day.items():
        there = [v for v in values if not np.isnan(v)]
        means = [np.mean(values[i : i + hour]) for i in range(len(values) - hour + 1)]
        if len(there) >= 0.9 * 2 * hour and not np.isnan(means).all():
            expected[(day - datetime(1970, 1, 1).date()).days] = np.nanmin(means)  # type: ignore[operator]  # noqa: DTZ001
    got = part.nights(ROME)
    assert got.day.tolist() == list(expected)
    np.testing.assert_allclose(got.mnf_m3h, list(expected.values()), rtol=1e-6)
    over = [datetime.fromtimestamp(ms / 1000, ZoneInfo("Europe/Rome")) for ms in got.over_ms.tolist()]
    assert {moment.hour for moment in over} == {4}


def test_the_night_flows_spread_knows_weekdays_and_does_not_count_a_step() -> None:
    rng = np.random.default_rng(5)
    days = 120
    night = 10 + 5 * (np.arange(days) % 7 >= 5) + rng.normal(0, 0.5, days) + 8 * (np.arange(days) > 60)
    flow = np.repeat(night, 24)
    sd = watched_of(flow, days * 24).nights(make_site()).sd_m3h
    assert sd == pytest.approx(0.5, rel=0.25)
    assert np.isnan(watched_of(flow[:48], 48).nights(make_site()).sd_m3h)


def test_only_slots_with_a_flow_and_an_expectation_are_judged() -> None:
    flow = np.full(100, 7.0)
    flow[50:60] = np.nan
    part = watched_of(flow, 100, START_MS, HOUR, warm=20)
    assert part.judged_ms == 70 * HOUR
    assert part.warm_ms == START_MS + 20 * HOUR
    assert part.span_ms == (START_MS, START_MS + 100 * HOUR)
    never = watched_of(flow, 100, START_MS, HOUR, warm=100)
    assert (never.warm_ms, never.judged_ms) == (START_MS + 100 * HOUR, 0)


def test_the_mean_inflow_is_that_of_most_days() -> None:
    flow = np.full(30 * 24, 20.0)
    flow[20 * 24 :] = 50.0
    assert watched_of(flow, len(flow)).mean_m3h == 20.0
    assert watched_of(4.0, 5).mean_m3h == 4.0
    assert np.isnan(Watched(DAY).mean_m3h)
    assert Watched(DAY).span_ms == (0, 0)
