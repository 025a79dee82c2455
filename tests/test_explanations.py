"""Every alert explained in two languages: the same numbers, nothing unreadable, whatever is missing or extreme."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from models.events import CAUSES, CHANGES, CLEARED, CLOSED, OF_BALANCE, OF_NIGHT, OF_SLOT, RAISED, STUCK, UPDATED
from models.explain import alert
from models.network import parse_site
from models.phrases import LONGEST, PARTS, told
from models.planned import EVERYWHERE, PlannedWork
from models.schema import NEVER, Sentence
from tests.synthetic import make_site
from tests.test_explain import START, transition

HOUR_MS = 3_600_000
MOST_BYTES = 9_500  # of the longest ids, with all that can be said at once; those of real sets take half of it
CHINESE = re.compile(r"[\u4e00-\u9fff]")
NAN = float("nan")


def long_id(number: int) -> str:
    return f"{'Long-' * 12}{number:02}"


def rich_site(name=str, loggers=6, zone="Asia/Shanghai"):
    """Three DMAs; B has names as long as can be, levels, outlets, customers and boundary meters."""
    network = "".join(f'[[dma]]\nid = "{name(dma)}"\nname = "{"Gate " * 9}{dma}"\n' for dma in "ABC")
    ends = [f'to = "{name("A")}"', f'to = "{name("C")}"', f'from = "{name("A")}"\nto = "{name("B")}"']
    ends += [f'from = "{name("C")}"\nto = "{name("B")}"', f'from = "{name("B")}"', f'to = "{name("B")}"']
    for place, end in enumerate(ends):
        network += f'[[meter]]\nid = "{name(f"FM-{place}")}"\nkind = "flow"\n{end}\n'
    network += f'[[meter]]\nid = "{name("L-1")}"\nkind = "level"\ndma = "{name("B")}"\ntankAreaM2 = 50.0\n'
    for place in range(loggers):
        network += f'[[meter]]\nid = "{name(f"P-{place}")}"\nkind = "pressure"\ndma = "{name("B")}"\n'
    network += f'[[meter]]\nid = "{name("house")}"\nkind = "flow"\ndma = "{name("B")}"\n'
    network += f'[[valve]]\nbetween = ["{name("A")}", "{name("B")}"]\n' * 2
    return parse_site(f'name = "rich"\ntimezone = "{zone}"\n[alerts]\ncostPerM3 = 0.8\n', network)


LONELY = parse_site(
    'name = "lonely"\ntimezone = "UTC"\n', '[[dma]]\nid = "B"\n[[meter]]\nid = "in"\nkind = "flow"\nto = "B"\n'
)
SITES = {
    "one logger": (make_site(), "B"),
    "no logger, no neighbour": (LONELY, "B"),
    "many loggers": (rich_site(), "B"),
    "long ids": (rich_site(lambda text: f"{text}-{'x' * (63 - len(text))}"), f"B-{'x' * 62}"),
}
WORK = PlannedWork(EVERYWHERE, START - HOUR_MS, START + HOUR_MS, "mains flushing, " * 6 + "now.", "管网冲洗、" * 12 + "完")
SCORES = {
    "nothing": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "flow": [0.1, 0.6, 0.0, 0.0, 0.0, 0.9, 0.0],
    "weak flow, forest": [0.1, 0.4, 0.7, 0.0, 0.0, 0.4, 0.0],
    "night": [0.8, 0.1, 0.0, 0.0, 0.0, 0.1, 0.2],
    "all": [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9],
    "pressures": [0.1, 0.1, 0.0, 0.8, 0.6, 0.1, 0.0],
    "customers": [0.1, 0.1, 0.0, 0.0, 0.0, 0.1, 0.7],
}
NUMBERS = {
    "plain": {"lower": 50.0, "upper": 66.0, "expected": 58.0, "lost_m3": 159.0, "coverage": 1.0, "noted_of": OF_SLOT},
    "night": {
        "lower": 9.1, "upper": 13.0, "expected": 11.0, "observed": 18.2, "coverage": 0.97, "noted_of": OF_NIGHT,
        "size_sd_m3h": 3.1,
    },
    "day": {"lower": 6.1, "upper": 9.0, "expected": 7.5, "observed": 9.2, "noted_of": OF_BALANCE, "size_sd_m3h": 0.4},
    "missing": {"lower": NAN, "upper": NAN, "expected": NAN, "observed": NAN, "coverage": NAN, "noted_ms": NEVER},
    "zero": {"lower": -3.0, "upper": 1e-9, "expected": 0.0, "observed": 0.0, "excess_m3h": 0.0, "mean_m3h": 0.0, "slots": 1},
    "negative": {"lower": -9.0, "upper": -3.0, "expected": -6.0, "observed": -7.5, "excess_m3h": -4.2, "lost_m3": 1.0},
    "tiny": {"lower": 0.01, "upper": 0.0123, "expected": 0.005, "observed": 0.01234, "excess_m3h": 0.00789, "lost_m3": 0.03},
    "huge": {
        "lower": 98_765.4, "upper": 123_456.78, "expected": 112_233.44, "observed": 234_567.89, "excess_m3h": 123_456.7,
        "lost_m3": 9_876_543.21, "mean_m3h": 0.1, "slots": 99_999,
    },
}  # fmt: skip


def explained(kind, change, place="one logger", scores="flow", numbers="plain", **fields):
    """The alert of one transition, and whether planned work goes on."""
    site, dma = SITES[place]
    if fields.pop("is_planned", False):
        site = replace(site, planned=(WORK,))
    meters = [site.meters[row] for row in site.channels(dma)]
    loggers = sum(meter.kind == "pressure" for meter in meters)
    kind_of_meter = fields.pop("meter_kind", "flow")
    channel = next(i for i, meter in enumerate(meters) if meter.kind == kind_of_meter and meter.home == dma)
    if kind == "customer_leak":
        meters = [*meters, *(meter for meter in site.meters if meter.is_customer)]
        channel = len(meters) - 1
    later_ms = 3 * HOUR_MS if change == RAISED else 30 * HOUR_MS
    values = {
        "channel": channel, "neighbour": min(1, len(site.neighbours(dma))), "scores": SCORES[scores], "slots": 16,
        "noted_ms": START + HOUR_MS, "updated_ms": START + later_ms, "nights_gone": 1, "fall_ms": START, "fall_kpa": -4.2,
        "ended_ms": START + 20 * HOUR_MS if change == CLEARED else NEVER,
    }  # fmt: skip
    values |= NUMBERS[numbers] | fields
    values["logger"] = min(values.get("logger", -1), loggers - 1)
    values["second_logger"] = min(values.get("second_logger", -1), loggers - 1)
    return alert(site, dma, meters, transition(kind, change, **values), None, "live")


def assert_reads_well(said) -> None:
    """What holds of every alert."""
    sentences = [(part, sentence) for part in PARTS for sentence in parts(said.explanation, part)]
    sentences.append(("title", Sentence(en=said.title.en, zh=said.title.zh)))
    for part, sentence in sentences:
        where = f"{said.type} {said.event}, {part}: {sentence}"
        assert Counter(re.findall(r"\d+", sentence.en)) == Counter(re.findall(r"\d+", sentence.zh)), where
        for text in (sentence.en, sentence.zh):
            assert text.strip() == text, where
            assert 0 < len(text) <= LONGEST, where
            assert "  " not in text, where
            assert not re.search(r"\bnan\b|\binf\b|None|[{}\[\]]|\d\.\d{4}|\d{5}|\.\.|。。|(?<!\S)-0\b(?!\.)", text), where
        assert CHINESE.search(sentence.zh), where
        assert not CHINESE.search(sentence.en), where
        assert not re.search(r"\b1 (min|loggers|pressure loggers|nights|meters|days|workdays)\b(?<!min)", sentence.en), where
        if part != "title":
            assert sentence.en.endswith("."), where
            assert sentence.zh.endswith("。"), where
            assert sentence.en[0].isupper() or sentence.en[0].isdigit() or sentence.en.startswith(said.scope.id), where
    assert said.evidence.for_ == [sentence.en for sentence in said.explanation.why]
    assert said.evidence.against == [sentence.en for sentence in said.explanation.against]
    assert len(msgspec.json.encode(said)) < MOST_BYTES


def parts(explanation, part):
    found = getattr(explanation, part)
    return found if isinstance(found, list) else [found] if found is not None else []


LEAKS = ("night_flow_leak", "burst", "boundary_valve")
LOGGERS = ({"logger": -1}, {"logger": 0}, {"logger": 1, "second_logger": 0})
BESIDE = (
    {"pressure_z": NAN},
    {"pressure_z": -3.21, "amended_m3": 12.0},
    {"pressure_z": 2.5, "is_planned": True},
    {"metered_days": 3, "unmetered": 0.9},
    {"metered_days": 1, "unmetered": 0.1, "cause": STUCK},
    {"pressure_z": 0.1, "detected_ms": START + 90 * 24 * HOUR_MS, "updated_ms": START + 91 * 24 * HOUR_MS},
)
ALL_SITUATIONS = list(itertools.product(SITES, SCORES, NUMBERS, LOGGERS, BESIDE))
SITUATIONS = ALL_SITUATIONS[::5]
"""5 divides none of the lengths, so every pair is among them. All would take half a minute, a millisecond each."""


@pytest.mark.parametrize("change", range(len(CHANGES)), ids=CHANGES)
@pytest.mark.parametrize("kind", LEAKS)
def test_every_leak_reads_well_in_both_languages(kind, change):
    for place, scores, numbers, loggers, beside in SITUATIONS:
        if kind == "boundary_valve" and place == "no logger, no neighbour":
            continue
        assert_reads_well(explained(kind, change, place, scores, numbers, **loggers, **beside))


@pytest.mark.parametrize("change", range(len(CHANGES)), ids=CHANGES)
@pytest.mark.parametrize("kind", ["meter_fault", "data_gap", "zero_flow", "reverse_flow", "customer_leak"])
def test_every_event_of_a_meter_reads_well_in_both_languages(kind, change):
    causes = {"zero_flow": (0, 3, 4, 5), "meter_fault": (0, 1, 2, 6)}.get(kind, (0,))
    for place, numbers, cause, slots in itertools.product(SITES, NUMBERS, causes, (1, 2, 960)):
        if kind == "customer_leak" and place in ("one logger", "no logger, no neighbour"):
            continue
        if CAUSES[cause] == "stuck" and numbers == "missing":
            continue
        fields = {"cause": cause, "slots": slots, "nights_gone": slots + 1, "is_planned": slots == 2}
        if numbers == "missing":  # what was observed is always known of a meter
            fields |= {"observed": 12.5}
        assert_reads_well(explained(kind, change, place, numbers=numbers, **fields))
        if kind == "data_gap":
            assert_reads_well(explained(kind, change, place, numbers=numbers, **fields | {"channel": -1}))
        if kind in ("data_gap", "meter_fault") and cause not in (0, 1) and place != "no logger, no neighbour":
            assert_reads_well(explained(kind, change, place, numbers=numbers, **fields, meter_kind="pressure"))


def words(said, part="check_first", language="en"):
    """One part of an explanation as one text."""
    return " ".join(getattr(sentence, language) for sentence in parts(said.explanation, part))


def test_a_single_slot_is_not_said_to_be_outside_its_band_when_it_is_not():
    """The six real DMAs: a burst raised by 22 h that are a little high, at a slot that is well within its band."""
    said = explained("burst", RAISED, observed=60.0, expected=58.0, lower=50.0, upper=66.0)
    assert "stood 12.0 m³/h above normal on average; at " in said.explanation.observed.en
    assert "it was 60.0 m³/h." in said.explanation.observed.en
    assert said.explanation.expected == Sentence(
        en="Normal for that time: 58.0 m³/h (50.0 to 66.0 m³/h).",
        zh="该时刻正常值为 58.0 m³/h（正常范围 50.0～66.0 m³/h）。",
    )


def test_a_burst_is_called_a_step_only_where_that_has_been_looked_at():
    """A long one that the step detector has not seen was raised because its flow does not grow (`flow_events.py`)."""
    late = {"detected_ms": START + 9 * HOUR_MS, "updated_ms": START + 9 * HOUR_MS}
    assert "within 1 h" in words(explained("burst", RAISED), "why_not")
    assert "has not crept up" in words(explained("burst", RAISED, scores="pressures", **late), "why_not")
    assert "too fast" in words(explained("burst", RAISED, scores="flow", **late), "why_not")


def test_the_metric_is_the_one_that_was_observed():
    night = explained("night_flow_leak", RAISED, numbers="night")
    assert night.evidence.metric == "mnf"
    assert night.explanation.observed.en.startswith(
        "The minimum night flow of B was 18.2 m³/h in the night of 2026-02-02 (02:00"
    )
    later = explained("night_flow_leak", UPDATED, noted_of=OF_SLOT)
    assert later.evidence.metric == "net_inflow"
    assert later.explanation.observed.en.startswith("Net inflow of B")
    assert explained("night_flow_leak", UPDATED, noted_ms=NEVER).evidence.metric == "mnf"  # of a state of before


def test_flow_up_while_every_pressure_stays_puts_the_meter_under_suspicion():
    said = explained("burst", RAISED, pressure_z=0.2)
    assert "A faulty flow meter is not ruled out: pressure has hardly moved." in words(said, "why_not")
    assert "compare flow meter A-B with the display on site" in words(said)
    fell = explained("burst", RAISED, pressure_z=-4.0)
    assert "Not a faulty flow meter: pressure fell as well." in words(fell, "why_not")
    assert "display on site" not in words(fell)


def test_flow_and_pressure_up_send_nobody_out_before_the_valves_settings_are_known():
    said = explained("burst", RAISED, pressure_z=4.0)
    assert "set points of pressure-reducing valves" in parts(said.explanation, "check_first")[0].en
    assert "减压阀" in parts(said.explanation, "check_first")[0].zh


def test_the_search_begins_where_pressure_fell_most():
    said = explained("burst", RAISED, "many loggers", logger=1, second_logger=0)
    assert "Begin the search near pressure logger P-1, which fell most (0.43 m); then near P-0." in words(said)
    assert "从压力测点 P-1 周边查起（降幅最大，0.43 m 水柱），其次 P-0 周边" in words(said, language="zh")
    assert words(explained("burst", RAISED, "no logger, no neighbour")).count("logger") == 0


def test_an_open_valve_sends_people_to_the_valves_and_meters_between_the_two():
    said = explained("boundary_valve", RAISED, "many loggers")
    assert "boundary valves between B and A are closed (2 listed in network.toml)" in words(said)
    assert "Compare the boundary meter FM-2 with the display on site." in words(said)
    assert "not lost: it is taken from A." in said.explanation.water.en


def test_planned_work_is_asked_first_and_a_crew_is_not_asked_who_draws_water_twice():
    said = explained("burst", RAISED, is_planned=True)
    assert parts(said.explanation, "check_first")[0].en.startswith("Ask the crew of the planned work (mains flushing")
    assert "fire service" not in words(said)
    assert any(text.startswith("Planned work is under way: mains flushing") for text in said.evidence.against)


def test_what_is_over_says_how_it_ended_how_long_it_lasted_and_how_much_it_was():
    said = explained("burst", CLEARED)
    assert said.explanation.ended.en == (
        "It ended at about 2026-02-02 23:40 (UTC+1), after 20 h. The extra flow has been gone for 10 h, 1 night included."
    )
    assert said.explanation.water.en == "It was about 12.0 m³/h, 159 m³ in all."
    accepted = explained("burst", CLOSED)
    assert "after 60 days it is taken as normal" in accepted.explanation.ended.en
    assert "may still be running" in accepted.explanation.ended.en
    assert explained("burst", UPDATED).explanation.ended is None


def test_pressures_alone_know_no_size_until_the_inflow_has_one():
    fields = {"logger": 1}
    unknown = explained("burst", RAISED, "many loggers", "pressures", excess_m3h=0.0, lost_m3=0.0, **fields)
    assert unknown.explanation.water.en == "The inflow does not show how much water it is."
    guessed = explained("burst", RAISED, "many loggers", "pressures", **fields)
    assert guessed.explanation.water.en.startswith("From the inflow its size can only be guessed: about 12.0 m³/h")
    over = explained("burst", CLEARED, "many loggers", "pressures", **fields)
    assert over.explanation.water.en == "From the inflow its size could only be guessed: about 12.0 m³/h, 159 m³ in all."


def test_a_gap_says_that_leaks_go_unnoticed_and_a_loggers_does_not():
    assert "leaks there may go unnoticed" in explained("data_gap", RAISED).explanation.meters.en
    assert "unnoticed" not in explained("data_gap", CLEARED).explanation.meters.en
    assert "unnoticed" not in explained("data_gap", RAISED, meter_kind="pressure").explanation.meters.en


@pytest.mark.parametrize(
    ("cause", "first"), [("rerouted", "which valve was closed"), ("dead_meter", "Read the meter"), ("interrupted", "supply")]
)
def test_a_meter_without_flow_is_checked_by_its_cause(cause, first):
    said = explained("zero_flow", RAISED, cause=CAUSES.index(cause))
    assert first in parts(said.explanation, "check_first")[0].en


def test_told_names_each_part_once_and_leaves_out_what_has_nothing_to_say():
    said = explained("burst", RAISED)
    for language in ("en", "zh"):
        names = [name for name, _ in told(said.explanation, language) if name]
        assert names == [getattr(PARTS[part], language) for part in PARTS if parts(said.explanation, part)]
        assert len([text for _, text in told(said.explanation, language)]) > len(names)
