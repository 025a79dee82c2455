"""What of one DMA was watched: its slots, which of them could be judged, and its minimum night flows.

Warm-up is whatever comes before the engine first expects something. Slots of it, and slots without a net inflow or an
expectation later on, are no quiet time: rates of alarms refer to judged time alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.detectors.night_flow import COVERAGE as NIGHT_COVERAGE
from models.network import Site
from models.schema import Records
from models.zones import utc_offsets_s

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
WEEK: Final = 7
SD_PER_MAD: Final = 1.4826


@dataclass(frozen=True)
class Nights:
    """Minimum night flows (m3/h), one per local day that has one, and when each night's window was over."""

    day: NDArray[np.int64]
    over_ms: NDArray[np.int64]
    mnf_m3h: NDArray[np.float64]

    @functools.cached_property
    def sd_m3h(self) -> float:
        """Standard deviation of a night about the same weekday before, NaN of fewer than two such pairs.

        1.4826 MAD of the differences of nights a week apart, over sqrt(2): steps of leaks among them do not count, and
        nor does a season.
        """
        by_day = dict(zip(self.day.tolist(), self.mnf_m3h.tolist(), strict=True))
        steps = np.array([flow - by_day[day - WEEK] for day, flow in by_day.items() if day - WEEK in by_day])
        if len(steps) < 2:
            return float("nan")
        return float(SD_PER_MAD * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2.0))


@dataclass
class Watched:
    """The closed slots of one DMA, in order of time; 13 bytes a slot."""

    slot_ms: int
    _ends: list[NDArray[np.int64]] = field(default_factory=list)
    _observed: list[NDArray[np.float32]] = field(default_factory=list)
    _judged: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, detections: Records) -> None:
        """Take DETECTION rows, which follow on those before. To be done with before anything is asked."""
        self._ends.append(detections["slot_end_ms"].copy())
        self._observed.append(detections["observed_m3h"].astype(np.float32))
        self._judged.append(np.isfinite(detections["observed_m3h"]) & np.isfinite(detections["expected_m3h"]))

    @functools.cached_property
    def ends_ms(self) -> NDArray[np.int64]:
        """(slots,) the end of each."""
        return np.concatenate([np.zeros(0, np.int64), *self._ends])

    @functools.cached_property
    def observed_m3h(self) -> NDArray[np.float32]:
        """(slots,) net inflow, NaN where it is missing."""
        return np.concatenate([np.zeros(0, np.float32), *self._observed])

    @functools.cached_property
    def judged(self) -> NDArray[np.bool_]:
        """(slots,) True where a net inflow could be held against an expectation."""
        return np.concatenate([np.zeros(0, np.bool_), *self._judged])

    @property
    def span_ms(self) -> tuple[int, int]:
        """Start of the first slot, end of the last; (0, 0) without any."""
        return (int(self.ends_ms[0]) - self.slot_ms, int(self.ends_ms[-1])) if len(self.ends_ms) else (0, 0)

    @property
    def warm_ms(self) -> int:
        """Start of the first judged slot; the end of the span where there is none."""
        first = int(self.judged.argmax()) if self.judged.any() else -1
        return int(self.ends_ms[first]) - self.slot_ms if first >= 0 else self.span_ms[1]

    @property
    def judged_ms(self) -> int:
        """Time that was judged."""
        return int(self.judged.sum()) * self.slot_ms

    @functools.cached_property
    def mean_m3h(self) -> float:
        """Median of the daily mean net inflows (m3/h), so that months with a leak do not count; NaN without any."""
        per_day = max(1, DAY_MS // self.slot_ms)
        whole = self.observed_m3h[: len(self.observed_m3h) // per_day * per_day].reshape(-1, per_day)
        full = whole[np.isfinite(whole).all(axis=1)]
        if len(full):
            return float(np.median(full.mean(axis=1, dtype=np.float64)))
        there = self.observed_m3h[np.isfinite(self.observed_m3h)]
        return float(there.mean(dtype=np.float64)) if len(there) else float("nan")

    def nights(self, site: Site) -> Nights:
        """The MNF of every night: smallest 60-minute mean of the net inflow in the site's window (DOMAIN: formulas).

        A night with a net inflow in less than 90 % of its slots has none.
        """
        starts = self.ends_ms - self.slot_ms
        changes, offsets = utc_offsets_s(site.timezone)
        local = starts + offsets[np.searchsorted(changes, starts, "right") - 1] * 1000
        minute = local % DAY_MS // 60_000
        inside = np.flatnonzero((site.night_start_min <= minute) & (minute < site.night_end_min))
        hour = max(1, HOUR_MS // self.slot_ms)
        wanted = (site.night_end_min - site.night_start_min) * 60_000 / self.slot_ms
        days, over, lowest = [], [], []
        cuts = np.flatnonzero(np.diff(local[inside] // DAY_MS)) + 1
        for night in np.split(inside, cuts) if len(inside) else []:
            flow = self.observed_m3h[night].astype(np.float64)
            if np.isfinite(flow).sum() < NIGHT_COVERAGE * wanted or len(flow) < hour:
                continue
            means = np.lib.stride_tricks.sliding_window_view(flow, hour).mean(axis=1)
            if np.isfinite(means).any():
                days.append(int(local[night[0]] // DAY_MS))
                over.append(int(self.ends_ms[night[-1]]))
                lowest.append(float(np.nanmin(means)))
        return Nights(np.array(days, np.int64), np.array(over, np.int64), np.array(lowest, np.float64))
