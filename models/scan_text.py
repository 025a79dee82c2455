"""JSON's numbers, texts and white space, and times, in compiled code: what is plainly right, exactly as msgspec has it.

Every function gives the place behind what it read, or -1 where it would not vouch for that: an escape, a letter beyond
ASCII, a number of too many digits, a lower-case `t`. msgspec then decides.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.schema import BAD, GOOD, UNCERTAIN, Record
from models.words import MOST_DIGITS, TENS, Word, aside, before_quote, digits, inner, load_word, octet, signed, word, word_of

QUOTE, MINUS, PLUS, POINT, COLON, ZERO, Z, T = b'"-+.:0ZT'
_SPACE, _LAST_PLAIN, _BACKSLASH = b" ~\\"
_EXPONENT: Final = ord("e")
_LOWER: Final = 0x20
_WHITE: Final = (1 << ord(" ")) | (1 << ord("\n")) | (1 << ord("\r")) | (1 << ord("\t"))

_EXACT: Final = np.uint64(1 << 53)
_EXACT_TENS: Final = 22
_POWERS: Final = np.array([float(10**n) for n in range(_EXACT_TENS + 1)])
"""Exact as float64; so a whole number up to 2**53 times or divided by one of them is rounded once, correctly.
Source: W. D. Clinger, "How to read floating point numbers accurately", 1990."""

_NONE: Final = np.uint64(0)
_ALL: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@inner
def blank(at: int, stop: int) -> int:
    """Where white space ends."""
    while at < stop and octet(at, stop) <= _SPACE and (_WHITE >> octet(at, stop)) & 1:
        at += 1
    return at


@inner
def number(at: int, stop: int) -> tuple[float, int]:
    """A number as the nearest float64. Not -0, which msgspec has as 0 and -0.0 as such."""
    negative = octet(at, stop) == MINUS
    at += negative
    mantissa, end = digits(at, stop)
    whole = end - at
    if whole == 0 or whole > MOST_DIGITS or (whole > 1 and octet(at, stop) == ZERO):
        return 0.0, -1
    power = 0
    if octet(end, stop) == POINT:
        fraction, behind = digits(end + 1, stop)
        power = end + 1 - behind
        if power == 0 or whole - power > MOST_DIGITS:
            return 0.0, -1
        mantissa = mantissa * TENS[-power] + fraction
        end = behind
    if octet(end, stop) | _LOWER == _EXPONENT:
        exponent, end = _exponent(end + 1, stop)
        if end < 0:
            return 0.0, -1
        power += exponent
    if mantissa > _EXACT or abs(power) > _EXACT_TENS or (negative and mantissa == _NONE):
        return 0.0, -1
    value = np.float64(mantissa)
    value = value / _POWERS[-power] if power < 0 else value * _POWERS[power]
    return -value if negative else value, end


@aside
def _exponent(at: int, stop: int) -> tuple[int, int]:
    sign = octet(at, stop)
    at += sign in (PLUS, MINUS)
    found, end = digits(at, stop)
    if not 0 < end - at <= 3:
        return 0, -1
    return -signed(found) if sign == MINUS else signed(found), end


@inner
def whole_number(at: int, stop: int) -> tuple[int, int]:
    """A number without sign, fraction or exponent: msgspec takes no other for an integer."""
    found, end = digits(at, stop)
    after = octet(end, stop)
    size = end - at
    if size == 0 or size > MOST_DIGITS or (size > 1 and octet(at, stop) == ZERO):
        return 0, -1
    if after == POINT or after | _LOWER == _EXPONENT:
        return 0, -1
    return signed(found), end


@inner
def short_text(at: int, stop: int) -> tuple[Word, int]:
    """A text of at most eight bytes behind its `"`: the word of it and, where there is room, the `"` that ends it."""
    found = word(at, stop)
    count = before_quote(found)
    at += signed(count)
    if octet(at, stop) != QUOTE:
        return _NONE, -1
    if count < np.uint64(8):
        found &= _ALL >> (np.uint64(56) - np.uint64(8) * count)
    return found, at + 1


@aside
def skip_text(at: int, stop: int) -> int:
    """Past a text of printable ASCII without escapes, from behind its `"`."""
    while at < stop:
        found = octet(at, stop)
        at += 1
        if found == QUOTE:
            return at
        if found < _SPACE or found > _LAST_PLAIN or found == _BACKSLASH:
            return -1
    return -1


_TRUE, _FALSE, _NULL = word_of(b"true"), word_of(b"alse"), word_of(b"null")
_FOUR: Final = np.uint64(0xFFFF_FFFF)


@inner
def is_null(at: int, stop: int) -> bool:
    """Whether null stands here."""
    return word(at, stop) & _FOUR == _NULL


@aside
def skip_scalar(at: int, stop: int) -> int:
    """Past a value that nobody asked for, if it is neither an array nor an object."""
    if octet(at, stop) == QUOTE:
        return skip_text(at + 1, stop)
    if word(at, stop) & _FOUR in (_TRUE, _NULL):
        return at + 4
    if word(at + 1, stop) & _FOUR == _FALSE and octet(at, stop) == ord("f"):
        return at + 5
    return number(at, stop)[1]


_GOOD, _BAD, _UNCERTAIN, _REST = map(word_of, (b'good"', b'bad"', b"uncertai", b'n"'))
_TWO, _FIVE = np.uint64(0xFFFF), np.uint64(0xFF_FFFF_FFFF)


@inner
def quality_text(at: int, stop: int) -> tuple[int, int]:
    """Index into QUALITIES of a text behind its `"`, and where it ends."""
    text = word(at, stop)
    if text & _FIVE == _GOOD:
        return GOOD, at + 5
    if text & _FOUR == _BAD:
        return BAD, at + 4
    if text == _UNCERTAIN and word(at + 8, stop) & _TWO == _REST:
        return UNCERTAIN, at + 10
    return 0, -1


# times

_DAY_MS: Final = 86_400_000
_BEFORE_MARCH: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
_CLOCK_FIGURES: Final = word_of(b"00:00:00")
_CLOCK_PLACES: Final = word_of(b"\x0f\x0f\x00\x0f\x0f\x00\x0f\x0f")
_CLOCK_BEYOND: Final = word_of(b"\x06\x06\x00\x06\x06\x00\x06\x06")
_NIBBLES: Final = np.uint64(0xF0F0_F0F0_F0F0_F0F0)
_THREE_BYTES: Final = np.uint64(0xFF_FFFF)
_SHORTEST: Final = len('2026-11-23T02:15:00Z"')


@inner
def _two(at: int, stop: int) -> int:
    """Two digits, or a large negative number."""
    tens, ones = octet(at, stop) - ZERO, octet(at + 1, stop) - ZERO
    return 10 * tens + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -1_000_000


@aside
def _date_ms(at: int, stop: int) -> int:
    """Epoch ms of the midnight of `2026-11-23T`; -1 for what is none from 1970 on.

    Source: H. Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
    """
    year = 100 * _two(at, stop) + _two(at + 2, stop)
    month, day = _two(at + 5, stop), _two(at + 8, stop)
    dash = octet(at + 4, stop) == MINUS and octet(at + 7, stop) == MINUS
    if not dash or octet(at + 10, stop) != T or year < 1970 or not 1 <= month <= 12:
        return -1
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _BEFORE_MARCH[month] + leap:
        return -1
    year -= month <= 2
    of_era = year % 400
    of_year = (153 * (month + (9 if month <= 2 else -3)) + 2) // 5 + day - 1
    days = year // 400 * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return days * _DAY_MS


@inner
def moment(at: int, stop: int, found: Record) -> tuple[int, int]:
    """Epoch ms of an RFC 3339 time behind its `"`. Less than a millisecond is dropped.

    `found` keeps the last date that was read and its midnight: the messages of one block are mostly of one day.
    """
    if stop - at < _SHORTEST:
        return 0, -1
    year_month, day = load_word(at), load_word(at + 8) & _THREE_BYTES
    if year_month != found["year_month"] or day != found["day"]:
        midnight = _date_ms(at, stop)
        if midnight < 0:
            return 0, -1
        found["year_month"], found["day"], found["midnight_ms"] = year_month, day, midnight
    figures = load_word(at + 11) ^ _CLOCK_FIGURES
    if ((figures + _CLOCK_BEYOND) | figures) & (_NIBBLES | ~_CLOCK_PLACES) != _NONE:
        return 0, -1
    clock = signed(figures)
    hour = 10 * (clock & 15) + (clock >> 8 & 15)
    minute = 10 * (clock >> 24 & 15) + (clock >> 32 & 15)
    second = 10 * (clock >> 48 & 15) + (clock >> 56 & 15)
    if hour > 23 or minute > 59 or second > 59:
        return 0, -1
    time_ms = found["midnight_ms"] + 1000 * (60 * (60 * hour + minute) + second)
    at += 19
    if octet(at, stop) == POINT:
        fraction, end = digits(at + 1, stop)
        size = end - at - 1
        if size == 0 or size > 6:  # beyond microseconds msgspec rounds
            return 0, -1
        time_ms += signed(fraction * TENS[6 - size] // TENS[3])
        at = end
    sign = octet(at, stop)
    at += 1
    if sign in (PLUS, MINUS):
        hour, minute = _two(at, stop), _two(at + 3, stop)
        if not (0 <= hour <= 23 and 0 <= minute <= 59 and octet(at + 2, stop) == COLON):
            return 0, -1
        east_ms = 60_000 * (60 * hour + minute)
        time_ms += east_ms if sign == MINUS else -east_ms
        at += 5
    elif sign != Z:
        return 0, -1
    return time_ms, at + 1 if octet(at, stop) == QUOTE else -1
