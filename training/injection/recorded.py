"""A history's network meters and pressure loggers as arrays: what a leak is added to, and what tells how it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.network import Site
from models.schema import BAD, FLOW, PRESSURE, READING, REGISTER, Readings
from training.history import Window

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
FRESH_STEPS: Final = 1.5
"""A value stands for the time up to so many of its meter's steps behind it; then it is missing."""


@dataclass(frozen=True)
class Series:
    """One meter's readings of one kind, ascending, one a time. `step_ms` is their usual distance."""

    times_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    step_ms: int

    def at(self, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """The newest value at each time, NaN where it is too old."""
        if not len(self.times_ms):
            return np.full(len(times_ms), np.nan)
        place = np.searchsorted(self.times_ms, times_ms, side="right") - 1
        age_ms = times_ms - self.times_ms[np.maximum(place, 0)]
        good = (place >= 0) & (age_ms <= FRESH_STEPS * self.step_ms)
        return np.where(good, self.values[np.maximum(place, 0)], np.nan)


def series_of(times_ms: NDArray[np.int64], values: NDArray[np.float64]) -> Series:
    """In order of time, the last of two of one time."""
    order = np.argsort(times_ms, kind="stable")
    times_ms, values = times_ms[order], values[order]
    last = np.append(np.diff(times_ms) > 0, True)[: len(times_ms)]
    times_ms, values = times_ms[last], values[last]
    step_ms = int(np.median(np.diff(times_ms))) if len(times_ms) > 1 else HOUR_MS
    return Series(times_ms, values, step_ms)


class Recorded:
    """Flows and pressures of a whole history, by meter row; 16 bytes a reading. Customer meters and levels are left out."""

    def __init__(self, site: Site, windows: Iterable[Window]) -> None:
        self.site = site
        wanted = np.array([m.is_network_flow or m.kind == "pressure" for m in site.meters], np.bool_)

        def of_interest(readings: Readings) -> Readings:
            return readings[wanted[readings["meter"]] & (readings["quality"] != BAD)]

        readings = np.concatenate([np.zeros(0, READING), *(of_interest(window.readings) for window in windows)])
        readings = readings[np.argsort(readings["meter"], kind="stable")]
        rows, starts = np.unique(readings["meter"], return_index=True)
        self.flows: dict[int, Series] = {}
        self.registers: dict[int, Series] = {}
        self.pressures: dict[int, Series] = {}
        self.by_register: set[int] = set()
        """Meters that count only; their flows are made of their registers."""
        for row, part in zip(rows.tolist(), np.split(readings, starts[1:]) if len(rows) else [], strict=True):
            for kind, series in ((FLOW, self.flows), (REGISTER, self.registers), (PRESSURE, self.pressures)):
                ours = part[part["kind"] == kind]
                if len(ours):
                    series[row] = series_of(ours["time_ms"].copy(), ours["value"].copy())
        for row, register in self.registers.items():
            if row not in self.flows and len(register.times_ms) > 1:
                hours = np.diff(register.times_ms) / HOUR_MS
                flow = np.maximum(np.diff(register.values), 0.0) / hours
                self.flows[row] = Series(register.times_ms[1:], flow, register.step_ms)
                self.by_register.add(row)

    def meters(self, dma: str) -> list[int]:
        """Rows of the flow meters at the DMA's edge that have spoken."""
        return [row for row in self.flows if dma in (self.site.meters[row].to_dma, self.site.meters[row].from_dma)]

    def grid(self, rows: Iterable[int]) -> NDArray[np.int64]:
        """All times of these meters, ascending."""
        times = [self.flows[row].times_ms for row in rows]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *times]))

    def net_inflow(self, dma: str, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """Inlets less outlets (m3/h) at these times, NaN where one of them is missing. Tanks are left out."""
        total = np.zeros(len(times_ms))
        for row in self.meters(dma):
            sign = 1.0 if self.site.meters[row].to_dma == dma else -1.0
            total += sign * self.flows[row].at(times_ms)
        return total if self.meters(dma) else np.full(len(times_ms), np.nan)

    def through_flow(self, dma: str, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """What comes in through all inlets (m3/h, 0 and up) at these times, NaN where one is missing."""
        rows = [row for row in self.meters(dma) if self.site.meters[row].to_dma == dma]
        total = np.zeros(len(times_ms))
        for row in rows:
            total += np.maximum(self.flows[row].at(times_ms), 0.0)
        return total if rows else np.full(len(times_ms), np.nan)

    def mean_inflow(self, dma: str) -> float:
        """Mean net inflow of the DMA (m3/h) over its history, NaN where nothing is known of it."""
        net = self.net_inflow(dma, self.grid(self.meters(dma)))
        return float(np.nanmean(net)) if np.isfinite(net).any() else float("nan")

    def span_ms(self, dma: str) -> tuple[int, int]:
        """First and last time of the DMA's flow meters; (0, 0) without any."""
        grid = self.grid(self.meters(dma))
        return (int(grid[0]), int(grid[-1])) if len(grid) else (0, 0)

    def loggers(self, dma: str) -> list[int]:
        """Rows of the pressure loggers inside the DMA that have spoken."""
        return [row for row in self.pressures if self.site.meters[row].dma == dma]
