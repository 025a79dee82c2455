"""The block transport: folding, the chain, and offsets, with Faust's own consumer around it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from hypothesis import given
from hypothesis import strategies as st

from streams.blocks import Block, BrokenChainError, Continuity
from streams.checkpoints import Bounds
from streams.transport import Consumer, Transport

RAW = TP("raw", 0)
OTHER = TP("raw", 1)


@dataclass
class Record:
    """As aiokafka's."""

    offset: int
    topic: str = "raw"
    partition: int = 0
    timestamp: int = 1_700_000_000_000
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: tuple[tuple[str, bytes], ...] = ()


def records(start: int, end: int, partition: int = 0) -> list[Record]:
    return [Record(offset, partition=partition) for offset in range(start, end)]


@dataclass
class Broker:
    """What the consumer thread would do: an assignment, committed offsets, log starts."""

    partitions: set[TP] = field(default_factory=lambda: {RAW, OTHER})
    committed: dict[TP, int] = field(default_factory=dict)
    sought: list[dict[TP, int]] = field(default_factory=list)
    recovered: list[dict[TP, Bounds]] = field(default_factory=list)
    handovers: int = 0
    refuses: bool = False


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def consumer(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Consumer]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = faust.App("test", broker="kafka://127.0.0.1:1", datadir=str(tmp_path), store="memory://", web_enabled=False)

    async def recover(bounds: dict[TP, Bounds]) -> dict[TP, int]:
        broker.recovered.append(bounds)
        return dict.fromkeys(bounds, 33)

    async def before_handover() -> None:
        broker.handovers += 1

    app.transport = Transport(
        app.conf.broker_consumer, app, recovered_topics=["packed"], recover=recover, before_handover=before_handover
    )
    consumer: Any = app.transport.create_consumer(
        callback=_nothing, on_partitions_revoked=_nothing, on_partitions_assigned=_nothing
    )
    app.consumer_generation_id = 1
    app.topics._acking_topics.update({"raw", "packed"})

    async def seek_to_committed() -> dict[TP, int]:
        broker.sought.append(dict(broker.committed))
        return dict(broker.committed)

    async def earliest_offsets(*tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, 7)

    async def highwaters(*tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, 200)

    async def seek_wait(offsets: dict[TP, int]) -> None:
        broker.sought.append(dict(offsets))

    async def commit(offsets: dict[TP, int]) -> bool:
        if not broker.refuses:
            broker.committed.update(offsets)
        return not broker.refuses

    thread = consumer._thread
    monkeypatch.setattr(thread, "seek_to_committed", seek_to_committed)
    monkeypatch.setattr(thread, "earliest_offsets", earliest_offsets)
    monkeypatch.setattr(thread, "highwaters", highwaters)
    monkeypatch.setattr(thread, "seek_wait", seek_wait)
    monkeypatch.setattr(thread, "commit", commit)
    monkeypatch.setattr(thread, "assignment", lambda: set(broker.partitions))
    consumer.thread, consumer.run = thread, loop.run_until_complete
    yield consumer
    thread.thread_loop.close()
    loop.close()
    asyncio.set_event_loop(None)


async def _nothing(*_: Any) -> None:
    return None


def message_of(consumer: Any, block: Block) -> ConsumerMessage:
    """What Faust hands to the agent."""
    return consumer._to_message(block.tp, block)


def test_a_fetch_becomes_one_block_per_partition_that_keeps_its_records(consumer: Any) -> None:
    fetched = {RAW: records(10, 13), OTHER: records(0, 1, partition=1), TP("raw", 2): []}
    folded = consumer.fold(fetched)
    assert set(folded) == {RAW, OTHER}
    (block,) = folded[RAW]
    assert [record.offset for record in block.records] == [record.offset for record in fetched[RAW]]
    assert (block.offset, block.end, block.previous_end) == (10, 13, None)
    message = message_of(consumer, block)
    assert (message.offset, message.value, message.tp, message.generation_id) == (10, block, RAW, 1)


def test_the_end_of_a_block_with_holes_is_after_its_last_record(consumer: Any) -> None:
    ((block,),) = consumer.fold({RAW: [Record(3), Record(9)]}).values()
    assert (block.offset, block.end) == (3, 10)


def test_the_codec_hands_a_block_through_unchanged(consumer: Any) -> None:
    from streams.blocks import block_topic  # noqa: PLC0415

    topic = block_topic(consumer.app, "raw")
    ((block,),) = consumer.fold({RAW: records(0, 2)}).values()
    event = consumer.run(topic.decode(message_of(consumer, block)))
    assert event.value is block


def test_nothing_is_committed_of_a_block_that_is_not_acked(consumer: Any, broker: Broker) -> None:
    """Stock Faust takes the offsets between two events for a gap and commits them."""
    consumer.fold({RAW: records(0, 1000)})
    consumer.run(consumer._add_gap(RAW, 1, 999))
    consumer.run(consumer.commit())
    assert broker.committed == {}


