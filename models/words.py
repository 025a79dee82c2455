"""Bytes of a text, eight at a time: what a compiled scanner is made of.

A text is two addresses, where to read and where it stops: an array in their place is seven arguments and a count of its
references for every function that it goes through. With arrays the scanner took more than twice as long, and as long again
to compile (2026-11-27). What lies behind the stop is never read: there a byte is 0, which no text has. A text has at least
eight bytes. The first byte is the lowest of a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import from_dtype, njit
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from models.schema import READING, Record

Bytes = NDArray[np.uint8]
Word = Any
"""A uint64 in compiled code: with a signed integer it would become a float."""
signed: Final[Any] = np.int64

_BYTE, _WORD = ir.IntType(8), ir.IntType(64)


@intrinsic
def _load_byte(_: Any, _at: Any) -> Any:
    def load(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.load(builder.inttoptr(arguments[0], _BYTE.as_pointer())), _WORD)

    return types.int64(types.int64), load


@intrinsic
def _load_word(_: Any, _at: Any) -> Any:
    def load(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], _WORD.as_pointer()), align=1)

    return types.uint64(types.int64), load


@intrinsic
def _trailing_zeros(_: Any, _word: Any) -> Any:
    def count(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), count


@intrinsic
def _reading_at(_: Any, _address: Any) -> Any:
    reading = from_dtype(READING)

    def point(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(reading))

    return reading(types.int64), point


reading_at: Final = cast("Callable[[int], Record]", _reading_at)
"""The reading (READING) at an address."""
load_byte: Final = cast("Callable[[int], int]", _load_byte)
load_word: Final = cast("Callable[[int], Word]", _load_word)
trailing_zeros: Final = cast("Callable[[Word], Word]", _trailing_zeros)
"""Unchecked."""

_ONLY_COMPILED: Final[dict[str, Any]] = {
    "cache": False,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
inner: Final = njit(forceinline=True, **_ONLY_COMPILED)
aside: Final = njit(**_ONLY_COMPILED)
"""For functions that only other compiled ones call, always or seldom."""


def word_of(text: bytes) -> np.uint64:
    """The word that begins with at most eight bytes; zeros follow them."""
    return np.uint64(int.from_bytes(text, "little"))


_ALL: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_EIGHTH: Final = np.uint64(8)
_WIDE: Final = np.uint64(64)
_NONE: Final = np.uint64(0)
_ONES: Final = np.uint64(0x0101_0101_0101_0101)
_TOPS: Final = np.uint64(0x8080_8080_8080_8080)
_QUOTES: Final = word_of(b'"' * 8)
_ZEROS: Final = word_of(b"0" * 8)
_BEYOND_NINE: Final = np.uint64(0x7676_7676_7676_7676)
_PAIRS, _FOURS, _LOW = np.uint64(0x00FF_00FF_00FF_00FF), np.uint64(0x0000_FFFF_0000_FFFF), np.uint64(0xFFFF_FFFF)
_TEN, _HUNDRED, _TEN_THOUSAND = np.uint64(10), np.uint64(100), np.uint64(10_000)
_HUNDRED_MILLION: Final = np.uint64(10**8)
_SIXTEEN, _THIRTY_TWO, _THREE = np.uint64(16), np.uint64(32), np.uint64(3)
MOST_DIGITS: Final = 18
"""So many fit an int64."""
TENS: Final = np.array([10**n for n in range(MOST_DIGITS + 1)], np.uint64)


@inner
def octet(at: int, stop: int) -> int:
    """The byte at a place, 0 from the stop on."""
    return load_byte(at) if at < stop else 0


@inner
def word(at: int, stop: int) -> Word:
    """The eight bytes from a place on."""
    if at + 8 <= stop:
        return load_word(at)
    if at >= stop:
        return _NONE
    # the last eight bytes, less those before the place
    return load_word(stop - 8) >> (_WIDE - _EIGHTH * np.uint64(stop - at))


@inner
def first_bytes(found: Word, count: Word) -> Word:
    """The first 1 to 8 bytes of a word."""
    return found & (_ALL >> (_WIDE - _EIGHTH * count))


@inner
def before_quote(found: Word) -> Word:
    """How many bytes of a word come before its first `"`; 8 where there is none.

    Only the bytes above the first `"` may be marked wrongly. Source: Warren, Hacker's Delight, 6-1.
    """
    other = found ^ _QUOTES
    return trailing_zeros((other - _ONES) & ~other & _TOPS) >> _THREE


@inner
def digits(at: int, stop: int) -> tuple[Word, int]:
    """The number that the digits from a place on make, and where they end. What is longer than `MOST_DIGITS` is wrong.

    Three multiplications for up to eight digits. Source: D. Lemire, "Quickly parsing eight digits", 2018.
    """
    total, begin = _NONE, at
    while at - begin <= MOST_DIGITS:
        figures = word(at, stop) ^ _ZEROS
        count = trailing_zeros(((figures + _BEYOND_NINE) | figures) & _TOPS) >> _THREE
        if count == _NONE:
            break
        figures <<= _WIDE - _EIGHTH * count  # zeros in front
        figures = (figures * _TEN + (figures >> _EIGHTH)) & _PAIRS
        figures = (figures * _HUNDRED + (figures >> _SIXTEEN)) & _FOURS
        figures = (figures * _TEN_THOUSAND + (figures >> _THIRTY_TWO)) & _LOW
        at += signed(count)
        if count < _EIGHTH:
            return total * TENS[count] + figures, at
        total = total * _HUNDRED_MILLION + figures
    return total, at
