"""The events planted in the town, as data: what happens, where, when, and which alert it must raise.

Two of them are ordinary life and must raise none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from training.simulation.town import AREA, REFERENCE_HEAD_M, TIMEZONE, VALVE_PIPE

Kind = Literal["burst", "slow_leak", "stuck_meter", "valve_opened", "hot_weekend", "fire_draw"]
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
BESIDE_INLET: Final = ("127", "209")
LEAK: Final = ("burst", "night_flow_leak")
"""A leak may be found by day or by night; both names send a crew to the same DMA, as in `training.matching`."""
PLANTED_WEEKS: Final = 2
"""The last weeks hold the events; everything before them is clean."""


@dataclass(frozen=True)
class Plant:
    """One planted event.

    `expected` are the alert types that name it rightly, for `scope` (a DMA or a meter); empty: nothing may alarm.
    `within_h` is the longest delay from the start that still counts as found.
    """

    kind: Kind
    scope_type: Literal["dma", "meter", "site"]
    scope: str
    started_ms: int
    ended_ms: int
    expected: tuple[str, ...] = ()
    within_h: float = 0.0
    size_m3h: float = 0.0
    """Mean flow at full size, lost, drawn or shifted. Planned at the reference pressure, then as the simulation had it."""
    place: str = ""  # junction or pipe
    growth_ms: int = 0  # a slow leak reaches its size after this long

    @property
    def is_event(self) -> bool:
        """True where an alert is due."""
        return bool(self.expected)

    def sized(self, size_m3h: float) -> Plant:
        """The same event with the flow that the simulation measured."""
        return replace(self, size_m3h=size_m3h)

    def share(self, starts_ms: NDArray[np.int64], slot_ms: int) -> NDArray[np.float64]:
        """(steps,) how much of its full size the event has in each slot, 0 to 1, part slots in proportion."""
        overlap = np.minimum(starts_ms + slot_ms, self.ended_ms) - np.maximum(starts_ms, self.started_ms)
        share = np.clip(overlap / slot_ms, 0.0, 1.0)
        if self.growth_ms:
            middle = starts_ms + slot_ms / 2 - self.started_ms
            share *= np.clip(middle / self.growth_ms, 0.0, 1.0)
        return share

    def coefficient(self) -> float:
        """EPANET emitter coefficient (m3/h per m, N1 = 1) of a leak of this size at the reference pressure."""
        return self.size_m3h / REFERENCE_HEAD_M


def plan(rng: np.random.Generator, first_day: date, weeks: int) -> list[Plant]:
    """The events of a town that starts at local midnight of `first_day` (a Monday) and runs `weeks` weeks.

    Places, hours and sizes vary with `rng`; the order of events and their DMAs do not, so that no two meet in one DMA.

    Raises ValueError for fewer than 5 weeks: detectors need two to learn, and one more to show that they keep quiet.
    """
    if weeks < 5:
        raise ValueError(f"weeks: found {weeks}; possible: at least 5 (3 clean, 2 with events)")
    clean_days = 7 * (weeks - PLANTED_WEEKS)

    def moment(day: int, hour: float) -> int:
        local = datetime.combine(first_day + timedelta(days=day), datetime.min.time(), ZoneInfo(TIMEZONE))
        return int(local.timestamp() * 1000) + int(hour * HOUR_MS)

    def between(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 2)

    def junction(dma: str) -> str:
        return str(rng.choice([j for j in AREA[dma].junctions if j not in BESIDE_INLET]))

    hot_at = moment(clean_days - 2, 0.0)
    burst_at = moment(clean_days, between(8, 20))
    slow_at, growth_ms = moment(clean_days + 2, between(0, 24)), int(between(6, 7) * DAY_MS)
    stuck_at = moment(clean_days + 3, between(9, 15))
    fire_at = moment(clean_days + 8, between(14, 17))
    valve_at = moment(clean_days + 9, between(8, 16))
    burst_m3h = between(0.17, 0.23) * AREA["NORTH"].mean_m3h
    slow_m3h = between(0.12, 0.15) * AREA["HARBOUR"].mean_m3h
    # fmt: off
    plants = [
        Plant("hot_weekend", "site", "demo-town", hot_at, hot_at + 2 * DAY_MS),
        Plant("burst", "dma", "NORTH", burst_at, burst_at + 2 * DAY_MS,
              LEAK, within_h=24, size_m3h=burst_m3h, place=junction("NORTH")),
        Plant("slow_leak", "dma", "HARBOUR", slow_at, slow_at + growth_ms + 2 * DAY_MS,
              LEAK, within_h=8 * 24, size_m3h=slow_m3h, place=junction("HARBOUR"), growth_ms=growth_ms),
        Plant("stuck_meter", "meter", "FM-L1", stuck_at, stuck_at + 36 * HOUR_MS,
              ("meter_fault",), within_h=12),
        Plant("fire_draw", "dma", "NORTH", fire_at, fire_at + HOUR_MS // 2,
              size_m3h=45.0, place=junction("NORTH")),
        Plant("valve_opened", "dma", "MIDTOWN", valve_at, valve_at + 2 * DAY_MS,
              ("boundary_valve",), within_h=24, place=VALVE_PIPE),
    ]
    # fmt: on
    return sorted(plants, key=lambda plant: plant.started_ms)
