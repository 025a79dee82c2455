"""What the agents make of blocks, without a broker: wrong clocks, dead letters, readings nobody judged; and their edges."""

from __future__ import annotations

import json
import logging
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from click.testing import CliRunner

from models.packing import Packing
from nightline.cli import nightline
from streams.blocks import Block
from streams.checkpoints import Bounds
from streams.dlq import dead_letter
from streams.logs import Repeats
from streams.router import REPLAY_HEADER, Router
from streams.topics import DEAD_LETTERS, MIB, RAW_LIMIT, READINGS, REQUEST_LIMIT
from streams.watcher import Watcher
from tests.synthetic import START_MS, make_site, readings

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass
class Record:
    """As aiokafka's."""

    value: bytes | None
    timestamp: int = START_MS
    offset: int = 0
    topic: str = "raw"
    partition: int = 0
    key: bytes | None = b"in-A"
    headers: tuple[tuple[str, bytes | None], ...] = ()


def reading(observed_ms: int) -> dict[str, object]:
    return {"meterId": "in-A", "kind": "flow", "value": 1.5, "unit": "m3/h", "observedAt": observed_ms}


def raw(observed_ms: int, **fields: Any) -> Record:
    return Record(json.dumps(reading(observed_ms)).encode(), **fields)


def routed(*records: Record) -> tuple[int, list[str]]:
    """Number of readings published for DMA A, and the reasons of the dead letters."""
    site = make_site()
    messages = Router(site).route(Block(list(records)))
    packed = [Packing(site).unpack(m.value or b"") for m in messages if m.dataset == READINGS and m.key == b"A"]
    count = sum(len(part.readings) for part in packed)
    return count, [dict(m.headers)["reason"].decode() for m in messages if m.dataset == DEAD_LETTERS]


@pytest.mark.parametrize("shift_ms", [0, HOUR_MS, -14 * DAY_MS])
def test_a_live_reading_near_its_messages_own_time_is_routed(shift_ms: int) -> None:
    assert routed(raw(START_MS + shift_ms)) == (1, [])


def test_a_reading_too_far_ahead_is_a_dead_letter_replayed_or_not() -> None:
    for headers in ((), (REPLAY_HEADER,)):
        count, (reason,) = routed(raw(START_MS + HOUR_MS + 1000, headers=headers))
        assert count == 0
        assert "2026-01-05T00:00:01.000Z is more than 1 h ahead of the message's own time 2026-01-04T23:00:00" in reason


def test_a_live_reading_older_than_raw_readings_are_kept_is_a_dead_letter_that_names_both_times() -> None:
    count, (reason,) = routed(raw(START_MS - 14 * DAY_MS - 1000))
    assert count == 0
    assert reason.startswith("observedAt 2025-12-21T22:59:59")
    assert "is more than 14 days before the message's own time 2026-01-04T23:00:00" in reason


def test_a_message_without_a_time_of_its_own_still_bounds_its_readings_to_1990_until_2100() -> None:
    for observed_ms in (-1, 0, 631_151_999_999, 4_102_444_800_001, 2**62):
        count, (reason,) = routed(raw(observed_ms, timestamp=-1))
        assert count == 0
        assert "from 1990 to 2100" in reason
    assert routed(raw(4_102_444_800_000, timestamp=-1)) == (1, [])


@pytest.mark.parametrize("timestamp", [None, -1, 0, -(2**63), 2**63 - 1, 2**62, 253_402_300_800_000, 4_102_444_800_001])
@pytest.mark.parametrize("headers", [(), (REPLAY_HEADER,)])
def test_a_message_whose_own_time_is_none_takes_nobodys_readings_along(timestamp: Any, headers: Any) -> None:
    """Such a time once raised OverflowError, or made a packed block of all DMAs' readings that nobody could read."""
    odd = raw(START_MS, timestamp=timestamp, headers=headers)
    assert routed(odd, raw(START_MS, offset=1)) == (2, [])
    assert routed(Record(b"torn", timestamp=timestamp))[0] == 0


def test_a_block_that_is_only_waiting_keeps_none_of_its_bytes() -> None:
    block = Block([raw(START_MS, offset=3), raw(START_MS, offset=5)])
    data = weakref.ref(block.records.data)
    block.let_go()
    assert data() is None
    assert (block.count, block.offset, block.end, len(block.records)) == (2, 3, 6, 0)
    assert repr(block) == "Block(raw-0 [3, 6), 2 records)"


def test_a_replay_may_be_as_old_as_it_likes() -> None:
    assert routed(raw(START_MS - 3000 * DAY_MS, headers=(REPLAY_HEADER,))) == (1, [])


@pytest.mark.parametrize("timestamp", [-1, 0, 631_151_999_999])
def test_a_message_time_before_1990_is_no_time(timestamp: int) -> None:
    assert routed(raw(START_MS, timestamp=timestamp)) == (1, [])


