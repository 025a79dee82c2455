"""All records of one partition's fetch as one Faust event, and the chain that tells when one was lost on its way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import faust
import numpy as np
from faust.serializers.codecs import Codec
from faust.types import TP
from numpy.typing import NDArray

from models.wire import FIRST_MS, LAST_MS
from streams.records import COLUMNS, UNKNOWN_MS, Records, as_records

_NO_RECORDS: Final = Records("", -1, np.zeros(0, np.uint8), *(np.zeros(0, np.int64) for _ in COLUMNS))


class Block:
    """All records of one partition that one fetch brought, as one Kafka record for Faust.

    `records` are columns (`streams.records.Records`), and a sequence of records as aiokafka has them.
    """

    __slots__ = ("count", "end", "epoch", "offset", "partition", "previous_end", "records", "timestamp", "topic")

    # what Faust reads of a record besides
    timestamp_type = None
    headers = ()
    checksum = None
    serialized_key_size = 0
    serialized_value_size = 0
    key = None

    def __init__(self, records: Sequence[Any], previous_end: int | None = None, epoch: int = 0) -> None:
        self.records = columns = as_records(records)
        self.count = len(columns)
        self.topic: str = columns.topic
        self.partition: int = columns.partition
        self.offset: int = int(columns.offset[0])
        self.timestamp: int = int(columns.time_ms[0])
        self.end: int = int(columns.offset[-1]) + 1
        self.previous_end = previous_end
        self.epoch = epoch

    def let_go(self) -> None:
        """Of the records: a processed block waits for what it brought about, and a compressed fetch may be 60 MiB."""
        self.records = _NO_RECORDS

    @property
    def value(self) -> Block:
        """Faust hands a record's value to the agent: the block itself."""
        return self

    @property
    def tp(self) -> TP:
        """Topic and partition."""
        return TP(self.topic, self.partition)

    def __repr__(self) -> str:
        return f"Block({self.topic}-{self.partition} [{self.offset}, {self.end}), {self.count} records)"


def times_ms(records: Sequence[Any]) -> NDArray[np.int64]:
    """(n,) each message's own time, `UNKNOWN_MS` where that is none.

    Any 64 bits may stand there: a topic's limits on them are off by default before Kafka 3.6. Format 0 has none.
    """
    times = as_records(records).time_ms
    return np.where((times >= FIRST_MS) & (times <= LAST_MS), times, UNKNOWN_MS)


class PassThrough(Codec):
    """Hands a block on as it is; produces bytes as they are."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


BLOCKS: Final = PassThrough()


def block_topic(app: faust.App, name: str) -> Any:
    """A Faust topic whose events are blocks."""
    return app.topic(name, value_serializer=BLOCKS, key_serializer=BLOCKS, value_type=None, key_type=None, internal=False)


class BrokenChainError(RuntimeError):
    """Faust lost a fetched block on its way to the agent, or handed one over twice."""


class Continuity:
    """Holds the agent against the chain of blocks. One for each agent."""

    def __init__(self) -> None:
        self._end: dict[TP, int] = {}

    def check(self, block: Block) -> None:
        """Raises BrokenChainError when a block is missing between the last that has passed and this one."""
        before = self._end.get(block.tp)
        if block.previous_end is not None and block.previous_end != before:
            raise BrokenChainError(
                f"{block.topic} partition {block.partition}: got the block that follows offset {block.previous_end}, "
                f"expected the one that follows {before}; nothing of it was acknowledged, a restart reads it again"
            )

    def passed(self, block: Block) -> None:
        """The block was processed."""
        self._end[block.tp] = block.end
