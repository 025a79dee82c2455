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
from collections import Counter
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
from streams.topics import ALERTS, DAY_MS, DETECTIONS, OPEN_ALERTS, PACKED_LIMIT, RAW_DAYS, READING_LIMIT, READINGS
from streams.transport import Block

if TYPE_CHECKING:
    from models.bundle import Bundle

log = logging.getLogger("nightline")

REPLAY_HEADER: Final = ("nl-origin", b"replay")
FUTURE_MS: Final = 3_600_000
"""A reading may be observed this much later than its message was produced: clocks are never quite the same."""
PAST_MS: Final = RAW_DAYS * DAY_MS
"""A live reading may be observed this much earlier: as long as raw readings are retained. What is older comes from a
clock that is wrong, or is history, which `nightline replay` marks as such."""
KNOWN_MS: Final = 631_152_000_000
"""1990. A message's own time before that is no time: -1 where the client set none, or 0 of a clock never set."""

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
        of_replay = _replayed(records)
        readings, message = _drop_wrong_times(decoded.readings, decoded.message, records, of_replay, reasons)
        found = [dead_letter(records[at], "; ".join(why)) for at, why in sorted(reasons.items())]
        replayed = of_replay[message]
        for origin, mine in (("replay", replayed), ("live", ~replayed)):
            if mine.any():
                for row, part in split(readings if mine.all() else readings[mine], self._subscribers):
                    dma = self._site.dmas[row].id
                    found += [Message(READINGS, dma.encode(), blob, []) for blob in self._pack(dma, part, origin)]
        return found

    def _pack(self, dma: str, readings: Readings, origin: str) -> Iterator[bytes]:
        """One message, or as many as keep each below the limit."""
        blob = pack_block(self._site, dma, readings, origin)
        if len(blob) <= PACKED_LIMIT or len(readings) == 1:
            yield blob
            return
        half = len(readings) // 2
        yield from self._pack(dma, readings[:half], origin)
        yield from self._pack(dma, readings[half:], origin)


def _drop_wrong_times(
    readings: Readings,
    message: NDArray[np.int32],
    records: list[Any],
    of_replay: NDArray[np.bool_],
    reasons: dict[int, list[str]],
) -> tuple[Readings, NDArray[np.int32]]:
    """Leaves out what a wrong clock observed: one ahead would move the watermark past everybody else's readings."""
    produced_ms = np.array([record.timestamp for record in records], np.int64)[message]
    known = produced_ms >= KNOWN_MS
    future = known & (readings["time_ms"] > produced_ms + FUTURE_MS)
    past = known & ~of_replay[message] & (readings["time_ms"] < produced_ms - PAST_MS)
    if not (future.any() or past.any()):
        return readings, message
    for wrong, what in (
        (future, "more than 1 h ahead of"),
        (past, f"more than {RAW_DAYS} days before"),
    ):
        for at in np.unique(message[wrong]).tolist():
            of_message = message == at
            times = readings["time_ms"][of_message & wrong]
            reason = f"observedAt {rfc3339(int(times[0]))} is {what} the message's own time {rfc3339(records[at].timestamp)}"
            if what.endswith("before"):
                reason += "; possible: history with the header nl-origin: replay"
            if of_message.sum() > 1:
                reason += f"; {len(times)} of {int(of_message.sum())} readings rejected"
            reasons.setdefault(at, []).append(reason)
    kept = ~(future | past)
    return readings[kept], message[kept]


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
        late: Counter[str] = Counter()
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
            late[dma] += result.late
            if publish:
                alerts += result.alerts
                key = dma.encode()
                found += [
                    Message(DETECTIONS, key, blob, [])
                    for blob in pack_detections(dma, origin, result.detections, FEATURES, DETECTOR_NAMES, PACKED_LIMIT)
                ]
        for alert in alerts:
            found += alert_messages(alert, self._site.name)
        if publish:
            _warn_of_unused(block, packed, late)
        return found, alerts

    def _unpack(self, value: bytes | None) -> Packed:
        if value is None:
            raise ValueError("value is null; possible: a block of readings")
        packed = unpack_block(self._site, value)
        if packed.dma not in self._site.dma_row:
            raise ValueError(f"DMA {packed.dma!r} is not in network.toml")
        return packed


def _warn_of_unused(block: Block, packed: list[Packed], late: Counter[str]) -> None:
    """One line for the readings of a block that no engine judged, by DMA."""
    unknown: Counter[str] = Counter()
    for part in packed:
        unknown[part.dma] += part.unknown
    said = [
        f"{counts.total()} readings {what} ({', '.join(f'{dma} {count}' for dma, count in sorted(counts.items()) if count)})"
        for what, counts in (
            ("came after their slot was closed", late),
            ("are of meters that are not in network.toml, or of another kind there", unknown),
        )
        if counts.total()
    ]
    if said:
        log.warning("%s partition %d: not judged: %s", block.topic, block.partition, "; ".join(said))


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
