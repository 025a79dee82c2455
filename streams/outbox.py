"""What an agent wants published, and the one way to publish it: nothing is acknowledged before the broker has it.

`Outbox.post` puts messages on their way and hands back a future; an agent takes the next block while the broker confirms
the last. Whatever waits for one partition goes as one record batch: aiokafka's own `send` is a coroutine and a future for
each message, 15-21 µs of processor time with everything, against 5-6 µs here (130 messages a post, 2026-11-27). Of a
partition one batch is under way at a time, so its messages keep their order, also when one is tried again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError

from streams.topics import MIB, topic_name

if TYPE_CHECKING:
    import faust

    from models.schema import Alert


PUBLISH_SECONDS: Final = 60.0
"""The clients give up on a request after 40 s, but wait for ever for a topic that was deleted meanwhile."""


MOST_BYTES: Final = 32 * MIB
"""Under way at a time, or one message alone. The client makes one request of the batches of all partitions, and a broker
closes the connection at one above 100 MiB, each time that it is tried again: a dozen dead letters of 16 MiB each stopped a
worker for good (2026-11-27)."""
KEYS_KEPT: Final = 1 << 14
_LONGEST_KEPT: Final = 128


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


class Posted(NamedTuple):
    """What a block brought about, on its way."""

    confirmed: asyncio.Future[None]
    messages: list[Message]
    alerts: list[Alert]


class _Post:
    """Messages that were posted together, until the last of them is confirmed or one has failed."""

    __slots__ = ("done", "left", "limit")

    def __init__(self, messages: Sequence[Message], prefix: str) -> None:
        loop = asyncio.get_running_loop()
        self.left = len(messages)
        self.done: asyncio.Future[None] = loop.create_future()
        self.done.add_done_callback(_looked_at)
        self.limit = loop.call_later(PUBLISH_SECONDS, self._expire, messages, prefix)
        if not messages:
            self.confirm(0)

    def confirm(self, count: int) -> None:
        self.left -= count
        if self.left == 0 and not self.done.done():
            self.limit.cancel()
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        self.limit.cancel()
        if not self.done.done():
            self.done.set_exception(error)

    def _expire(self, messages: Sequence[Message], prefix: str) -> None:
        topics = ", ".join(sorted({topic_name(prefix, message.dataset) for message in messages}))
        self.fail(
            PublishTimeoutError(
                f"{len(messages)} messages to {topics}: the broker has not confirmed all of them within "
                f"{PUBLISH_SECONDS:.0f} s; possible: a topic was deleted, or too few replicas are in sync"
            )
        )


def _looked_at(done: asyncio.Future[None]) -> None:
    """Of several posts that fail together only the first is waited for; asyncio would complain of the others."""
    if not done.cancelled():
        done.exception()


class _Lane:
    """What waits for one partition; with None, for the word which partition that is."""

    __slots__ = ("task", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[Message, _Post]] = deque()
        self.task: asyncio.Task[None] | None = None


class Outbox:
    """Everything that one worker publishes."""

    def __init__(self, app: faust.App, prefix: str) -> None:
        self._app, self._prefix = app, prefix
        self._lanes: dict[tuple[str, int | None], _Lane] = {}
        self._chosen: dict[tuple[str, int], dict[bytes, int]] = {}
        """Of a topic with so many partitions: that of each key. The hash is written in Python, 5 µs."""
        self._bytes, self._freed = 0, asyncio.Event()
        """Under way, and when some of it no longer is."""
        self._refused: Exception | None = None
        """What was said of the first that failed. From then on nothing is sent: a DMA's state would take readings that were
        refused, and come again after a restart, for readings it has had."""

    def post(self, messages: Sequence[Message]) -> asyncio.Future[None]:
        """Send all, in order within each partition; the future is done when all replicas in sync have all of them.

        It raises what the broker said of the first that failed, or PublishTimeoutError. Cancelling it stops nothing.
        """
        post = _Post(messages, self._prefix)
        if self._refused is not None:
            post.fail(self._refused)
            return post.done
        for message in messages:
            self._queue(message, post, message.partition)
        return post.done

    def _queue(self, message: Message, post: _Post, partition: int | None) -> None:
        lane = self._lanes.get((message.dataset, partition))
        if lane is None:
            lane = self._lanes[message.dataset, partition] = _Lane()
        lane.waiting.append((message, post))
        if lane.task is None:
            # not before the caller yields: what is posted until then goes in one batch
            work = self._sort(message.dataset, lane) if partition is None else self._send(message.dataset, partition, lane)
            lane.task = asyncio.get_running_loop().create_task(work)

    async def _sort(self, dataset: str, lane: _Lane) -> None:
        """To each message the partition of its key, once the topic is known."""
        waiting = lane.waiting
        try:
            producer, topic = self._producer, topic_name(self._prefix, dataset)
            chosen = self._chosen.setdefault((dataset, len(await producer.partitions_for(topic))), {})
            if len(chosen) > KEYS_KEPT:
                chosen.clear()
            self._check()
            while waiting:
                message, post = waiting[0]
                partition = chosen.get(message.key)
                if partition is None:
                    partition = self._app.producer.key_partition(topic, message.key).partition
                    if len(message.key) <= _LONGEST_KEPT:  # that of a dead letter is whatever came
                        chosen[message.key] = partition
                self._queue(message, post, partition)
                waiting.popleft()
        except Exception as error:
            self._refuse(error, [post for _, post in waiting])
            waiting.clear()
        finally:
            lane.task = None

    async def _send(self, dataset: str, partition: int, lane: _Lane) -> None:
        waiting = lane.waiting
        under_way: list[_Post] = []
        try:
            producer, topic = self._producer, topic_name(self._prefix, dataset)
            while waiting:
                under_way = []
                first = waiting[0][0]
                await self._room(len(first.key) + len(first.value or b""))
                self._check()
                batch = producer.create_batch()
                while waiting:
                    message, post = waiting[0]
                    if batch.append(timestamp=None, key=message.key, value=message.value, headers=message.headers) is None:
                        break
                    waiting.popleft()
                    under_way.append(post)
                batch.close()
                size = batch.size()
                self._bytes += size
                try:
                    await (await producer.send_batch(batch, topic, partition=partition))
                finally:
                    self._bytes -= size
                    self._freed.set()
                for post in under_way:
                    post.confirm(1)
        except Exception as error:
            self._refuse(error, [*under_way, *(post for _, post in waiting)])
            waiting.clear()
        finally:
            lane.task = None

    @property
    def _producer(self) -> Any:
        """aiokafka's: Faust hands on single messages only."""
        return self._app.producer._ensure_producer()  # type: ignore[attr-defined]

    async def _room(self, size: int) -> None:
        """Until a message of this size may go."""
        while self._bytes and self._bytes + size > MOST_BYTES and self._refused is None:
            self._freed.clear()
            await self._freed.wait()

    def _check(self) -> None:
        if self._refused is not None:
            raise self._refused

    def _refuse(self, error: Exception, posts: Sequence[_Post]) -> None:
        if self._refused is None:
            self._refused = ProducerSendError(f"Error while sending: {error!r}") if isinstance(error, KafkaError) else error
        for post in posts:
            post.fail(self._refused)
