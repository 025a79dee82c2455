"""L-Town's year, 2018: 119 channels every 5 minutes through `Engine.step`, and the whole `nightline backtest` from CSV.

The data lies beside a checkout for development (`shared/data/ltown-2018`) and is not part of the product. A forest is
trained on the first weeks, so that every detector has work.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.measure import Row, sample, shared_data
from models.bundle import Bundle
from models.network import Site
from models.schema import Alert
from nightline.sites import load_site
from training import registry
from training.backtest import WINDOW_MINUTES
from training.backtest import run as run_windows
from training.history import Window, read_history
from training.importers.battledim import import_battledim
from training.train import train

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 3
TRAINED_DAYS = 60
TARGET_ARRAYS_S, TARGET_CSV_S = 10.0, 30.0
TIMEOUT_S = 600
Revisions = set[tuple[str, int]]


def _step(place: Site, windows: list[Window], bundle: Bundle) -> tuple[Revisions, int]:
    """Id and revision of every alert, and the slots that were scored."""
    alerts: list[Alert] = []
    slots = 0

    def keep(_: str, result: object) -> None:
        nonlocal slots
        alerts.extend(result.alerts)  # type: ignore[attr-defined]
        slots += len(result.detections)  # type: ignore[attr-defined]

    run_windows(place, windows, bundle, keep)
    return {(alert.alert_id, alert.revision) for alert in alerts}, slots


def _arrays(place: Site, windows: list[Window], bundle: Bundle) -> tuple[Row, Revisions]:
    _step(place, windows[:2], bundle)  # compiles
    seconds, outcomes = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        outcomes.append(_step(place, windows, bundle))
        seconds.append(time.perf_counter() - begin)
    assert all(outcome == outcomes[0] for outcome in outcomes), "the same year gave different alerts"
    revisions, slots = outcomes[0]
    readings = sum(len(window.readings) for window in windows)
    work = f"L-Town's year, {len(place.meters)} channels, {readings / 1e6:.1f} M readings, from arrays"
    checked = f"{len(revisions):,} revisions, {slots:,} slots each time"
    return Row(work, "s", "less", sample(seconds), None, "", checked, TARGET_ARRAYS_S), revisions


def _csv(site: Path, out: Path, expected: Revisions) -> Row:
    command = [sys.executable, "-c", "from nightline.cli import main; main()", "backtest", str(site)]
    seconds = []
    for number in range(ROUNDS):
        made = out / str(number)
        made.parent.mkdir(exist_ok=True)
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, "--readings", str(site / "readings"), "--out", str(made)],
            capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=ROOT,
        )  # fmt: skip
        seconds.append(time.perf_counter() - begin)
        assert done.returncode == 0, done.stderr.strip().splitlines()[-1:]
        lines = (made / "alerts.ndjson").read_bytes().splitlines()
        found = {(alert.alert_id, alert.revision) for alert in (msgspec.json.decode(line, type=Alert) for line in lines)}
        assert found == expected, f"backtest: {len(found - expected)} revisions too many, {len(expected - found)} missing"
    work = "L-Town's year, nightline backtest from gzip'd CSV, with scorecard and report"
    return Row(work, "s", "less", sample(seconds), None, "", "revisions = from arrays", TARGET_CSV_S)


def run() -> Iterator[Row]:
    """All rows of this workload."""
    source = shared_data("ltown-2018")
    with tempfile.TemporaryDirectory(prefix="nightline-ltown-") as name:
        site = Path(name) / "site"
        import_battledim(source, site)
        place = load_site(site)
        windows = list(read_history(site / "readings", place, WINDOW_MINUTES))
        bundle = train(place, windows[:TRAINED_DAYS], seed=1)
        registry.save(site, bundle)
        registry.promote(site, bundle.version)
        row, revisions = _arrays(place, windows, bundle)
        yield row
        windows.clear()
        yield _csv(site, Path(name) / "out", revisions)
