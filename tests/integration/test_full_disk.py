"""A full disk wherever something is written: one clear line, nothing half-written that looks finished, nothing lost.

Two ways to fill one: a small disk of its own, where mounting is allowed, and a limit to the size of files, which fails
every write beyond it in the same way everywhere.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.schema import KINDS, Readings
from streams import topics
from streams.replay import UNIT, Replay
from tests.integration.broker import Broker, rss_mib
from tests.integration.support import (
    NIGHTLINE,
    WorkerProcess,
    assert_same_alerts,
    eventually,
    history,
    published_alerts,
    site_folder,
    town,
    uninterrupted,
    windows,
)
from tests.test_bundle import make
from training import registry

MountFn = Callable[[Path, str], None]
NO_ROOM = ("No space left on device", "File too large")


def csv_of(block: Readings, path: Path, by: str = "time", spoilt: bool = False) -> Path:
    """Long rows in order of time, or one meter after the other; every second one of no known kind."""
    meters, rows = town().meters, []
    for number, r in enumerate(block if by == "time" else block[block["meter"].argsort(kind="stable")]):
        kind = KINDS[r["kind"]]
        name = "nonsense" if spoilt and number % 2 else kind
        rows.append(f"{meters[r['meter']].id},{r['time_ms']},{r['value']},{name},{UNIT[kind]}\n")
    path.write_text("meterId,observedAt,value,kind,unit\n" + "".join(rows))
    return path


def run(*arguments: object, file_limit: int | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    command = [sys.executable, *NIGHTLINE, *map(str, arguments)]
    environment = {**os.environ, **env}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=limit, env=environment
    )  # fmt: skip


def assert_one_line(done: subprocess.CompletedProcess[str], where: Path) -> None:
    assert done.returncode == 2, done
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith(f"error: {where}"), line
    assert any(reason in line for reason in NO_ROOM), line


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# backtest and train


@pytest.mark.parametrize(
    ("limit", "spoilt"),
    [(1_000, False), (1 << 20, False), (1_000, True)],
    ids=["detections", "report", "rejects"],
)
def test_a_backtest_that_runs_out_of_room_says_so_and_leaves_the_result_before_it(
    tmp_path: Path, limit: int, spoilt: bool
) -> None:
    site, out = site_folder(tmp_path / "site"), tmp_path / "out"
    out.mkdir()
    (out / "alerts.ndjson").write_text("of the run before\n")
    readings = csv_of(history(8), tmp_path / "r.csv", spoilt=spoilt)
    assert_one_line(run("backtest", site, "--readings", readings, "--out", out, file_limit=limit), out)
    assert files(out) == {"alerts.ndjson": b"of the run before\n"}
    assert list(out.iterdir()) == [out / "alerts.ndjson"]


@pytest.mark.parametrize("size", ["4k", "3m"])
def test_a_backtest_onto_a_full_disk_leaves_nothing(tmp_path: Path, small_disk: MountFn, size: str) -> None:
    site, disk = site_folder(tmp_path / "site"), tmp_path / "disk"
    small_disk(disk, size)
    readings = csv_of(history(8), tmp_path / "r.csv")
    assert_one_line(run("backtest", site, "--readings", readings, "--out", disk / "out"), disk / "out")
    assert list(disk.iterdir()) == []


def test_readings_that_cannot_be_sorted_for_lack_of_room_are_not_left_out_in_silence(tmp_path: Path) -> None:
    site, temporary = site_folder(tmp_path / "site"), tmp_path / "tmp"
    temporary.mkdir()
    block = history(8)
    # less than a page of each day: numpy's own tofile would lose it without a word
    few = block[block["meter"] == town().meter_row["in-A"]][::-1]
    readings = csv_of(few, tmp_path / "r.csv")
    done = run(
        "backtest", site, "--readings", readings, "--out", tmp_path / "out", file_limit=1_000, TMPDIR=str(temporary)
    )  # fmt: skip
    assert_one_line(done, temporary)
    assert "or TMPDIR elsewhere" in done.stderr
    assert not (tmp_path / "out").exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("limit", [1_000, 10_000])
def test_a_model_that_does_not_fit_is_no_version_and_no_champion(tmp_path: Path, limit: int) -> None:
    site = site_folder(tmp_path / "site")
    readings = csv_of(history(21), tmp_path / "r.csv")
    done = run("train", site, "--readings", readings, "--promote", file_limit=limit)
    assert_one_line(done, site / "models")
    assert registry.champion(site, "*") is None
    assert registry.versions(site, "*") == []
    assert files(site / "models") == {}


def test_a_promotion_without_room_leaves_the_champion_and_nothing_else(tmp_path: Path) -> None:
    site, old, new = site_folder(tmp_path / "site"), make(seed=0), make(seed=1)
    for bundle in (old, new):
        registry.save(site, bundle)
    registry.promote(site, old.version)
    before = files(site / "models")
    assert_one_line(run("promote", site, new.version, "--force", "--reason", "a test", file_limit=0), site / "models")
    assert files(site / "models") == before
    assert registry.champion(site, "*").version == old.version  # type: ignore[union-attr]


# the worker


@pytest.mark.kafka
def test_a_worker_that_cannot_write_one_byte_to_any_file_goes_on_and_loses_nothing(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    """Its log, its temporary folder, the kernels it might compile: none of them is needed for an alert."""
    site, block, prefix = town(), history(), new_prefix()
    expected, _ = uninterrupted(site, block)
    with WorkerProcess(site_folder(tmp_path / "site"), kafka, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        size = worker.log.stat().st_size
        with Replay(site, kafka, prefix) as feed:
            feed.run(windows(block))
        assert worker.stop() == 0
        assert worker.log.stat().st_size <= size + 200  # the alerts it found could not be logged
    assert_same_alerts(published_alerts(kafka, prefix), expected, {"worker that cannot write a file": 1})


@pytest.mark.kafka
def test_a_worker_that_finds_no_temporary_folder_says_so_in_one_line(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    done = run("worker", site_folder(tmp_path / "site"), "--bootstrap", kafka, "--prefix", new_prefix(), file_limit=0)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert line.startswith("error: No usable temporary directory found in ["), line


# the broker


@pytest.mark.kafka
@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_broker_whose_disk_is_full_and_gets_room_again_has_lost_nothing(tmp_path: Path, small_disk: MountFn) -> None:
    broker = Broker()
    data = broker.node / "data"
    small_disk(data, "64m")
    try:
        assert broker.start("--keep").returncode == 0
        full_disk_run(broker, tmp_path, small_disk, data)
    finally:
        broker.remove()


def full_disk_run(broker: Broker, tmp_path: Path, small_disk: MountFn, data: Path) -> None:
    site, block, prefix = town(), history(), "full"
    expected, _ = uninterrupted(site, block)
    cuts = windows(block)
    folder = site_folder(tmp_path / "site")
    topics.apply(broker.bootstrap, prefix, 2, say=lambda _: None)
    codes: list[int] = []
    peak = 0.0
    done = threading.Event()

    def keep_a_worker() -> None:
        """As whatever supervises workers would: one that stopped is started again."""
        nonlocal peak
        number = 0
        while not done.is_set():
            number += 1
            with WorkerProcess(folder, broker.bootstrap, prefix, tmp_path / f"log-{number}") as worker:
                while worker.process.poll() is None and not done.wait(0.2):
                    try:
                        peak = max(peak, rss_mib(worker.process.pid))
                    except (OSError, IndexError):
                        break
                codes.append(worker.stop() if done.is_set() else worker.process.wait())

    supervisor = threading.Thread(target=keep_a_worker)
    supervisor.start()
    broken: list[float] = []

    def fill_and_free() -> None:
        """Everything that is left of the disk is taken; the broker fails, gets room, and comes back."""
        used = sum(path.stat().st_blocks * 512 for path in data.rglob("*") if path.is_file())
        small_disk(data, str(used // 4096 * 4096 + 8192))
        begin = time.monotonic()
        eventually(lambda: not broker.java, 120)
        broken.append(time.monotonic() - begin)
        time.sleep(3)
        small_disk(data, "512m")
        assert broker.start("--keep").returncode == 0

    filler = threading.Thread(target=fill_and_free)

    def on_window(end_ms: int, _: object) -> None:
        if end_ms == cuts[40].end_ms:
            filler.start()

    try:
        with Replay(site, broker.bootstrap, prefix, layout="single") as feed:
            feed.run(cuts, on_window=on_window)
        filler.join()
    finally:
        done.set()
        supervisor.join()
    assert broken, "the disk was never full"
    assert codes[-1] == 0
    assert set(codes[:-1]) <= {1, 2}  # it waited, or stopped loudly
    assert peak < 600
    assert_same_alerts(published_alerts(broker.bootstrap, prefix), expected, {"broker with a full disk": 1})
    print(f"broker down {broken[0]:.1f} s after its disk was full; worker exit codes {codes}; peak {peak:.0f} MiB")
