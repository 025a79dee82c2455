"""Scale-free features of one slot, the isolation forest's input.

All are in units of the DMA's own spread, so one forest serves DMAs of any size. Computed once per closed slot by the
engine's loop; training reads the very same numbers from the detections.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.kernels import _ordered_mad, _ordered_median, _valid, window_mean

FEATURES: Final[tuple[str, ...]] = (
    "flow_z",  # residual of net inflow in this slot
    "flow_z_mean_1h",
    "flow_z_median_6h",
    "flow_z_mad_6h",  # roughness: a burst is smooth, demand is not
    "flow_z_slope_3h",  # last hour's mean less the mean of the hours before it
    "night_z",  # last minimum night flow against its own past
    "pressure_z_1h",  # mean residual of the DMA's pressure loggers; 0 where there are none
    "flow_pressure_z",  # flow up and pressure down together; 0 where there are no loggers
)
Z_LIMIT: Final = 20.0  # beyond this a larger residual says nothing new


@njit(cache=False)
def slot_features(
    flow_z: NDArray[np.float64],
    pressure_z: NDArray[np.float64],
    position: int,
    slots_1h: int,
    night_z: float,
    out: NDArray[np.float32],
) -> None:
    """Fill `out` (8,) from ring buffers (6 h of slots each) whose newest entry is at `position`; NaN is missing."""
    length = flow_z.shape[0]
    last_hour = np.empty(slots_1h)
    before = np.empty(max(1, min(2 * slots_1h, length - slots_1h)))
    pressure_hour = np.empty(slots_1h)
    for i in range(slots_1h):
        last_hour[i] = flow_z[(position - i) % length]
        pressure_hour[i] = pressure_z[(position - i) % length]
    for i in range(before.shape[0]):
        before[i] = flow_z[(position - slots_1h - i) % length]
    hour = window_mean(last_hour)
    pressure = window_mean(pressure_hour)
    if np.isnan(pressure):
        pressure = 0.0
    kept, valid = _valid(flow_z)  # sorted once for both: 0.35 µs less of a slot's 1.5 (2026-11-24)
    ordered = np.sort(kept[:valid])
    out[0] = flow_z[position]
    out[1] = hour
    out[2] = _ordered_median(ordered, valid)
    out[3] = _ordered_mad(ordered, valid)
    out[4] = hour - window_mean(before)
    out[5] = night_z
    out[6] = pressure
    out[7] = max(hour, 0.0) * max(-pressure, 0.0)
    for i in range(out.shape[0]):
        out[i] = min(max(out[i], -Z_LIMIT), Z_LIMIT)
