"""A leak that begins at once, seen by the pressures: CUSUM on what one logger shows below what the others say.

LILA's idea (`pairs.py`) slot by slot. The strongest logger speaks, and it is the one nearest to the leak. A shift that is
all one logger's, while the inflow does not rise, is its own offset rather than a leak; and pressure that rises, or inflow
that falls, is a set-point or a valve. Where one logger stands higher above its own than any has fallen, something was
repaired: the way back from a leak is no leak elsewhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from models.detectors.kind import Detector
from models.kernels import cusum
from models.pairs import forget_fall
from models.schema import Record, Records

DETECTOR: Final = Detector("pressure_step", prior_mean=5.0, prior_sd=1.5)
DRIFT: Final = 1.0  # tuned to shifts of two standard deviations of a slot
Z_CLIP: Final = 6.0  # one wild slot is not enough
MIN_SLOTS: Final = 2
MIN_SUM: Final = 4.0  # less is no evidence, however quiet the loggers have been
GRADED: Final = 0.5  # of a fall's evidence that a second logger must have where the inflow says nothing
FLOW_SPEAKS_Z: Final = 2.0  # of the summed net inflow's z over the square root of its slots


@njit(cache=False)
def follow(logger: Record, own_residual: float, flow_z: float, slot_start_ms: int, limit: float) -> None:
    """One slot of one logger's CUSUM. `own_residual`: against its own week, kPa; `flow_z` of the DMA; NaN when missing."""
    if np.isnan(logger["z"]):
        return
    before = logger["cusum"]
    now = min(cusum(before, min(max(-logger["z"], -Z_CLIP), Z_CLIP), DRIFT), limit)
    if now <= 0.0:
        forget_fall(logger)
        return
    if before <= 0.0:
        logger["since_ms"] = slot_start_ms
    logger["cusum"] = now
    logger["slots"] += 1
    logger["fall"] += logger["rest"]
    if not np.isnan(flow_z):
        logger["flow_z"] += min(max(flow_z, -Z_CLIP), Z_CLIP)
    if not np.isnan(own_residual):
        logger["raw"] += own_residual


@njit(cache=False)
def flow_word(logger: Record) -> float:
    """The inflow's word since the fall began: summed z over the square root of the slots; about normal without a leak."""
    return logger["flow_z"] / np.sqrt(max(logger["slots"], 1))


@njit(cache=False)
def update(loggers: Records, series: Records, inflows: int, slot_start_ms: int, limit: float) -> tuple[float, int, int]:
    """Statistic of this slot (0 to `limit`; NaN while warming up or missing), the logger that shows it most, and the next.

    -1 where there is none. `loggers` (L + 1,) LOGGER after `pairs.read_slot`; `series` (S,) SERIES, of which the loggers
    are the last L.
    """
    best, second, most, known, rise = 0.0, 0.0, -1, 0, 0.0
    for i in range(loggers.shape[0] - 1):
        logger = loggers[i]
        follow(logger, series[inflows + i]["residual"], series[0]["z"], slot_start_ms, limit)
        if np.isnan(logger["z"]):
            continue
        known += 1
        rise = max(rise, logger["recent"])
        if logger["cusum"] > best:
            best, second, most = logger["cusum"], best, i
        elif logger["cusum"] > second:
            second = logger["cusum"]
    if known == 0:
        return np.nan, -1, -1
    if most < 0:
        return 0.0, -1, -1
    logger = loggers[most]
    word = flow_word(logger)
    is_leak = word >= FLOW_SPEAKS_Z or (second >= GRADED * best and word > -FLOW_SPEAKS_Z)
    is_leak = is_leak and logger["slots"] >= MIN_SLOTS and logger["z"] <= -DRIFT and logger["raw"] <= 0.0 and best >= MIN_SUM
    if not is_leak or rise * logger["slots"] > -logger["fall"]:
        return 0.0, -1, -1
    if second < GRADED * best:
        return best, most, -1
    first, next_one = deepest(loggers, GRADED * best)
    return best, first, next_one


@njit(cache=False)
def deepest(loggers: Records, least: float) -> tuple[int, int]:
    """Of the loggers whose sum is at least `least`, the two with the deepest mean fall; -1 where there is none.

    Sums are clipped, so that of several the deepest is nearest to the leak, not the first to reach the limit.
    """
    first, second = -1, -1
    for i in range(loggers.shape[0] - 1):
        if loggers[i]["cusum"] < least or loggers[i]["slots"] == 0:
            continue
        fall = loggers[i]["fall"] / loggers[i]["slots"]
        if first < 0 or fall < loggers[first]["fall"] / loggers[first]["slots"]:
            first, second = i, first
        elif second < 0 or fall < loggers[second]["fall"] / loggers[second]["slots"]:
            second = i
    return first, second
