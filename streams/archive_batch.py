"""Records of four topics as a batch for an archive; what cannot be read is kept with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import cloudevents
from models.archived import Batch, Gap, Rejected, Slots, Store
from models.commands import decode_command
from models.packing import unpack_named
from models.schema import ModelRef
from models.wire import FIRST_MS, LAST_MS
from streams.checkpoints import Seen
from streams.control import is_control
from streams.detections import Detections, unpack_detections
from streams.repeats import fresh_of
from streams.topics import ALERTS, COMMANDS, DETECTIONS, READINGS

DATASETS: Final = (READINGS, DETECTIONS, ALERTS, COMMANDS)
"""What is archived, in the order of the counts told."""
CHECKSUMMED: Final = frozenset({READINGS})
"""Whose messages carry a checksum of their own, `models.packing`: what is torn is rejected by it."""
_ID: Final = re.compile(r"[A-Za-z0-9._:+-]{1,64}")
"""Ids of DMAs (`models.network`): they become names of folders."""
_PER_RECORD: Final = 400
"""Bytes of Python's objects around a record that is kept."""


class Collector:
    """Takes records, partition by partition in order of offset, and hands out what has come together since."""

    def __init__(self, store: Store) -> None:
        self.offsets = {dataset: dict(store.offsets.get(dataset, {})) for dataset in DATASETS}
        self.topic_ids = dict(store.topic_ids)
        self._seen = {dma: {name: Seen(*had) for name, had in of.items()} for dma, of in store.seen.items()}
        self._takes: dict[str, Callable[[Any], None]] = {
            READINGS: self._reading,
            DETECTIONS: self._detection,
            ALERTS: self._alert,
            COMMANDS: self._command,
        }
        self.batch = Batch()
        self.records = 0
        """Since the last batch."""

    def take(self, dataset: str, record: Any) -> None:
        """One record (kafka-python's). It is in the batch, or among what it rejects, or counted as passed over."""
        expected = self.offsets[dataset].get(record.partition)
        if expected is not None and record.offset > expected:
            self.skip(dataset, record.partition, record.offset, "Kafka does not show them; deleted, or never committed")
        self.batch.bytes += _PER_RECORD
        self.records += 1
        try:
            self._takes[dataset](record)
        except ValueError as error:
            self._reject(record, str(error))
        self.offsets[dataset][record.partition] = record.offset + 1

    def skip(self, dataset: str, partition: int, to: int, reason: str) -> Gap:
        """Note that everything before offset `to` is not to be had any more."""
        gap = Gap(dataset, partition, self.offsets[dataset].get(partition, 0), to, reason)
        self.batch.gaps.append(gap)
        self.offsets[dataset][partition] = to
        return gap

    def hand_out(self) -> Batch:
        """What has come since the last time, and how far that is."""
        batch, self.batch, self.records = self.batch, Batch(), 0
        batch.offsets = {dataset: dict(of) for dataset, of in self.offsets.items()}
        batch.topic_ids = dict(self.topic_ids)
        batch.seen = {dma: {name: (s.end, s.newest_ms) for name, s in of.items()} for dma, of in self._seen.items()}
        return batch

    def _reject(self, record: Any, reason: str) -> None:
        size = len(record.value or b"") + len(record.key or b"")
        self.batch.bytes += size
        self.batch.count("rejected", 1)
        self.batch.rejected.append(
            Rejected(record.topic, record.partition, record.offset, record.timestamp, reason, record.key, record.value)
        )

    def _reading(self, record: Any) -> None:
        if is_control(record):
            self.batch.count("control records", 1)
            return
        if record.value is None:
            raise ValueError("value is null; possible: a block of readings")
        block = unpack_named(record.value)
        _check_dma(block.dma, record.key)
        fresh = fresh_of(self._seen.setdefault(block.dma, {}), block.dma, block.origin, block.source)
        readings = block.readings if fresh is None else block.readings[fresh]
        self.batch.count("repeated readings", len(block.readings) - len(readings))
        self.batch.count("readings", len(readings))
        if len(readings):
            self.batch.readings.setdefault(block.dma, []).append((block.meters, readings))
            self.batch.bytes += readings.nbytes + sum(map(len, block.meters))
        if block.unknown:
            self._reject(
                record, f"{block.unknown} readings have a kind, quality, value or time that cannot be; the others are kept"
            )

    def _detection(self, record: Any) -> None:
        if record.value is None:
            raise ValueError("value is null; possible: scored slots")
        found = unpack_detections(record.value)
        _check_dma(found.dma, record.key)
        columns = _flat(found)
        times = columns.get("slot_end_ms")
        if times is None or times.dtype.kind != "i":
            raise ValueError("detections message has no column 'slot_end_ms' of whole numbers")
        if len(times) and not (times.min() >= FIRST_MS and times.max() <= LAST_MS):
            raise ValueError("detections message: a slot_end_ms is beyond 1990 to 2100")
        self.batch.count("slots", len(times))
        if len(times):
            texts = {"origin": found.origin, **_model("model", found.model), **_model("challenger", found.challenger)}
            self.batch.slots.setdefault(found.dma, []).append(Slots(columns, texts))
            self.batch.bytes += sum(column.nbytes for column in columns.values())

    def _alert(self, record: Any) -> None:
        alert = cloudevents.decode(record.headers, record.value)
        self.batch.count("alert revisions", 1)
        self.batch.alerts.append((alert, record.value))
        self.batch.bytes += 3 * len(record.value)

    def _command(self, record: Any) -> None:
        command = decode_command(record.key, record.value)
        _check_dma(command.dma, record.key)
        self.batch.count("commands", 1)
        self.batch.commands.append((command, record.value))
        self.batch.bytes += 3 * len(record.value)


def _check_dma(dma: str, key: bytes | None) -> None:
    if not _ID.fullmatch(dma):
        raise ValueError(f"DMA {dma[:80]!r}; possible: letters, digits and . _ : + -, at most 64")
    if key != dma.encode():
        raise ValueError(f"key {key!r:.80} of DMA {dma!r}; possible: the DMA's id")


def _model(role: str, model: ModelRef | None) -> dict[str, str | None]:
    return {f"{role}Id": model and model.id, f"{role}Version": model and model.version}


def _flat(found: Detections) -> dict[str, NDArray[Any]]:
    """Columns of one dimension; those of features and scores by the names the message gives them."""
    names = {"features": found.features, "scores": found.detectors}
    flat: dict[str, NDArray[Any]] = {}
    for name, column in found.columns.items():
        if column.ndim == 1:
            flat[name] = column
            continue
        rows = column.reshape(len(column), -1)
        parts = names.get(name, ())
        if len(parts) != rows.shape[1]:
            parts = tuple(f"{name}_{at}" for at in range(rows.shape[1]))
        for at, part in enumerate(parts):
            if part in flat or part in found.columns:
                raise ValueError(f"detections message is torn: column {part[:80]!r} is there twice")
            flat[part] = np.ascontiguousarray(rows[:, at])
    return flat