def test_the_good_readings_of_a_batch_with_a_wrong_clock_are_kept() -> None:
    times = [START_MS, START_MS - 20 * DAY_MS, START_MS + DAY_MS]
    count, (reason,) = routed(Record(json.dumps([reading(time) for time in times]).encode()))
    assert count == 1
    assert "1 of 3 readings rejected" in reason
    assert "ahead" in reason
    assert "before" in reason


def test_a_senders_headers_do_not_hide_those_of_the_dead_letter() -> None:
    names = ("reason", "topic", "partition", "offset", "size", "cut")
    theirs: list[tuple[str, bytes | None]] = [(name, b"theirs") for name in names]
    letter = dead_letter(Record(b"x", offset=7, headers=(*theirs, ("empty", None), ("own", b"1"))), "because")
    assert letter.headers == [
        *((f"x-{name}", b"theirs") for name in names),
        ("empty", b""), ("own", b"1"),
        ("reason", b"because"), ("topic", b"raw"), ("partition", b"0"), ("offset", b"7"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"value": b"x" * (40 * MIB)},
        {"key": b"k" * (40 * MIB)},
        {"headers": (("note", b"h" * (40 * MIB)),)},
        {"headers": (("n" * (40 * MIB), None),)},
        {"headers": tuple((f"h{number}", None) for number in range(100_000)), "value": b"x" * RAW_LIMIT},
        {"key": b"k" * RAW_LIMIT, "value": b"x" * RAW_LIMIT, "headers": (("note", b"h" * RAW_LIMIT),)},
    ],
)
def test_what_a_compressed_batch_swelled_to_fits_the_dead_letter_topic(fields: Any) -> None:
    """Kafka would refuse it again after every restart."""
    record = Record(**({"value": b"torn", "offset": 7} | fields))
    letter = dead_letter(record, "because")
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 900_000)
    assert batch.append(0, None, letter.key, letter.value, letter.headers) is not None
    assert batch.size() <= REQUEST_LIMIT
    headers = dict(letter.headers)
    assert headers["offset"] == b"7"
    cut = headers["cut"].decode()
    assert ("key" in cut) == (letter.key != record.key)
    assert ("value" in cut) == (letter.value != record.value)
    assert ("headers" in cut) == (len(record.headers) != len(letter.headers) - (6 if "value" in cut else 5))
    assert headers.get("size") == (str(len(record.value or b"")).encode() if "value" in cut else None)


def test_whatever_an_uncompressed_batch_holds_is_kept_byte_for_byte() -> None:
    record = Record(b"x" * (RAW_LIMIT // 2), key=b"k" * (RAW_LIMIT // 4), headers=(("note", b"h" * (RAW_LIMIT // 4 - 100)),))
    letter = dead_letter(record, "because")
    assert (letter.key, letter.value, letter.headers[:1]) == (record.key, record.value, list(record.headers))
    assert "cut" not in dict(letter.headers)


def test_late_readings_leave_one_line_for_each_block_by_dma(caplog: pytest.LogCaptureFixture) -> None:
    site, watcher = make_site(), Watcher(make_site())
    watcher.restore(0, 1, [], Bounds(None, 0, 0), now=0.0)
    quiet = readings(2)
    mine = quiet[quiet["meter"] == site.meter_row["in-A"]]

    def packed(offset: int, some: Any) -> Block:
        return Block([Record(Packing(site).pack("A", some, "live"), topic="readings", key=b"A", offset=offset)])

    watcher.watch(packed(0, mine))
    assert caplog.messages == []
    watcher.watch(packed(1, mine[:5]), publish=False)
    assert caplog.messages == []
    watcher.watch(packed(2, mine[:5]))
    assert caplog.messages == ["readings partition 0: not judged: 5 readings came after their slot was closed (A 5)"]


def test_a_repeated_line_of_somebody_else_is_written_once_with_a_count_and_ours_always() -> None:
    now = [0.0]
    repeats = Repeats(lambda: now[0])

    def passes(name: str, text: str) -> str | None:
        record = logging.LogRecord(name, logging.WARNING, "", 0, "%s", (text,), None)
        return record.getMessage() if repeats.filter(record) else None

    said = "x" * 60
    assert passes("aiokafka", said + "1") == said + "1"
    assert [passes("aiokafka", said + "2") for _ in range(5)] == [None] * 5
    assert passes("aiokafka.other", said) == said
    assert passes("nightline", said) == passes("nightline", said) == said
    now[0] = 31.0
    assert passes("aiokafka", said + "3") == f"{said}3 (5 more like it were held back)"


@pytest.mark.parametrize("value", ["", "host", "host:", ":9092", "host:0", "host:65536", "kafka://host:1", "a:1,,b:2"])
def test_a_bootstrap_that_is_no_address_is_refused_in_one_line(value: str) -> None:
    result = CliRunner().invoke(nightline, ["topics", "list", "--bootstrap", value])
    assert result.exit_code != 0
    assert result.output == f"Error: --bootstrap: found {value!r}; possible: host:port[,host:port…], ports 1 to 65535\n"
