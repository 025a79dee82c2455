"""Since when a DMA was only learned, then judged with caution, then in full: one sentence of the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.profile import CAUTIOUS, SETTLED, WARMING

if TYPE_CHECKING:
    from training.report import LocalTime


def warm_up_told(path: Path, dma: str, clock: LocalTime) -> str:
    """Of the detections in a Parquet file: a phase that is over has its end, the one under way when it will end."""
    columns = ["phase", "phase_since_ms", "phase_until_ms"]
    table = pq.read_table(path, columns=columns, filters=pc.field("dma") == dma)
    phase, since, until = (table.column(name).to_numpy() for name in columns)
    parts = []
    for number, name in ((WARMING, "Warming up, not judged"), (CAUTIOUS, "Judged with caution, by a short past")):
        rows = np.flatnonzero(phase == number)
        if not len(rows):
            continue
        last = int(rows[-1])
        is_over = last + 1 < len(phase)
        end = clock.text(int(since[last + 1])) if is_over else f"about {clock.text(int(until[last]))}"
        parts.append(f"{name}, from {clock.text(int(since[last]))} to {end}.")
    rows = np.flatnonzero(phase == SETTLED)
    if len(rows):
        parts.append(f"Settled since {clock.text(int(since[rows[0]]))}.")
    return " ".join(parts)
