"""A DMA's state as one checksummed blob, and states of older formats made into today's."""

from __future__ import annotations

import math
import zlib
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.calibration import CALIBRATION
from models.clocks import new_clocks
from models.customers import new_use
from models.night_level import NIGHT, new_night_level, new_nights
from models.pairs import new_loggers
from models.profile import SERIES
from models.schema import NEVER
from models.state import CHANNEL, CUSTOMER, EVENT, MAX_EVENTS, NIGHTS, ROW, no_events, no_past
from models.watch import new_watch
from models.wire import FOREIGN, brief, shown

# 7: sizes with their error, leaks that come back, the balance with customers' meters; 6: a level beside the shape of the
# week, and shifts of the flow; 5: pressure loggers beside each other, nights beside the use of their days; 4: what meters do
# against their own past, and their events apart from leaks; 3: of a customer meter only what is counted; 2: late readings,
# gaps, a fingerprint of the DMA's facts
FORMAT: Final = 7
READABLE: Final = (2, 3, 4, 5, 6, 7)

SINCE_7: Final = ("past", "sizing", "lone", "metered", "balance", "balance_days")
EVENT_SINCE_7: Final = (
    "opened_ms", "size_sd_m3h", "slot_spread_m3h", "largest_m3h", "night_m3h", "fell_m3h", "grown", "noted_ms", "noted_of",
    "unmetered", "metered_days",
)  # fmt: skip
SINCE_6: Final = ("shift", "shift_slots", "shift_rests")
SINCE_5: Final = ("night_level", "loggers", "logger_cov")
SINCE_4: Final = ("use", "judged_day", "watch", "clocks", "faults")
DETECTORS_6: Final = 6
DETECTORS_5: Final = 5
DETECTORS_4: Final = 3
"""Formats up to 5 had no detector of flow shifts, and those up to 4 none of pressures."""
CALIBRATION_5: Final = np.dtype([(name, CALIBRATION[name]) for name in CALIBRATION.names or () if name != "share"])
ROW_5: Final = np.dtype(
    [
        field
        for name in ROW.names or ()
        for field in ([("burst_start_ms", "<i8")] if name == "burst_sum_m3h" else []) + [(name, ROW[name])]
    ]
)
SERIES_5: Final = np.dtype([(name, SERIES[name]) for name in SERIES.names or () if name not in ("level", "unrest")])


def _event(newer: np.dtype[Any], detectors: int, without: tuple[str, ...]) -> np.dtype[Any]:
    """An older EVENT: with fewer detectors, `without` some fields."""
    fields = [name for name in newer.names or () if name not in without]
    return np.dtype([(name, newer[name].base, (detectors,)) if name == "scores" else (name, newer[name]) for name in fields])


EVENT_6: Final = _event(EVENT, DETECTORS_6, EVENT_SINCE_7)
EVENT_5: Final = _event(EVENT_6, DETECTORS_5, ("drift_m3h",))
EVENT_4: Final = _event(EVENT_5, DETECTORS_4, ("usual_m3h", "logger", "second_logger", "fall_kpa", "fall_ms"))
NIGHT_4: Final = np.dtype([(name, NIGHT[name]) for name in ("day", "start_ms", "mnf_m3h", "z")])
CALIBRATION_4: Final = np.dtype(
    [("mean", "<f8"), ("variance", "<f8"), ("days", "<f8"), ("day_max", "<f8"), ("waiting", "<f8", (7,))]
)
EVENT_3: Final = np.dtype([(name, EVENT_4[name]) for name in EVENT_4.names or () if name != "cause"])
METER_FAULT_3: Final = 3  # and STUCK_3 what it was about
STUCK_3: Final = 1
"""Formats 2 and 3 had flat lines among the leaks."""

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
    newest, like = like, _of_format(header.format, like, is_customer)
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
    arrays = _renewed(header.format, arrays, newest, dma, is_customer)
    return {name: arrays[name] for name in newest}


def _renewed(
    version: int,
    arrays: dict[str, NDArray[Any]],
    newest: dict[str, NDArray[Any]],
    dma: str,
    is_customer: NDArray[np.bool_],
) -> dict[str, NDArray[Any]]:
    """Arrays of a snapshot of an older format made into today's, format by format."""
    if version == 2:
        arrays = _from_format_2(arrays, dma, is_customer)
    if version < 4:
        arrays = _from_format_3(arrays, dma)
    if version < 5:
        arrays = _from_format_4(arrays, newest)
    elif version < 7:
        arrays = _with_newer_detectors(arrays)
    if version < 6:
        arrays = _with_levels(arrays, newest)
    return {**{name: newest[name].copy() for name in SINCE_7}, **arrays}


