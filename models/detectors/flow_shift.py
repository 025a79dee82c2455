"""Bursts too small to stand out by the slot: a shift of net inflow of unknown size and start within the last day.

Window-limited generalised likelihood ratio (Lai 1995, J. R. Stat. Soc. B 57): for each window of the last slots the shift
that fits best, in m3/h and therefore weighed by each hour's spread, over its standard error,

    sum(z / spread) / sqrt(sum(1 / spread^2)),

and of all windows the largest. A quiet night counts for more than a noisy morning, where a sum of z counts every hour alike:
on six Italian DMAs, at one alarm in ten DMA-months, 50, 84 and 92 % of bursts of 4, 8 and 12 night-flow standard deviations
are found in 24 h, by the CUSUM of `burst.py` 40, 80 and 91 %; that one in turn is the faster for large ones.

z is clipped low, at two: hours of demand that runs wild are more common than a normal law has them, and what lasts is what
counts (clipped at three 38, 81 and 90 %). Windows in steps of two fifths do as well as all of them, a window of 36 h no
better than one of 24, one of 12 a tenth worse; taking the correlation of neighbouring slots out first finds a fifth less
(2026-11-28).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.detectors.kind import Detector
from models.kernels import window_median
from models.schema import Record, Records

DETECTOR: Final = Detector("flow_shift", prior_mean=3.0, prior_sd=1.8, share=1.8)
WINDOW_HOURS: Final = 24.0
STEP: Final = 1.4  # from one window to the next longer one
Z_CLIP: Final = 2.0
WILD: Final = 6.0  # standard deviations: more than that of one slot does not make a shift worth telling
MIN_EXCESS: Final = 0.02  # of the mean inflow
GROWING: Final = 0.6  # of the excess of the second half

SHIFT_SLOT = np.dtype(
    [
        ("start_ms", "<i8"),  # of the slot
        ("score_sum", "<f8"),  # z clipped, over spread: summed up since the ring began
        ("size_sum", "<f8"),  # the same with z hardly clipped
        ("weight_sum", "<f8"),  # 1 / spread^2
        ("residual", "<f8"),  # of the slot, m3/h
        ("drift", "<f8"),  # before it
    ]
)
"""A ring of the slots of a window, and one before it; entry 0 of `SHIFT.count` is all zero."""

SHIFT = np.dtype(
    [
        ("count", "<i8"),  # slots since the ring began; the newest is at count % N
        ("statistic", "<f8"),
        ("slots", "<i8"),  # of the best window, 0 when none has more than expected
    ]
)
"""What the last slot has led to; an array of one row."""


def new_shift(slot_minutes: int, inflows: int) -> tuple[Records, Records, NDArray[np.float64]]:
    """SHIFT (1,), SHIFT_SLOT (N,) and sums of residuals (N, inflows) of which nothing is known."""
    ring = np.zeros(int(WINDOW_HOURS * 60) // slot_minutes + 1, SHIFT_SLOT)
    shift = np.zeros(1, SHIFT)
    return shift, ring, np.zeros((len(ring), inflows))


@njit(cache=False)
def reset(shift: Record, ring: Records, rests: NDArray[np.float64]) -> None:
    """Begin anew: evidence that has raised an event does not count again."""
    shift["count"] = shift["slots"] = 0
    shift["statistic"] = 0.0
    ring[0]["score_sum"] = ring[0]["size_sum"] = ring[0]["weight_sum"] = 0.0
    rests[0] = 0.0


@njit(cache=False)
def update(shift: Record, ring: Records, rests: NDArray[np.float64], series: Records, slot_start_ms: int) -> float:
    """Statistic of this slot, 0 and up; NaN while warming up or missing.

    `series` (S,) SERIES after `profile.expect`; `rests` (N, inflows), a ring beside `ring`, sums up each inflow's residual,
    so that the events can tell an opened boundary valve from a burst.
    """
    own = series[0]
    z = own["z"]
    if np.isnan(z):
        return np.nan
    length = ring.shape[0]
    last, place = shift["count"] % length, (shift["count"] + 1) % length
    shift["count"] += 1
    before, now = ring[last], ring[place]
    for s in range(1, rests.shape[1]):
        rest = series[s]["residual"] - series[s]["drift"]
        rests[place, s] = rests[last, s] + (0.0 if np.isnan(rest) else rest)
    now["start_ms"], now["residual"], now["drift"] = slot_start_ms, own["residual"], own["drift"]
    now["score_sum"] = before["score_sum"] + min(max(z, -Z_CLIP), Z_CLIP) / own["spread"]
    now["size_sum"] = before["size_sum"] + min(max(z, -WILD), WILD) / own["spread"]
    now["weight_sum"] = before["weight_sum"] + 1.0 / (own["spread"] * own["spread"])
    if place == 0:
        _rebase(ring, rests)
    shift["statistic"], shift["slots"] = 0.0, 0
    mean_m3h = 0.0
    longest = min(shift["count"], length - 1)
    slots = 1
    while slots <= longest:
        first = ring[(shift["count"] - slots) % length]
        weight = now["weight_sum"] - first["weight_sum"]
        # 0 where slots of hardly any spread, as of a DMA without flow, came before these
        statistic = (now["score_sum"] - first["score_sum"]) / np.sqrt(weight) if weight > 0.0 else 0.0
        if statistic > shift["statistic"]:
            shift["statistic"], shift["slots"] = statistic, slots
            mean_m3h = (now["size_sum"] - first["size_sum"]) / weight
        if slots == longest:
            break
        slots = min(max(slots + 1, int(slots * STEP)), longest)
    has_begun_before = shift["slots"] == length - 1  # so it has grown, or is a spell of weather: for the nights to tell
    if has_begun_before or mean_m3h < MIN_EXCESS * own["mean_level"]:
        return 0.0
    return shift["statistic"]


@njit(cache=False)
def _rebase(ring: Records, rests: NDArray[np.float64]) -> None:
    """Once a ring's length, sum up from its oldest entry on, the one after entry 0: sums of years lose their digits."""
    score, size, weight = ring[1]["score_sum"], ring[1]["size_sum"], ring[1]["weight_sum"]
    for i in range(ring.shape[0]):
        ring[i]["score_sum"] -= score
        ring[i]["size_sum"] -= size
        ring[i]["weight_sum"] -= weight
    for s in range(rests.shape[1]):
        base = rests[1, s]
        for i in range(rests.shape[0]):
            rests[i, s] -= base


