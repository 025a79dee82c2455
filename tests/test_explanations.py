"""Every alert explained in two languages: the same numbers, nothing unreadable, whatever is missing or extreme."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.events import CAUSES, CHANGES, CLEARED, CLOSED, EVENT_TYPES, RAISED, UPDATED
from models.explain import alert
from models.network import parse_site
from models.phrases import LONGEST, PARTS, both, flow, ids, length, moment, named, number, told, volume
from models.planned import EVERYWHERE, PlannedWork
from models.schema import NEVER, Sentence
from tests.synthetic import make_site
from tests.test_explain import START, transition

HOUR_MS = 3_600_000
MOST_BYTES = 9000  # where ids are as long as can be; 6300 where they are not
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
    "nothing": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "flow": [0.1, 0.6, 0.0, 0.0, 0.0, 0.9],
    "weak flow, forest": [0.1, 0.4, 0.7, 0.0, 0.0, 0.4],
    "night": [0.8, 0.1, 0.0, 0.0, 0.0, 0.1],
    "all": [0.9, 0.9, 0.9, 0.9, 0.9, 0.9],
    "pressures": [0.1, 0.1, 0.0, 0.8, 0.6, 0.1],
}
NUMBERS = {
    "plain": {"lower": 50.0, "upper": 66.0, "expected": 58.0, "lost_m3": 159.0, "coverage": 1.0, "at_night": 0},
    "night": {"lower": 9.1, "upper": 13.0, "expected": 11.0, "observed": 18.2, "lost_m3": 9.4, "coverage": 0.97, "at_night": 1},
    "missing": {"lower": NAN, "upper": NAN, "expected": NAN, "observed": NAN, "coverage": NAN, "noted_ms": NEVER},
    "zero": {"lower": -3.0, "upper": 1e-9, "expected": 0.0, "observed": 0.0, "excess_m3h": 0.0, "mean_m3h": 0.0, "slots": 1},
    "negative": {"lower": -9.0, "upper": -3.0, "expected": -6.0, "observed": -7.5, "excess_m3h": -4.2, "lost_m3": 1.0},
    "tiny": {"lower": 0.001, "upper": 0.0123, "expected": 0.005, "observed": 0.01234, "excess_m3h": 0.00789, "lost_m3": 0.0333},
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
    channel = next(i for i, meter in enumerate(meters) if meter.kind == fields.pop("meter_kind", "flow"))
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
