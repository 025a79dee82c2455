"""What a DMA's own history says of its pressure: how it drives a leak, and how far a leak would pull it down.

FAVAD: L / L0 = (P / P0)^N1 (DOMAIN: formulas). Resistance: head loss grows with the square of the flow, so each logger's
pressure is regressed on the squares of what flows into its DMA and into every DMA that the water comes through before. What
the hour of the day and the day bring in common (a source that is held higher by day, a set-point that was changed) is taken
out of both first, and no flow may lift a pressure. A logger that shows no such fall, as in a zone whose pressure is held by
a valve, gets none.

Held against EPANET on the demo town (2026-11-28, docs/MEASURING.md): with the DMA's own net inflow alone, falls behind
another DMA came out twice as deep as they are, as both draw by the same hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.injection.recorded import DAY_MS, HOUR_MS, Recorded

ENOUGH_ROWS: Final = 100
"""Times with a pressure and all flows that a regression needs."""
EXPLAINED: Final = 0.1
"""Share of a logger's variance that the flows must explain before a leak may move it."""
SWEEPS: Final = 4
"""Over hours and days by turns, until neither has a mean of its own; with gaps more than one is needed."""


@dataclass(frozen=True)
class Hydraulics:
    """How pressure and leaks of a DMA hang together."""

    dma: str
    loggers: dict[int, float]
    """Meter row -> mean pressure (kPa)."""
    resistance: dict[int, dict[str, float]]
    """Meter row of a logger -> DMA that its water comes through -> kPa per (m3/h)^2 of what flows in there, above 0."""

    @property
    def note(self) -> str:
        """In words, what a leak here does to the pressure."""
        if not self.loggers:
            return f"{self.dma}: no pressure logger, so a leak of constant size"
        follows = f"{self.dma}: the leak follows the mean pressure of {len(self.loggers)} loggers"
        if not self.resistance:
            return (
                f"{follows}; none of them falls as the inflow grows, so it pulls none down: "
                "what is found here is found by the flow, against the word of the pressures"
            )
        return f"{follows} and pulls {len(self.resistance)} of them down"


def way_to(recorded: Recorded, dma: str) -> tuple[str, ...]:
    """The DMA, and all that its water comes through before, nearest first."""
    found = [dma]
    for here in found:  # it grows meanwhile
        for row in recorded.meters(here):
            source = recorded.site.meters[row].from_dma
            if recorded.site.meters[row].to_dma == here and source is not None and source not in found:
                found.append(source)
    return tuple(found)


def hydraulics_of(recorded: Recorded, dma: str) -> Hydraulics:
    """Regress every logger of the DMA on the squares of the flows on its water's way."""
    loggers: dict[int, float] = {}
    resistance: dict[int, dict[str, float]] = {}
    way = way_to(recorded, dma)
    for row in recorded.loggers(dma):
        series = recorded.pressures[row]
        loggers[row] = float(series.values.mean())
        squares = np.stack([recorded.through_flow(each, series.times_ms) ** 2 for each in way], axis=1)
        both = np.isfinite(squares).all(axis=1)
        if both.sum() < ENOUGH_ROWS:
            continue
        times_ms = series.times_ms[both]
        x = _beside_hours_and_days(squares[both], times_ms)
        y = _beside_hours_and_days(series.values[both, np.newaxis], times_ms)[:, 0]
        falls = _falls(x, y)
        found = {each: fall for each, fall in zip(way, falls.tolist(), strict=True) if fall > 0}
        rest = y + x @ falls
        if found and float(rest @ rest) <= (1.0 - EXPLAINED) * float(y @ y):
            resistance[row] = found
    return Hydraulics(dma, loggers, resistance)


def _beside_hours_and_days(values: NDArray[np.float64], times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, columns) less what each hour of the day, and each day, has in common."""
    rest = values - values.mean(axis=0)
    groups = [np.unique(key, return_inverse=True)[1] for key in (times_ms % DAY_MS // HOUR_MS, times_ms // DAY_MS)]
    for _ in range(SWEEPS):
        for group in groups:
            counts = np.bincount(group)
            for column in range(rest.shape[1]):
                rest[:, column] -= (np.bincount(group, rest[:, column]) / counts)[group]
    return rest


def _falls(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(columns,) k >= 0 for y = -x k by least squares; a column that would lift y is left out, the worst first."""
    scale = np.sqrt((x * x).mean(axis=0))
    used = scale > 0
    falls = np.zeros(x.shape[1])
    while used.any():
        found = np.linalg.lstsq(x[:, used] / scale[used], -y, rcond=None)[0]
        if (found > 0).all():
            falls[used] = found / scale[used]
            break
        used[np.flatnonzero(used)[found.argmin()]] = False
    return falls


def favad_factor(recorded: Recorded, known: Hydraulics, times_ms: NDArray[np.int64], n1: float) -> NDArray[np.float64]:
    """(P / P0)^N1 at these times: the mean over the loggers of each one's pressure over its mean; 1 without any."""
    if not known.loggers or n1 == 0.0:
        return np.ones(len(times_ms))
    total, count = np.zeros(len(times_ms)), np.zeros(len(times_ms))
    for row, mean_kpa in known.loggers.items():
        if mean_kpa > 0:
            ratio = recorded.pressures[row].at(times_ms) / mean_kpa
            there = np.isfinite(ratio)
            total[there] += np.maximum(ratio[there], 0.0)
            count[there] += 1
    return np.where(count > 0, total / np.maximum(count, 1), 1.0) ** n1
