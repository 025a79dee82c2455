"""Valid inputs made wrong, by a seeded random: as bytes, as trees (JSON, MessagePack), and as columns behind a header.

What is changed stays mostly right, or every input would fail at its first byte.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import Any, Final

import msgspec

INTEGERS: Final = (0, 1, -1, 2, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**60, 2**62, 2**63 - 1)
BEYOND: Final = (2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, -(10**400))
FLOATS: Final = (0.5, -0.0, 5e-324, 1e39, -5e8, 1.7e308, -1.7e308, float("nan"), float("inf"), float("-inf"))
TIMES: Final = (
    631_152_000_000,
    4_102_444_800_000,
    1_795_400_100_000,
    "2026-11-23T02:15:00Z",
    "2026-11-23",
    "0001-01-01T00:00:00+14:00",
)
WORDS: Final = (
    "", " ", "\n", "a\nb", "\0", "\ud800", "\udfff x", "é", "偏", "\u2028", "NaN", "1", "null", "flow", "volume", "register",
    "pressure", "m3/h", "L/s", "m3", "kPa", "%", "good", "bad", "in-A", "A", "C", "replay", "<f8", "O", "V0", "<M8[ns]",
    "U9999999",     "(9,9)f8", "f8,f8",
)  # fmt: skip
DEEP: Final = 20_000


class Literal(str):
    """JSON text that no encoder would write."""

    __slots__ = ()


LITERALS: Final = tuple(
    map(
        Literal,
        ("1e999", "-1e-999", "01", "+1", "1.", ".5", "0x1", "tru", "[", "}", '"', "'a'", "1" * 5000, "NaN", "-Infinity"),
    )
)
NESTED: Final = (
    Literal("[" * DEEP), Literal("[" * DEEP + "]" * DEEP), Literal('{"a":' * DEEP + "1" + "}" * DEEP),
)  # fmt: skip

Path = tuple[Any, Any]


_VALUES: Final[tuple[tuple[int, Callable[[Random], Any]], ...]] = (
    (22, lambda rng: rng.choice(INTEGERS) * rng.choice((1, 1, -1))),
    (8, lambda rng: rng.choice(BEYOND)),
    (15, lambda rng: rng.choice(FLOATS)),
    (10, lambda rng: rng.choice(TIMES)),
    (20, lambda rng: rng.choice(WORDS)),
    (8, lambda rng: rng.choice((None, True, False, [], {}, [[]], [None], {"": None}, [1, 2], {"a": [1]}))),
    (8, lambda rng: rng.choice(LITERALS)),
    (1, lambda rng: rng.choice(NESTED)),
    (1, lambda rng: rng.choice("a\n\ud800é") * rng.choice((200, 5_000, 100_000))),
    (7, lambda rng: rng.uniform(-1e4, 1e4)),
)
_SHARES: Final = tuple(accumulate(share for share, _ in _VALUES))


def value(rng: Random) -> Any:
    """Something that is seldom what is wanted."""
    return _VALUES[bisect_right(_SHARES, rng.randrange(_SHARES[-1]))][1](rng)


def _places(tree: Any, found: list[Path]) -> list[Path]:
    """(container, key) of every node below the root."""
    for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree):
        found.append((tree, key))
        if isinstance(inner, (dict, list)):
            _places(inner, found)
    return found


def _swapped(found: Any, rng: Random) -> Any:
    """The same in another type."""
    if isinstance(found, (int, float)):
        return rng.choice((str(found), [found], float(found) if abs(found) < 1e300 else None, {"v": found}))
    if isinstance(found, str):
        return rng.choice((len(found), [found], found + "\0", found.upper(), found[:-1]))
    if isinstance(found, list):
        return rng.choice((dict(enumerate(map(str, found[:5]))), found[0] if found else None, found * 2, found[:-1]))
    return [found] if rng.random() < 0.5 else str(found)[:50]


def tree(root: Any, rng: Random) -> Any:
    """`root` (dicts and lists, changed in place) with one to three nodes replaced, removed, doubled, swapped or renamed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(root, []) if isinstance(root, (dict, list)) else []
        if not places:
            return value(rng) if rng.random() < 0.5 else [root]
        container, key = rng.choice(places)
        how = rng.random()
        if how < 0.45:
            container[key] = value(rng)
        elif how < 0.6:
            container[key] = _swapped(container[key], rng)
        elif how < 0.7:
            del container[key]
        elif how < 0.8:
            other, at = rng.choice(places)
            # a copy: a node below itself would have no end
            container[key] = json.loads(json.dumps(other[at]))
        elif isinstance(container, list):
            container.insert(rng.randrange(len(container) + 1), value(rng))
        else:
            name = rng.choice((*container, rng.choice(WORDS), "x" * rng.choice((1, 5_000))))
            container[name] = container.pop(key) if rng.random() < 0.5 else value(rng)
    return [root] if rng.random() < 0.02 else root


