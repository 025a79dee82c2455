"""After an outage: a backlog of weeks in four partitions, read by one worker or two, gives the alerts of live readings."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource

from models.network import Site
from models.schema import Readings
from streams import topics
from streams.replay import Followers, encode
from streams.topics import RAW, topic_name
from tests.integration.support import (
    NIGHTLINE,
    START_SECONDS,
    WorkerProcess,
    assert_same_alerts,
    eventually,
    history,
    published_alerts,
    site_folder,
    town,
    uninterrupted,
)

pytestmark = pytest.mark.kafka

UNALIGNED = (
    "import streams.group_progress as a\n"
    "a.Alignment.wanted = lambda self, active: active\n"
    "a.Alignment.take = lambda self, fetched, now: fetched\n"
    "from nightline.cli import main\n"
    "main()\n"
)
DEAF = (
    "import streams.group_progress as a\n"
    "async def nobody(self): return None\n"
    "a.Alignment._ask = nobody\n"
    "from nightline.cli import main\n"
    "main()\n"
)
"""Aligns what it owns, and knows of no other worker."""
DAYS = 35


def fill(kafka: str, prefix: str, site: Site, block: Readings, transactional: bool = False) -> None:
    """One message a reading, produced when it was observed; in transactions of 1000, whose markers end each partition."""
    with topics.admin(kafka) as client:
        raw = topic_name(prefix, RAW)
        client.alter_configs([ConfigResource("TOPIC", raw, configs={"retention.ms": "-1"})])
        eventually(lambda: topics.find_topics(client, prefix)[RAW].config["retention.ms"] == "-1")
    options = {"transactional_id": prefix} if transactional else {}
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=5, **options)
    messages = zip(encode(site, block, "single"), block["time_ms"].tolist(), strict=True)
    if transactional:
        producer.init_transactions()
    while part := list(itertools.islice(messages, 1000)):
        if transactional:
            producer.begin_transaction()
        for (key, value, _), time_ms in part:
            producer.send(raw, value=value, key=key, timestamp_ms=time_ms)
        if transactional:
            producer.commit_transaction()
    producer.flush()
    producer.close()


def catch_up(
    kafka: str, prefix: str, folder: Path, workers: int, code: str | None = None, markers: int = 0
) -> tuple[str, float]:
    """Until everything is routed and watched, but the `markers` that end each partition, which are never consumed.

    Returns what was said, and seconds from the first assignment.
    """
    command = None if code is None else ["-c", code, "worker", str(folder), "--bootstrap", kafka, "--prefix", prefix]
    logs = [folder.parent / f"log-{number}" for number in range(workers)]
    with contextlib.ExitStack() as stack, topics.admin(kafka) as client:
        running = [stack.enter_context(WorkerProcess(folder, kafka, prefix, log, command=command)) for log in logs]
        running[0].wait_until_assigned()
        begin = time.monotonic()
        followers = Followers(client, prefix)
        raw = followers.raw
        wanted = {tp: end - markers for tp, end in _ends(client, followers).items() if tp.topic == raw}
        followers.wait(wanted, "routed")
        seconds = time.monotonic() - begin
        followers.wait(followers.ends(), "watched")
        for worker in running:
            assert worker.stop() == 0, worker.said
    return "".join(log.read_text() for log in logs), seconds


def _ends(client: object, followers: Followers) -> dict:  # type: ignore[type-arg]
    from kafka.admin import OffsetSpec  # noqa: PLC0415

    found = client.list_partition_offsets(dict.fromkeys(followers._partitions, OffsetSpec.LATEST))  # type: ignore[attr-defined]
    return {tp: end.offset for tp, end in found.items() if end.offset}


@pytest.mark.parametrize(("workers", "transactional"), [(1, False), (2, True)])
def test_a_backlog_gives_the_alerts_of_live_readings(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path, workers: int, transactional: bool
) -> None:
    site, block, prefix = town(), history(DAYS), new_prefix()
    fill(kafka, prefix, site, block, transactional)
    said, seconds = catch_up(kafka, prefix, site_folder(tmp_path / "site"), workers, markers=int(transactional))
    print(f"{workers} workers, aligned: {len(block) / seconds:.0f} readings/s, {DAYS * 60 / seconds:.0f} days a minute")
    assert "came after their slot was closed" not in said
    assert "no progress for" not in said
    expected, _ = uninterrupted(site, block)
    found = published_alerts(kafka, prefix)
    assert {key: as_live(alert) for key, alert in expected.items()} == found


def test_without_alignment_readings_come_too_late(kafka: str, new_prefix: Callable[..., str], tmp_path: Path) -> None:
    """The proof that the tests above would see it."""
    site, block, prefix = town(), history(DAYS), new_prefix()
    fill(kafka, prefix, site, block)
    said, seconds = catch_up(kafka, prefix, site_folder(tmp_path / "site"), 1, UNALIGNED)
    print(f"1 worker, not aligned: {len(block) / seconds:.0f} readings/s, {DAYS * 60 / seconds:.0f} days a minute")
    assert "came after their slot was closed" in said


START_APART_SECONDS = 8.0
"""One goes on so much earlier than the other. Alone it would read its half of the backlog to the end in less."""


def shared_out(workers: list[WorkerProcess]) -> bool:
    """Each worker owns two partitions of the raw topic, and they are four."""
    owned = [re.findall(r"readings\.raw\.v1 ([\d,]+)", worker.said)[-1:] for worker in workers]
    parts = [found[0].split(",") for found in owned if found]
    return [len(mine) for mine in parts] == [2, 2] and len({number for mine in parts for number in mine}) == 4


def frozen_backlog(
    kafka: str, prefix: str, folder: Path, block: Readings, code: str | None, killed_after: float | None
) -> tuple[str, str]:
    """Both workers own their partitions and stand still while weeks are produced; then both go on. What each has said."""
    command = ["-c", code or NIGHTLINE[1], "worker", str(folder), "--bootstrap", kafka, "--prefix", prefix]
    logs = [folder.parent / f"log-{number}" for number in range(2)]
    with contextlib.ExitStack() as stack, topics.admin(kafka) as client:

        def start(log: Path, seconds: float) -> WorkerProcess:
            options = [*command, "--session-seconds", str(seconds)]
            return stack.enter_context(WorkerProcess(folder, kafka, prefix, log, command=options))

        workers = [start(log, 45) for log in logs]
        eventually(lambda: shared_out(workers), START_SECONDS)
        for worker in workers:
            worker.process.send_signal(signal.SIGSTOP)
        fill(kafka, prefix, town(), block)
        for worker in workers:
            worker.process.send_signal(signal.SIGCONT)
            time.sleep(START_APART_SECONDS)
        if killed_after is not None:
            time.sleep(killed_after)
            workers[1].kill()
            workers[1] = start(logs[1], 2)
        followers = Followers(client, prefix)
        wanted = {tp: end for tp, end in _ends(client, followers).items() if tp.topic == followers.raw}
        followers.wait(wanted, "routed")
        followers.wait(followers.ends(), "watched")
        for worker in workers:
            assert worker.stop() == 0, worker.said
    return logs[0].read_text(), logs[1].read_text()


@pytest.mark.soak
@pytest.mark.parametrize("killed_after", [None, 1.0])
def test_two_workers_that_own_half_a_backlog_each_wait_for_one_another(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path, killed_after: float | None
) -> None:
    site, block, prefix = town(), history(DAYS), new_prefix()
    said = "".join(frozen_backlog(kafka, prefix, site_folder(tmp_path / "site"), block, None, killed_after))
    assert "came after their slot was closed" not in said
    expected, _ = uninterrupted(site, block)
    live = {key: as_live(alert) for key, alert in expected.items()}
    assert_same_alerts(published_alerts(kafka, prefix), live, {"two workers, frozen, with half a backlog each": 1})


@pytest.mark.soak
def test_two_workers_that_do_not_wait_for_one_another_make_readings_late(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    """Each aligns its own partitions, and one begins some seconds after the other: the proof that the test above bites."""
    said = "".join(frozen_backlog(kafka, new_prefix(), site_folder(tmp_path / "site"), history(DAYS), DEAF, None))
    assert "came after their slot was closed" in said


def as_live(alert: object) -> object:
    import msgspec  # noqa: PLC0415

    return msgspec.structs.replace(alert, origin="live")  # type: ignore[type-var]
