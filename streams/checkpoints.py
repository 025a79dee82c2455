"""What a worker remembers of a DMA, as one record of `checkpoints.v1`; and from which records a partition goes on.

    magic 4s | version u2 | 0 u2 | header length u4 | CRC32 of the body u4 | body = header, then the engine's snapshot

The header (MessagePack) names the DMA, the partition and how far of `readings.v1` the state has come: **everything before
`offset` is included**, nothing after it. It is written to the partition of the same number as the readings it includes,
so a partition's states lie in one place.

Where to go on. A partition is read again from the lowest offset that any of its states still needs, and each state skips
what it has; the committed offset only says what has been published. So nothing hangs on the commit having come after
the checkpoint, and a worker that was thought dead and writes an older state over a newer one costs time, not readings.
States that have nothing new are written again from time to time (`REFRESH_SECONDS`), or a DMA that went quiet would make
every start read its partition from where it went quiet.

What can't be used (torn, of another format, network or number of partitions) is never passed over in silence: an older
record of the same DMA serves if the topic still holds one; else the state is built anew from `readings.v1`, where that
still holds everything; else the worker refuses, and says that `--rebuild` would go on with less.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, NamedTuple

import msgspec

from models.drift_weeks import Saved
from models.wire import FOREIGN, brief
from streams.published import Named

MAGIC: Final = b"NLCP"
VERSION: Final = 1
_PREFIX: Final = struct.Struct("<4sHHII")

_Int = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """How far of one raw partition, live or replayed, a DMA's state has come."""

    end: _Int
    """Readings of all messages before this offset are included."""
    newest_ms: _Int
    """Greatest timestamp of these messages. One that is newer with a smaller offset is of a topic made anew."""


class _Header(msgspec.Struct):
    dma: str
    partition: _Int
    partitions: _Int
    offset: _Int
    watermark_ms: _Int
    model: str | None
    known: list[str]
    seen: dict[str, Seen]
    # since 2026-11-28
    champion: Named | None = None
    challenger: Named | None = None
    told: bool = False
    drift: Saved | None = None


_HEADER: Final = msgspec.msgpack.Decoder(_Header)


@dataclass(frozen=True)
class Checkpoint:
    """One DMA's state and what it includes."""

    dma: str
    partition: int
    partitions: int
    """Number of partitions of `readings.v1` when it was written: with another number DMAs lie elsewhere."""
    offset: int
    watermark_ms: int
    model: str | None
    """Version of the model that scored last; of states before 2026-11-28 that is all there is."""
    known: tuple[str, ...]
    """All DMAs of the partition that have a state: a missing one is missed."""
    seen: Mapping[str, Seen]
    state: bytes
    """`Engine.snapshot()`."""
    champion: Named | None = None
    """The model that scores from here on; None without one, or where only `model` tells."""
    challenger: Named | None = None
    """The one in shadow."""
    told: bool = False
    """A control record has spoken of its champion."""
    drift: Saved | None = None
    """What of the week under way was counted for drift."""


