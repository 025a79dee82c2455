"""Records of one partition as columns, read from the bytes of a fetch without an object for each.

aiokafka makes an object of every record, 1.5 µs; here one compiled pass over a fetch notes where key, value and headers
lie, some 20 ns a record. `Records` is a sequence, and makes an object of the few records that somebody looks at.

A header's name that is not UTF-8 becomes text: byte 0xff becomes `\\xff`, which any producer can send on. Kafka says that
it is UTF-8, but no broker looks, and a producer in C or Go sends any bytes; aiokafka 0.14 stops at it for good.

Source of the format: Apache Kafka, "Message Format", record batch of magic 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, overload

import numba
import numpy as np
from aiokafka import codec
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.util import calc_crc32c, decode_varint
from numpy.typing import NDArray

UNKNOWN_MS: Final = -1
"""The time of a message without one."""


class Record(NamedTuple):
    """One record, as aiokafka has it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


@dataclass(frozen=True, eq=False)
class Records(Sequence[Record]):
    """(n,) records of a partition in order of their offsets. A slice shares the bytes; an index makes a `Record`.

    `*_at` and `*_size` are where a field lies in `data`; a size of -1 is null. Headers begin with their number.
    """

    topic: str
    partition: int
    data: NDArray[np.uint8]
    offset: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    key_at: NDArray[np.int64]
    key_size: NDArray[np.int64]
    value_at: NDArray[np.int64]
    value_size: NDArray[np.int64]
    headers_at: NDArray[np.int64]
    headers_size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offset)

    @overload
    def __getitem__(self, which: int) -> Record: ...
    @overload
    def __getitem__(self, which: slice) -> Records: ...
    def __getitem__(self, which: int | slice) -> Record | Records:
        if isinstance(which, slice):
            return Records(
                self.topic, self.partition, self.data, *(getattr(self, name)[which] for name in COLUMNS)
            )  # fmt: skip
        return Record(
            self.topic, self.partition, int(self.offset[which]), int(self.time_ms[which]),
            self._field(self.key_at[which], self.key_size[which]),
            self._field(self.value_at[which], self.value_size[which]), _headers(self.headers_bytes(which)),
        )  # fmt: skip

    def __add__(self, other: Records) -> Records:
        """These and what follows them."""
        if not len(self):
            return other
        shift = len(self.data)
        columns = [
            np.concatenate((getattr(self, name), getattr(other, name) + (shift if name.endswith("_at") else 0)))
            for name in COLUMNS
        ]
        return Records(self.topic, self.partition, np.concatenate((self.data, other.data)), *columns)

    def _field(self, at: int, size: int) -> bytes | None:
        return None if size < 0 else self.data[at : at + size].tobytes()

    def headers_bytes(self, which: int) -> bytes:
        """The headers of one record as they lie in the log: alike where these are."""
        return self._field(self.headers_at[which], self.headers_size[which]) or NO_HEADERS

    @classmethod
    def of(cls, records: Iterable[Any]) -> Records:
        """From objects like aiokafka's, at least one. What comes in the formats before 2017 is rare."""
        found = list(records)
        parts: list[bytes] = []
        rows = []
        end = 0
        for one in found:
            row = [one.offset, UNKNOWN_MS if one.timestamp is None else one.timestamp]
            for part in (one.key, one.value, _packed(one.headers)):
                row += [end, -1 if part is None else len(part)]
                parts.append(part or b"")
                end += len(parts[-1])
            rows.append(row)
        columns = np.array(rows, np.int64).T
        return cls(found[0].topic, found[0].partition, np.frombuffer(b"".join(parts), np.uint8), *columns)


COLUMNS: Final = tuple(field.name for field in fields(Records))[3:]
NO_HEADERS: Final = b"\0"


def as_records(found: Sequence[Any]) -> Records:
    """What was fetched of one partition as one `Records`: of some already, in order, or of objects like aiokafka's."""
    if isinstance(found, Records):
        return found
    if not isinstance(found[0], Records):
        return Records.of(found)
    whole = found[0]
    for part in found[1:]:
        whole = whole + part
    return whole


# headers


def _headers(data: bytes) -> list[tuple[str, bytes | None]]:
    count, at = decode_varint(data, 0)
    found = []
    for _ in range(count):
        size, at = decode_varint(data, at)
        name, at = data[at : at + size], at + size
        size, at = decode_varint(data, at)
        value, at = (None, at) if size < 0 else (data[at : at + size], at + size)
        found.append((name.decode(errors="backslashreplace"), value))
    return found


