"""TOML text to tables; the long list of a large network's meters piece by piece."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final

from models.config import ConfigError

PIECE: Final = 5000  # [[meter]] tables

_HEADER: Final = re.compile(r"^[ \t]*\[.*$", re.MULTILINE)
_METER: Final = re.compile(r"[ \t]*\[\[meter\]\][ \t]*(#.*)?")
_VALVE: Final = re.compile(r"[ \t]*\[\[valve\]\][ \t]*(#.*)?")


def read_toml(text: str, name: str) -> dict[str, Any]:
    """The tables of a file's text. Raises ConfigError."""
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also a number of too many digits
        raise ConfigError([f"{name}: not TOML: {error}"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: not TOML: found lists or tables nested too deep; possible: a few levels"]) from None


def network_pieces(text: str) -> Iterator[dict[str, Any]]:
    """The tables of network.toml in the order of the file; 'meter', and 'valve' behind it, may come in several parts.

    The tables of 1,000,000 meters take 0.8 GB before anything is made of them. Where the rest of the text is nothing but
    [[meter]] and [[valve]] tables, it can be cut before any [[meter]] and means the same; else it is read as a whole. A
    part that is not TOML may be the fault of a cut: ValueError or RecursionError then, and the whole is to be asked.
    """
    cuts = _cuts(text)
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        piece = tomllib.loads(text[start:end])
        if start == 0 and "valve" in piece and cuts and re.search(_VALVE.pattern, text[end:], re.MULTILINE):
            raise ValueError("valves before and after a cut")
        yield piece


def _cuts(text: str) -> list[int]:
    """Where every so-many-th [[meter]] begins; none where something else stands between them."""
    if '"""' in text or "'''" in text:  # a line of such a text may look like a table
        return []
    cuts: list[int] = []
    meters = 0
    for header in _HEADER.finditer(text):
        is_meter = _METER.fullmatch(header[0].rstrip("\r")) is not None
        if is_meter:
            meters += 1
            if meters % PIECE == 1 and meters > 1:
                cuts.append(header.start())
        elif cuts and _VALVE.fullmatch(header[0].rstrip("\r")) is None:
            return []
    return cuts
