"""The JSON forms a reading may have, as typed structs, and one clear reason for whatever does not fit them.

The structs are what msgspec decodes into on the hot path. A payload that does not fit is taken apart field by field,
with the same decoders, only to say why.
"""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.schema import KINDS, QUALITIES, UNITS, Kind, Quality

FIRST_MS: Final = 631_152_000_000
LAST_MS: Final = 4_102_444_800_000
"""Observation times from 1990 to 2100; a clock outside of them is not a clock."""

MAX_INTERVAL_S: Final = 31 * 86400
MAX_ID: Final = 128
"""Characters of a meter id, as in `Reading`."""
_MAX_TIME: Final = 64
"""Characters of a time: msgspec takes 4 MB of decimals."""
MOST: Final = 200_000
"""Entries of columns, or of an array that is not simply good readings: to say what is wrong with one takes microseconds, and
4 MiB hold two millions. A year of five minutes is 105,120."""

FOREIGN: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""Everything msgspec raises for foreign bytes: malformed, mistyped, not UTF-8, nested too deeply."""

Unit = Literal["m3/h", "L/s", "L/h", "L/min", "m3/d", "m3", "L", "kPa", "MPa", "bar", "m[H2O]", "m", "V", "%"]
Time = str | Annotated[int, msgspec.Meta(ge=FIRST_MS, le=LAST_MS)]
Interval = Annotated[int, msgspec.Meta(gt=0, le=MAX_INTERVAL_S)]

NO_TIME: Final = np.iinfo(np.int64).min
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_AWARE: Final = Annotated[datetime, msgspec.Meta(tz=True)]
_A_TIME: Final = "an RFC 3339 time with its UTC offset, or epoch milliseconds, from 1990 to 2100"


# gc=False: they hold text and numbers only, and 20,000 tracked objects a block wake the collector
class Single(msgspec.Struct, rename="camel", gc=False):
    """`Reading` as the engine needs it: `seq` and unknown fields are skipped unread, text times stay text."""

    meter_id: str
    kind: Kind
    value: float
    unit: Unit
    observed_at: Time
    interval_seconds: Interval | None = None
    quality: Quality = "good"


class Columns(msgspec.Struct, rename="camel", gc=False):
    """`ColumnarReadings` as the engine needs it."""

    meter_id: str
    kind: Kind
    unit: Unit
    observed_at: list[Time]
    value: list[float | None]
    interval_seconds: Interval | None = None
    quality: Quality | list[Quality] = "good"


class Loose(msgspec.Struct, rename="camel"):
    """Any JSON object; each field is kept as its bytes, empty where it is absent."""

    meter_id: msgspec.Raw = msgspec.Raw()
    kind: msgspec.Raw = msgspec.Raw()
    value: msgspec.Raw = msgspec.Raw()
    unit: msgspec.Raw = msgspec.Raw()
    observed_at: msgspec.Raw = msgspec.Raw()
    interval_seconds: msgspec.Raw = msgspec.Raw()
    quality: msgspec.Raw = msgspec.Raw()


SINGLES: Final = msgspec.json.Decoder(Single | list[Single])
SINGLE: Final = msgspec.json.Decoder(Single)
COLUMNS: Final = msgspec.json.Decoder(Columns)
LOOSE: Final = msgspec.json.Decoder(Loose)
LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])

_MISSING_OK: Final = ("interval_seconds", "quality")
# (field, its name on the wire, how it decodes, what is possible), in the order faults are looked for
_FIELDS: Final[tuple[tuple[str, str, msgspec.json.Decoder[Any], str], ...]] = (
    ("meter_id", "meterId", msgspec.json.Decoder(str), "the id of a meter, as text"),
    ("kind", "kind", msgspec.json.Decoder(Kind), ", ".join(KINDS)),
    ("unit", "unit", msgspec.json.Decoder(Unit), "a unit of the kind, e.g. 'm3/h'"),
    ("observed_at", "observedAt", msgspec.json.Decoder(Time), _A_TIME),
    ("value", "value", msgspec.json.Decoder(float), "a number"),
    (
        "interval_seconds",
        "intervalSeconds",
        msgspec.json.Decoder(Interval | None),
        f"whole seconds from 1 to {MAX_INTERVAL_S}",
    ),
    ("quality", "quality", msgspec.json.Decoder(Quality), ", ".join(QUALITIES)),
)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 70


def shown(found: object) -> str:
    """What was found, short enough for one line. JSON text is shown as it came."""
    if isinstance(found, msgspec.Raw):
        text = bytes(found).decode("utf-8", "replace")
        return text if len(text) <= 70 and text.isprintable() else _short.repr(text[:400])
    return _short.repr(found)


def brief(error: object) -> str:
    """What another library said, on one line of at most 200 characters: it may quote any text of the input."""
    text = " ".join(str(error)[:1000].split()) or type(error).__name__
    return (text if text.isprintable() else text.encode("unicode_escape").decode())[:200]


def moment_ms(text: str) -> int | None:
    """Epoch ms (UTC) of an RFC 3339 time, also one out of range; None if it is none. Less than a millisecond is dropped."""
    if len(text) > _MAX_TIME:
        return None
    try:
        return (msgspec.convert(text, _AWARE) - _EPOCH) // _MS
    except msgspec.ValidationError:
        return None


class Times(dict[str, int]):
    """RFC 3339 text -> epoch ms. Meters report on the same quarter-hours, so most texts have been seen before."""

    def __missing__(self, text: str) -> int:
        time_ms = moment_ms(text)
        if time_ms is None or not FIRST_MS <= time_ms <= LAST_MS:
            return NO_TIME
        self[text] = time_ms
        return time_ms

    def all_ms(self, stamps: Iterable[Time], count: int) -> NDArray[np.int64]:
        """Epoch ms of each, `NO_TIME` where a text is no time."""
        return np.fromiter([self[t] if isinstance(t, str) else t for t in stamps], np.int64, count)


def time_fault(text: str) -> str:
    """Why a text is no time that can be."""
    if moment_ms(text) is not None:
        return f"observedAt {shown(text)} is out of range; possible: {_A_TIME}"
    fault = "is not a time"
    if len(text) <= _MAX_TIME:
        with contextlib.suppress(msgspec.ValidationError):
            msgspec.convert(text, datetime)
            fault = "has no UTC offset"
    return f"observedAt {shown(text)} {fault}; possible: {_A_TIME}"


def decoded(fields: Loose, names: tuple[str, ...]) -> dict[str, Any]:
    """The values of those of the fields that are there; `field_fault` has found none in them."""
    return {
        field: decoder.decode(raw)
        for field, _, decoder, _ in _FIELDS
        if field in names and bytes(raw := getattr(fields, field))
    }


def field_fault(fields: Loose, skip: tuple[str, ...] = ()) -> str | None:
    """The first field that is missing or of a wrong type, and what was possible; None when all decode."""
    for field, name, decoder, possible in _FIELDS:
        raw: msgspec.Raw = getattr(fields, field)
        if field in skip:
            continue
        if not bytes(raw):
            if field not in _MISSING_OK:
                return f"key {name!r} is missing; possible: {possible}"
            continue
        try:
            decoder.decode(raw)
        except FOREIGN:
            if field == "unit":
                return _unit_fault(fields.kind, raw)
            return f"{name}: found {shown(raw)}; possible: {possible}"
    return None


def _unit_fault(kind: msgspec.Raw, unit: msgspec.Raw) -> str:
    """Called after `kind` decoded, so its units can be named."""
    name: str = msgspec.json.decode(kind)
    return f"unit: found {shown(unit)} for kind {name!r}; possible: {', '.join(UNITS[name])}"


def malformed(payload: bytes, error: Exception) -> str:
    """Why a payload is no reading at all."""
    if isinstance(error, RecursionError):
        return "malformed JSON: nested too deeply; possible: an object, or an array of objects"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}; possible: JSON in UTF-8"
    text = bytes(payload).decode()
    if isinstance(error, msgspec.ValidationError):
        return f"found {shown(text)}; possible: a reading, or an array of readings"
    if not text.strip():
        return "malformed JSON: the value is empty; possible: a reading, or an array of readings"
    for token in ("NaN", "Infinity"):
        if token in text:
            return f"malformed JSON: {token} is not JSON; possible: a number, or no reading"
    why = str(error).removeprefix("JSON is malformed: ")
    return f"malformed JSON: {why}; possible: a reading, or an array of readings"
