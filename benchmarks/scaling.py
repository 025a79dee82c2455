"""Readings a second against the number of meters, of DMAs and of workers.

Meters and DMAs: messages of one reading through decoder, routes and engines, in a process of their own without Kafka.
Workers: through a real Kafka (`workers.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import workers
from benchmarks.measure import Row, rate

SIZES = ((100, 50), (10_000, 50), (1_000_000, 50), (10_000, 1), (10_000, 1_000))
"""Meters and DMAs. A DMA has one inlet."""
LIMIT_S = 150.0


def _row(meters: int, dmas: int) -> Row:
    work = f"decode, route, all detectors: {meters:,} meters, {dmas:,} DMA{'s' * (dmas > 1)}"
    command = [sys.executable, "-m", "benchmarks.scaling_worker", str(meters), str(dmas)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=LIMIT_S,
            cwd=Path(__file__).resolve().parent.parent,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Row.without(work, f"MISSED: not done within {LIMIT_S:.0f} s")
    assert done.returncode == 0, f"{work}: {done.stderr.strip().splitlines()[-1:]}"
    said = json.loads(done.stdout)
    checked = f"all taken, {said['slots']:,} slots scored"
    return Row(work, "readings/s", "more", rate(said["seconds"], said["count"]), None, "", checked)


def run() -> Iterator[Row]:
    """All rows of this workload."""
    for meters, dmas in SIZES:
        yield _row(meters, dmas)
    yield workers.run()
