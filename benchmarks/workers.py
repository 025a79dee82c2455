"""One `nightline worker` and two of them through the same readings on a real Kafka.

The workers have joined and shared the partitions out before there is anything to read; then they are stopped where they
stand (SIGSTOP) while the topic is filled, and go on together. The clock runs from there to the last scored slot.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import Producer

from benchmarks.broker import kafka
from benchmarks.latency import Listener, worker
from benchmarks.measure import Row, sample
from benchmarks.towns import SLOT_MS, START_MS, folder
from streams import topics

DMAS, INLETS, CUSTOMERS, PARTITIONS = 48, 4, 36, 4
SLOTS = 500
ROUNDS = 2
TARGET = 1.8
START_S, WORK_S = 90.0, 120.0
LONG = ("--session-seconds", "60")
"""A stopped worker must not be taken for a dead one."""


def _messages(dmas: int, slots: int) -> list[tuple[int, bytes]]:
    """Partition and value, slot by slot; the meters of a DMA share a partition."""
    own = INLETS + CUSTOMERS
    heads = [
        (
            row // own % PARTITIONS,
            f'{{"meterId":"FM-{row:07}","kind":"flow","value":{1 + row % 7},"unit":"m3/h","observedAt":',
        )
        for row in range(dmas * own)
    ]
    return [
        (partition, f"{head}{START_MS + SLOT_MS * (slot + 1)}}}".encode())
        for slot in range(slots)
        for partition, head in heads
    ]


def _fill(bootstrap: str, topic: str, messages: list[tuple[int, bytes]]) -> None:
    producer = Producer(
        {"bootstrap.servers": bootstrap, "queue.buffering.max.messages": len(messages) + 1, "linger.ms": 20, "log_level": 3,
         "compression.type": "lz4"}
    )  # fmt: skip
    for number, (partition, value) in enumerate(messages):
        producer.produce(topic, value, partition=partition, headers=[("nl-origin", b"replay")])
        if number % 1000 == 0:
            producer.poll(0)
    assert not producer.flush(60)


def _assigned(log: Path) -> int:
    """How many raw partitions a worker has said that it owns."""
    said = [line for line in log.read_text().splitlines() if "partitions: " in line]
    if not said or "readings.raw.v1 " not in said[-1]:
        return 0
    return len(said[-1].partition("readings.raw.v1 ")[2].split(";")[0].split(","))


def _round(bootstrap: str, prefix: str, count: int, messages: list[tuple[int, bytes]]) -> float:
    """Readings a second of so many workers; raises unless every slot was scored once."""
    topics.apply(bootstrap, prefix, PARTITIONS, say=lambda _: None)
    with tempfile.TemporaryDirectory(prefix="nightline-workers-") as name, ExitStack() as stack:
        site = folder(Path(name) / "site", DMAS, INLETS, CUSTOMERS)
        logs = [Path(name) / f"{number}.log" for number in range(count)]
        processes = [stack.enter_context(worker(site, bootstrap, prefix, log, *LONG)) for log in logs]
        listener = Listener(bootstrap, prefix)
        stack.callback(listener.close)
        deadline = time.monotonic() + START_S
        while [_assigned(log) for log in logs] != [PARTITIONS // count] * count:
            said = [log.read_text().splitlines()[-2:] for log in logs]
            assert time.monotonic() < deadline, f"{count} workers did not share {PARTITIONS} partitions out: {said}"
            time.sleep(0.2)
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            _fill(bootstrap, topics.topic_name(prefix, topics.RAW), messages)
        finally:
            begin = time.time()
            for process in processes:
                os.kill(process.pid, signal.SIGCONT)
        wanted = DMAS * SLOTS
        deadline = time.monotonic() + WORK_S
        while (scored := listener.slots()) < wanted and time.monotonic() < deadline:
            listener.listen(0.5)
        ends = [found for found, _ in listener.detections]
        assert scored >= wanted, f"{scored} slots scored by {count} workers, expected {wanted}"
    return len(messages) / (max(ends) - begin)


def run() -> Row:
    """The row of two workers beside one."""
    messages = _messages(DMAS, SLOTS)
    rates: dict[int, list[float]] = {1: [], 2: []}
    with kafka() as bootstrap:
        for number in range(ROUNDS):
            for count, found in rates.items():
                found.append(_round(bootstrap, f"workers-{count}-{number}", count, messages))
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    each = "; ".join(f"{count}: {sample(found).median / 1000:.0f} k/s" for count, found in rates.items())
    work = f"two workers for one, {os.cpu_count()} cores shared with Kafka"
    return Row(work, "×", "more", sample(ratios), None, "", f"every slot scored; {each}", TARGET)
