"""Records whose header names are not UTF-8, which aiokafka's reader raises UnicodeDecodeError for, and so for ever.

Kafka says that a header's name is UTF-8, but no broker looks, and a producer in C or Go sends any bytes. aiokafka 0.14
reads records lazily in `PartitionRecords`, outside of its own error handling: the error ends the worker, and comes again
with every start. `install` puts a reader around aiokafka's that reads such a batch once more, by itself, from the record
that failed on. In a name, what is no UTF-8 becomes text: byte 0xff becomes `\\xff`, which any producer can send on.
Batches without such a name are read as ever, by aiokafka's compiled reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from struct import unpack_from
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint


def install() -> None:
    """Make every aiokafka consumer of this process read leniently. Raises RuntimeError where aiokafka has changed."""
    if getattr(fetcher, "MemoryRecords", None) not in (MemoryRecords, Records):
        raise RuntimeError("aiokafka makes its records elsewhere than in 0.13 and 0.14")
    fetcher.MemoryRecords = Records


class Records:
    """What one fetch brought of a partition, as aiokafka's MemoryRecords."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._records = MemoryRecords(data)
        self.has_next, self.size_in_bytes = self._records.has_next, self._records.size_in_bytes

    def next_batch(self) -> Any:
        """The next batch, None behind the last."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        start = self._at
        self._at += 12 + unpack_from(">i", self._data, start + 8)[0]  # every format: offset i8, length i4, so many bytes
        return _Batch(batch, memoryview(self._data)[start : self._at])


class _Batch:
    """A batch of aiokafka's; iterating goes on leniently where the compiled reader gives up."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch, self._data = batch, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:  # of a control batch, whose records have no headers
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        done = 0
        try:
            for record in self._batch:
                yield record
                done += 1
        except UnicodeDecodeError:
            rest = islice(_Lenient(self._data), done, None)
        else:
            return
        yield from rest


class _Lenient(_DefaultRecordBatchPy):  # type: ignore[misc] # final to mypy
    """aiokafka's reader in Python, except for the names. IndexError and ValueError it takes for a corrupt record."""

    def _read_msg(self, *_: Any) -> _DefaultRecordPy:
        buffer, at = self._buffer, self._pos

        def number() -> int:
            nonlocal at
            value, at = decode_varint(buffer, at)
            return value

        def field() -> bytes | None:
            nonlocal at
            size = number()
            if size < 0:
                return None
            at += size
            return bytes(buffer[at - size : at])

        size = number()
        end = at + size
        number()  # attributes, none is in use
        stamp, offset = number(), self.base_offset + number()
        time_ms = self.max_timestamp if self.timestamp_type == self.LOG_APPEND_TIME else self.first_timestamp + stamp
        key, value = field(), field()
        headers = [((field() or b"").decode(errors="backslashreplace"), field()) for _ in range(number())]
        if at != end:
            raise ValueError(f"a record of {size} bytes ends {at - end} bytes off")
        self._pos = at
        return _DefaultRecordPy(offset, time_ms, self.timestamp_type, key, value, headers)
