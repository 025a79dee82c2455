"""An Aligner in Faust's consumer: asks the group how far its partitions are, and tells how far our own are.

Progress travels in the metadata of committed offsets, so it needs no topic of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from streams.alignment import STUCK_SECONDS, Aligner, Position, position

log = logging.getLogger("nightline")

ASK_SECONDS: Final = 1.0
ASK_HOLDING_SECONDS: Final = 0.2
ANSWER_SECONDS: Final = 5.0
HOLDING_FETCH_SECONDS: Final = 0.05
"""While something is kept a fetch without news ends so soon, for what moves others may come from elsewhere."""


class Alignment:
    """An Aligner with Faust's consumer around it. Everything but `_ask` runs in the app's thread."""

    def __init__(self, thread: Any, topic: str, skew: int) -> None:
        self.aligner = Aligner(topic, skew)
        self._thread, self._topic = thread, topic
        self._answer: concurrent.futures.Future[dict[TP, Position] | None] | None = None
        self._asked = -np.inf
        self._heard: float | None = None
        """When the group last answered; when it was first asked, before that."""
        self._is_alone = False

    def forget(self) -> None:
        """After a seek or a new assignment. An answer to an older question is about another assignment."""
        self.aligner.forget()
        if self._answer is not None:
            self._answer.cancel()
        self._answer, self._asked, self._heard = None, -np.inf, None

    def wanted(self, active: set[TP]) -> set[TP]:
        """Partitions to fetch from."""
        self.aligner.assign(tp for tp in active if tp.topic == self._topic)
        return active - self.aligner.held()

    def timeout(self, seconds: float) -> float:
        """How long a fetch may wait for news."""
        if self.aligner.is_ready:
            return 0.0
        return min(seconds, HOLDING_FETCH_SECONDS) if self.aligner.is_holding else seconds

    def take(self, fetched: Mapping[TP, Sequence[Any]], now: float) -> dict[TP, Sequence[Any]]:
        """What goes on of a fetch: of other topics everything."""
        self._talk(now)
        mine = {tp: records for tp, records in fetched.items() if tp.topic == self._topic}
        ready = {tp: records for tp, records in fetched.items() if tp.topic != self._topic}
        assignment = self._thread._ensure_consumer()._subscription.subscription.assignment
        unread: dict[TP, int | None] = {}
        positions: dict[TP, int] = {}
        for tp in self.aligner.lanes:
            state = assignment.state_value(TopicPartition(*tp))
            is_known = state is not None and state.highwater is not None and state.has_valid_position
            unread[tp] = state.highwater - state.position if is_known else None
            if is_known:
                positions[tp] = state.position
        ready |= self.aligner.take(mine, unread, now, positions)
        for warning in self.aligner.warnings:
            log.warning("%s", warning)
        self.aligner.warnings.clear()
        return ready

    def _talk(self, now: float) -> None:
        """Takes in what the group has answered, and asks again when it is time."""
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            try:
                self.aligner.observe(answer.result(), now)
                self._heard = now
            except (KafkaError, TimeoutError) as error:  # what was known before still holds, for a while
                log.debug("%s: the group's progress is not known: %s", self._topic, error)
        self._heard = now if self._heard is None else self._heard
        if now - self._heard > STUCK_SECONDS:
            self._heard = now
            self.aligner.observe(None, now)
            log.warning(
                "%s: the group has not told its progress for %.0f s; others are not waited for", self._topic, STUCK_SECONDS
            )
        pause = ASK_HOLDING_SECONDS if self.aligner.is_holding else ASK_SECONDS
        if self._answer is None and now - self._asked >= pause:
            self._asked = now
            self._answer = asyncio.run_coroutine_threadsafe(self._ask(), self._thread.thread_loop)

    async def _ask(self) -> dict[TP, Position] | None:
        """Ends first: what is produced in between is of now and in nobody's way. None where the broker can't tell."""
        consumer = self._thread._ensure_consumer()
        tps = [TopicPartition(self._topic, number) for number in sorted(consumer.partitions_for_topic(self._topic) or ())]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                ends = await consumer.end_offsets(tps)
                async with self._thread.committing:
                    committed = await consumer._coordinator.fetch_committed_offsets(tps)
                    await self._tell(consumer, committed)
                new = [tp for tp in tps if tp not in committed]
                begins = await consumer.beginning_offsets(new) if new else {}
        except KafkaError as error:
            if error.retriable:
                raise
            if not self._is_alone:
                log.info("%s: this broker does not tell the progress of other workers: %s", self._topic, error)
            self._is_alone = True
            return None
        return {
            TP(*tp): position(committed[tp].offset, committed[tp].metadata or "", ends[tp])
            if tp in committed
            else Position(begins[tp], ends[tp], None)
            for tp in tps
        }

    async def _tell(self, consumer: Any, committed: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Write where own partitions are when it is more than the last commit said: others wait for it."""
        news = {}
        for tp in list(self.aligner.lanes):
            there = committed.get(TopicPartition(*tp))
            offset = self.aligner.first(tp) if there is None else there.offset
            said = None if offset is None else self.aligner.reached(tp, offset)
            if said is not None and (there is None or said != there.metadata):
                news[TopicPartition(*tp)] = OffsetAndMetadata(offset, said)
        if news:
            try:
                await consumer.commit(news)
            except (CommitFailedError, IllegalStateError) as error:
                log.debug("%s: %s", self._topic, error)  # rebalanced meanwhile
