"""How much of each DMA's history could be judged at all: silence about a DMA without data is no verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from models.detectors.night_flow import COVERAGE as NIGHT_COVERAGE
from models.network import Site
from models.schema import Records
from models.zones import utc_offsets_s

ENOUGH: Final = 0.5
"""Share of slots with a net inflow below which a DMA counts as not judged."""
DAY_MS: Final = 86_400_000


@dataclass
class Coverage:
    """Slots of one DMA: closed, and of these with a net inflow; and by local day those of the night window."""

    slot_ms: int
    slots: int = 0
    judged: int = 0
    nights: Counter[int] = field(default_factory=Counter)

    def add(self, site: Site, detections: Records) -> None:
        """Count DETECTION rows."""
        there = ~np.isnan(detections["observed_m3h"])
        self.slots += len(detections)
        self.judged += int(there.sum())
        starts = detections["slot_end_ms"][there] - self.slot_ms
        changes, offsets = utc_offsets_s(site.timezone)
        local = starts + offsets[np.searchsorted(changes, starts, "right") - 1] * 1000
        minute = local % DAY_MS // 60_000
        night = (site.night_start_min <= minute) & (minute < site.night_end_min)
        self.nights.update((local[night] // DAY_MS).tolist())

    def fault(self, site: Site, whole_ms: int = 0) -> str | None:
        """Why the DMA could not be judged, in half a line; None where it could.

        `whole_ms` is the length of the whole history: no slot is closed after a DMA's last reading, yet it is not judged.
        """
        if not self.slots:
            return "no data"
        slots = max(self.slots, whole_ms // self.slot_ms)
        if self.judged < ENOUGH * slots:
            return f"a net inflow in {self.judged:,} of {slots:,} slots; at least {ENOUGH:.0%} are needed"
        needed = NIGHT_COVERAGE * (site.night_end_min - site.night_start_min) * 60_000 / self.slot_ms
        if max(self.nights.values(), default=0) < needed:
            return f"no night with a net inflow in {NIGHT_COVERAGE:.0%} of its slots, so no minimum night flow"
        return None
