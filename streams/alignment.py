"""Partitions of one topic consumed side by side, by the time their records were produced.

The engine waits a lateness of event time for a meter, and the meters of one DMA lie in several partitions. Live, every
partition is at now. After an outage each is read as fast as it comes, and a partition, or another worker, that is hours
ahead of the rest makes the rest's readings late. So a record waits here until no partition with a backlog is more than
`skew` behind it: the workers see a backlog in about the order in which it was produced, as they would have seen it live.

**Level** of a record: the newest time up to it in its partition, so within a partition nothing overtakes. Times before
1990 or after 2100 say nothing, and neither does a time that most of the next `FOLLOWERS` records are more than a skew
before: one producer whose clock is ahead would else put its partition ahead of all others for good. A clock that is behind
does no harm.

**Position** of a partition: the level of the first record that is not delivered; where it has not been fetched, of the last
that was. A partition read to its end has none and keeps nobody waiting. The **horizon** is the lowest position and a skew.
A partition's records are cut there; the rest is kept, and nothing more of it fetched while more than `FOLLOWERS` are kept.

Of partitions that other workers own, the position is what they write beside their committed offset (`note`). It names the
next record's level, not the last one's: after a night in which nothing was produced every worker's next record is more than
a skew ahead of everybody's last, and they would wait for each other. Where nothing has been written yet nothing at all is
delivered; a worker writes it a second after it has fetched the partition.

A partition that is in everybody's way and has not moved for `STUCK_SECONDS` is no longer waited for, until it moves.
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from faust.types import TP
from numpy.typing import NDArray

from streams.blocks import times_ms

log = logging.getLogger("nightline")

KNOWN_MS: Final = 631_152_000_000
"""1990. A record's time before that is no time: -1 where the client set none, or 0 of a clock never set."""
NEVER: Final = np.iinfo(np.int64).min
ALWAYS: Final = np.iinfo(np.int64).max
FOLLOWERS: Final = 16
STUCK_SECONDS: Final = 60.0
STEP_SECONDS: Final = 2.0
"""The longest two calls may count for: whoever was not called for a minute has not waited for a minute."""


def skew_ms(lateness_minutes: int) -> int:
    """How far partitions may lie apart: a tenth of the lateness leaves nine for what is late by itself."""
    return max(60_000, lateness_minutes * 6_000)


def levels(times_ms: NDArray[np.int64], before: int, skew: int) -> NDArray[np.int64]:
    """Level of each record; `before` is the level of the record before the first. NEVER where no time is known yet."""
    times = np.concatenate(([before], times_ms))
    known = times >= KNOWN_MS
    below, followers = np.zeros(len(times), np.int32), np.zeros(len(times), np.int32)
    limit = np.where(known, times, KNOWN_MS) - skew
    for ahead in range(1, min(FOLLOWERS + 1, len(times))):
        followers[:-ahead] += known[ahead:]
        below[:-ahead] += known[ahead:] & (times[ahead:] < limit[:-ahead])
    trusted = np.where(known & (2 * below <= followers), times, NEVER)
    return np.maximum.accumulate(trusted)[1:]


class Position(NamedTuple):
    """Where the group is in one partition, as its owner has written it."""

    next: int | None
    """The first offset that is not done; None when nothing was ever committed."""
    end: int
    level: int | None
    """Of the record at `next`; None when the owner has not said."""


def note(level: int, following: int) -> str:
    """What an owner writes beside a committed offset: the level of the next record, and where that is at the earliest."""
    return f"t={level if level != NEVER else -1},n={following}"


_NOTE: Final = re.compile(r"t=(-1|\d{1,15}),n=(\d{1,18})")


def position(offset: int | None, metadata: str, end: int) -> Position:
    """From a committed offset and what was written beside it."""
    found = _NOTE.fullmatch(metadata)
    if offset is None or found is None:
        return Position(offset, end, None)
    level, following = int(found[1]), int(found[2])
    # holes at the end, as transactions leave them, are never consumed
    return Position(max(offset, following), end, level if level >= KNOWN_MS else NEVER)


@dataclass(eq=False)
class Lane:
    """One partition that is consumed here."""

    kept: Any = field(default_factory=list)
    levels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    at: int = 0
    """Records of `kept` before it have been delivered."""
    level: int = NEVER
    """Of the newest record delivered."""
    unread: int | None = None
    """Records that have not been fetched; None when it is not known yet."""
    is_known: bool = False
    """Something was fetched."""
    marks: tuple[tuple[int, int], ...] = ()
    """Offset and level of the first record of each cut that is not committed. Replaced, not changed: two threads read it."""
    end: int = 0
    """Offset after the newest record delivered."""
    position: int = 0
    """Of the consumer: past `end` where nothing but the markers of transactions lies between."""

    @property
    def waiting(self) -> int:
        return len(self.kept) - self.at


