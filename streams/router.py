"""`route`: blocks of raw messages -> packed readings per DMA, and dead letters.

It has no state and goes on at its committed offset. What it published before a kill it publishes again; each packed
block says which messages its readings came in (`models.packing.Source`), so `watch` drops what it has had. Readings of
one origin keep the order in which they came; a block that mixes live and replayed readings is published as one message
for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.cloudevents import rfc3339
from models.codec import Decoder
from models.network import Site
from models.packing import Packing, Source
from models.routing import gather, shares
from models.schema import Readings
from streams.blocks import UNKNOWN_MS, Block, times_ms
from streams.dlq import dead_letter
from streams.outbox import Message
from streams.records import NO_HEADERS, Records
from streams.tally import AHEAD, BEHIND, Tally
from streams.topics import DAY_MS, PACKED_LIMIT, RAW_DAYS, READING_LIMIT, READINGS

REPLAY_HEADER: Final = ("nl-origin", b"replay")
FUTURE_MS: Final = 3_600_000
"""A reading may be observed this much later than its message was produced: clocks are never quite the same."""
PAST_MS: Final = RAW_DAYS * DAY_MS
"""A live reading may be observed this much earlier: as long as raw readings are retained. What is older comes from a
clock that is wrong, or is history, which `nightline replay` marks as such."""


class _OfMessage(NamedTuple):
    """For each of some readings, what is known of the message it came in."""

    block: Block
    offset: NDArray[np.int64]
    time_ms: NDArray[np.int64]

    def only(self, which: NDArray[Any]) -> _OfMessage:
        return _OfMessage(self.block, self.offset[which], self.time_ms[which])


class Router:
    """Blocks of `readings.raw.v1` -> packed readings per DMA, and dead letters."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._decoder, self._packing = Decoder(site), Packing(site)
        self._subscribers = site.subscribers()
        self.tally = Tally(site.meter_row)

    def route(self, block: Block) -> list[Message]:
        """What to publish for a block, dead letters first."""
        records = block.records
        reasons = _oversized(records)
        size = np.where(records.value_size > READING_LIMIT, -1, records.value_size)
        decoded = self._decoder.decode_spans(records.data, records.value_at, size)
        for reject in decoded.rejects:
            reasons.setdefault(reject.message, [reject.reason])
        of_replay, of_time_ms = _replayed(records), times_ms(records)
        readings, message = self._drop_wrong_times(decoded.readings, decoded.message, of_time_ms, of_replay, reasons)
        found = [dead_letter(records[at], "; ".join(why)) for at, why in sorted(reasons.items())]
        for at, why in reasons.items():
            self.tally.reject(records[at], why)
        of_message = _OfMessage(block, records.offset[message], of_time_ms[message])
        replayed = of_replay[message]
        for origin, mine in (("replay", replayed), ("live", ~replayed)):
            if mine.all():
                found += self._published(readings, of_message, origin)
            elif mine.any():
                found += self._published(readings[mine], of_message.only(mine), origin)
        return found

    def _published(self, readings: Readings, of_message: _OfMessage, origin: str) -> Iterator[Message]:
        """Readings of one origin, by DMA."""
        if not len(readings):
            return
        dmas, order, edges = shares(readings, self._subscribers)
        readings, of_message = gather(readings, order), of_message.only(order)
        oldest_ms = np.minimum.reduceat(of_message.time_ms, edges[:-1]).tolist() if len(dmas) else []
        newest_ms = np.maximum.reduceat(of_message.time_ms, edges[:-1]).tolist() if len(dmas) else []
        ends = edges.tolist()
        for at, row in enumerate(dmas.tolist()):
            mine = slice(ends[at], ends[at + 1])
            source = Source(
                of_message.block.partition, of_message.block.end, oldest_ms[at], newest_ms[at], of_message.offset[mine]
            )  # fmt: skip
            dma = self._site.dmas[row].id
            key = dma.encode()
            for blob in self._pack(dma, readings[mine], origin, source):
                yield Message(READINGS, key, blob, [])

    def _drop_wrong_times(
        self,
        readings: Readings,
        message: NDArray[np.int32],
        of_time_ms: NDArray[np.int64],
        of_replay: NDArray[np.bool_],
        reasons: dict[int, list[str]],
    ) -> tuple[Readings, NDArray[np.int32]]:
        """Leaves out what a wrong clock observed: one ahead would move the watermark past everybody else's readings."""
        produced_ms = of_time_ms[message]
        known = produced_ms != UNKNOWN_MS
        future = known & (readings["time_ms"] > produced_ms + FUTURE_MS)
        past = known & ~of_replay[message] & (readings["time_ms"] < produced_ms - PAST_MS)
        if not (future.any() or past.any()):
            return readings, message
        for wrong, side, what in (
            (future, AHEAD, "more than 1 h ahead of"),
            (past, BEHIND, f"more than {RAW_DAYS} days before"),
        ):
            for at in np.unique(message[wrong]).tolist():
                of_message = message == at
                of_clock = of_message & wrong
                times = readings["time_ms"][of_clock]
                own_ms = int(of_time_ms[at])
                reason = f"observedAt {rfc3339(int(times[0]))} is {what} the message's own time {rfc3339(own_ms)}"
                if side == BEHIND:
                    reason += "; possible: history with the header nl-origin: replay"
                if of_message.sum() > 1:
                    reason += f"; {len(times)} of {int(of_message.sum())} readings rejected"
                reasons.setdefault(at, []).append(reason)
                self._count_clocks(readings[of_clock], side, own_ms)
        kept = ~(future | past)
        return readings[kept], message[kept]

    def _count_clocks(self, readings: Readings, side: str, own_ms: int) -> None:
        """Readings of one message that are all wrong on one side."""
        for row in np.unique(readings["meter"]).tolist():
            times = readings["time_ms"][readings["meter"] == row]
            off_ms = abs(int(times[-1]) - own_ms)
            self.tally.wrong_clock(self._site.meters[row].id, side, len(times), own_ms, off_ms)

    def _pack(self, dma: str, readings: Readings, origin: str, source: Source) -> Iterator[bytes]:
        """One message, or as many as keep each below the limit."""
        blob = self._packing.pack(dma, readings, origin, source)
        if len(blob) <= PACKED_LIMIT or len(readings) == 1:
            yield blob
            return
        half = len(readings) // 2
        offsets = source.offsets
        # a message of many readings may lie in both parts: after the first it is not yet complete
        first = replace(source, end=int(offsets[half]), offsets=offsets[:half])
        yield from self._pack(dma, readings[:half], origin, first)
        yield from self._pack(dma, readings[half:], origin, replace(source, offsets=offsets[half:]))


def _oversized(records: Records) -> dict[int, list[str]]:
    """Why a payload is too long to be decoded, by its index."""
    sizes = records.value_size
    return {
        at: [f"oversized: found {sizes[at]} bytes; possible: at most {READING_LIMIT}"]
        for at in np.flatnonzero(sizes > READING_LIMIT).tolist()
    }


def _replayed(records: Records) -> NDArray[np.bool_]:
    """Which records carry the header of a replay. Few different headers come again and again."""
    found = np.zeros(len(records), np.bool_)
    known: dict[bytes, bool] = {}
    for at in np.flatnonzero(records.headers_size > len(NO_HEADERS)).tolist():
        headers = records.headers_bytes(at)
        if headers not in known:
            known[headers] = REPLAY_HEADER in records[at].headers
        found[at] = known[headers]
    return found
