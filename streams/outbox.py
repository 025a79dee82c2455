"""What an agent wants published, and the one way to publish it: nothing is acknowledged before the broker has it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from streams.topics import topic_name

if TYPE_CHECKING:
    import faust


class Message(NamedTuple):
    """One message to one of the nine topics. A value of None is a tombstone, except in the dead-letter topic."""

    dataset: str
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


async def publish(app: faust.App, prefix: str, messages: Iterable[Message]) -> None:
    """Send all, in order, and return when all replicas in sync have all of them.

    Raises what the broker said of the first that failed.
    """
    send = app.producer.send
    pending = [
        await send(topic_name(prefix, dataset), key, value, None, None, headers) for dataset, key, value, headers in messages
    ]
    if pending:
        await asyncio.gather(*pending)
