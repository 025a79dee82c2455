"""The dead-letter topic: what could not be used, as it came, with the reason and where it came from."""

from __future__ import annotations

from typing import Any, Final

from streams.outbox import Message
from streams.topics import DEAD_LETTERS, RAW_LIMIT

REASON_LIMIT: Final = 2000
OVERHEAD: Final = 64 * 1024
"""Room for the reason and the record's own framing, and what is left of a key that is cut."""
OURS: Final = frozenset(("reason", "topic", "partition", "offset", "size", "cut"))
"""Headers a reader of dead letters relies on. A sender's own of such a name are kept as `x-<name>`."""


def dead_letter(record: Any, reason: str) -> Message:
    """Key and raw bytes of `record` (aiokafka's), its own headers, and ours: reason, topic, partition, offset.

    A null value stays null; a header's becomes empty. What is together beyond the topic's limit, which only a compressed
    batch can hold, is cut, or Kafka would refuse it after every restart again: headers beyond `OVERHEAD` are left out, a key
    beyond it and a value beyond the limit end early. Header `cut` names these, and `size` is the value's length.
    """
    key, value = record.key if record.key is not None else b"", record.value
    headers = [(f"x-{name}" if name in OURS else name, value or b"") for name, value in record.headers]
    cut = []
    of_headers = sum(len(name.encode()) + len(content) + _FRAMING for name, content in headers)
    if len(key) + len(value or b"") + of_headers > RAW_LIMIT + OVERHEAD:
        if of_headers > OVERHEAD:
            headers = []
            cut.append("headers")
        if len(key) > OVERHEAD:
            key = key[:OVERHEAD]
            cut.append("key")
    headers += [
        ("reason", reason[:REASON_LIMIT].encode()),
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
    ]
    if value is not None and len(value) > RAW_LIMIT + OVERHEAD:
        headers.append(("size", str(len(value)).encode()))
        value = value[:RAW_LIMIT]
        cut.append("value")
    if cut:
        headers.append(("cut", ", ".join(cut).encode()))
    # Kafka clients refuse a message with neither key nor value
    return Message(DEAD_LETTERS, key, value, headers)


_FRAMING: Final = 10
"""Bytes of the two lengths of a header, at most."""
