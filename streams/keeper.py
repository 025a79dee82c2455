"""Keeps the watch agent's state safe: brings it back before a partition is processed, saves it while it is.

Order for a block: engines step -> alerts and detections posted. The next block need not wait until Kafka has confirmed
them; a checkpoint does. Order for a checkpoint: no further block -> everything of the blocks so far confirmed -> states of
all partitions sent and confirmed -> their offsets released for the commit. So a checkpoint never includes a block whose
alerts are still on their way.

A checkpoint is taken every `SAVE_SECONDS`, however many readings have come, and writes the states that have changed: its
cost follows time, the number of DMAs and the length of their slots, not the readings. While history is replayed it is
taken more often (`REPLAY_SAVE_SECONDS`): the replayer waits for the commit. Whatever the sizes, no more than a tenth of
the time goes into making it (`MOST_OF_TIME`). Waiting for the broker does not count: after an outage of half a minute
the next checkpoint was five minutes away (2026-11-24).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from faust.types import TP
from kafka import KafkaConsumer, TopicPartition

from streams.blocks import Block
from streams.checkpoints import Bounds, Record
from streams.outbox import Message, Posted
from streams.topics import CHECKPOINTS, EMBEDDED_OPTIONS, READINGS, client_options, topic_name
from streams.watcher import Watcher

log = logging.getLogger("nightline")

SAVE_SECONDS: Final = 10.0
REPLAY_SAVE_SECONDS: Final = 0.5
MOST_OF_TIME: Final = 0.1
TICK_SECONDS: Final = 0.25
HANDOVER_SECONDS: Final = 4.0
"""Before a partition is given up a checkpoint spares the next owner the last seconds; but Kafka waits for nobody."""
READ_SECONDS: Final = 60.0


@dataclass
class Saved:
    """The last checkpoint, for those who ask how the worker is."""

    at: float = 0.0
    making_seconds: float = 0.0
    """Without the time until it was confirmed."""
    seconds: float = 0.0
    states: int = 0
    bytes: int = 0
    total: int = 0
    total_bytes: int = 0


class Keeper:
    """Between the watch agent, its Watcher and Kafka. All times are of `clock`, in seconds."""

    def __init__(
        self,
        watcher: Watcher,
        bootstrap: str,
        prefix: str,
        post: Callable[[list[Message]], asyncio.Future[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.watcher = watcher
        self.saved = Saved()
        self.recovered = False
        self._bootstrap, self._prefix, self._post, self._clock = bootstrap, prefix, post, clock
        self._lock = asyncio.Lock()
        self._partitions = 0
        self._replaying = False
        self._under_way: deque[asyncio.Future[None]] = deque()
        """What blocks brought about and Kafka has not confirmed, or refused."""
        self._is_closed = False
        self.consumer: Any = None
        """Faust's, once there is one."""

    # bringing back

    async def recover(self, wanted: dict[TP, Bounds]) -> dict[TP, int]:
        """The states of all partitions that are assigned now, and where each goes on. Raises LostStateError."""
        begin = self._clock()
        numbers = sorted(tp.partition for tp in wanted)
        records, self._partitions = await asyncio.to_thread(read_checkpoints, self._bootstrap, self._prefix, numbers)
        every = [record for number in numbers for record in records[number]]
        async with self._lock:
            await asyncio.to_thread(self._bring_of, every)
            self.watcher.drop(list(self.watcher.owned))
            starts = {}
            for tp in sorted(wanted):
                found = records.pop(tp.partition)
                start = self.watcher.restore(tp.partition, self._partitions, found, wanted[tp], begin)
                starts[tp] = start.offset
            self._under_way.clear()
            self.recovered = True
            self.saved.at = begin
        states = sum(len(owned.states) for owned in self.watcher.owned.values())
        if states:
            log.info("state of %d DMAs restored in %.1f s", states, self._clock() - begin)
        return starts

    def _bring_of(self, records: list[Record]) -> None:
        """The models that these checkpoints name, to the shelf. Blocks."""
        self.watcher.shelf.bring(self.watcher.publications_of(records))

    # processing

    async def watch(self, block: Block) -> Posted | None:
        """Process a block. None when it is none of ours any more: it is left to be read again."""
        async with self._lock:
            if not self._is_ours(block):
                return None
            while self._under_way and _is_confirmed(self._under_way[0]):
                self._under_way.popleft()
            for posted in filter(_is_refused, self._under_way):
                why = "given up" if posted.cancelled() else posted.exception()
                raise RuntimeError(f"what a block before this one brought about was never confirmed: {why}")
            wanted = self.watcher.publications_in(block)
            if wanted:
                await asyncio.to_thread(self.watcher.shelf.bring, wanted)
                if not self._is_ours(block):
                    return None
            unpublished = block.end > self.consumer.committed(block.tp)
            messages, alerts = self.watcher.watch(block, publish=unpublished)
            if wanted:
                self.watcher.tidy()
            confirmed = self._post(messages)
            self._under_way.append(confirmed)
            self._replaying = self._replaying or self.watcher.is_replayed
            return Posted(confirmed, messages, alerts)

    def _is_ours(self, block: Block) -> bool:
        return not self._is_closed and self.consumer.is_current(block) and block.partition in self.watcher.owned

    # saving

    async def save_when_due(self) -> None:
        """Called by a timer."""
        if self.due_seconds >= 0:
            async with self._lock:
                if not self._is_closed:
                    await self._save()

    @property
    def due_seconds(self) -> float:
        """For how long a checkpoint has been due; below 0 while there is still time."""
        every = REPLAY_SAVE_SECONDS if self._replaying else SAVE_SECONDS
        return self.age_seconds - max(every, self.saved.making_seconds / MOST_OF_TIME)

    @property
    def age_seconds(self) -> float:
        """Since the last checkpoint, or since state was brought back."""
        return self._clock() - self.saved.at

    def since(self, at: float) -> float:
        """Seconds since a time of the keeper's clock."""
        return self._clock() - at

    async def before_handover(self) -> None:
        """Called by Faust before a partition is given up. Not to be in time is no fault."""
        if self._is_closed:
            return
        try:
            async with asyncio.timeout(HANDOVER_SECONDS), self._lock:
                await self._save()
        except TimeoutError:
            log.warning(
                "no checkpoint within %.0f s before giving partitions up; the next owner does more again", HANDOVER_SECONDS
            )

    async def close(self) -> None:
        """A last checkpoint of everything; from now on blocks are left alone."""
        async with self._lock:
            self._is_closed = True
            await self._save(everything=True)

    def abandon(self) -> None:
        """After a fault: no further block, no further checkpoint."""
        self._is_closed = True

    async def _settled(self) -> bool:
        """Once everything of the blocks so far is confirmed; False when something of it was refused."""
        waited_for = [posted for posted in self._under_way if not posted.done()]
        if waited_for:
            await asyncio.wait(waited_for)  # which does not cancel them when it is cancelled
        return all(map(_is_confirmed, self._under_way))

    async def _save(self, everything: bool = False) -> None:
        """With the lock held."""
        if self.consumer is None or not self.watcher.owned or not await self._settled():
            return
        now, epoch = self._clock(), self.consumer.epoch
        ends = {partition: owned.end for partition, owned in self.watcher.owned.items()}
        messages = [m for p in sorted(ends) for m in self.watcher.checkpoint(p, self._partitions, now, everything)]
        made = self._clock() - now
        await self._post(messages)
        self._replaying = False
        readings = topic_name(self._prefix, READINGS)
        for partition, end in ends.items():
            self.consumer.release(TP(readings, partition), end, epoch)
        size = sum(len(m.value or b"") for m in messages)
        done = self.saved
        self.saved = Saved(
            now, made, self._clock() - now, len(messages), size, done.total + len(messages), done.total_bytes + size
        )  # fmt: skip


