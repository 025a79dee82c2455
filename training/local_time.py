"""Epoch times as the site's clock showed them, for axes and tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.zones import utc_offsets_s


class LocalTime:
    """Epoch ms to the site's clock: as ms for axes, as text for tables."""

    def __init__(self, timezone: str) -> None:
        self._changes, self._offsets = utc_offsets_s(timezone)

    def ms(self, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """Local wall time as if it were UTC, which is how plotly shows a number on a time axis."""
        at = np.searchsorted(self._changes, times_ms, side="right") - 1
        return (times_ms + self._offsets[at] * 1000).astype(np.float64)

    def text(self, time_ms: int | None) -> str:
        """`2026-11-23 02:15`; a dash for None."""
        if time_ms is None:
            return "–"
        local = float(self.ms(np.array([time_ms]))[0])
        return str(np.datetime64(int(local), "ms").astype("datetime64[m]")).replace("T", " ")

    def text_of(self, moment: str | None) -> str:
        """As `text`, of an RFC 3339 time in UTC."""
        return "–" if moment is None else self.text(int(np.datetime64(moment.rstrip("Z"), "ms").astype(np.int64)))
