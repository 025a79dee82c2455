"""The report says since and until when a DMA was only learned, or judged with caution."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from models.profile import CAUTIOUS, SETTLED, WARMING
from models.schema import NEVER
from training.report import LocalTime
from training.warm_up import warm_up_told

DAY_MS = 86_400_000
BEGIN = 20_458 * DAY_MS  # 2026-01-05


def detections(path, phases):
    """One slot a day; each phase since its first day."""
    since = {phase: BEGIN + phases.index(phase) * DAY_MS for phase in set(phases)}
    end = {WARMING: BEGIN + 14 * DAY_MS, CAUTIOUS: BEGIN + 42 * DAY_MS, SETTLED: NEVER}
    table = {
        "dma": ["A"] * len(phases),
        "phase": pa.array(phases, pa.uint8()),
        "phase_since_ms": [since[phase] for phase in phases],
        "phase_until_ms": [end[phase] for phase in phases],
    }
    pq.write_table(pa.table(table), path)
    return path


def told(path, phases):
    return warm_up_told(detections(path / "d.parquet", phases), "A", LocalTime("UTC"))


def test_phases_that_are_over_have_their_ends(tmp_path):
    assert told(tmp_path, [WARMING] * 14 + [CAUTIOUS] * 28 + [SETTLED] * 3) == (
        "Warming up, not judged, from 2026-01-05 00:00 to 2026-01-19 00:00. "
        "Judged with caution, by a short past, from 2026-01-19 00:00 to 2026-02-16 00:00. Settled since 2026-02-16 00:00."
    )


def test_the_phase_under_way_has_the_end_that_is_foreseen(tmp_path):
    assert told(tmp_path, [WARMING] * 9) == "Warming up, not judged, from 2026-01-05 00:00 to about 2026-01-19 00:00."


def test_a_dma_without_slots_has_nothing_to_tell(tmp_path):
    assert warm_up_told(detections(tmp_path / "d.parquet", [WARMING]), "B", LocalTime("UTC")) == ""
