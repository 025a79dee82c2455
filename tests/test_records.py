"""streams/records.py and streams/fetched.py: the same records as aiokafka reads, and those it cannot read."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.blocks import Block
from streams.dlq import dead_letter
from streams.fetched import IN_COLUMNS, install
from streams.records import Record, Records, as_records, read_batches
from streams.router import Router
from streams.topics import DEAD_LETTERS
from tests.synthetic import make_site


class RawName(str):
    """A header name that is these bytes on the wire."""

    __slots__ = ("raw",)

    def __new__(cls, raw: bytes) -> RawName:
        name = super().__new__(cls, "raw")
        name.raw = raw
        return name

    def encode(self, *_: object) -> bytes:
        return self.raw


BAD = RawName(b"tr\xffce")
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4


def batch(*names: str, compression: int = 0, first: int = 0) -> bytes:
    """One record a name, in one batch as it lies in a log."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2, compression_type=compression, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 20,
    )  # fmt: skip
    for at, name in enumerate(names):
        value = None if at == 1 else b"value %d" % at
        headers = [(name, b"1"), ("null", None), ("", b"")]
        assert builder.append(at, timestamp=1_000_000 + at, key=b"k" if at else None, value=value, headers=headers)
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8, "big")  # not part of the checksum: brokers set it
    return bytes(data)


def sealed(data: bytearray) -> bytes:
    """With the checksum that belongs to it."""
    data[17:21] = struct.pack(">I", calc_crc32c(bytes(data[21:])))
    return bytes(data)


def of_aiokafka(data: bytes) -> list[Record]:
    """What aiokafka's own reader finds."""
    source, found = MemoryRecords(data), []
    while source.has_next():
        found += [
            Record("raw", 0, one.offset, one.timestamp, one.key, one.value, list(one.headers)) for one in source.next_batch()
        ]
    return found


def read(data: bytes, first: int = 0) -> list[Record]:
    found, _ = read_batches("raw", 0, data, first)
    return [] if found is None else list(found)


def fetch(data: bytes, first: int, key: object = IN_COLUMNS) -> fetcher.PartitionRecords:
    install()
    return fetcher.PartitionRecords(
        TopicPartition("raw", 0), fetcher.MemoryRecords(data), [], first, key, None, True, fetcher.READ_UNCOMMITTED
    )


def test_compiled_reader_fails_on_such_a_name():
    # once this passes no more, aiokafka has mended it
    with pytest.raises(UnicodeDecodeError):
        of_aiokafka(batch("good", BAD))


@pytest.mark.parametrize("compression", [0, GZIP, SNAPPY, LZ4, ZSTD])
@pytest.mark.parametrize("place", range(4))
def test_a_record_with_such_a_name_is_read_and_all_others_as_ever(place: int, compression: int):
    names: list[str] = ["good"] * 4
    good = of_aiokafka(batch(*names, compression=compression, first=70))
    names[place] = BAD
    found = read(batch(*names, compression=compression, first=70) + batch("next", first=74))
    good[place].headers[0] = ("tr\\xffce", b"1")
    assert found[:4] == good
    assert found[4].offset == 74


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 2**40), st.none() | st.binary(max_size=200), st.none() | st.binary(max_size=70_000),
                st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3),
            ),
            min_size=1, max_size=6,
        ),
        min_size=1, max_size=4,
    ),
    st.sampled_from([0, GZIP, SNAPPY, LZ4, ZSTD]),
    st.data(),
)  # fmt: skip
def test_the_same_records_as_aiokafka_from_any_offset(batches: list, compression: int, data: st.DataObject):
    fetched, following = b"", 5
    for records in batches:
        builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, -1, 1 << 22)
        for at, (time_ms, key, value, headers) in enumerate(records):
            assert builder.append(at, timestamp=time_ms, key=key, value=value, headers=headers)
        one = bytearray(builder.build())
        one[:8] = following.to_bytes(8, "big")
        fetched += bytes(one)
        following += len(records) + data.draw(st.integers(0, 2))  # compaction leaves holes
    expected = of_aiokafka(fetched)
    first = data.draw(st.integers(0, following))
    torn = fetched + fetched[: data.draw(st.integers(0, 60))]  # a fetch may end in the middle of a batch
    found, next_offset = read_batches("raw", 0, torn, first)
    wanted = [record for record in expected if record.offset >= first]
    assert ([] if found is None else list(found)) == wanted
    assert next_offset == max(first, expected[-1].offset + 1)
    if found is not None:
        spans = zip(found.value_at.tolist(), found.value_size.tolist(), strict=True)
        values = [None if size < 0 else found.data[at : at + size].tobytes() for at, size in spans]
        assert values == [record.value for record in wanted]
        again = Records.of(wanted)
        assert list(again) == wanted
        cut = data.draw(st.integers(0, len(wanted)))
        assert list(found[:cut] + found[cut:]) == wanted
        assert list(as_records([found, again])) == wanted * 2


