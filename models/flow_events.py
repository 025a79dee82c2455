"""From the inflow's evidence, slot by slot, to events.

(no event) --burst >= 0.5, or >= 0.35 with isolation or night flow--> burst | boundary_valve
           --flow shift >= 0.5--> the same, or night_flow_leak where it has grown for over six hours
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import sizes
from models.detectors import BURST, FLOW_SHIFT, ISOLATION, NIGHT_FLOW, burst, flow_shift
from models.events import (
    BOUNDARY_VALVE,
    BURST_EVENT,
    CORROBORATED,
    HOUR_MS,
    NIGHT_FLOW_LEAK,
    SETTLING_MS,
    THRESHOLD,
    grow,
    is_pressure_only,
    note_band,
    note_scale,
    note_scores,
)  # fmt: skip
from models.lifecycle import GROWING_MS
from models.params import Params
from models.reopen import announce, open_leak
from models.schema import Records
from models.state import Buffers

SLOW_MS: Final = 2 * HOUR_MS  # flow that took longer to speak confirms what the pressures have raised
SEEPING_MS: Final = 6 * HOUR_MS  # what grows for longer is for leak detection rather than for a crew
SURE_SPREADS: Final = 3.0  # that a neighbour must have lost in the sum of its slots
SURE_LEAST: Final = 0.5  # and in their mean
VALVE_SHARE: Final = (0.5, 2.0)  # of the gain that a neighbour must have lost


@njit(cache=False)
def losing_neighbour(b: Buffers, p: Params, gain_m3h: float, slots: int) -> int:
    """Series of the neighbour that lost what this DMA gained in the last `slots`, or -1 (mass conservation).

    Held against as many slots before these: a leak of the neighbour's that ended yesterday is no loss of today.
    """
    newest, length = b.shift[0]["count"], b.shift_slots.shape[0]
    first = newest - slots
    before = min(first, length - 1 - slots, max(slots, 4))
    for s in range(1, p.inflows):
        loss = -(b.shift_rests[newest % length, s] - b.shift_rests[first % length, s]) / slots
        if before > 0:
            loss += (b.shift_rests[first % length, s] - b.shift_rests[(first - before) % length, s]) / before
        # of few slots a mean says little
        sure = b.series[s]["spread"] * max(SURE_LEAST, SURE_SPREADS / np.sqrt(slots))
        if VALVE_SHARE[0] * gain_m3h <= loss <= VALVE_SHARE[1] * gain_m3h and loss > sure:
            return s
    return -1


@njit(cache=False)
def forget_flow(b: Buffers, slots: int) -> None:
    """What the last `slots` have said of the inflow has been heard, and does not count again; nor has it been drift."""
    own = b.series[0]
    own["drift"] = min(own["drift"], flow_shift.drift_before(b.shift[0], b.shift_slots, slots))
    burst.reset(b.row[0])
    flow_shift.reset(b.shift[0], b.shift_slots, b.shift_rests)


@njit(cache=False)
def raise_burst(
    b: Buffers, p: Params, scores: NDArray[np.float32], slot_end_ms: int, coverage: float, out: Records, count: int
) -> int:
    """A new burst or boundary valve when the evidence suffices and no young one explains it; returns the new count."""
    row, shift = b.row[0], b.shift[0]
    is_seconded = scores[ISOLATION] >= THRESHOLD or scores[NIGHT_FLOW] >= THRESHOLD
    by_step = scores[BURST] >= THRESHOLD or (scores[BURST] >= CORROBORATED and is_seconded)
    enough = by_step or scores[FLOW_SHIFT] >= THRESHOLD
    slots = flow_shift.locate(shift, b.shift_slots) if enough else 0
    if slots == 0:
        return count
    excess = flow_shift.excess_m3h(shift, b.shift_slots, slots)
    for i in range(b.events.shape[0]):
        event = b.events[i]
        if event["type"] in (BURST_EVENT, BOUNDARY_VALVE) and slot_end_ms - event["opened_ms"] < SETTLING_MS:
            if is_pressure_only(event):  # the flow's word on its size
                grow(b, event, excess, scores)
                sizes.note_shift(b, event, slots, 0.0)
            note_scores(event, scores, row["pressure_z"])
            forget_flow(b, slots)
            return count
    if excess < burst.MIN_EXCESS * b.series[0]["mean_level"]:
        return count
    start_ms = flow_shift.started_ms(shift, b.shift_slots, slots)
    lasts_ms = slot_end_ms - start_ms
    is_growing = lasts_ms > SEEPING_MS and flow_shift.is_growing(shift, b.shift_slots, slots)
    for i in range(b.events.shape[0]):
        event = b.events[i]
        young = slot_end_ms - event["opened_ms"] < GROWING_MS
        # a leak that grows does not jump: what took no longer to show is another one, and so is a step larger than the leak
        is_growth = event["type"] == NIGHT_FLOW_LEAK and lasts_ms > SEEPING_MS
        is_growth = is_growth and (young or event["grown"] > 0) and (is_growing or event["excess_m3h"] >= excess)
        if is_growth or (young and is_pressure_only(event) and lasts_ms > SLOW_MS):
            # a leak that grows faster than the nights can follow
            before = 0.0 if is_pressure_only(event) or np.isnan(event["size_sd_m3h"]) else event["size_sd_m3h"]
            grow(b, event, excess, scores)
            sizes.note_shift(b, event, slots, before)
            forget_flow(b, slots)
            return count
    neighbour = losing_neighbour(b, p, excess, slots)
    is_seeping = not by_step and is_growing
    kind = BOUNDARY_VALVE if neighbour >= 0 else NIGHT_FLOW_LEAK if is_seeping else BURST_EVENT
    i = open_leak(b, p, kind, neighbour, -1, start_ms, slot_end_ms, excess)
    if i < 0:
        return count
    event = b.events[i]
    event["slots"] = slots
    sizes.note_shift(b, event, slots, 0.0)
    note_scores(event, scores, row["pressure_z"])
    own = b.series[0]
    note_band(event, own["value"], own["foreseen"], own["spread"], coverage, slot_end_ms)
    note_scale(b, p, event)
    forget_flow(b, slots)
    return announce(b, p, event, scores, slot_end_ms, out, count)
