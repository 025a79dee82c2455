"""The two agents: `route` (raw messages -> readings per DMA) and `watch` (readings -> alerts and detections).

Both take a block, turn it into messages with a plain function (`Router.route`, `Watcher.watch`), have all of them
confirmed by the broker, and only then acknowledge the block. Bad input becomes a dead letter, never an exception; an
exception is therefore a fault of ours: nothing is acknowledged, the worker stops, a restart reads the block again.

State of `watch`. One engine per DMA and partition of `readings.v1`. It is not yet checkpointed: after every assignment
the partition is read again from its earliest retained record (`Transport.rebuilt_topics`), and the first block after
that (`Continuity.check`) starts with new engines. Engines are deterministic and a partition's log is fixed, so they
arrive at the same state and the same alert ids and revisions, whoever owned the partition before. What was committed
before has been published and confirmed; blocks up to there rebuild state and publish nothing, which also keeps a closed
alert from reappearing in `alerts.open.v1`. A block that straddles the committed offset publishes what it published
before: the same ids and revisions with the same contents. Partitions that went to another worker lose their engines as
soon as the revocation is known.

`route` has no state and goes on at its committed offset. What it published before a kill and publishes again are
duplicates, which the engine drops. Readings of one origin keep the order in which they came; a block that mixes live
and replayed readings is published as one message for each.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from models.cloudevents import encode, rfc3339
from models.codec import Decoder
from models.detectors import DETECTORS
from models.engine import Engine
from models.features import FEATURES
from models.network import Site
from models.packing import Block as Packed
from models.packing import pack_block, unpack_block
from models.routing import split
from models.schema import Alert, Readings
from streams.detections import pack_detections
from streams.dlq import dead_letter
from streams.outbox import Message
from streams.topics import ALERTS, DETECTIONS, OPEN_ALERTS, PACKED_LIMIT, READING_LIMIT, READINGS
from streams.transport import Block

if TYPE_CHECKING:
    from models.bundle import Bundle

log = logging.getLogger("nightline")

REPLAY_HEADER: Final = ("nl-origin", b"replay")
FUTURE_MS: Final = 3_600_000
"""A reading may be observed this much later than its message was produced: clocks are never quite the same."""

DETECTOR_NAMES: Final = tuple(detector.name for detector in DETECTORS)


class Router:
    """Blocks of `readings.raw.v1` -> packed readings per DMA, and dead letters."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._decoder = Decoder(site)
        self._subscribers = site.subscribers()

    def route(self, block: Block) -> list[Message]:
        """What to publish for a block, dead letters first."""
        records = block.records
        payloads = [record.value for record in records]
        reasons = _oversized(payloads)
        decoded = self._decoder.decode(payloads)
        for reject in decoded.rejects:
            reasons.setdefault(reject.message, [reject.reason])
        readings, message = self._drop_future(decoded.readings, decoded.message, records, reasons)
        found = [dead_letter(records[at], "; ".join(why)) for at, why in sorted(reasons.items())]
        replayed = _replayed(records)[message]
        for origin, mine in (("replay", replayed), ("live", ~replayed)):
            if mine.any():
                for row, part in split(readings if mine.all() else readings[mine], self._subscribers):
                    dma = self._site.dmas[row].id
                    found += [Message(READINGS, dma.encode(), blob, []) for blob in self._pack(dma, part, origin)]
        return found

    def _drop_future(
        self, readings: Readings, message: NDArray[np.int32], records: list[Any], reasons: dict[int, list[str]]
    ) -> tuple[Readings, NDArray[np.int32]]:
        """A clock that is ahead would move the watermark past everybody else's readings."""
        produced_ms = np.array([record.timestamp for record in records], np.int64)[message]
        future = (readings["time_ms"] > produced_ms + FUTURE_MS) & (produced_ms >= 0)
        if not future.any():
            return readings, message
        for at in np.unique(message[future]).tolist():
            of_message = message == at
            times = readings["time_ms"][of_message & future]
            reason = (
                f"observedAt {rfc3339(int(times[0]))} is more than 1 h ahead of the message's own time "
                f"{rfc3339(records[at].timestamp)}"
            )
            if of_message.sum() > 1:
                reason += f"; {len(times)} of {int(of_message.sum())} readings rejected"
            reasons.setdefault(at, []).append(reason)
        return readings[~future], message[~future]

    def _pack(self, dma: str, readings: Readings, origin: str) -> Iterator[bytes]:
        """One message, or as many as keep each below the limit."""
        blob = pack_block(self._site, dma, readings, origin)
        if len(blob) <= PACKED_LIMIT or len(readings) == 1:
            yield blob
            return
        half = len(readings) // 2
        yield from self._pack(dma, readings[:half], origin)
        yield from self._pack(dma, readings[half:], origin)


