"""streams/outbox.py: in order, in batches, and confirmed as a whole or failed in one line. The producer is played."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from faust.exceptions import NotReady, ProducerSendError
from faust.types import TP

from streams import outbox
from streams.outbox import Message, Outbox, PublishTimeoutError
from streams.topics import ALERTS, CHECKPOINTS, DEAD_LETTERS, DETECTIONS, MIB

PARTITIONS = 4


class Batch:
    """As aiokafka's: full after three messages, whatever their size."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.bytes = 0
        self.is_closed = False

    def append(self, *, timestamp: None, key: bytes, value: bytes | None, headers: Any) -> object | None:  # noqa: ARG002
        if len(self.keys) == 3:
            return None
        self.keys.append(key)
        self.bytes += len(value or b"")
        return self

    def size(self) -> int:
        return self.bytes

    def close(self) -> None:
        self.is_closed = True


class Producer:
    """Of Faust's and aiokafka's, what an outbox asks."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, list[bytes]]] = []
        self.futures: list[asyncio.Future[None]] = []

    def _ensure_producer(self) -> Producer:
        return self

    async def partitions_for(self, _: str) -> set[int]:
        await asyncio.sleep(0)
        return set(range(PARTITIONS))

    def key_partition(self, topic: str, key: bytes) -> TP:
        return TP(topic, zlib.crc32(key) % PARTITIONS)

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        assert batch.is_closed
        await asyncio.sleep(0)
        self.sent.append((topic, partition, batch.keys))
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]


def played(play: Callable[[Producer, Outbox], Coroutine[Any, Any, None]]) -> None:
    producer = Producer()
    asyncio.run(play(producer, Outbox(type("App", (), {"producer": producer})(), "p")))  # type: ignore[arg-type]


def to(partition: int | None, *keys: str, dataset: str = CHECKPOINTS) -> list[Message]:
    return [Message(dataset, key.encode(), b"v", [], partition) for key in keys]


async def idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_waits_for_a_partition_goes_as_one_batch_and_the_next_not_before_it_is_confirmed() -> None:
    async def play(producer: Producer, box: Outbox) -> None:
        first = box.post(to(2, "a", "b"))
        second = box.post(to(2, "c", "d", "e"))
        await idle()
        assert producer.sent == [(f"p.{CHECKPOINTS}", 2, [b"a", b"b", b"c"])]
        producer.futures[0].set_result(None)
        await idle()
        assert first.done()
        assert not second.done()
        assert producer.sent[1:] == [(f"p.{CHECKPOINTS}", 2, [b"d", b"e"])]
        producer.futures[1].set_result(None)
        await second

    played(play)


def test_a_partition_does_not_wait_for_another() -> None:
    async def play(producer: Producer, box: Outbox) -> None:
        box.post(to(0, "a"))
        await idle()
        done = box.post(to(1, "b"))
        await idle()
        producer.futures[1].set_result(None)
        await done
        assert [partition for _, partition, _ in producer.sent] == [0, 1]

    played(play)


def test_a_message_without_a_partition_goes_to_that_of_its_key_in_order() -> None:
    async def play(producer: Producer, box: Outbox) -> None:
        keys = [f"alert-{number % 7}" for number in range(40)]
        posted = box.post(to(None, *keys, dataset=ALERTS))
        while not posted.done():
            await idle()
            for future in producer.futures:
                if not future.done():
                    future.set_result(None)
        for number in range(PARTITIONS):
            mine = [key.encode() for key in keys if zlib.crc32(key.encode()) % PARTITIONS == number]
            assert [key for _, partition, some in producer.sent if partition == number for key in some] == mine

    played(play)


def test_nothing_to_send_is_confirmed_at_once() -> None:
    async def play(_: Producer, box: Outbox) -> None:
        assert box.post([]).done()

    played(play)


def test_what_waits_behind_a_failed_batch_fails_with_it_and_what_is_confirmed_stays() -> None:
    async def play(producer: Producer, box: Outbox) -> None:
        good = box.post(to(0, "z"))
        await idle()
        producer.futures[0].set_result(None)
        await good
        failed = [box.post(to(0, *keys)) for keys in ("ab", "cd", "e")]
        other = box.post(to(1, "f"))
        await idle()
        producer.futures[1].set_exception(KafkaTimeoutError())
        producer.futures[2].set_result(None)
        for one in failed:
            with pytest.raises(ProducerSendError, match=r"^Error while sending: KafkaTimeoutError"):
                await one
        await other
        assert len(producer.sent) == 3

    played(play)


def test_a_publish_the_broker_never_confirms_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PUBLISH_SECONDS", 0.05)

    async def play(_: Producer, box: Outbox) -> None:
        some = to(None, "k", dataset=ALERTS) + to(None, "k", dataset=DETECTIONS)
        with pytest.raises(PublishTimeoutError, match=r"^2 messages to p\.alerts\.v1, p\.detections\.v1: the broker has"):
            await box.post(some)

    played(play)


def test_whoever_gives_up_waiting_stops_nothing() -> None:
    async def play(producer: Producer, box: Outbox) -> None:
        posted = box.post(to(0, "a"))
        posted.cancel()
        behind = box.post(to(0, "b"))
        await idle()
        producer.futures[0].set_result(None)
        await behind
        assert producer.sent == [(f"p.{CHECKPOINTS}", 0, [b"a", b"b"])]

    played(play)


@pytest.mark.parametrize("partition", [2, None])
def test_nothing_is_sent_behind_what_was_refused(partition: int | None) -> None:
    """A DMA's state would take what was refused, and comes again after a restart, for what it has had."""

    async def play(producer: Producer, box: Outbox) -> None:
        refused = box.post(to(partition, "a"))
        await idle()
        producer.futures[0].set_exception(MessageSizeTooLargeError())
        same_moment = box.post(to(partition, "a"))
        while not refused.done():
            await asyncio.sleep(0)
        afterwards = box.post(to(partition, "a"))
        await idle()
        assert len(producer.sent) == 1
        for one in (refused, same_moment, afterwards, box.post(to(1, "b"))):
            with pytest.raises(ProducerSendError, match="MessageSizeTooLargeError"):
                await one

    played(play)


