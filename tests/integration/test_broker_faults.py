"""A broker that is killed and comes back, and one that is away for half a minute: no loss, bounded memory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams import topics
from streams.replay import Replay
from tests.conftest import SCRIPT, UNAVAILABLE
from tests.integration.support import (
    WorkerProcess,
    assert_same_alerts,
    history,
    published_alerts,
    site_folder,
    town,
    uninterrupted,
    windows,
)

pytestmark = pytest.mark.kafka


class Broker:
    """A Kafka of this test alone, for it is going to be struck."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{self.port}"

    def do(self, action: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), action, "--port", str(self.port), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def away(self, how: str, seconds: float) -> None:
        """Gone for so long, and back with all its data."""
        if how == "killed":
            assert self.do("kill").returncode == 0
            time.sleep(seconds)
            assert self.do("start", "--keep", "--minutes", "15").returncode == 0
        else:
            assert self.do("pause").returncode == 0
            time.sleep(seconds)
            assert self.do("resume").returncode == 0


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    started = broker.do("start", "--minutes", "15")
    if started.returncode == UNAVAILABLE and os.environ.get("CI") != "true":
        pytest.skip(started.stderr.strip().splitlines()[-1])
    assert started.returncode == 0, started.stderr
    yield broker
    broker.do("resume")
    broker.do("stop")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nightline" / "kafka"
    for node in cache.glob(f"*{broker.port}*"):
        shutil.rmtree(node, ignore_errors=True)


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def away_run(broker: Broker, tmp_path: Path, how: str, seconds: float) -> float:
    """A history during which the broker is away once. Returns the worker's largest memory (MiB)."""
    site, block, prefix = town(), history(), "away"
    expected, _ = uninterrupted(site, block)
    cuts = windows(block)
    topics.apply(broker.bootstrap, prefix, 4, say=lambda _: None)
    peak = 0.0
    with WorkerProcess(site_folder(tmp_path / "site"), broker.bootstrap, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        gone = threading.Thread(target=broker.away, args=(how, seconds))

        def on_window(end_ms: int, _: object) -> None:
            nonlocal peak
            peak = max(peak, rss_mib(worker.process.pid))
            if end_ms == cuts[40].end_ms:
                gone.start()  # and the replay goes on publishing what nobody takes

        with Replay(site, broker.bootstrap, prefix, layout="single") as feed:
            feed.run(cuts, on_window=on_window)
        gone.join()
        assert worker.process.poll() is None, worker.said
        assert worker.stop() == 0, worker.said
    assert_same_alerts(published_alerts(broker.bootstrap, prefix), expected)
    return peak


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_broker_killed_and_started_again_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    assert away_run(broker, tmp_path, "killed", 1.0) < 600


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_broker_away_for_half_a_minute_loses_nothing(broker: Broker, tmp_path: Path, how: str) -> None:
    assert away_run(broker, tmp_path, how, 30.0) < 600
