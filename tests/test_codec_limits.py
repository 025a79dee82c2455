"""models/codec.py: a message as large as any may be is decoded at once, whatever is in it."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest

from models.codec import Decoder
from models.wire import MAX_ID, MOST
from streams.topics import READING_LIMIT
from tests.test_codec import NOON, NOON_MS, SITE, columns, decode, reading


def array(element: str, first: str = "") -> str:
    """As many as fit."""
    return f"[{first}" + ",".join([element] * ((READING_LIMIT - 200 - len(first)) // (len(element) + 1))) + "]"


def text(payload: object) -> str:
    return json.dumps(payload, separators=(",", ":"))


HALF, LONG = MOST // 2, "x" * (READING_LIMIT // 2)
LARGEST = {
    "numbers": array("1"),
    "empty objects": array("{}"),
    "empty SenML records": array("{}", '{"n":"FM-01"},'),
    "SenML base fields": array('{"bt":1}', '{"bn":"FM-01"},'),
    "readings without a time": array(text(reading(observedAt="x"))),
    "readings of nobody": array(text(reading(meterId="nobody"))),
    "as many SenML records as may be, behind a long base name": text(
        [{"bn": LONG, "bt": NOON_MS / 1000, "bu": "m3/h"}, *[{"n": "a", "v": 1}] * (HALF - 1)]
    ),
    "columns of a long id with one bad entry": text(
        columns() | {"meterId": LONG, "observedAt": [1] * HALF, "value": [1] * (HALF - 1) + ["x"]}
    ),
    "columns of a long interval with one bad entry": text(
        columns() | {"intervalSeconds": 9, "observedAt": [NOON_MS] * HALF, "value": [1] * (HALF - 1) + ["x"]}
    ).replace(":9,", ":9." + "0" * (READING_LIMIT // 4) + ","),
    "columns of bad times": text(columns() | {"observedAt": ["x"] * MOST, "value": [1] * MOST}),
    "columns of too many": text(columns() | {"observedAt": [""] * (MOST + 1), "value": [1] * (MOST + 1)}),
    "columns that are bad throughout": text(columns() | {"observedAt": [1] * MOST, "value": ["x"] * MOST}),
    "nested": "[" * READING_LIMIT,
    "a long number": text(reading(value="V")).replace('"V"', "1" * (READING_LIMIT - 200)),
    "a long time": text(reading(observedAt=NOON[:-1] + "." + "0" * (READING_LIMIT - 200) + "Z")),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_message_takes_less_than_two_seconds_and_gets_one_reason(name: str):
    """Before 2026-11-24 a long id before 100,000 entries took 91 s, and a long base name some GB."""
    payload = LARGEST[name].encode()
    assert len(payload) <= READING_LIMIT
    decoder = Decoder(SITE)
    start = time.process_time()
    decoded = decoder.decode([payload])
    assert time.process_time() - start < 2.0
    assert len(decoded.rejects) == 1
    assert len(decoded.rejects[0].reason) < 500


def test_a_long_base_name_is_not_copied_for_every_record():
    pack = text([{"bn": "x" * 100_000, "bt": NOON_MS / 1000, "bu": "m3/h"}, *[{"n": "a", "v": 1}] * 1000]).encode()
    tracemalloc.start()
    decoded = decode_bytes(pack)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000  # 100 MB when it is
    assert f"bn + n: found 100001 characters; possible: the id of a meter, at most {MAX_ID}" in decoded


def decode_bytes(payload: bytes) -> str:
    return Decoder(SITE).decode([payload]).rejects[0].reason


def test_as_many_readings_as_may_be_are_decoded_with_one_bad_among_them():
    times = [NOON_MS + 1000 * at for at in range(MOST)]
    decoded = decode(columns() | {"observedAt": times, "value": [1.5] * (MOST - 1) + ["x"]})
    assert len(decoded.readings) == MOST - 1
    assert decoded.rejects[0].reason.endswith(f"1 of {MOST} readings rejected")


def test_more_are_refused_by_number():
    assert decode([1] * (MOST + 1)).rejects[0].reason == f"found an array of {MOST + 1}; possible: at most {MOST} readings"
    more = columns() | {"observedAt": [NOON_MS] * (MOST + 1), "value": [1] * (MOST + 1)}
    assert decode(more).rejects[0].reason == f"found columns of {MOST + 1}; possible: at most {MOST} readings"


def test_a_time_of_many_decimals_is_not_kept():
    assert len(decode(reading(observedAt=NOON[:-1] + "." + "0" * 30 + "Z")).readings) == 1
    assert "is not a time" in decode(reading(observedAt=NOON[:-1] + "." + "0" * 60 + "Z")).rejects[0].reason
