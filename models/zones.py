"""A time zone as arrays: when its offset changes. Kernels look local time up in them; nothing here reads a clock."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from models.calendar import FIRST_YEAR, LAST_YEAR


@functools.cache
def utc_offsets_s(
    timezone: str, first_year: int = FIRST_YEAR, last_year: int = LAST_YEAR
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """When the zone's offset changes (epoch ms, ascending) and the offset from then on (s).

    The first entry stands for all earlier time. Kernels look local time up here, so nights follow the zone, not UTC.
    """
    zone = ZoneInfo(timezone)
    hour = timedelta(hours=1)

    def offset_s(moment: datetime) -> int:
        shift = moment.astimezone(zone).utcoffset()
        return int(shift.total_seconds()) if shift is not None else 0

    moment, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year, 1, 1, tzinfo=UTC)
    changes, offsets = [np.iinfo(np.int64).min // 2], [offset_s(moment)]
    while moment < end:
        following = moment + timedelta(days=7)
        if offset_s(following) != offsets[-1]:
            while offset_s(moment + hour) == offsets[-1]:
                moment += hour
            moment += hour
            changes.append(int(moment.timestamp() * 1000))
            offsets.append(offset_s(moment))
        else:
            moment = following
    return np.array(changes, np.int64), np.array(offsets, np.int64)


def clock_change_days(timezone: str) -> list[int]:
    """Local days (since 1970-01-01) on which the zone's offset changes."""
    changes, offsets = utc_offsets_s(timezone)
    return [int(day) for day in (changes[1:] + offsets[1:] * 1000) // 86_400_000]