def json_text(root: Any, rng: Random) -> bytes:
    """JSON of a tree, `Literal`s as they are; now and then with a key twice, in another encoding, or with a byte off."""
    text = json.dumps(
        _marked(root, found := []), ensure_ascii=rng.random() < 0.9, separators=rng.choice(((",", ":"), (", ", ": ")))
    )
    for number, literal in enumerate(found):
        text = text.replace(f'"@{number}@"', literal, 1)
    if rng.random() < 0.05 and "{" in text:
        at = rng.choice([place for place, letter in enumerate(text[:2000]) if letter == "{"] or [0])
        twice = rng.choice(
            ('"meterId":1,', '"value":2.5,', '"value":"x",', '"rows":1,', '"v":1,', '"observedAt":[],', '"":0,')
        )
        text = text[: at + 1] + twice + text[at + 1 :]
    encoding = "utf-16" if rng.random() < 0.005 else "utf-8"
    data = text.encode(encoding, "surrogatepass")
    return raw(data, [data], rng) if rng.random() < 0.1 else data


def _marked(root: Any, found: list[Literal]) -> Any:
    """`root` with each `Literal` as a string that tells its number."""
    if isinstance(root, Literal):
        found.append(root)
        return f"@{len(found) - 1}@"
    if isinstance(root, dict):
        return {key: _marked(inner, found) for key, inner in root.items()}
    return [_marked(inner, found) for inner in root] if isinstance(root, list) else root


def msgpack(root: Any, rng: Random) -> bytes:
    """MessagePack of a tree; what it has no form for becomes text, nesting becomes real."""
    data = msgspec.msgpack.encode(_packable(root))
    marker = msgspec.msgpack.encode("@deep@")
    if marker in data:
        data = data.replace(marker, rng.choice((b"\x91", b"\x81\xa1a")) * DEEP + b"\xc0", 1)
    return raw(data, [data], rng) if rng.random() < 0.1 else data


def _packable(root: Any) -> Any:
    if isinstance(root, dict):
        return {_packable(key): _packable(inner) for key, inner in root.items()}
    if isinstance(root, list):
        return [_packable(inner) for inner in root]
    if isinstance(root, str):
        return "@deep@" if root in NESTED else root.encode("utf-8", "replace").decode()
    if isinstance(root, int) and not -(2**63) <= root < 2**64:
        return str(root)
    return root


def raw(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """`data` with bits flipped, bytes cut, doubled put in or overwritten, or its end exchanged with another's."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        size = len(out)
        at = rng.randrange(size + 1) if rng.random() < 0.6 else min(size, rng.randrange(64))
        how = rng.random()
        if how < 0.25 and size:
            out[at % size] ^= 1 << rng.randrange(8)
        elif how < 0.35:
            del out[at:]
        elif how < 0.45:
            del out[at : at + rng.choice((1, 2, 4, 8, 100))]
        elif how < 0.55:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 8, 40)))
        elif how < 0.65:
            out[at:at] = out[at : at + rng.choice((1, 4, 22, 300))]
        elif how < 0.85:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice((*INTEGERS, -2, size, size - 1)) % (1 << 8 * width)
            out[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))  # type: ignore[arg-type]
        else:
            other = rng.choice(others)
            out[at:] = other[at if rng.random() < 0.5 else rng.randrange(len(other) + 1) :]
    return bytes(out)


def columns(data: bytes, rng: Random) -> bytes:
    """Columns with some of their numbers changed: NaN, infinity, far times; seldom of another length."""
    if rng.random() < 0.2:
        return raw(data, [data], rng)
    out = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 8))):
        width = rng.choice((1, 4, 8))
        special = (*INTEGERS, -2, 0x7FF8 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 0x48 << 56, 0x7FC0_0000)
        if len(out) >= width:
            at = rng.randrange(len(out) // width) * width
            out[at : at + width] = (rng.choice(special) % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(out)
