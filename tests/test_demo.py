"""`nightline demo`, end to end: EPANET, training, the embedded broker, a worker of its own process, and the verdict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NIGHTLINE = [sys.executable, "-c", "from nightline.cli import main; main()"]


@pytest.mark.timeout(300)
def test_demo_check_finds_every_planted_event_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [*NIGHTLINE, "demo", "--check", "--out", str(tmp_path / "town")],
        capture_output=True, text=True, check=False, timeout=290,
    )  # fmt: skip
    log = tmp_path / "town" / "worker.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    assert "4 of 4 planted events found, no other alerts" in done.stdout
    assert "worker stopped" in log.read_text()