def pack(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint."""
    c = checkpoint
    header = _Header(
        c.dma, c.partition, c.partitions, c.offset, c.watermark_ms, c.model, list(c.known), dict(c.seen),
        c.champion, c.challenger, c.told, c.drift,
    )  # fmt: skip
    head = msgspec.msgpack.encode(header)
    body = head + c.state
    return _PREFIX.pack(MAGIC, VERSION, 0, len(head), zlib.crc32(body)) + body


def unpack(value: bytes) -> Checkpoint:
    """The checkpoint of `pack`'s bytes. Raises ValueError for torn or foreign bytes and for another version."""
    if len(value) < _PREFIX.size:
        raise ValueError(f"checkpoint is torn: found {len(value)} bytes; possible: at least {_PREFIX.size}")
    magic, version, _, head_bytes, crc = _PREFIX.unpack_from(value)
    if magic != MAGIC:
        raise ValueError(f"not a checkpoint: starts with {magic!r}; possible: {MAGIC!r}")
    if version != VERSION:
        raise ValueError(f"checkpoint version: found {version}; possible: {VERSION}")
    body = memoryview(value)[_PREFIX.size :]
    if zlib.crc32(body) != crc or head_bytes > len(body):
        raise ValueError(f"checkpoint is torn: CRC32 of its body is {zlib.crc32(body):08x}; possible: {crc:08x}")
    try:
        h = _HEADER.decode(body[:head_bytes])
    except FOREIGN as error:
        raise ValueError(f"checkpoint header cannot be read: {brief(error)}") from None
    return Checkpoint(
        h.dma, h.partition, h.partitions, h.offset, h.watermark_ms, h.model, tuple(h.known), h.seen,
        bytes(body[head_bytes:]), h.champion, h.challenger, h.told, h.drift,
    )  # fmt: skip


class Bounds(NamedTuple):
    """What is known of a partition of `readings.v1` before its state is brought back."""

    committed: int | None
    """The group's offset, None when there is none."""
    earliest: int
    """The first offset that is retained."""
    end: int
    """The offset after the last record."""


class Record(NamedTuple):
    """One record of `checkpoints.v1`, oldest first; a value of None is a state that was taken away."""

    key: bytes | None
    value: bytes | None


class LostStateError(Exception):
    """A state that was there cannot be used or rebuilt; the message is one clear line."""


@dataclass
class Start:
    """From where a partition goes on, with which states."""

    offset: int
    """First record of the partition to read."""
    states: dict[str, Checkpoint] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """What the topic holds of one DMA."""

    usable: Checkpoint | None = None
    fault: str | None = None
    """Why the newest record is not the usable one."""


def where_to_start(
    partition: int,
    partitions: int,
    dmas: Collection[str],
    records: Iterable[Record],
    bounds: Bounds,
    restore: Callable[[Checkpoint], None],
    rebuild: bool = False,
) -> Start:
    """Decide for one partition of `readings.v1` with `partitions` in all.

    `dmas`: the site's; `records`: all of the checkpoint partition, oldest first; `restore` raises ValueError for a
    checkpoint that the engine cannot use. Raises LostStateError where a state would be lost and `rebuild` is False.
    """
    committed, earliest, end = bounds
    found = _read(partition, partitions, dmas, records, restore)
    start = Start(offset=earliest if committed is None else max(committed, earliest))
    expected = {dma for dma, of_dma in found.items() if of_dma.fault is not None}
    for of_dma in found.values():
        if of_dma.usable is not None:
            expected.update(dma for dma in of_dma.usable.known if dma in dmas)
    furthest = max([start.offset, *(of_dma.usable.offset for of_dma in found.values() if of_dma.usable is not None)])
    if furthest > end:
        return _begin_anew(partition, found, furthest, bounds, rebuild)
    lost: dict[str, str] = {}
    for dma in sorted(expected | found.keys()):
        of_dma = found.get(dma) or _Found(fault="it has no record")
        if of_dma.usable is None:
            lost[dma] = of_dma.fault or "it has no record"
        elif of_dma.usable.offset < earliest:
            gone = f"it includes {of_dma.usable.offset} records, and what follows is deleted up to {earliest}"
            lost[dma] = f"{of_dma.fault}; of an older one: {gone}" if of_dma.fault else gone
            start.states[dma] = of_dma.usable
        else:
            start.states[dma] = of_dma.usable
            if of_dma.fault:
                start.warnings.append(f"state of DMA {dma}: {of_dma.fault}; an older one, at {of_dma.usable.offset}, serves")
    if committed and not found:
        lost["all"] = f"{committed} records were processed, and there is no checkpoint of any"
    if lost:
        _rebuild(start, lost, partition, earliest, rebuild)
    start.offset = min([start.offset, *(max(state.offset, earliest) for state in start.states.values())])
    return start


def _read(
    partition: int,
    partitions: int,
    dmas: Collection[str],
    records: Iterable[Record],
    restore: Callable[[Checkpoint], None],
) -> dict[str, _Found]:
    """The newest usable checkpoint of each DMA of the site, and what is wrong with a newer one."""
    newest: dict[str, list[bytes]] = {}
    for key, value in records:
        dma = (key or b"").decode(errors="replace")
        if dma not in dmas:
            continue
        if value is None:
            newest.pop(dma, None)
        else:
            # two are enough: the one that is torn and the one before it
            newest[dma] = [*newest.get(dma, [])[-1:], value]
    found: dict[str, _Found] = {}
    for dma, values in newest.items():
        of_dma = found[dma] = _Found()
        for value in reversed(values):
            try:
                checkpoint = unpack(value)
                if checkpoint.dma != dma or checkpoint.partition != partition:
                    raise ValueError(f"it is of DMA {checkpoint.dma!r} in partition {checkpoint.partition}")
                if checkpoint.partitions != partitions:
                    raise ValueError(f"readings.v1 had {checkpoint.partitions} partitions then, and has {partitions} now")
                restore(checkpoint)
            except ValueError as error:
                of_dma.fault = of_dma.fault or str(error)
            else:
                of_dma.usable = checkpoint
                break
    return found


def _begin_anew(partition: int, found: dict[str, _Found], furthest: int, bounds: Bounds, allowed: bool) -> Start:
    """`readings.v1` ends before what was processed: somebody made it anew. The states know more than it does."""
    said = f"readings.v1 partition {partition} ends at offset {bounds.end}, but {furthest} was processed: it was made anew"
    if not allowed:
        raise LostStateError(f"{said}; possible: start with --rebuild, which goes on with the states there are")
    usable = {dma: of_dma.usable for dma, of_dma in found.items() if of_dma.usable is not None}
    states = {dma: replace(state, offset=bounds.earliest) for dma, state in usable.items()}
    return Start(bounds.earliest, states, [f"{said}; going on from offset {bounds.earliest}"])


def _rebuild(start: Start, lost: dict[str, str], partition: int, earliest: int, allowed: bool) -> None:
    """Build lost states anew from the first retained record, if that changes nothing or is allowed."""
    said = "; ".join(f"DMA {dma}: {why}" if dma != "all" else why for dma, why in lost.items())
    if earliest > 0 and not allowed:
        raise LostStateError(
            f"checkpoints.v1 partition {partition}: {said}; readings.v1 is retained from offset {earliest} only, so the "
            "state cannot be built again as it was; possible: start with --rebuild, which goes on with what is retained "
            "(alerts may then be raised again, with other contents)"
        )
    # an older state with a gap after it is better than none
    start.warnings.append(f"partition {partition}: {said}; state is built anew from offset {earliest}")
    if any(dma not in start.states for dma in lost):
        start.offset = earliest
