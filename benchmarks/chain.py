"""The whole job of one worker: Kafka, decode, route, Kafka, all detectors, detections and alerts confirmed, acknowledged.

The worker is a process of its own (`chain_worker.py`) on a real Apache Kafka that holds the readings already; it has
compiled its kernels before the clock starts, at the first raw block. The clock stops when the last reading went through
`Engine.step`; that everything was then confirmed and committed is checked, not timed. All meters of a DMA share a partition,
so no reading is late, however the fetches fall; the producer is idempotent, for one that is not may swap batches while a new
topic finds its leader (seen 2026-11-24).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from confluent_kafka import Producer
from kafka.admin import ConfigResource

from benchmarks.broker import kafka
from benchmarks.chain_worker import IN_DMA, LATENESS_MINUTES
from benchmarks.codec import DMAS, columnar, singles, site
from benchmarks.measure import Row, Sample, sample
from benchmarks.peers_chain import contest
from models.engine import Engine
from models.network import Site
from models.routing import split
from models.schema import Readings
from streams import topics

ROUNDS = 3
READINGS = {"single": 2_000_000, "columns": 8_000_000}
METERS = DMAS * IN_DMA
PARTITIONS = 4
TARGETS = {"single": 400_000.0, "columns": 2_000_000.0}
TIMEOUT_S = 180  # a worker that finds no compiled kernels needs most of a minute


def expected(place: Site, readings: Readings) -> dict[str, int]:
    """What one pass through the engines in this process says of them."""
    slots = alerts = 0
    for row, part in split(readings, place.subscribers()):
        result = Engine(place, place.dmas[row].id).step(part)
        slots += len(result.detections)
        alerts += len(result.alerts)
    return {"readings": len(readings), "late": 0, "slots": slots, "alerts": alerts}


def produce(bootstrap: str, prefix: str, place: Site, messages: list[bytes], stamps_ms: list[int]) -> None:
    """Fill the raw topic of a prefix of its own. `stamps_ms`: when each message was produced, which is when its last reading
    was taken, for the worker holds clocks against it."""
    topics.apply(bootstrap, prefix, PARTITIONS, say=lambda _: None)
    raw = topics.topic_name(prefix, topics.RAW)
    with topics.admin(bootstrap) as client:  # half a minute after its start a broker deletes what is from January
        client.alter_configs([ConfigResource("TOPIC", raw, configs={"retention.ms": "-1"})])
    producer = Producer(
        {"bootstrap.servers": bootstrap, "queue.buffering.max.messages": 200_000, "linger.ms": 20, "log_level": 3,
         "batch.num.messages": 10_000, "compression.type": "lz4", "enable.idempotence": True}
    )  # fmt: skip
    for number, (value, stamp) in enumerate(zip(messages, stamps_ms, strict=True)):
        meter = number % METERS
        key, partition = place.meters[meter].id, meter // IN_DMA % PARTITIONS
        while True:
            try:
                producer.produce(raw, value, key=key, partition=partition, timestamp=stamp)
                break
            except BufferError:
                producer.poll(0.05)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush(TIMEOUT_S)


def work(form: str, bootstrap: str, prefix: str, wanted: dict[str, int]) -> float:
    """Readings a second of one fresh worker; raises unless it did what the engines do."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chain_worker", form, bootstrap, prefix, str(wanted["readings"])],
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines, f"chain worker: {done.stderr.strip().splitlines()[-3:]}"
    said = json.loads(lines[-1])
    found = {name: said[name] for name in wanted}
    assert found == wanted, f"chain worker: {found}, expected {wanted}"
    return float(said["per_second"])


def _form(bootstrap: str, form: str, target: float) -> Row:
    """One form of message; every round fills topics of its own, which the peers then read as well."""
    count = READINGS[form]
    messages, readings = singles(count, METERS) if form == "single" else columnar(count // 100, METERS)
    in_one = count // len(messages)
    stamps_ms = readings["time_ms"].reshape(len(messages), -1)[:, -1].tolist()
    place = site(IN_DMA, LATENESS_MINUTES[form])
    wanted = {**expected(place, readings), "raw_committed": len(messages)}
    ours: list[float] = []
    theirs: dict[str, list[float]] = {}
    absent: dict[str, Sample | str] = {}
    for number in range(ROUNDS):
        prefix = f"bench-{form}-{number}"
        produce(bootstrap, prefix, place, messages, stamps_ms)
        ours.append(work(form, bootstrap, prefix, wanted))
        raw = topics.topic_name(prefix, topics.RAW)
        for name, found in contest(bootstrap, raw, len(messages), float(readings["value"].sum()), 1).items():
            if isinstance(found, str):
                absent[name] = found
            else:
                theirs.setdefault(name, []).append(found.median * in_one)
    what = f"one worker, whole chain, {in_one} reading{'s' * (in_one > 1)} a message, {METERS:,} meters"
    correct = f"{wanted['slots']:,} slots, commits = engines'"
    peers = absent | {name: sample(rates) for name, rates in theirs.items()}
    return Row.beside(what, "readings/s", "more", sample(ours), peers, correct, target)


def run() -> list[Row]:
    """All rows of this workload."""
    with kafka(30) as bootstrap:
        return [_form(bootstrap, form, target) for form, target in TARGETS.items()]
