"""`watch`: blocks of packed readings -> alert revisions, detections and dead letters; and the checkpoints of its state.

One engine per DMA. A partition's states come from its checkpoints (`checkpoints.where_to_start`) and include different
parts of its log, so each drops the records it has. It also drops the readings it has: what a router published before it
was killed, another publishes again. A partition's log is fixed and engines are deterministic, so whoever owned it before,
the alerts are the same, id for id and revision for revision.

What was committed before has been published and confirmed; blocks up to there only bring state forward and publish
nothing, which also keeps a closed alert from reappearing in `alerts.open.v1`. A block that straddles the committed offset
publishes what it published before: the same ids and revisions with the same contents.

Which model judges is part of a DMA's state: none at its first reading, and from then on what the control records in its
log say (`control.py`, `swap.py`). So it does not matter which models lie in the folder of whoever reads the log.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from models.cloudevents import encode, rfc3339
from models.detectors import DETECTORS
from models.engine import Engine
from models.features import FEATURES
from models.network import Site
from models.packing import Block as Packed
from models.packing import Packing
from models.schema import LEAK_TYPES, Alert, Readings
from streams.blocks import Block
from streams.checkpoints import Bounds, Checkpoint, LostStateError, Record, Seen, Start, pack, unpack, where_to_start
from streams.control import Told, is_control, read_control
from streams.detections import pack_detections
from streams.dlq import dead_letter
from streams.drift import follow, resumed
from streams.outbox import Message
from streams.published import Named
from streams.records import NO_HEADERS
from streams.repeats import fresh_of
from streams.shelf import Shelf
from streams.swap import chosen, reference, shadow_columns, swap
from streams.topics import ALERTS, CHECKPOINTS, DETECTIONS, OPEN_ALERTS, PACKED_LIMIT

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.drift_weeks import Weeks

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
    told: bool = False
    """A control record has spoken of its champion."""
    champion: Named | None = None
    """The model that the engine judges with."""
    challenger: Named | None = None
    """The model in shadow, and what it scores with."""
    shadow: Bundle | None = None
    refused: str | None = None
    """Why the last control record was refused; None after one that was not."""
    drift: Weeks | None = None
    """The week under way against what the champion was trained on; None without one."""
    leak_alerts: int = 0
    """Leaks alarmed, since this worker took the DMA over."""


@dataclass
class Owned:
    """One partition of `readings.v1`."""

    end: int = 0
    """Everything before it has been processed."""
    states: dict[str, Watched] = field(default_factory=dict)


class Watcher:
    """Keeps the engines, by partition and DMA."""

    def __init__(self, site: Site, shelf: Shelf | None = None, rebuild: bool = False) -> None:
        self._site, self._rebuild = site, rebuild
        self.shelf = shelf or Shelf()
        self._packing = Packing(site)
        self.owned: dict[int, Owned] = {}
        self.swaps, self.refusals = 0, 0
        """Control records that were taken and refused, since the start; without those that only bring state forward."""
        self.is_replayed = False
        """The last block held replayed readings."""

    # state

    def restore(self, partition: int, partitions: int, records: Iterable[Record], bounds: Bounds, now: float) -> Start:
        """Take a partition over with what its checkpoints hold. Raises LostStateError."""
        restored: dict[str, Watched] = {}

        def restore(checkpoint: Checkpoint) -> None:
            champion, bundle = self._model_of(checkpoint)
            engine = Engine(self._site, checkpoint.dma, bundle)
            engine.restore(checkpoint.state)
            challenger, shadow = checkpoint.challenger, None
            if challenger is not None and (shadow := self.shelf.of_state(challenger)) is None:
                log.error(
                    "DMA %s: challenger %s is nowhere to be found; its shadow ends", checkpoint.dma, challenger.version
                )
                challenger = None
            restored[checkpoint.dma] = Watched(
                engine, dict(checkpoint.seen), checkpoint.offset, is_new=False, saved_at=now,
                saved_offset=checkpoint.offset, told=checkpoint.told, champion=champion, challenger=challenger,
                shadow=shadow, drift=resumed(bundle, self._site, checkpoint.dma, checkpoint.drift),
            )  # fmt: skip

        start = where_to_start(
            partition, partitions, self._site.dma_row, records, bounds, restore, self._rebuild
        )  # fmt: skip
        owned = self.owned[partition] = Owned(end=start.offset)
        for dma, state in start.states.items():
            owned.states[dma] = restored[dma]
            restored[dma].offset = restored[dma].saved_offset = state.offset  # less where the log was made anew
        for warning in start.warnings:
            log.warning("%s", warning)
        return start

    def publications_of(self, records: Iterable[Record]) -> set[str]:
        """What must be brought to the shelf before these checkpoints can be restored."""
        wanted = set()
        for record in records:
            try:
                found = unpack(record.value or b"")
            except ValueError:
                continue  # `restore` says so
            wanted |= {named.publication for named in (found.champion, found.challenger)
                       if named is not None and self.shelf.of_state(named) is None}  # fmt: skip
        return self.shelf.misses(wanted)

    def publications_in(self, block: Block) -> set[str]:
        """What must be brought to the shelf before this block can be watched."""
        wanted = set()
        for at in np.flatnonzero(block.records.headers_size > len(NO_HEADERS)).tolist():
            record = block.records[at]
            if is_control(record):
                try:
                    model = read_control(record, self._site.dma_row).control.model
                except ValueError:
                    continue  # `watch` says so
                wanted.add(None if model is None else model.publication)
        return self.shelf.misses(wanted)

    def tidy(self) -> None:
        """Let go of models that no state uses any more."""
        named = [one for owned in self.owned.values() for watched in owned.states.values()
                 for one in (watched.champion, watched.challenger)]  # fmt: skip
        self.shelf.keep_only({one.publication for one in named if one is not None and one.publication is not None})

    def _model_of(self, checkpoint: Checkpoint) -> tuple[Named | None, Bundle | None]:
        """What a state was scored with: it goes on with the same. Raises LostStateError where that is gone."""
        dma, named = checkpoint.dma, checkpoint.champion
        if named is None and checkpoint.model is not None:
            named = self.shelf.by_version((dma, "*"), checkpoint.model)
        if named is None and checkpoint.model is None:
            return None, None
        bundle = None if named is None else self.shelf.of_state(named)
        if bundle is not None:
            return named, bundle
        said = f"DMA {dma} was scored with model {checkpoint.model}, which is neither on models.v1 nor in the site's folder"
        if not self._rebuild:
            raise LostStateError(
                f"{said}; possible: put its folder back under models/ of the site, or start with --rebuild, which goes on "
                "without (alerts may then be raised again, with other contents)"
            )
        log.error("%s; it goes on without a model until one is promoted", said)
        return None, None

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
                        None if watched.champion is None else watched.champion.version, known, watched.seen,
                        watched.engine.snapshot(), watched.champion, watched.challenger, watched.told,
                        None if watched.drift is None else watched.drift.save(),
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
        parts_of: list[Packed | Told] = []
        for record in block.records:
            if self._is_included(owned, record):
                continue
            try:
                parts_of.append(self._unpack(record))
            except ValueError as error:
                found += self._refused(record, str(error), publish)
        late: Counter[str] = Counter()
        alerts: list[Alert] = []
        # stable: the parts of one DMA keep their order, and DMAs know nothing of each other
        parts_of.sort(key=lambda part: part.dma)
        packed = [part for part in parts_of if isinstance(part, Packed)]
        for (dma, origin), parts in groupby(parts_of, key=lambda part: (part.dma, part.origin)):
            if origin is None:
                found += [letter for told in parts for letter in self._swap(owned, cast("Told", told), publish)]
                continue
            if dma not in owned.states:
                owned.states[dma] = Watched(Engine(self._site, dma))
            watched = owned.states[dma]
            readings = [unseen(watched, part) for part in cast("Iterable[Packed]", parts)]
            result = watched.engine.step(readings[0] if len(readings) == 1 else np.concatenate(readings), origin)
            watched.is_new = True
            late[dma] += result.late
            watched.late += result.late
            watched.duplicates += result.duplicates
            follow(watched, self._site, dma, result.detections)
            if publish:
                alerts += result.alerts
                watched.leak_alerts += sum(one.event == "raised" and one.type in LEAK_TYPES for one in result.alerts)
                key = dma.encode()
                found += [
                    Message(DETECTIONS, key, blob, [])
                    for blob in pack_detections(
                        dma, origin, result.detections, FEATURES, DETECTOR_NAMES, PACKED_LIMIT, reference(watched.champion),
                        reference(watched.challenger), shadow_columns(watched, result.detections),
                    )
                ]  # fmt: skip
        for part in parts_of:
            if part.dma in owned.states:
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

    def _swap(self, owned: Owned, told: Told, publish: bool) -> list[Message]:
        """Do what a control record says; the dead letter of one that is refused."""
        record, control = told.record, told.control
        watched = owned.states.get(told.dma)
        try:
            bundle = chosen(control, self.shelf)
        except ValueError as error:
            if watched is not None:
                watched.refused = str(error)
            return self._refused(record, str(error), publish)
        if watched is None:
            watched = owned.states[told.dma] = Watched(Engine(self._site, told.dma))
        said = swap(watched, control, bundle)
        watched.is_new = True
        if publish:
            self.swaps += 1
            where = f"{record.topic} partition {record.partition} offset {record.offset}"
            log.info("DMA %s: from %s on %s", told.dma, where, said or "as before")
        return []

    def _refused(self, record: Any, reason: str, publish: bool) -> list[Message]:
        """The dead letter of what cannot be used. A control record is refused loudly: somebody waits for its effect."""
        if not publish:
            return []
        if is_control(record):
            self.refusals += 1
            log.error(
                "%s partition %d offset %d: refused, and the model before it goes on: %s",
                record.topic, record.partition, record.offset, reason,
            )  # fmt: skip
        return [dead_letter(record, reason)]

    def _unpack(self, record: Any) -> Packed | Told:
        if record.headers and is_control(record):
            return read_control(record, self._site.dma_row)
        if record.value is None:
            raise ValueError("value is null; possible: a block of readings")
        packed = self._packing.unpack(record.value)
        if packed.dma not in self._site.dma_row:
            raise ValueError(f"DMA {packed.dma!r} is not in network.toml")
        if record.key != packed.dma.encode():
            raise ValueError(f"key {record.key!r} of a block of DMA {packed.dma!r}; possible: the DMA's id")
        return packed


def unseen(watched: Watched, packed: Packed) -> Readings:
    """The readings of a block that this state has not had, noting them as had."""
    fresh = fresh_of(watched.seen, packed.dma, packed.origin, packed.source)
    if fresh is None:
        return packed.readings
    watched.repeated += int(len(fresh) - fresh.sum())
    return packed.readings[fresh]


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
