"""A tenth of the stream is poison, and one meter's clock runs ahead, while a worker is killed: nothing else changes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, OffsetSpec

from models.packing import MAGIC, VERSION, Packing
from models.schema import Readings
from streams import topics
from streams.replay import Followers, encode
from streams.topics import DEAD_LETTERS, RAW, READING_LIMIT, READINGS, REQUEST_LIMIT, topic_name
from tests.integration.support import (
    WorkerProcess,
    assert_same_alerts,
    eventually,
    history,
    published_alerts,
    read_topic,
    site_folder,
    town,
    uninterrupted,
)

pytestmark = pytest.mark.kafka

DAY_MS = 86_400_000
Poison = Callable[[dict[str, object]], bytes]


def changed(**fields: object) -> Poison:
    return lambda good: json.dumps(good | fields).encode()


def ahead(days: int) -> Poison:
    """The meter's own reading, by a clock that is wrong."""
    return lambda good: json.dumps(good | {"observedAt": good["observedAt"] + days * DAY_MS}).encode()  # type: ignore[operator]


def among_good(poison: Poison) -> Poison:
    """In one message with the good reading, which is nowhere else."""
    return lambda good: b"[" + json.dumps(good).encode() + b"," + poison(good) + b"]"


EACH: dict[str, tuple[Poison, str]] = {
    "malformed": (lambda good: json.dumps(good).encode()[:-7], "malformed JSON"),
    "not UTF-8": (lambda good: json.dumps(good).encode().replace(b"flow", b"\xff\xfe"), ""),
    "NaN": (changed(value=float("nan")), "NaN is not JSON"),
    "infinite": (changed(value=1e308, unit="L/s"), "beyond what a flow can be"),
    "unknown meter": (changed(meterId="in-Z"), "in-Z"),
    "unknown unit": (changed(unit="furlong"), "furlong"),
    "unknown version": (lambda good: json.dumps({"specversion": "9.0", "data": [good]}).encode(), "'meterId' is missing"),
    "a clock a day ahead": (ahead(1), "more than 1 h ahead"),
    "a clock a year ahead": (ahead(365), "more than 1 h ahead"),
    "a year ahead in a batch": (among_good(ahead(365)), "1 of 2 readings rejected"),
    "NaN as text in a batch": (among_good(changed(value="NaN")), "1 of 2 readings rejected"),
    "empty": (lambda _: b"", "empty"),
}
OVERSIZED = b"[" + b" " * READING_LIMIT + b"]"
FLOWS = {"in-A", "A-B", "in-C"}


def stream(block: Readings) -> Iterator[tuple[bytes, bytes, int, str | None]]:
    """Key, value, time and, of poison, its reason: a tenth of all, behind every sixth flow."""
    kinds = cycle(EACH.values())
    singles = zip(encode(town(), block, "single"), block["time_ms"].tolist(), strict=True)
    flows = 0
    for number, ((key, value, _), time_ms) in enumerate(singles):
        if number in (500, 5_000, 10_000):
            yield key, OVERSIZED, time_ms, "oversized: found 4194306 bytes"
        flows += key.decode() in FLOWS
        if key.decode() not in FLOWS or flows % 6:
            yield key, value, time_ms, None
            continue
        poison, reason = next(kinds)
        bad = poison(json.loads(value))
        if not bad.startswith(b"["):
            yield key, value, time_ms, None
        yield key, bad, time_ms, reason


def blocks_of_poison(block: Readings) -> dict[bytes, str]:
    """For `readings.v1`: what a router of another version, or a torn one, might have left there."""
    good = Packing(town()).pack("A", block[block["meter"] == town().meter_row["in-A"]][:5], "live")
    return {
        good[:4] + (VERSION + 1).to_bytes(2, "little") + good[6:]: f"block version: found {VERSION + 1}",
        good[:-1] + bytes([good[-1] ^ 1]): "block is torn",
        MAGIC: "block is torn",
    }


