"""Scored slots on the wire: one message per `Engine.step`, a JSON header and then raw little-endian columns.

    b"NLD1" | header length, u32 | header | column | column | …

The header names the DMA, the origin, the number of rows, the features and detectors (what the columns `features` and
`scores` hold, in order), and each column's name, numpy type and shape of one row, so a reader needs nothing else. Since
2026-11-28 it also says which `model` scored, null for none, and where a challenger scores in shadow, which `challenger`;
that one's scores are a column of their own, `challenger_score`. Readers pass over columns and keys they do not know.
"""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.schema import ModelRef
from models.state import INNER
from models.wire import FOREIGN, brief, shown

MAGIC: Final = b"NLD1"
_LENGTH: Final = struct.Struct("<I")
_BODY: Final = len(MAGIC) + _LENGTH.size
_Kind = Annotated[str, msgspec.Meta(pattern=r"^(\|[biu]1|<[iuf][248])\Z")]
"""Numbers only. numpy makes types of far more: objects, texts, records of a gigabyte."""
NOTHING: Final[Mapping[str, NDArray[np.float32]]] = MappingProxyType({})
_Shape = Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]], msgspec.Meta(max_length=4)]


def pack_detections(
    dma: str,
    origin: str,
    rows: NDArray[np.void],
    features: tuple[str, ...],
    detectors: tuple[str, ...],
    limit: int,
    model: ModelRef | None = None,
    challenger: ModelRef | None = None,
    beside: Mapping[str, NDArray[np.float32]] = NOTHING,
) -> Iterator[bytes]:
    """`rows` (n,) DETECTION as messages of at most about `limit` bytes; none for no rows.

    `model` scored them, `challenger` what is in `beside`: further columns (n,).
    """
    per_message = max(1, (limit - 4096) // (rows.dtype.itemsize + 4 * len(beside)))
    for start in range(0, len(rows), per_message):
        part = rows[start : start + per_message]
        head = _head(dma, origin, len(part), features, detectors, rows.dtype, model, challenger, tuple(beside))
        columns = [part[name].astype(kind, copy=False).tobytes() for name, kind, _ in _columns(rows.dtype)]
        columns += [more[start : start + per_message].astype("<f4", copy=False).tobytes() for more in beside.values()]
        yield b"".join([head, *columns])


@functools.lru_cache(maxsize=8)
def _columns(dtype: np.dtype[np.void]) -> tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]:
    """Name, little-endian type and shape of one row of each published column."""
    fields = ((name, dtype[name]) for name in dtype.names or () if name not in INNER)
    return tuple((name, kind.base.newbyteorder("<"), kind.shape) for name, kind in fields)


@functools.lru_cache(maxsize=4096)
def _head(
    dma: str, origin: str, rows: int, features: tuple[str, ...], detectors: tuple[str, ...], dtype: np.dtype[np.void],
    model: ModelRef | None, challenger: ModelRef | None, beside: tuple[str, ...],
) -> bytes:  # fmt: skip
    """What precedes the columns. Live, a DMA's is the same slot after slot: writing it anew took half of 45 µs."""
    columns: list[tuple[str, str, tuple[int, ...]]] = [(name, kind.str, shape) for name, kind, shape in _columns(dtype)]
    said = {
        "dma": dma,
        "origin": origin,
        "rows": rows,
        "features": features,
        "detectors": detectors,
        "columns": columns + [(name, "<f4", ()) for name in beside],
        "model": msgspec.to_builtins(model),
    }
    if challenger is not None:
        said["challenger"] = msgspec.to_builtins(challenger)
    header = json.dumps(said, separators=(",", ":")).encode()
    return b"".join([MAGIC, _LENGTH.pack(len(header)), header])


@dataclass(frozen=True)
class Detections:
    """One message of `detections.v1`. Columns are arrays of `rows` entries."""

    dma: str
    origin: str
    features: tuple[str, ...]
    detectors: tuple[str, ...]
    columns: dict[str, NDArray[Any]]
    model: ModelRef | None = None
    """That scored; None without one, and of messages before 2026-11-28."""
    challenger: ModelRef | None = None


class _Header(msgspec.Struct):
    dma: str
    origin: str
    rows: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    features: list[str]
    detectors: list[str]
    columns: list[tuple[str, _Kind, _Shape]]
    model: ModelRef | None = None
    challenger: ModelRef | None = None


_HEADER: Final = msgspec.json.Decoder(_Header)


def unpack_detections(blob: bytes) -> Detections:
    """Raises ValueError, saying what was found, for anything torn or foreign."""
    if len(blob) < _BODY or blob[:4] != MAGIC:
        raise ValueError(f"detections message is torn: starts with {blob[:4]!r}; possible: {MAGIC!r}")
    (length,) = _LENGTH.unpack_from(blob, 4)
    try:
        header = _HEADER.decode(blob[_BODY : _BODY + length])
    except FOREIGN as error:
        raise ValueError(f"detections message is torn: its header cannot be read: {brief(error)}") from None
    counts = [header.rows * math.prod(shape) for _, _, shape in header.columns]
    sizes = [count * np.dtype(kind).itemsize for count, (_, kind, _) in zip(counts, header.columns, strict=True)]
    at = _BODY + length
    if len(blob) != at + sum(sizes):
        raise ValueError(f"detections message is torn: found {len(blob)} bytes; possible: {shown(at + sum(sizes))}")
    columns: dict[str, NDArray[Any]] = {}
    for (name, kind, shape), count, size in zip(header.columns, counts, sizes, strict=True):
        if name in columns:
            raise ValueError(f"detections message is torn: column {shown(name)} is there twice")
        columns[name] = np.frombuffer(blob, kind, count, at).reshape(header.rows, *shape)
        at += size
    return Detections(
        header.dma, header.origin, tuple(header.features), tuple(header.detectors), columns, header.model, header.challenger
    )  # fmt: skip