def _oversized(payloads: list[bytes | None]) -> dict[int, list[str]]:
    """Why a payload is too long to be decoded, by its index; it is replaced by None."""
    reasons: dict[int, list[str]] = {}
    # most blocks have none: one pass in C, which a null value ends with a TypeError
    with contextlib.suppress(TypeError):
        if max(map(len, payloads)) <= READING_LIMIT:  # type: ignore[arg-type]
            return reasons
    for at, value in enumerate(payloads):
        if value is not None and len(value) > READING_LIMIT:
            reasons[at] = [f"oversized: found {len(value)} bytes; possible: at most {READING_LIMIT}"]
            payloads[at] = None
    return reasons


def _replayed(records: list[Any]) -> NDArray[np.bool_]:
    """Which records carry the header of a replay. Few different headers come again and again."""
    headers = [tuple(record.headers) for record in records]
    known = {some: REPLAY_HEADER in some for some in set(headers)}
    return np.array([known[some] for some in headers], np.bool_)


class Watcher:
    """Blocks of `readings.v1` -> alerts, detections, and dead letters. Keeps the engines, by partition and DMA."""

    def __init__(self, site: Site, bundle: Bundle | None = None) -> None:
        self._site, self._bundle = site, bundle
        self._engines: dict[int, dict[str, Engine]] = {}
        self.late = 0
        """Readings that came after their slot was closed, since the start."""

    def start_over(self, partition: int) -> None:
        """The partition is read again from its start."""
        self._engines[partition] = {}

    def drop(self, partitions: Iterable[int]) -> None:
        """Partitions that belong to another worker now."""
        for partition in partitions:
            self._engines.pop(partition, None)

    def watch(self, block: Block, publish: bool = True) -> tuple[list[Message], list[Alert]]:
        """What to publish for a block, and the alert revisions in it. With `publish` False only state is built."""
        engines = self._engines.setdefault(block.partition, {})
        found: list[Message] = []
        packed: list[Packed] = []
        for record in block.records:
            try:
                packed.append(self._unpack(record.value))
            except ValueError as error:
                if publish:
                    found.append(dead_letter(record, str(error)))
        alerts: list[Alert] = []
        # stable: the parts of one DMA keep their order, and DMAs know nothing of each other
        packed.sort(key=lambda part: part.dma)
        for (dma, origin), parts in groupby(packed, key=lambda part: (part.dma, part.origin)):
            readings = [part.readings for part in parts]
            engine = engines.get(dma)
            if engine is None:
                engine = engines[dma] = Engine(self._site, dma, self._bundle)
            result = engine.step(readings[0] if len(readings) == 1 else np.concatenate(readings), origin)
            self.late += result.late
            if publish:
                alerts += result.alerts
                key = dma.encode()
                found += [
                    Message(DETECTIONS, key, blob, [])
                    for blob in pack_detections(dma, origin, result.detections, FEATURES, DETECTOR_NAMES, PACKED_LIMIT)
                ]
        for alert in alerts:
            found += alert_messages(alert, self._site.name)
        return found, alerts

    def _unpack(self, value: bytes | None) -> Packed:
        if value is None:
            raise ValueError("value is null; possible: a block of readings")
        packed = unpack_block(self._site, value)
        if packed.dma not in self._site.dma_row:
            raise ValueError(f"DMA {packed.dma!r} is not in network.toml")
        return packed


def alert_messages(alert: Alert, site_name: str) -> list[Message]:
    """A revision for `alerts.v1`, and the open alert, or its tombstone, for `alerts.open.v1`."""
    key, value, headers = encode(alert, site_name)
    closed = alert.event == "closed"
    return [Message(ALERTS, key, value, headers), Message(OPEN_ALERTS, key, None if closed else value, headers)]


def alert_line(alert: Alert) -> str:
    """One revision in plain words."""
    time = rfc3339(alert.updated_at)[:16] + "Z"
    return f"{time} {alert.event} ({alert.severity}): {alert.title.en}"


def announce(alerts: list[Alert], say: Callable[[str], None]) -> None:
    """One line for each revision; what was replayed is marked."""
    for alert in alerts:
        say(f"{'replay ' if alert.origin == 'replay' else ''}{alert_line(alert)}")
