"""Kafka as lists."""

from __future__ import annotations

import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from streams.outbox import Message

PARTITIONS: Final = 3


@dataclass
class Record:
    """As aiokafka's."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Kafka:
    """Partitioned logs, one group's offsets, and who owns which partition."""

    logs: dict[tuple[str, int], list[Record]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[tuple[str, int], int] = field(default_factory=dict)
    owner: dict[tuple[str, int], int] = field(default_factory=dict)

    def append(self, message: Message, timestamp: int = 0) -> None:
        partition = message.partition if message.partition is not None else zlib.crc32(message.key) % PARTITIONS
        log = self.logs[message.dataset, partition]
        log.append(
            Record(
                message.dataset,
                partition,
                log[-1].offset + 1 if log else 0,
                timestamp,
                message.key,
                message.value,
                tuple(message.headers),
            )
        )

    def all_of(self, topic: str) -> list[Record]:
        return [record for number in range(PARTITIONS) for record in self.logs[topic, number]]
