"""models/schema.py: the wire types and their units."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.schema import (
    FLOW,
    KINDS,
    QUALITIES,
    READING,
    REGISTER,
    UNITS,
    Alert,
    ColumnarReadings,
    Kind,
    Quality,
    Reading,
    to_engine_value,
)

WIRE = b'{"meterId":"FM-0012","kind":"flow","value":12.34,"unit":"m3/h","observedAt":"2026-11-23T02:15:00+08:00"}'


def test_the_reading_of_the_design_decodes():
    got = msgspec.json.decode(WIRE[:-1] + b',"intervalSeconds":900,"quality":"good","seq":8812}', type=Reading)
    assert (got.meter_id, got.kind, got.value, got.unit, got.interval_seconds) == (
        "FM-0012",
        "flow",
        12.34,
        "m3/h",
        900,
    )
    assert got.observed_at.isoformat() == "2026-11-23T02:15:00+08:00"


def test_optional_fields_have_defaults_and_are_not_sent():
    got = msgspec.json.decode(WIRE, type=Reading)
    assert (got.interval_seconds, got.quality, got.seq) == (None, "good", None)
    assert msgspec.json.encode(got) == WIRE


@pytest.mark.parametrize(
    "change",
    [
        (b"+08:00", b""),  # a naive time
        (b'"flow"', b'"heat"'),
        (b"12.34", b"null"),
        (b'"FM-0012"', b'""'),
        (b'"unit":"m3/h",', b""),
    ],
)
def test_a_reading_that_breaks_the_contract_is_refused(change: tuple[bytes, bytes]):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(WIRE.replace(*change), type=Reading)


def test_unknown_fields_are_ignored():
    assert msgspec.json.decode(WIRE[:-1] + b',"tenant":"north"}', type=Reading) == msgspec.json.decode(WIRE, type=Reading)


def test_enumerations_and_codes_agree():
    assert Kind.__args__ == KINDS
    assert Quality.__args__ == QUALITIES
    assert tuple(UNITS) == KINDS


@pytest.mark.parametrize("wire", [Reading, ColumnarReadings, Alert])
def test_names_on_the_wire_are_camel_case(wire: type[msgspec.Struct]):
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9]*", field.encode_name) for field in msgspec.structs.fields(wire))


def test_a_reading_takes_22_bytes_in_memory():
    assert READING.itemsize == 22


@pytest.mark.parametrize(
    ("kind", "unit", "value", "interval_s", "expected"),
    [
        ("flow", "L/s", 10.0, None, 36.0),
        ("flow", "L/h", 500.0, None, 0.5),
        ("flow", "L/min", 100.0, None, 6.0),
        ("flow", "m3/d", 240.0, None, 10.0),
        ("volume", "m3", 3.0, 900, 12.0),
        ("volume", "L", 25.0, 3600, 0.025),
        ("register", "L", 2000.0, None, 2.0),
        ("pressure", "bar", 3.0, None, 300.0),
        ("pressure", "MPa", 0.3, None, 300.0),
        ("pressure", "m[H2O]", 10.0, None, 98.0665),
        ("level", "m", 2.5, None, 2.5),
        ("battery", "V", 3.6, None, 3.6),
    ],
)
def test_values_become_the_engine_unit(kind: str, unit: str, value: float, interval_s: int | None, expected: float):
    code, got = to_engine_value(kind, unit, value, interval_s)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert KINDS[code] == ("flow" if kind == "volume" else kind)


def test_a_volume_is_a_flow_and_a_register_is_not():
    assert to_engine_value("volume", "m3", 1.0, 3600)[0] == FLOW
    assert to_engine_value("register", "m3", 1.0, 3600)[0] == REGISTER


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("heat", "K", 1.0, None), "kind 'heat' is unknown; possible: flow, volume"),
        (("flow", "kPa", 1.0, None), "unit 'kPa' is unknown for kind 'flow'; possible: m3/h, L/s"),
        (("flow", "m3/h", float("nan"), None), "value nan is not finite"),
        (("flow", "m3/h", float("inf"), None), "value inf is not finite"),
        (("volume", "m3", 1.0, None), "kind 'volume' needs intervalSeconds"),
    ],
)
def test_what_cannot_be_converted_is_named(arguments: tuple[str, str, float, int | None], reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)):
        to_engine_value(*arguments)


@given(st.floats(-1e6, 1e6), st.integers(1, 31 * 86400))
def test_a_volume_over_its_interval_is_the_mean_flow(volume_m3: float, interval_s: int):
    flow_m3h = to_engine_value("volume", "m3", volume_m3, interval_s)[1]
    np.testing.assert_allclose(flow_m3h * interval_s / 3600.0, volume_m3, rtol=1e-12, atol=1e-300)