def test_an_acked_block_commits_the_offset_after_its_last_record(consumer: Any, broker: Broker) -> None:
    ((first,),) = consumer.fold({RAW: records(0, 1000)}).values()
    ((second,),) = consumer.fold({RAW: records(1000, 1500)}).values()
    assert consumer.ack(message_of(consumer, first))
    consumer.run(consumer.commit())
    assert broker.committed == {RAW: 1000}
    assert consumer.ack(message_of(consumer, second))
    consumer.run(consumer.commit())
    consumer.run(consumer.commit())
    assert broker.committed == {RAW: 1500}


def test_a_worker_of_an_hour_that_works_is_not_called_stuck(
    consumer: Any, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    for tp in broker.partitions:
        consumer.verify_event_path(3600.0, tp)
    assert broker.partitions
    assert not caplog.records


def test_a_message_is_acked_once(consumer: Any) -> None:
    ((block,),) = consumer.fold({RAW: records(0, 3)}).values()
    message = message_of(consumer, block)
    assert consumer.ack(message)
    assert not consumer.ack(message)


def test_an_ack_from_before_a_rebalance_is_dropped(consumer: Any, broker: Broker) -> None:
    ((block,),) = consumer.fold({RAW: records(0, 1000)}).values()
    message = message_of(consumer, block)
    consumer.app.consumer_generation_id = 2
    consumer.run(consumer.perform_seek())
    assert not consumer.ack(message)
    consumer.run(consumer.commit())
    assert broker.committed == {}


def test_a_partition_that_went_away_is_not_committed(consumer: Any, broker: Broker) -> None:
    ((block,),) = consumer.fold({RAW: records(0, 10)}).values()
    consumer.ack(message_of(consumer, block))
    broker.partitions = {OTHER}
    consumer.run(consumer.commit())
    assert broker.committed == {}


def test_a_commit_that_failed_is_tried_again(consumer: Any, broker: Broker) -> None:
    """Stock Faust takes it for done."""
    ((block,),) = consumer.fold({RAW: records(0, 10)}).values()
    consumer.ack(message_of(consumer, block))
    broker.refuses = True
    consumer.run(consumer.commit())
    broker.refuses = False
    consumer.run(consumer.commit())
    assert broker.committed == {RAW: 10}


PACKED = TP("packed", 0)


def test_recovered_topics_are_sought_to_where_their_state_goes_on_and_others_to_their_committed_offset(
    consumer: Any, broker: Broker
) -> None:
    broker.partitions = {RAW, PACKED}
    broker.committed = {RAW: 40, PACKED: 90}
    consumer.run(consumer.perform_seek())
    assert broker.recovered == [{PACKED: Bounds(committed=90, earliest=7, end=200)}]
    assert broker.sought == [{RAW: 40, PACKED: 90}, {RAW: 40, PACKED: 33}]
    assert consumer._read_offset[RAW] == 40
    assert consumer._read_offset[PACKED] == 33
    assert consumer.committed(PACKED) == 90


def test_state_is_brought_back_again_only_when_something_was_fetched_or_the_group_changed(
    consumer: Any, broker: Broker
) -> None:
    broker.partitions = {RAW, PACKED}
    consumer.run(consumer.perform_seek())
    consumer.run(consumer.perform_seek())
    assert len(broker.recovered) == 1
    consumer.fold({PACKED: [Record(33, topic="packed")]})
    consumer.run(consumer.perform_seek())
    assert len(broker.recovered) == 2
    consumer.app.consumer_generation_id = 2
    consumer.run(consumer.perform_seek())
    assert len(broker.recovered) == 3


def test_an_acked_block_of_a_recovered_topic_is_committed_only_when_released(consumer: Any, broker: Broker) -> None:
    broker.partitions = {RAW, PACKED}
    ((block,),) = consumer.fold({PACKED: [Record(offset, topic="packed") for offset in range(5)]}).values()
    assert consumer.ack(message_of(consumer, block))
    consumer.run(consumer.commit())
    assert broker.committed == {}
    assert consumer.release(PACKED, 5, block.epoch)
    consumer.run(consumer.commit())
    assert broker.committed == {PACKED: 5}


def test_a_release_from_before_a_seek_is_dropped(consumer: Any, broker: Broker) -> None:
    broker.partitions = {RAW, PACKED}
    epoch = consumer.epoch
    consumer.run(consumer.perform_seek())
    assert not consumer.release(PACKED, 5, epoch)
    consumer.run(consumer.commit())
    assert broker.committed == {}


def test_an_ack_from_before_a_seek_without_a_rebalance_is_dropped(consumer: Any, broker: Broker) -> None:
    ((block,),) = consumer.fold({RAW: records(0, 1000)}).values()
    message = message_of(consumer, block)
    consumer.run(consumer.perform_seek())
    assert block.epoch != consumer.epoch
    assert not consumer.ack(message)
    consumer.run(consumer.commit())
    assert broker.committed == {}


def test_a_checkpoint_is_asked_for_before_the_last_commit_of_a_partition(consumer: Any, broker: Broker) -> None:
    consumer.run(consumer.commit_and_end_transactions())
    assert broker.handovers == 1


def test_a_block_that_is_left_alone_is_not_waited_for(consumer: Any) -> None:
    ((block,),) = consumer.fold({RAW: records(0, 3)}).values()
    message = message_of(consumer, block)
    consumer.unacked.add(message)
    consumer.leave(message)
    assert not consumer.unacked


@pytest.mark.parametrize(
    ("committed", "start", "said"),
    [(None, 7, ""), (0, 7, "7 records were deleted before they were read"), (9, 9, ""), (201, 7, "was made anew")],
)
def test_a_partition_is_read_from_its_committed_offset_or_from_what_there_is(
    consumer: Any, broker: Broker, caplog: pytest.LogCaptureFixture, committed: int | None, start: int, said: str
) -> None:
    broker.partitions = {RAW}
    consumer._committed_offset[RAW] = committed
    consumer.run(consumer.perform_seek())
    assert broker.sought[-1] == {RAW: start}
    assert said in caplog.text
    assert bool(said) == bool(caplog.messages)


def test_where_a_partition_is_follows_what_is_processed_and_not_what_is_fetched(consumer: Any, broker: Broker) -> None:
    packed = TP("packed", 0)
    broker.partitions = {RAW, packed}
    assert consumer.places({}) == {}
    consumer.run(consumer.perform_seek())
    assert {tp: (at.position, at.end, at.goal) for tp, at in consumer.places({}).items()} == {
        RAW: (7, 200, 200), packed: (33, 200, 200),
    }  # fmt: skip
    ((block,),) = consumer.fold({RAW: records(7, 150)}).values()
    consumer.progress._fetched[RAW] = 150
    assert consumer.places({})[RAW].position == 7
    consumer.ack(message_of(consumer, block))
    assert consumer.places({packed: 40})[RAW].position == 150
    consumer.progress._fetched[RAW] = 200  # the rest are markers, which nobody gets to see
    places = consumer.places({packed: 40})
    assert (places[RAW].lag_records, places[packed].lag_records) == (0, 160)
    consumer.run(consumer.perform_seek())
    assert consumer.places({})[RAW].position == 7


def test_records_fetched_while_a_seek_happened_are_dropped_and_sought_again(
    consumer: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def getmany(active: Any, timeout: float) -> Any:
        if not broker.sought:
            await consumer.perform_seek()
        return {RAW: records(500, 600)}

    monkeypatch.setattr(consumer.thread, "getmany", getmany)
    assert consumer.run(consumer._getmany({RAW}, 1.0)) == {}
    # committed or not: aiokafka's own seek leaves out what has no committed offset
    assert broker.sought == [{}, {RAW: 7, OTHER: 7}, {}, {RAW: 7, OTHER: 7}]
    ((block,),) = consumer.run(consumer._getmany({RAW}, 1.0)).values()
    assert block.previous_end is None


def test_continuity_accepts_a_chain_and_a_new_one_after_a_seek(consumer: Any) -> None:
    continuity = Continuity()
    for start, end in ((5, 10), (10, 12), (20, 21)):  # a hole in the log is none in the chain
        ((block,),) = consumer.fold({RAW: records(start, end)}).values()
        continuity.check(block)
        continuity.passed(block)
    consumer.run(consumer.perform_seek())
    ((block,),) = consumer.fold({RAW: records(5, 21)}).values()
    continuity.check(block)


def test_continuity_raises_when_a_block_was_lost_on_the_way_or_not_processed(consumer: Any) -> None:
    continuity = Continuity()
    for start in (0, 10, 20):
        ((block,),) = consumer.fold({RAW: records(start, start + 10)}).values()
        if start == 0:
            continuity.check(block)
            continuity.passed(block)
        if start == 10:
            continuity.check(block)
    with pytest.raises(BrokenChainError, match="follows offset 20, expected the one that follows 10"):
        continuity.check(block)


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=1, max_size=30))
def test_committed_never_passes_the_last_acked_block(blocks: list[tuple[int, bool]]) -> None:
    """Blocks acked in order, commits at any moment: committed is 0 or the end of the newest acked block."""
    consumer = _Bookkeeping()
    offset = 0
    for size, commit in blocks:
        ((block,),) = consumer.fold({RAW: records(offset, offset + size)}).values()
        asyncio.run(consumer._add_gap(RAW, offset + 1, offset + size))
        if commit:
            assert consumer._new_offset(RAW) == (offset or None)
        consumer.ack(_Acked(block))  # type: ignore[arg-type]
        offset += size
        assert consumer._new_offset(RAW) == offset


class _Acked:
    """A message as `ack` sees it."""

    acked = False
    generation_id = 1

    def __init__(self, block: Block) -> None:
        self.value, self.tp = block, block.tp


class _Bookkeeping(Consumer):
    """The consumer's own state, without an app."""

    def __init__(self) -> None:
        self._chain, self._ends, self._acked, self.epoch = {}, {}, {}, 0
        self.recovered_topics = frozenset()
        self._unacked_messages: Any = set()
        self._waiting_for_ack, self._n_acked = None, 0
        self.app: Any = type("App", (), {"consumer_generation_id": 1})
