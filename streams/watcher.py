"""`watch`: blocks of packed readings -> alert revisions, detections and dead letters; and the checkpoints of its state.

One engine per DMA. A partition's states come from its checkpoints (`checkpoints.where_to_start`) and include different
parts of its log, so each drops the records it has. It also drops the readings it has: what a router published before it
was killed, another publishes again. A partition's log is fixed and engines are deterministic, so whoever owned it before,
the alerts are the same, id for id and revision for revision.

What was committed before has been published and confirmed; blocks up to there only bring state forward and publish
nothing, which also keeps a closed alert from reappearing in `alerts.open.v1`. A block that straddles the committed offset
publishes what it published before: the same ids and revisions with the same contents.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.cloudevents import encode, rfc3339
from models.detectors import DETECTORS
from models.engine import Engine
from models.features import FEATURES
from models.network import Site
from models.packing import Block as Packed
from models.packing import Packing
from models.schema import Alert, Readings
from streams.blocks import Block
from streams.checkpoints import Bounds, Checkpoint, Record, Seen, Start, pack, where_to_start
from streams.detections import pack_detections
from streams.dlq import dead_letter
from streams.outbox import Message
from streams.topics import ALERTS, CHECKPOINTS, DETECTIONS, OPEN_ALERTS, PACKED_LIMIT

if TYPE_CHECKING:
    from models.bundle import Bundle

log = logging.getLogger("nightline")

REFRESH_SECONDS: Final = 600.0
"""A state with nothing new is written again after so long: a start reads a partition from its oldest state."""

DETECTOR_NAMES: Final = tuple(detector.name for detector in DETECTORS)


@dataclass
class Watched:
    """One DMA's engine, and what it includes."""

    engine: Engine
    seen: dict[str, Seen] = field(default_factory=dict)
    offset: int = 0
    """Records of the partition before it are included."""
    is_new: bool = True
    """It has changed since its last checkpoint."""
    saved_at: float = -np.inf
    """When that was, in the caller's seconds."""
    saved_offset: int | None = None
    """What the last checkpoint includes; None before the first."""
    late: int = 0
    """Readings whose slot was closed already. This and the next two: since this worker took the DMA over."""
    duplicates: int = 0
    """Readings superseded by a later one of the same meter and time."""
    repeated: int = 0
    """Readings dropped because they were included before."""


@dataclass
class Owned:
    """One partition of `readings.v1`."""

    end: int = 0
    """Everything before it has been processed."""
    states: dict[str, Watched] = field(default_factory=dict)


