"""Alerts in words: the same facts in both languages, ids that only the event's own start decides."""

from __future__ import annotations

import re

import numpy as np
import pytest

from models.events import CHANGES, CLEARED, EVENT_TYPES, OF_BALANCE, RAISED
from models.explain import alert, alert_id
from models.schema import NEVER
from models.state import EVENT
from tests.synthetic import make_site

START = 1_770_000_000_000


def transition(kind, change=RAISED, **fields):
    event = np.zeros(1, EVENT)
    event["type"], event["change"], event["revision"] = EVENT_TYPES.index(kind), change, 1
    event["started_ms"], event["detected_ms"], event["updated_ms"] = START, START + 3_600_000, START + 3_600_000
    event["ended_ms"], event["neighbour"], event["channel"] = NEVER, 1, 1
    event["excess_m3h"], event["mean_m3h"], event["ndf_h"], event["pressure_z"] = 12.0, 60.0, 21.0, np.nan
    event["observed"], event["score"], event["scores"] = 70.0, 0.6, [0.1, 0.6, *[0.0] * 5]
    event["logger"] = event["second_logger"] = -1
    event["size_sd_m3h"] = np.nan
    for name, value in fields.items():
        event[name] = value
    return event[0]


def say(kind, change=RAISED, **fields):
    site = make_site()
    meters = [site.meters[row] for row in site.channels("B")]
    return alert(site, "B", meters, transition(kind, change, **fields), None, "live")


@pytest.mark.parametrize("kind", EVENT_TYPES)
@pytest.mark.parametrize("change", range(len(CHANGES)))
def test_every_transition_has_a_title_in_both_languages_with_the_same_numbers(kind, change):
    title = say(kind, change).title
    assert re.search(r"[\u4e00-\u9fff]", title.zh)
    assert re.findall(r"\d+\.\d+", title.en) == re.findall(r"\d+\.\d+", title.zh)


def test_the_id_rests_on_site_type_scope_and_start_alone():
    assert say("burst").alert_id == alert_id("testville", "burst", "dma:B", START)
    assert say("burst", revision=9, score=0.9, excess_m3h=50.0).alert_id == say("burst").alert_id
    assert say("night_flow_leak").alert_id != say("burst").alert_id
    assert say("burst", started_ms=START + 1).alert_id != say("burst").alert_id


def test_a_boundary_valve_names_the_neighbour_that_lost():
    said = say("boundary_valve", neighbour=2)
    assert "C" in said.title.en
    assert said.evidence.for_[1].startswith("C lost about as much as this DMA gained")
    assert "neighbour_lost_flow" in said.reasons


def test_a_meter_fault_is_about_the_meter():
    said = say("meter_fault")
    assert (said.scope.type, said.scope.id) == ("meter", "A-B")
    assert said.estimate is None
    assert said.evidence.meters == ["A-B"]


def test_falling_pressure_speaks_for_a_burst_and_rising_pressure_against():
    fell, rose, silent = (say("burst", pressure_z=z) for z in (-3.0, 3.0, np.nan))
    assert any("Pressure stood below normal by 3.0 times" in word for word in fell.evidence.for_)
    assert any("Pressure stood above normal by 3.0 times" in word for word in rose.evidence.against)
    assert fell.confidence > silent.confidence > rose.confidence


@pytest.mark.parametrize(("excess", "severity"), [(1.0, "low"), (4.0, "medium"), (10.0, "high"), (30.0, "critical")])
def test_severity_is_the_excess_as_a_share_of_the_mean_inflow(excess, severity):
    assert say("burst", excess_m3h=excess).severity == severity


def test_a_night_leak_is_scaled_by_the_night_day_factor_never_by_24():
    assert say("night_flow_leak").estimate.loss_per_day == pytest.approx(12.0 * 21.0)


def test_a_cleared_alert_says_when_it_ended():
    said = say("burst", CLEARED, ended_ms=START + 7_200_000)
    assert (said.state, said.ended_at) == ("cleared", START + 7_200_000)
    assert "excess_gone" in said.reasons


def test_a_silent_model_is_no_evidence():
    said = say("burst").evidence
    assert not any("model" in word for word in [*said.for_, *said.against])
    assert "isolation" not in said.scores


def test_customers_meters_speak_for_a_leak_or_say_that_it_is_demand():
    seen = {"scores": [0.0] * 6 + [0.6], "noted_ms": START, "noted_of": OF_BALANCE}
    leak = say("night_flow_leak", unmetered=0.9, metered_days=3, **seen)
    assert "than customers' meters show" in leak.title.en
    assert "Customers' meters show 1.0 of the 10.5 m³/h (3 days)." in leak.evidence.for_
    assert leak.evidence.metric == "unmetered"
    assert "that no customer's meter shows" in leak.explanation.observed.en
    used = say("burst", CLEARED, unmetered=0.1, metered_days=1, ended_ms=START + 86_400_000)
    assert used.reasons[0] == "customers_use_it"
    assert "Customers' meters show 10.8 of the 12.0 m³/h (1 day)." in used.evidence.against
    assert "no leak" in used.title.en
    assert "customers' meters show the water" in used.explanation.ended.en
