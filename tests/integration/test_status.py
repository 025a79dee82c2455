"""What a worker says of itself, against a real Kafka: before and after it has caught up, of bad input, beside another."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaProducer

from streams.topics import RAW, topic_name
from tests.integration.support import WorkerProcess, eventually, site_folder

pytestmark = pytest.mark.kafka

NOW_MS = int(time.time()) * 1000
HOUR_MS = 3_600_000
GOOD = {"meterId": "in-A", "kind": "flow", "value": 1.5, "unit": "m3/h", "observedAt": NOW_MS}
BACKLOG = 20_000


def reading(**fields: object) -> bytes:
    return json.dumps(GOOD | fields).encode()


POISON = [
    b'{"meterId": "in-A", ',
    b"\xff\xfe",
    reading(unit="furlong"),
    reading(meterId="in-Z"),
    reading(meterId="in-C", observedAt=NOW_MS + 48 * HOUR_MS),
    reading(meterId="in-C", observedAt=NOW_MS + 49 * HOUR_MS),
    reading(meterId="p-B", kind="pressure", unit="kPa", observedAt=NOW_MS - 24 * 400 * HOUR_MS),
]


def produce(kafka: str, prefix: str, values: list[bytes], key: bytes = b"in-A") -> None:
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=20)
    for value in values:
        producer.send(topic_name(prefix, RAW), value=value, key=key)
    producer.flush(30)
    producer.close()


def port_of(worker: WorkerProcess) -> int:
    def said() -> Any:
        assert worker.process.poll() is None, worker.said
        return re.search(r"status: http://127\.0\.0\.1:(\d+)/status", worker.said)

    return int(eventually(said, 120.0)[1])


def ask(port: int, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def status_of(port: int) -> Any:
    code, text = ask(port, "status")
    assert code == 200
    return json.loads(text)


def wait_until_ready(port: int) -> list[tuple[int, str]]:
    """Every different answer of /readyz until it is 200; /healthz is 200 all the time."""
    answers: list[tuple[int, str]] = []

    def ready() -> bool:
        assert ask(port, "healthz") == (200, "ok\n")
        answer = ask(port, "readyz")
        if answer not in answers:
            answers.append(answer)
        return answer[0] == 200

    eventually(ready, 60.0)
    return answers


def test_a_worker_is_ready_once_it_has_caught_up_and_counts_what_it_could_not_use(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    prefix = new_prefix(partitions=2)
    produce(kafka, prefix, [reading(value=float(at), observedAt=NOW_MS - BACKLOG + at) for at in range(BACKLOG)])
    with WorkerProcess(site_folder(tmp_path / "site"), kafka, prefix, tmp_path / "log", "--status", "127.0.0.1:0") as worker:
        port = port_of(worker)
        first, *_, last = wait_until_ready(port)
        assert first[0] == 503
        assert first[1].startswith(("waiting for Kafka", "recovering", "catching up"))
        assert last == (200, "ok\n")

        produce(kafka, prefix, POISON)
        eventually(lambda: status_of(port)["deadLetters"] == len(POISON))
        eventually(lambda: all(one["lagRecords"] == 0 for one in status_of(port)["partitions"]))
        found = status_of(port)
        assert found["ready"]
        assert found["healthy"]
        assert (found["site"], found["prefix"], found["pid"]) == ("testville", prefix, worker.process.pid)
        assert len(found["partitions"]) == 4
        raw = [one for one in found["partitions"] if one["topic"] == topic_name(prefix, RAW)]
        assert sum(one["position"] for one in raw) == sum(one["highwater"] for one in raw) == BACKLOG + len(POISON)
        # of a partition that has been quiet for a while as well
        time.sleep(1.2)
        assert sum(one["lagRecords"] for one in status_of(port)["partitions"]) == 0

        rejected = found["rejected"]
        assert rejected["messages"] == len(POISON)
        assert {name: count for name, count in rejected["byReason"].items() if count} == {
            "unreadable": 2, "unit": 1, "unknown_meter": 1, "clock_ahead": 2, "clock_behind": 1,
        }  # fmt: skip
        meters = {one["meter"]: one for one in rejected["byMeter"]}
        assert meters["in-A"]["rejectedMessages"] == 3  # two of them by their keys
        assert not meters["in-Z"]["inNetwork"]
        assert meters["in-C"]["clockAhead"]["readings"] == 2
        assert meters["p-B"]["clockBehind"]["readings"] == 1
        assert abs(meters["in-C"]["clockAhead"]["offSeconds"] - 49 * 3600) < 600
        (dma,) = [one for one in found["dmas"] if one["dma"] == "A"]
        assert next(one["readings"] for one in dma["meters"] if one["meter"] == "in-A") == BACKLOG

        eventually(lambda: status_of(port)["checkpoint"]["totalStates"] > 0)
        code, text = ask(port, "metrics")
        assert code == 200
        assert 'nightline_meter_wrong_clock_readings_total{meter="in-C",direction="ahead"} 2\n' in text
        assert "in-Z" not in text

        # neither a client that says nothing nor one that keeps its connection holds the stop up
        with socket.create_connection(("127.0.0.1", port)) as idle, socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"GET /status HTTP/1.1\r\nHost:")
            begin = time.monotonic()
            assert worker.stop() == 0
            assert time.monotonic() - begin < 10.0
            assert idle.fileno() >= 0
        assert "Traceback" not in worker.said
        with pytest.raises(urllib.error.URLError):
            ask(port, "healthz")


def test_a_second_worker_on_the_host_takes_a_free_port_and_both_are_ready_with_their_share(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    prefix, site = new_prefix(partitions=2), site_folder(tmp_path / "site")
    produce(kafka, prefix, [reading(observedAt=NOW_MS - 1000 + at) for at in range(1000)])
    with (
        WorkerProcess(site, kafka, prefix, tmp_path / "one.log", "--session-seconds", "2") as one,
        WorkerProcess(site, kafka, prefix, tmp_path / "two.log", "--session-seconds", "2") as two,
    ):
        ports = port_of(one), port_of(two)
        assert ports[0] != ports[1]
        assert "port 8090 is taken, took " in one.said + two.said

        def shares() -> list[set[tuple[str, int]]] | None:
            found = [status_of(port) for port in ports]
            mine = [{(at["topic"], at["partition"]) for at in one["partitions"]} for one in found]
            return mine if all(one["ready"] for one in found) and sum(map(len, mine)) == 4 and all(mine) else None

        first, second = eventually(shares, 60.0)
        assert not first & second
        begin = time.monotonic()
        assert two.stop() == 0
        assert time.monotonic() - begin < 10.0
        eventually(lambda: len(status_of(ports[0])["partitions"]) == 4 and status_of(ports[0])["ready"])
        assert one.stop() == 0
        assert "Traceback" not in one.said + two.said


def test_a_log_that_ends_in_the_markers_of_a_transaction_is_caught_up_with(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    prefix = new_prefix(partitions=1)

    async def in_a_transaction() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=prefix)
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(topic_name(prefix, RAW), reading(), b"in-A")
        await producer.stop()

    asyncio.run(in_a_transaction())
    with WorkerProcess(site_folder(tmp_path / "site"), kafka, prefix, tmp_path / "log", "--status", "127.0.0.1:0") as worker:
        port = port_of(worker)
        wait_until_ready(port)
        (raw,) = [one for one in status_of(port)["partitions"] if one["topic"] == topic_name(prefix, RAW)]
        assert (raw["position"], raw["highwater"], raw["lagRecords"]) == (2, 2, 0)
        assert worker.stop() == 0


def test_a_port_asked_for_that_is_taken_is_one_line_and_exit_code_2(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        where = "--status", f"127.0.0.1:{port}"
        with WorkerProcess(site_folder(tmp_path / "site"), kafka, new_prefix(1), tmp_path / "log", *where) as worker:
            assert worker.process.wait(timeout=60) == 2
    said = f"Error: --status: 127.0.0.1:{port} is taken; possible: another port, 0 for any free one, or off\n"
    assert worker.said == said
