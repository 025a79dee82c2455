"""The whole job of one worker: Kafka, decode, route, Kafka, all detectors, detections and alerts confirmed, acknowledged.

The worker is a process of its own (`chain_worker.py`) on an embedded broker; it has compiled its kernels before the clock
starts, at the first raw block. The clock stops when the last reading went through `Engine.step`; that everything was then
confirmed and committed is checked, not timed. The embedded broker keeps 5 MB a partition: messages are gzip'd in the log,
and a run is short. All meters of a DMA share a partition, so no reading is late, however the fetches fall.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from confluent_kafka import Producer

from benchmarks.chain_worker import IN_DMA, LATENESS_MINUTES
from benchmarks.codec import DMAS, columnar, singles, site
from benchmarks.measure import Row, Sample
from models.engine import Engine
from models.network import Site
from models.routing import split
from models.schema import Readings
from streams.brokers.embedded import EmbeddedBroker
from streams.topics import RAW, topic_name

ROUNDS = 3
READINGS = 400_000
METERS = DMAS * IN_DMA
PARTITIONS = 4
PREFIX = "bench"
TARGETS = {"single": 400_000.0, "columns": 2_000_000.0}
TIMEOUT_S = 120  # a worker that finds no compiled kernels needs most of a minute


def _expected(place: Site, readings: Readings) -> dict[str, int]:
    """What one pass through the engines in this process says of them."""
    slots = alerts = 0
    for row, part in split(readings, place.subscribers()):
        result = Engine(place, place.dmas[row].id).step(part)
        slots += len(result.detections)
        alerts += len(result.alerts)
    return {"readings": len(readings), "late": 0, "slots": slots, "alerts": alerts}


def _round(form: str, place: Site, messages: list[bytes], expected: dict[str, int]) -> float:
    """Readings a second of one fresh worker; raises unless it did what the engines do."""
    with EmbeddedBroker() as bootstrap:
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "queue.buffering.max.messages": len(messages) + 1,
                "compression.type": "gzip",
                "log_level": 3,
            }
        )
        for number, value in enumerate(messages):
            meter = number % METERS
            producer.produce(
                topic_name(PREFIX, RAW), value, key=place.meters[meter].id, partition=meter // IN_DMA % PARTITIONS
            )
        producer.flush(TIMEOUT_S)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.chain_worker", form, bootstrap, PREFIX, str(expected["readings"])],
            capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=Path(__file__).resolve().parent.parent,
        )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines, f"chain worker: {done.stderr.strip().splitlines()[-3:]}"
    said = json.loads(lines[-1])
    wanted = {**expected, "raw_committed": len(messages)}
    found = {name: said[name] for name in wanted}
    assert found == wanted, f"chain worker: {found}, expected {wanted}"
    return float(said["per_second"])


def run() -> list[Row]:
    """All rows of this workload."""
    rows = []
    for (form, target), (messages, readings) in zip(
        TARGETS.items(), (singles(READINGS, METERS), columnar(READINGS // 100, METERS)), strict=True
    ):
        place = site(IN_DMA, LATENESS_MINUTES[form])
        expected = _expected(place, readings)
        rates = [_round(form, place, messages, expected) for _ in range(ROUNDS)]
        ours = Sample(statistics.median(rates), min(rates), max(rates))
        each = "1 reading" if form == "single" else "100 readings"
        work = f"one worker, whole chain, {each} a message, {METERS:,} meters"
        correct = f"{expected['slots']:,} slots, commits = engines'"
        rows.append(Row(work, "readings/s", "more", ours, None, "", correct, target))
    return rows
