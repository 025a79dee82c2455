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
- of a topic that state is made of (`recovered_topics`) an ack says that a block is processed, and commits nothing: its
  offsets are committed when `release` says that a checkpoint includes them.
- an ack or release of what was fetched before the last seek is dropped: its records come again. For the same reason an
  agent must leave a block alone that is not current (`is_current`).

Recovery. After every assignment, before anything is fetched, `recover` brings back the state of each partition of the
recovered topics and says from which offset it goes on.

Continuity. Between the fetch and the agent Faust drops messages without a word in several places (flow suspended,
generation changed, read offset already further). Each block therefore names the end of the block fetched before it,
`previous_end`; `Continuity.check` in the agent raises when the chain is broken. Holes in the log itself (compaction,
transaction markers, retention) do not break it. The first block after a seek has `previous_end` None.

Seek during a fetch. Records fetched before a seek must not be taken for the first after it: `_getmany` drops what it
got when a seek happened meanwhile, and seeks again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import Message, ack_lock
from mode.utils.futures import notify

from streams import fetched as columns
from streams.blocks import Block
from streams.checkpoints import Bounds
from streams.group_progress import Alignment
from streams.progress import Place, Progress
from streams.records import as_records

log = logging.getLogger("nightline")


FETCH_WAIT_MS: Final = 50
"""How long the broker may hold back an empty fetch. aiokafka has one fetch at a time under way and leaves out the
partitions it still has records of, so news in those waits for it; Faust's fixed 1500 ms showed as delays of a second."""


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread; a broker that cannot take a commit just now does not end the worker."""

    consumer: Consumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.committing = asyncio.Lock()
        """The alignment commits too: never an older offset after a newer one."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        if not (hasattr(consumer, "_fetch_max_wait_ms") and hasattr(consumer, "_key_deserializer")):
            raise RuntimeError("aiokafka keeps its fetch wait and deserializers elsewhere than in 0.13 and 0.14")
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._key_deserializer = columns.IN_COLUMNS
        columns.install()
        return consumer

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: it knows neither our commits nor partitions that are held back, and from the fifth minute on called
        every partition with traffic stuck, twice a minute (2026-11-28). `/healthz` and the lag tell of one that is.
        """

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        mine = self.assignment()
        wanted = {
            driver.ensure_aiokafka_TP(tp): driver.OffsetAndMetadata(offset, self.consumer.note(tp, offset))
            for tp, offset in offsets.items()
            if tp in mine
        }
        try:
            async with self.committing:
                await consumer.commit(wanted)
        except driver.CommitFailedError:
            return False  # rebalanced meanwhile: the new owner reads these records again
        except driver.KafkaError as error:
            if not error.retriable:
                raise
            self.log.warning("commit postponed: %s", " ".join(str(error).split()))
            return False
        return True


Recover = Callable[[dict[TP, Bounds]], Awaitable[dict[TP, int]]]
"""Brings back the state of these partitions, which are all that are assigned; returns where each goes on."""


class Consumer(driver.Consumer):
    """Folds, counts offsets by blocks, and has state brought back after every assignment."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._chain: dict[TP, int] = {}
        self._ends: dict[TP, int] = {}
        self._seeking = asyncio.Lock()
        self._recovered: tuple[int, dict[TP, int]] | None = None
        self.epoch = 0
        super().__init__(*args, **kwargs)
        if self.app.tables:
            raise ValueError("the block transport cannot serve Tables: their changelogs would be folded")
        self.recovered_topics: frozenset[str] = getattr(self.transport, "recovered_topics", frozenset())
        aligned: tuple[str, int] | None = getattr(self.transport, "aligned", None)
        self.alignment = Alignment(self._thread, *aligned) if aligned else None
        self.progress = Progress(self._thread)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # fetching

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Block]]:  # type: ignore[override]
        epoch, alignment = self.epoch, self.alignment
        wanted = active_partitions
        if alignment is not None and active_partitions is not None:
            wanted, timeout = alignment.wanted(active_partitions), alignment.timeout(timeout)
        # to aiokafka no partitions means all of them
        if active_partitions and not wanted:
            await asyncio.sleep(timeout)
            fetched: Mapping[TP, Sequence[Any]] = {}
        else:
            found = await super()._getmany(wanted, timeout)
            fetched = {ensure_TP(tp): as_records(records) for tp, records in found.items() if records}
        if fetched and epoch != self.epoch:
            await self.perform_seek()
            return {}
        if alignment is not None:
            fetched = alignment.take(fetched, time.monotonic())
        folded = self.fold(fetched)
        self.progress.note_fetched()
        return folded

    def note(self, tp: TP, offset: int) -> str:
        """What is written beside a committed offset."""
        alignment = self.alignment
        return "" if alignment is None else alignment.aligner.reached(ensure_TP(tp), offset) or ""

    def fold(self, fetched: Mapping[Any, Sequence[Any]]) -> dict[TP, list[Block]]:
        """One block for each partition that has records; continues each partition's chain."""
        folded = {}
        for key, records in fetched.items():
            if records:
                tp = ensure_TP(key)
                block = Block(records, self._chain.get(tp), self.epoch)
                self._chain[tp] = block.end
                folded[tp] = [block]
                if tp.topic in self.recovered_topics:
                    self._recovered = None
        return folded

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: a full queue makes the fetch wait.

        Faust would stop fetching this partition, and with every partition stopped sleep a whole second.
        """

    # seeking

    async def perform_seek(self) -> None:
        """To the committed offsets, and of recovered topics to where their state goes on.

        Every partition is sought. aiokafka leaves one without a committed offset where it is, so what was fetched of it
        and dropped for this seek would never come again (seen 2026-11-24, when a second worker joined early).
        """
        async with self._seeking:
            self._forget()
            asked = self.progress.forget()
            await super().perform_seek()
            assigned = self.assignment()
            if assigned:
                bounds = await self._bounds(assigned)
                starts = {tp: _where_committed(tp, bounds[tp]) for tp in assigned}
                mine = {tp: bounds[tp] for tp in assigned if tp.topic in self.recovered_topics}
                if mine:
                    starts |= await self._recover(mine)
                await self.seek_wait(starts)
                self._read_offset.update({tp: offset or None for tp, offset in starts.items()})
                self.progress.begin(asked, starts, {tp: bounds[tp].end for tp in assigned})
            self._forget()

    async def _bounds(self, tps: set[TP]) -> dict[TP, Bounds]:
        earliest = {ensure_TP(tp): offset for tp, offset in (await self.earliest_offsets(*tps)).items()}
        ends = {ensure_TP(tp): offset for tp, offset in (await self.highwaters(*tps)).items()}
        return {tp: Bounds(self._committed_offset[tp], earliest[tp], ends[tp]) for tp in tps}

    async def _recover(self, mine: dict[TP, Bounds]) -> dict[TP, int]:
        """Not twice for one assignment when nothing has been fetched in between: Faust may seek again."""
        generation = self.app.consumer_generation_id
        if self._recovered is not None and self._recovered[0] == generation and self._recovered[1].keys() == mine.keys():
            return self._recovered[1]
        starts: dict[TP, int] = await self.transport.recover(mine)
        self._recovered = generation, starts
        return starts

    def _forget(self) -> None:
        self.epoch += 1
        if self.alignment is not None:
            self.alignment.forget()
        self._chain.clear()
        self._ends.clear()
        self._acked.clear()

    async def seek(self, partition: TP, offset: int) -> None:
        """Not for agents: only whole assignments are sought, in `perform_seek`."""
        self.epoch += 1
        if self.alignment is not None:
            self.alignment.forget()
        self._chain.pop(ensure_TP(partition), None)
        await super().seek(partition, offset)

    def committed(self, tp: TP) -> int:
        """The offset this group has committed, as known here; 0 when none."""
        return self._committed_offset[tp] or 0

    def places(self, processed: Mapping[TP, int]) -> dict[TP, Place]:
        """Where each partition is; empty until an assignment's state is brought back.

        `processed`: of recovered topics the offset up to which they are processed; only checkpoints release them here.
        """
        found = {}
        waiting = {} if self.alignment is None else {tp: lane.waiting for tp, lane in self.alignment.aligner.lanes.items()}
        for tp, start in self.progress.starts.items():
            done = processed.get(tp, self._ends.get(tp, start))
            is_idle = not waiting.get(tp) and self._chain.get(tp, done) == done
            found[tp] = self.progress.place(tp, done, is_idle, self._committed_offset.get(tp))
        return found

    # acknowledging

    def ack(self, message: Message) -> bool:
        """Take note of a whole block. False when it was acked before, or fetched before the last rebalance."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            self._unacked_messages.discard(message)
            notify(self._waiting_for_ack)
            block: Block = message.value  # type: ignore[assignment]
            if message.generation_id != self.app.consumer_generation_id or block.epoch != self.epoch:
                return False
            if message.tp.topic not in self.recovered_topics:
                self._done(message.tp, block.end)
            return True

    def release(self, tp: TP, end: int, epoch: int) -> bool:
        """A checkpoint includes everything before `end`. False when a seek came after `epoch`."""
        if epoch != self.epoch:
            return False
        self._done(tp, end)
        return True

    def is_current(self, block: Block) -> bool:
        """Whether a block may be processed. One that is not comes again, after a seek.

        While the flow is stopped the queue of an agent is emptied, but a block that waited for room in it is still let in
        (seen 2026-11-24 under load, when a third worker joined): what comes then lacks what came before it.
        """
        return block.epoch == self.epoch and self.flow_active

    def leave(self, message: Message) -> None:
        """A block that is not processed, to be read again: Faust would wait for its ack before it stops."""
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)

    def _done(self, tp: TP, end: int) -> None:
        self._ends[tp] = end
        # Faust asks for the new offset of the partitions that have something here
        self._acked[tp] = [end]
        self._n_acked += 1

    async def commit_and_end_transactions(self) -> None:
        """Faust's last commit before a partition is given up, or the consumer stops."""
        await self.transport.before_handover()
        await super().commit_and_end_transactions()

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
        elif self.alignment is not None:
            for tp, offset in offsets.items():
                self.alignment.aligner.committed(tp, offset)
        return done