@dataclass
class Wait:
    """For a partition that is in the way."""

    state: object = None
    seconds: float = 0.0
    is_over: bool = False


class Aligner:
    """Decides which fetched records go on now. Pure: all times are passed in, `now` in seconds of any clock."""

    def __init__(self, topic: str, skew: int) -> None:
        self.topic, self.skew = topic, skew
        self.lanes: dict[TP, Lane] = {}
        self.warnings: list[str] = []
        self.forget()

    def forget(self) -> None:
        """After a seek or a new assignment: everything is fetched again."""
        self.lanes = {}
        self._others: Mapping[TP, Position] | None = None
        self._is_local = False
        self._waits: dict[TP, Wait] = {}
        self._taken: float | None = None
        self._observed: float | None = None
        self._horizon = NEVER

    def assign(self, partitions: Iterable[TP]) -> None:
        """Partitions of the topic that are consumed here; others are somebody else's."""
        for tp in partitions:
            self.lanes.setdefault(tp, Lane())

    # what comes in

    def observe(self, everything: Mapping[TP, Position] | None, now: float) -> None:
        """Where the group is in all partitions; None where the broker can't tell: then only own partitions are aligned."""
        self._is_local = everything is None
        self._others = {tp: there for tp, there in (everything or {}).items() if tp not in self.lanes}
        self._count(self._blocking_others(), False, now, self._observed)
        self._observed = now
        self._horizon = self._lowest()

    def take(
        self,
        fetched: Mapping[TP, Sequence[Any]],
        unread: Mapping[TP, int | None],
        now: float,
        positions: Mapping[TP, int] = MappingProxyType({}),
    ) -> dict[TP, Sequence[Any]]:
        """What goes on, of what was kept and what was `fetched`; `unread` says what is left of each partition on the broker,
        `positions` which offset is fetched next.

        One step: what it moves is taken into account by the next call. Cutting again and again here would make blocks that
        lie further apart than a skew, for each goes on whole.
        """
        for tp, lane in self.lanes.items():
            lane.unread = unread.get(tp, lane.unread)
            lane.position = positions.get(tp, lane.position)
            if fetched.get(tp):
                self._add(lane, fetched[tp])
        self._count(self._blocking_own(), True, now, self._taken)
        self._taken = now
        horizon = self._lowest()
        ready = {}
        for tp, lane in self.lanes.items():
            if lane.waiting and (records := _cut(lane, horizon)):
                ready[tp] = records
        self._horizon = self._lowest()
        return ready

    def _add(self, lane: Lane, records: Sequence[Any]) -> None:
        times = times_ms(records)
        if lane.waiting:  # few, see `held`: what follows them may show that one is not to be trusted
            records = lane.kept[lane.at :] + records
            old = times_ms(lane.kept[lane.at :])
            times = np.concatenate((old, times))
        lane.kept, lane.at, lane.is_known = records, 0, True
        lane.levels = levels(times, lane.level, self.skew)

    # the horizon

    def _own(self, lane: Lane) -> int:
        """Position of an own partition: ALWAYS where it keeps nobody waiting, NEVER where it is not known yet."""
        if lane.waiting:
            level = int(lane.levels[lane.at])
            return ALWAYS if level == NEVER else level
        if lane.unread is not None and lane.unread <= 0:
            return ALWAYS
        if not lane.is_known:
            return NEVER
        return ALWAYS if lane.level == NEVER else lane.level

    @staticmethod
    def _other(there: Position) -> int:
        if there.end <= (there.next or 0):
            return ALWAYS
        if there.level is None:
            return NEVER
        return ALWAYS if there.level == NEVER else there.level

    def _positions(self) -> dict[TP, int]:
        """Of all partitions that may keep others waiting."""
        found = {tp: self._own(lane) for tp, lane in self.lanes.items()}
        found |= {tp: self._other(there) for tp, there in (self._others or {}).items()}
        return {tp: at for tp, at in found.items() if not (tp in self._waits and self._waits[tp].is_over)}

    def _lowest(self) -> int:
        """The horizon."""
        if self._others is None and not self._is_local:
            return NEVER
        lowest = min(self._positions().values(), default=ALWAYS)
        return lowest if lowest in (NEVER, ALWAYS) else lowest + self.skew

    # what is stuck

    def _blocking_own(self) -> dict[TP, object]:
        """Own partitions that should be fetched and are not. What is kept here waits for others and is not stuck."""
        return {
            tp: (lane.is_known, lane.end, lane.unread)
            for tp, lane in self.lanes.items()
            if not lane.waiting and self._own(lane) != ALWAYS
        }

    def _blocking_others(self) -> dict[TP, object]:
        """A commit that moves without saying where it is counts as standing still: its owner will never say."""
        return {
            tp: there.level if there.level is None else (there.next, there.level)
            for tp, there in (self._others or {}).items()
            if self._other(there) != ALWAYS
        }

    def _count(self, blocking: dict[TP, object], own: bool, now: float, before: float | None) -> None:
        """Notes how long the lowest have not moved. Those further ahead wait for the lowest, as we do."""
        seconds = 0.0 if before is None else min(max(now - before, 0.0), STEP_SECONDS)
        for tp in [tp for tp in self._waits if (tp in self.lanes) == own and tp not in blocking]:
            del self._waits[tp]
        for tp, state in blocking.items():
            if tp not in self._waits or self._waits[tp].state != state:
                self._waits[tp] = Wait(state)
        everything = self._positions()
        lowest = min(everything.values(), default=ALWAYS)
        limit = lowest if lowest in (NEVER, ALWAYS) else lowest + self.skew
        for tp in blocking:
            wait = self._waits[tp]
            if wait.is_over or everything[tp] > limit or not self.is_holding:
                continue
            wait.seconds += seconds
            if wait.seconds >= STUCK_SECONDS:
                wait.is_over = True
                self.warnings.append(
                    f"{tp.topic} partition {tp.partition}: no progress for {STUCK_SECONDS:.0f} s, so nothing waits "
                    "for it now; readings of its meters may come too late to be judged"
                )

    # what the rest of the worker asks

    def held(self) -> set[TP]:
        """Partitions of which nothing is to be fetched now."""
        return {tp for tp, lane in self.lanes.items() if lane.waiting > FOLLOWERS}

    @property
    def is_holding(self) -> bool:
        """Something is kept back."""
        return any(lane.waiting for lane in self.lanes.values())

    @property
    def is_ready(self) -> bool:
        """Something of what is kept can go on without anything more being fetched."""
        return any(lane.waiting and lane.levels[lane.at] <= self._horizon for lane in self.lanes.values())

    def reached(self, tp: TP, offset: int) -> str | None:
        """What to write beside this committed offset; None when it is not known. May be called from another thread."""
        lane = self.lanes.get(tp)
        if lane is None or not lane.is_known:
            return None
        marks = lane.marks
        at = bisect_left(marks, (offset, NEVER))
        if at < len(marks):
            return note(marks[at][1], offset)
        kept, first, known = lane.kept, lane.at, lane.levels
        if first < len(kept) == len(known):
            return note(int(known[first]), offset)
        return note(lane.level, max(offset, lane.position) if offset == lane.end else offset)

    def first(self, tp: TP) -> int | None:
        """Offset of the first record that is not known to be committed. May be called from another thread."""
        lane = self.lanes.get(tp)
        if lane is None or not lane.is_known:
            return None
        marks, kept, at = lane.marks, lane.kept, lane.at
        if marks:
            return marks[0][0]
        return int(kept[at].offset) if at < len(kept) else None

    def committed(self, tp: TP, offset: int) -> None:
        """Cuts before it need not be remembered."""
        lane = self.lanes.get(tp)
        if lane is not None:
            lane.marks = tuple(mark for mark in lane.marks if mark[0] >= offset)


def _cut(lane: Lane, horizon: int) -> Sequence[Any]:
    """Deliver what lies up to the horizon."""
    count = int(np.searchsorted(lane.levels[lane.at :], horizon, "right"))
    if not count:
        return []
    upto = lane.at + count
    records = lane.kept[lane.at : upto]
    lane.marks = (*lane.marks, (records[0].offset, int(lane.levels[lane.at])))
    lane.level, lane.end = int(lane.levels[upto - 1]), records[-1].offset + 1
    if upto == len(lane.kept):
        lane.kept, lane.levels, lane.at = [], lane.levels[:0], 0
    else:
        lane.at = upto
    return records