def _is_confirmed(posted: asyncio.Future[None]) -> bool:
    return posted.done() and not _is_refused(posted)


def _is_refused(posted: asyncio.Future[None]) -> bool:
    return posted.done() and (posted.cancelled() or posted.exception() is not None)


def read_checkpoints(bootstrap: str, prefix: str, partitions: Iterable[int]) -> tuple[dict[int, list[Record]], int]:
    """All records of these partitions of `checkpoints.v1`, oldest first, and how many partitions `readings.v1` has.

    Blocks; for a thread. Raises ValueError when the two topics differ in their number of partitions, TimeoutError when
    the topic cannot be read to its end.
    """
    topic, readings = topic_name(prefix, CHECKPOINTS), topic_name(prefix, READINGS)
    options = client_options(bootstrap)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=32 << 20,
        fetch_max_bytes=64 << 20, **options,
    )  # fmt: skip
    try:
        there, wanted = len(consumer.partitions_for_topic(topic) or ()), len(consumer.partitions_for_topic(readings) or ())
        if there == 0 and options == EMBEDDED_OPTIONS:  # topics appear there on first use
            return {number: [] for number in partitions}, wanted
        if there != wanted:
            raise ValueError(
                f"{topic} has {there} partitions and {readings} has {wanted}; possible: the same number, for each state "
                "lies in the partition of its readings"
            )
        tps = [TopicPartition(topic, number) for number in partitions]
        consumer.assign(tps)
        consumer.seek_to_beginning(*tps)
        ends = consumer.end_offsets(tps)
        found: dict[int, list[Record]] = {tp.partition: [] for tp in tps}
        deadline = time.monotonic() + READ_SECONDS
        while any(consumer.position(tp) < ends[tp] for tp in tps):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} could not be read to its end within {READ_SECONDS:.0f} s")
            for tp, batch in consumer.poll(timeout_ms=200).items():
                found[tp.partition] += [Record(record.key, record.value) for record in batch]
        return found, wanted
    finally:
        consumer.close()
