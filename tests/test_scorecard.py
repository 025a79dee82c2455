"""Alerts against known leaks: matching is strict, and its numbers are counted by hand here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import ConfigError
from models.schema import Alert, Evidence, ModelRef, Scope, Title
from tests.synthetic import make_site
from training.scorecard import Leak, Rules, match, read_labels, score

HOUR = 3_600_000
DAY = 24 * HOUR
SPAN = {"A": (0, 61 * DAY), "B": (0, 61 * DAY)}


def alert(name: str, dma: str, at: int, kind: str = "burst", **changes: Any) -> Alert:
    """The first revision of an alert raised at `at`."""
    facts: dict[str, Any] = {
        "schema_version": "1.0", "alert_id": name, "revision": 1, "event": "raised", "type": kind, "severity": "high",
        "state": "active", "scope": Scope(type="dma", id=dma), "started_at": at - HOUR, "detected_at": at,
        "updated_at": at, "ended_at": None, "estimate": None, "confidence": 0.9, "reasons": [], "origin": "replay",
        "title": Title(en=f"Something in {dma}", zh=""), "model": ModelRef(id=None, version=None, sha256=None),
        "evidence": Evidence(
            metric="inflow", unit="m3/h", observed=None, expected=None, lower=None, upper=None, coverage=None,
            for_=[], against=[], meters=[],
        ),
    }  # fmt: skip
    return Alert(**(facts | changes))


def test_an_abrupt_leak_is_found_within_a_day_and_not_later() -> None:
    leaks = [Leak("l1", "A", "abrupt", 10 * DAY, 20 * DAY, 12.0), Leak("l2", "A", "abrupt", 30 * DAY, 40 * DAY)]
    card = score([alert("a", "A", 11 * DAY), alert("b", "A", 31 * DAY + 1)], leaks, SPAN)
    assert [(leak["id"], leak["found"], leak["delayHours"]) for leak in card["leaks"]] == [
        ("l1", True, 24.0),
        ("l2", False, None),
    ]
    assert card["leaks"][0]["lostUnseenAtMost_m3"] == 288.0
    assert card["summary"]["abrupt"] == {"leaks": 2, "found": 1, "medianDelayHours": 24.0, "longestDelayHours": 24.0}
    assert [alarm["alertId"] for alarm in card["unexplainedAlarms"]] == ["b"]
    assert card["unexplainedAlarms"][0]["duringLeak"] is True


def test_an_incipient_leak_has_fourteen_days_and_the_limits_can_be_changed() -> None:
    leaks = [Leak("l", "A", "incipient", 10 * DAY, None)]
    raised = [alert("a", "A", 23 * DAY, "night_flow_leak")]
    assert score(raised, leaks, SPAN)["summary"]["found"] == 1
    assert score(raised, leaks, SPAN, Rules(incipient_within_days=12))["summary"]["found"] == 0


def test_one_alert_explains_one_leak_and_the_second_alert_of_a_leak_is_unexplained() -> None:
    two = [Leak("l1", "A", "abrupt", 10 * DAY, 20 * DAY), Leak("l2", "A", "abrupt", 10 * DAY + HOUR, 20 * DAY)]
    assert score([alert("a", "A", 10 * DAY + 2 * HOUR)], two, SPAN)["summary"]["found"] == 1
    twice = [alert("a", "A", 10 * DAY + HOUR), alert("b", "A", 10 * DAY + 2 * HOUR)]
    card = score(twice, two[:1], SPAN)["summary"]
    assert (card["found"], card["unexplained"], card["unexplainedOutsideLeaks"]) == (1, 1, 0)


def test_other_dmas_other_types_and_alerts_before_the_start_find_nothing() -> None:
    leaks = [Leak("l", "A", "abrupt", 10 * DAY, 20 * DAY)]
    raised = [
        alert("a", "B", 10 * DAY + HOUR),
        alert("b", "A", 10 * DAY + HOUR, "meter_fault"),
        alert("c", "A", 10 * DAY - 1),
    ]
    card = score(raised, leaks, SPAN)
    assert card["summary"]["found"] == 0
    assert card["summary"]["otherAlerts"] == {"meter_fault": 1}
    assert card["summary"]["unexplained"] == 2
    assert card["summary"]["unexplainedPerDmaMonth"] == round(2 / (2 * 61 / 30.44), 3)
    assert (card["dmas"]["A"]["unexplained"], card["dmas"]["B"]["unexplained"]) == (1, 1)


def test_revisions_of_one_alert_count_once_and_the_raise_is_what_counts() -> None:
    leaks = [Leak("l", "A", "abrupt", 10 * DAY, 20 * DAY)]
    first = alert("a", "A", 10 * DAY + HOUR)
    later = alert("a", "A", 10 * DAY + HOUR, revision=2, event="updated", updated_at=15 * DAY)
    card = score([later, first], leaks, SPAN)
    assert card["summary"]["leakAlarms"] == 1
    assert card["leaks"][0]["delayHours"] == 1.0


def test_leaks_outside_the_data_are_listed_and_not_counted() -> None:
    leaks = [Leak("before", "A", "abrupt", -DAY, DAY), Leak("after", "A", "abrupt", 70 * DAY, None)]
    card = score([], leaks, SPAN)
    assert card["summary"]["leaks"] == 0
    assert card["leaksOutsideTheData"] == ["before", "after"]


def test_without_labels_only_rates_are_told() -> None:
    card = score([alert("a", "A", DAY)], None, SPAN)
    assert card["labelled"] is False
    assert "found" not in card["summary"]
    assert card["summary"]["leakAlarms"] == 1
    assert json.loads(json.dumps(card)) == card


@given(
    starts=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    times=st.lists(st.integers(0, 90), min_size=1, max_size=6, unique=True),
)
def test_matching_finds_as_many_leaks_as_any_assignment_could(starts: list[int], times: list[int]) -> None:
    leaks = [Leak(str(i), "A", "abrupt" if start % 2 else "incipient", start * HOUR, None) for i, start in enumerate(starts)]
    rules = Rules(abrupt_within_hours=6, incipient_within_days=1)
    raised = [alert(str(time), "A", time * HOUR) for time in sorted(times)]

    def best(at: int, free: frozenset[int]) -> int:  # tries every assignment
        if at == len(leaks):
            return 0
        leak = leaks[at]
        fits = [i for i in free if leak.started_ms <= raised[i].detected_at <= rules.deadline_ms(leak)]
        return max([best(at + 1, free), *(1 + best(at + 1, free - {i}) for i in fits)])

    got = match(raised, leaks, rules)
    assert len(set(got.values())) == len(got) == best(0, frozenset(range(len(raised))))


def test_labels_are_read_in_local_time(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("dma,kind,startedAt,endedAt,id,max_m3h\nA,abrupt,2026-01-05 00:00,,x,5.5\n", encoding="utf-8")
    assert read_labels(path, make_site()) == [Leak("x", "A", "abrupt", 1_767_567_600_000, None, 5.5)]


def test_every_faulty_label_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    rows = "Z,abrupt,2026-01-05,2026-01-06\nA,slow,2026-01-05,2026-01-06\nA,abrupt,soon,2026-01-06\n"
    path.write_text("dma,kind,startedAt,endedAt\n" + rows, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_labels(path, make_site())
    faults = error.value.faults
    assert len(faults) == 3
    assert "line 2: dma 'Z' is not in network.toml; possible: A, B, C" in faults[0]
    assert "line 3: kind 'slow'; possible: abrupt, incipient" in faults[1]
    assert "line 4: time 'soon' cannot be read" in faults[2]
    path.write_text("zone,start\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no column 'dma'"):
        read_labels(path, make_site())


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("A,abrupt,2026-01-25,2026-01-20,x,", "line 2: endedAt '2026-01-20' is before startedAt; possible: a later time"),
        ("A,abrupt,2026-01-25,,x,nan", "line 2: max_m3h 'nan'; possible: a finite number, or nothing"),
        ("A,abrupt,2026-01-25,,x,1e999", "line 2: max_m3h '1e999'; possible: a finite number, or nothing"),
        ("A,abrupt,2026-01-25,,x,many", "line 2: max_m3h 'many'; possible: a finite number, or nothing"),
        (f"A,abrupt,2026-01-25,,{'x' * 200_000},", "cannot be read: field larger than field limit"),
    ],
)
def test_a_label_that_ends_before_it_starts_or_has_no_finite_size_is_named(tmp_path: Path, row: str, fault: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"dma,kind,startedAt,endedAt,id,max_m3h\n{row}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_labels(path, make_site())
    assert len(error.value.faults) == 1
    assert f"{path}: {fault}" in error.value.faults[0]


def test_time_that_was_not_judged_does_not_count_as_quiet() -> None:
    card = score([alert("a", "A", DAY)], None, SPAN, judged_ms={"A": 30 * DAY, "B": 0})
    assert card["dmas"]["A"]["dmaMonths"] == card["summary"]["dmaMonths"] == 0.99
    assert card["dmas"]["B"]["dmaMonths"] == 0
    assert card["dmas"]["B"]["leakAlarmsPerDmaMonth"] is None
