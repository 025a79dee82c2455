"""Bad messages, one of each kind among good ones: each in the dead-letter topic, the next one processed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from models.packing import Packing
from streams.replay import Replay
from streams.topics import (
    DEAD_LETTERS,
    MIB,
    RAW,
    RAW_LIMIT,
    READINGS,
    REQUEST_LIMIT,
    KafkaUnavailableError,
    admin,
    topic_name,
)
from tests.integration.support import WorkerProcess, eventually, read_topic, site_folder, town
from tests.test_records import RawName

pytestmark = pytest.mark.kafka

NOW_MS = int(time.time()) * 1000
GOOD = {"meterId": "in-A", "kind": "flow", "value": 1.5, "unit": "m3/h", "observedAt": NOW_MS}


def changed(**fields: object) -> bytes:
    return json.dumps(GOOD | fields).encode()


BAD: dict[str, tuple[bytes | None, str]] = {
    "malformed JSON": (b'{"meterId": "in-A", ', "JSON"),
    "not UTF-8": (b"\xff\xfe\x00\x01", ""),
    "unknown meter": (changed(meterId="in-Z"), "in-Z"),
    "NaN": (b'{"meterId":"in-A","kind":"flow","value":NaN,"unit":"m3/h","observedAt":1800000000000}', ""),
    "naive time": (changed(observedAt="2026-11-23T02:15:00"), "2026-11-23T02:15:00"),
    "unknown unit": (changed(unit="furlong"), "furlong"),
    "10 MB": (b"[" + b" " * (10 << 20) + b"]", "oversized: found 10485762 bytes"),
    "null value": (None, "null"),
    "a clock a year ahead": (changed(observedAt=NOW_MS + 365 * 86_400_000), "more than 1 h ahead"),
}


def test_each_bad_message_is_a_dead_letter_with_its_origin_and_the_next_one_is_processed(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    prefix = new_prefix(partitions=2)
    raw = topic_name(prefix, RAW)
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=REQUEST_LIMIT)
    sent = {}
    for number, (name, (value, _)) in enumerate(BAD.items()):
        sent[name] = producer.send(raw, value=value, key=name.encode()).get(30)
        # one good reading right behind each bad one, in its partition
        good = changed(value=float(number), observedAt=NOW_MS + number)
        producer.send(raw, value=good, key=b"in-A", partition=sent[name].partition).get(30)
    producer.close()

    with WorkerProcess(site_folder(tmp_path / "site"), kafka, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()

        def dead_letters() -> list[object] | None:
            found = read_topic(kafka, topic_name(prefix, DEAD_LETTERS))
            return found if len(found) >= len(BAD) else None

        dead = eventually(dead_letters)
        # readings are confirmed with the dead letters of their block, or a block later
        eventually(lambda: values_routed(kafka, prefix) == set(map(float, range(len(BAD)))))
        assert worker.stop() == 0
        assert "Traceback" not in worker.said

    assert len(dead) == len(BAD)
    by_origin = {}
    for letter in dead:
        headers = {name: value.decode() for name, value in letter.headers}
        assert headers["topic"] == raw
        by_origin[int(headers["partition"]), int(headers["offset"])] = letter, headers["reason"]
    assert len(by_origin) == len(dead)
    for name, (value, said) in BAD.items():
        letter, reason = by_origin[sent[name].partition, sent[name].offset]
        assert (letter.key, letter.value) == (name.encode(), value), name
        assert reason, name
        assert said in reason, name


def test_a_dozen_of_the_largest_messages_at_once_and_one_that_swells_are_dead_letters(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    """Kafka refuses a request of more than 100 MiB, and a message beyond its topic's limit."""
    prefix = new_prefix(partitions=12)
    raw, dead = topic_name(prefix, RAW), topic_name(prefix, DEAD_LETTERS)

    async def send() -> None:
        for kind in (None, "gzip"):
            producer = AIOKafkaProducer(
                bootstrap_servers=kafka, acks="all", max_request_size=64 * MIB, compression_type=kind
            )
            async with producer:
                if kind:
                    await producer.send_and_wait(raw, b"torn", key=b"k", headers=[("note", bytes(20 * MIB))])
                else:
                    for number in range(12):
                        value = b"x" * (RAW_LIMIT - 4096)
                        await producer.send_and_wait(raw, value, key=b"k%d" % number, partition=number)

    asyncio.run(send())

    def dead_letters() -> int:
        consumer = KafkaConsumer(bootstrap_servers=kafka)
        ends = consumer.end_offsets([TopicPartition(dead, number) for number in range(12)])
        consumer.close()
        return sum(ends.values())

    with WorkerProcess(site_folder(tmp_path / "site"), kafka, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        eventually(lambda: dead_letters() == 13, 60)
        assert worker.stop() == 0


def test_a_header_name_that_is_not_utf8_stops_nothing_and_its_dead_letter_carries_it(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    prefix = new_prefix(partitions=1)
    raw = topic_name(prefix, RAW)
    # one compressed batch: what the compiled reader has read of it before it fails must not come twice
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=200, compression_type="gzip")
    for number, name in enumerate(("fine", RawName(b"tr\xffce"), "fine", RawName(b"\xc3"))):
        sent = changed(value=float(number), observedAt=NOW_MS + number)
        producer.send(raw, value=sent, key=b"in-A", headers=[(name, b"1")])
    bad = producer.send(raw, value=b"torn", key=b"k", headers=[(RawName(b"tr\xffce"), b"2")])
    producer.flush(30)
    producer.close()

    with WorkerProcess(site_folder(tmp_path / "site"), kafka, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        eventually(lambda: values_routed(kafka, prefix) == {0.0, 1.0, 2.0, 3.0})
        (letter,) = eventually(lambda: read_topic(kafka, topic_name(prefix, DEAD_LETTERS)))
        assert worker.stop() == 0
        assert "Traceback" not in worker.said
    headers = dict(letter.headers)
    assert (letter.key, letter.value, headers["tr\\xffce"]) == (b"k", b"torn", b"2")
    assert headers["offset"] == str(bad.get(1).offset).encode()
    packed = [Packing(town()).unpack(record.value) for record in read_topic(kafka, topic_name(prefix, READINGS))]
    assert sum(len(part.readings) for part in packed if part.dma == "A") == 4  # the neighbours have them too


def values_routed(kafka: str, prefix: str) -> set[float]:
    """Values of in-A in `readings.v1`."""
    site = town()
    packed = [Packing(site).unpack(record.value) for record in read_topic(kafka, topic_name(prefix, READINGS))]
    row = site.meter_row["in-A"]
    return {value for part in packed for value in part.readings["value"][part.readings["meter"] == row].tolist()}


def test_a_torn_block_of_readings_is_a_dead_letter(kafka: str, new_prefix: Callable[..., str], tmp_path: Path) -> None:
    prefix = new_prefix(partitions=1)
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
    for value in (b"NLRB torn", b"", None):
        producer.send(topic_name(prefix, READINGS), value=value, key=b"A").get(30)
    producer.close()
    with WorkerProcess(site_folder(tmp_path / "site"), kafka, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        dead = eventually(lambda: read_topic(kafka, topic_name(prefix, DEAD_LETTERS)))
        assert worker.stop() == 0
    assert [letter.value for letter in dead] == [b"NLRB torn", b"", None]
    assert all(
        "torn" in reason or "null" in reason for letter in dead for reason in [dict(letter.headers)["reason"].decode()]
    )


def test_a_worker_whose_output_topic_was_deleted_still_ends_on_sigterm_and_says_little(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    prefix = new_prefix(partitions=1)
    with WorkerProcess(site_folder(tmp_path / "site"), kafka, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        with admin(kafka) as client:
            client.delete_topics([topic_name(prefix, DEAD_LETTERS)])
        producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
        producer.send(topic_name(prefix, RAW), value=b"torn", key=b"A").get(30)
        producer.close()
        eventually(lambda: "not found in cluster metadata" in worker.said)  # it has begun to publish, and cannot
        assert worker.stop() == 1
        assert "left without a proper good-bye" in worker.said
        assert len(worker.said) < 20_000


def test_replay_without_waiting_names_a_missing_topic(kafka: str) -> None:
    with pytest.raises(KafkaUnavailableError, match=r"no topic nowhere\.readings\.raw\.v1"):
        Replay(town(), kafka, "nowhere", wait=False)


def test_a_worker_without_its_topics_says_how_to_create_them(kafka: str, tmp_path: Path) -> None:
    with WorkerProcess(site_folder(tmp_path / "site"), kafka, "nowhere", tmp_path / "log") as worker:
        assert worker.process.wait(timeout=60) == 2
        assert "nightline topics apply --bootstrap" in worker.said
