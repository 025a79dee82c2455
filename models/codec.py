"""Payloads of `readings.raw.v1` -> one READING array, and one clear reason for each payload that is not all good.

A payload is a single reading, an array of them, a SenML pack, or columns of one meter (schema.ColumnarReadings).
Nothing a payload contains makes `Decoder.decode` raise.

What is plainly good is scanned (scan.py), some 50 ns a reading; every other payload is parsed by msgspec, some 500 ns, which
alone knows what is wrong with one. Payloads are parsed one by one: joining them into one array was measured on 2026-11-23 at
175 ns against 183 ns per reading for 500 payloads and 344 against 187 for 5,000, and a payload could then run over into its
neighbour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import senml
from models.heads import FACTOR, HIGH, KIND, LOW, PAIR_BITS, PAIR_MASK, VOLUME, Heads
from models.network import Site
from models.scan import Scanner, merged
from models.schema import BAD, FLOW, GOOD, KINDS, READING, UNCERTAIN, UNITS, Readings, value_fault
from models.wire import (
    COLUMNS,
    FOREIGN,
    LIST,
    LOOSE,
    MOST,
    NO_TIME,
    SINGLE,
    SINGLES,
    Columns,
    Loose,
    Single,
    Times,
    decoded,
    field_fault,
    malformed,
    shown,
    time_fault,
)
from models.words import Bytes

_QUALITY_CODE: Final = {"good": GOOD, "uncertain": UNCERTAIN, "bad": BAD}
_TIMES_KEPT: Final = 1 << 16
_HEADS_KEPT: Final = 1 << 21


@dataclass(frozen=True, slots=True)
class Reject:
    """Why a payload, or a part of it, was refused. `message` is its index. Readings of a batch count from 0."""

    message: int
    reason: str


@dataclass(frozen=True)
class Decoded:
    """READING array (n,) in order of arrival, the payload index of each reading (n,), ascending, and the rejects."""

    readings: Readings
    message: NDArray[np.int32]
    rejects: list[Reject]


@dataclass
class _Block:
    """What one call of `parse` has found so far."""

    singles: list[Single] = field(default_factory=list)
    message: list[int] = field(default_factory=list)  # of each single: its payload
    element: list[int] = field(default_factory=list)  # of each single: its place in the payload, -1 when it is alone
    columns: list[tuple[int, Columns, int]] = field(default_factory=list)  # payload, columns, code of the head
    whole: list[Reject] = field(default_factory=list)  # payloads of which nothing can be used
    parts: dict[int, list[tuple[int, str, int]]] = field(default_factory=dict)  # payload -> a bad element, why, how many are
    total: dict[int, int] = field(default_factory=dict)  # payload -> its number of elements

    def add_batch(self, message: int, found: Sequence[Single | str | None]) -> None:
        """Readings of one payload in order; text is the reason why there is none, None a gap."""
        self.total[message] = len(found)
        for element, one in enumerate(found):
            if isinstance(one, str):
                self.fault(message, element, one)
            elif one is not None:
                self.singles.append(one)
                self.message.append(message)
                self.element.append(element)

    def fault(self, message: int, element: int, reason: str, count: int = 1) -> None:
        """A bad element, the first of `count`, or a bad single reading."""
        if element < 0:
            self.whole.append(Reject(message, reason))
        else:
            self.parts.setdefault(message, []).append((element, reason, count))

    def rejects(self) -> list[Reject]:
        """One per payload, in order."""
        found = list(self.whole)
        for message, faults in self.parts.items():
            element, reason, _ = min(faults)
            of = f"{sum(count for _, _, count in faults)} of {self.total[message]} readings rejected"
            found.append(Reject(message, f"reading {element}: {reason}; {of}"))
        return sorted(found, key=lambda reject: reject.message)


class Decoder:
    """Decodes the readings of one site. Keeps only caches, so two decoders of one site give the same answers."""

    def __init__(self, site: Site) -> None:
        self._scanner = Scanner(site)
        self._heads = Heads(site)
        self._times = Times()
        self.parsed = 0
        """Payloads that the scanner left to msgspec, since the start."""

    def decode(self, payloads: Sequence[bytes | None]) -> Decoded:
        """Readings of all payloads; good readings of a partly bad batch are kept. Never raises for what it is given."""
        nulls = [number for number, payload in enumerate(payloads) if payload is None]
        whole = [payload or b"" for payload in payloads]
        size = np.fromiter(map(len, whole), np.int64, len(whole))
        at = np.cumsum(size) - size
        size[nulls] = -1
        return self.decode_spans(np.frombuffer(b"".join(whole), np.uint8), at, size)

    def decode_spans(self, data: Bytes, at: NDArray[np.int64], size: NDArray[np.int64]) -> Decoded:
        """As `decode`, of payloads that lie in `data` (bytes,) uint8: `at` and `size` (n,), a size of -1 is null."""
        readings, message, left = self._scanner.scan(data, at, size)
        if not len(left):
            return Decoded(readings, message, [])
        self.parsed += len(left)
        bytes_of, spans = data.data, zip(at[left].tolist(), size[left].tolist(), strict=True)
        parsed = self.parse([None if n < 0 else bytes_of[begin : begin + n].tobytes() for begin, n in spans], left)
        if not len(readings):
            return parsed
        return Decoded(*merged(readings, message, parsed.readings, parsed.message), parsed.rejects)

    def parse(self, payloads: Sequence[bytes | None], numbers: NDArray[np.int32] | None = None) -> Decoded:
        """As `decode`, by msgspec alone, which reads whatever may come and says what is wrong with it.

        `numbers` (n,), ascending, are the indices of the payloads, where they are not all there are.
        """
        if len(self._times) > _TIMES_KEPT:
            self._times.clear()
        if len(self._heads) > _HEADS_KEPT:
            self._heads.clear()
        block = _Block()
        decode, singles, messages, elements = SINGLES.decode, block.singles, block.message, block.element
        for number, payload in zip(range(len(payloads)) if numbers is None else numbers.tolist(), payloads, strict=True):
            try:
                found = decode(payload)  # type: ignore[arg-type] # None raises TypeError
            except (*FOREIGN, TypeError):
                self._recover(block, number, payload)
                continue
            if found.__class__ is Single:
                singles.append(found)
                messages.append(number)
                elements.append(-1)
            else:
                singles += found
                messages += [number] * len(found)
                elements += range(len(found))
                block.total[number] = len(found)
        readings, message = self._single_rows(block)
        if block.columns:
            more, more_message = self._column_rows(block)
            readings, message = np.concatenate((readings, more)), np.concatenate((message, more_message))
            order = np.argsort(message, kind="stable")  # a payload is either columns or singles, so this is arrival order
            readings, message = readings[order], message[order]
        return Decoded(readings, message, block.rejects())

    def _recover(self, block: _Block, number: int, payload: bytes | None) -> None:
        """A payload that is not simply a reading or an array of readings."""
        if payload is None:
            block.whole.append(Reject(number, "value is null (tombstone); possible: a reading"))
            return
        try:
            self._add_columns(block, number, COLUMNS.decode(payload))
            return
        except FOREIGN:
            pass
        elements = None
        try:
            bytes(payload).decode()
            elements = LIST.decode(payload)
        except (UnicodeDecodeError, RecursionError) as error:
            block.whole.append(Reject(number, malformed(payload, error)))
            return
        except FOREIGN:
            pass
        if elements is not None:
            if len(elements) > MOST:
                block.whole.append(Reject(number, f"found an array of {len(elements)}; possible: at most {MOST} readings"))
            elif senml.is_pack(elements):
                block.add_batch(number, senml.resolve(elements, self._heads.meter_kind))
            else:
                block.add_batch(number, [_one(element) for element in elements])
            return
        try:
            fields = LOOSE.decode(payload)
        except FOREIGN as error:
            block.whole.append(Reject(number, malformed(payload, error)))
            return
        if bytes(fields.observed_at)[:1] == b"[" or bytes(fields.value)[:1] == b"[":
            self._add_loose_columns(block, number, fields)
        else:
            block.whole.append(Reject(number, field_fault(fields) or _TWICE))

    def _add_columns(self, block: _Block, number: int, columns: Columns) -> None:
        fault = self._heads.fault(columns.meter_id, columns.kind, columns.unit)
        if fault is None and columns.kind == "volume" and columns.interval_seconds is None:
            fault = _NO_INTERVAL
        if fault is None:
            quality = columns.quality
            fault = _length_fault(
                len(columns.observed_at), len(columns.value), None if isinstance(quality, str) else len(quality)
            )
        if fault is not None:
            block.whole.append(Reject(number, fault))
            return
        block.total[number] = len(columns.value)
        code = self._heads[columns.meter_id, columns.kind, columns.unit]
        block.columns.append((number, columns, code))

    def _add_loose_columns(self, block: _Block, number: int, fields: Loose) -> None:
        """Columns of which some entry, or a field of the whole, does not decode: entry by entry."""
        listed = bytes(fields.quality)[:1] == b"["
        skip = ("observed_at", "value", "quality") if listed else ("observed_at", "value")
        fault = field_fault(fields, skip)
        try:
            times, values = LIST.decode(fields.observed_at), LIST.decode(fields.value)
            qualities = LIST.decode(fields.quality) if listed else None
        except FOREIGN:
            fault = fault or "observedAt and value: found only one list; possible: two lists of the same length"
        else:
            fault = fault or _length_fault(len(times), len(values), None if qualities is None else len(qualities))
        if fault is not None:
            block.whole.append(Reject(number, fault))
            return
        # decoded once: an id of a megabyte in front of 100,000 entries took minutes
        head = decoded(fields, _HEAD if listed else (*_HEAD, "quality"))
        fault = self._heads.fault(head["meter_id"], head["kind"], head["unit"])
        if fault is not None:
            block.whole.append(Reject(number, fault))
            return
        found: list[Single | str | None] = []
        for entry, (time, value) in enumerate(zip(times, values, strict=True)):
            fields.observed_at, fields.value = time, value
            if qualities is not None:
                fields.quality = qualities[entry]
            if bytes(value) == b"null":
                found.append(None)
            else:
                found.append(field_fault(fields, _HEAD) or Single(**head, **decoded(fields, skip)))
        block.add_batch(number, found)

    def _single_rows(self, block: _Block) -> tuple[Readings, NDArray[np.int32]]:
        singles = block.singles
        count = len(singles)
        heads = zip(
            [one.meter_id for one in singles], [one.kind for one in singles], [one.unit for one in singles], strict=True
        )
        code = np.fromiter(map(self._heads.__getitem__, heads), np.int64, count)
        time_ms = self._times.all_ms([one.observed_at for one in singles], count)
        value = np.fromiter([one.value for one in singles], np.float64, count)
        quality = np.fromiter([_QUALITY_CODE[one.quality] for one in singles], np.uint8, count)
        interval_s = np.full(count, np.nan)
        for at in np.flatnonzero(VOLUME[code & PAIR_MASK]).tolist():
            interval_s[at] = singles[at].interval_seconds or np.nan
        readings, good = _rows(code, time_ms, value, quality, interval_s)
        message = np.array(block.message, np.int32)
        if good.all():
            return readings, message
        for at, count in _first_of_each(message, ~good):
            block.fault(block.message[at], block.element[at], self._fault(singles[at]), count)
        return readings[good], message[good]

    def _column_rows(self, block: _Block) -> tuple[Readings, NDArray[np.int32]]:
        """All columnar payloads at once: one flat row for every entry, gaps dropped at the end."""
        columns = [one for _, one, _ in block.columns]
        lengths = np.array([len(one.value) for one in columns], np.int64)
        count = int(lengths.sum())
        time_ms = self._times.all_ms(chain.from_iterable(one.observed_at for one in columns), count)
        value = np.array(list(chain.from_iterable(one.value for one in columns)), np.float64)  # None becomes NaN
        code = np.repeat(np.array([code for _, _, code in block.columns], np.int64), lengths)
        message = np.repeat(np.array([number for number, _, _ in block.columns], np.int32), lengths)
        interval_s = np.repeat(np.array([one.interval_seconds or np.nan for one in columns]), lengths)
        qualities = chain.from_iterable(_quality_codes(one) for one in columns)
        quality = np.fromiter(qualities, np.uint8, count)
        gap = np.isnan(value)
        readings, good = _rows(code, time_ms, value, quality, interval_s)
        start = dict(zip([number for number, _, _ in block.columns], (np.cumsum(lengths) - lengths).tolist(), strict=True))
        entries = {number: one for number, one, _ in block.columns}
        for at, count in _first_of_each(message, ~good & ~gap):
            number = int(message[at])
            entry = at - start[number]
            block.fault(number, entry, self._fault(_entry(entries[number], entry)), count)
        return readings[good], message[good]

    def _fault(self, one: Single) -> str:
        """Why a reading that decoded cannot be used."""
        head = self._heads.fault(one.meter_id, one.kind, one.unit)
        if head is not None:
            return head
        if isinstance(one.observed_at, str) and self._times[one.observed_at] == NO_TIME:
            return time_fault(one.observed_at)
        if one.kind == "volume" and one.interval_seconds is None:
            return _NO_INTERVAL
        per_hour = 1.0 if one.interval_seconds is None or one.kind != "volume" else 3600.0 / one.interval_seconds
        engine = one.value * UNITS[one.kind][one.unit] * per_hour
        return value_fault(FLOW if one.kind == "volume" else KINDS.index(one.kind), one.value, one.unit, engine)


# every field decodes by itself, taken at its last occurrence, and yet the whole does not
_TWICE: Final = "a key is there twice, once with a value it may not have; possible: each key once"
_HEAD: Final = ("meter_id", "kind", "unit", "interval_seconds")
_NO_INTERVAL: Final = "kind 'volume': key 'intervalSeconds' is missing; possible: whole seconds from 1 to 2678400"


def _rows(
    code: NDArray[np.int64],
    time_ms: NDArray[np.int64],
    value: NDArray[np.float64],
    quality: NDArray[np.uint8],
    interval_s: NDArray[np.float64],
) -> tuple[Readings, NDArray[np.bool_]]:
    """READING array (n,) in the engine's units, and which of its rows are good: `to_engine_value` in bulk."""
    pair = code & PAIR_MASK
    readings = np.empty(len(code), READING)
    with np.errstate(over="ignore", invalid="ignore"):
        engine = value * FACTOR[pair]
        volume = VOLUME[pair]
        if volume.any():
            engine[volume] = engine[volume] * 3600.0 / interval_s[volume]
    readings["time_ms"] = time_ms
    readings["value"] = engine
    readings["meter"] = code >> PAIR_BITS
    readings["kind"] = KIND[pair]
    readings["quality"] = quality
    # both are false for NaN: a gap, or an unknown meter, kind or unit, whose factor is NaN
    return readings, (engine >= LOW[pair]) & (engine <= HIGH[pair]) & (time_ms != NO_TIME)


