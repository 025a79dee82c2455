"""models/schema.py: values that no meter can have are refused, and the limits themselves are not."""

from __future__ import annotations

import pytest

from models.schema import ENGINE_UNIT, KINDS, LIMITS
from tests.test_codec import NOON_MS, columns, decode, reading

ABSURD = [
    (reading(value=1e39), "value 1e+39 m3/h is beyond what a flow can be; possible: -1e+06 to 1e+06 m3/h"),
    (
        reading(value=3e5, unit="L/s"),
        "value 300000 L/s is 1.08e+06 m3/h, which is beyond what a flow can be; possible: -1e+06 to 1e+06 m3/h",
    ),
    (
        reading(kind="volume", unit="m3", value=1000.0, intervalSeconds=1),
        "value 1000 m3 is 3.6e+06 m3/h, which is beyond what a flow can be; possible: -1e+06 to 1e+06 m3/h",
    ),
    (reading(kind="register", unit="m3", value=1.1e12), "beyond what a register can be; possible: -1e+12 to 1e+12 m3"),
    (
        reading(meterId="PT-01", kind="pressure", unit="kPa", value=-5e8),
        "value -5e+08 kPa is beyond what a pressure can be; possible: -200 to 100000 kPa",
    ),
    (reading(meterId="TK-01", kind="level", unit="m", value=1e5), "a level can be; possible: -1000 to 10000 m"),
    (reading(kind="battery", unit="%", value=-2.0), "value -2 % is beyond what a battery can be; possible: -1 to 1000 %"),
    ([{"n": "FM-01", "u": "m3/h", "bt": NOON_MS / 1000, "bv": 1e308, "v": 1e308}], "value inf m3/h is beyond what a flow"),
]


@pytest.mark.parametrize(("sent", "reason"), ABSURD)
def test_a_finite_value_that_cannot_be_is_refused_with_its_unit_and_what_was_possible(sent: object, reason: str):
    decoded = decode(sent)
    assert len(decoded.readings) == 0
    assert reason in decoded.rejects[0].reason


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_the_limits_of_a_kind_are_possible_themselves(kind: int):
    name = KINDS[kind]
    if name == "volume":
        return  # becomes a flow
    meter = {"pressure": "PT-01", "level": "TK-01"}.get(name, "FM-01")
    sent = [reading(meterId=meter, kind=name, unit=ENGINE_UNIT[name], value=end) for end in LIMITS[name]]
    assert decode(*sent).readings["value"].tolist() == list(LIMITS[name])


def test_one_absurd_value_of_a_column_leaves_the_others():
    decoded = decode(columns() | {"value": [1.0, 1e39, 3.0]})
    assert decoded.readings["value"].tolist() == [1.0, 3.0]
    assert decoded.rejects[0].reason.startswith("reading 1: value 1e+39 m3/h is beyond what a flow can be")
