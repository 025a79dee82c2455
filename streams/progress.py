"""How far a worker's partitions are, for those who ask: position, end of the log, and the end when they were assigned.

Everything here runs in the app's loop; only the question for the ends of the logs is sent to the consumer's thread, and
only when somebody asks (`refresh`). The ends that come with fetches are not used: a partition that the alignment holds
back, or of which records wait, is not fetched, and its end would stand still while its lag grows.

A log may end in markers of transactions, which no consumer ever gets to see. So once everything that was fetched of a
partition is processed, it is as far as the fetcher is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiokafka import TopicPartition
from faust.types import TP

log = logging.getLogger("nightline")

FRESH_SECONDS: Final = 1.0
"""Ends that are not older are not asked for again."""
WAIT_SECONDS: Final = 1.0
"""So long an answer is waited for; then what is known serves."""
GIVE_UP_SECONDS: Final = 10.0


class Place(NamedTuple):
    """Where a partition is. All are offsets of the record after."""

    position: int
    """Records before it are processed."""
    committed: int | None
    end: int
    """Of the log, when last heard."""
    goal: int
    """Of the log when the partition was assigned."""

    @property
    def lag_records(self) -> int:
        """Records to go."""
        return max(0, self.end - self.position)

    @property
    def missing_records(self) -> int:
        """Records to go that were there when the partition was assigned."""
        return max(0, self.goal - self.position)


class Progress:
    """Of one consumer. `thread` is Faust's consumer thread."""

    def __init__(self, thread: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._thread, self._clock = thread, clock
        self._asking: asyncio.Task[None] | None = None
        self.heard_at: float | None = None
        """When the broker last told the ends, in seconds of `clock`."""
        self.assignment = 0
        """Counts up whenever partitions are taken away or sought."""
        self.starts: dict[TP, int] = {}
        """Where each partition went on; empty until the assignment's state is brought back."""
        self._goals: dict[TP, int] = {}
        self._ends: dict[TP, int] = {}
        self._fetched: dict[TP, int] = {}

    def forget(self) -> int:
        """Partitions are taken away, or about to be sought. Returns a number for `begin`."""
        self.assignment += 1
        self.starts, self._goals, self._ends, self._fetched = {}, {}, {}, {}
        return self.assignment

    def begin(self, assignment: int, starts: Mapping[TP, int], ends: Mapping[TP, int]) -> None:
        """Partitions go on from `starts`; nothing when they were taken away since `assignment`."""
        if assignment == self.assignment:
            self.starts, self._goals, self._ends = dict(starts), dict(ends), dict(ends)
            self.heard_at = self._clock()

    def note_fetched(self) -> None:
        """To be called when no fetch is under way, and what it brought is known to whoever asks `place`."""
        # the objects are the consumer thread's; to read single fields of them is safe
        consumer = self._thread._consumer
        assignment = None if consumer is None else consumer._subscription.subscription.assignment
        if assignment is None:
            return
        for tp in self.starts:
            state = assignment.state_value(TopicPartition(*tp))
            if state is not None and state.has_valid_position:
                self._fetched[tp] = state.position

    def place(self, tp: TP, done: int, is_idle: bool, committed: int | None) -> Place:
        """Of a partition processed up to `done`; `is_idle` when nothing that was fetched of it waits."""
        position = max(done, self._fetched.get(tp, done)) if is_idle else done
        return Place(position, committed, max(self._ends[tp], position), self._goals[tp])

    # asking the broker

    @property
    def age_seconds(self) -> float | None:
        """Since the broker last told the ends; None before."""
        return None if self.heard_at is None else self._clock() - self.heard_at

    async def refresh(self) -> None:
        """Learn the ends of the logs, where they are not fresh. Returns after `WAIT_SECONDS` at the latest, never raises."""
        if self._asking is not None and self._asking.done():
            self._asking = None
        age = self.age_seconds
        if self._asking is None and self.starts and (age is None or age >= FRESH_SECONDS):
            self._asking = asyncio.create_task(self._ask(self.assignment, tuple(self.starts)))
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=WAIT_SECONDS)

    def close(self) -> None:
        """No answer is waited for any more."""
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self, assignment: int, tps: Iterable[TP]) -> None:
        loop = self._thread.thread_loop
        if loop is None or not loop.is_running():
            return
        wanted = [TopicPartition(*tp) for tp in tps]
        try:
            consumer = self._thread._ensure_consumer()
            async with asyncio.timeout(GIVE_UP_SECONDS):
                answer = asyncio.run_coroutine_threadsafe(consumer.end_offsets(wanted), loop)
                ends = await asyncio.wrap_future(answer)
        except Exception as error:  # whatever it is: what was known before serves, and its age is told
            log.debug("the ends of the logs are not known: %s: %s", type(error).__name__, error)
            return
        if assignment == self.assignment:
            self._ends = {TP(*tp): end for tp, end in ends.items()}
            self.heard_at = self._clock()