class Watcher:
    """Keeps the engines, by partition and DMA."""

    def __init__(self, site: Site, bundle: Bundle | None = None, rebuild: bool = False) -> None:
        self._site, self._bundle, self._rebuild = site, bundle, rebuild
        self._packing = Packing(site)
        self.owned: dict[int, Owned] = {}
        self.is_replayed = False
        """The last block held replayed readings."""

    # state

    def restore(self, partition: int, partitions: int, records: Iterable[Record], bounds: Bounds, now: float) -> Start:
        """Take a partition over with what its checkpoints hold. Raises LostStateError."""
        engines: dict[str, Engine] = {}

        def restore(checkpoint: Checkpoint) -> None:
            engine = Engine(self._site, checkpoint.dma, self._bundle)
            engine.restore(checkpoint.state)
            engines[checkpoint.dma] = engine

        start = where_to_start(
            partition, partitions, self._site.dma_row, records, bounds, restore, self._rebuild
        )  # fmt: skip
        owned = self.owned[partition] = Owned(end=start.offset)
        for dma, state in start.states.items():
            owned.states[dma] = Watched(
                engines[dma], dict(state.seen), state.offset, is_new=False, saved_at=now, saved_offset=state.offset
            )  # fmt: skip
        for warning in start.warnings:
            log.warning("%s", warning)
        ours = _model_name(None if self._bundle is None else self._bundle.version)
        others = sorted({_model_name(state.model) for state in start.states.values()} - {ours})
        if others:
            # meant after a promotion; not where a model was lost with its file
            log.warning("partition %d: scored with %s so far, and from now on with %s", partition, ", ".join(others), ours)
        return start

    def drop(self, partitions: Iterable[int]) -> None:
        """Partitions that belong to another worker now."""
        for partition in partitions:
            self.owned.pop(partition, None)

    def checkpoint(self, partition: int, partitions: int, now: float, everything: bool = False) -> list[Message]:
        """A checkpoint of each state that is new, or old enough, or of `everything`; `saved` tells that they are safe."""
        owned = self.owned[partition]
        known = tuple(sorted(owned.states))
        messages = []
        for dma, watched in sorted(owned.states.items()):
            stale = watched.offset < owned.end and (everything or now - watched.saved_at >= REFRESH_SECONDS)
            if watched.is_new or stale:
                # everything before `end` is processed, also for a DMA that had nothing in it
                watched.offset, watched.is_new, watched.saved_at = owned.end, False, now
                watched.saved_offset = owned.end
                value = pack(
                    Checkpoint(
                        dma, partition, partitions, owned.end, watched.engine.watermark_ms,
                        None if self._bundle is None else self._bundle.version, known, watched.seen,
                        watched.engine.snapshot(),
                    )
                )  # fmt: skip
                messages.append(Message(CHECKPOINTS, dma.encode(), value, [], partition))
        return messages

    # readings

    def watch(self, block: Block, publish: bool = True) -> tuple[list[Message], list[Alert]]:
        """What to publish for a block of an owned partition, and the alert revisions in it.

        With `publish` False only state is built.
        """
        owned = self.owned[block.partition]
        found: list[Message] = []
        packed: list[Packed] = []
        for record in block.records:
            if self._is_included(owned, record):
                continue
            try:
                packed.append(self._unpack(record))
            except ValueError as error:
                if publish:
                    found.append(dead_letter(record, str(error)))
        late: Counter[str] = Counter()
        alerts: list[Alert] = []
        # stable: the parts of one DMA keep their order, and DMAs know nothing of each other
        packed.sort(key=lambda part: part.dma)
        for (dma, origin), parts in groupby(packed, key=lambda part: (part.dma, part.origin)):
            watched = owned.states.get(dma)
            if watched is None:
                watched = owned.states[dma] = Watched(Engine(self._site, dma, self._bundle))
            readings = [unseen(watched, part) for part in parts]
            result = watched.engine.step(readings[0] if len(readings) == 1 else np.concatenate(readings), origin)
            watched.is_new = True
            late[dma] += result.late
            watched.late += result.late
            watched.duplicates += result.duplicates
            if publish:
                alerts += result.alerts
                key = dma.encode()
                found += [
                    Message(DETECTIONS, key, blob, [])
                    for blob in pack_detections(dma, origin, result.detections, FEATURES, DETECTOR_NAMES, PACKED_LIMIT)
                ]
        for part in packed:
            owned.states[part.dma].offset = block.end
        owned.end = block.end
        self.is_replayed = any(part.origin == "replay" for part in packed)
        for alert in alerts:
            found += alert_messages(alert, self._site.name)
        if publish:
            _warn_of_unused(block, packed, late)
        return found, alerts

    def _is_included(self, owned: Owned, record: Any) -> bool:
        """By its key, which `route` makes the DMA's id: a partition read again costs no unpacking."""
        watched = owned.states.get((record.key or b"").decode(errors="replace"))
        return watched is not None and record.offset < watched.offset

    def _unpack(self, record: Any) -> Packed:
        if record.value is None:
            raise ValueError("value is null; possible: a block of readings")
        packed = self._packing.unpack(record.value)
        if packed.dma not in self._site.dma_row:
            raise ValueError(f"DMA {packed.dma!r} is not in network.toml")
        if record.key != packed.dma.encode():
            raise ValueError(f"key {record.key!r} of a block of DMA {packed.dma!r}; possible: the DMA's id")
        return packed


def _model_name(version: str | None) -> str:
    return "no model" if version is None else f"model {version}"


def unseen(watched: Watched, packed: Packed) -> Readings:
    """The readings of a block that this state has not had, noting them as had.

    A raw topic that was deleted and made anew starts again at offset 0. Its messages are newer than all that were seen; a
    message that comes again is not. So their timestamps tell the two apart.
    """
    source = packed.source
    if source is None:
        return packed.readings
    name = f"{packed.origin}:{source.partition}"
    before: Mapping[str, Seen] = watched.seen
    seen = before.get(name)
    readings = packed.readings
    if seen is not None and len(source.offsets) and source.offsets[0] < seen.end:
        if source.oldest_ms > seen.newest_ms:
            log.warning(
                "DMA %s: raw partition %d starts again at offset %d", packed.dma, source.partition, source.offsets[0]
            )
            seen = None
        else:
            fresh = source.offsets >= seen.end
            readings = readings[fresh]
            watched.repeated += int(len(fresh) - fresh.sum())
    if seen is None:
        watched.seen[name] = Seen(source.end, source.newest_ms)
    else:
        watched.seen[name] = Seen(max(seen.end, source.end), max(seen.newest_ms, source.newest_ms))
    return readings


def _warn_of_unused(block: Block, packed: list[Packed], late: Counter[str]) -> None:
    """One line for the readings of a block that no engine judged, by DMA."""
    unknown: Counter[str] = Counter()
    for part in packed:
        unknown[part.dma] += part.unknown
    said = [
        f"{counts.total()} readings {what} ({', '.join(f'{dma} {count}' for dma, count in sorted(counts.items()) if count)})"
        for what, counts in (
            ("came after their slot was closed", late),
            ("are of meters that are not in network.toml, or of another kind there, or cannot be", unknown),
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
