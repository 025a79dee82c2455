"""Memory of what a worker holds for its customer meters: site, decoder, routes, engines; each size in a fresh process.

DMAs of a thousand meters, as large ones are. A size whose process is not ready in time has its row say how far it came.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, sample

IN_DMA = 1_000
LIMITS_S = {10_000: 60.0, 100_000: 60.0, 1_000_000: 90.0}
TARGET_BYTES = 512.0
TARGET_MIB = 1024.0
"""Of a million meters."""


def stages(meters: int) -> list[dict[str, Any]]:
    """What the process said within its time."""
    command = [sys.executable, "-m", "benchmarks.memory_worker", str(meters), str(IN_DMA)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent.parent
    ) as process:
        try:
            said, wrong = process.communicate(timeout=LIMITS_S[meters])
        except subprocess.TimeoutExpired:
            process.kill()
            said, wrong = process.communicate()
        else:
            assert process.returncode == 0, f"{meters:,} meters: {wrong.strip().splitlines()[-1:]}"
    return [json.loads(line) for line in said.splitlines() if line.endswith("}")]


def run() -> Iterator[Row]:
    """All rows of this workload."""
    for meters, limit_s in LIMITS_S.items():
        found = stages(meters)
        work = f"{meters:,} customer meters in {meters // IN_DMA:,} DMAs"
        last = found[-1] if found else {"stage": "nothing", "bytes": 0, "seconds": 0.0}
        reached = f"{last['stage']} at {last['bytes'] / 2**20:,.0f} MiB after {last['seconds']:.0f} s"
        parts = ", ".join(f"{part['stage']} {part['bytes'] / meters:,.0f}" for part in found)
        if last["stage"] == "readings":
            each = sample([last["bytes"] / meters])
            yield Row(work, "B/meter", "less", each, None, "", f"summed up: {parts}; 2 readings each", TARGET_BYTES)
            if meters == max(LIMITS_S):
                whole = sample([last["bytes"] / 2**20])
                yield Row(work, "MiB", "less", whole, None, "", reached, TARGET_MIB)
        else:
            yield Row.without(work, f"MISSED: not ready within {limit_s:.0f} s: {reached}", TARGET_BYTES)
