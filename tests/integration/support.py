"""A worker as its own process, a made-up town's history, and what came out of the topics."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaConsumer, TopicPartition

from models import cloudevents
from models.bundle import Bundle
from models.engine import Engine
from models.network import Site, parse_site
from models.routing import split
from models.schema import Alert, Readings
from streams.topics import ALERTS, topic_name
from tests.proof import proven
from tests.synthetic import DAY, NETWORK_TOML, SITE_TOML, readings, step_between

TOWN_TOML = SITE_TOML.replace("latenessMinutes = 240", "latenessMinutes = 1440")
WINDOW_MS = 12 * 3_600_000
NIGHTLINE = ["-c", "from nightline.cli import main; main()"]
START_SECONDS = 120.0
"""Of a worker: importing, compiling the kernels once for this machine, joining the group."""


def town() -> Site:
    """Three DMAs, a boundary meter and a boundary valve; a day of lateness, so replay needs few parts."""
    return parse_site(TOWN_TOML, NETWORK_TOML)


def site_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "site.toml").write_text(TOWN_TOML)
    (folder / "network.toml").write_text(NETWORK_TOML)
    return folder


def history(days: int = 35) -> Readings:
    """Weeks of quiet, then a burst that lasts in A and one that ends in C."""
    leak, burst = (days - 7) * DAY, (days - 5) * DAY + 30
    return readings(
        days, a=step_between(days, leak, days * DAY, 12.0), c=step_between(days, burst, burst + 66, 25.0)
    )  # fmt: skip


@dataclass(frozen=True)
class Window:
    """As `training.history.Window`."""

    end_ms: int
    readings: Readings


def windows(block: Readings) -> list[Window]:
    cell = block["time_ms"] // WINDOW_MS
    parts = np.split(block, np.flatnonzero(np.diff(cell)) + 1)
    return [Window((int(part["time_ms"][0]) // WINDOW_MS + 1) * WINDOW_MS, part) for part in parts]


def uninterrupted(site: Site, block: Readings, bundle: Bundle | None = None) -> tuple[dict[tuple[str, int], Alert], int]:
    """Alert id and revision -> alert, and the number of scored slots, of one pass through the engines in this process."""
    engines = {dma.id: Engine(site, dma.id, bundle) for dma in site.dmas}
    found, slots = {}, 0
    for window in windows(block):
        for row, part in split(window.readings, site.subscribers()):
            result = engines[site.dmas[row].id].step(part, "replay")
            slots += len(result.detections)
            found.update({(alert.alert_id, alert.revision): alert for alert in result.alerts})
    return found, slots


def read_topic(bootstrap: str, topic: str, **options: Any) -> list[Any]:
    """Every record of a topic, partition by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=32 << 20,
        fetch_max_bytes=64 << 20, **options,
    )  # fmt: skip
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        assert partitions, f"no topic {topic}"
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        records: list[Any] = []
        deadline = time.monotonic() + 30
        while any(consumer.position(tp) < ends[tp] for tp in partitions):
            assert time.monotonic() < deadline, f"{topic} could not be read to its end"
            for batch in consumer.poll(timeout_ms=200).values():
                records += batch
        return records
    finally:
        consumer.close()


def published_alerts(bootstrap: str, prefix: str, **options: Any) -> dict[tuple[str, int], Alert]:
    """Alert id and revision -> alert; the same revision may be there twice, but never with two contents."""
    found: dict[tuple[str, int], Alert] = {}
    values: dict[tuple[str, int], bytes] = {}
    for record in read_topic(bootstrap, topic_name(prefix, ALERTS), **options):
        alert = cloudevents.decode(record.headers, record.value)
        key = alert.alert_id, alert.revision
        assert record.key == alert.alert_id.encode()
        assert values.setdefault(key, record.value) == record.value, f"two contents of {key}"
        found[key] = alert
    return found


def assert_same_alerts(
    found: dict[tuple[str, int], Alert], expected: dict[tuple[str, int], Alert], injected: Mapping[str, int] | None = None
) -> None:
    """Names every revision that is missing, too many, or differs, and in which fields; notes what was injected."""
    faults = [f"missing: {key} {expected[key].title.en}" for key in expected.keys() - found.keys()]
    faults += [f"not expected: {key} {found[key].title.en}" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        one, other = msgspec.to_builtins(expected[key]), msgspec.to_builtins(found[key])
        faults += [f"{key} {name}: expected {one[name]}, found {other[name]}" for name in one if one[name] != other[name]]
    proven(injected or {}, len(faults))
    assert not faults, "\n".join(sorted(faults))


def eventually(check: Any, seconds: float = 30.0) -> Any:
    """The first true result of `check`; fails after so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{check} was not true within {seconds:.0f} s")


class WorkerProcess:
    """`nightline worker` as a process of its own."""

    def __init__(
        self, site: Path, bootstrap: str, prefix: str, log: Path, *options: str, command: list[str] | None = None
    ) -> None:
        self.log = log
        run = command or [*NIGHTLINE, "worker", str(site), "--bootstrap", bootstrap, "--prefix", prefix, *options]
        with log.open("ab") as out:
            # its own folder: whatever it might leave there is found by the test
            self.process = subprocess.Popen(
                [sys.executable, *run], stdout=out, stderr=out, cwd=log.parent, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_until_assigned(self) -> None:
        def assigned() -> bool:
            assert self.process.poll() is None, self.said
            return "partitions: " in self.said

        eventually(assigned, START_SECONDS)

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)
