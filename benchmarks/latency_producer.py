"""The meters of latency.py: `latency_producer.py BOOTSTRAP TOPIC READINGS_A_SECOND SECONDS STAMPS.npy`.

First the weeks that the engines learn from, inlets only, as fast as Kafka takes them. Then, once a line comes on stdin,
everything at the pace asked for; each reading is put together just before it is sent. STAMPS gets, for every slot and DMA,
the wall time at which the reading that completes the slot was handed to Kafka's client.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from benchmarks.latency import CUSTOMERS, DMAS, HEADERS, INLETS, METERS, PARTITIONS, WARM_SLOTS, inflow, slots_in
from benchmarks.towns import SLOT_MS, START_MS


def _moment(slot: int) -> str:
    return np.datetime_as_string(np.datetime64(START_MS + SLOT_MS * (slot + 1), "ms"), unit="s") + 'Z"}'


def _payloads(slot: int, dma: int, m3h: float, customers: list[str]) -> list[bytes]:
    """One slot of one DMA: the inlets, then the customers."""
    tail = f'","kind":"flow","value":{round(m3h / INLETS, 3)!r},"unit":"m3/h","observedAt":"{_moment(slot)}'
    own = INLETS + CUSTOMERS
    found = [f'{{"meterId":"FM-{dma * own + i:07}{tail}'.encode() for i in range(INLETS)]
    moment = _moment(slot)
    return found + [(head + moment).encode() for head in customers]


class Sender:
    """librdkafka, told to hurry rather than to collect."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "queue.buffering.max.messages": 2_000_000, "linger.ms": 2, "log_level": 3}
        )  # fmt: skip

    def send(self, payloads: list[bytes], dma: int) -> None:
        """Readings of one DMA, all to its partition."""
        for value in payloads:
            while True:
                try:
                    self._producer.produce(self._topic, value, partition=dma % PARTITIONS, headers=HEADERS)
                    break
                except BufferError:
                    self._producer.poll(0.05)
        self._producer.poll(0)

    def flush(self) -> None:
        """All of it is in Kafka."""
        assert not self._producer.flush(60)


def main(bootstrap: str, topic: str, load: float, seconds: float, stamps: Path) -> None:
    """Both parts; a word on stdout after each."""
    slots = slots_in(load, seconds)
    m3h = inflow(slots).tolist()
    sender = Sender(bootstrap, topic)
    for slot in range(WARM_SLOTS):
        for dma in range(DMAS):
            sender.send(_payloads(slot, dma, m3h[slot][dma], []), dma)
    sender.flush()
    print("warm", flush=True)
    sys.stdin.readline()
    own = INLETS + CUSTOMERS
    customers = [
        [
            f'{{"meterId":"FM-{dma * own + i:07}","kind":"flow","value":0.12,"unit":"m3/h","observedAt":"'
            for i in range(INLETS, own)
        ]
        for dma in range(DMAS)
    ]
    sent: NDArray[np.float64] = np.zeros((slots, DMAS))
    begin = time.perf_counter()
    for number in range(slots):
        slot = WARM_SLOTS + number
        for dma in range(DMAS):
            due = begin + (number * METERS + dma * own) / load
            wait = due - time.perf_counter()
            if wait > 0.0005:
                time.sleep(wait)
            payloads = _payloads(slot, dma, m3h[slot][dma], customers[dma])
            sender.send(payloads[:INLETS], dma)
            sent[number, dma] = time.time()
            sender.send(payloads[INLETS:], dma)
    took = time.perf_counter() - begin
    sender.flush()
    np.save(stamps, sent)
    print(slots * METERS / took, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
