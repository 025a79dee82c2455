"""Slots that closed without all of their flows while a leak was open, and the late readings that fill them.

What is judged stays judged: a late reading raises nothing and moves no profile. But the water that an open event lost
meanwhile is known after all, and joins its `lost_m3`; the event's next revision says so (`lifecycle.follow`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.borrow import borrowed
from models.events import FREE, GONE, NIGHT_FLOW_LEAK, known_excess
from models.params import Params
from models.schema import NEVER, Record, Records
from models.slots import slot_end
from models.state import Buffers

MOST_FLOWS: Final = 62  # bits of `missing`; a DMA with more flow meters remembers no gaps


@njit(cache=False)
def missing_flows(signs: NDArray[np.int8], values: NDArray[np.float64]) -> int:
    """Which of the DMA's own flow meters have no value in the slot, as bits by their order; -1 where there are too many.

    `signs`, `values` (C,) as in `net_inflow`.
    """
    mask = rank = 0
    for c in range(values.shape[0]):
        if signs[c] != 0:
            if rank >= MOST_FLOWS:
                return -1
            if np.isnan(values[c]):
                mask |= 1 << rank
            rank += 1
    return mask


@njit(cache=False)
def note_gap(b: Buffers, missing: int, partial_m3h: float, slot_end_ms: int) -> None:
    """Remember a slot of this step that could not be judged, in place of the oldest one."""
    foreseen = b.series[0]["foreseen"]
    if np.isnan(foreseen) or np.isnan(partial_m3h):
        return
    oldest = 0
    for i in range(b.gaps.shape[0]):
        if b.gaps[i]["slot_end_ms"] < b.gaps[oldest]["slot_end_ms"]:
            oldest = i
    gap = b.gaps[oldest]
    gap["slot_end_ms"], gap["missing"], gap["partial_m3h"] = slot_end_ms, missing, partial_m3h
    gap["rest_m3h"] = foreseen + known_excess(b.events)


@njit(cache=False)
def credit(b: Buffers, p: Params, gap: Record) -> None:
    """What the events that were open in a slot have lost in it, now that its net inflow is known."""
    rest = gap["partial_m3h"] - gap["rest_m3h"]
    for i in range(b.events.shape[0]):
        event = b.events[i]
        if event["type"] == FREE or gap["slot_end_ms"] <= event["opened_ms"]:
            continue
        is_over = event["below_ms"] != NEVER and gap["slot_end_ms"] >= event["below_ms"]
        if is_over or rest + event["excess_m3h"] < GONE * event["reported_m3h"]:
            continue
        lost = event["excess_m3h"] * p.slot_hours
        if event["type"] == NIGHT_FLOW_LEAK:
            lost *= event["ndf_h"] / 24.0
        event["lost_m3"] += lost
        event["amended_m3"] += lost


@njit(cache=True)
def amend_all(buffers: tuple[Any, ...], params: tuple[Any, ...], readings: Records, channels: NDArray[np.int64]) -> None:
    """`amend` with late flows (READING), in order of arrival. `buffers`, `params` as plain tuples (`loop.close_until`)."""
    b, p = borrowed(Buffers(*buffers)), borrowed(Params(*params))
    for i in range(readings.shape[0]):
        amend(b, p, channels[i], slot_end(readings[i]["time_ms"], p.slot_ms), readings[i]["value"])


@njit(cache=False)
def amend(b: Buffers, p: Params, channel: int, slot_end_ms: int, value_m3h: float) -> None:
    """A flow that came after its slot was closed. The first one of a meter stands for the slot; others change nothing."""
    sign = p.signs[0, channel]
    if sign == 0:
        return
    rank = 0
    for c in range(channel):
        rank += p.signs[0, c] != 0
    bit = np.int64(1) << min(rank, MOST_FLOWS)
    for i in range(b.gaps.shape[0]):
        gap = b.gaps[i]
        if gap["slot_end_ms"] == slot_end_ms and gap["missing"] & bit:
            gap["missing"] &= ~bit
            gap["partial_m3h"] += sign * value_m3h
            if gap["missing"] == 0:
                credit(b, p, gap)
                gap["slot_end_ms"] = NEVER
            return
