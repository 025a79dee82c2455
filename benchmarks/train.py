"""`nightline train --per dma` of a thousand DMAs: eight weeks of one inlet each, every 15 minutes, from a Parquet file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Row, Sample
from benchmarks.towns import SLOT_MS, START_MS, demand, folder
from models.bundle import MANIFEST
from training.registry import scope_folder, versions

DMAS, WEEKS = 1000, 8
TARGET_SECONDS = 600.0
"""Minutes on one core, says the issue; ten are the most that one would call so."""
_RUN = "from nightline.cli import main; main()"


def history(path: Path, dmas: int, weeks: int) -> int:
    """A wide file of the DMAs' inlets; returns the number of readings."""
    slots = weeks * 7 * 96
    m3h = np.round(demand(slots, dmas), 3)
    columns = {"timestamp": START_MS + SLOT_MS * (1 + np.arange(slots))}
    columns |= {f"FM-{i:07}": m3h[:, i] for i in range(dmas)}
    pq.write_table(pa.table(columns), path)
    return m3h.size


def run(dmas: int = DMAS, weeks: int = WEEKS) -> Iterator[Row]:
    """One row: once, since it takes minutes."""
    with tempfile.TemporaryDirectory(prefix="nightline-") as name:
        site = folder(Path(name) / "town", dmas, 1, 0)
        readings = history(Path(name) / "readings.parquet", dmas, weeks)
        began = time.perf_counter()
        words = ["train", str(site), "--readings", str(Path(name) / "readings.parquet"), "--per", "dma"]
        subprocess.run([sys.executable, "-c", _RUN, *words], check=True, capture_output=True)
        seconds = time.perf_counter() - began
        for i in (0, dmas // 2, dmas - 1):
            (version,) = versions(site, f"D{i:04}")
            assert (scope_folder(site, f"D{i:04}") / version / MANIFEST).exists()
        work = f"nightline train --per dma, {dmas:,} DMAs, {readings / 1e6:.1f} M readings"
        took = Sample(seconds, seconds, seconds)
        yield Row(work, "s", "less", took, None, "", "every DMA has a model", TARGET_SECONDS)
