"""Late readings: what they add to an open event, and that they do nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from models.engine import Engine
from models.schema import BAD
from tests.synthetic import DAY, SLOT_MS, START_MS, make_site, readings, step_between

DAYS = 26
BEGIN, END = 22 * DAY + 30, 25 * DAY
SITE = make_site()
BLOCK = readings(DAYS, seed=1, b=step_between(DAYS, BEGIN, END, 10.0))
FLOW_ROW = SITE.meter_row["A-B"]


def slot_time(slot):
    return START_MS + SLOT_MS * slot


def missing(first, last):
    """Readings of the boundary meter in some slots of the burst."""
    times = BLOCK["time_ms"]
    return (BLOCK["meter"] == FLOW_ROW) & (times > slot_time(first)) & (times <= slot_time(last))


GAP = missing(BEGIN + 40, BEGIN + 80)  # ten hours


def run(block, dma="B"):
    engine = Engine(SITE, dma)
    alerts = []
    for part in np.array_split(block, 200):
        alerts += engine.step(part).alerts
    return engine, alerts


def put(block, late, slot):
    """`late` after everything that was observed up to a slot."""
    at = int(np.searchsorted(block["time_ms"], slot_time(slot), "right"))
    return np.concatenate([block[:at], late, block[at:]])


def lost_m3(alerts):
    return alerts[-1].estimate.lost_so_far


@pytest.fixture(scope="module")
def whole():
    return run(BLOCK)[1]


@pytest.fixture(scope="module")
def gappy():
    return run(BLOCK[~GAP])[1]


def test_readings_that_come_hours_late_make_the_loss_whole_in_a_revision_of_the_same_alert(whole, gappy):
    _, alerts = run(put(BLOCK[~GAP], BLOCK[GAP], BEGIN + 140))
    assert len({alert.alert_id for alert in alerts}) == 1
    assert [alert.revision for alert in alerts] == list(range(1, len(alerts) + 1))
    assert lost_m3(whole) - lost_m3(gappy) == pytest.approx(100.0, rel=0.3)
    assert lost_m3(alerts) == pytest.approx(lost_m3(whole), rel=0.05)
    amended = [alert for alert in alerts if "late_readings" in alert.reasons]
    assert [alert.event for alert in amended] == ["updated"]
    assert any(text.startswith("Late readings show ") for text in amended[0].evidence.for_)
    assert amended[0].updated_at > slot_time(BEGIN + 120)


def test_a_late_reading_counts_once(gappy):
    once = run(put(BLOCK[~GAP], BLOCK[GAP], BEGIN + 140))[1]
    twice = run(put(put(BLOCK[~GAP], BLOCK[GAP], BEGIN + 140), BLOCK[GAP], BEGIN + 160))[1]
    assert twice == once
    assert lost_m3(once) > lost_m3(gappy)


def test_late_readings_of_bad_quality_and_of_a_normal_flow_amend_nothing(gappy):
    bad, low = BLOCK[GAP].copy(), BLOCK[GAP].copy()
    bad["quality"] = BAD
    low["value"] -= 10.0  # as if nothing had burst
    for late in (bad, low):
        alerts = run(put(BLOCK[~GAP], late, BEGIN + 140))[1]
        assert [a.estimate for a in alerts] == [a.estimate for a in gappy]
        assert not any("late_readings" in alert.reasons for alert in alerts)


def test_late_readings_after_the_event_is_over_or_without_one_change_nothing(gappy):
    assert run(put(BLOCK[~GAP], BLOCK[GAP], 26 * DAY - 4))[1] == gappy
    quiet = missing(20 * DAY, 20 * DAY + 20)
    engine, _ = run(put(BLOCK[~quiet][:-400], BLOCK[quiet], 21 * DAY))
    assert (engine._buffers.gaps["slot_end_ms"] < 0).all()
