"""Reading in -> alert out, by the wall clock, of `nightline worker` on a real Kafka at half of its load.

Fifty DMAs learn for some weeks and then have a burst every other day; event time runs a thousand times faster than the
clock, so that some seconds hold hundreds of alerts. Each revision in `alerts.v1` says which slot brought it about; the slot
is complete with the last of the DMA's inlets. The time runs from when that reading was handed to the producer's client to
when the alert came out of a consumer's. Scored slots in `detections.v1`, published in the same step, are measured likewise.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from numpy.typing import NDArray

from benchmarks.broker import kafka
from benchmarks.measure import Row, Sample
from benchmarks.towns import DAY_SLOTS, SLOT_MS, START_MS, demand, flows, folder, town
from models.cloudevents import decode
from models.engine import Engine
from models.routing import split
from streams import topics
from streams.detections import unpack_detections

DMAS, INLETS, CUSTOMERS, PARTITIONS = 50, 4, 36, 4
METERS = DMAS * (INLETS + CUSTOMERS)
WARM_SLOTS = 35 * DAY_SLOTS
HEADERS = [("nl-origin", b"replay")]
"""Event time is not now."""
HALF_LOAD = 100_000.0
"""Readings/s: half of what one worker of the chain takes while it shares two cores with Kafka and its producer."""
PACES = ((HALF_LOAD / 5, 48.0), (HALF_LOAD, 25.0))
"""Readings/s, and for how many seconds: long enough for `FEWEST_ALERTS`."""
WINDOWS = 5
"""Low and high of a row are those of so many parts of the run."""
BURST_EVERY, BURST_SLOTS, BURST_M3H = 2 * DAY_SLOTS, 10, 45.0
FEWEST_ALERTS = 200
TARGET_P99_MS = 100.0
START_S, DRAIN_S = 120.0, 60.0
ROOT = Path(__file__).resolve().parent.parent


def slots_in(load: float, seconds: float) -> int:
    """How many slots of all meters a run sends."""
    return int(load * seconds / METERS)


def inflow(slots: int) -> NDArray[np.float64]:
    """(warm and further slots, DMAs) m3/h, with a burst in each DMA every other day once they have learned."""
    m3h = demand(WARM_SLOTS + slots, DMAS)
    since = np.arange(WARM_SLOTS + slots)[:, None] - WARM_SLOTS - (np.arange(DMAS) * BURST_EVERY // DMAS)
    m3h[(since >= 0) & (since % BURST_EVERY < BURST_SLOTS)] += BURST_M3H
    return m3h


def _expected(slots: int) -> set[tuple[str, int]]:
    """Id and revision of every alert after the warm slots, of one pass through the engines in this process."""
    begin_ms = START_MS + WARM_SLOTS * SLOT_MS
    place, m3h, found = town(DMAS, INLETS, CUSTOMERS), inflow(slots), set()
    engines = [Engine(place, dma.id) for dma in place.dmas]
    for first in range(0, len(m3h), DAY_SLOTS):
        readings = flows(place, min(DAY_SLOTS, len(m3h) - first), first, INLETS + CUSTOMERS, INLETS, m3h)
        for row, part in split(readings, place.subscribers()):
            alerts = engines[row].step(part, "replay").alerts
            found |= {(alert.alert_id, alert.revision) for alert in alerts if alert.updated_at > begin_ms}
    return found


class Listener:
    """Takes down what comes out of both topics, and when."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.alerts: list[tuple[float, object]] = []
        self.detections: list[tuple[float, bytes]] = []
        self._counted = self._slots = 0
        self._alerts = topics.topic_name(prefix, topics.ALERTS)
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{prefix}-listener", "log_level": 3})
        names = (self._alerts, topics.topic_name(prefix, topics.DETECTIONS))
        self._consumer.assign(
            [TopicPartition(name, number, OFFSET_BEGINNING) for name in names for number in range(PARTITIONS)]
        )

    def listen(self, seconds: float) -> None:
        """For so long. One by one: librdkafka's `consume` would wait until it has all that it was asked for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            message = self._consumer.poll(0.05)
            if message is None:
                continue
            now = time.time()
            assert message.error() is None, message.error()
            if message.topic() == self._alerts:
                self.alerts.append((now, message))
            else:
                self.detections.append((now, message.value()))

    def slots(self) -> int:
        """Rows of detections so far."""
        fresh = self.detections[self._counted :]
        self._counted += len(fresh)
        self._slots += sum(len(unpack_detections(blob).columns["slot_end_ms"]) for _, blob in fresh)
        return self._slots

    def forget(self) -> None:
        """What came so far does not count."""
        self.alerts.clear()
        self.detections.clear()
        self._counted = self._slots = 0

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


@contextmanager
def worker(site: Path, bootstrap: str, prefix: str, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`nightline worker` as a process of its own."""
    run = [sys.executable, "-c", "from nightline.cli import main; main()"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*run, "worker", str(site), "--bootstrap", bootstrap, "--prefix", prefix, "--status", "off", *options],
            stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT, env=os.environ,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(bootstrap: str, prefix: str, load: float, seconds: float) -> tuple[Listener, NDArray[np.float64], float]:
    """What a listener took down, the stamps of all slots that were sent at the pace, and the pace that was reached."""
    topics.apply(bootstrap, prefix, PARTITIONS, say=lambda _: None)
    slots = slots_in(load, seconds)
    with tempfile.TemporaryDirectory(prefix="nightline-latency-") as name, ExitStack() as stack:
        place, stamps, log = Path(name) / "site", Path(name) / "stamps.npy", Path(name) / "worker.log"
        folder(place, DMAS, INLETS, CUSTOMERS)
        watched = stack.enter_context(worker(place, bootstrap, prefix, log))
        command = [
            sys.executable, "-m", "benchmarks.latency_producer", bootstrap, topics.topic_name(prefix, topics.RAW),
            str(load), str(seconds), str(stamps),
        ]  # fmt: skip
        meters = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        )
        assert meters.stdin is not None
        assert meters.stdout is not None
        listener = Listener(bootstrap, prefix)
        stack.callback(listener.close)
        assert meters.stdout.readline() == "warm\n", "the producer ended early"
        deadline = time.monotonic() + START_S
        # the grid begins a lateness before the first reading: more slots are closed than were sent
        while (closed := listener.slots()) < WARM_SLOTS * DMAS:
            going = watched.poll() is None and time.monotonic() < deadline
            assert going, f"{closed} of {WARM_SLOTS * DMAS} slots scored; worker: {log.read_text().splitlines()[-3:]}"
            listener.listen(1.0)
        listener.forget()
        meters.stdin.write("go\n")
        meters.stdin.flush()
        listener.listen(seconds)
        deadline = time.monotonic() + DRAIN_S
        while listener.slots() < slots * DMAS and time.monotonic() < deadline:
            listener.listen(1.0)
        listener.listen(0.5)  # alerts of the last slots, from a topic of their own
        reached = float(meters.stdout.readline())
        return listener, np.load(stamps), reached


