"""Leaks of a chosen size, start and ramp, as what they add to the readings of the meters that would have seen them.

A leak's water comes in through the DMA's inlets, in proportion to their flows at the time; what comes through a boundary
meter came into the neighbour before, and so on to the trunk main, so that mass is conserved in every DMA on its way. With
pressure loggers in the DMA it follows their pressure and pulls it down (`hydraulics.py`). Left out are the small feedback of
its own fall of pressure on its flow, that loggers beside it fall further than the others, and what it does to pressures in
other DMAs and to tanks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.config import ConfigError
from models.schema import FLOW, PRESSURE, REGISTER, Readings
from training.injection.hydraulics import Hydraulics, favad_factor, hydraulics_of
from training.injection.recorded import HOUR_MS, Recorded, Series
from training.labels import ABRUPT, INCIPIENT, Leak

N1_OF: Final = {"mixed": 1.0, "rigid": 0.5, "flexible": 1.5}
"""FAVAD's exponent by what the pipes are: of holes that keep their size 0.5, of plastic, and of joints that seep, 1.5."""
N1: Final = N1_OF["mixed"]


@dataclass(frozen=True)
class Planted:
    """A leak to add: `size_m3h` is its flow at the DMA's mean pressure, reached after `ramp_ms` (0: at once)."""

    id: str
    dma: str
    started_ms: int
    ended_ms: int
    size_m3h: float
    ramp_ms: int = 0

    @property
    def label(self) -> Leak:
        """The same as a known leak; one that ends before it is full grown only ever had a part of its size."""
        if not self.ramp_ms:
            return Leak(self.id, self.dma, ABRUPT, self.started_ms, self.ended_ms, self.size_m3h, self.started_ms)
        lasts_ms = self.ended_ms - self.started_ms
        size, peak_ms = self.size_m3h * min(1.0, lasts_ms / self.ramp_ms), self.started_ms + min(self.ramp_ms, lasts_ms)
        return Leak(self.id, self.dma, INCIPIENT, self.started_ms, self.ended_ms, size, peak_ms)

    def volume_m3(self, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """Water lost from its start to each time, at mean pressure: the flow grows linearly, then stays."""
        ran_h = np.clip(times_ms - self.started_ms, 0, self.ended_ms - self.started_ms) / HOUR_MS
        if not self.ramp_ms:
            return self.size_m3h * ran_h
        ramp_h = self.ramp_ms / HOUR_MS
        growing = np.minimum(ran_h, ramp_h)
        return self.size_m3h * (growing * growing / (2.0 * ramp_h) + ran_h - growing)

    def flow_m3h(self, times_ms: NDArray[np.int64], step_ms: int) -> NDArray[np.float64]:
        """Mean flow over the `step_ms` that end at each time."""
        return (self.volume_m3(times_ms) - self.volume_m3(times_ms - step_ms)) * (HOUR_MS / step_ms)


@dataclass(frozen=True)
class Addition:
    """What one leak adds to one meter's values of one kind, at the meter's own times while it runs; `after` from then on."""

    times_ms: NDArray[np.int64]
    added: NDArray[np.float64]
    after: float = 0.0

    def at(self, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """What is added at each time; nothing at a time that is not of the meter."""
        if not len(self.times_ms):
            return np.zeros(len(times_ms))
        place = np.minimum(np.searchsorted(self.times_ms, times_ms), len(self.times_ms) - 1)
        inside = np.where(self.times_ms[place] == times_ms, self.added[place], 0.0)
        return np.where(times_ms > self.times_ms[-1], self.after, inside)


Additions = dict[tuple[int, int], list[Addition]]
"""(meter row, kind) -> what each leak adds."""


def added_at(parts: Sequence[Addition], times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of all additions at each time."""
    total = np.zeros(len(times_ms))
    for part in parts:
        total += part.at(times_ms)
    return total


def add_to(readings: Readings, additions: Additions) -> Readings:
    """A copy of the READING array with the leaks in it."""
    out = readings.copy()
    for (meter, kind), parts in additions.items():
        ours = (out["meter"] == meter) & (out["kind"] == kind)
        out["value"][ours] += added_at(parts, out["time_ms"][ours])
    return out


class Injector:
    """Turns leaks into additions; what it learned of the history is kept between calls."""

    def __init__(self, recorded: Recorded, n1: float = N1) -> None:
        self.recorded, self.n1 = recorded, n1
        self._hydraulics: dict[str, Hydraulics] = {}
        self._shares: dict[str, tuple[NDArray[np.int64], dict[int, NDArray[np.float64]]]] = {}

    def hydraulics(self, dma: str) -> Hydraulics:
        """What the history says of the DMA's pressure."""
        if dma not in self._hydraulics:
            self._hydraulics[dma] = hydraulics_of(self.recorded, dma)
        return self._hydraulics[dma]

    def supply(self, dma: str) -> tuple[NDArray[np.int64], dict[int, NDArray[np.float64]]]:
        """Times, and for each meter that feeds the DMA, near or far, its share of the DMA's water at these.

        Raises ConfigError for a DMA whose inlets have no readings.
        """
        if dma not in self._shares:
            grid = self.recorded.grid(self.recorded.meters(dma))
            shares = self._spread(dma, grid, frozenset([dma]))
            if not shares:
                raise ConfigError([f"DMA {dma!r}: no inlet with readings, so no leak can be added; possible: another DMA"])
            self._shares[dma] = grid, shares
        return self._shares[dma]

    def _spread(self, dma: str, grid: NDArray[np.int64], passed: frozenset[str]) -> dict[int, NDArray[np.float64]]:
        site, flows = self.recorded.site, self.recorded.flows
        rows = [row for row in self.recorded.meters(dma) if site.meters[row].to_dma == dma]
        rows = [row for row in rows if site.meters[row].from_dma not in passed]
        if not rows:
            return {}
        now = np.maximum(np.stack([flows[row].at(grid) for row in rows]), 0.0)
        usual = np.array([max(float(np.mean(flows[row].values)), 0.0) for row in rows])
        usual = usual / usual.sum() if usual.sum() > 0 else np.full(len(rows), 1.0 / len(rows))
        total = now.sum(axis=0)  # NaN where one of the inlets is missing
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.where(total > 0, now / total, usual[:, np.newaxis])
        found = dict(zip(rows, shares, strict=True))
        for row, share in zip(rows, shares, strict=True):
            source = site.meters[row].from_dma
            if source is not None:
                for far, of_it in self._spread(source, grid, passed | {source}).items():
                    found[far] = found.get(far, 0.0) + share * of_it
        return found

    def additions(self, leaks: Sequence[Planted]) -> Additions:
        """What the leaks add to every meter that would have seen them. Raises ConfigError as `supply` does."""
        found: Additions = {}
        for leak in leaks:
            grid, shares = self.supply(leak.dma)
            for row, share in shares.items():
                carried = Series(grid, share, self.recorded.flows[row].step_ms)
                if row not in self.recorded.by_register:
                    times_ms = _during(self.recorded.flows[row], leak)
                    flow = self._flow(leak, times_ms, self.recorded.flows[row].step_ms)
                    addition = Addition(times_ms, flow * np.nan_to_num(carried.at(times_ms)))
                    found.setdefault((row, FLOW), []).append(addition)
                if row in self.recorded.registers:
                    found.setdefault((row, REGISTER), []).append(self._counted(leak, row, carried))
            for row in self.hydraulics(leak.dma).resistance:
                found.setdefault((row, PRESSURE), []).append(self._fall(leak, row))
        return found

    def _flow(self, leak: Planted, times_ms: NDArray[np.int64], step_ms: int) -> NDArray[np.float64]:
        """The leak's mean flow (m3/h) over the step that ends at each time, as the pressure drives it."""
        return leak.flow_m3h(times_ms, step_ms) * favad_factor(self.recorded, self.hydraulics(leak.dma), times_ms, self.n1)

    def _share_through(self, dma: str, before: str, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of the DMA's water that comes through the inlets of the one `before`, or of itself."""
        grid, shares = self.supply(dma)
        total = np.zeros(len(times_ms))
        for row, share in shares.items():
            if self.recorded.site.meters[row].to_dma == before:
                total += np.nan_to_num(Series(grid, share, self.recorded.flows[row].step_ms).at(times_ms))
        return total

    def _counted(self, leak: Planted, row: int, carried: Series) -> Addition:
        """What a register has counted of the leak."""
        times_ms = _during(self.recorded.registers[row], leak)
        factor = favad_factor(self.recorded, self.hydraulics(leak.dma), times_ms, self.n1)
        share = factor * np.nan_to_num(carried.at(times_ms))
        counted = np.cumsum(np.diff(leak.volume_m3(times_ms), prepend=0.0) * share)
        return Addition(times_ms, counted, float(counted[-1]) if len(counted) else 0.0)

    def _fall(self, leak: Planted, row: int) -> Addition:
        """How far a logger falls (kPa, negative): what the leak adds to the flow into each DMA on its water's way."""
        series = self.recorded.pressures[row]
        times_ms = _during(series, leak)
        flow = self._flow(leak, times_ms, series.step_ms)
        fall = np.zeros(len(times_ms))
        for dma, resistance in self.hydraulics(leak.dma).resistance[row].items():
            more = flow * self._share_through(leak.dma, dma, times_ms)
            before = np.nan_to_num(self.recorded.through_flow(dma, times_ms))
            fall += resistance * ((before + more) ** 2 - before**2)
        # a pressure that was above nothing stays so: below, no leak would run
        return Addition(times_ms, -np.minimum(fall, np.maximum(series.at(times_ms), 0.0)))


def _during(series: Series, leak: Planted) -> NDArray[np.int64]:
    """The series' times while the leak runs, and the one after: that reading's interval may still hold some of it."""
    first, last = np.searchsorted(series.times_ms, [leak.started_ms, leak.ended_ms])
    return series.times_ms[first : last + 1]
