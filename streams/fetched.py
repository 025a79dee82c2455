"""What aiokafka has fetched of a partition, handed on as columns (`streams.records`) instead of record by record.

aiokafka unpacks a fetch in `fetcher.PartitionRecords`; `install` puts one around it that gives, to the consumers that ask
for it with `IN_COLUMNS` as their key's deserializer, one `Records` for all of a fetch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords

from streams.records import Records, is_current_format, read_batches

PARTITION_RECORDS: Final = fetcher.PartitionRecords


def IN_COLUMNS(key: Any) -> Any:  # noqa: N802 - a mark more than a function
    """Marks a consumer that wants columns."""
    return key


class Fetched:
    """aiokafka's MemoryRecords, and the bytes they are read from."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._records = MemoryRecords(data)
        self.has_next, self.size_in_bytes = self._records.has_next, self._records.size_in_bytes
        self.next_batch = self._records.next_batch


class PartitionRecords(PARTITION_RECORDS):  # type: ignore[misc, valid-type] # untyped
    """One item, the `Records` of the whole fetch, for a consumer that wants columns; else aiokafka's own."""

    def __init__(
        self, tp: Any, records: Fetched, aborted: Any, first: int, key: Any, value: Any, crcs: Any, level: Any
    ) -> None:
        in_columns = key is IN_COLUMNS
        super().__init__(tp, records, aborted, first, None if in_columns else key, value, crcs, level)
        if in_columns:
            if self._isolation_level != fetcher.READ_UNCOMMITTED:
                raise ValueError("columns are read without transactions; possible: isolation level read_uncommitted")
            self._records_iterator = self._whole(tp, records.data)

    def _whole(self, tp: Any, data: bytes) -> Iterator[Records]:
        if not is_current_format(data):
            if found := list(self._unpack_records()):
                yield Records.of(found)
            return
        records, following = read_batches(tp.topic, tp.partition, data, self.next_fetch_offset)
        # before it is handed on: aiokafka asks for it then
        self.next_fetch_offset = following
        if records is not None:
            yield records


def install() -> None:
    """For every aiokafka consumer of this process. Raises RuntimeError where aiokafka has changed."""
    if getattr(fetcher, "MemoryRecords", None) not in (MemoryRecords, Fetched) or not hasattr(
        PARTITION_RECORDS, "_unpack_records"
    ):
        raise RuntimeError("aiokafka unpacks its records elsewhere than in 0.13 and 0.14")
    fetcher.MemoryRecords = Fetched
    fetcher.PartitionRecords = PartitionRecords