def delays_ms(listener: Listener, sent: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 2) send time and delay of every alert revision, and of every scored slot."""

    def stamp(dma: str, slot_end_ms: int) -> float:
        return float(sent[(slot_end_ms - START_MS) // SLOT_MS - 1 - WARM_SLOTS, int(dma[1:])])

    alerts = []
    for now, message in listener.alerts:
        alert = decode(message.headers(), message.value())  # type: ignore[attr-defined]
        begin = stamp(alert.scope.id, alert.updated_at)
        alerts.append((begin, 1000 * (now - begin)))
    slots = []
    for now, blob in listener.detections:
        found = unpack_detections(blob)
        for end_ms in found.columns["slot_end_ms"].tolist():
            begin = stamp(found.dma, end_ms)
            slots.append((begin, 1000 * (now - begin)))
    return np.array(alerts), np.array(slots)


def _sample(delays: NDArray[np.float64], quantile: float) -> Sample:
    """Of the whole run, with the best and worst of its parts."""
    parts = np.array_split(delays[np.argsort(delays[:, 0]), 1], WINDOWS)
    each = [float(np.quantile(part, quantile)) for part in parts]
    return Sample(float(np.quantile(delays[:, 1], quantile)), min(each), max(each))


def rows(bootstrap: str, prefix: str, load: float, seconds: float, target_ms: float | None) -> Iterator[Row]:
    """Rows of one pace."""
    listener, sent, reached = measure(bootstrap, prefix, load, seconds)
    alerts, slots = delays_ms(listener, sent)
    found = {
        (alert.alert_id, alert.revision)
        for alert in (decode(message.headers(), message.value()) for _, message in listener.alerts)  # type: ignore[attr-defined]
    }
    expected = _expected(len(sent))
    assert found == expected, f"{len(found - expected)} alert revisions too many, {len(expected - found)} missing"
    assert len(slots) == sent.size, f"{len(slots)} slots scored, expected {sent.size}"
    assert len(alerts) >= FEWEST_ALERTS, f"only {len(alerts)} alert revisions"
    assert reached > 0.95 * load, f"the producer reached only {reached:,.0f} readings/s"
    pace = f"{reached / 1000:.0f} k readings/s in"
    checked = f"{len(alerts):,} revisions as the engines'"
    for name, quantile, target in (("p50", 0.5, None), ("p99", 0.99, target_ms), ("longest", 1.0, None)):
        yield Row(f"alert out, {pace}, {name}", "ms", "less", _sample(alerts, quantile), None, "", checked, target)
    yield Row(f"scored slot out, {pace}, p99", "ms", "less", _sample(slots, 0.99), None, "", f"all {len(slots):,} slots")


def run() -> Iterator[Row]:
    """All rows of this workload."""
    with kafka() as bootstrap:
        for number, (load, seconds) in enumerate(PACES):
            yield from rows(bootstrap, f"latency-{number}", load, seconds, TARGET_P99_MS if load == HALF_LOAD else None)
