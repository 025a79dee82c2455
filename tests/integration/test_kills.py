"""kill -9, SIGTERM and a changing number of workers, under load, against the uninterrupted run."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.schema import Readings
from streams.replay import Replay
from streams.topics import ALERTS, DEAD_LETTERS, topic_name
from tests.integration.support import (
    Window,
    WorkerProcess,
    assert_same_alerts,
    history,
    published_alerts,
    read_topic,
    site_folder,
    town,
    uninterrupted,
)

pytestmark = pytest.mark.kafka

SESSION = ("--session-seconds", "2")
HOUR_MS = 3_600_000


def cut(block: Readings, hours: int) -> list[Window]:
    cell = block["time_ms"] // (hours * HOUR_MS)
    parts = np.split(block, np.flatnonzero(np.diff(cell)) + 1)
    return [Window((int(part["time_ms"][0]) // (hours * HOUR_MS) + 1) * hours * HOUR_MS, part) for part in parts]


class Crew:
    """Worker processes by number; those that end leave a new one behind."""

    def __init__(self, folder: Path, bootstrap: str, prefix: str, logs: Path) -> None:
        self._where = folder, bootstrap, prefix, logs
        self.workers: list[WorkerProcess] = []
        self.started = 0
        self.codes: Counter[int] = Counter()
        self.stop_seconds: list[float] = []

    def start(self) -> WorkerProcess:
        folder, bootstrap, prefix, logs = self._where
        self.started += 1
        worker = WorkerProcess(folder, bootstrap, prefix, logs / f"worker-{self.started:03}.log", *SESSION)
        self.workers.append(worker)
        return worker

    def end(self, worker: WorkerProcess, how: str) -> None:
        self.workers.remove(worker)
        if how == "kill":
            worker.kill()
        else:
            begin = time.monotonic()
            worker.stop()
            self.stop_seconds.append(time.monotonic() - begin)
        self.codes[worker.process.returncode] += 1

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.__exit__(None, None, None)

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted(self._where[3].glob("worker-*.log")))


def killed_run(kafka: str, prefix: str, tmp_path: Path, kills: int, seed: int, hours: int) -> dict[str, int]:
    """A history replayed while workers die; what was injected and what was lost."""
    site, block = town(), history()
    expected, _ = uninterrupted(site, block)
    windows = cut(block, hours)
    fate = random.Random(seed)  # noqa: S311 - a test
    at = set(fate.sample(range(2, len(windows) - 2), kills))
    with Crew(site_folder(tmp_path / "site"), kafka, prefix, tmp_path) as crew:
        crew.start().wait_until_assigned()
        threads: list[threading.Thread] = []

        def kill_one() -> None:
            crew.end(crew.workers[0], "kill")
            crew.start()

        def on_window(end_ms: int, _: object) -> None:
            if len(threads) < kills and windows_at[end_ms] in at:
                # somewhere in the middle of what the window sets off: a block, a publish, a checkpoint
                timer = threading.Timer(fate.random() * 0.6, kill_one)
                threads.append(timer)
                timer.start()
                timer.join()

        windows_at = {window.end_ms: number for number, window in enumerate(windows)}
        with Replay(site, kafka, prefix, layout="single") as feed:
            feed.run(windows, on_window=on_window)
        assert crew.workers[0].stop() == 0
        assert crew.codes == {-9: kills}
        said = crew.logs()
    found = published_alerts(kafka, prefix)
    assert "came after their slot was closed" not in said
    assert "Traceback" not in said
    assert_same_alerts(found, expected, {"kill -9 of a worker, real Kafka": kills})
    return {
        "kill -9": kills,
        "revisions expected": len(expected),
        "revisions lost": len(expected.keys() - found.keys()),
        "revisions published again, byte for byte": len(read_topic(kafka, topic_name(prefix, ALERTS))) - len(found),
        "states restored": said.count("restored in"),
        "dead letters": len(read_topic(kafka, topic_name(prefix, DEAD_LETTERS))),
    }


@pytest.mark.timeout(400)
def test_ten_kills_lose_nothing_and_change_nothing(kafka: str, new_prefix: Callable[..., str], tmp_path: Path) -> None:
    result = killed_run(kafka, new_prefix(), tmp_path, kills=10, seed=1, hours=12)
    assert result["dead letters"] == 0
    assert result["states restored"] >= 5


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_kills_lose_nothing_and_change_nothing(kafka: str, new_prefix: Callable[..., str], tmp_path: Path) -> None:
    result = killed_run(kafka, new_prefix(), tmp_path, kills=100, seed=2, hours=6)
    print(result)


@pytest.mark.timeout(400)
def test_one_two_three_and_one_worker_again_under_load_change_nothing(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, block, prefix = town(), history(), new_prefix(partitions=6)  # Faust gives a third of four nothing
    expected, _ = uninterrupted(site, block)
    windows = cut(block, 6)
    with Crew(site_folder(tmp_path / "site"), kafka, prefix, tmp_path) as crew:
        crew.start().wait_until_assigned()
        when = {windows[at].end_ms: at for at in (30, 60, 90, 100)}

        def on_window(end_ms: int, _: object) -> None:
            if when.get(end_ms) in (30, 60):
                # the stream goes on while it joins: from here on, windows come at the pace of a busy town
                crew.start()
            elif when.get(end_ms) in (90, 100):
                crew.end(crew.workers[0], "SIGTERM")

        with Replay(site, kafka, prefix, layout="single") as feed:
            feed.run(windows, speed=6 * 3600 / 0.2, on_window=on_window)
        last = crew.workers[-1]
        crew.end(last, "SIGTERM")
        assert crew.codes == {0: 3}
        assert max(crew.stop_seconds) < 10.0
        said = crew.logs()
    # 2 + 2 + 2 partitions of each topic at some time, and six again in the end
    assert said.count("partitions: none") == 0
    assert "came after their slot was closed" not in said
    assert "Traceback" not in said
    assert_same_alerts(published_alerts(kafka, prefix), expected, {"1, 2, 3, 2, 1 workers under load": 1})


def test_a_worker_stopped_properly_leaves_nothing_to_do_again(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, block, prefix = town(), history(), new_prefix()
    expected, _ = uninterrupted(site, block)
    windows = cut(block, 12)
    with Crew(site_folder(tmp_path / "site"), kafka, prefix, tmp_path) as crew:
        crew.start().wait_until_assigned()
        stop_at = {windows[at].end_ms for at in (20, 58, 62, 66)}

        def on_window(end_ms: int, _: object) -> None:
            if end_ms in stop_at:
                crew.end(crew.workers[0], "SIGTERM")
                crew.start()

        with Replay(site, kafka, prefix) as feed:
            feed.run(windows, on_window=on_window)
        crew.end(crew.workers[0], "SIGTERM")
        assert crew.codes == {0: 5}
        assert max(crew.stop_seconds) < 10.0
    assert_same_alerts(published_alerts(kafka, prefix), expected, {"SIGTERM under load": 5})
    # nothing was processed twice, so nothing was published twice
    assert len(read_topic(kafka, topic_name(prefix, ALERTS))) == len(expected)
