"""Faust's aiokafka transport with one event per fetched block instead of one per message.

Stock Faust spends 75-100 µs on every message. Here `_getmany` folds what one fetch brought of one partition into one
record, a `Block`; an agent is still an ordinary Faust agent, whose events happen to be blocks. Every topic of an app
with this transport is folded; an app with Tables is refused, for changelogs must not be.

Offsets. A block carries its **first** offset and knows its `end`, the offset after its last record. Faust's own
arithmetic counts single messages and is replaced:

- `_add_gap` does nothing. Faust takes the offsets between two events for holes and may commit them as done; here they
  are the rest of a block that may not be processed yet.
- `ack` keeps the end of the newest acked block; blocks of one partition must be acked in order, which one agent with
  concurrency 1 does by itself. `_new_offset` returns that end.
- an ack of a block fetched before the last rebalance is dropped: the partition has been sought back to its committed
  offset, and its records come again.

Continuity. Between the fetch and the agent Faust drops messages without a word in several places (flow suspended,
generation changed, read offset already further). Each block therefore names the end of the block fetched before it,
`previous_end`; `Continuity.check` in the agent raises when the chain is broken. Holes in the log itself (compaction,
transaction markers, retention) do not break it. The first block after a seek has `previous_end` None.

Seek during a fetch. Records fetched before a seek must not be taken for the first after it: `_getmany` drops what it
got when a seek happened meanwhile, and seeks again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, Final

import faust
from faust.serializers.codecs import Codec
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import Message, ack_lock
from mode.utils.futures import notify

log = logging.getLogger("nightline")


class Block:
    """All records of one partition that one fetch brought, as one Kafka record for Faust.

    `records` are aiokafka's own: topic, partition, offset, timestamp (ms), key, value, headers.
    """

    __slots__ = ("end", "generation", "offset", "partition", "previous_end", "records", "timestamp", "topic")

    # what Faust reads of a record besides
    timestamp_type = None
    headers = ()
    checksum = None
    serialized_key_size = 0
    serialized_value_size = 0
    key = None

    def __init__(self, records: list[Any], previous_end: int | None = None) -> None:
        first = records[0]
        self.records = records
        self.topic: str = first.topic
        self.partition: int = first.partition
        self.offset: int = first.offset
        self.timestamp: int = first.timestamp
        self.end: int = records[-1].offset + 1
        self.previous_end = previous_end

    @property
    def value(self) -> Block:
        """Faust hands a record's value to the agent: the block itself."""
        return self

    @property
    def tp(self) -> TP:
        """Topic and partition."""
        return TP(self.topic, self.partition)

    def __repr__(self) -> str:
        return f"Block({self.topic}-{self.partition} [{self.offset}, {self.end}), {len(self.records)} records)"


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

    def check(self, block: Block) -> bool:
        """True for the first block after a seek. Raises BrokenChainError when a block is missing before this one."""
        before = self._end.get(block.tp)
        if block.previous_end is not None and block.previous_end != before:
            raise BrokenChainError(
                f"{block.topic} partition {block.partition}: got the block that follows offset {block.previous_end}, "
                f"expected the one that follows {before}; nothing of it was acknowledged, a restart reads it again"
            )
        self._end[block.tp] = block.end
        return block.previous_end is None


FETCH_WAIT_MS: Final = 50
"""How long the broker may hold back an empty fetch. aiokafka has one fetch at a time under way and leaves out the
partitions it still has records of, so news in those waits for it; Faust's fixed 1500 ms showed as delays of a second."""


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread; a broker that cannot take a commit just now does not end the worker."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        if not hasattr(consumer, "_fetch_max_wait_ms"):
            raise RuntimeError("aiokafka keeps its fetch wait elsewhere than in 0.13 and 0.14")
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        mine = self.assignment()
        wanted = {
            driver.ensure_aiokafka_TP(tp): driver.OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in mine
        }
        try:
            await consumer.commit(wanted)
        except driver.CommitFailedError:
            return False  # rebalanced meanwhile: the new owner reads these records again
        except driver.KafkaError as error:
            if not error.retriable:
                raise
            self.log.warning("commit postponed: %s", " ".join(str(error).split()))
            return False
        return True