def _packed(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """The bytes of headers, as `_headers` reads them."""
    found = list(headers)
    out = bytearray(_varint(len(found)))
    for name, value in found:
        raw = name.encode()
        out += _varint(len(raw)) + raw + _varint(-1 if value is None else len(value)) + (value or b"")
    return bytes(out)


def _varint(number: int) -> bytes:
    left, out = number << 1 if number >= 0 else (-number << 1) - 1, bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    return bytes((*out, left))


# batches

_BATCH: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset's delta, first and greatest time, producer's id and
epoch, sequence, number of records."""
_BEFORE_LENGTH: Final = 12
_FROM_ATTRIBUTES: Final = 21
_CODEC, _APPEND_TIME, _CONTROL = 0x07, 0x08, 0x20
_DECODERS: Final = {1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode, 4: codec.zstd_decode}
_HAS: Final = {1: codec.has_gzip, 2: codec.has_snappy, 3: codec.has_lz4, 4: codec.has_zstd}


_OWN: Final = np.iinfo(np.int64).min
"""In place of a batch's append time: each record has its own time."""


def is_current_format(data: bytes) -> bool:
    """Whether all batches of a fetch are of magic 2, as all are that were written since 2017."""
    return all(data[at + 16] == 2 for at, _ in _slices(data))


def _slices(data: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each whole batch; the last of a fetch may be torn, and is fetched again."""
    at = 0
    while len(data) - at >= _BEFORE_LENGTH:
        end = at + _BEFORE_LENGTH + int.from_bytes(data[at + 8 : at + 12], "big")
        if end > len(data):
            return
        yield at, end
        at = end


def read_batches(topic: str, partition: int, data: bytes, first: int) -> tuple[Records | None, int]:
    """Records from offset `first` on of a fetch's bytes, None where there are none, and the offset to fetch next.

    The next offset may lie behind the last record: compaction takes records out, and control batches are none. Raises
    CorruptRecordException or UnsupportedCodecError.
    """
    view = memoryview(data)
    parts: list[Any] = []
    segments = []
    at_part, following = 0, first
    for begin, end in _slices(data):
        header = _BATCH.unpack_from(data, begin)
        base, attributes, delta, first_ms, max_ms, count = (header[0], *header[5:9], header[12])
        if calc_crc32c(view[begin + _FROM_ATTRIBUTES : end]) != header[4]:
            raise CorruptRecordException(f"Invalid CRC - {topic} partition {partition} offset {base}")
        if not attributes & _CONTROL and count:
            part = _plain(view[begin + _BATCH.size : end], attributes & _CODEC)
            parts.append(part)
            append_ms = max_ms if attributes & _APPEND_TIME else _OWN
            segments.append((at_part, at_part + len(part), base, first_ms, append_ms, count))
            at_part += len(part)
        following = max(following, base + delta + 1)
    if not segments:
        return None, following
    joined_data = np.frombuffer(b"".join(parts), np.uint8)
    table = np.array(segments, np.int64)
    # a record takes at least 7 bytes: what claims more is corrupt, and must not take the memory
    if (table[:, 5] < 0).any() or (table[:, 5] * 7 > table[:, 1] - table[:, 0]).any():
        raise CorruptRecordException(f"{topic} partition {partition} offset {first}: more records than bytes")
    columns = np.empty((len(COLUMNS), int(table[:, 5].sum())), np.int64)
    wrong = scan(joined_data, table, columns)
    if wrong >= 0:
        raise CorruptRecordException(
            f"{topic} partition {partition}: a record of the batch at offset {table[wrong, 2]} is torn"
        )
    found = Records(topic, partition, joined_data, *columns)
    if found.offset[0] < first:  # compressed batches come whole
        found = found[int(np.searchsorted(found.offset, first)) :]
    return (found if len(found) else None), following


def _plain(data: memoryview, compression: int) -> Any:
    if not compression:
        return data
    if compression not in _DECODERS or not _HAS[compression]():
        raise UnsupportedCodecError(f"record batch with compression codec {compression}; possible: {sorted(_DECODERS)}")
    return _DECODERS[compression](data.tobytes())


def warm_up() -> None:
    """Compiles what reads a fetch; the consumer's thread would do it while its group waits."""
    scan(np.frombuffer(b"\0", np.uint8), np.zeros((0, 6), np.int64), np.empty((len(COLUMNS), 0), np.int64))


@numba.njit(cache=True, nogil=True, inline="always")
def _number(data, at, stop):  # type: ignore[no-untyped-def] # compiled
    """A zigzag varint and where it ends; -1 where it does not, or where `at` was -1 already."""
    if 0 <= at < stop and data[at] < 128:  # nearly all are of one byte
        return np.int64(data[at] >> 1) ^ -np.int64(data[at] & 1), at + 1
    value, shift = np.uint64(0), np.uint64(0)
    while 0 <= at < stop and shift < np.uint64(70):
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at
        shift += np.uint64(7)
    return np.int64(0), np.int64(-1)


@numba.njit(cache=True, nogil=True, inline="always")
def _bytes(data, at, stop, least):  # type: ignore[no-untyped-def] # compiled
    """Size and begin of a field of at least `least` bytes (-1 is null), and where it ends, -1 where it does not."""
    size, begin = _number(data, at, stop)
    if begin < 0 or size < least or size > stop - begin:
        return size, begin, np.int64(-1)
    return size, begin, begin + max(size, 0)


@numba.njit(cache=True, nogil=True)
def scan(data, segments, columns):  # type: ignore[no-untyped-def] # compiled
    """Where the records of batches lie: fills `columns` (in the order of COLUMNS, n); the row of a torn batch or -1.

    `data` (bytes,) uint8 is the records of all batches, uncompressed; `segments` (m, 6): begin, end, base offset,
    first time, append time or `_OWN`, number of records.
    """
    row = 0
    for segment in range(len(segments)):
        at, stop, base, first_ms, append_ms, count = segments[segment]
        before = -1
        for _ in range(count):
            _, begin, end = _bytes(data, at, stop, 0)
            if end <= begin:
                return segment
            stamp, at = _number(data, begin + 1, end)  # behind the attributes, of which none is in use
            delta, at = _number(data, at, end)
            columns[0, row] = base + delta
            columns[1, row] = first_ms + stamp if append_ms == _OWN else append_ms
            columns[3, row], columns[2, row], at = _bytes(data, at, end, -1)
            columns[5, row], columns[4, row], at = _bytes(data, at, end, -1)
            columns[6, row], columns[7, row] = at, end - at
            headers, at = _number(data, at, end)
            if headers < 0 or headers > end - at or delta <= before:
                return segment
            before = delta
            for _ in range(headers):
                _, _, at = _bytes(data, at, end, 0)
                _, _, at = _bytes(data, at, end, -1)
            if at != end:
                return segment
            row += 1
        if at != stop:
            return segment
    return -1
