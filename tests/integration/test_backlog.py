"""A consumer lag of ten million readings: bounded memory, and the alerts of a backtest of the same readings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, OffsetSpec

from models.engine import StepResult
from models.network import Site, parse_site
from models.schema import FLOW, PRESSURE, READING, Alert, Readings
from streams import topics
from streams.replay import Followers, encode
from streams.topics import DEAD_LETTERS, RAW, REQUEST_LIMIT, topic_name
from tests.integration.broker import rss_mib
from tests.integration.support import WorkerProcess, assert_same_alerts, eventually, published_alerts, read_topic
from tests.synthetic import START_MS, demand
from training import backtest
from training.history import Window

pytestmark = [pytest.mark.kafka, pytest.mark.soak]

DMAS, DAYS, SINGLE_DAYS = 25, 139, 7
MINUTES = 1440
DAY_MS = 86_400_000
# a message holds a day of one meter, so a meter may be a day behind another of its DMA
SITE_TOML = 'name = "backlog"\ntimezone = "Africa/Tunis"\n[stream]\nlatenessMinutes = 2880\n'
NETWORK_TOML = "".join(
    f'[[dma]]\nid = "D{n}"\n[[meter]]\nid = "in-{n}"\nkind = "flow"\nto = "D{n}"\n'
    f'[[meter]]\nid = "p-{n}"\nkind = "pressure"\ndma = "D{n}"\n'
    for n in range(DMAS)
)


class Town:
    """A reading a minute of each meter. Every fifth DMA has a burst that ends, another fifth one that lasts."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._demand = [demand(DAYS, 30.0 + n, seed=n) for n in range(DMAS)]
        for n, flow in enumerate(self._demand):
            start = (40 + 3 * n) * 96
            if n % 5 == 0:
                flow[start : start + 60] += 20.0
            elif n % 5 == 1:
                flow[start:] += 15.0

    def day(self, number: int) -> Readings:
        """In order of time."""
        out = np.zeros((MINUTES, 2 * DMAS), READING)
        out["time_ms"] = (START_MS + number * DAY_MS + 60_000 * np.arange(1, MINUTES + 1))[:, None]
        rng = np.random.default_rng(number)
        for n, flow in enumerate(self._demand):
            slots = np.repeat(flow[number * 96 : (number + 1) * 96], 15)
            noise = rng.standard_normal((2, MINUTES))
            for column, (meter, kind, value) in enumerate(
                ((f"in-{n}", FLOW, slots + 0.1 * noise[0]), (f"p-{n}", PRESSURE, 400 - 0.01 * slots**2 + 0.3 * noise[1]))
            ):
                out["meter"][:, 2 * n + column] = self.site.meter_row[meter]
                out["kind"][:, 2 * n + column] = kind
                out["value"][:, 2 * n + column] = np.round(value, 2)
        return out.ravel()

    def windows(self) -> Iterator[Window]:
        for number in range(DAYS):
            start = START_MS + number * DAY_MS
            yield Window(start, start + DAY_MS + 60_000, self.day(number))


def fill(kafka: str, prefix: str, town: Town) -> tuple[int, int]:
    """Everything, produced when it was observed: days in columns, then readings one by one. Readings and messages."""
    raw = topic_name(prefix, RAW)
    with topics.admin(kafka) as client:
        client.alter_configs([ConfigResource("TOPIC", raw, configs={"retention.ms": "-1"})])
        eventually(lambda: topics.find_topics(client, prefix)[RAW].config["retention.ms"] == "-1")
    producer = KafkaProducer(
        bootstrap_servers=kafka, acks="all", linger_ms=20, batch_size=1 << 18, max_request_size=REQUEST_LIMIT
    )
    readings = messages = 0
    for number, window in enumerate(town.windows()):
        block = window.readings
        in_columns = number < DAYS - SINGLE_DAYS
        stamps = [window.start_ms + DAY_MS] * (2 * DMAS) if in_columns else block["time_ms"].tolist()
        parts = encode(town.site, block, "columnar" if in_columns else "single")
        for (key, value, count), stamp in zip(parts, stamps, strict=True):
            producer.send(raw, value=value, key=key, timestamp_ms=stamp)
            readings += count
            messages += 1
    producer.flush()
    producer.close()
    return readings, messages


def of_a_backtest(town: Town) -> dict[tuple[str, int], Alert]:
    found: dict[tuple[str, int], Alert] = {}

    def keep(_: str, result: StepResult) -> None:
        for alert in result.alerts:
            found[alert.alert_id, alert.revision] = msgspec.structs.replace(alert, origin="live")

    backtest.run(town.site, town.windows(), None, keep)
    return found


@pytest.mark.timeout(3600)
def test_ten_million_readings_behind_a_worker_catches_up_in_bounded_memory_with_the_alerts_of_a_backtest(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, prefix, folder = parse_site(SITE_TOML, NETWORK_TOML), new_prefix(partitions=12), tmp_path / "site"
    folder.mkdir()
    (folder / "site.toml").write_text(SITE_TOML)
    (folder / "network.toml").write_text(NETWORK_TOML)
    town = Town(site)
    readings, messages = fill(kafka, prefix, town)
    assert readings >= 10_000_000
    with topics.admin(kafka) as client, WorkerProcess(folder, kafka, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        begin, over, memory = time.monotonic(), threading.Event(), [rss_mib(worker.process.pid)]

        def sample() -> None:
            while not over.wait(0.2):
                memory.append(rss_mib(worker.process.pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            followers = Followers(client, prefix)
            wanted = {tp: OffsetSpec.LATEST for tp in followers._partitions if tp.topic == followers.raw}
            followers.wait({tp: end.offset for tp, end in client.list_partition_offsets(wanted).items()}, "routed")
            routed = time.monotonic() - begin
            followers.wait(followers.ends(), "watched")
            watched = time.monotonic() - begin
        finally:
            over.set()
            sampler.join()
        assert worker.stop() == 0, worker.said
    said = (tmp_path / "log").read_text()
    with capsys.disabled():
        print(
            f"\n{readings:,} readings in {messages:,} messages: routed in {routed:.0f} s, watched and saved in "
            f"{watched:.0f} s ({readings / watched:,.0f} readings/s); "
            f"{memory[0]:.0f} MiB at the start, at most {max(memory):.0f} MiB"
        )
    assert "came after their slot was closed" not in said
    assert "no progress for" not in said
    expected = of_a_backtest(town)
    assert len(expected) >= 10
    assert_same_alerts(published_alerts(kafka, prefix), expected, {"reading of a backlog, real Kafka": readings})
    assert read_topic(kafka, topic_name(prefix, DEAD_LETTERS)) == []
    assert max(memory) < 1000