Planted = dict[tuple[str, int, int], tuple[bytes, str]]


def fill(kafka: str, prefix: str, block: Readings) -> Planted:
    """Everything, produced when it was observed. Topic, partition and offset of the poison, its value and reason."""
    raw, readings = topic_name(prefix, RAW), topic_name(prefix, READINGS)
    with topics.admin(kafka) as client:
        client.alter_configs([ConfigResource("TOPIC", raw, configs={"retention.ms": "-1"})])
        eventually(lambda: topics.find_topics(client, prefix)[RAW].config["retention.ms"] == "-1")
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=5, max_request_size=REQUEST_LIMIT)
    sent = []
    for key, value, time_ms, reason in stream(block):
        future = producer.send(raw, value=value, key=key, timestamp_ms=time_ms)
        if reason is not None:
            sent.append((future, value, reason))
    sent += [
        (producer.send(readings, value=value, key=b"A"), value, reason) for value, reason in blocks_of_poison(block).items()
    ]
    producer.flush()
    found = {(r.topic, r.partition, r.offset): (value, reason) for f, value, reason in sent for r in [f.get(30)]}
    producer.close()
    return found


def letters(kafka: str, prefix: str) -> tuple[dict[tuple[str, int, int], tuple[bytes, str]], Counter[str]]:
    """Dead letters by what they name: value and reason, the same however often they came; and how often which came."""
    found: dict[tuple[str, int, int], tuple[bytes, str]] = {}
    times: Counter[str] = Counter()
    for letter in read_topic(kafka, topic_name(prefix, DEAD_LETTERS)):
        headers = {name: value.decode() for name, value in letter.headers}
        key = headers["topic"], int(headers["partition"]), int(headers["offset"])
        assert found.setdefault(key, (letter.value, headers["reason"])) == (letter.value, headers["reason"])
        times[str(key)] += 1
    return found, times


@pytest.mark.timeout(400)
def test_poison_and_wrong_clocks_under_load_and_a_kill_change_nothing(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, block, prefix = town(), history(28), new_prefix()
    planted = fill(kafka, prefix, block)
    assert len(planted) > 0.1 * (len(block) + len(planted))
    folder = site_folder(tmp_path / "site")
    with topics.admin(kafka) as client:
        followers = Followers(client, prefix)
        wanted = {tp: OffsetSpec.LATEST for tp in followers._partitions if tp.topic == followers.raw}
        ends = {tp: end.offset for tp, end in client.list_partition_offsets(wanted).items()}
        half = sum(ends.values()) / 2
        with WorkerProcess(folder, kafka, prefix, tmp_path / "log-1", "--session-seconds", "2") as worker:
            worker.wait_until_assigned()
            eventually(lambda: sum((followers.committed() or {}).get(tp, 0) for tp in ends) > half, 120)
            worker.kill()
        with WorkerProcess(folder, kafka, prefix, tmp_path / "log-2", "--session-seconds", "2") as worker:
            worker.wait_until_assigned()
            followers.wait(ends, "routed")
            followers.wait(followers.ends(), "watched")
            assert worker.stop() == 0, worker.said
    said = (tmp_path / "log-1").read_text() + (tmp_path / "log-2").read_text()
    assert "came after their slot was closed" not in said  # no clock that is ahead has closed a slot
    assert "Traceback" not in said

    found, times = letters(kafka, prefix)
    assert found.keys() == planted.keys()
    for origin, (value, reason) in planted.items():
        assert found[origin][0] == value, origin
        assert found[origin][1], origin
        assert reason in found[origin][1], origin
    print(f"{len(planted)} poison among {len(block)} readings; {times.total() - len(times)} letters came twice")
    expected, _ = uninterrupted(site, block)
    live = {key: msgspec.structs.replace(alert, origin="live") for key, alert in expected.items()}
    assert_same_alerts(published_alerts(kafka, prefix), live, {"poison and wrong clocks, real Kafka": len(planted)})
