"""The dead-letter topic: what could not be used, as it came, with the reason and where it came from."""

from __future__ import annotations

from typing import Any, Final

from streams.outbox import Message
from streams.topics import DEAD_LETTERS, RAW_LIMIT

REASON_LIMIT: Final = 2000
OVERHEAD: Final = 64 * 1024
"""Room for key, reason and the record's own framing beside the value."""
OURS: Final = frozenset(("reason", "topic", "partition", "offset", "size"))
"""Headers a reader of dead letters relies on. A sender's own of such a name are kept as `x-<name>`."""


def dead_letter(record: Any, reason: str) -> Message:
    """Key and raw bytes of `record` (aiokafka's), its own headers, and ours: reason, topic, partition, offset.

    A null value stays null; a header's becomes empty. A value beyond the topic's limit, which only a compressed batch can
    hold, is cut, and header `size` tells its length.
    """
    headers = [(f"x-{name}" if name in OURS else name, value or b"") for name, value in record.headers]
    headers += [
        ("reason", reason[:REASON_LIMIT].encode()),
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
    ]
    value = record.value
    if value is not None and len(value) > RAW_LIMIT + OVERHEAD:
        headers.append(("size", str(len(value)).encode()))
        value = value[:RAW_LIMIT]
    # Kafka clients refuse a message with neither key nor value
    return Message(DEAD_LETTERS, record.key if record.key is not None else b"", value, headers)
