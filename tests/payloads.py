"""Payloads of readings as other encoders might write them, by a seeded random: in every spelling, now and then wrong.

And what it is for two decoders to give the same.
"""

from __future__ import annotations

import json
from random import Random
from typing import Final

from models.codec import Decoded
from tests.fuzz import mutate

WHITE: Final = ("", "", "", "", " ", "\n", "\t", "\r\n ", "    ")
NUMBERS: Final = (
    "0", "1", "12", "12.5", "0.1", "1e3", "1E+02", "1e-2", "12.50", "120e-1", "9007199254740992", "9007199254740993", "1e22",
    "1e23", "1.5e-22", "1e-23", "0.30000000000000004", "123456789012345678", "1234567890123456789", "0.000001", "100000.0",
    "-1", "-0.5", "-0", "-0.0", "0.0", "0e5", "1e05", "1e-05", "1000000", "1000000.0000001", "1.7976931348623157e308",
    "5e-324", "00", "01", "-01", "1.", ".5", "+1", "1e", "1e+", "0x1", "NaN", "Infinity", "-", "null", "true", "1_000",
    "1e999", '"1"', "[1]", "99999999.99999999", "0.00000000000000000001", "1e0000000000000000001", "12.5 ", "1 2",
)  # fmt: skip
TIMES: Final = (
    '"2026-11-23T02:15:00Z"', '"2026-11-23T10:15:00+08:00"', '"2026-11-22T21:45:00-04:30"', '"2026-11-23T02:15:00.25Z"',
    '"2026-11-23T02:15:00.123456Z"', '"2026-11-23T02:15:00.1239-00:00"', '"2026-11-23T02:15:00.9999999Z"',
    '"2026-11-23T02:15:00.99999949Z"', '"2024-02-29T00:00:00Z"', '"2026-02-29T00:00:00Z"', '"2000-02-29T23:59:59Z"',
    '"2026-04-31T00:00:00Z"', '"2026-12-31T23:59:59.999Z"', '"2026-11-23t02:15:00z"', '"2026-11-23 02:15:00Z"',
    '"2026-11-23T24:00:00Z"', '"2026-11-23T02:15:60Z"', '"2026-11-23T02:60:00Z"', '"2026-11-23T02:15:00+0800"',
    '"2026-11-23T02:15:00+08"', '"2026-11-23T02:15:00+24:00"', '"2026-11-23T02:15:00+23:59"', '"2026-11-23T02:15:00-08:60"',
    '"2026-11-23T02:15:00"', '"2026-11-23"', '"2026-11-23T02:15Z"', '"2026-11-23T02:15:00.Z"', '"20261123T021500Z"',
    '"2026-13-23T02:15:00Z"', '"2026-00-23T02:15:00Z"', '"2026-11-00T02:15:00Z"', '"1990-01-01T00:00:00Z"',
    '"1989-12-31T23:59:59Z"', '"1989-12-31T23:59:59-00:01"', '"2100-01-01T00:00:00Z"', '"2100-01-01T00:00:00.001Z"',
    '"0000-01-01T00:00:00Z"', '"9999-12-31T23:59:59Z"', '"2026-11-23T02:15:00Z "', '"2026-11-23T02:15:00\\u005a"',
    '"+026-11-23T02:15:00Z"', '"2026-1a-23T02:15:00Z"', '"2026-11-23T0a:15:00Z"', '"2026-11-23T02-15-00Z"', '""',
    "1795400100000", "631152000000", "631151999999", "4102444800000", "4102444800001", "1.7954001e12", "1795400100000.0",
    "-1", "0", "01795400100000", "1795400100000e0", "null", "17954001000000000000", "[]", "false",
)  # fmt: skip
METERS: Final = ('"FM-01"', '"FM-09"', '"PT-01"', '"TK-01"')
STRANGERS: Final = (
    '"FM-0"', '"FM-011"', '"fm-01"', '""', '"FM-01', '"FM\\u002d01"', '"FM-01 "', '"FM-\\/01"', '"é"', "7", "null",
    '"FM-01\\u0000"', '"' + "F" * 64 + '"', '"' + "F" * 65 + '"', '"' + "F" * 200 + '"', '"FM-01\x00"', '"FM-01\x7f"',
)  # fmt: skip
KINDS: Final = (
    '"flow"', '"volume"', '"register"', '"battery"', '"pressure"', '"level"', '"Flow"', '"flow "', '"batteries"',
    '"battery\\u0000"', "1", '"flo\x00"',
)  # fmt: skip
UNITS: Final = (
    '"m3/h"', '"L/s"', '"L/h"', '"L/min"', '"m3/d"', '"m3"', '"L"', '"V"', '"%"', '"kPa"', '"m[H2O]"', '"bar"', '"MPa"',
    '"m"', '"m3\\/h"', '"gal"', '"m3/h/h/h"', "null",
)  # fmt: skip
QUALITIES: Final = ('"good"', '"uncertain"', '"bad"', '"ok"', '"goo"', '"good\\u0064"', "null", "1", '"uncertainly"')
INTERVALS: Final = (
    "900", "1", "2678400", "2678401", "0", "null", "900.0", "9e2", "-900", '"900"', "0900", "true", "60", "86400",
)  # fmt: skip
OTHERS: Final = (
    "1", '"x"', "null", "true", "false", "-0.5e3", "[]", "{}", '"\\n"', '"é"', "1e999", "tru", "01", '"a\x01"', "[1,[2]]",
    "nul",
)  # fmt: skip
NAMES: Final = (
    "seq", "x", "", "meter", "meterIdd", "kinds", "values", "observedat", "intervalSecond", "qualit", "\\u006beq",
)  # fmt: skip


