"""Scored slots on the wire: one message per `Engine.step`, a JSON header and then raw little-endian columns.

    b"NLD1" | header length, u32 | header | column | column | …

The header names the DMA, the origin, the number of rows, the features and detectors (what the columns `features` and
`scores` hold, in order), and each column's name, numpy type and shape of one row, so a reader needs nothing else.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAGIC: Final = b"NLD1"
_LENGTH: Final = struct.Struct("<I")


def pack_detections(
    dma: str,
    origin: str,
    rows: NDArray[np.void],
    features: Sequence[str],
    detectors: Sequence[str],
    limit: int,
) -> Iterator[bytes]:
    """`rows` (n,) DETECTION as messages of at most about `limit` bytes; none for no rows."""
    per_message = max(1, (limit - 4096) // rows.dtype.itemsize)
    for start in range(0, len(rows), per_message):
        part = rows[start : start + per_message]
        types = [(name, rows.dtype[name]) for name in rows.dtype.names or ()]
        header = json.dumps(
            {
                "dma": dma,
                "origin": origin,
                "rows": len(part),
                "features": list(features),
                "detectors": list(detectors),
                "columns": [[name, kind.base.newbyteorder("<").str, list(kind.shape)] for name, kind in types],
            },
            separators=(",", ":"),
        ).encode()
        columns = [np.ascontiguousarray(part[name], kind.base.newbyteorder("<")).tobytes() for name, kind in types]
        yield b"".join([MAGIC, _LENGTH.pack(len(header)), header, *columns])


@dataclass(frozen=True)
class Detections:
    """One message of `detections.v1`. Columns are arrays of `rows` entries."""

    dma: str
    origin: str
    features: tuple[str, ...]
    detectors: tuple[str, ...]
    columns: dict[str, NDArray[Any]]


def unpack_detections(blob: bytes) -> Detections:
    """Raises ValueError, saying what was found, for anything torn or foreign."""
    try:
        if blob[:4] != MAGIC:
            raise ValueError(f"starts with {blob[:4]!r}; possible: {MAGIC!r}")
        (length,) = _LENGTH.unpack_from(blob, 4)
        at = 4 + _LENGTH.size
        header = json.loads(blob[at : at + length])
        at += length
        columns = {}
        for name, kind, shape in header["columns"]:
            dtype, count = np.dtype(kind), header["rows"] * int(np.prod(shape))
            columns[name] = np.frombuffer(blob, dtype, count, at).reshape(header["rows"], *shape)
            at += count * dtype.itemsize
        if at != len(blob):
            raise ValueError(f"{len(blob) - at} bytes after the last column")
        return Detections(header["dma"], header["origin"], tuple(header["features"]), tuple(header["detectors"]), columns)
    except (struct.error, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"detections message is torn: {error!r}") from None
