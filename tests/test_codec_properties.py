"""The decoder held against itself, whatever arrives: blocks against messages, arrays and columns against singles."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.codec import Decoder
from models.schema import KINDS
from models.wire import FIRST_MS, LAST_MS
from tests.test_codec import NOON, SITE, columns, decode, reading, rows

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30), timezones=ZONES)  # noqa: DTZ001


@given(MOMENTS)
def test_any_rfc3339_time_becomes_its_epoch_milliseconds(moment: datetime):
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert decode(reading(observedAt=moment.isoformat())).readings["time_ms"].tolist() == [expected]


ODD = st.sampled_from(
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"[[]]",
        b"[{}]",
        b"\xff",
        b"\x00",
        b"[1,2",
        b"],[",
        b'{"x":[1',
        b"2]}",
        b'{"meterId":"\\ud800"}',
        b'[{"bn":1}]',
        b'[{"n":"FM-01","v":1e999}]',
        b'{"observedAt":[1],"value":[[]]}',
        b'{"observedAt":[1],"value":{}}',
        b'{"meterId":"FM-01","meterId":2}',
    ]
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6) | st.just(NOON),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*"nutv", "bn", "bt", "bu", "bv", "bver", "vs", "seq", "intervalSeconds", "quality"])
MESSAGES = st.one_of(
    st.just(reading()),
    st.just(columns()),
    st.builds(lambda names, junk: reading(**dict.fromkeys(names, junk)), st.sets(st.sampled_from([*reading()])), JUNK),
    st.builds(lambda names, junk: columns() | dict.fromkeys(names, junk), st.sets(st.sampled_from([*reading()])), JUNK),
    st.dictionaries(NAMES, JUNK, max_size=5).map(lambda record: [{"n": "FM-01"} | record]),
    st.lists(st.just(reading()) | JUNK, max_size=4),
    JUNK,
)
PAYLOADS = st.lists(st.none() | ODD | st.binary(max_size=30) | MESSAGES.map(lambda m: json.dumps(m).encode()), max_size=8)


@settings(deadline=None)
@given(PAYLOADS)
def test_nothing_raises_and_a_block_decodes_as_its_messages_do(payloads: list[bytes | None]):
    whole = Decoder(SITE).decode(payloads)
    parts = [Decoder(SITE).decode([payload]) for payload in payloads]
    assert rows(whole) == [row for part in parts for row in rows(part)]
    assert whole.message.tolist() == [number for number, part in enumerate(parts) for _ in part.readings]
    expected = [(number, reject.reason) for number, part in enumerate(parts) for reject in part.rejects]
    assert [(reject.message, reject.reason) for reject in whole.rejects] == expected
    assert np.isfinite(whole.readings["value"]).all()
    assert ((whole.readings["time_ms"] >= FIRST_MS) & (whole.readings["time_ms"] <= LAST_MS)).all()
    assert (whole.readings["kind"] < len(KINDS)).all()
    assert all(reason.message < len(payloads) and "\n" not in reason.reason for reason in whole.rejects)


@settings(deadline=None)
@given(st.lists(st.builds(lambda v: reading(value=v), st.none() | st.floats(-1e6, 1e6) | st.text(max_size=3))), st.data())
def test_an_array_decodes_as_its_elements_do(elements: list[dict[str, object]], data: st.DataObject):
    array = decode(elements)
    singles = decode(*elements)
    assert rows(array) == rows(singles)
    first = singles.rejects[:1]
    assert [r.reason for r in array.rejects] == [
        f"reading {r.message}: {r.reason}; {len(singles.rejects)} of {len(elements)} readings rejected" for r in first
    ]


@given(st.lists(st.tuples(st.integers(FIRST_MS, LAST_MS), st.none() | st.floats(-1e6, 1e6)), max_size=20))
def test_columns_decode_as_singles_do(entries: list[tuple[int, float | None]]):
    block = columns() | {"observedAt": [t for t, _ in entries], "value": [v for _, v in entries]}
    singles = [reading(observedAt=t, value=v) for t, v in entries if v is not None]
    assert rows(decode(block)) == rows(decode(*singles))


def test_a_decoder_that_has_seen_other_blocks_gives_the_same_answer():
    decoder = Decoder(SITE)
    payloads = [json.dumps(p).encode() for p in (reading(), reading(meterId="FM-9"), columns(), reading(observedAt="x"))]
    first, second = decoder.decode(payloads), decoder.decode(payloads)
    assert rows(first) == rows(second)
    assert first.rejects == second.rejects
