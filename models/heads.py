"""What a reading says of itself, checked against the network: its meter, its kind and its unit."""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import cached_property
from typing import Final

import numpy as np

from models.config import nearest
from models.network import Site
from models.schema import FLOW, HIGHEST, KINDS, LOWEST, UNITS
from models.wire import shown

FITS: Final[dict[str, tuple[str, ...]]] = {
    "flow": ("flow", "volume", "register", "battery"),
    "pressure": ("pressure", "battery"),
    "level": ("level", "battery"),
}
"""Configured kind of a meter -> kinds of reading it may send."""

PAIRS: Final = tuple((kind, unit) for kind, units in UNITS.items() for unit in units)
"""Kind and unit, by pair number."""
_PAIR: Final = {pair: number for number, pair in enumerate(PAIRS)}
PAIR_BITS: Final = 6
PAIR_MASK: Final = (1 << PAIR_BITS) - 1
_UNKNOWN: Final = -1

# by pair number; the unused rest is NaN, so that what is unknown (-1) becomes NaN and is refused with the non-finite
FACTOR: Final = np.full(1 << PAIR_BITS, np.nan)
FACTOR[: len(PAIRS)] = [UNITS[kind][unit] for kind, unit in PAIRS]
KIND: Final = np.zeros(1 << PAIR_BITS, np.uint8)
KIND[: len(PAIRS)] = [FLOW if kind == "volume" else KINDS.index(kind) for kind, _ in PAIRS]
VOLUME: Final = np.zeros(1 << PAIR_BITS, bool)
VOLUME[: len(PAIRS)] = [kind == "volume" for kind, _ in PAIRS]
# value in the engine's unit; NaN is not in it, so neither are a gap and what is unknown
LOW: Final = LOWEST[KIND]
HIGH: Final = HIGHEST[KIND]


class Heads(dict[tuple[str, str, str], int]):
    """(meter id, kind, unit) -> meter row and pair number in one integer, or -1 when they do not go together."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reasons: dict[str, str] = {}

    def __missing__(self, head: tuple[str, str, str]) -> int:
        meter, kind, unit = head
        row = self._site.meter_row.get(meter)
        pair = _PAIR.get((kind, unit))
        if row is None or pair is None or kind not in FITS[self._site.meters[row].kind]:
            return _UNKNOWN
        # the site's own texts: a million heads would each keep the id that came with a message
        self[self._site.meters[row].id, *PAIRS[pair]] = code = row << PAIR_BITS | pair
        return code

    def meter_kind(self, meter: str) -> str | None:
        """The configured kind of a meter, None for an unknown one."""
        row = self._site.meter_row.get(meter)
        return None if row is None else self._site.meters[row].kind

    def fault(self, meter: str, kind: str, unit: str) -> str | None:
        """Why these do not go together."""
        configured = self.meter_kind(meter)
        if configured is None:
            return self._unknown(meter)
        if kind not in FITS[configured]:
            possible = ", ".join(FITS[configured])
            return f"kind {kind!r} does not fit {configured} meter {meter!r}; possible: {possible}"
        if unit not in UNITS[kind]:
            return f"unit {shown(unit)} is unknown for kind {kind!r}; possible: {', '.join(UNITS[kind])}"
        return None

    def _unknown(self, meter: str) -> str:
        """The reason is kept per id: a stranger that sends every second must not cost a search every second."""
        if meter not in self._reasons:
            if len(self._reasons) >= 4096 or len(meter) > 128:
                return f"meter {shown(meter)} is not in network.toml"
            self._reasons[meter] = f"meter {shown(meter)} is not in network.toml; {self._nearest(meter)}"
        return self._reasons[meter]

    def _nearest(self, meter: str) -> str:
        same = self._by_plain.get(_plain(meter))
        if same is not None:
            return f"nearest: {same!r}"
        # difflib over every id of a large site takes seconds; the neighbours in the alphabet share a prefix
        at = bisect_left(self._sorted, meter)
        near = self._sorted if len(self._sorted) <= 256 else self._sorted[max(at - 16, 0) : at + 16]
        return nearest(meter, near)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._site.meter_row)

    @cached_property
    def _by_plain(self) -> dict[str, str]:
        return {_plain(meter): meter for meter in self._site.meter_row}


def _plain(meter: str) -> str:
    """'fm9' of 'FM-09', 'FM 9' and 'fm_009': how people and gateways vary one id."""
    parts = re.findall(r"[0-9]+|[^\W\d_]+", meter.casefold())
    return "".join(part.lstrip("0") or "0" if part.isdigit() else part for part in parts)
