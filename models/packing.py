"""Blocks of `readings.v1`: the readings of one DMA in bytes, and back.

    magic 4s | version u2 | 0 u2 | header length u4 | CRC32 of the body u4 | body = header, then the columns

All numbers little-endian. The header (MessagePack) names the DMA, the origin, the number of readings, the meter ids and
the source; the columns are time_ms i8, value f8, place in the header's meters i4, kind u1, quality u1, each of all
readings, and with a source the offset u4 of each reading's message, counted from the source's `base`. Meters go by id,
so a block outlives any change of the network.

Version 1 had no source; it is still read.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.heads import FITS
from models.network import Site
from models.schema import HIGHEST, KINDS, LOWEST, QUALITIES, READING, Readings
from models.wire import FIRST_MS, FOREIGN, LAST_MS, brief

MAGIC: Final = b"NLRB"
VERSION: Final = 2
READABLE: Final = (1, 2)

_PREFIX: Final = struct.Struct("<4sHHII")
_COLUMNS: Final = (("time_ms", "<i8"), ("value", "<f8"), ("meter", "<i4"), ("kind", "u1"), ("quality", "u1"))
_ROW_BYTES: Final = sum(np.dtype(form).itemsize for _, form in _COLUMNS)
_OFFSET: Final = np.dtype("<u4")

_SENDER: Final = {configured: number for number, configured in enumerate(FITS)}
_NO_SENDER: Final = len(_SENDER)
# (configured kind of a meter, any byte): may it send this kind of reading? The last row is for meters not in the site
_SENDS: Final = np.zeros((len(_SENDER) + 1, 256), bool)
for _configured, _kinds in FITS.items():
    _SENDS[_SENDER[_configured], [KINDS.index(kind) for kind in _kinds]] = True

Origin = Literal["live", "replay"]


_Offset = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Time = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]


class _Source(msgspec.Struct):
    partition: _Offset
    base: _Offset
    end: _Offset
    oldest_ms: _Time
    newest_ms: _Time


class _Header(msgspec.Struct):
    dma: str
    origin: Origin
    count: int
    meters: msgspec.Raw
    """Ids, as a list: the same few lists come again and again, so they are looked up whole (`_Listed`)."""
    source: _Source | None = None


_HEADER: Final = msgspec.msgpack.Decoder(_Header)
_IDS: Final = msgspec.msgpack.Decoder(list[str])
_ENCODER: Final = msgspec.msgpack.Encoder()
_LISTS_KEPT: Final = 4096
_BYTES_KEPT: Final = 32 << 20


@dataclass(frozen=True)
class Source:
    """The messages of one partition of the raw topic that the readings of a block came in.

    It lets a reader drop what it has had before: whoever sends a partition's readings again sends them in the same order.
    """

    partition: int
    end: int
    """Readings of all messages before this offset are in this block, or in one that was sent before."""
    oldest_ms: int
    newest_ms: int
    """Least and greatest timestamp of the messages."""
    offsets: NDArray[np.int64]
    """(n,) offset of each reading's message, ascending."""


@dataclass(frozen=True)
class Block:
    """Readings of one DMA, in order of arrival.

    `unknown` counts those left out: their meter is not in the site any more, or no longer of a kind that sends them, or
    value or time cannot be (a router before 2026-11-24 let them pass).
    """

    dma: str
    readings: Readings
    origin: Origin
    unknown: int
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class _Listed:
    """A header's list of meters, in terms of the site."""

    rows: NDArray[np.int32]
    """(n,) of the site's meter table, -1 where a meter is not in the site."""
    senders: NDArray[np.int64]
    """(n,) row of `_SENDS`."""


@dataclass(frozen=True)
class Named:
    """A block as it was packed, whatever site it was of: the `meter` of its readings is a place in `meters`.

    `unknown` counts readings left out: of a kind or quality of a later version, or with a value or time that cannot be.
    """

    dma: str
    origin: Origin
    meters: tuple[str, ...]
    readings: Readings
    unknown: int
    source: Source | None


