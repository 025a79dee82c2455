"""All that one DMA's engine remembers: a handful of arrays, each field commented; one blob in `snapshots.py`."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.balance import new_balance
from models.calibration import CALIBRATION
from models.clocks import new_clocks
from models.customers import new_use
from models.detectors import DETECTORS
from models.detectors.flow_shift import new_shift
from models.features import FEATURES
from models.lone_loggers import new_lone
from models.night_level import new_night_level, new_nights
from models.pairs import new_loggers
from models.profile import SERIES, SPREAD_BINS
from models.schema import NEVER, Records
from models.sizes import new_sizing
from models.watch import new_watch

MAX_EVENTS: Final = 16
PRIOR_DAYS: Final = 5.0
NIGHTS: Final = 56
GAPS: Final = 96  # a day at 15 min

CHANNEL = np.dtype(
    [
        ("latest_ms", "<i8"),  # newest observedAt seen
        ("believed_ms", "<i8"),  # newest that counts: a jump far ahead needs a second reading
        ("ahead_ms", "<i8"),  # the last jump that was not believed
        ("per_slot", "<i4"),  # readings that the meter usually has in a slot, 0 before the first closed one
        ("fewer_slots", "<i4"),  # slots in a row with fewer
        ("readings", "<i8"),  # readings taken in, late ones included
        ("late", "<i8"),  # readings that came after their slot was closed
        ("register_ms", "<i8"),  # last register reading used, NEVER before the first
        ("register_m3", "<f8"),
        ("level_m", "<f8"),  # tank level at the end of the last slot, NaN when missing
        ("last_value", "<f8"),  # value of the last slot that had one
        ("flat_since_ms", "<i8"),  # end of the slot since which the value has not changed
        ("valued_slots", "<i4"),  # slots that had a value, so far
        ("flat_slots", "<i4"),  # slots with exactly this value, 0 for a value of 0
        ("usual_flat_slots", "<i4"),  # longest such run that ended by itself
        ("register_peak_m3h", "<f8"),  # largest flow between two readings of the register so far
        ("register_doubt", "u1"),  # 1 after an interval that was not believed
    ]
)
"""One row per meter of the DMA that slots wait for, in the order of `Site.channels`."""

CUSTOMER = np.dtype(
    [
        ("latest_ms", "<i8"),  # newest observedAt seen
        ("readings", "<i8"),  # readings taken in, late ones included
        ("late", "<i8"),  # readings that came after the meter's lateness
    ]
)
"""One row per customer meter of the DMA: there may be a million, so 24 bytes each and not a CHANNEL's 109.

