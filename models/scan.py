"""Plainly good payloads of `readings.raw.v1` -> READING rows in one compiled pass; all others are left to msgspec.

A payload is either read here exactly as `Decoder.parse` reads it, or left to that as a whole: whatever is unknown, missing,
there twice, out of range, nested, escaped or oddly spelt. So there are no reasons here, and no other rules than in wire.py.
Keys may come in any order, with any white space, and keys that nobody asked for are passed over.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.heads import FACTOR, FITS, HIGH, KIND, LOW, PAIRS, VOLUME
from models.meter_index import CONFIGURED, MeterIndex, configured_of, meter_at, row_of
from models.network import Site
from models.scan_text import (
    COLON,
    QUOTE,
    blank,
    is_null,
    moment,
    number,
    quality_text,
    short_text,
    skip_scalar,
    skip_text,
    whole_number,
)
from models.schema import READING, Readings, Record, Records
from models.wire import FIRST_MS, LAST_MS, MAX_INTERVAL_S, MOST
from models.words import Bytes, inner, octet, reading_at, word, word_of

_LEAST_PAYLOAD: Final = 8
"""Bytes of a text for `word`; no reading is so short."""
_ROW: Final = READING.itemsize
_LEAST_BYTES: Final = len("631152000000,1,")
"""Of an entry of columns, which is the shortest reading."""

_COMMA, _OPEN, _CLOSE, _BEGIN, _END = b",[]{}"
_METER, _KIND, _VALUE, _UNIT, _OBSERVED, _INTERVAL, _QUALITY, _OTHER = range(8)
_NEEDED: Final = 1 << _METER | 1 << _KIND | 1 << _VALUE | 1 << _UNIT | 1 << _OBSERVED

_FOUND: Final = np.dtype(
    [
        ("slots", "<i8"),  # address of the meter index's slots
        ("slot_count", "<i8"),
        ("entries", "<i8"),  # address of its entries
        # of the object that is being read
        ("meter", "<i8"),  # address of the entry
        ("kind", "<u8"),  # as `short_text` gives it
        ("unit", "<u8"),
        ("interval_s", "<i8"),  # 0 where there is none
        ("quality", "<i8"),
        ("times", "<i8"),  # entries of the list, -1 where there is none
        ("values", "<i8"),
        ("qualities", "<i8"),
        # what was worked out before, and comes again
        ("last_kind", "<u8"),
        ("last_unit", "<u8"),
        ("pair", "<i8"),  # of these, -1 where they do not go together
        ("year_month", "<u8"),  # bytes of a date
        ("day", "<u8"),
        ("midnight_ms", "<i8"),  # of it
    ]
)
"""What is known while a block is read; one record."""

_METER_ID, _OBSERVED_, _INTERVAL_, _SECONDS = map(word_of, (b'meterId"', b"observed", b"interval", b'Seconds"'))
_QUALITY_: Final = word_of(b'quality"')
_KIND_, _UNIT_, _VALUE_, _AT = map(word_of, (b'kind"', b'unit"', b'value"', b'At"'))
_3, _5, _6 = (np.uint64((1 << 8 * size) - 1) for size in (3, 5, 6))


def _short(texts: list[str]) -> NDArray[np.uint64]:
    """As `short_text` gives them."""
    assert max(map(len, texts)) <= 8  # noqa: S101 - or no payload of it would ever be taken
    return np.array([word_of(f'{text}"'.encode()[:8]) for text in texts], np.uint64)


_KINDS: Final = _short([kind for kind, _ in PAIRS])
_UNITS: Final = _short([unit for _, unit in PAIRS])
_FITS: Final = np.array([[kind in FITS[configured] for kind, _ in PAIRS] for configured in CONFIGURED])


class Scanner:
    """Reads the plainly good payloads of one site."""

    def __init__(self, site: Site) -> None:
        self._index = MeterIndex.of(site.meters)

    def scan(
        self, data: Bytes, at: NDArray[np.int64], size: NDArray[np.int64]
    ) -> tuple[Readings, NDArray[np.int32], NDArray[np.int32]]:
        """READING rows (m,) in order of arrival, the payload of each (m,), ascending, and the payloads that were left (k,).

        `data` (bytes,) uint8; `at`, `size` (n,): where each payload lies in it; a size of -1 is null.
        """
        data = np.ascontiguousarray(data, np.uint8)
        at, size = np.ascontiguousarray(at, np.int64), np.ascontiguousarray(size, np.int64)
        most = len(size) + int(np.maximum(size, 0).sum()) // _LEAST_BYTES
        rows, message, left = np.empty(most, READING), np.empty(most, np.int32), np.empty(len(size), np.int32)
        found = np.zeros(1, _FOUND)
        found["pair"] = -1
        slots, entries = self._index
        found["slots"], found["slot_count"], found["entries"] = slots.ctypes.data, len(slots), entries.ctypes.data
        taken, others = _scan(data.ctypes.data, len(data), at, size, found, rows, message, left)
        return rows[:taken], message[:taken], left[:others]  # what lies behind was reserved, and never touched


def warm_up(site: Site) -> None:
    """Compiles the scanner; the first block would wait for it, and the group for the block."""
    nothing = np.zeros(0, np.int64)
    rows, message, _ = Scanner(site).scan(np.zeros(0, np.uint8), nothing, nothing)
    merged(rows, message, rows, message)


def merged(
    rows: Readings, message: NDArray[np.int32], others: Readings, of_others: NDArray[np.int32]
) -> tuple[Readings, NDArray[np.int32]]:
    """READING rows (n,) and (m,) of different payloads as one array in order of arrival, and the payload of each."""
    whole = np.empty(len(rows) + len(others), READING), np.empty(len(rows) + len(others), np.int32)
    _merge(rows, message, others, of_others, *whole)
    return whole


@njit(cache=True)
def _merge(
    rows: Records,
    message: NDArray[np.int32],
    others: Records,
    of_others: NDArray[np.int32],
    into: Records,
    of_into: NDArray[np.int32],
) -> None:
    """Two ascending runs into one. numpy's sort and gather took 70 ns a row where one payload in a hundred is parsed."""
    i = j = 0
    for k in range(of_into.shape[0]):
        if j == of_others.shape[0] or (i < message.shape[0] and message[i] < of_others[j]):
            into[k], of_into[k] = rows[i], message[i]
            i += 1
        else:
            into[k], of_into[k] = others[j], of_others[j]
            j += 1


