"""A log of four topics as lists of records, and an archive kept of it: as `streams.archiver` does, without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from models.cloudevents import encode
from models.commands import Command, encode_command
from models.packing import Packing, Source
from models.routing import split
from models.schema import Readings, Scope
from models.state import DETECTION
from streams.archive_batch import Collector
from streams.detections import pack_detections
from streams.records import Record
from streams.topics import ALERTS, COMMANDS, DETECTIONS, READINGS
from tests.synthetic import SLOT_MS, START_MS, make_site, readings
from tests.test_cloudevents import ALERT
from training.archive import REJECTS, STATE, Archive

SITE = make_site()
PARTITION = {"A": 0, "B": 1, "C": 1}
DAY_MS = 86_400_000


class Log:
    """Records by dataset, in the order of their making."""

    def __init__(self) -> None:
        self.records: list[tuple[str, Record]] = []
        self._ends: dict[tuple[str, int], int] = {}
        self.raw = 0
        """Offset of the next raw message."""

    def add(
        self, dataset: str, partition: int, key: bytes | None, value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:  # fmt: skip
        offset = self._ends.get((dataset, partition), 0)
        self._ends[dataset, partition] = offset + 1
        record = Record(f"nl.{dataset}", partition, offset, START_MS + len(self.records), key, value, headers or [])
        self.records.append((dataset, record))

    def route(self, block: Readings, again: int | None = None) -> None:
        """As the router does: by DMA, each naming its raw message. `again`: one that was routed before, with that offset."""
        offset = self.raw if again is None else again
        if again is None:
            self.raw += 1
        for row, part in split(block, SITE.subscribers()):
            dma = SITE.dmas[row].id
            source = Source(0, offset + 1, START_MS + offset, START_MS + offset, np.full(len(part), offset))
            self.add(READINGS, PARTITION[dma], dma.encode(), Packing(SITE).pack(dma, part, "live", source))

    def score(self, dma: str, first: int, count: int, features: tuple[str, ...] = ("f", "g"), value: float = 0.5) -> None:
        rows = np.zeros(count, DETECTION)
        rows["slot_end_ms"] = START_MS + SLOT_MS * np.arange(first, first + count)
        rows["observed_m3h"] = value
        names = features + tuple(f"x{at}" for at in range(rows["features"].shape[1] - len(features)))
        detectors = tuple(f"d{at}" for at in range(rows["scores"].shape[1]))
        for blob in pack_detections(dma, "live", rows, names, detectors, 1 << 20):
            self.add(DETECTIONS, PARTITION[dma], dma.encode(), blob)

    def alert(self, **changes: object) -> None:
        alert = msgspec.structs.replace(ALERT, **{"scope": Scope(type="dma", id="A"), **changes})
        key, value, headers = encode(alert, SITE.name)
        self.add(ALERTS, 0, key, value, headers)

    def command(self, **changes: object) -> None:
        said = Command(
            schema_version="1.0", command_id="c1", alert_id=ALERT.alert_id, dma="A", action="close", by="ann",
            at=ALERT.updated_at + DAY_MS, outcome="confirmed_leak",
        )  # fmt: skip
        key, value = encode_command(msgspec.structs.replace(said, **changes))
        self.add(COMMANDS, PARTITION[said.dma], key, value)

    def after(self, offsets: dict[str, dict[int, int]]) -> Iterator[tuple[str, Record]]:
        for dataset, record in self.records:
            if record.offset >= offsets.get(dataset, {}).get(record.partition, 0):
                yield dataset, record


def days_of_a_town(days: int = 3) -> Readings:
    return readings(days)


def eventful() -> Log:
    """Three days with readings that are late, sent twice, corrected, routed twice and foreign; slots, alerts, outcomes."""
    log, block = Log(), days_of_a_town()
    late = block[10:30].copy()
    cuts = [part for part in np.split(block, range(96, len(block), 96)) if len(part)]
    cuts[0] = np.delete(cuts[0], slice(10, 30))
    for at, part in enumerate(cuts):
        log.route(part)
        if at == 3:
            log.route(part)  # sent twice
            wrong = part[:8].copy()
            wrong["value"] += 100
            log.route(wrong)
            log.route(part[:8])  # corrected
            log.route(wrong, again=log.raw - 2)  # a router that was killed routes again what was superseded
        if at == 5:
            log.route(late)
            log.add(READINGS, 0, b"A", b"\x00foreign")
            log.add(READINGS, 0, b"A", None)
            log.add(READINGS, 1, b"B", b"{}", [("nl-control", b"model")])
            log.add(COMMANDS, 0, b"A", b'{"schemaVersion":"1.0"}')
        log.score("A", 24 * at, 24)
        log.score("B", 24 * at, 24)
    log.score("A", 40, 3, value=0.75)
    log.score("C", 0, 5, features=("f", "later"))
    log.score("C", 3, 5)
    log.alert(revision=1)
    log.alert(revision=2, updated_at=ALERT.updated_at + DAY_MS)
    log.alert(revision=2, updated_at=ALERT.updated_at + DAY_MS)
    log.command()
    log.command()
    log.command(command_id="c2", outcome="false_alarm", at=ALERT.updated_at + 2 * DAY_MS)
    return log


class KilledError(BaseException):
    """Where a process ended."""


def keep(
    log: Log, folder: Path, every: int | None = None, on_step: Callable[[str], None] = lambda _: None, prefix: str = "nl"
) -> None:
    """Archive what is not yet archived, in batches of so many records."""
    with Archive(folder, SITE.name, prefix, on_step) as store:
        collector = Collector(store)
        for dataset, record in log.after(store.offsets):
            collector.take(dataset, record)
            if every is not None and collector.records == every:
                store.commit(collector.hand_out())
        if collector.records:
            store.commit(collector.hand_out())


def content(folder: Path) -> dict[str, bytes]:
    """Every file that holds rows, by its name, byte for byte; and nothing else may lie there."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {name for name in found if not name.endswith(".parquet")} <= {STATE, REJECTS, ".lock"}
    state = msgspec.json.decode(found.pop(STATE))
    del state["generation"]  # the number of batches
    found.pop(".lock")
    return found | {STATE: msgspec.json.encode(state)}
