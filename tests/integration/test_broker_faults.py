"""A broker that is killed and comes back, and one that is away for half a minute: no loss, bounded memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from streams import topics
from streams.replay import Replay
from tests.integration.broker import Broker, rss_mib
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
    assert_same_alerts(published_alerts(broker.bootstrap, prefix), expected, {f"broker {how} for {seconds:.0f} s": 1})
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


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_broker_that_is_frozen_most_of_the_time_loses_nothing_in_bounded_memory(broker: Broker, tmp_path: Path) -> None:
    """Half a second stopped, a tenth running, from the first reading to the last."""
    site, block, prefix = town(), history(), "slow"
    expected, _ = uninterrupted(site, block)
    topics.apply(broker.bootstrap, prefix, 4, say=lambda _: None)
    with WorkerProcess(site_folder(tmp_path / "site"), broker.bootstrap, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        over, memory, pulses = threading.Event(), [rss_mib(worker.process.pid)], 0

        def slow_down() -> None:
            nonlocal pulses
            while not over.is_set():
                broker.pulse(0.5, 0.1)
                memory.append(rss_mib(worker.process.pid))
                pulses += 1

        slow = threading.Thread(target=slow_down)
        slow.start()
        begin = time.monotonic()
        try:
            with Replay(site, broker.bootstrap, prefix, layout="single") as feed:
                feed.run(windows(block))
            seconds = time.monotonic() - begin
        finally:
            over.set()
            slow.join()
        assert worker.stop() == 0, worker.said
        assert "Traceback" not in worker.said
    pulsed = {"broker frozen 0.5 s of every 0.6 s": pulses}
    assert_same_alerts(published_alerts(broker.bootstrap, prefix), expected, pulsed)
    print(
        f"{len(block)} readings in {seconds:.0f} s, {pulses} pulses; {memory[0]:.0f} MiB before, at most {max(memory):.0f}"
    )
    assert max(memory) < 600