@njit(cache=True)
def _scan(
    data: int,
    length: int,
    at: NDArray[np.int64],
    size: NDArray[np.int64],
    found: Records,
    rows: Records,
    message: NDArray[np.int32],
    left: NDArray[np.int32],
) -> tuple[int, int]:
    """Fills `rows`, `message` and `left`; how many of them it filled. `data` is the address of `length` bytes."""
    begin = rows.ctypes.data
    taken = others = 0
    for k in range(size.shape[0]):
        count = -1
        if size[k] >= _LEAST_PAYLOAD and 0 <= at[k] <= length - size[k]:
            row = begin + _ROW * taken
            room = row + _ROW * (1 + size[k] // _LEAST_BYTES)
            count = _payload(data + at[k], data + at[k] + size[k], found[0], row, room)
        if count < 0:
            left[others] = k
            others += 1
            continue
        for _ in range(count):
            message[taken] = k
            taken += 1
    return taken, others


@inner
def _payload(at: int, stop: int, found: Record, row: int, room: int) -> int:
    """How many readings a payload has, written from the address `row` on; -1 where it is left.

    Nothing from the address `room` on is touched.
    """
    at = blank(at, stop)
    alone = octet(at, stop) == _BEGIN
    if not alone:
        if octet(at, stop) != _OPEN:
            return -1
        at = blank(at + 1, stop)
        if octet(at, stop) == _CLOSE:
            return 0 if blank(at + 1, stop) == stop else -1
    total = 0
    while octet(at, stop) == _BEGIN and row < room:
        at = _object(at + 1, stop, found, row, room)
        if at < 0:
            return -1
        count = _entries(found)
        if count < 0 or (found["values"] >= 0 and not alone):
            return -1
        count = _finish(row, count, found)
        if count < 0:
            return -1
        total += count
        row += _ROW
        at = blank(at, stop)
        if alone:
            return total if at == stop else -1
        after = octet(at, stop)
        at = blank(at + 1, stop)
        if after == _CLOSE:
            return total if at == stop else -1
        if after != _COMMA:
            return -1
    return -1


@inner
def _entries(found: Record) -> int:
    """Entries of an object: 1 of a single reading, those of columns, -1 of neither."""
    times, values, qualities = found["times"], found["values"], found["qualities"]
    if times != values or qualities not in (-1, values) or values > MOST:
        return -1
    return 1 if values < 0 else values


@inner
def _object(at: int, stop: int, found: Record, row: int, room: int) -> int:
    """Reads an object from behind its `{`; where it ends. Times, values and qualities go to rows from `row` on."""
    found["interval_s"] = found["quality"] = 0
    found["times"] = found["values"] = found["qualities"] = -1
    seen = 0
    at = blank(at, stop)
    while octet(at, stop) == QUOTE:
        key, at = _key(at + 1, stop)
        if at < 0:
            return -1
        at = blank(at, stop)
        if octet(at, stop) != COLON:
            return -1
        at = blank(at + 1, stop)
        if key == _OTHER:
            at = skip_scalar(at, stop)
        elif seen >> key & 1:
            return -1
        else:
            seen |= 1 << key
            if octet(at, stop) == _OPEN:
                at = _list(key, at + 1, stop, found, row, room)
            elif key in (_VALUE, _OBSERVED):
                at = _entry(key, at, stop, found, row)
            else:
                at = _head(key, at, stop, found)
        if at < 0:
            return -1
        at = blank(at, stop)
        after = octet(at, stop)
        at += 1
        if after == _END:
            return at if seen & _NEEDED == _NEEDED else -1
        if after != _COMMA:
            return -1
        at = blank(at, stop)
    return -1


@inner
def _key(at: int, stop: int) -> tuple[int, int]:
    """Which key stands behind a `"`, and where it ends."""
    text = word(at, stop)
    if text == _METER_ID:
        return _METER, at + 8
    if text & _5 == _KIND_:
        return _KIND, at + 5
    if text & _6 == _VALUE_:
        return _VALUE, at + 6
    if text & _5 == _UNIT_:
        return _UNIT, at + 5
    if text == _OBSERVED_ and word(at + 8, stop) & _3 == _AT:
        return _OBSERVED, at + 11
    if text == _QUALITY_:
        return _QUALITY, at + 8
    if text == _INTERVAL_ and word(at + 8, stop) == _SECONDS:
        return _INTERVAL, at + 16
    return _OTHER, skip_text(at, stop)


@inner
def _head(key: int, at: int, stop: int, found: Record) -> int:
    """Notes a field that all entries share; where it ends."""
    if key == _INTERVAL:
        if is_null(at, stop):
            return at + 4
        interval_s, at = whole_number(at, stop)
        found["interval_s"] = interval_s
        return at if 1 <= interval_s <= MAX_INTERVAL_S else -1
    if octet(at, stop) != QUOTE:
        return -1
    at += 1
    if key == _METER:
        entry, at = meter_at(at, stop, found["slots"], found["slot_count"], found["entries"])
        found["meter"] = entry
        return at + 1 if entry else -1
    if key == _QUALITY:
        quality, at = quality_text(at, stop)
        found["quality"] = quality
        return at
    text, at = short_text(at, stop)
    if key == _KIND:
        found["kind"] = text
    else:
        found["unit"] = text
    return at


@inner
def _entry(key: int, at: int, stop: int, found: Record, row: int) -> int:
    """Writes a time, a value or a quality into a row; where it ends."""
    if key == _VALUE:
        value, at = number(at, stop)
        reading_at(row)["value"] = value
        return at
    if key == _OBSERVED:
        if octet(at, stop) == QUOTE:
            time_ms, at = moment(at + 1, stop, found)
        else:
            time_ms, at = whole_number(at, stop)
        reading_at(row)["time_ms"] = time_ms
        return at if FIRST_MS <= time_ms <= LAST_MS else -1
    if octet(at, stop) != QUOTE:
        return -1
    quality, at = quality_text(at + 1, stop)
    reading_at(row)["quality"] = quality
    return at


@inner
def _list(key: int, at: int, stop: int, found: Record, row: int, room: int) -> int:
    """Writes a list from behind its `[` into the rows from `row` to `room`, a gap as NaN; where it ends."""
    if key not in (_VALUE, _OBSERVED, _QUALITY):
        return -1
    count = 0
    at = blank(at, stop)
    if octet(at, stop) != _CLOSE:
        while True:
            if row >= room:
                return -1
            if key == _VALUE and is_null(at, stop):
                reading_at(row)["value"] = np.nan
                at += 4
            else:
                at = _entry(key, at, stop, found, row)
            if at < 0:
                return -1
            count += 1
            row += _ROW
            at = blank(at, stop)
            if octet(at, stop) != _COMMA:
                break
            at = blank(at + 1, stop)
        if octet(at, stop) != _CLOSE:
            return -1
    if key == _VALUE:
        found["values"] = count
    elif key == _OBSERVED:
        found["times"] = count
    else:
        found["qualities"] = count
    return at + 1


@inner
def _pair(found: Record) -> int:
    """Number of the pair of kind and unit, -1 where there is none."""
    kind, unit = found["kind"], found["unit"]
    if found["pair"] < 0 or kind != found["last_kind"] or unit != found["last_unit"]:
        found["pair"], found["last_kind"], found["last_unit"] = -1, kind, unit
        for pair in range(_KINDS.shape[0]):
            if _KINDS[pair] == kind and _UNITS[pair] == unit:
                found["pair"] = pair
    return found["pair"]


@inner
def _finish(row: int, count: int, found: Record) -> int:
    """Values of `count` rows to the engine's unit, gaps taken out; how many rows are left, -1 if one is bad."""
    pair, entry = _pair(found), found["meter"]
    if pair < 0 or not _FITS[configured_of(entry), pair] or (VOLUME[pair] and found["interval_s"] == 0):
        return -1
    good, listed = 0, found["qualities"] >= 0
    for k in range(count):
        source, target = reading_at(row + _ROW * k), reading_at(row + _ROW * good)
        value = source["value"]
        if np.isnan(value):
            continue
        value *= FACTOR[pair]
        if VOLUME[pair]:
            value = value * 3600.0 / found["interval_s"]
        if not LOW[pair] <= value <= HIGH[pair]:
            return -1
        target["time_ms"], target["value"] = source["time_ms"], value
        target["meter"], target["kind"] = row_of(entry), KIND[pair]
        target["quality"] = source["quality"] if listed else found["quality"]
        good += 1
    return good
