"""All that one DMA's engine remembers: a handful of arrays, each field commented, snapshot and restore as one blob."""

from __future__ import annotations

import math
import zlib
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.calibration import CALIBRATION
from models.detectors import DETECTORS
from models.features import FEATURES
from models.pairs import new_loggers
from models.profile import SERIES, SPREAD_BINS
from models.schema import NEVER, Records
from models.wire import FOREIGN, brief, shown

FORMAT: Final = 4
# 4: pressure loggers beside each other; 3: of a customer meter only what is counted; 2: late readings, gaps, a fingerprint
READABLE: Final = (2, 3, 4)
MAX_EVENTS: Final = 16
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
"""One row per customer meter of the DMA: there may be a million, so 24 bytes each and not a CHANNEL's 109."""

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
        ("burst_start_ms", "<i8"),  # start of the first slot that counts
        ("burst_sum_m3h", "<f8"),  # residuals since then
        ("burst_slots", "<i4"),
        ("pressure_z", "<f8"),  # mean of the loggers' z in this slot, NaN when none
        ("forest_score", "<f8"),  # isolation forest, mean of the last hour
        ("position", "<i4"),  # newest entry of the rings
    ]
)
"""Scalars of the DMA; an array of one row."""

NIGHT = np.dtype(
    [
        ("day", "<i8"),
        ("start_ms", "<i8"),  # of its window
        ("mnf_m3h", "<f8"),
        ("z", "<f8"),  # against the nights before it; NaN while warming up, and once it has raised an event
    ]
)
"""A ring of past nights by local day; day NEVER is empty. Known events are left out of the flow."""

EVENT = np.dtype(
    [
        ("type", "i1"),  # index into events.EVENT_TYPES, -1 is free
        ("change", "i1"),  # what the last transition was: index into events.CHANGES
        ("channel", "<i4"),  # meter row in the DMA for a meter fault, else -1
        ("neighbour", "<i4"),  # series of the neighbour that lost the flow for a boundary valve, else -1
        ("revision", "<i4"),
        ("started_ms", "<i8"),  # frozen at raise: the anchor of the alert's id
        ("detected_ms", "<i8"),
        ("updated_ms", "<i8"),
        ("ended_ms", "<i8"),  # NEVER while it lasts
        ("below_ms", "<i8"),  # since when the excess seems gone, NEVER when it is there
        ("less_ms", "<i8"),  # since when a good part of it seems gone
        ("excess_m3h", "<f8"),
        ("reported_m3h", "<f8"),  # excess of the last revision
        ("recent_m3h", "<f8"),  # excess of the last hours, for clearing
        ("lost_m3", "<f8"),
        ("amended_m3", "<f8"),  # of these, what late readings brought since the last revision
        ("slots", "<i4"),  # slots that the excess is averaged over
        ("nights_gone", "<i4"),  # nights in a row without the excess, for a night-flow leak
        ("score", "<f8"),  # highest score of any detector
        ("scores", "<f4", (len(DETECTORS),)),  # highest of each
        ("observed", "<f8"),  # of the metric at the last revision
        ("expected", "<f8"),
        ("lower", "<f8"),
        ("upper", "<f8"),
        ("coverage", "<f4"),
        ("pressure_z", "<f4"),  # NaN where there are no loggers
        ("mean_m3h", "<f8"),  # the DMA's mean inflow when raised
        ("ndf_h", "<f8"),  # night-day factor when raised, h/day
        ("logger", "<i4"),  # of the pressure loggers the one that showed it most, -1 when none did
        ("second_logger", "<i4"),  # and the next, or -1
        ("fall_kpa", "<f8"),  # how far it fell below what the others say
        ("fall_ms", "<i8"),  # since when
    ]
)
"""An open event; the same record, copied, is a transition."""

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
    ]
)
"""One closed slot, as published to detections.v1."""


