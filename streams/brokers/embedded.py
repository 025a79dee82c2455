"""A Kafka broker inside this process: librdkafka's mock cluster, which comes with the confluent-kafka wheel.

For the demo and for tests on machines without Java. It speaks the real protocol, with groups and rebalances, and keeps
everything in memory: a partition drops its oldest messages past 5 MB or 100,000 record sets; nothing is compacted;
topics cannot be created, they appear on first use with 4 partitions; a member that dies holds the group up for its
session timeout. kafka-python must be told an old version, see `topics.EMBEDDED_OPTIONS`.

It runs in this process: its threads are librdkafka's own and never hold the interpreter's lock, so neither a busy
worker nor a compiling kernel delays it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from streams.topics import KafkaUnavailableError


class EmbeddedBroker:
    """Context manager; entering gives the bootstrap address. Raises KafkaUnavailableError without confluent-kafka."""

    def __init__(self) -> None:
        self._producer: Any = None

    def __enter__(self) -> str:
        try:
            from confluent_kafka import Producer  # noqa: PLC0415 - an optional dependency
        except ImportError:
            raise KafkaUnavailableError(
                "the embedded broker needs the package confluent-kafka; install nightline with its 'demo' extra"
            ) from None
        self._producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "unused", "log_level": 3})
        broker = next(iter(self._producer.list_topics(timeout=10).brokers.values()))
        return f"{broker.host}:{broker.port}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._producer = None
