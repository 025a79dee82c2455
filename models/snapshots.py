"""Snapshots: the arrays of a DMA's state as one checksummed blob, and back; those of older formats become today's."""

from __future__ import annotations

import math
import zlib
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.older_states import as_of_format, from_format_2, from_format_3
from models.wire import FOREIGN, brief, shown

FORMAT: Final = 4
"""4: level, band, unrest and widths of a profile, weekday of a night, how far a DMA has warmed up, law of a calibration;
3: of a customer meter only what is counted; 2: late readings, gaps, a fingerprint of the DMA's facts."""
READABLE: Final = (2, 3, 4)
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
    now, like = like, as_of_format(header.format, like, is_customer)
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
    if header.format == 2:
        arrays = from_format_2(arrays, dma, is_customer)
    return from_format_3(arrays, now) if header.format < 4 else arrays
