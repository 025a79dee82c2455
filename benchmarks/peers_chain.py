"""The peers on Kafka, on a topic that ours reads, too: stock Faust, Quix Streams and Bytewax, merely counting or decoding.

Each is a process of its own that reads the topic from its beginning, held to the number of its messages and to the sum of
their values. Stock Faust would need minutes for what the others read in seconds: it stops earlier, and is held to the
beginning of each partition.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from numpy.typing import NDArray

from benchmarks.measure import Sample, sample
from benchmarks.peers.environment import HERE, NotHereError, python

FAUST_MESSAGES = 60_000
TIMEOUT_S = 180
TOLERANCE = 1e-9
"""Of sums of the same numbers in another order."""


@dataclass(frozen=True)
class Peer:
    """A contestant: its script, its environment ("" is ours), what it does, and how much of the topic it reads."""

    script: str
    environment: str
    work: str
    most: int | None = None


PEERS = {
    "stock Faust, doing nothing": Peer("faust_peer.py", "", "nothing", FAUST_MESSAGES),
    "stock Faust, decoding": Peer("faust_peer.py", "", "json", FAUST_MESSAGES),
    "Quix Streams, decoding": Peer("quix_peer.py", "quix", "decode"),
    "Bytewax, decoding": Peer("bytewax_peer.py", "bytewax", "decode"),
    "Bytewax, decoding and stateful_map": Peer("bytewax_peer.py", "bytewax", "stateful"),
}


class _Values(msgspec.Struct):
    """As much of a message as is summed: one reading, or the columns of many."""

    value: float | list[float]


@dataclass(frozen=True)
class Truth:
    """Of each partition, up to every message: the sum of the values and the bytes."""

    values: dict[int, NDArray[np.float64]]
    sizes: dict[int, NDArray[np.int64]]

    def upto(self, work: str, counts: dict[int, int]) -> float:
        """The sum over so many messages of each partition."""
        of = self.sizes if work == "nothing" else self.values
        return float(sum(of[partition][count - 1] for partition, count in counts.items() if count))


def _truth(bootstrap: str, topic: str, messages: int) -> Truth:
    """What lies in the topic, read once with librdkafka."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"truth-{uuid.uuid4().hex}"})
    try:
        partitions = list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        decode = msgspec.json.Decoder(_Values).decode
        values: dict[int, list[float]] = {number: [] for number in partitions}
        sizes: dict[int, list[int]] = {number: [] for number in partitions}
        count = 0
        while count < messages:
            found = consumer.consume(10_000, timeout=10)
            assert found, f"topic {topic}: {count} messages, expected {messages}"
            for message in found:
                value = decode(message.value()).value
                values[message.partition()].append(sum(value) if isinstance(value, list) else value)
                sizes[message.partition()].append(len(message.value()))
            count += len(found)
    finally:
        consumer.close()
    assert count == messages, f"topic {topic}: {count} messages, expected {messages}"
    return Truth(
        {number: np.cumsum(np.array(found)) for number, found in values.items()},
        {number: np.cumsum(np.array(found, np.int64)) for number, found in sizes.items()},
    )


def _say(peer: Peer, bootstrap: str, topic: str, messages: int) -> dict[str, Any]:
    """One round of one peer. Raises NotHereError where it cannot be had."""
    interpreter = python(peer.environment) if peer.environment else Path(sys.executable)
    group = f"peer-{uuid.uuid4().hex[:10]}"
    done = subprocess.run(
        [str(interpreter), str(HERE / peer.script), bootstrap, topic, str(messages), peer.work, group],
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise NotHereError(f"does not run here: {said[-1][:160]}")
    return json.loads(lines[-1])


def rate(name: str, bootstrap: str, topic: str, messages: int, expected_sum: float, truth: Callable[[], Truth]) -> float:
    """Messages a second of one round; raises unless each message came once. Raises NotHereError."""
    peer = PEERS[name]
    wanted = messages if peer.most is None else min(messages, peer.most)
    said = _say(peer, bootstrap, topic, wanted)
    assert said["count"] == wanted, f"{name}: {said['count']} messages, expected {wanted}"
    if "partitions" in said:
        expected_sum = truth().upto(peer.work, {int(number): count for number, count in said["partitions"].items()})
    assert math.isclose(said["sum"], expected_sum, rel_tol=TOLERANCE), f"{name}: sum {said['sum']}, expected {expected_sum}"
    return (wanted - 1) / said["seconds"]


def contest(
    bootstrap: str, topic: str, messages: int, expected_sum: float, rounds: int
) -> dict[str, Sample | str]:  # fmt: skip
    """Messages a second of each peer, or why it has no figure. They take turns. `topic` holds just these messages."""
    truths: list[Truth] = []

    def truth() -> Truth:
        if not truths:
            truths.append(_truth(bootstrap, topic, messages))
        return truths[0]

    rates: dict[str, list[float]] = {name: [] for name in PEERS}
    absent: dict[str, Sample | str] = {}
    for _ in range(rounds):
        for name in PEERS:
            if name not in absent:
                try:
                    rates[name].append(rate(name, bootstrap, topic, messages, expected_sum, truth))
                except NotHereError as error:
                    absent[name] = str(error)
    return {name: absent.get(name) or sample(found) for name, found in rates.items()}


def rates(bootstrap: str, topic: str, messages: int, expected_sum: float, rounds: int) -> dict[str, Sample]:
    """As `contest`, without those that cannot be had."""
    found = contest(bootstrap, topic, messages, expected_sum, rounds)
    return {name: one for name, one in found.items() if isinstance(one, Sample)}
