"""`python -m benchmarks.archive [DAYS] [HOST:PORT]`: packed messages of 50 DMAs into an archive, and the archive read back.

A year by default: 3 meters a DMA (an inlet, a boundary meter to the next DMA, a pressure logger) at 15 min, in messages of
half a day as a replay makes them, and their scored slots. All that `nightline archive` does but Kafka's own part.

With a broker, e.g. of scripts/kafka, the readings go to its topic `ring.readings.v1` instead, if it holds none, and
`nightline backtest --readings kafka://…` reads them from there.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.detectors import DETECTORS
from models.features import FEATURES
from models.network import Site, parse_site
from models.packing import Packing, Source
from models.routing import split
from models.schema import FLOW, PRESSURE, READING
from models.state import DETECTION
from streams.archive_batch import Collector
from streams.archiver import BATCH_BYTES
from streams.detections import pack_detections
from streams.topics import DETECTIONS, PACKED_LIMIT, READINGS
from training.archive import Archive
from training.history import read_history

DMAS = 50
SLOTS = 48
SLOT_MS = 900_000
START_MS = 1_767_225_600_000


class Record(NamedTuple):
    """As kafka-python's."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[()] = ()


SITE = 'name = "ring"\ntimezone = "UTC"\n'


def made_network() -> str:
    """A ring of DMAs."""
    network = ""
    for at in range(DMAS):
        network += f'[[dma]]\nid = "D{at:02d}"\nslotMinutes = 15\n'
    for at in range(DMAS):
        own, following = f"D{at:02d}", f"D{(at + 1) % DMAS:02d}"
        for meter, kind, place in (
            ("in", "flow", f'to = "{own}"'),
            ("to", "flow", f'from = "{own}"\nto = "{following}"'),
            ("p", "pressure", f'dma = "{own}"'),
        ):
            network += f'[[meter]]\nid = "{meter}-{own}"\nkind = "{kind}"\n{place}\n'
    return network


def messages(site: Site, halves: int) -> Iterator[tuple[str, Record]]:
    """All DMAs' messages of each half day; one partition."""
    rng, packing, names = np.random.default_rng(1), Packing(site), tuple(detector.name for detector in DETECTORS)
    offset = 0
    for half in range(halves):
        times = START_MS + half * SLOTS * SLOT_MS + SLOT_MS * np.arange(1, SLOTS + 1)
        block = np.zeros((SLOTS, 3 * DMAS), READING)
        block["time_ms"], block["meter"], block["kind"] = times[:, None], np.arange(3 * DMAS), FLOW
        block["kind"][:, 2::3], block["value"] = PRESSURE, rng.normal(50, 5, block.shape).round(3)
        for row, part in split(block.ravel(), site.subscribers()):
            dma = site.dmas[row].id
            source = Source(0, half + 1, START_MS, START_MS, np.full(len(part), half))
            slots = np.zeros(SLOTS, DETECTION)
            slots["slot_end_ms"], slots["observed_m3h"] = times, rng.normal(50, 5, SLOTS)
            slots["features"] = rng.normal(0, 1, slots["features"].shape)
            (scored,) = pack_detections(dma, "replay", slots, FEATURES, names, PACKED_LIMIT)
            yield READINGS, Record(0, offset, dma.encode(), packing.pack(dma, part, "replay", source))
            yield DETECTIONS, Record(0, offset, dma.encode(), scored)
            offset += 1


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def from_kafka(bootstrap: str, days: int) -> None:
    """Publish, unless that was done before; a backtest as a process of its own, and how long it took."""
    from kafka import KafkaProducer  # noqa: PLC0415 - the other half needs no Kafka client

    from streams.topics import admin, apply, prefixes_of, topic_name  # noqa: PLC0415

    with admin(bootstrap) as client:
        is_there = "ring" in prefixes_of(client)
    if not is_there:
        apply(bootstrap, "ring")
        producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
        for dataset, record in messages(parse_site(SITE, made_network()), 2 * days):
            if dataset == READINGS:
                producer.send(topic_name("ring", dataset), key=record.key, value=record.value)
        producer.close()
    with tempfile.TemporaryDirectory(prefix="nightline-") as name:
        folder = Path(name)
        (folder / "site.toml").write_text(SITE)
        (folder / "network.toml").write_text(made_network())
        start = time.perf_counter()
        options = ["--readings", f"kafka://{bootstrap}/ring", "--out", str(folder / "out")]
        run = ["-c", "from nightline.cli import main; main()", "backtest", str(folder), *options]
        subprocess.run([sys.executable, *run], check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"backtest from Kafka, all of it: {time.perf_counter() - start:.0f} s, peak {peak:.0f} MiB")


def main(days: int) -> None:
    """Write and read, and say how long it took."""
    site = parse_site(SITE, made_network())
    with tempfile.TemporaryDirectory(prefix="nightline-") as name:
        folder, spent = Path(name) / "archive", 0.0
        with Archive(folder, site.name, "ring") as store:
            collector = Collector(store)
            for dataset, record in messages(site, 2 * days):
                start = time.perf_counter()
                collector.take(dataset, record)
                if collector.batch.bytes >= BATCH_BYTES:
                    store.commit(collector.hand_out())
                spent += time.perf_counter() - start
            start = time.perf_counter()
            store.commit(collector.hand_out())
            spent += time.perf_counter() - start
            counts = store.state.counts
        files = list(folder.rglob("*.parquet"))
        size = sum(file.stat().st_size for file in files) / 1e6
        print(
            f"written: {counts['readings']:,} readings and {counts['slots']:,} slots of {DMAS} DMAs in {days} days, ", end=""
        )
        print(f"{len(files):,} files, {size:,.0f} MB: {spent:.0f} s, peak {peak_mib():.0f} MiB")
        start, found = time.perf_counter(), 0
        for window in read_history(folder, site, 1440):
            found += len(window.readings)
        print(f"read: {found:,} readings, each once: {time.perf_counter() - start:.1f} s, peak {peak_mib():.0f} MiB")


if __name__ == "__main__":
    asked_days = int(sys.argv[1]) if len(sys.argv) > 1 else 365
    if len(sys.argv) > 2:
        from_kafka(sys.argv[2], asked_days)
    else:
        main(asked_days)
