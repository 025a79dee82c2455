"""Kafka to an agent and acknowledged: the block transport against stock Faust, on the same embedded broker.

Each contestant is a process of its own (`transport_worker.py`) that reads every message once and says how many came, how
many bytes, and how long it took from the first to the last. The embedded broker keeps 5 MB a partition, so messages are
few; a stock worker needs a second for what the block transport reads in a fiftieth of one.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from confluent_kafka import Producer

from benchmarks.measure import Row, Sample
from streams.brokers.embedded import EmbeddedBroker

ROUNDS = 3
PARTITIONS = 4
MESSAGES = {"block": 160_000, "stock": 16_000}
TARGET = 400_000.0
TIMEOUT_S = 60


def _message(number: int) -> bytes:
    return b'{"meterId":"FM-%04d","value":%07.2f,"observedAt":%d}' % (
        number % 200,
        number % 9_999,
        1_767_567_600_000 + number,
    )


def _produce(bootstrap: str, topic: str, count: int) -> int:
    """Fill the topic; returns the bytes in it."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "queue.buffering.max.messages": count + 1,
            "linger.ms": 20,
            "log_level": 3,
            "batch.num.messages": 2000,
        }
    )
    size = 0
    for number in range(count):
        value = _message(number)
        size += len(value)
        producer.produce(topic, value, partition=number % PARTITIONS)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush(TIMEOUT_S)
    return size


def _consume(kind: str, bootstrap: str, topic: str, count: int, size: int) -> float:
    """Messages a second from the first event to the last; raises unless each message came once."""
    worker = Path(__file__).with_name("transport_worker.py")
    done = subprocess.run(
        [sys.executable, str(worker), kind, bootstrap, topic, str(count)],
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines, f"{kind} worker: {done.stderr.strip().splitlines()[-3:]}"
    said = json.loads(lines[-1])
    expected = {"count": count, "bytes": size, "committed": count}
    found = {name: said[name] for name in expected}
    assert found == expected, f"{kind} worker: {found}, expected {expected}"
    return float(said["per_second"])


def _sample(rates: list[float]) -> Sample:
    return Sample(statistics.median(rates), min(rates), max(rates))


def run() -> list[Row]:
    """All rows of this workload."""
    rates: dict[str, list[float]] = {kind: [] for kind in MESSAGES}
    with EmbeddedBroker() as bootstrap:
        for number in range(ROUNDS):
            for kind, count in MESSAGES.items():
                topic = f"bench-{kind}-{number}"
                size = _produce(bootstrap, topic, count)
                rates[kind].append(_consume(kind, bootstrap, topic, count, size))
    ours, peer = (_sample(rates[kind]) for kind in ("block", "stock"))
    work = f"Kafka to an acknowledged agent, {len(_message(0))}-byte messages, no user work"
    return [Row(work, "messages/s", "more", ours, peer, "stock Faust", "count, bytes, committed offsets", TARGET)]
