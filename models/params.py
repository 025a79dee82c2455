"""What one DMA's loop needs to know and never changes: its grid, its night, its incidence, its thresholds' origin."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.balance import MIN_CUSTOMERS
from models.detectors import BALANCE, DETECTORS, PRESSURE_STEP, PRESSURE_TREND
from models.network import Site, longest_lateness_minutes
from models.pairs import MIN_LOGGERS
from models.schema import Records
from models.zones import utc_offsets_s

MIN_RETURN_DAYS: Final = 2.0


FACTS = np.dtype(
    [
        ("lateness_ms", "<i8"),  # so long an incomplete slot waits for the meter; a customer's later reading counts as late
        ("is_flow", "?"),  # a network flow meter
        ("is_home", "?"),  # this DMA reports its faults
    ]
)
"""One row per channel."""

LOOKUP = np.dtype(
    [
        ("meter", "<i4"),  # row of the site's meter table, ascending
        ("channel", "<i4"),
    ]
)
"""Meter to channel, one row per meter of the DMA. The first W channels are waited for; customer meters follow."""


class Params(NamedTuple):
    """Constants of one DMA; S series (own inflow, neighbours' inflows, pressure loggers), C channels, W waited for."""

    slot_ms: int
    slot_hours: float
    slots_1h: int
    night_start_min: int
    night_end_min: int
    lookup: Records  # (C,) LOOKUP
    facts: Records  # (C,) FACTS
    longest_lateness_ms: int  # of the meters that are waited for
    return_days: float  # each detector may pass its threshold by chance once in so many days
    accept_ms: int  # an event that lasts so long becomes the new normal
    reopen_ms: int  # so long after it was cleared an event may come back
    inflows: int  # series 0 … inflows-1 are net inflows, the rest pressures
    signs: NDArray[np.int8]  # (inflows, W) +1 feeds, -1 drains
    areas_m2: NDArray[np.float64]  # (inflows, W) water surface of the tanks inside
    pressure_channel: NDArray[np.int32]  # (S - inflows,)
    zone_changes_ms: NDArray[np.int64]
    zone_offsets_s: NDArray[np.int64]
    days: NDArray[np.uint8]  # what each local day is like (calendar.day_of)
    silent: NDArray[np.bool_]  # (detectors,) those that say nothing: all False but where a detector's worth is measured


def channel_rows(site: Site, dma: str) -> tuple[list[int], list[int]]:
    """Meter rows of the channels that are waited for, which is all but customers', and of the customers'; ascending."""
    rows = site.channels(dma)
    customers = [row for row in rows if site.meters[row].is_customer]
    return [row for row in rows if not site.meters[row].is_customer], customers


def speaking(site: Site, dma: str) -> tuple[str, ...]:
    """Detectors that may raise an event of the DMA by themselves, and so share its alert budget.

    The two that compare loggers with each other never speak where there are too few, nor does the balance where there are
    too few customer meters, and the forest never alone.
    """
    loggers = sum(site.meters[row].kind == "pressure" and site.meters[row].dma == dma for row in site.channels(dma))
    customers = sum(site.meters[row].is_customer for row in site.channels(dma))
    mute: tuple[int, ...] = () if loggers >= MIN_LOGGERS else (PRESSURE_STEP, PRESSURE_TREND)
    mute += () if customers >= MIN_CUSTOMERS else (BALANCE,)
    return tuple(d.name for number, d in enumerate(DETECTORS) if d.raises_alone and number not in mute)


def params_of(site: Site, dma: str, silent: Collection[str] = ()) -> Params:
    """Constants of the engine of one DMA of the site. Raises KeyError for a DMA that the site does not have.

    `silent`: names of detectors that say nothing; the others share their part of the alert budget. Raises ValueError for
    a name that is none.
    """
    names = [detector.name for detector in DETECTORS]
    for name in silent:
        if name not in names:
            raise ValueError(f"silent: {name!r} is no detector; possible: {', '.join(names)}")
    here = site.dmas[site.dma_row[dma]]
    rows, customers = channel_rows(site, dma)
    meters = [site.meters[row] for row in rows]
    inflow_dmas = (dma, *site.neighbours(dma))
    areas = np.array([[m.area_m2 if m.kind == "level" and m.dma == d else 0.0 for m in meters] for d in inflow_dmas])
    changes, offsets = utc_offsets_s(site.timezone)
    pressures = [c for c, m in enumerate(meters) if m.kind == "pressure" and m.dma == dma]
    voices = len(set(speaking(site, dma)) - set(silent))
    lookup = np.zeros(len(rows) + len(customers), LOOKUP)
    lookup["meter"], lookup["channel"] = rows + customers, np.arange(len(lookup))
    facts = np.zeros(len(lookup), FACTS)
    facts["lateness_ms"] = [site.meters[row].lateness_minutes * 60_000 for row in rows + customers]
    facts["is_flow"][: len(rows)] = [m.is_network_flow for m in meters]
    facts["is_home"] = [site.meters[row].home == dma for row in rows + customers]
    return Params(
        slot_ms=here.slot_minutes * 60_000,
        slot_hours=here.slot_minutes / 60.0,
        slots_1h=max(1, 60 // here.slot_minutes),
        night_start_min=site.night_start_min,
        night_end_min=site.night_end_min,
        lookup=np.sort(lookup, order="meter"),
        facts=facts,
        longest_lateness_ms=longest_lateness_minutes(meters) * 60_000,
        # below two days the Gumbel law has no tail; so large a budget asks for all that stands out
        return_days=max(len(site.dmas) * 7.0 * voices / site.alerts_per_week, MIN_RETURN_DAYS),
        accept_ms=site.accept_after_days * 86_400_000,
        reopen_ms=site.reopen_after_days * 86_400_000,
        inflows=len(inflow_dmas),
        signs=site.signs(inflow_dmas, rows),
        areas_m2=areas.astype(np.float64),
        pressure_channel=np.array(pressures, np.int32),
        zone_changes_ms=changes,
        zone_offsets_s=offsets,
        days=site.days,
        silent=np.array([name in silent for name in names], np.bool_),
    )