class Consumer(driver.Consumer):
    """Folds, and counts offsets by blocks. `rebuilt_topics` are read from their start after every assignment."""

    rebuilt_topics: frozenset[str] = frozenset()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._chain: dict[TP, int] = {}
        self._seeks = 0
        self._ends: dict[TP, int] = {}
        super().__init__(*args, **kwargs)
        if self.app.tables:
            raise ValueError("the block transport cannot serve Tables: their changelogs would be folded")
        self.rebuilt_topics = frozenset(getattr(self.transport, "rebuilt_topics", ()))

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # fetching

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Block]]:  # type: ignore[override]
        seeks = self._seeks
        fetched = await super()._getmany(active_partitions, timeout)
        if fetched and seeks != self._seeks:
            await self.perform_seek()
            return {}
        return self.fold(fetched)

    def fold(self, fetched: Mapping[Any, list[Any]]) -> dict[TP, list[Block]]:
        """One block for each partition that has records; continues each partition's chain."""
        folded = {}
        for key, records in fetched.items():
            if records:
                tp = ensure_TP(key)
                block = Block(records, self._chain.get(tp))
                self._chain[tp] = block.end
                folded[tp] = [block]
        return folded

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: a full queue makes the fetch wait.

        Faust would stop fetching this partition, and with every partition stopped sleep a whole second.
        """

    # seeking

    async def perform_seek(self) -> None:
        """To the committed offsets, or the start of a topic that state is rebuilt from."""
        self._forget()
        await super().perform_seek()
        rebuilt = [tp for tp in self.assignment() if tp.topic in self.rebuilt_topics]
        if rebuilt:
            starts = {ensure_TP(tp): offset for tp, offset in (await self.earliest_offsets(*rebuilt)).items()}
            for tp, offset in sorted(starts.items()):
                if offset:
                    log.warning(
                        "%s: state of partition %d is rebuilt from offset %d: what came before has been deleted",
                        tp.topic, tp.partition, offset,
                    )  # fmt: skip
            await self.seek_wait(starts)
            self._read_offset.update({tp: offset or None for tp, offset in starts.items()})
        self._forget()

    def _forget(self) -> None:
        self._seeks += 1
        self._chain.clear()
        self._ends.clear()
        self._acked.clear()

    async def seek(self, partition: TP, offset: int) -> None:
        """Not for agents: only whole assignments are sought, in `perform_seek`."""
        self._seeks += 1
        self._chain.pop(ensure_TP(partition), None)
        await super().seek(partition, offset)

    def committed(self, tp: TP) -> int:
        """The offset this group has committed, as known here; 0 when none."""
        return self._committed_offset[tp] or 0

    # acknowledging

    def ack(self, message: Message) -> bool:
        """Take note of a whole block. False when it was acked before, or fetched before the last rebalance."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            self._unacked_messages.discard(message)
            notify(self._waiting_for_ack)
            if message.generation_id != self.app.consumer_generation_id:
                return False
            block: Block = message.value  # type: ignore[assignment]
            self._ends[message.tp] = block.end
            # Faust asks for the new offset of the partitions that have something here
            self._acked[message.tp] = [block.offset]
            self._n_acked += 1
            return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: see the module's docstring."""

    def _new_offset(self, tp: TP) -> int | None:
        self._acked.pop(tp, None)
        return self._ends.get(tp)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Faust takes a failed commit for done and would not try again before the next ack."""
        before = {tp: self._committed_offset[tp] for tp in offsets}
        done = await super()._commit_offsets(offsets, start_new_transaction)
        if not done:
            for tp, offset in before.items():
                self._committed_offset[tp] = offset
                if tp in self._ends:
                    self._acked[tp] = [self._ends[tp]]
        return done


class Transport(driver.Transport):
    """Set as `app.transport`. `rebuilt_topics`: names of the topics that are read from their start when assigned."""

    Consumer = Consumer

    def __init__(self, *args: Any, rebuilt_topics: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rebuilt_topics = frozenset(rebuilt_topics)
