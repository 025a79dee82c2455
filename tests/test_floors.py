"""The floors: what chance finds is what probability says, and the rule on the minimum night flow is causal."""

from __future__ import annotations

import numpy as np

from tests.scoring import DAY, HOUR, watched_of
from tests.synthetic import make_site
from training.floors import floors, mnf_alarms, random_floor
from training.labels import Leak
from training.matching import Alarm, Rules
from training.watched import Watched

SITE = make_site()  # night from 02:00 to 04:00, an hour behind UTC's clock


def test_chance_finds_as_many_leaks_as_probability_says() -> None:
    watched = {"A": watched_of(1.0, 100 * 24)}
    leaks = [Leak(str(i), "A", "abrupt", (10 * i + 5) * DAY, None) for i in range(10)]
    alarms = [Alarm(str(i), "A", "burst", i * HOUR) for i in range(1, 41)]
    got = random_floor(alarms, leaks, watched, Rules())
    # each leak's window is 25 of 2,400 slots, ends included: found with 1 - (1 - 25 / 2400)^40 = 34 %
    assert got["leakAlarms"] == 40
    assert got["found"]["median"] in (3.0, 4.0)
    assert got["abrupt"]["found"] == got["found"]
    assert 5.0 <= got["found"]["p95"] <= 7.0
    assert got["incipient"]["found"] == {"median": 0.0, "p95": 0.0}


def test_chance_with_windows_as_long_as_the_leaks_finds_nearly_all() -> None:
    watched = {"A": watched_of(1.0, 100 * 24)}
    leaks = [Leak(str(i), "A", "abrupt", (6 * i) * DAY, None) for i in range(16)]
    alarms = [Alarm(str(i), "A", "burst", i * HOUR) for i in range(1, 51)]
    loose = random_floor(alarms, leaks, watched, Rules(abrupt_within_hours=60 * 24))
    assert loose["found"]["median"] >= 15
    assert random_floor(alarms, leaks, watched, Rules())["found"]["median"] <= 8


def test_chance_keeps_out_of_warm_up_and_of_dmas_that_did_not_alarm() -> None:
    watched = {"A": watched_of(1.0, 50 * 24, warm=40 * 24), "B": watched_of(1.0, 50 * 24)}
    leaks = [Leak("early", "A", "abrupt", 10 * DAY, None), Leak("other", "B", "abrupt", 10 * DAY, None)]
    alarms = [Alarm(str(i), "A", "burst", 41 * DAY + i * HOUR) for i in range(200)]
    assert random_floor(alarms, leaks, watched, Rules())["found"] == {"median": 0.0, "p95": 0.0}


def nights(flows: list[float]) -> Watched:
    """Days of 50 m3/h whose nights have these flows."""
    hour = (np.arange(len(flows) * 24) + 1) % 24  # Tunis is UTC+1
    flow = np.full(len(flows) * 24, 50.0)
    for day, low in enumerate(flows):
        of_day = np.arange(len(flow)) // 24 == day
        flow[of_day & (hour >= 2) & (hour < 4)] = low
    return watched_of(flow, len(flow))


def test_the_rule_alarms_once_a_run_of_high_nights_and_not_before_they_are_over() -> None:
    quiet = [10.0, 11.0] * 5
    watched = {"A": nights([*quiet, 10.9, 12.1, 12.2, 10.5, 12.5])}
    alarms = mnf_alarms(SITE, watched, 0.2)
    over = [day * DAY + 3 * HOUR for day in range(15)]  # 04:00 in Tunis
    assert [(alarm.raised_ms, alarm.over_ms) for alarm in alarms] == [(over[11], over[13]), (over[14], None)]
    assert mnf_alarms(SITE, watched, 0.3) == []


def test_the_rule_does_not_learn_the_nights_it_alarms_on() -> None:
    watched = {"A": nights([10.0] * 10 + [15.0] * 30)}
    [alarm] = mnf_alarms(SITE, watched, 0.2)
    assert alarm.over_ms is None


def test_the_rule_does_not_know_the_future() -> None:
    flows = [10.0 + 0.1 * (day % 5) + 4.0 * (day % 9 == 0) for day in range(60)]
    whole = mnf_alarms(SITE, {"A": nights(flows)}, 0.1)
    part = mnf_alarms(SITE, {"A": nights(flows[:30])}, 0.1)
    assert len(whole) > len(part) > 1
    assert [alarm.raised_ms for alarm in whole][: len(part)] == [alarm.raised_ms for alarm in part]


def test_each_floor_has_its_row() -> None:
    watched = {dma.id: nights([10.0] * 40) for dma in SITE.dmas}
    leaks = [Leak("x", "A", "abrupt", 20 * DAY, None, 5.0)]
    rows = floors(SITE, [Alarm("a", "A", "burst", 20 * DAY + HOUR)], leaks, watched, Rules())
    assert [row["name"].split(" ")[0] for row in rows] == ["random:", "MNF", "MNF"]
    assert [row["found"] for row in rows[1:]] == [0, 0]