def _of_format(version: int, like: dict[str, NDArray[Any]], is_customer: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Arrays of the names, dtypes and shapes that a snapshot of an older format has."""
    like = dict(like)
    if version < 7:
        like = {name: array for name, array in like.items() if name not in SINCE_7}
        like["calibrations"] = np.zeros(DETECTORS_6, CALIBRATION)
        like["events"], like["faults"] = (np.zeros(like[name].shape, EVENT_6) for name in ("events", "faults"))
    if version < 6:
        like = {name: array for name, array in like.items() if name not in SINCE_6}
        like["row"], like["series"] = np.zeros(1, ROW_5), np.zeros(like["series"].shape, SERIES_5)
        like["burst_sums"] = np.zeros(len(like["series"]))
        like["calibrations"] = np.zeros(DETECTORS_5, CALIBRATION_5)
        like["events"], like["faults"] = (np.zeros(like[name].shape, EVENT_5) for name in ("events", "faults"))
    if version < 5:
        like = {name: array for name, array in like.items() if name not in SINCE_5}
        like["calibrations"], like["nights"] = np.zeros(DETECTORS_4, CALIBRATION_4), np.zeros(NIGHTS, NIGHT_4)
        like["events"], like["faults"] = np.zeros(MAX_EVENTS, EVENT_4), np.zeros(len(like["faults"]), EVENT_4)
    if version < 4:
        like = {name: array for name, array in like.items() if name not in SINCE_4}
        like["events"] = np.zeros(MAX_EVENTS, EVENT_3)
    if version == 2:
        like = {name: array for name, array in like.items() if name != "customers"}
        like["channels"], like["heard"] = np.zeros(len(is_customer), CHANNEL), np.zeros((1, len(is_customer)), np.int64)
    return like


def _with_levels(arrays: dict[str, NDArray[Any]], like: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """With levels that begin at nothing above the shape of the week, and no shift under way."""
    row, series = np.zeros(1, ROW), np.zeros(len(arrays["series"]), SERIES)
    for name in ROW.names or ():
        row[name] = arrays["row"][name]
    for name in SERIES_5.names or ():
        series[name] = arrays["series"][name]
    series["unrest"] = 1.0
    return {**arrays, "row": row, "series": series, **{name: like[name].copy() for name in SINCE_6}}


def _with_newer_detectors(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """With today's detectors and events, of which those that came after the format have no past."""
    calibrations, older = no_past(), arrays["calibrations"]
    for name in older.dtype.names or ():
        calibrations[name][: len(older)] = older[name]
    newer = {"calibrations": calibrations}
    for table in ("events", "faults"):
        newer[table] = no_events(len(arrays[table]))
        _take_events(newer[table], arrays[table])
    return {**arrays, **newer}


def _take_events(newer: NDArray[Any], older: NDArray[Any]) -> None:
    """Fill events with those of an older format, which has fewer detectors."""
    for name in older.dtype.names or ():
        target = newer[name][:, : older[name].shape[1]] if name == "scores" else newer[name]
        target[...] = older[name]
    if "opened_ms" not in (older.dtype.names or ()):
        newer["opened_ms"], newer["night_m3h"], newer["largest_m3h"] = (
            older["detected_ms"], older["excess_m3h"], older["reported_m3h"],
        )  # fmt: skip


def _from_format_4(arrays: dict[str, NDArray[Any]], like: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """With pressure loggers of which nothing is known yet, and detectors that have no past: those of the pressures, and that
    of the nights, whose statistic is another; its level begins anew from the nights that are there.
    """
    calibrations = no_past()
    for name in ("mean", "variance", "days", "day_max"):
        calibrations[name][1:DETECTORS_4] = arrays["calibrations"][name][1:]
    calibrations["waiting"][1:DETECTORS_4, :7] = arrays["calibrations"]["waiting"][1:]
    nights, known = new_nights(NIGHTS), arrays["nights"]["day"] != NEVER
    for name in ("day", "start_ms", "mnf_m3h"):
        nights[name][known] = arrays["nights"][name][known]
    loggers, covariances = new_loggers(max(len(like["loggers"]) - 1, 0))
    newer = {"nights": nights, "night_level": new_night_level(), "calibrations": calibrations}
    newer |= {"loggers": loggers, "logger_cov": covariances}
    for table in ("events", "faults"):
        newer[table] = no_events(len(arrays[table]))
        _take_events(newer[table], arrays[table])
        newer[table]["usual_m3h"] = newer[table]["recent_m3h"]
    return {**arrays, **newer}


def _from_format_3(arrays: dict[str, NDArray[Any]], dma: str) -> dict[str, NDArray[Any]]:
    """With the events of meters apart from the others, and meters that have not been watched yet."""
    meters = len(arrays["channels"])
    events, faults = np.zeros(MAX_EVENTS, EVENT_4), np.zeros(meters + 1, EVENT_4)
    faults["type"] = -1
    for name in EVENT_3.names or ():
        events[name] = arrays["events"][name]
    for event in events[events["type"] == METER_FAULT_3]:
        if not 0 <= event["channel"] < meters:
            raise ValueError(f"state of {dma!r}: found readings or events of meters that it does not have")
        faults[event["channel"]] = event
    faults["cause"] = np.where(faults["type"] == METER_FAULT_3, STUCK_3, 0)
    of_meters = events["type"] == METER_FAULT_3
    events[of_meters] = np.zeros(1, EVENT_4)
    events["type"][of_meters] = -1
    fresh = {
        "use": new_use(len(arrays["customers"])),
        "judged_day": np.full(1, NEVER, np.int64),
        "watch": new_watch(meters),
        "clocks": new_clocks(meters),
    }
    return {**arrays, **fresh, "events": events, "faults": faults}


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
