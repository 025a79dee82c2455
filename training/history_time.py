"""Timestamps of history files: text to epoch milliseconds, local time to UTC.

Accepted: ISO 8601 with a blank or `T` between date and time, with or without seconds and offset, and epoch
milliseconds, from 1990 to 2100. An aware time is taken as it is. A naive one is local time of the site:

- a time that does not exist (the hour skipped in spring) is moved forward by the size of the jump, 02:30 to 03:30;
- a time that exists twice (the hour repeated in autumn) is the first of the two, summer time, until the file itself
  steps back or repeats a time of that hour; from there on it is the second. A file with the hour once keeps the first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.wire import FIRST_MS, LAST_MS
from models.zones import utc_offsets_s

NO_TIME: Final = np.iinfo(np.int64).min
"""Stands for a timestamp that could not be read."""

_EPOCH_MS: Final = re.compile(r"[0-9]{11,16}")  # 11 digits: 1973 and later
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LocalClock:
    """Naive local times of one file, in file order, to UTC. Remembers where the file is inside a repeated hour."""

    def __init__(self, timezone: str) -> None:
        changes, offsets = utc_offsets_s(timezone)
        old, new = offsets[:-1] * 1000, offsets[1:] * 1000
        self._offsets_ms = offsets * 1000
        # until this local time the old offset holds, also through a skipped or the first pass of a repeated hour
        self._local_change = changes[1:] + np.maximum(old, new)
        back = new < old
        self._repeat_start = changes[1:][back] + new[back]
        self._repeat_end = changes[1:][back] + old[back]
        self._repeat_ms = (old - new)[back]
        self._passes: dict[tuple[int, int], tuple[int, bool]] = {}

    def to_utc(self, local_ms: NDArray[np.int64], meter: NDArray[np.int32] | None = None) -> NDArray[np.int64]:
        """UTC of local times, both epoch ms.

        `meter` (same length) tells whose times they are where a file mixes meters: each has its own repeated hour.
        """
        utc = local_ms - self._offsets_ms[np.searchsorted(self._local_change, local_ms, side="right")]
        if not self._repeat_start.size:
            return utc
        which = np.searchsorted(self._repeat_start, local_ms, side="right") - 1
        repeated = np.flatnonzero((which >= 0) & (local_ms < self._repeat_end[which]))
        for row in repeated:  # two hours a year: a Python loop is fine
            key = (int(which[row]), -1 if meter is None else int(meter[row]))
            last, second = self._passes.get(key, (NO_TIME, False))
            now = int(local_ms[row])
            second = second or now <= last
            self._passes[key] = (now, second)
            if second:
                utc[row] += self._repeat_ms[key[0]]
        return utc


def parse_times(
    column: pa.Array, clock: LocalClock, meter: NDArray[np.int32] | None = None, pattern: str | None = None
) -> NDArray[np.int64]:
    """Epoch ms UTC of a column of text, integers (epoch ms) or timestamps; NO_TIME where it cannot be read.

    As on the wire, a time before 1990 or after 2100 is none. `pattern` (strptime) replaces ISO 8601 for text.
    """
    times = _parse(column, clock, meter, pattern)
    return np.where((times >= FIRST_MS) & (times <= LAST_MS), times, NO_TIME)


def _parse(column: pa.Array, clock: LocalClock, meter: NDArray[np.int32] | None, pattern: str | None) -> NDArray[np.int64]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = _to_ms(column.cast(pa.timestamp("ms", getattr(kind, "tz", None)), safe=False))
        return times if getattr(kind, "tz", None) else _naive(times, clock, meter)
    if pa.types.is_integer(kind):
        return _to_ms(column.cast(pa.int64(), safe=False))
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return np.full(len(column), NO_TIME)
    column = pc.utf8_trim_whitespace(column)
    if pattern is None:
        for zone in (None, "UTC"):
            try:
                times = _to_ms(column.cast(pa.timestamp("ms", zone)))
            except pa.ArrowInvalid:
                continue
            return times if zone else _naive(times, clock, meter)
    return _one_by_one(column.to_pylist(), clock, meter, pattern)


def _to_ms(column: pa.Array) -> NDArray[np.int64]:
    whole = column.cast(pa.int64())
    return pc.fill_null(whole, NO_TIME).to_numpy(zero_copy_only=False)


def _naive(times: NDArray[np.int64], clock: LocalClock, meter: NDArray[np.int32] | None) -> NDArray[np.int64]:
    unread = times == NO_TIME
    if not unread.any():
        return clock.to_utc(times, meter)
    out = np.full(times.size, NO_TIME)
    out[~unread] = clock.to_utc(times[~unread], None if meter is None else meter[~unread])
    return out


def _one_by_one(
    texts: Sequence[str | None], clock: LocalClock, meter: NDArray[np.int32] | None, pattern: str | None
) -> NDArray[np.int64]:
    """A column where forms are mixed or some cannot be read."""
    times = np.full(len(texts), NO_TIME)
    naive = np.zeros(len(texts), bool)
    for row, text in enumerate(texts):
        if not text:
            continue
        if pattern is None and _EPOCH_MS.fullmatch(text):
            times[row] = int(text)
            continue
        try:
            moment = datetime.strptime(text, pattern) if pattern else datetime.fromisoformat(text)  # noqa: DTZ007
        except ValueError:
            continue
        naive[row] = moment.tzinfo is None
        delta = moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH
        times[row] = delta.days * 86_400_000 + delta.seconds * 1000 + delta.microseconds // 1000
    where = np.flatnonzero(naive)
    times[where] = clock.to_utc(times[where], None if meter is None else meter[where])
    return times
