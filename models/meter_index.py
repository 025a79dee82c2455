"""Meter id, as bytes in a message -> row and configured kind of the meter, in compiled code.

An open-addressing hash table of two arrays, three slots to two meters: 18 bytes a meter and its id. A Python dictionary
of heads took 300 bytes a meter, and needs an object of each id that comes (2026-11-27).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, get_args

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.network import Meter, MeterKind
from models.words import Bytes, Word, before_quote, first_bytes, inner, load_byte, load_word, signed, word

CONFIGURED: Final[tuple[str, ...]] = get_args(MeterKind)
_LONGEST: Final = 64
"""Bytes of an id, as in network.toml."""
_BEFORE_ID: Final = 6
_PADDING: Final = 8
_SEED, _FACTOR = np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0xD6E8_FEB8_6659_FD93)
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFF_FFFF)
_NONE, _EIGHT = np.uint64(0), np.uint64(8)


class MeterIndex(NamedTuple):
    """Slots (s,) uint64 hold 32 bits of the hash above the place of an entry, 0 where free; entries (bytes,) are, from
    place 1 on, the row (4 bytes), the place of its configured kind in CONFIGURED, the length of the id, and the id."""

    slots: NDArray[np.uint64]
    entries: Bytes

    @classmethod
    def of(cls, meters: Sequence[Meter]) -> MeterIndex:
        """Of meters by row, with ids of ASCII letters."""
        count = len(meters)
        ids = np.frombuffer(bytes(_PADDING) + "".join([meter.id for meter in meters]).encode(), np.uint8)
        sizes = np.fromiter([len(meter.id) for meter in meters], np.int64, count)
        kinds = np.fromiter([CONFIGURED.index(meter.kind) for meter in meters], np.uint8, count)
        slots = np.zeros(count + count // 2 + 1, np.uint64)
        entries = np.zeros(1 + len(ids) + _BEFORE_ID * count + _PADDING, np.uint8)
        _fill(ids.ctypes.data + _PADDING, sizes, kinds, slots, entries)
        return cls(slots, entries)


@inner
def _mixed(state: Word, found: Word) -> Word:
    state = (state ^ found) * _FACTOR
    return state ^ (state >> _HALF)


@inner
def _slot(state: Word, size: int) -> int:
    """Where the search begins: the upper half of the hash, as a share of the table."""
    return signed(((state >> _HALF) * np.uint64(size)) >> _HALF)


@njit(cache=True)
def _fill(at: int, sizes: NDArray[np.int64], kinds: Bytes, slots: NDArray[np.uint64], entries: Bytes) -> None:
    """Write the entries, of ids one behind the other from an address on, and the places of them."""
    place = 1
    for row in range(sizes.shape[0]):
        size = sizes[row]
        for k in range(4):
            entries[place + k] = (row >> 8 * k) & 255
        entries[place + 4], entries[place + 5] = kinds[row], size
        for k in range(size):
            entries[place + _BEFORE_ID + k] = load_byte(at + k)
        state, stop = _SEED, at + size
        while stop - at >= 8:
            state = _mixed(state, load_word(at))
            at += 8
        state = _mixed(state, word(at, stop))
        slot = _slot(state, slots.shape[0])
        while slots[slot] != _NONE:
            slot = slot + 1 if slot + 1 < slots.shape[0] else 0
        slots[slot] = ((state & _LOW) << _HALF) | np.uint64(place)
        at, place = stop, place + _BEFORE_ID + size


@inner
def meter_at(at: int, stop: int, slots: int, size: int, entries: int) -> tuple[int, int]:
    """Address of the entry whose id stands here before a `"`, 0 where there is none, and where the id ends.

    `slots` and `entries` are the addresses of a `MeterIndex`, `size` is the number of slots.
    """
    begin, state = at, _SEED
    text = word(at, stop)
    count = before_quote(text)
    while count == _EIGHT:
        state = _mixed(state, text)
        at += 8
        if at - begin > _LONGEST:
            return 0, at
        text = word(at, stop)
        count = before_quote(text)
    state = _mixed(state, first_bytes(text, count) if count else _NONE)
    at += signed(count)
    slot, tag = _slot(state, size), state & _LOW
    while True:
        found = load_word(slots + 8 * slot)
        if found == _NONE:
            return 0, at
        entry = entries + signed(found & _LOW)
        if found >> _HALF == tag and _is_id(begin, at, stop, entry):
            return entry, at
        slot = slot + 1 if slot + 1 < size else 0


@inner
def _is_id(at: int, end: int, stop: int, entry: int) -> bool:
    """Whether the bytes up to `end`, of a text up to `stop`, are the id of an entry."""
    left = end - at
    if load_byte(entry + 5) != left:
        return False
    entry += _BEFORE_ID
    while left > 0:
        differing = word(at, stop) ^ load_word(entry)  # there is room for a word behind the last entry
        if left < 8:
            differing = first_bytes(differing, np.uint64(left))
        if differing != _NONE:
            return False
        at += 8
        entry += 8
        left -= 8
    return True


@inner
def row_of(entry: int) -> int:
    """Row of the meter of an entry."""
    return signed(load_word(entry) & _LOW)


@inner
def configured_of(entry: int) -> int:
    """Place in CONFIGURED of the kind of an entry's meter."""
    return load_byte(entry + 4)