def test_append_time_is_the_batchs_and_control_batches_are_passed_over():
    stamped = bytearray(batch("a", "b", first=3))
    stamped[22] |= 0x08
    control = bytearray(batch("c", first=5))
    control[22] |= 0x20
    data = sealed(stamped) + sealed(control)
    found, following = read_batches("raw", 0, data, 0)
    assert found is not None
    assert found.time_ms.tolist() == [1_000_001, 1_000_001]
    assert following == 6
    assert read_batches("raw", 0, sealed(control), 0) == (None, 6)


def test_a_batch_that_is_corrupt_is_said_to_be_corrupt():
    good = batch("good", "better")
    flipped = bytearray(good)
    flipped[-1] ^= 1
    with pytest.raises(CorruptRecordException, match="Invalid CRC - raw partition 0 offset 0"):
        read(bytes(flipped))
    many = bytearray(good)
    many[57:61] = (2**31 - 1).to_bytes(4, "big")
    with pytest.raises(CorruptRecordException, match="more records than bytes"):
        read(sealed(many))
    for at in range(61, len(good)):
        for change in (1, 2, 0x7F, 0x80, 0xFF):
            torn = bytearray(good)
            torn[at] ^= change
            found = []
            with contextlib.suppress(CorruptRecordException):
                found = read(sealed(torn))
            assert len(found) in (0, 2)


def test_a_codec_that_is_not_there_is_named():
    strange = bytearray(batch("a"))
    strange[22] |= 7
    with pytest.raises(Exception, match=r"compression codec 7; possible: \[1, 2, 3, 4\]"):
        read(sealed(strange))


def test_a_fetch_hands_the_records_on_and_goes_on_behind_them():
    data = batch("a", BAD, "c", first=10) + batch("d", first=13)
    records = fetch(data, 11)
    (found,) = records
    assert found.offset.tolist() == [11, 12, 13]
    assert records.next_fetch_offset == 14
    assert [one.offset for one in fetch(batch("a", "b"), 1, None)] == [1]  # nobody else's consumer is changed
    legacy = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 20)
    legacy.append(0, timestamp=5, key=b"a", value=b"b")
    (old,) = fetch(bytes(legacy.build()), 0)
    assert list(old) == [Record("raw", 0, 0, 5, b"a", b"b", [])]


def test_its_dead_letter_carries_the_name_and_can_be_sent():
    (records,) = fetch(batch("a", BAD), 0)
    letters = [message for message in Router(make_site()).route(Block(records)) if message.dataset == DEAD_LETTERS]
    headers = letters[1].headers
    assert ("tr\\xffce", b"1") in headers
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 20,
    )  # fmt: skip
    assert builder.append(0, timestamp=1, key=b"", value=None, headers=headers)
    assert next(iter(DefaultRecordBatch(bytes(builder.build())))).headers == headers
    assert dead_letter(records[1], "why").headers[-4][0] == "reason"
    assert np.array_equal(records.value_size, [7, -1])
