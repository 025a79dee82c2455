"""States of older formats: what their arrays were like, and how they become today's."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.profile import CAUTIOUS, MEMORY_WEEKS, PHASE_HOURS, SETTLED, WARMING
from models.schema import NEVER
from models.state import CHANNEL, CUSTOMER

NEW_IN_4: Final = {
    "row": ("phase", "phase_ms", "learned_hours"),
    "series": ("usual", "level", "band", "unrest", "widths", "width_hours"),
    "nights": ("weekday",),
    "calibrations": ("law",),
    "events": ("learned_days",),
}
"""Fields that format 3 did not have, by array."""


def _without(dtype: np.dtype[Any], names: tuple[str, ...]) -> np.dtype[Any]:
    """The packed dtype without these fields."""
    return np.dtype([(name, dtype[name]) for name in dtype.names or () if name not in names])


def as_of_format(number: int, like: dict[str, NDArray[Any]], is_customer: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Empty arrays of the dtypes and shapes that `like`, today's, had in an older format; `like` itself for today's."""
    if number >= 4:
        return like
    then = {
        name: np.zeros(array.shape, _without(array.dtype, NEW_IN_4.get(name, ()))) if array.dtype.names else array
        for name, array in like.items()
    }
    if number == 2:
        del then["customers"]
        then["channels"], then["heard"] = np.zeros(len(is_customer), CHANNEL), np.zeros((1, len(is_customer)), np.int64)
    return then


def from_format_3(arrays: dict[str, NDArray[Any]], now: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """With what a fresh state (`now`) has where format 3 had nothing, and the past that its profile had learned from."""
    out = dict(arrays)
    for name in NEW_IN_4:
        out[name] = np.zeros(arrays[name].shape, now[name].dtype)
        for field in arrays[name].dtype.names or ():
            out[name][field] = arrays[name][field]
    for field in ("band", "unrest", "widths", "width_hours"):
        out["series"][field] = now["series"][field]
    out["calibrations"]["law"] = now["calibrations"]["law"]
    out["nights"]["weekday"] = (arrays["nights"]["day"] + 3) % 7
    weeks = arrays["weeks"][0]
    hours = float(weeks.sum()) * 168.0 / len(weeks)
    row = out["row"]
    row["learned_hours"] = hours
    row["phase"] = WARMING if hours < PHASE_HOURS[0] else CAUTIOUS if hours < PHASE_HOURS[1] else SETTLED
    row["phase_ms"] = row["frontier_ms"] if row["started"][0] else NEVER
    out["events"]["learned_days"] = min(hours / 24.0, 7.0 * MEMORY_WEEKS)
    return out


def from_format_2(arrays: dict[str, NDArray[Any]], dma: str, is_customer: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
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
