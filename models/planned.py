"""Planned work: flushing, fire tests, re-zoning. It labels what happens meanwhile, and never hides it.

    dma,startedAt,endedAt,what[,whatZh]
    ALFA,2026-11-23 22:00,2026-11-24 04:00,mains flushing,管网冲洗
    *,2026-12-01T08:00+08:00,2026-12-01T12:00+08:00,fire hydrant test

A naive time is the site's local time; `*` is every DMA.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from models.config import ConfigError, nearest
from models.wire import FIRST_MS, LAST_MS

EVERYWHERE: Final = "*"
BEFORE_MS: Final = 3_600_000
"""An event that began so shortly before the window may belong to it: crews start early, and a start is an estimate."""
_COLUMNS: Final = ("dma", "startedAt", "endedAt", "what")
_MOST: Final = 100
"""Characters of a text: it stands in titles."""


@dataclass(frozen=True, slots=True)
class PlannedWork:
    """One window in one DMA, or in all (`EVERYWHERE`)."""

    dma: str
    start_ms: int
    end_ms: int
    what: str
    what_zh: str


def read_planned(text: str, timezone: str, dmas: Collection[str]) -> tuple[PlannedWork, ...]:
    """The windows of the text of planned.csv, by start. Raises ConfigError naming every faulty line."""
    try:
        reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ConfigError([f"planned.csv: cannot be read: {error}; possible: comma separated values"]) from None
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError([f"planned.csv: no column {name!r}; possible: {', '.join(_COLUMNS)}, whatZh" for name in missing])
    faults: list[str] = []
    found = []
    zone = ZoneInfo(timezone)
    for line, row in rows:
        before = len(faults)
        where = f"planned.csv: line {line}"
        fields = {name: (row.get(name) or "").strip() for name in (*_COLUMNS, "whatZh")}
        dma = fields["dma"]
        if dma != EVERYWHERE and dma not in dmas:
            faults.append(f"{where}: dma {dma!r} is not in network.toml; {nearest(dma, dmas)}, or '*' for all")
        times = []
        for name in ("startedAt", "endedAt"):
            times.append(_time_ms(fields[name], zone))
            if times[-1] is None:
                faults.append(f"{where}: {name} {fields[name]!r} cannot be read; possible: ISO 8601, from 1990 to 2100")
        start_ms, end_ms = times
        if start_ms is not None and end_ms is not None and end_ms <= start_ms:
            faults.append(f"{where}: endedAt {fields['endedAt']!r} is not after startedAt {fields['startedAt']!r}")
        if not 0 < len(fields["what"]) <= _MOST or not fields["what"].isprintable() or len(fields["whatZh"]) > _MOST:
            faults.append(f"{where}: what {fields['what'][:30]!r}; possible: a few words, at most {_MOST} characters")
        if len(faults) == before and start_ms is not None and end_ms is not None:
            found.append(PlannedWork(dma, start_ms, end_ms, fields["what"], fields["whatZh"] or fields["what"]))
    if faults:
        raise ConfigError(faults)
    return tuple(sorted(found, key=lambda work: (work.start_ms, work.end_ms, work.dma, work.what)))


def _time_ms(text: str, zone: ZoneInfo) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        time_ms = round((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return time_ms if FIRST_MS <= time_ms <= LAST_MS else None


def during(planned: Iterable[PlannedWork], dma: str, started_ms: int, detected_ms: int) -> PlannedWork | None:
    """The work that was going on in a DMA between the start of an event and its detection; of several the first.

    Both times of an event are frozen when it is raised, so all its revisions say the same.
    """
    for work in planned:
        if work.dma in (dma, EVERYWHERE) and work.start_ms - BEFORE_MS <= detected_ms and started_ms <= work.end_ms:
            return work
    return None