What it uses is in a USE of 86 bytes beside it, and for the balance in a METERED of 73."""

ROW = np.dtype(
    [
        ("frontier_ms", "<i8"),  # end of the newest closed slot; NEVER before the first reading
        ("started", "u1"),  # 1 once a slot has held a value
        ("day", "<i8"),  # local day under way, days since the epoch
        ("night_day", "<i8"),  # local day of the night being collected, NEVER outside the window
        ("night_slots", "<i4"),  # slots of the window so far
        ("night_valid", "<i4"),  # of these with a net inflow
        ("night_best_m3h", "<f8"),  # smallest full-hour mean so far, inf when none
        ("night_start_ms", "<i8"),  # start of the window
        ("night_shift_ms", "<i8"),  # start of the first night of the strongest run
        ("night_z", "<f8"),  # last night's z, 0 while warming up
        ("mnf_m3h", "<f8"),  # last night's minimum night flow, known events left out
        ("mnf_expected_m3h", "<f8"),
        ("mnf_spread_m3h", "<f8"),
        ("burst_cusum", "<f8"),
        ("burst_sum_m3h", "<f8"),  # residuals since it began to fill
        ("burst_slots", "<i4"),
        ("pressure_z", "<f8"),  # mean of the loggers' z in this slot, NaN when none
        ("forest_score", "<f8"),  # isolation forest, mean of the last hour
        ("position", "<i4"),  # newest entry of the rings
    ]
)
"""Scalars of the DMA; an array of one row."""

EVENT = np.dtype(
    [
        ("type", "i1"),  # index into events.EVENT_TYPES, -1 is free
        ("cause", "i1"),  # of a meter's event: index into events.CAUSES
        ("change", "i1"),  # what the last transition was: index into events.CHANGES
        ("channel", "<i4"),  # meter row in the DMA for a meter's event, else -1
        ("neighbour", "<i4"),  # series of the neighbour that lost the flow for a boundary valve, else -1
        ("revision", "<i4"),
        ("started_ms", "<i8"),  # frozen at raise: the anchor of the alert's id
        ("detected_ms", "<i8"),
        ("opened_ms", "<i8"),  # when it was raised, or re-opened last
        ("updated_ms", "<i8"),
        ("ended_ms", "<i8"),  # NEVER while it lasts
        ("below_ms", "<i8"),  # since when the excess seems gone, NEVER when it is there
        ("less_ms", "<i8"),  # since when a good part of it seems gone
        ("drift_m3h", "<f8"),  # drift of the net inflow when it began to go
        ("excess_m3h", "<f8"),
        ("reported_m3h", "<f8"),  # excess of the last revision
        ("largest_m3h", "<f8"),  # of all revisions so far
        ("size_sd_m3h", "<f8"),  # standard error of the excess, NaN when nothing is known of it
        ("slot_spread_m3h", "<f8"),  # root mean square spread of the slots that it is averaged over
        ("recent_m3h", "<f8"),  # excess of the last hours, for clearing
        ("usual_m3h", "<f8"),  # excess of the days before, what was expected drifting away included
        ("lost_m3", "<f8"),
        ("amended_m3", "<f8"),  # of these, what late readings brought since the last revision
        ("slots", "<i4"),  # slots that the excess is averaged over
        ("nights_gone", "<i4"),  # nights in a row without the excess, for a night-flow leak
        ("night_m3h", "<f8"),  # excess in the last night that had it
        ("fell_m3h", "<f8"),  # how much of it went in a step when it ended
        ("grown", "<i4"),  # times that nights have found more of it
        ("score", "<f8"),  # highest score of any detector
        ("scores", "<f4", (len(DETECTORS),)),  # highest of each
        ("observed", "<f8"),  # of the metric at the last revision
        ("expected", "<f8"),
        ("lower", "<f8"),
        ("upper", "<f8"),
        ("coverage", "<f4"),
        ("noted_ms", "<i8"),  # end of the slot that was observed, or start of the night; NEVER where it is not known
        ("noted_of", "u1"),  # what the metric is of: OF_SLOT, OF_NIGHT or OF_BALANCE of events.py
        ("pressure_z", "<f4"),  # NaN where there are no loggers
        ("mean_m3h", "<f8"),  # the DMA's mean inflow when raised
        ("ndf_h", "<f8"),  # night-day factor when raised, h/day
        ("logger", "<i4"),  # of the pressure loggers the one that showed it most, -1 when none did
        ("second_logger", "<i4"),  # and the next, or -1
        ("fall_kpa", "<f8"),  # how far it fell below what the others say
        ("fall_ms", "<i8"),  # since when
        ("unmetered", "<f8"),  # share of it that customers' meters don't show, mean of so many days
        ("metered_days", "<i4"),
    ]
)
"""An open event, of the network or of a meter; the same record, copied, is a transition."""

GAP = np.dtype(
    [
        ("slot_end_ms", "<i8"),  # NEVER is free
        ("missing", "<i8"),  # the DMA's own flow meters without a value, as bits by their order
        ("partial_m3h", "<f8"),  # net inflow without them
        ("rest_m3h", "<f8"),  # what was expected, with the excess of all known events
    ]
)
"""A slot that closed without all of its flows while a leak was open; late readings may fill it."""

DETECTION = np.dtype(
    [
        ("slot_end_ms", "<i8"),
        ("observed_m3h", "<f8"),  # net inflow, NaN when a meter it needs is missing or flat
        ("expected_m3h", "<f8"),  # NaN while warming up
        ("lower_m3h", "<f8"),
        ("upper_m3h", "<f8"),
        ("coverage", "<f4"),  # share of the DMA's own flow and level meters that had a value
        ("learnable", "?"),  # no event open and past warm-up: fit for training
        ("features", "<f4", (len(FEATURES),)),
        ("scores", "<f4", (len(DETECTORS),)),  # 0.5 is the threshold
        ("statistics", "<f8", (len(DETECTORS),)),  # what the scores were made of, NaN where a detector was silent
        ("alarmed", "u1", (len(DETECTORS),)),  # 1: its calibration has learned an alarm of this slot; 2: by a fixed share
        ("leak_open", "?"),  # a leak event that the inflow shows is open at the end of the slot
    ]
)
"""One closed slot; published to detections.v1 but for `INNER`."""
INNER: Final = ("statistics", "alarmed", "leak_open")
"""Of a DETECTION what only training reads: with them calibrations are learned again, knowing the labels."""


class Buffers(NamedTuple):
    """The arrays of one DMA; S series, K slots of the week, W meters that are waited for."""

    row: Records  # (1,) ROW
    channels: Records  # (W,) CHANNEL
    customers: Records  # (customer meters,) CUSTOMER
    use: Records  # (customer meters,) USE
    judged_day: NDArray[np.int64]  # (1,) last day (UTC) of which all customers were judged, days since the epoch
    heard: NDArray[np.int64]  # (R, W) minutes in which each meter has a reading, as bits: open slots, a ring by slot number
    series: Records  # (S,) SERIES: own inflow, neighbours' inflows, pressure loggers
    levels: NDArray[np.float32]  # (S, K)
    weeks: NDArray[np.uint8]  # (S, K) weeks learned, at most 6
    spreads: NDArray[np.float32]  # (S, 48)
    spread_hours: NDArray[np.float32]  # (S, 48)
    flow_z: NDArray[np.float64]  # ring of 6 h
    pressure_z: NDArray[np.float64]  # ring of 6 h
    night_flow: NDArray[np.float64]  # ring of 1 h: net inflow inside the night window
    shift: Records  # (1,) SHIFT
    shift_slots: Records  # (N,) SHIFT_SLOT: a ring of 24 h
    shift_rests: NDArray[np.float64]  # (N, inflows) sums of residuals beside it
    nights: Records  # (56,) NIGHT
    night_level: Records  # (1,) NIGHT_LEVEL
    calibrations: Records  # (detectors,) CALIBRATION
    events: Records  # (16,) EVENT: leaks
    past: Records  # (16,) EVENT: leaks that have been cleared, and may come back
    sizing: Records  # (1,) SIZING
    watch: Records  # (W,) WATCH
    clocks: Records  # (W,) CLOCK
    faults: Records  # (W + 1,) EVENT: the one open event of each meter, and of all at once
    gaps: Records  # (96,) GAP
    loggers: Records  # (L + 1,) LOGGER: pressure loggers and the inflow; none with fewer than five loggers, as below
    logger_cov: NDArray[np.float64]  # (L + 1, L + 1)
    lone: Records  # (L,) LONE_LOGGER
    metered: Records  # (customer meters,) METERED; none with fewer than ten customer meters, as below
    balance: Records  # (1,) BALANCE
    balance_days: Records  # (56,) BALANCE_DAY


def new_buffers(
    channels: int, customers: int, inflows: int, loggers: int, slot_minutes: int, lateness_minutes: int
) -> Buffers:
    """Fresh state; the calibrations start from a cautious prior worth five days."""
    series, slots_of_week = inflows + loggers, 7 * 1440 // slot_minutes
    six_hours = max(4, 360 // slot_minutes)
    row, channel = np.zeros(1, ROW), np.zeros(channels, CHANNEL)
    for name in ("frontier_ms", "day", "night_day", "night_start_ms", "night_shift_ms"):
        row[name] = NEVER
    row["night_best_m3h"] = np.inf
    row["mnf_m3h"] = row["mnf_expected_m3h"] = row["mnf_spread_m3h"] = row["pressure_z"] = row["forest_score"] = np.nan
    for name in ("latest_ms", "believed_ms", "ahead_ms", "register_ms", "flat_since_ms"):
        channel[name] = NEVER
    channel["level_m"] = channel["last_value"] = channel["register_m3"] = np.nan
    counted = np.zeros(customers, CUSTOMER)
    counted["latest_ms"] = NEVER
    lines = np.zeros(series, SERIES)
    for name in ("value", "expected", "foreseen", "spread", "residual", "z", "mean_level"):
        lines[name] = np.nan
    lines["unrest"] = 1.0
    gaps = np.zeros(GAPS, GAP)
    gaps["slot_end_ms"] = NEVER
    compared, covariances = new_loggers(loggers)
    balance, balance_days, metered = new_balance(customers)
    shift, shift_slots, shift_rests = new_shift(slot_minutes, inflows)
    return Buffers(
        row=row,
        channels=channel,
        customers=counted,
        use=new_use(customers),
        judged_day=np.full(1, NEVER, np.int64),
        # the frontier may be one lateness behind the others, and a meter one lateness ahead of them
        heard=np.zeros((2 * (lateness_minutes // slot_minutes) + 4, channels), np.int64),
        series=lines,
        levels=np.zeros((series, slots_of_week), np.float32),
        weeks=np.zeros((series, slots_of_week), np.uint8),
        spreads=np.zeros((series, SPREAD_BINS), np.float32),
        spread_hours=np.zeros((series, SPREAD_BINS), np.float32),
        flow_z=np.full(six_hours, np.nan),
        pressure_z=np.full(six_hours, np.nan),
        night_flow=np.full(max(1, 60 // slot_minutes), np.nan),
        shift=shift,
        shift_slots=shift_slots,
        shift_rests=shift_rests,
        nights=new_nights(NIGHTS),
        night_level=new_night_level(),
        calibrations=no_past(),
        events=no_events(MAX_EVENTS),
        past=no_events(MAX_EVENTS),
        sizing=new_sizing(),
        watch=new_watch(channels),
        clocks=new_clocks(channels),
        faults=no_events(channels + 1),
        gaps=gaps,
        loggers=compared,
        logger_cov=covariances,
        lone=new_lone(len(compared)),
        metered=metered,
        balance=balance,
        balance_days=balance_days,
    )


def no_past() -> Records:
    """Calibrations (detectors,) of a DMA of which nothing is known: a cautious prior worth `PRIOR_DAYS`."""
    calibrations = np.zeros(len(DETECTORS), CALIBRATION)
    for number, detector in enumerate(DETECTORS):
        calibrations[number] = (
            detector.prior_mean, detector.prior_sd**2, PRIOR_DAYS, -1.0, detector.long_tail, detector.quarantine_days,
            detector.share, -1.0,
        )  # fmt: skip
    return calibrations


def no_events(rows: int) -> Records:
    """EVENT rows, all free."""
    events = np.zeros(rows, EVENT)
    events["type"] = events["logger"] = events["second_logger"] = -1
    events["fall_ms"] = events["noted_ms"] = NEVER
    events["size_sd_m3h"] = np.nan
    return events
