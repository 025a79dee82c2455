"""What an agent wants published, and the one way to publish it: nothing is acknowledged before the broker has it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from streams.topics import topic_name

if TYPE_CHECKING:
    import faust


PUBLISH_SECONDS: Final = 60.0
"""The clients give up on a request after 40 s, but wait for ever for a topic that was deleted meanwhile."""


class PublishTimeoutError(RuntimeError):
    """The broker did not confirm in time; the message is one clear line."""


class Message(NamedTuple):
    """One message to one of the nine topics. A value of None is a tombstone, except in the dead-letter topic."""

    dataset: str
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int | None = None
    """None: by the key."""


async def publish(app: faust.App, prefix: str, messages: Iterable[Message]) -> None:
    """Send all, in order, and return when all replicas in sync have all of them.

    Raises what the broker said of the first that failed, or PublishTimeoutError.
    """
    send = app.producer.send
    wanted = list(messages)
    try:
        async with asyncio.timeout(PUBLISH_SECONDS) as deadline:
            pending = [
                await send(topic_name(prefix, dataset), key, value, partition, None, headers)
                for dataset, key, value, headers, partition in wanted
            ]
            if pending:
                await asyncio.gather(*pending)
    except TimeoutError:
        if not deadline.expired():
            raise
        topics = ", ".join(sorted({topic_name(prefix, message.dataset) for message in wanted}))
        raise PublishTimeoutError(
            f"{len(wanted)} messages to {topics}: the broker has not confirmed all of them within {PUBLISH_SECONDS:.0f} s; "
            "possible: a topic was deleted, or too few replicas are in sync"
        ) from None