def unpack_named(blob: bytes) -> Named:
    """The block of `Packing.pack`'s bytes without a site: an archive outlives changes of the network.

    Raises ValueError as `Packing.unpack` does.
    """
    header, begin = _open(blob)
    try:
        meters = tuple(_IDS.decode(header.meters))
    except FOREIGN as error:
        raise ValueError(f"block header cannot be read: {brief(error)}") from None
    readings, offsets = _columns_of(header, blob, begin)
    end = -1 if header.source is None else header.source.end
    if len(readings) and (strange := _places_outside(readings["meter"], len(meters))) is not None:
        possible = f"0 to {len(meters) - 1}" if meters else "none"
        raise ValueError(f"block names meter {strange}; possible: {possible}")
    if len(offsets) and ((np.diff(offsets) < 0).any() or offsets[-1] > end):
        raise ValueError(f"block names offsets out of order; possible: ascending, up to its end {end}")
    kind = np.minimum(readings["kind"], len(KINDS) - 1)
    keep = (readings["kind"] == kind) & (readings["quality"] < len(QUALITIES))
    keep &= (readings["time_ms"] >= FIRST_MS) & (readings["time_ms"] <= LAST_MS)
    keep &= (readings["value"] >= LOWEST[kind]) & (readings["value"] <= HIGHEST[kind])
    unknown = int(len(keep) - keep.sum())
    if unknown:
        readings = readings[keep]
        offsets = offsets[keep] if header.source is not None else offsets
    return Named(header.dma, header.origin, meters, readings, unknown, _source_of(header, offsets))


def _places_outside(places: NDArray[np.int32], count: int) -> int | None:
    outside = places[(places < 0) | (places >= count)]
    return int(outside[0]) if len(outside) else None


