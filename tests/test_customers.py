"""Customer meters that no longer come to rest: told after days, against the house's own past, whatever the order."""

from __future__ import annotations

import re

import numpy as np
import pytest

from models.customers import BEGAN, LEARN_DAYS, NOTHING, OVER, RUN_DAYS, follow_day, new_use
from models.engine import Engine
from models.network import parse_site
from models.schema import FLOW, READING, REGISTER
from tests.synthetic import SITE_TOML, START_MS, demand

HOUR_MS = 3_600_000
DAYS = 45
LEAK_DAY = 30
SITE = parse_site(
    SITE_TOML,
    '[[dma]]\nid = "D"\n[[meter]]\nid = "inlet"\nkind = "flow"\nto = "D"\n'
    + "".join(f'[[meter]]\nid = "house-{n}"\nkind = "flow"\ndma = "D"\n' for n in range(3)),
)


def judge(use, lows, first=0):
    return [follow_day(use[0], day, low, 0.2) for day, low in enumerate(lows, first)]


def test_a_run_of_days_without_rest_is_told_once_and_its_end_after_two_calm_days():
    use = new_use(1)
    assert set(judge(use, [0.0] * LEARN_DAYS)) == {NOTHING}
    told = judge(use, [0.01] * 9 + [0.0, 0.01, 0.0, 0.0], LEARN_DAYS)
    assert [(i, t) for i, t in enumerate(told) if t != NOTHING] == [(RUN_DAYS - 1, BEGAN), (12, OVER)]
    assert use[0]["since_day"] == LEARN_DAYS
    assert use[0]["calm_day"] == LEARN_DAYS + 11


def test_a_block_of_flats_and_guests_for_some_days_are_habits():
    flats, guests = new_use(1), new_use(1)
    assert set(judge(flats, [0.05] * 200)) == {NOTHING}
    assert set(judge(guests, ([0.0] * 25 + [0.02] * 4) * 8)) == {NOTHING}


def houses(kind):
    """Hourly readings of three houses: one goes to rest, one leaks 6 L/h from day 30 to 40, one never rests."""
    hours = DAYS * 24
    rng = np.random.default_rng(3)
    use = 0.03 * rng.random((hours, 3)) * (np.arange(hours) % 24 > 6)[:, None]
    use[LEAK_DAY * 24 : 40 * 24, 1] += 0.006
    use[:, 2] += 0.02
    out = np.zeros((hours, 3), READING)
    out["time_ms"] = (START_MS + HOUR_MS * np.arange(1, hours + 1))[:, None]
    out["value"] = np.cumsum(use, axis=0) + 10.0 if kind == REGISTER else use
    out["meter"] = [SITE.meter_row[f"house-{n}"] for n in range(3)]
    out["kind"] = kind
    return out.ravel()


def town(kind, shuffled=0):
    """The inlet as it happens, the houses a day at once some hours after it is over, the day in any order."""
    inlet = np.zeros(DAYS * 96, READING)
    inlet["time_ms"] = START_MS + 900_000 * np.arange(1, DAYS * 96 + 1)
    inlet["value"], inlet["meter"] = demand(DAYS, 50.0, 1), SITE.meter_row["inlet"]
    house = houses(kind)
    rng = np.random.default_rng(shuffled)
    upload = START_MS + ((house["time_ms"] - START_MS - 1) // (24 * HOUR_MS) + 1) * 24 * HOUR_MS
    upload += house["meter"] * HOUR_MS + (rng.integers(0, HOUR_MS, len(house)) if shuffled else 0)
    both = np.concatenate([inlet, house])
    return both[np.argsort(np.concatenate([inlet["time_ms"], upload]), kind="stable")]


def alerts_of(block, parts=1):
    engine, alerts = Engine(SITE, "D"), []
    for part in np.array_split(block, parts):
        alerts += engine.step(part).alerts
        other = Engine(SITE, "D")
        other.restore(engine.snapshot())
        engine = other
    return alerts


@pytest.mark.parametrize("kind", [FLOW, REGISTER])
def test_a_leak_behind_a_customers_meter_is_informational_and_ends(kind):
    first, last = alerts_of(town(kind))
    assert (first.type, first.scope.type, first.scope.id) == ("customer_leak", "meter", "house-1")
    assert (first.event, first.severity, last.event) == ("raised", "informational", "cleared")
    assert last.alert_id == first.alert_id
    assert (first.detected_at - START_MS) / (24 * HOUR_MS) == pytest.approx(LEAK_DAY + RUN_DAYS + 2, abs=1.1)
    assert (last.ended_at - START_MS) / (24 * HOUR_MS) == pytest.approx(40, abs=1.1)
    assert first.estimate.loss_per_day == pytest.approx(0.144, abs=0.05)
    assert "L/h" in first.title.en
    assert re.findall(r"\d+\.\d+", first.title.en) == re.findall(r"\d+\.\d+", first.title.zh)


def test_order_within_an_upload_cuts_and_restarts_leave_no_trace():
    expected = alerts_of(town(FLOW))
    assert len(expected) == 2
    assert alerts_of(town(FLOW, shuffled=1)) == expected
    assert alerts_of(town(FLOW, shuffled=2), parts=50) == expected
    twice = town(FLOW, shuffled=3)
    assert alerts_of(np.concatenate([twice[:-500], twice[-900:-500], twice[-500:]])) == expected
