"""LeakDB's score, counted by hand and against a plain rewriting of the published formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scoring import DAY, HOUR, watched_of
from training.labels import Leak
from training.matching import Alarm
from training.slot_score import early_detection, score_slots, slots_of


def test_slots_are_counted_over_all_dmas() -> None:
    watched = {"A": watched_of(1.0, 100), "B": watched_of(1.0, 50, warm=20)}
    leaks = [Leak("x", "A", "abrupt", 41 * HOUR, 60 * HOUR)]  # slots 41 to 60: twenty
    alarms = [
        Alarm("a", "A", "burst", 51 * HOUR, 71 * HOUR),  # slots 51 to 70: ten right, ten wrong
        Alarm("b", "B", "burst", 46 * HOUR),  # slots 46 to 50: five wrong
        Alarm("c", "A", "meter_fault", 1 * HOUR),
    ]
    got = score_slots(alarms, leaks, watched)
    assert got["slots"] == 150
    assert got["truePositiveRate"] == 50.0
    assert got["trueNegativeRate"] == round(100 * 115 / 130, 2)
    assert got["f1"] == round(100 * 20 / (20 + 15 + 10), 2)
    # window: 20 slots and 10 more; first alarm after 10; from there all 20 in alarm
    assert got["earlyDetection"] == round(100 * 2 / (1 + math.exp(5 / 29 * 10)), 2)


def test_nothing_to_find_has_no_score() -> None:
    got = score_slots([], [], {"A": watched_of(1.0, 10)})
    assert (got["truePositiveRate"], got["trueNegativeRate"], got["f1"], got["earlyDetection"]) == (None, 100.0, None, None)


def test_an_alarm_counts_from_its_raise_until_it_is_said_to_be_over() -> None:
    ends = HOUR * np.arange(1, 11)
    leaks = [Leak("x", "A", "abrupt", 3 * HOUR, 5 * HOUR), Leak("y", "A", "abrupt", 9 * HOUR, None)]
    label, alarm = slots_of([Alarm("a", "A", "burst", 4 * HOUR, 6 * HOUR)], leaks, "A", ends)
    assert (np.flatnonzero(label) + 1).tolist() == [3, 4, 5, 9, 10]
    assert (np.flatnonzero(alarm) + 1).tolist() == [4, 5]


@pytest.mark.parametrize(
    ("alarm", "expected"),
    [
        ([(100, 210)], 1.0),  # at once
        ([(200, 210)], 2 / (1 + math.exp(5 / 109 * 100))),
        ([], 0.0),
        ([(150, 165)], 0.0),  # gone again: less than three quarters of what is left of the window
        ([(100, 101), (130, 210)], 0.0),  # 81 of the 110 slots from the first alarm on
        ([(120, 121), (122, 210)], 2 / (1 + math.exp(5 / 109 * 20))),
    ],
)
def test_an_early_alarm_that_persists_scores_high(alarm: list[tuple[int, int]], expected: float) -> None:
    label, raised = np.zeros(400, bool), np.zeros(400, bool)
    label[100:200] = True
    for first, end in alarm:
        raised[first:end] = True
    assert early_detection(label, raised) == pytest.approx([expected])


def published(label: list[int], alarm: list[int]) -> list[float]:
    """As LeakDB's MATLAB function does it, one slot after the other, with the extra time of every leak the same."""
    scores, at = [], 0
    while at < len(label):
        if not label[at]:
            at += 1
            continue
        end = at
        while end + 1 < len(label) and label[end + 1]:
            end += 1
        last = min(end + 10, len(label) - 1)
        window = alarm[at : last + 1]
        found = next((k for k, raised in enumerate(window) if raised), None)
        if found is None or sum(window[found:]) / len(window[found:]) <= 0.75:
            scores.append(0.0)
        else:
            scores.append(2 / (1 + math.exp(5 / max(last - at, 1) * found)))
        at = end + 1
    return scores


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=80))
def test_early_detection_is_the_published_formula(slots: list[tuple[int, int]]) -> None:
    label, alarm = [a for a, _ in slots], [b for _, b in slots]
    got = early_detection(np.array(label, bool), np.array(alarm, bool))
    assert got == pytest.approx(published(label, alarm))


def test_an_alarm_that_is_opened_again_does_not_count_between() -> None:
    ends = np.arange(1, 9, dtype=np.int64) * HOUR
    alarm = Alarm("a", "A", "burst", 2 * HOUR, 4 * HOUR, ((6 * HOUR, 7 * HOUR),))
    assert slots_of([alarm], [], "A", ends)[1].tolist() == [False, True, True, False, False, True, False, False]


def test_days_of_an_open_alarm_count_to_the_end() -> None:
    got = score_slots([Alarm("a", "A", "burst", DAY)], [Leak("x", "A", "abrupt", DAY, None)], {"A": watched_of(1.0, 72)})
    assert got["f1"] == got["earlyDetection"] == 100.0
