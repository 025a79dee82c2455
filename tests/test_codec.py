"""models/codec.py, wire.py, heads.py and senml.py: payloads in, readings and reasons out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.codec import Decoded, Decoder
from models.heads import FITS
from models.network import parse_site
from models.schema import (
    BAD,
    BATTERY,
    FLOW,
    GOOD,
    LEVEL,
    PRESSURE,
    READING,
    REGISTER,
    UNCERTAIN,
    UNITS,
    to_engine_value,
)
from models.wire import FIRST_MS, LAST_MS, Unit

SITE = parse_site(
    'name = "town"\ntimezone = "Europe/Rome"\n',
    """
    [[dma]]
    id = "ALFA"
    [[dma]]
    id = "BETA"
    [[meter]]
    id = "FM-01"
    kind = "flow"
    to = "ALFA"
    [[meter]]
    id = "FM-09"
    kind = "flow"
    from = "ALFA"
    to = "BETA"
    [[meter]]
    id = "PT-01"
    kind = "pressure"
    dma = "ALFA"
    [[meter]]
    id = "TK-01"
    kind = "level"
    dma = "BETA"
    tankAreaM2 = 80.0
    """,
)
FM01, FM09, PT01, TK01 = range(4)
NOON_MS = 1_795_400_100_000  # 2026-11-23T02:15:00Z
NOON = "2026-11-23T02:15:00Z"


def reading(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = {"meterId": "FM-01", "kind": "flow", "value": 12.5, "unit": "m3/h", "observedAt": NOON}
    fields |= changes
    return {name: found for name, found in fields.items() if found is not ...}


def columns(**changes: object) -> dict[str, object]:
    return reading(observedAt=[NOON_MS, NOON_MS + 900_000, NOON_MS + 1_800_000], value=[1.0, 2.0, 3.0], **changes)


def decode(*payloads: object) -> Decoded:
    """Objects are sent as JSON; bytes and None as they are."""
    raw = [p if p is None or isinstance(p, bytes) else json.dumps(p).encode() for p in payloads]
    return Decoder(SITE).decode(raw)


def reason(payload: object) -> str:
    """The one reject of a payload of which nothing can be used."""
    found = decode(payload)
    assert len(found.readings) == 0
    assert len(found.rejects) == 1
    assert found.rejects[0].message == 0
    assert "\n" not in found.rejects[0].reason
    return found.rejects[0].reason


def rows(found: Decoded) -> list[tuple[int, float, int, int, int]]:
    return [tuple(row) for row in found.readings.tolist()]


def test_a_single_reading_becomes_one_row():
    found = decode(reading(quality="uncertain", seq=8812, intervalSeconds=900))
    assert found.readings.dtype == READING
    assert rows(found) == [(NOON_MS, 12.5, FM01, FLOW, UNCERTAIN)]
    assert found.message.tolist() == [0]
    assert found.message.dtype == np.int32
    assert found.rejects == []


def test_an_array_gives_its_readings_in_order():
    found = decode(reading(value=1), [reading(value=2), reading(meterId="FM-09", value=3)], [], reading(value=4))
    assert found.readings["value"].tolist() == [1, 2, 3, 4]
    assert found.readings["meter"].tolist() == [FM01, FM01, FM09, FM01]
    assert found.message.tolist() == [0, 1, 1, 3]
    assert found.rejects == []


def test_columns_skip_gaps_and_take_a_quality_for_each_entry():
    block = columns(quality=["good", "bad", "uncertain"]) | {"value": [1.0, None, 3.0]}
    assert rows(decode(block)) == [(NOON_MS, 1.0, FM01, FLOW, GOOD), (NOON_MS + 1_800_000, 3.0, FM01, FLOW, UNCERTAIN)]


def test_columns_take_text_and_epoch_times_together():
    block = columns() | {"observedAt": [NOON, NOON_MS + 900_000, "2026-11-23T03:45:00+01:00"]}
    assert (np.diff(decode(block).readings["time_ms"]) == 900_000).all()


def test_arrival_order_is_kept_across_forms():
    found = decode(columns(), reading(value=9), columns(), [reading(value=8)])
    assert found.readings["value"].tolist() == [1, 2, 3, 9, 1, 2, 3, 8]
    assert found.message.tolist() == [0, 0, 0, 1, 2, 2, 2, 3]


@pytest.mark.parametrize(("kind", "unit"), [(kind, unit) for kind, units in UNITS.items() for unit in units])
def test_every_unit_converts_as_the_schema_does(kind: str, unit: str):
    meter = next(m.id for m in SITE.meters if kind in FITS[m.kind])
    expected = to_engine_value(kind, unit, 0.1, 900)
    sent = reading(meterId=meter, kind=kind, unit=unit, value=0.1, intervalSeconds=900)
    got = decode(sent, sent | {"value": [0.1], "observedAt": [NOON]})
    assert got.rejects == []
    assert [(row[3], row[1]) for row in rows(got)] == [expected, expected]


def test_the_wire_knows_every_unit_of_the_schema():
    assert set(Unit.__args__) == {unit for units in UNITS.values() for unit in units}


@pytest.mark.parametrize(
    ("meter", "kind", "unit", "code"),
    [
        ("FM-01", "register", "m3", REGISTER),
        ("PT-01", "pressure", "kPa", PRESSURE),
        ("TK-01", "level", "m", LEVEL),
        ("TK-01", "battery", "V", BATTERY),
        ("PT-01", "battery", "%", BATTERY),
        ("FM-09", "battery", "V", BATTERY),
    ],
)
def test_each_meter_accepts_what_fits_it(meter: str, kind: str, unit: str, code: int):
    assert decode(reading(meterId=meter, kind=kind, unit=unit)).readings["kind"].tolist() == [code]


@pytest.mark.parametrize(
    ("text", "offset_ms"),
    [
        ("2026-11-23T02:15:00Z", 0),
        ("2026-11-23t02:15:00z", 0),
        ("2026-11-23 02:15:00Z", 0),
        ("2026-11-23T10:15:00+08:00", 0),
        ("2026-11-22T21:45:00.250-04:30", 250),
        ("2026-11-23T02:15:00.1239Z", 123),
    ],
)
def test_times_with_an_offset_become_utc(text: str, offset_ms: int):
    assert decode(reading(observedAt=text)).readings["time_ms"].tolist() == [NOON_MS + offset_ms]


REASONS = [
    (None, "value is null (tombstone); possible: a reading"),
    (b"", "malformed JSON: the value is empty; possible: a reading, or an array of readings"),
    (b"{", "malformed JSON: Input data was truncated; possible:"),
    (b'{"meterId":"FM-01"', "malformed JSON"),
    (b"\xff\xfe{", "not UTF-8: byte 0 is 0xff; possible: JSON in UTF-8"),
    (b'{"meterId":"FM-\xe9"}', "not UTF-8: byte 15 is 0xe9"),
    (b"12", "found '12'; possible: a reading, or an array of readings"),
    (b"null", "found 'null'; possible: a reading, or an array of readings"),
    (b"[" * 100_000, "malformed JSON: nested too deeply"),
    (b'{"x":' * 100_000, "malformed JSON: nested too deeply"),
    (reading(meterId="FM-9"), "meter 'FM-9' is not in network.toml; nearest: 'FM-09'"),
    (reading(meterId="fm 009"), "meter 'fm 009' is not in network.toml; nearest: 'FM-09'"),
    (reading(meterId="PT-1x"), "meter 'PT-1x' is not in network.toml; nearest: 'PT-01'"),
    (reading(meterId="?"), "meter '?' is not in network.toml; possible: FM-01, FM-09, PT-01, TK-01"),
    (reading(meterId="x" * 5000), "meter 'xxxxx"),
    (reading(meterId=...), "key 'meterId' is missing; possible: the id of a meter, as text"),
    (reading(meterId=7), "meterId: found 7; possible: the id of a meter, as text"),
    (json.dumps(reading(value="NUM")).replace('"NUM"', "NaN").encode(), "malformed JSON: NaN is not JSON"),
    (json.dumps(reading(value="NUM")).replace('"NUM"', "-Infinity").encode(), "malformed JSON: Infinity is not JSON"),
    (json.dumps(reading(value="NUM")).replace('"NUM"', "1e999").encode(), "value: found 1e999; possible: a number"),
    (json.dumps(reading(value="NUM")).replace('"NUM"', "9" * 6000).encode(), "value: found '999"),
    (reading(value=None), "value: found null; possible: a number"),
    (reading(value=True), "value: found true; possible: a number"),
    (reading(value="12.5"), 'value: found "12.5"; possible: a number'),
    (reading(value=...), "key 'value' is missing; possible: a number"),
    (
        reading(meterId="PT-01", kind="pressure", unit="MPa", value=1e307),
        "value 1e+307 MPa is beyond what a pressure can be",
    ),
    (reading(observedAt="2026-11-23T02:15:00"), "observedAt '2026-11-23T02:15:00' has no UTC offset; possible:"),
    (reading(observedAt="yesterday"), "observedAt 'yesterday' is not a time; possible:"),
    (reading(observedAt="1989-12-31T23:59:59Z"), "observedAt '1989-12-31T23:59:59Z' is out of range; possible:"),
    (reading(observedAt="2100-01-01T00:00:01Z"), "observedAt '2100-01-01T00:00:01Z' is out of range; possible:"),
    (reading(observedAt=FIRST_MS - 1), "observedAt: found 631151999999; possible: an RFC 3339 time"),
    (reading(observedAt=LAST_MS + 1), "observedAt: found 4102444800001; possible:"),
    (reading(observedAt=1_795_400_100), "observedAt: found 1795400100; possible:"),
    (reading(observedAt=10**400), "observedAt: found '1000"),
    (reading(observedAt=False), "observedAt: found false; possible:"),
    (reading(kind="heat"), 'kind: found "heat"; possible: flow, volume, register, pressure, level, battery'),
    (reading(kind="pressure", unit="kPa"), "kind 'pressure' does not fit flow meter 'FM-01'; possible: flow, volume"),
    (reading(meterId="PT-01"), "kind 'flow' does not fit pressure meter 'PT-01'; possible: pressure, battery"),
    (reading(unit="gal"), "unit: found \"gal\" for kind 'flow'; possible: m3/h, L/s, L/h, L/min, m3/d"),
    (reading(unit="kPa"), "unit 'kPa' is unknown for kind 'flow'; possible: m3/h"),
    (reading(kind="volume", unit="L"), "kind 'volume': key 'intervalSeconds' is missing; possible: whole seconds"),
    (reading(intervalSeconds=0), "intervalSeconds: found 0; possible: whole seconds from 1 to 2678400"),
    (reading(intervalSeconds=900.5), "intervalSeconds: found 900.5; possible: whole seconds"),
    (reading(quality="ok"), 'quality: found "ok"; possible: good, uncertain, bad'),
    (b'{"value":"x",' + json.dumps(reading()).encode()[1:], "a key is there twice"),
    (columns(meterId="FM-9"), "meter 'FM-9' is not in network.toml; nearest: 'FM-09'"),
    (columns(kind="volume", unit="L"), "kind 'volume': key 'intervalSeconds' is missing"),
    (columns(unit="gal"), "unit: found \"gal\" for kind 'flow'"),
    (columns() | {"value": [1.0]}, "columns differ in length: found 3 observedAt, 1 value; possible: the same number"),
    (columns(quality=["good"]), "columns differ in length: found 3 observedAt, 3 value, 1 quality"),
    (columns() | {"value": ["x"]}, "columns differ in length: found 3 observedAt, 1 value"),
    (columns() | {"value": 5}, "observedAt and value: found only one list; possible: two lists of the same length"),
    (columns() | {"observedAt": NOON}, "observedAt and value: found only one list"),
]


@pytest.mark.parametrize(("payload", "expected"), REASONS)
def test_a_refused_payload_says_what_was_found_and_what_was_possible(payload: object, expected: str):
    assert reason(payload).startswith(expected)
    assert len(reason(payload)) < 300


def test_a_bad_payload_does_not_touch_its_neighbours():
    found = decode(reading(value=1), b'{"meterId":"FM-01"', b',"kind":"flow"}', None, reading(value=2))
    assert found.readings["value"].tolist() == [1, 2]
    assert found.message.tolist() == [0, 4]
    assert [reject.message for reject in found.rejects] == [1, 2, 3]


def test_good_readings_of_a_partly_bad_array_are_kept_and_the_first_bad_one_is_named():
    batch = [reading(value=n) for n in range(20)]
    batch[17] = reading(value="x")
    batch[18] = reading(meterId="FM-9")
    found = decode(reading(), batch)
    assert found.readings["value"].tolist() == [12.5, *range(17), 19]
    assert found.rejects[0].message == 1
    assert found.rejects[0].reason == 'reading 17: value: found "x"; possible: a number; 2 of 20 readings rejected'


def test_an_array_of_strangers_is_refused_reading_by_reading():
    assert reason([1, "x"]) == "reading 0: found 1; possible: a reading; 2 of 2 readings rejected"


@pytest.mark.parametrize("bad", [True, "3", "1e999"])
def test_one_bad_entry_leaves_the_rest_of_its_columns(bad: object):
    sent = json.dumps(columns() | {"value": [1.0, bad, 3.0]}).replace('"1e999"', "1e999").encode()
    found = decode(sent)
    assert found.readings["value"].tolist() == [1, 3]
    assert found.rejects[0].reason.startswith("reading 1: value: found ")
    assert found.rejects[0].reason.endswith("; possible: a number; 1 of 3 readings rejected")


@pytest.mark.parametrize("bad", ["2026-11-23T02:15:00", "noon", 5, None])
def test_one_bad_time_leaves_the_rest_of_its_columns(bad: object):
    block = columns(quality=["good", "good", "bad"]) | {"observedAt": [NOON_MS, bad, NOON_MS + 1]}
    found = decode(block)
    assert [(row[0], row[4]) for row in rows(found)] == [(NOON_MS, GOOD), (NOON_MS + 1, BAD)]
    assert found.rejects[0].reason.startswith("reading 1: observedAt")
    assert found.rejects[0].reason.endswith("1 of 3 readings rejected")


def test_a_bad_quality_refuses_its_own_entry_only():
    found = decode(columns(quality=["good", "ok", "bad"]))
    assert found.readings["value"].tolist() == [1, 3]
    assert found.rejects[0].reason.startswith('reading 1: quality: found "ok"')


def test_empty_batches_are_neither_readings_nor_rejects():
    found = decode(b"[]", columns() | {"observedAt": [], "value": []})
    assert (len(found.readings), found.rejects) == (0, [])
    assert (len(decode().readings), decode().rejects) == (0, [])


# SenML


def senml(*records: dict[str, object]) -> Decoded:
    return decode(list(records))


def test_senml_base_fields_apply_to_what_follows_them():
    found = senml(
        {"bn": "FM-0", "bt": NOON_MS / 1000, "bu": "m3/h", "bv": 10.0, "n": "1", "v": 2.5},
        {"n": "9", "v": 1, "t": 900.25},
        {"bt": NOON_MS / 1000 + 3600, "bv": 0},
        {"n": "1", "u": "l/s", "v": 1},
    )
    assert found.rejects == []
    assert rows(found) == [
        (NOON_MS, 12.5, FM01, FLOW, GOOD),
        (NOON_MS + 900_250, 11.0, FM09, FLOW, GOOD),
        (NOON_MS + 3_600_000, 3.6, FM01, FLOW, GOOD),
    ]


@pytest.mark.parametrize(
    ("meter", "unit", "value", "expected"),
    [
        ("FM-01", "m3/s", 0.01, (36.0, FLOW)),
        ("FM-01", "m3", 812.5, (812.5, REGISTER)),
        ("FM-01", "l", 2000.0, (2.0, REGISTER)),
        ("PT-01", "Pa", 300_000.0, (300.0, PRESSURE)),
        ("PT-01", "bar", 3.0, (300.0, PRESSURE)),
        ("TK-01", "m", 2.5, (2.5, LEVEL)),
        ("TK-01", "%EL", 90.0, (90.0, BATTERY)),
        ("FM-01", "V", 3.6, (3.6, BATTERY)),
    ],
)
def test_senml_kind_follows_from_the_meter_and_the_unit(meter: str, unit: str, value: float, expected: tuple[float, int]):
    found = senml({"n": meter, "u": unit, "v": value, "t": NOON_MS / 1000})
    assert [(row[1], row[3]) for row in rows(found)] == [expected]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"t": 0}, "bt + t: found 0 s, relative to now; possible: seconds since 1970, at least 2**28"),
        ({"t": -30}, "bt + t: found -30 s, relative to now"),
        ({"t": 2**28}, "bt + t: found 2.68435e+08 s; possible: seconds since 1970, from 1990 to 2100"),
        ({"t": 1e308, "bt": 1e308}, "bt + t: found inf s; possible:"),
        ({"t": "now"}, 't: found "now"; possible: a number'),
        ({"v": ...}, "key 'v' is missing; possible: 'v', a number"),
        ({"v": ..., "vs": "open"}, "vs: found a text; possible: 'v', a number"),
        ({"v": ..., "s": 8.5}, "s: found a sum; possible: 'v', a number"),
        ({"v": True}, "v: found true; possible: a number"),
        ({"v": None}, "v: found null; possible: a number"),
        ({"u": ...}, "keys 'u' and 'bu' are missing; possible: m3/h, L/s"),
        ({"u": "Cel"}, "unit 'Cel' is unknown for kind 'flow'; possible: m3/h, L/s"),
        ({"n": "FM-9"}, "meter 'FM-9' is not in network.toml; nearest: 'FM-09'"),
        ({"bver": 11}, "bver: found 11; possible: 10"),
        ({"must_": 1}, "'must_': must be understood, and is not; possible: bn, bt"),
    ],
)
def test_senml_refuses_with_a_reason(change: dict[str, object], expected: str):
    record = {"n": "FM-01", "u": "m3/h", "v": 1.0, "t": NOON_MS / 1000} | change
    got = reason([{name: found for name, found in record.items() if found is not ...}])
    assert got.startswith(f"reading 0: {expected}")
    assert got.endswith("; 1 of 1 readings rejected")


def test_senml_keeps_good_records_but_nothing_after_a_faulty_base():
    good = {"n": "FM-01", "u": "m3/h", "v": 1.0, "t": NOON_MS / 1000}
    found = senml(good, good | {"v": "x"}, good, good | {"bt": "x"}, good)
    assert len(found.readings) == 2
    assert found.rejects[0].reason == 'reading 1: v: found "x"; possible: a number; 3 of 5 readings rejected'