class Packing:
    """Packs and unpacks blocks of one site. Keeps only what it has looked up."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._of_dma: dict[str, tuple[NDArray[np.int32], msgspec.Raw]] = {}
        self._listed: dict[bytes, _Listed] = {}
        self._listed_bytes = 0

    # to bytes

    def pack(self, dma: str, readings: Readings, origin: str, source: Source | None = None) -> bytes:
        """The bytes of `readings`, a READING array (n,) with meter rows of the site. The same input gives the same bytes."""
        place, meters = self._places(dma, readings["meter"])
        header = _Header(dma, _origin(origin), len(readings), meters)
        columns = [(place if name == "meter" else readings[name]).astype(form).tobytes() for name, form in _COLUMNS]
        if source is not None:
            base = int(source.offsets[0]) if len(source.offsets) else source.end
            header.source = _Source(source.partition, base, source.end, source.oldest_ms, source.newest_ms)
            columns.append((source.offsets - base).astype(_OFFSET).tobytes())
        head = _ENCODER.encode(header)
        body = b"".join([head, *columns])
        return _PREFIX.pack(MAGIC, VERSION, 0, len(head), zlib.crc32(body)) + body

    def _places(self, dma: str, meter: NDArray[np.int32]) -> tuple[NDArray[np.int64], msgspec.Raw]:
        """(n,) place of each reading's meter in a list, and the list. All meters of a DMA where half or more report, so that
        it is the same list every time; else those that do."""
        known = self._of_dma.get(dma)
        if known is None:
            channels = np.array(self._site.channels(dma) if dma in self._site.dma_row else (), np.int32)
            known = self._of_dma[dma] = channels, self._ids(channels)
        channels, ids = known
        if 2 * len(meter) >= len(channels) > 0:
            place = np.minimum(np.searchsorted(channels, meter), len(channels) - 1)
            if (channels[place] == meter).all():
                return place, ids
        rows, place = np.unique(meter, return_inverse=True)
        return place, self._ids(rows)

    def _ids(self, rows: NDArray[np.int32]) -> msgspec.Raw:
        meters = self._site.meters
        return msgspec.Raw(_ENCODER.encode([meters[row].id for row in rows.tolist()]))

    # and back

    def unpack(self, blob: bytes) -> Block:
        """The block of `pack`'s bytes, with meter rows of the site.

        Raises ValueError, saying what was found and what was possible, for foreign or torn bytes and for another version.
        """
        header, begin = _open(blob)
        try:
            listed = self._looked_up(bytes(header.meters))
        except FOREIGN as error:
            raise ValueError(f"block header cannot be read: {brief(error)}") from None
        count = header.count
        readings, offsets = _columns_of(header, blob, begin)
        keep = np.empty(count, np.bool_)
        end = -1 if header.source is None else header.source.end
        kept, strange = know(readings, offsets, end, listed.rows, listed.senders, _SENDS, LOWEST, HIGHEST, keep)
        if kept == _STRANGE_METER:
            possible = f"0 to {len(listed.rows) - 1}" if len(listed.rows) else "none"
            raise ValueError(f"block names meter {strange}; possible: {possible}")
        if kept == _OUT_OF_ORDER:
            raise ValueError(f"block names offsets out of order; possible: ascending, up to its end {end}")
        if kept < count:
            readings = readings[keep]
            offsets = offsets[keep] if header.source is not None else offsets
        return Block(header.dma, readings, header.origin, count - kept, _source_of(header, offsets))

    def _looked_up(self, ids: bytes) -> _Listed:
        """A list of meters. Raises what msgspec raises where it is none."""
        found = self._listed.get(ids)
        if found is None:
            site = self._site
            rows = np.array([site.meter_row.get(meter, -1) for meter in _IDS.decode(ids)], np.int32)
            senders = [_SENDER[site.meters[row].kind] if row >= 0 else _NO_SENDER for row in rows.tolist()]
            if len(self._listed) >= _LISTS_KEPT or self._listed_bytes > _BYTES_KEPT:
                self._listed.clear()
                self._listed_bytes = 0
            found = self._listed[ids] = _Listed(rows, np.array(senders, np.int64))
            self._listed_bytes += 4 * len(ids)
        return found


def _open(blob: bytes) -> tuple[_Header, int]:
    """Header, and where the columns begin."""
    if len(blob) < _PREFIX.size:
        raise ValueError(f"block is torn: found {len(blob)} bytes; possible: at least {_PREFIX.size}")
    magic, version, _, header_bytes, crc = _PREFIX.unpack_from(blob)
    if magic != MAGIC:
        raise ValueError(f"not a block of readings: starts with {magic!r}; possible: {MAGIC!r}")
    if version not in READABLE:
        raise ValueError(f"block version: found {version}; possible: {', '.join(map(str, READABLE))}")
    body = memoryview(blob)[_PREFIX.size :]
    if zlib.crc32(body) != crc:
        raise ValueError(f"block is torn: CRC32 of its body is {zlib.crc32(body):08x}; possible: {crc:08x}")
    try:
        header = _HEADER.decode(body[:header_bytes])
    except FOREIGN as error:
        raise ValueError(f"block header cannot be read: {brief(error)}") from None
    expected = header_bytes + header.count * (_ROW_BYTES + (_OFFSET.itemsize if header.source else 0))
    if header.count < 0 or len(body) != expected:
        raise ValueError(f"block is torn: found {len(body)} bytes after its prefix; possible: {expected}")
    return header, _PREFIX.size + header_bytes


def _columns_of(header: _Header, blob: bytes, begin: int) -> tuple[Readings, NDArray[np.int64]]:
    """Readings (n,) with places in the header's list as meters, and the offsets of their messages (n,), none without a
    source."""
    readings = np.empty(header.count, READING)
    for name, form in _COLUMNS:
        column = np.frombuffer(blob, form, header.count, begin)
        readings[name] = column
        begin += column.nbytes
    if header.source is None:
        return readings, NO_OFFSETS
    return readings, np.frombuffer(blob, _OFFSET, header.count, begin).astype(np.int64) + header.source.base


def _source_of(header: _Header, offsets: NDArray[np.int64]) -> Source | None:
    found = header.source
    return None if found is None else Source(found.partition, found.end, found.oldest_ms, found.newest_ms, offsets)


def _origin(origin: str) -> Origin:
    """Raises msgspec.ValidationError for what is none."""
    return origin if origin in ("live", "replay") else msgspec.convert(origin, Origin)  # type: ignore[return-value]


NO_OFFSETS: Final = np.zeros(0, np.int64)
_STRANGE_METER, _OUT_OF_ORDER = -1, -2


@njit(cache=True)
def know(
    readings: Readings,
    offsets: NDArray[np.int64],
    end: int,
    rows: NDArray[np.int32],
    senders: NDArray[np.int64],
    sends: NDArray[np.bool_],
    lowest: NDArray[np.float64],
    highest: NDArray[np.float64],
    keep: NDArray[np.bool_],
) -> tuple[int, int]:
    """Puts rows of the site (`_Listed.rows`) in place of places in the header's list, in READING (n,), and fills `keep`
    (n,): what the site can use, by meter, kind, quality, value and time.

    Returns how many are kept and 0; or `_STRANGE_METER` and a place that is not in the list; or `_OUT_OF_ORDER` and 0 where
    the offsets (n,), or none, do not ascend up to `end`. Oracle: the definition in tests/test_packing.py.
    """
    kept = 0
    for i in range(len(offsets)):
        if (i > 0 and offsets[i] < offsets[i - 1]) or offsets[i] > end:
            return _OUT_OF_ORDER, 0
    for i in range(len(readings)):
        place = readings[i]["meter"]
        if place < 0 or place >= len(rows):
            return _STRANGE_METER, place
        kind, value, time_ms = readings[i]["kind"], readings[i]["value"], readings[i]["time_ms"]
        known = (
            sends[senders[place], kind]
            and readings[i]["quality"] < len(QUALITIES)
            and FIRST_MS <= time_ms <= LAST_MS
            and lowest[kind] <= value <= highest[kind]
        )
        readings[i]["meter"] = rows[place]
        keep[i] = known
        kept += known
    return kept, 0