@njit(cache=False)
def locate(shift: Record, ring: Records) -> int:
    """Slots since the shift probably began: of all windows that which z hardly clipped fits best; 0 before the first slot.

    Clipped low, the first slots of a large burst count for no more than the noise before them.
    """
    length = ring.shape[0]
    now, best, slots = ring[shift["count"] % length], 0.0, 0
    for n in range(1, min(shift["count"], length - 1) + 1):
        first = ring[(shift["count"] - n) % length]
        weight = now["weight_sum"] - first["weight_sum"]
        statistic = (now["size_sum"] - first["size_sum"]) / np.sqrt(weight) if weight > 0.0 else 0.0
        if statistic > best:
            best, slots = statistic, n
    return slots


@njit(cache=False)
def started_ms(shift: Record, ring: Records, slots: int) -> int:
    """Start (epoch ms) of the first of the last `slots` (1 and up); slots without a value are none of them."""
    return ring[(shift["count"] - slots + 1) % ring.shape[0]]["start_ms"]


@njit(cache=False)
def drift_before(shift: Record, ring: Records, slots: int) -> float:
    """Drift before the last `slots` (1 and up): what came later, the shift itself may have brought."""
    return ring[(shift["count"] - slots + 1) % ring.shape[0]]["drift"]


@njit(cache=False)
def excess_m3h(shift: Record, ring: Records, slots: int) -> float:
    """Size of what is under way: median residual of the last `slots` (1 and up) above the drift before, not below 0."""
    return max(_median_residual(shift, ring, 0, slots) - max(drift_before(shift, ring, slots), 0.0), 0.0)


@njit(cache=False)
def is_growing(shift: Record, ring: Records, slots: int) -> bool:
    """True where the first half of the last `slots` (2 and up) had much less excess than the second: no step.

    Of a straight ramp it has a third.
    """
    half, before = slots // 2, max(drift_before(shift, ring, slots), 0.0)
    first = _median_residual(shift, ring, half, slots - half) - before
    return first < GROWING * (_median_residual(shift, ring, 0, half) - before)


@njit(cache=False)
def _median_residual(shift: Record, ring: Records, newer: int, slots: int) -> float:
    """Of `slots` with `newer` ones after them."""
    values = np.empty(slots)
    for i in range(slots):
        values[i] = ring[(shift["count"] - newer - i) % ring.shape[0]]["residual"]
    return window_median(values)
