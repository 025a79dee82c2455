"""Alerts against known leaks: matching is strict, and its numbers are counted by hand here."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.schema import Scope
from tests.scoring import DAY, HOUR, alert, watched_of
from tests.synthetic import make_site
from training.labels import Leak
from training.matching import Rules, alarms_of, match
from training.scorecard import score
from training.watched import Watched

SITE = make_site()
DAYS = 61


@pytest.fixture
def watched() -> dict[str, Watched]:
    """Two months of 20 m3/h, hour by hour, in each DMA."""
    return {dma.id: watched_of(20.0, DAYS * 24) for dma in SITE.dmas}


def test_an_abrupt_leak_is_found_within_a_day_and_not_later(watched: dict[str, Watched]) -> None:
    leaks = [Leak("l1", "A", "abrupt", 10 * DAY, 20 * DAY, 12.0), Leak("l2", "A", "abrupt", 30 * DAY, 40 * DAY, 3.0)]
    card = score(SITE, [alert("a", "A", 11 * DAY), alert("b", "A", 31 * DAY + 1)], leaks, watched)
    told = [(leak["id"], leak["found"], leak["delayHours"], leak["lateHours"]) for leak in card["leaks"]]
    assert told == [("l1", True, 24.0, None), ("l2", False, None, 24.0)]
    assert [leak["lostUnseen_m3"] for leak in card["leaks"]] == [24 * 12.0, 72.0]
    assert [leak["shareOfMeanInflow"] for leak in card["leaks"]] == [0.6, 0.15]
    part = card["summary"]["abrupt"]
    assert (part["leaks"], part["found"], part["medianDelayHours"], part["longestDelayHours"]) == (2, 1, 24.0, 24.0)
    assert part["found95"] == [0.095, 0.905]
    assert part["medianDelayHoursOfAll"] is None  # half of them took for ever
    assert [(a["alertId"], a["verdict"], a["duringLeak"]) for a in card["unexplainedAlarms"]] == [("b", "late", True)]
    assert (card["summary"]["lostBeforeFound_m3"], card["summary"]["lostOfMissed_m3"]) == (288.0, 72.0)
    assert card["summary"]["leaked_m3"] == 10 * 24 * 12.0 + 10 * 24 * 3.0


def test_an_incipient_leak_has_fourteen_days_and_the_limits_can_be_changed(watched: dict[str, Watched]) -> None:
    leaks = [Leak("l", "A", "incipient", 10 * DAY, None)]
    raised = [alert("a", "A", 23 * DAY, "night_flow_leak")]
    assert score(SITE, raised, leaks, watched)["summary"]["found"] == 1
    assert score(SITE, raised, leaks, watched, Rules(incipient_within_days=12))["summary"]["found"] == 0


def test_an_alarm_after_the_leak_has_ended_does_not_find_it(watched: dict[str, Watched]) -> None:
    leaks = [Leak("l", "A", "incipient", 10 * DAY, 12 * DAY)]
    card = score(SITE, [alert("a", "A", 13 * DAY)], leaks, watched)
    assert card["summary"]["found"] == 0
    assert [alarm["verdict"] for alarm in card["unexplainedAlarms"]] == ["outside"]


def test_one_alert_explains_one_leak_and_the_second_alert_of_a_leak_is_unexplained(watched: dict[str, Watched]) -> None:
    two = [Leak("l1", "A", "abrupt", 10 * DAY, 20 * DAY), Leak("l2", "A", "abrupt", 10 * DAY + HOUR, 20 * DAY)]
    assert score(SITE, [alert("a", "A", 10 * DAY + 2 * HOUR)], two, watched)["summary"]["found"] == 1
    twice = [alert("a", "A", 10 * DAY + HOUR), alert("b", "A", 10 * DAY + 2 * HOUR)]
    card = score(SITE, twice, two[:1], watched)["summary"]
    assert (card["found"], card["unexplained"], card["unexplainedOutsideLeaks"], card["unexplainedRepeats"]) == (1, 1, 0, 1)


def test_the_first_late_alarm_is_late_and_the_next_one_a_repeat(watched: dict[str, Watched]) -> None:
    raised = [alert("a", "A", 12 * DAY), alert("b", "A", 13 * DAY), alert("c", "A", 30 * DAY)]
    card = score(SITE, raised, [Leak("l", "A", "abrupt", 10 * DAY, 20 * DAY)], watched)
    assert [alarm["verdict"] for alarm in card["unexplainedAlarms"]] == ["late", "repeat", "outside"]


def test_other_dmas_other_types_and_alerts_before_the_start_find_nothing(watched: dict[str, Watched]) -> None:
    leaks = [Leak("l", "A", "abrupt", 10 * DAY, 20 * DAY)]
    raised = [
        alert("a", "B", 10 * DAY + HOUR),
        alert("b", "in-A", 10 * DAY + HOUR, "meter_fault", scope=Scope(type="meter", id="in-A")),
        alert("c", "A", 10 * DAY - 1),
        alert("d", "A", 10 * DAY + HOUR, "boundary_valve"),
    ]
    card = score(SITE, raised, leaks, watched)
    assert card["summary"]["found"] == 0
    assert card["summary"]["otherAlerts"] == {"boundary_valve": 1, "meter_fault of a meter": 1}
    assert card["summary"]["unexplained"] == 2
    assert card["summary"]["unexplainedPerDmaMonth"] == round(2 / (3 * DAYS / 30.44), 3)
    assert (card["dmas"]["A"]["unexplained"], card["dmas"]["B"]["unexplained"]) == (1, 1)


def test_revisions_of_one_alert_count_once_and_the_raise_is_what_counts(watched: dict[str, Watched]) -> None:
    leaks = [Leak("l", "A", "abrupt", 10 * DAY, 20 * DAY)]
    first = alert("a", "A", 10 * DAY + HOUR)
    later = alert("a", "A", 10 * DAY + HOUR, revision=2, event="updated", updated_at=15 * DAY)
    card = score(SITE, [later, first], leaks, watched)
    assert card["summary"]["leakAlarms"] == 1
    assert card["leaks"][0]["delayHours"] == 1.0


def test_leaks_outside_the_data_are_listed_and_not_counted(watched: dict[str, Watched]) -> None:
    leaks = [Leak("before", "A", "abrupt", -DAY, DAY), Leak("after", "A", "abrupt", 70 * DAY, None)]
    card = score(SITE, [alert("a", "A", DAY // 2)], leaks, watched)
    assert card["summary"]["leaks"] == 0
    assert card["leaksOutsideTheData"] == ["before", "after"]
    assert [alarm["verdict"] for alarm in card["unexplainedAlarms"]] == ["late"]  # `before` still runs


def test_warm_up_counts_neither_as_quiet_time_nor_against_the_detector() -> None:
    watched = {dma.id: watched_of(20.0, DAYS * 24, warm=20 * 24) for dma in SITE.dmas}
    leaks = [Leak("early", "A", "incipient", 15 * DAY, None), Leak("missed", "B", "abrupt", 15 * DAY, None)]
    raised = [alert("a", "A", 10 * DAY), alert("b", "A", 25 * DAY)]
    card = score(SITE, raised, leaks, watched)
    assert card["leaksInWarmUp"] == ["early", "missed"]
    assert (card["summary"]["leaks"], card["summary"]["unexplained"], card["summary"]["leakAlarms"]) == (0, 0, 1)
    assert [alarm["alertId"] for alarm in card["alarmsInWarmUp"]] == ["a"]
    assert card["summary"]["dmaMonths"] == round(3 * 41 / 30.44, 2)
    assert card["dmas"]["A"]["warmUpUntil"] == "1970-01-21T00:00:00Z"


def test_time_that_was_not_judged_does_not_count_as_quiet() -> None:
    flow = np.full(DAYS * 24, 20.0)
    flow[30 * 24 :] = np.nan
    watched = {"A": watched_of(flow, DAYS * 24), "B": watched_of(np.nan, DAYS * 24), "C": Watched(HOUR)}
    card = score(SITE, [alert("a", "A", DAY)], None, watched)
    assert card["dmas"]["A"]["dmaMonths"] == card["summary"]["dmaMonths"] == 0.99
    assert card["dmas"]["B"]["dmaMonths"] == card["dmas"]["C"]["dmaMonths"] == 0
    assert card["dmas"]["B"]["leakAlarmsPerDmaMonth"] is None


def test_without_labels_only_rates_are_told(watched: dict[str, Watched]) -> None:
    card = score(SITE, [alert("a", "A", DAY)], None, watched)
    assert card["labelled"] is False
    assert "found" not in card["summary"]
    assert "floors" not in card
    assert card["summary"]["leakAlarms"] == 1
    assert card["summary"]["leakAlarmsPerDmaMonth95"] == [0.004, 0.927]
    assert json.loads(json.dumps(card)) == card


def test_leaks_are_told_by_class_of_size(watched: dict[str, Watched]) -> None:
    rng = np.random.default_rng(3)
    watched["A"] = watched_of(20.0 + rng.normal(0, 1.0, DAYS * 24), DAYS * 24)
    sizes = (0.5, 1.5, 30.0)
    leaks = [Leak(f"l{i}", "A", "abrupt", (20 + 10 * i) * DAY, (22 + 10 * i) * DAY, size) for i, size in enumerate(sizes)]
    card = score(SITE, [alert("a", "A", 40 * DAY + HOUR)], leaks, watched)
    told = [(part["from"], part["below"], part["found"], part["leaks"]) for part in card["bySize"]]
    assert told == [(0.0, 0.03, 0, 1), (0.05, 0.1, 0, 1), (0.4, None, 1, 1)]
    night_sd = card["dmas"]["A"]["nightFlowSd_m3h"]
    # the lowest of two draws each night: the sd of the lower of two normals is 0.826
    assert night_sd == pytest.approx(0.826, abs=0.25)
    assert [leak["nightFlowSds"] for leak in card["leaks"]] == pytest.approx([s / night_sd for s in sizes], rel=0.01)


@settings(deadline=None)
@given(
    starts=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    times=st.lists(st.integers(0, 90), min_size=1, max_size=6, unique=True),
)
def test_matching_finds_as_many_leaks_as_any_assignment_could(starts: list[int], times: list[int]) -> None:
    leaks = [Leak(str(i), "A", "abrupt" if start % 2 else "incipient", start * HOUR, None) for i, start in enumerate(starts)]
    rules = Rules(abrupt_within_hours=6, incipient_within_days=1)
    alarms = alarms_of([alert(str(time), "A", time * HOUR) for time in sorted(times)])

    def best(at: int, free: frozenset[int]) -> int:  # tries every assignment
        if at == len(leaks):
            return 0
        leak = leaks[at]
        fits = [i for i in free if leak.started_ms <= alarms[i].raised_ms <= rules.deadline_ms(leak)]
        return max([best(at + 1, free), *(1 + best(at + 1, free - {i}) for i in fits)])

    found = match(alarms, leaks, rules, {})
    assert len(set(found.explained.values())) == len(found.explained) == best(0, frozenset(range(len(alarms))))
    assert set(found.verdicts) == {alarm.id for alarm in alarms}
    assert not set(found.late.values()) & set(found.explained.values())


def test_an_alarm_is_over_when_it_was_said_to_be() -> None:
    first = alert("a", "A", DAY)
    cleared = alert("a", "A", DAY, revision=2, event="cleared", updated_at=5 * DAY, ended_at=4 * DAY)
    closed = alert("a", "A", DAY, revision=3, event="closed", updated_at=6 * DAY)
    [alarm] = alarms_of([closed, cleared, first])
    assert (alarm.raised_ms, alarm.over_ms) == (DAY, 5 * DAY)
    assert dataclasses.replace(alarm, over_ms=None) == alarms_of([first])[0]


def test_an_alarm_that_is_opened_again_is_one_alarm_with_two_times() -> None:
    revisions = [
        alert("a", "A", DAY),
        alert("a", "A", DAY, revision=2, event="cleared", state="cleared", updated_at=5 * DAY, ended_at=4 * DAY),
        alert("a", "A", DAY, revision=3, event="updated", updated_at=9 * DAY),
        alert("a", "A", DAY, revision=4, event="updated", updated_at=10 * DAY),
    ]
    [alarm] = alarms_of(revisions[::-1])
    assert alarm.open_ms == ((DAY, 5 * DAY), (9 * DAY, None))
    over = alert("a", "A", DAY, revision=5, event="cleared", state="cleared", updated_at=12 * DAY, ended_at=11 * DAY)
    [alarm] = alarms_of([*revisions, over])
    assert alarm.open_ms == ((DAY, 5 * DAY), (9 * DAY, 12 * DAY))
    leaks = [Leak("early", "A", "abrupt", DAY - HOUR, 6 * DAY), Leak("late", "A", "abrupt", 9 * DAY - HOUR, 12 * DAY)]
    assert match([alarm], leaks, Rules(), {}).explained == {"a": 0}


def test_the_median_over_all_leaks_knows_of_those_that_were_missed(watched: dict[str, Watched]) -> None:
    leaks = [Leak(str(i), "A", "abrupt", (10 + 5 * i) * DAY, (13 + 5 * i) * DAY) for i in range(3)]
    raised = [alert("a", "A", 10 * DAY + 2 * HOUR), alert("b", "A", 15 * DAY + 6 * HOUR), alert("c", "A", 22 * DAY)]
    part = score(SITE, raised, leaks, watched)["summary"]["abrupt"]
    assert (part["found"], part["medianDelayHours"], part["medianDelayHoursOfAll"]) == (2, 4.0, 6.0)
