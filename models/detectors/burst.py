"""Bursts: a one-sided CUSUM on the residual of net inflow, slot by slot.

The residual already has the upward drift of the last hours taken out, so weather, which moves a whole day, counts little
and a step counts in full. Page (1954); the start is the last time the sum was zero.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.detectors.kind import Detector
from models.kernels import cusum, window_median
from models.schema import Record, Records

DETECTOR: Final = Detector("burst", prior_mean=7.0, prior_sd=3.0, long_tail=True)
DRIFT: Final = 1.0  # tuned to shifts of two standard deviations of a slot
Z_CLIP: Final = 6.0  # one wild slot, or a fire flow of two, is not enough
MIN_EXCESS: Final = 0.02  # of the mean inflow


@njit(cache=False)
def update(row: Record, series: Records, sums: NDArray[np.float64], inflows: int, slot_start_ms: int, limit: float) -> float:
    """Statistic of this slot (0 and up, at most `limit`), NaN while warming up or missing.

    `series` (S,) SERIES after `profile.expect`; `sums` (S,) collects each inflow's residual since the start, so that the
    events can tell an opened boundary valve (a neighbour loses what this DMA gains) from a burst.
    """
    z = series[0]["z"]
    if np.isnan(z):
        return np.nan
    before = row["burst_cusum"]
    row["burst_cusum"] = min(cusum(before, min(max(z, -Z_CLIP), Z_CLIP), DRIFT), limit)
    if row["burst_cusum"] <= 0.0:
        reset(row, sums)
        return 0.0
    if before <= 0.0:
        row["burst_start_ms"] = slot_start_ms
    row["burst_slots"] += 1
    row["burst_sum_m3h"] += min(max(z, -Z_CLIP), Z_CLIP) * series[0]["spread"]
    for s in range(1, inflows):
        if not np.isnan(series[s]["residual"]):
            sums[s] += series[s]["residual"] - series[s]["drift"]
    if row["burst_sum_m3h"] < MIN_EXCESS * series[0]["mean_level"] * row["burst_slots"]:
        return 0.0
    return row["burst_cusum"]


@njit(cache=False)
def excess_m3h(row: Record, own: Record, flow_z: NDArray[np.float64]) -> float:
    """Size of what is under way: median residual of its slots, at most the ring's; one wild slot does not move it.

    `own` is the SERIES record of the net inflow, `flow_z` the ring of its z with the newest at `row.position`.
    """
    slots = min(row["burst_slots"], flow_z.shape[0])
    recent = np.empty(slots)
    for i in range(slots):
        recent[i] = flow_z[(row["position"] - i) % flow_z.shape[0]]
    return max(window_median(recent) * own["spread"], 0.0)


@njit(cache=False)
def reset(row: Record, sums: NDArray[np.float64]) -> None:
    """Begin anew: after an event was raised, or when the sum is back at zero."""
    row["burst_cusum"] = 0.0
    row["burst_sum_m3h"] = 0.0
    row["burst_slots"] = 0
    sums[:] = 0.0