def _first_of_each(message: NDArray[np.int32], bad: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Of each payload with bad rows the first of these, and how many there are; only that one is said."""
    rows = np.flatnonzero(bad)
    _, first, count = np.unique(message[rows], return_index=True, return_counts=True)
    return list(zip(rows[first].tolist(), count.tolist(), strict=True))


def _one(element: msgspec.Raw) -> Single | str:
    """An element of an array, or why it is none."""
    try:
        return SINGLE.decode(element)
    except FOREIGN:
        pass
    try:
        fields = LOOSE.decode(element)
    except FOREIGN:
        return f"found {shown(element)}; possible: a reading"
    return field_fault(fields) or _TWICE


def _length_fault(times: int, values: int, qualities: int | None) -> str | None:
    if max(times, values) > MOST:
        return f"found columns of {max(times, values)}; possible: at most {MOST} readings"
    if times == values and qualities in (None, values):
        return None
    found = f"{times} observedAt, {values} value" + ("" if qualities is None else f", {qualities} quality")
    return f"columns differ in length: found {found}; possible: the same number of each"


def _quality_codes(columns: Columns) -> Iterable[int]:
    if isinstance(columns.quality, str):
        return [_QUALITY_CODE[columns.quality]] * len(columns.value)
    return [_QUALITY_CODE[one] for one in columns.quality]


def _entry(columns: Columns, entry: int) -> Single:
    """One entry of columns as a reading of its own."""
    quality = columns.quality if isinstance(columns.quality, str) else columns.quality[entry]
    value = columns.value[entry]
    return Single(
        meter_id=columns.meter_id,
        kind=columns.kind,
        value=np.nan if value is None else value,
        unit=columns.unit,
        observed_at=columns.observed_at[entry],
        interval_seconds=columns.interval_seconds,
        quality=quality,
    )