class Buffers(NamedTuple):
    """The arrays of one DMA; S series, K slots of the week, W meters that are waited for."""

    row: Records  # (1,) ROW
    channels: Records  # (W,) CHANNEL
    customers: Records  # (customer meters,) CUSTOMER
    heard: NDArray[np.int64]  # (R, W) minutes in which each meter has a reading, as bits: open slots, a ring by slot number
    series: Records  # (S,) SERIES: own inflow, neighbours' inflows, pressure loggers
    levels: NDArray[np.float32]  # (S, K)
    weeks: NDArray[np.uint8]  # (S, K) weeks learned, at most 6
    spreads: NDArray[np.float32]  # (S, 48)
    spread_hours: NDArray[np.float32]  # (S, 48)
    flow_z: NDArray[np.float64]  # ring of 6 h
    pressure_z: NDArray[np.float64]  # ring of 6 h
    night_flow: NDArray[np.float64]  # ring of 1 h: net inflow inside the night window
    burst_sums: NDArray[np.float64]  # (S,) residuals since burst_start_ms
    nights: Records  # (56,) NIGHT
    calibrations: Records  # (detectors,) CALIBRATION
    events: Records  # (16,) EVENT
    gaps: Records  # (96,) GAP
    loggers: Records  # (L + 1,) LOGGER: pressure loggers and the inflow; all eight empty with fewer than five loggers
    logger_cov: NDArray[np.float64]  # (L + 1, L + 1)
    logger_partners: NDArray[np.int32]  # (L, partners) rows of the loggers that each is compared with, -1 when none
    logger_slopes: NDArray[np.float64]  # (L, partners)
    logger_offsets: NDArray[np.float64]  # (L, 24) kPa by local hour: what each one's residual usually is
    logger_quiet_offsets: NDArray[np.float64]  # (L, 24) kPa: the same before the open leaks
    logger_spreads: NDArray[np.float32]  # (L, 24) kPa by local hour
    logger_spread_hours: NDArray[np.float32]  # (L, 24)


