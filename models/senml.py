"""SenML packs (RFC 8428) resolved into readings.

Base fields (bn, bt, bu, bv) apply to their record and to all after it. The name, bn + n, is the meter id. SenML has no
kind, so the unit and the meter's configured kind decide; a volume unit means a register, because a pack cannot carry
the interval that an interval volume needs. Times below 2**28 s are relative to the moment of arrival, which the core
does not know: they are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from models.schema import UNITS
from models.wire import FIRST_MS, FOREIGN, LAST_MS, MAX_ID, Single, shown

RELATIVE_BELOW_S: Final = 2**28
VERSION: Final = 10

UNIT_NAMES: Final[dict[str, tuple[str, float]]] = {
    "l": ("L", 1.0),
    "l/s": ("L/s", 1.0),
    "m3/s": ("m3/h", 3600.0),
    "Pa": ("kPa", 1e-3),
    "hPa": ("kPa", 0.1),
    "%EL": ("%", 1.0),
}
"""Spelling in SenML's registry of units, where it is not ours -> our unit, and the factor to it."""

Found = Single | str | None
"""What a record gives: a reading, the reason it gives none, or nothing (it holds base fields only)."""

_RECORD: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(str)
_NUMBER: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(float)
_WHOLE: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(int)
_BASE: Final = {"bn": _TEXT, "bt": _NUMBER, "bu": _TEXT, "bv": _NUMBER, "bver": _WHOLE}
_OWN: Final = {"n": _TEXT, "t": _NUMBER, "u": _TEXT, "v": _NUMBER}
_IS: Final = {_TEXT: "text", _NUMBER: "a number", _WHOLE: "a whole number"}
_OTHER_VALUES: Final = {"vs": "a text", "vb": "a truth value", "vd": "data", "s": "a sum"}


def is_pack(elements: Sequence[msgspec.Raw]) -> bool:
    """True when the first element names its sensor as SenML does."""
    if not elements:
        return False
    try:
        first = _RECORD.decode(elements[0])
    except FOREIGN:
        return False
    return "meterId" not in first and ("bn" in first or "n" in first)


def resolve(elements: Sequence[msgspec.Raw], meter_kind: Callable[[str], str | None]) -> list[Found]:
    """One entry per record. `meter_kind` gives the configured kind of a meter id, None for an unknown meter.

    After a faulty base field nothing that follows can be trusted, so every later record is refused with it.
    """
    base: dict[str, Any] = {"bn": "", "bt": 0.0, "bu": None, "bv": 0.0, "bver": VERSION}
    found: list[Found] = []
    for element in elements:
        try:
            record = _RECORD.decode(element)
        except FOREIGN:
            found.append(f"found {shown(element)}; possible: a SenML record")
            continue
        broken = _read(record, _BASE, base)
        if broken is None and base["bver"] > VERSION:
            broken = f"bver: found {base['bver']}; possible: {VERSION}"
        if broken is not None:
            return found + [broken] * (len(elements) - len(found))
        found.append(_reading(record, base, meter_kind))
    return found


def _read(record: dict[str, msgspec.Raw], fields: dict[str, msgspec.json.Decoder[Any]], into: dict[str, Any]) -> str | None:
    """Decode the fields that are there; the first fault, if any."""
    for name, decoder in fields.items():
        if name in record:
            try:
                into[name] = decoder.decode(record[name])
            except FOREIGN:
                return f"{name}: found {shown(record[name])}; possible: {_IS[decoder]}"
    return None


def _reading(record: dict[str, msgspec.Raw], base: dict[str, Any], meter_kind: Callable[[str], str | None]) -> Found:
    if record and record.keys() <= {*_BASE, "bs"}:
        return None
    own: dict[str, Any] = {"n": "", "t": 0.0, "u": base["bu"], "v": None}
    fault = _must_understand(record) or _read(record, _OWN, own)
    if fault is None and own["v"] is None:
        other = [name for name in _OTHER_VALUES if name in record]
        fault = f"{other[0]}: found {_OTHER_VALUES[other[0]]}" if other else "key 'v' is missing"
        fault += "; possible: 'v', a number"
    seconds = base["bt"] + own["t"]
    fault = fault or _time_fault(seconds)
    # before they are joined: a base name of a megabyte, in front of 100,000 records, is 100 GB of names
    if fault is None and len(base["bn"]) + len(own["n"]) > MAX_ID:
        fault = f"bn + n: found {len(base['bn']) + len(own['n'])} characters; possible: the id of a meter, at most {MAX_ID}"
    if fault is not None:
        return fault
    return _as_single(base["bn"] + own["n"], own["u"], base["bv"] + own["v"], round(seconds * 1000.0), meter_kind)


def _must_understand(record: dict[str, msgspec.Raw]) -> str | None:
    """RFC 8428, 4.4: a receiver that does not know a field ending in _ must not process the record."""
    for name in record:
        if name.endswith("_"):
            return f"{shown(name)}: must be understood, and is not; possible: {', '.join((*_BASE, *_OWN))}"
    return None


def _time_fault(seconds: float) -> str | None:
    if seconds < RELATIVE_BELOW_S:
        return f"bt + t: found {seconds:g} s, relative to now; possible: seconds since 1970, at least 2**28"
    # also keeps infinity from round()
    if not FIRST_MS <= seconds * 1000.0 <= LAST_MS:
        return f"bt + t: found {seconds:g} s; possible: seconds since 1970, from 1990 to 2100"
    return None


def _as_single(meter: str, unit: str | None, value: float, time_ms: int, meter_kind: Callable[[str], str | None]) -> Found:
    kind = meter_kind(meter) or "flow"
    if unit is None:
        return f"keys 'u' and 'bu' are missing; possible: {', '.join(UNITS[kind])}"
    unit, factor = UNIT_NAMES.get(unit, (unit, 1.0))
    if unit in UNITS["battery"]:
        kind = "battery"
    elif kind == "flow" and unit in UNITS["register"]:
        kind = "register"
    # not validated here: the codec checks kind and unit of every reading against its meter
    return Single(meter, kind, value * factor, unit, time_ms)  # type: ignore[arg-type]
