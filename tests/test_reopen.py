"""Leaks that come back and leaks that go on growing: one alert for one cause, and another for another."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.detectors import BURST, PRESSURE_STEP
from models.engine import Engine
from models.events import BOUNDARY_VALVE, BURST_EVENT, FREE
from models.network import Site, parse_site
from models.params import params_of
from models.reopen import same_leak
from models.state import new_buffers
from streams.topics import ALERTS, OPEN_ALERTS
from streams.watcher import alert_messages
from tests.synthetic import DAY, NETWORK_TOML, SITE_TOML, SLOT_MS, START_MS, daily, make_site, readings, run, step_between
from training.detector_law import Days

DAYS = 42
SIZE = 10.0


def leak(*parts: tuple[float, float, float, float]) -> np.ndarray:
    """m3/h from (first day, size there, last day, size there) parts, 0 between them."""
    more = np.zeros(DAYS * DAY)
    for first, low, last, high in parts:
        start, end = round(first * DAY), round(last * DAY)
        more[start:end] += np.linspace(low, high, end - start)
    return more


FADED = leak((24.4, SIZE, 25.4, SIZE), (25.4, SIZE, 33.4, 0.0), (37.3, SIZE, 39.3, SIZE))
REPAIRED = leak((24.4, SIZE, 27.4, SIZE), (32.3, SIZE, 34.3, SIZE))
UNDONE = leak((24.4, SIZE, 27.4, SIZE), (28.3, SIZE, 30.4, SIZE))
"""Cleared without a step, with one, and with one that did not hold for a day."""


def alerts_of(more: np.ndarray, site: Site | None = None, seed: int = 0) -> list:
    """Leak alerts of B, every revision, of days cut into blocks."""
    alerts, _ = run(site or make_site(), daily(readings(DAYS, seed, b=more)))
    return [alert for alert in alerts if alert.scope.id == "B"]


def told(alerts: list) -> list[list[str]]:
    """The events of each alert, in order."""
    events: dict[str, list[str]] = {}
    for alert in alerts:
        events.setdefault(alert.alert_id, []).append("reopened" if "reopened" in alert.reasons else alert.event)
    return [[event for event in own if event != "updated"] for own in events.values()]


@pytest.fixture(scope="module")
def faded() -> list:
    return alerts_of(FADED)


def test_a_leak_that_faded_and_comes_back_is_the_same_alert_open_again(faded):
    assert told(faded) == [["raised", "cleared", "reopened", "cleared"]]
    assert [alert.revision for alert in faded] == list(range(1, len(faded) + 1))
    cleared = next(alert for alert in faded if alert.event == "cleared")
    back = next(alert for alert in faded if "reopened" in alert.reasons)
    assert cleared.ended_at is not None
    assert (back.event, back.state, back.ended_at) == ("updated", "active", None)
    assert back.updated_at > START_MS + 37 * DAY * SLOT_MS
    assert (back.detected_at, back.started_at) == (faded[0].detected_at, faded[0].started_at)
    assert back.estimate.excess_flow == pytest.approx(SIZE, rel=0.3)
    assert back.estimate.lost_so_far > cleared.estimate.lost_so_far
    assert "is back" in back.title.en
    assert "复现" in back.title.zh


def test_it_is_among_the_open_alerts_again_under_the_same_key(faded):
    back = next(alert for alert in faded if "reopened" in alert.reasons)
    messages = [message for alert in (faded[0], back) for message in alert_messages(alert, "testville")]
    assert len({message.key for message in messages}) == 1
    assert [message.dataset for message in messages] == [ALERTS, OPEN_ALERTS] * 2
    assert b'"state":"active"' in messages[-1].value


@pytest.mark.parametrize("seed", range(2))
def test_a_new_leak_after_a_repair_is_a_new_alert(seed):
    alerts = alerts_of(REPAIRED, seed=seed)
    assert told(alerts) == [["raised", "cleared"]] * 2


def test_a_repair_that_did_not_hold_for_a_day_was_none():
    assert told(alerts_of(UNDONE)) == [["raised", "cleared", "reopened", "cleared"]]


def test_a_step_much_larger_than_the_leak_that_faded_is_another_leak():
    more = leak((24.4, SIZE, 25.4, SIZE), (25.4, SIZE, 33.4, 0.0), (37.3, 2.6 * SIZE, 39.3, 2.6 * SIZE))
    assert told(alerts_of(more)) == [["raised", "cleared"]] * 2


def test_a_site_says_how_long_a_leak_is_remembered():
    site = parse_site(SITE_TOML + "[alerts]\nreopenAfterDays = 1\n", NETWORK_TOML)
    assert told(alerts_of(FADED, site)) == [["raised", "cleared"]] * 2


@pytest.mark.parametrize("share", [0.3, 0.8, 0.86, 0.9, 0.97])
def test_a_restart_between_clearing_and_reopening_leaves_no_trace(faded, share):
    block = readings(DAYS, 0, b=FADED)
    cut = int(share * len(block))
    first, second = Engine(make_site(), "B"), Engine(make_site(), "B")
    alerts = first.step(block[:cut]).alerts
    second.restore(first.snapshot())
    alerts += second.step(block[cut:]).alerts
    assert [msgspec.json.encode(alert) for alert in alerts] == [msgspec.json.encode(alert) for alert in faded]


DAY_MS = 86_400_000
ENDED = START_MS + 30 * DAY_MS
BY_FLOW, BY_PRESSURE = {BURST: 0.9}, {PRESSURE_STEP: 0.9}


@pytest.mark.parametrize(
    ("old", "said", "evidence", "is_same"),
    [
        ({"fell_m3h": 2.0}, BY_FLOW, {"days": 9.0}, True),
        ({"fell_m3h": 2.0}, BY_FLOW, {"days": 15.5}, False),  # forgotten
        ({"fell_m3h": 2.0}, BY_FLOW, {"days": 9.0, "excess": 21.0}, False),
        ({"fell_m3h": 9.0}, BY_FLOW, {"days": 9.0}, False),
        ({"fell_m3h": 9.0}, BY_FLOW, {"days": 0.9}, True),
        ({"fell_m3h": 9.0}, BY_FLOW, {"days": 0.9, "excess": 4.0}, False),
        ({"fell_m3h": 2.0}, BY_FLOW, {"days": 9.0, "kind": BOUNDARY_VALVE, "neighbour": 1}, False),
        ({"type": BOUNDARY_VALVE, "neighbour": 1}, BY_FLOW, {"kind": BOUNDARY_VALVE, "neighbour": 1}, True),
        (
            {"fell_m3h": 2.0, "type": BOUNDARY_VALVE, "neighbour": 1},
            BY_FLOW,
            {"kind": BOUNDARY_VALVE, "neighbour": 2},
            False,
        ),
        ({"fell_m3h": 2.0, "logger": 3}, BY_FLOW, {"logger": 3, "excess": 0.0}, True),
        ({"fell_m3h": 2.0, "logger": 3}, BY_FLOW, {"logger": 4, "excess": 0.0}, False),
        ({"fell_m3h": 9.0, "logger": 3}, BY_FLOW, {"logger": 3, "days": 0.9}, False),
        ({"logger": 3}, BY_PRESSURE, {"logger": 3, "days": 0.9}, True),  # what pressures alone had shown
        ({"logger": 3}, BY_PRESSURE, {"logger": 3, "days": 1.1}, False),
        ({"logger": 3}, BY_PRESSURE, {"logger": 4, "days": 0.9}, False),
        ({"logger": 3}, BY_PRESSURE, {"days": 0.9}, False),  # of the flow, which had not seen it
        ({"type": FREE}, BY_FLOW, {}, False),
    ],
)
def test_which_evidence_belongs_to_a_leak_that_was_over(old, said, evidence, is_same):
    b, p = new_buffers(3, 0, 3, 1, 15, 240), params_of(make_site(), "B")
    event = b.past[4]
    event["type"], event["neighbour"], event["ended_ms"] = BURST_EVENT, -1, ENDED
    event["largest_m3h"], event["updated_ms"] = 10.0, ENDED + DAY_MS // 2
    for name, value in old.items():
        event[name] = value
    for detector, score in said.items():
        event["scores"][detector] = score
    of = {"kind": BURST_EVENT, "neighbour": -1, "logger": -1, "days": 5.0, "excess": 9.0} | evidence
    start_ms = ENDED + int(of["days"] * DAY_MS)
    found = same_leak.py_func(b, p, of["kind"], of["neighbour"], of["logger"], start_ms, start_ms + 1000, of["excess"])
    assert found == (4 if is_same else -1)


def test_thresholds_are_learned_again_to_the_bit_where_a_leak_came_back():
    site = make_site()
    engine, days = Engine(site, "B"), Days("B", SLOT_MS, site.timezone)
    for part in daily(readings(DAYS, 0, b=FADED)):
        days.take(engine.step(part))
    assert [alarm.alarmed.any() for alarm in days.alarms] == [True, False]  # the budget is for alerts, and it is one
    assert len({alarm.id for alarm in days.alarms}) == 1
    found = days.calibrations(float(engine._params.return_days), 0, engine.watermark_ms, with_labels=False)
    for name in ("mean", "variance", "days", "waiting"):
        np.testing.assert_array_equal(found[name], engine._buffers.calibrations[name], err_msg=name)


def test_a_leak_that_goes_on_growing_for_a_month_is_one_alert():
    days = 66
    growing = np.zeros(days * DAY)
    growing[24 * DAY : 62 * DAY] = np.linspace(0.0, 30.0, 38 * DAY)
    alerts = [a for a in run(make_site(), daily(readings(days, 1, a=growing)))[0] if a.scope.id == "A"]
    assert told(alerts) == [["raised", "cleared"]]
    sizes = [alert.estimate.excess_flow for alert in alerts if alert.event != "cleared"]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2.5 * sizes[0]
    assert alerts[-2].updated_at - alerts[0].detected_at > 14 * 86_400_000


def test_a_step_on_top_of_a_growing_leak_is_another_alert():
    days = 66
    growing = np.zeros(days * DAY)
    growing[24 * DAY : 62 * DAY] = np.linspace(0.0, 30.0, 38 * DAY)
    step = step_between(days, 50 * DAY + 30, 55 * DAY, 25.0)
    alerts = [a for a in run(make_site(), daily(readings(days, 1, a=growing + step)))[0] if a.scope.id == "A"]
    began = [alert for alert in alerts if alert.event == "raised"]
    assert [alert.type for alert in began] == ["night_flow_leak", "burst"]
    assert 0 < began[1].detected_at - (START_MS + (50 * DAY + 30) * SLOT_MS) < 6 * 3_600_000