def _pick(rng: Random, good: int, options: tuple[str, ...]) -> str:
    """Mostly one of the first, which are right."""
    return rng.choice(options[:good]) if rng.random() < 0.94 else rng.choice(options)


def _number(rng: Random) -> str:
    how = rng.random()
    if how < 0.3:
        return repr(round(rng.uniform(0, 500), rng.randrange(5)))
    if how < 0.4:
        return repr(rng.uniform(-500, 500))
    if how < 0.5:
        return f"{rng.randrange(10 ** rng.randrange(1, 19))}e{rng.randrange(-25, 25)}"
    return _pick(rng, 33, NUMBERS)


def _time(rng: Random) -> str:
    if rng.random() < 0.4:
        return str(rng.randrange(631_152_000_000, 4_102_444_800_000))
    if rng.random() < 0.5:
        fields = [rng.choice((1990, 2000, 2024, 2026, 2099)), *(rng.randrange(most) for most in (14, 33, 25, 61, 61))]
        fraction = rng.choice(("", "", "." + str(rng.randrange(10 ** rng.randrange(1, 8)))))
        offset = rng.choice(("Z", "Z", f"{rng.choice('+-')}{rng.randrange(25):02}:{rng.randrange(61):02}"))
        return '"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}{}"'.format(*fields, fraction, offset)
    return _pick(rng, 7, TIMES)


def _list(rng: Random, count: int, make: object) -> str:
    white = rng.choice(WHITE)
    return "[" + f"{white},".join(white + make(rng) for _ in range(count)) + white + "]"  # type: ignore[operator]


def item(rng: Random, form: float | None = None) -> str:
    """A single reading, or columns."""
    form = rng.random() if form is None else form
    kind = _pick(rng, 4, KINDS)
    unit = rng.choice({'"flow"': UNITS[:5], '"volume"': UNITS[5:7], '"register"': UNITS[5:7]}.get(kind, UNITS))
    fields = {"meterId": _pick(rng, 2, METERS + STRANGERS), "kind": kind, "unit": unit}
    if rng.random() < 0.05:
        fields |= {"meterId": rng.choice(METERS), "kind": rng.choice(KINDS), "unit": rng.choice(UNITS)}
    if form < 0.75:
        fields |= {"value": _number(rng), "observedAt": _time(rng)}
    else:
        count = rng.choice((0, 1, 2, 5))
        counts = [count + (rng.random() < 0.02) for _ in range(3)]
        fields["value"] = _list(rng, counts[0], lambda r: "null" if r.random() < 0.1 else _number(r))
        fields["observedAt"] = _list(rng, counts[1], _time)
        if rng.random() < 0.3:
            fields["quality"] = _list(rng, counts[2], lambda r: _pick(r, 3, QUALITIES))
    if rng.random() < 0.3:
        fields.setdefault("quality", _pick(rng, 3, QUALITIES))
    if kind == '"volume"' or rng.random() < 0.2:
        fields["intervalSeconds"] = _pick(rng, 3, INTERVALS)
    if rng.random() < 0.4:
        fields[_pick(rng, 1, NAMES)] = _pick(rng, 6, OTHERS)
    pairs = list(fields.items())
    if rng.random() < 0.5:
        rng.shuffle(pairs)
    if rng.random() < 0.03:
        pairs.append(rng.choice(pairs))
    if rng.random() < 0.03:
        pairs.pop(rng.randrange(len(pairs)))
    white = rng.choice(WHITE)
    body = ",".join(f'{white}"{name}"{white}:{white}{value}{white}' for name, value in pairs)
    return "{" + body + ("," if rng.random() < 0.01 else "") + "}"


def payload(rng: Random) -> bytes | None:
    """One message; null, cut, changed or with something behind it now and then."""
    if rng.random() < 0.01:
        return None
    if rng.random() < 0.3:
        items = [item(rng, 0.9 if rng.random() < 0.02 else 0.0) for _ in range(rng.choice((0, 1, 2, 4)))]
        text = "[" + ",".join(rng.choice(WHITE) + one + rng.choice(WHITE) for one in items) + "]"
    else:
        text = item(rng)
    text = rng.choice(WHITE) + text + rng.choice(WHITE)
    how = rng.random()
    if how < 0.02:
        text += rng.choice(("x", "{}", ",", "\0", "]", "}", "1"))
    data = text.encode("utf-8", "surrogatepass")
    if how > 0.97:
        return data[: rng.randrange(len(data) + 1)]
    if how > 0.9:
        return mutate.raw(data, [data], rng)
    if how > 0.88:
        return mutate.json_text(json.loads(data), rng) if _is_json(data) else data
    return data


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def same(got: Decoded, expected: Decoded) -> bool:
    """To the bit, and word for word."""
    return (
        got.readings.tobytes() == expected.readings.tobytes()
        and got.readings.dtype == expected.readings.dtype
        and got.message.tobytes() == expected.message.tobytes()
        and got.message.dtype == expected.message.dtype
        and got.rejects == expected.rejects
    )
