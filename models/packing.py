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
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
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
    meters: list[str]
    source: _Source | None = None


_HEADER: Final = msgspec.msgpack.Decoder(_Header)


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


def pack_block(site: Site, dma: str, readings: Readings, origin: str, source: Source | None = None) -> bytes:
    """The bytes of `readings`, a READING array (n,) with meter rows of `site`. The same input gives the same bytes."""
    rows, place = np.unique(readings["meter"], return_inverse=True)
    meters = [site.meters[row].id for row in rows.tolist()]
    header = _Header(dma, msgspec.convert(origin, Origin), len(readings), meters)
    columns = [(place if name == "meter" else readings[name]).astype(form) for name, form in _COLUMNS]
    if source is not None:
        base = int(source.offsets[0]) if len(source.offsets) else source.end
        header.source = _Source(source.partition, base, source.end, source.oldest_ms, source.newest_ms)
        columns.append((source.offsets - base).astype(_OFFSET))
    head = msgspec.msgpack.encode(header)
    body = b"".join([head, *(column.tobytes() for column in columns)])
    return _PREFIX.pack(MAGIC, VERSION, 0, len(head), zlib.crc32(body)) + body


def unpack_block(site: Site, blob: bytes) -> Block:
    """The block of `pack_block`'s bytes, with meter rows of `site`.

    Raises ValueError, saying what was found and what was possible, for foreign or torn bytes and for another version.
    """
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

    readings = np.empty(header.count, READING)
    offset = header_bytes
    for name, form in _COLUMNS:
        column = np.frombuffer(body, form, header.count, offset)
        readings[name] = column
        offset += column.nbytes
    place = readings["meter"]
    strange = place[(place < 0) | (place >= len(header.meters))]
    if len(strange):
        possible = f"0 to {len(header.meters) - 1}" if header.meters else "none"
        raise ValueError(f"block names meter {strange[0]}; possible: {possible}")
    source = None
    if header.source is not None:
        found = header.source
        offsets = np.frombuffer(body, _OFFSET, header.count, offset).astype(np.int64) + found.base
        if (np.diff(offsets) < 0).any() or (len(offsets) and offsets[-1] > found.end):
            raise ValueError(f"block names offsets out of order; possible: ascending, up to its end {found.end}")
        source = Source(found.partition, found.end, found.oldest_ms, found.newest_ms, offsets)
    return _known(site, header, readings, source)


def _known(site: Site, header: _Header, readings: Readings, source: Source | None) -> Block:
    """Place in the header -> row of the site; what the site cannot use is left out."""
    place = readings["meter"].astype(np.int64)
    rows = np.array([site.meter_row.get(meter, -1) for meter in header.meters], np.int32)
    senders = [_SENDER[site.meters[row].kind] if row >= 0 else _NO_SENDER for row in rows.tolist()]
    configured = np.array(senders, np.intp)
    kind, value, time_ms = readings["kind"], readings["value"], readings["time_ms"]
    keep = _SENDS[configured[place], kind] & (readings["quality"] < len(QUALITIES))
    keep &= (time_ms >= FIRST_MS) & (time_ms <= LAST_MS)
    known = np.minimum(kind, len(KINDS) - 1)  # later kinds are left out already
    keep &= (value >= LOWEST[known]) & (value <= HIGHEST[known])
    readings["meter"] = rows[place]
    if source is not None:
        source = replace(source, offsets=source.offsets[keep])
    return Block(header.dma, readings[keep], header.origin, int(len(readings) - keep.sum()), source)