def _where_committed(tp: TP, bounds: Bounds) -> int:
    """The committed offset, or the first one there is, saying what was missed."""
    committed, earliest, end = bounds
    if committed is None:
        return earliest
    if committed < earliest:
        log.error(
            "%s partition %d: %d records were deleted before they were read: retention is shorter than the time without "
            "a worker", tp.topic, tp.partition, earliest - committed,
        )  # fmt: skip
    if committed > end:
        log.warning("%s partition %d was made anew: read from its start", tp.topic, tp.partition)
        return earliest
    return max(committed, earliest)


async def _nothing() -> None:
    pass


class Transport(driver.Transport):
    """Set as `app.transport`. `recovered_topics`: names of the topics that state is made of, and that `recover` is for."""

    Consumer = Consumer

    def __init__(
        self,
        *args: Any,
        recovered_topics: Collection[str] = (),
        recover: Recover | None = None,
        before_handover: Callable[[], Awaitable[None]] = _nothing,
        aligned: tuple[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if recovered_topics and recover is None:
            raise ValueError("recovered topics need a way to recover them")
        self.recovered_topics = frozenset(recovered_topics)
        self.recover, self.before_handover = recover, before_handover
        self.aligned = aligned
        """A topic whose partitions are consumed side by side, and how many ms they may differ; see `streams.alignment`."""
        self.made: Consumer | None = None
        """The consumer, once Faust has asked for it."""

    def create_consumer(self, *args: Any, **kwargs: Any) -> Any:
        """As Faust's, remembered: `app.consumer` would make one for whoever asks too early."""
        self.made = super().create_consumer(*args, **kwargs)
        return self.made
