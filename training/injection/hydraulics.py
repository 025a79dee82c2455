"""What a DMA's own history says of its pressure: how it drives a leak, and how far a leak would pull it down.

FAVAD: L / L0 = (P / P0)^N1 (DOMAIN: formulas). Resistance: head loss grows with the square of the flow, so each logger's
pressure is regressed on the square of the net inflow; a logger that shows no such fall (a zone whose pressure is held by
a valve, one that is pumped harder by day) gets none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.injection.recorded import Recorded

ENOUGH_ROWS: Final = 100
"""Times with a pressure and a net inflow that a regression needs."""
EXPLAINED: Final = 0.1
"""Share of a logger's variance that the inflow must explain before a leak may move it."""


@dataclass(frozen=True)
class Hydraulics:
    """`resistance`: meter row of a logger -> kPa per (m3/h)^2, above 0. `loggers`: all of the DMA."""

    dma: str
    loggers: dict[int, float]
    """Meter row -> mean pressure (kPa)."""
    resistance: dict[int, float]

    @property
    def note(self) -> str:
        """In words, what a leak here does to the pressure."""
        if not self.loggers:
            return f"{self.dma}: no pressure logger, so a leak of constant size"
        if not self.resistance:
            return (
                f"{self.dma}: the leak follows the mean pressure of {len(self.loggers)} loggers; "
                "none of them falls as the inflow grows, so it pulls none down"
            )
        return (
            f"{self.dma}: the leak follows the mean pressure of {len(self.loggers)} loggers "
            f"and pulls {len(self.resistance)} of them down"
        )


def hydraulics_of(recorded: Recorded, dma: str) -> Hydraulics:
    """Regress every logger of the DMA on the square of its net inflow."""
    loggers, resistance = {}, {}
    for row in recorded.loggers(dma):
        series = recorded.pressures[row]
        loggers[row] = float(series.values.mean())
        square = recorded.net_inflow(dma, series.times_ms)
        square = square * np.abs(square)
        both = np.isfinite(square)
        if both.sum() < ENOUGH_ROWS or not np.ptp(square[both]) > 0 or not np.ptp(series.values[both]) > 0:
            continue
        covariance = np.cov(square[both], series.values[both])
        slope = covariance[0, 1] / covariance[0, 0]
        explained = covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1])
        if slope < 0 and explained >= EXPLAINED:
            resistance[row] = float(-slope)
    return Hydraulics(dma, loggers, resistance)


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