def new_buffers(
    channels: int, customers: int, series: int, loggers: int, slot_minutes: int, lateness_minutes: int
) -> Buffers:
    """Fresh state; the calibrations start from a cautious prior worth five days."""
    slots_of_week = 7 * 1440 // slot_minutes
    six_hours = max(4, 360 // slot_minutes)
    row, channel = np.zeros(1, ROW), np.zeros(channels, CHANNEL)
    for name in ("frontier_ms", "day", "night_day", "night_start_ms", "night_shift_ms", "burst_start_ms"):
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
    nights = np.zeros(NIGHTS, NIGHT)
    nights["day"] = NEVER
    gaps = np.zeros(GAPS, GAP)
    gaps["slot_end_ms"] = NEVER
    compared, beside = new_loggers(loggers)
    return Buffers(
        row=row,
        channels=channel,
        customers=counted,
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
        burst_sums=np.zeros(series),
        nights=nights,
        calibrations=_no_past(),
        events=_no_events(),
        gaps=gaps,
        loggers=compared,
        **beside,
    )


ANY_LENGTH: Final = ("heard", "pending")


class _Header(msgspec.Struct):
    format: int
    dma: str
    fingerprint: str
    crc: int
    arrays: dict[str, tuple[int, ...]]  # name -> shape, in the order of the bytes


def snapshot(dma: str, fingerprint: str, arrays: dict[str, NDArray[Any]]) -> bytes:
    """One blob: header line, then the arrays' bytes in order."""
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    shapes = {name: array.shape for name, array in arrays.items()}
    return msgspec.json.encode(_Header(FORMAT, dma, fingerprint, zlib.crc32(body), shapes)) + b"\n" + body


def restore(
    blob: bytes, dma: str, fingerprint: str, like: dict[str, NDArray[Any]], is_customer: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """Arrays of a snapshot by name, each of the dtype of its namesake in `like` and of its shape.

    `is_customer` tells it of each of the DMA's meters, for a snapshot of format 2, which has a CHANNEL of each. Only `heard`
    and `pending` may be of another length. Raises ValueError when the blob is torn, of another format, of another DMA, or
    of another network.
    """
    head, _, body = blob.partition(b"\n")
    try:
        header = msgspec.json.decode(head, type=_Header)
    except FOREIGN as error:
        raise ValueError(f"state of {dma!r} is torn: {brief(error)}") from None
    if header.format not in READABLE:
        possible = ", ".join(map(str, READABLE))
        raise ValueError(f"state of {dma!r}: found format {header.format}; possible: {possible}")
    if (header.dma, header.fingerprint) != (dma, fingerprint):
        found = f"DMA {shown(header.dma)} of network {brief(header.fingerprint)}"
        raise ValueError(f"state: found {found}; possible: {dma!r} of network {fingerprint}")
    fresh, like = like, dict(like)
    if header.format < 4:
        like = {name: array for name, array in like.items() if not name.startswith("logger")}
        like["events"], like["calibrations"] = np.zeros(MAX_EVENTS, _EVENT_3), np.zeros(_DETECTORS_3, CALIBRATION)
    if header.format == 2:
        like = {name: array for name, array in like.items() if name != "customers"}
        like["channels"], like["heard"] = np.zeros(len(is_customer), CHANNEL), np.zeros((1, len(is_customer)), np.int64)
    if set(header.arrays) != set(like):
        raise ValueError(f"state of {dma!r}: found arrays {brief(sorted(header.arrays))}; possible: {sorted(like)}")
    for name, shape in header.arrays.items():
        wanted = like[name].shape
        fits = len(shape) == len(wanted) and shape[1:] == wanted[1:] and shape[0] >= 0
        if not fits or (shape != wanted and name not in ANY_LENGTH):
            raise ValueError(f"state of {dma!r}: array {name!r}: found shape {brief(shape)}; possible: {wanted}")
    sizes = {name: math.prod(shape) * like[name].itemsize for name, shape in header.arrays.items()}
    if sum(sizes.values()) != len(body) or zlib.crc32(body) != header.crc:
        raise ValueError(f"state of {dma!r} is torn: {len(body)} bytes with a wrong length or checksum")
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for name, shape in header.arrays.items():
        flat = np.frombuffer(body, like[name].dtype, math.prod(shape), start)
        arrays[name] = flat.reshape(shape).copy()
        start += sizes[name]
    if header.format == 2:
        arrays = _from_format_2(arrays, dma, is_customer)
    return _from_format_3(arrays, len(fresh["logger_offsets"])) if header.format < 4 else arrays


_DETECTORS_3: Final = 3
_NEW_IN_4: Final = ("logger", "second_logger", "fall_kpa", "fall_ms")
_EVENT_3: Final = np.dtype(
    [
        (name, EVENT[name].base, (_DETECTORS_3,)) if name == "scores" else (name, EVENT[name])
        for name in EVENT.names or ()
        if name not in _NEW_IN_4
    ]
)


def _from_format_3(arrays: dict[str, NDArray[Any]], loggers: int) -> dict[str, NDArray[Any]]:
    """With loggers that nothing is known of yet, and detectors that have no past."""
    events = _no_events()
    for name in _EVENT_3.names or ():
        if name == "scores":
            events[name][:, :_DETECTORS_3] = arrays["events"][name]
        else:
            events[name] = arrays["events"][name]
    calibrations = _no_past()
    calibrations[:_DETECTORS_3] = arrays["calibrations"]
    compared, beside = new_loggers(loggers)
    return {**arrays, "events": events, "calibrations": calibrations, "loggers": compared, **beside}


def _no_events() -> Records:
    events = np.zeros(MAX_EVENTS, EVENT)
    events["type"] = events["logger"] = events["second_logger"] = -1
    events["fall_ms"] = NEVER
    return events


def _no_past() -> Records:
    calibrations = np.zeros(len(DETECTORS), CALIBRATION)
    for number, detector in enumerate(DETECTORS):
        calibrations[number] = (detector.prior_mean, detector.prior_sd**2, 5.0, -1.0, -1.0)
    return calibrations


def _from_format_2(arrays: dict[str, NDArray[Any]], dma: str, is_customer: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """With customer meters apart from the others, which close ranks."""
    channels = arrays["channels"]
    customers = np.zeros(int(is_customer.sum()), CUSTOMER)
    for name in CUSTOMER.names or ():
        customers[name] = channels[name][is_customer]
    place = np.where(is_customer, -1, np.cumsum(~is_customer) - 1)
    events = arrays["events"]
    of_a_meter = (events["type"] >= 0) & (events["channel"] != -1)
    for array, used in ((arrays["pending"], np.ones(len(arrays["pending"]), bool)), (events, of_a_meter)):
        found = array["channel"][used]
        if ((found < 0) | (found >= len(place))).any() or (place[found] < 0).any():
            raise ValueError(f"state of {dma!r}: found readings or events of meters that it does not have")
        array["channel"][used] = place[found]
    heard = np.ascontiguousarray(arrays["heard"][:, ~is_customer])
    return {**arrays, "channels": channels[~is_customer], "customers": customers, "heard": heard}
