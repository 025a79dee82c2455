"""Counts of what the router could not use: by reason, and by meter where it can be read. Memory is bounded.

Whoever floods the raw topic with made-up meter ids must not fill the memory, nor push the meters of the site out of the
count. So both are kept apart, and what does not fit is counted together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

MOST_METERS: Final = 4096
"""Meters of the site that are counted one by one."""
MOST_STRANGERS: Final = 1024
"""Ids that are not in network.toml and are counted one by one."""
LONGEST_ID: Final = 128
LONGEST_READ: Final = 64 * 1024
"""A longer message is not read again for its meter's id; its key serves."""

AHEAD, BEHIND = "ahead", "behind"

_CLASSES: Final = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("clock_ahead", r"observedAt .* is more than 1 h ahead of"),
        ("clock_behind", r"observedAt .* is more than \d+ days before"),
        ("oversized", r"oversized"),
        ("null_value", r"value is null"),
        ("unreadable", r"malformed JSON|not UTF-8|found "),
        ("unknown_meter", r"meter .* is not in network\.toml"),
        ("fields", r"columns differ|observedAt and value|kind 'volume': key|a key is there twice"),
        ("time", r"observedAt|b?t: |bt \+ t|key 'observedAt'"),
        ("unit", r"unit|b?u: |key 'unit'|keys 'u' and 'bu'"),
        ("kind", r"kind|key 'kind'"),
        ("value", r"value|b?v: |bv \+ v|key 'value'|.*; possible: 'v', a number"),
        ("fields", r"key |meterId: |quality: |intervalSeconds: |seq: |b?n: |bn \+ n|bver: |.* must be understood"),
    )
)
OTHER: Final = "other"
REASONS: Final = (*dict.fromkeys(name for name, _ in _CLASSES), OTHER)
"""Every class of reasons there is."""
_ELEMENT = re.compile(r"reading (\d+): ")


class _Named(msgspec.Struct, rename="camel"):
    meter_id: str | None = None


_NAMED: Final = msgspec.json.Decoder(_Named)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(slots=True)
class Clock:
    """Readings of one meter that a wrong clock observed, on one side of the right time."""

    readings: int = 0
    seen_ms: int = 0
    """The newest message's own time, epoch ms."""
    seconds: float = 0.0
    """How far off its last reading was."""


@dataclass(slots=True)
class Trouble:
    """What was wrong with the messages of one meter, since the worker's start."""

    rejected: int = 0
    """Messages."""
    ahead: Clock | None = None
    behind: Clock | None = None


class Tally:
    """Of one router. Counts begin at 0 with the worker and only grow."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self.messages = 0
        self.reasons: Counter[str] = Counter()
        self.meters: dict[str, Trouble] = {}
        """Of the site."""
        self.strangers: dict[str, Trouble] = {}
        """Not in network.toml."""
        self.rest = Trouble()
        """Of meters beyond `MOST_METERS` and `MOST_STRANGERS`."""
        self.unnamed = 0
        """Rejected messages whose meter cannot be read."""

    def reject(self, record: Any, reasons: list[str]) -> None:
        """A message (aiokafka's) that becomes a dead letter; it counts once, for the first of its reasons."""
        self.messages += 1
        self.reasons[reason_class(reasons[0])] += 1
        meter = meter_of(record, reasons[0])
        if meter is None:
            self.unnamed += 1
        else:
            self._of(meter).rejected += 1

    def wrong_clock(self, meter: str, side: str, readings: int, seen_ms: int, off_ms: int) -> None:
        """Readings of one meter of one message, `off_ms` from the message's own time `seen_ms`."""
        trouble = self._of(meter)
        clock = getattr(trouble, side) or Clock()
        clock.readings += readings
        clock.seen_ms = max(clock.seen_ms, seen_ms)
        clock.seconds = off_ms / 1000
        setattr(trouble, side, clock)

    def _of(self, meter: str) -> Trouble:
        some, most = (self.meters, MOST_METERS) if meter in self._known else (self.strangers, MOST_STRANGERS)
        found = some.get(meter)
        if found is None:
            if len(some) >= most:
                return self.rest
            found = some[meter] = Trouble()
        return found


def reason_class(reason: str) -> str:
    """One of `REASONS`."""
    text = _ELEMENT.sub("", reason, count=1) if reason.startswith("reading ") else reason
    return next((name for name, pattern in _CLASSES if pattern.match(text)), OTHER)


def meter_of(record: Any, reason: str) -> str | None:
    """Whose message it is: the id in the message (of a batch: of its first bad reading), else its key. None when unknown."""
    value = record.value
    if value is not None and len(value) <= LONGEST_READ:
        element = _ELEMENT.match(reason)
        found = _read(value, None if element is None else int(element[1]))
        if found is not None:
            return found
    return _plausible((record.key or b"").decode(errors="replace"))


def _read(value: bytes, element: int | None) -> str | None:
    try:
        if element is not None and value.lstrip()[:1] == b"[":
            value = bytes(_LIST.decode(value)[element])
        return _plausible(_NAMED.decode(value).meter_id)
    except (msgspec.MsgspecError, ValueError, RecursionError, IndexError):
        return None


def _plausible(meter: str | None) -> str | None:
    return meter if meter and len(meter) <= LONGEST_ID and meter.isprintable() and "\ufffd" not in meter else None


def total(some: Iterable[Clock | None]) -> int:
    """Readings of all of them."""
    return sum(clock.readings for clock in some if clock is not None)