def test_no_more_bytes_are_under_way_than_a_broker_takes_in_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client puts what waits for all partitions into one request, however large."""
    monkeypatch.setattr(outbox, "MOST_BYTES", 11)  # each key is a byte

    async def play(producer: Producer, box: Outbox) -> None:
        values = (b"v" * 6, b"v" * 4, b"v" * 30, b"v" * 5, b"v" * 5)
        posted = [box.post([Message(DEAD_LETTERS, b"k", value, [], at)]) for at, value in enumerate(values)]
        await idle()
        assert [partition for _, partition, _ in producer.sent] == [0, 1]
        producer.futures[1].set_result(None)
        await idle()
        assert len(producer.sent) == 2  # 6 and the next would be too much
        for future in producer.futures:
            if not future.done():
                future.set_result(None)
        await idle()
        assert [partition for _, partition, _ in producer.sent[2:]] == [2]  # too much by itself, so alone
        producer.futures[2].set_result(None)
        await idle()
        assert [partition for _, partition, _ in producer.sent[3:]] == [3, 4]
        producer.futures[3].set_exception(KafkaTimeoutError())
        producer.futures[4].set_result(None)
        await asyncio.wait(posted)
        assert [one.exception() is None for one in posted] == [True, True, True, False, True]

    played(play)


def test_what_waits_for_room_is_not_sent_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_BYTES", 1)

    async def play(producer: Producer, box: Outbox) -> None:
        posted = [box.post(to(partition, "a")) for partition in (0, 1)]
        await idle()
        producer.futures[0].set_exception(KafkaTimeoutError())
        await asyncio.wait(posted)
        assert len(producer.sent) == 1
        assert all(one.exception() for one in posted)

    played(play)


def test_a_long_key_is_not_kept() -> None:
    """Keys of dead letters are whatever came: megabytes, each another."""

    async def play(producer: Producer, box: Outbox) -> None:
        tracemalloc.start()
        for number in range(20):
            posted = box.post([Message(DEAD_LETTERS, b"%d" % number + bytes(MIB), b"", [])])
            await idle()
            producer.futures[-1].set_result(None)
            await posted
            producer.sent.clear()
        assert tracemalloc.get_traced_memory()[0] < 4 * MIB
        tracemalloc.stop()

    played(play)


def test_a_producer_that_is_not_there_fails_a_post_at_once() -> None:
    class NoProducer(Producer):
        def _ensure_producer(self) -> Producer:
            raise NotReady("Producer service not yet started")

    async def play() -> None:
        box = Outbox(type("App", (), {"producer": NoProducer()})(), "p")  # type: ignore[arg-type]
        for partition in (0, None):
            with pytest.raises(NotReady):
                await asyncio.wait_for(box.post(to(partition, "a")), 1)

    asyncio.run(play())
