"""What is known of a site's past, from its labels.csv: leaks, how much water each has lost by a given time; and what was
no leak: planned work, legitimate use, faults of meters, false alarms.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyarrow as pa

from models.commands import OUTCOMES
from models.config import ConfigError, nearest
from models.network import Site
from training.history_time import NO_TIME, LocalClock, parse_times

ABRUPT: Final = "abrupt"
INCIPIENT: Final = "incipient"
LEAK_KINDS: Final = (ABRUPT, INCIPIENT)
HOUR_MS: Final = 3_600_000
_REQUIRED: Final = ("dma", "kind", "startedAt", "endedAt")
_OPTIONAL: Final = ("id", "max_m3h", "peakAt", "outcome")
PROVENANCE: Final = ("source", "alertId", "by", "at", "comment", "history")
"""Where a label comes from; told, and judged by nobody."""
COLUMNS: Final = (*_REQUIRED, *_OPTIONAL, *PROVENANCE)
LEAK_OUTCOMES: Final = ("confirmed_leak", "confirmed_burst")
NORMAL_OUTCOMES: Final = ("legitimate_use", "false_alarm")
"""What the DMA does when nothing is wrong: training keeps it, and so learns to expect it. Of the others (planned work, meter
faults, unknown) nothing can be learned of ordinary days."""


@dataclass(frozen=True)
class Leak:
    """A leak that is known. `ended_ms` is None where it was never repaired, `peak_ms` where it is not known.

    An incipient leak reaches `max_m3h` at `peak_ms`.
    """

    id: str
    dma: str
    kind: str
    started_ms: int
    ended_ms: int | None
    max_m3h: float | None = None
    peak_ms: int | None = None

    def runs_at(self, time_ms: int) -> bool:
        """True from its start to its end."""
        return self.started_ms <= time_ms <= (math.inf if self.ended_ms is None else self.ended_ms)

    @property
    def volume_is_a_bound(self) -> bool:
        """True where the growth is not known, so that `lost_m3` says what it has lost at most."""
        return self.kind == INCIPIENT and self.peak_ms is None

    def lost_m3(self, until_ms: int) -> float | None:
        """Volume that ran away from the start to `until_ms` or its end; None where its size is not known.

        Growth from the start to the peak is taken as linear. (Of a hole whose diameter grows linearly, as BattLeDIM's,
        that is up to half as much again as it lost by the peak.)
        """
        if self.max_m3h is None:
            return None
        until_ms = until_ms if self.ended_ms is None else min(until_ms, self.ended_ms)
        ran_h = max(until_ms - self.started_ms, 0) / HOUR_MS
        grows_h = 0.0
        if self.kind == INCIPIENT and self.peak_ms is not None:
            grows_h = (self.peak_ms - self.started_ms) / HOUR_MS
        if ran_h < grows_h:
            return self.max_m3h * ran_h * ran_h / (2.0 * grows_h)
        return self.max_m3h * (ran_h - grows_h / 2.0)


@dataclass(frozen=True)
class KnownEvent:
    """Something that looked like a leak, or might have, and was none; `ended_ms` is None where nobody knows."""

    id: str
    dma: str
    outcome: str
    started_ms: int
    ended_ms: int | None

    @property
    def is_normal(self) -> bool:
        """True for what training keeps (`NORMAL_OUTCOMES`)."""
        return self.outcome in NORMAL_OUTCOMES


def read_labels(path: Path, site: Site) -> list[Leak]:
    """The leaks of a labels.csv: `dma,kind,startedAt,endedAt[,id,max_m3h,peakAt,outcome,…]`; naive times are local to the
    site. Rows whose outcome is no leak are in `read_known_events`.

    Raises ConfigError naming every faulty line.
    """
    return [label for label in _read(path, site) if isinstance(label, Leak)]


def read_known_events(path: Path, site: Site) -> list[KnownEvent]:
    """The rows of a labels.csv that are no leaks. Raises ConfigError as `read_labels` does."""
    return [label for label in _read(path, site) if isinstance(label, KnownEvent)]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by column, as they are written. Raises ConfigError."""
    return [row for _, row in numbered_rows(path)[0]]


def faults_of(row: Mapping[str, str], site: Site) -> list[str]:
    """What is wrong with one row of a labels.csv."""
    faults: list[str] = []
    _label(dict(row), 0, "", site, faults)
    return [fault.removeprefix(": ") for fault in faults]


def _read(path: Path, site: Site) -> list[Leak | KnownEvent]:
    rows, columns = numbered_rows(path)
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        possible = ", ".join((*_REQUIRED, *_OPTIONAL))
        raise ConfigError([f"{path}: no column {name!r}; possible: {possible}" for name in missing])
    faults: list[str] = []
    labels = []
    for line, row in rows:
        before = len(faults)
        if None in row:
            faults.append(f"{path}: line {line}: more cells than columns")
        label = _label(row, line, f"{path}: line {line}", site, faults)
        if label is not None and len(faults) == before:
            labels.append(label)
    if faults:
        raise ConfigError(faults)
    return labels


def numbered_rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], Sequence[str]]:
    """The rows of a CSV file with the lines that they end in, and its columns; cells parted by `,`, or `;` as in Excel.

    A cell that a row lacks is empty; more cells than columns are under None. Raises ConfigError.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = ";" if ";" in header and "," not in header else ","
            reader = csv.DictReader(file, restval="", delimiter=delimiter)
            names = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: cannot be read: {error}; possible: text in UTF-8"]) from None
    except csv.Error as error:
        raise ConfigError([f"{path}: cannot be read: {error}; possible: CSV"]) from None
    columns = [name.strip() for name in names]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ConfigError([f"{path}: column {name!r} is there twice; possible: each once" for name in twice])
    stripped = dict(zip(names, columns, strict=True))
    return [(line, {stripped.get(name, name): cell for name, cell in row.items()}) for line, row in rows], columns


def _label(row: dict[str, str], line: int, where: str, site: Site, faults: list[str]) -> Leak | KnownEvent | None:
    outcome = (row.get("outcome") or "").strip()
    if outcome and outcome not in OUTCOMES:
        faults.append(f"{where}: outcome {outcome!r}; possible: {', '.join(OUTCOMES)}, or nothing, which is a leak")
    if not outcome or outcome in LEAK_OUTCOMES:
        return _leak(row, line, where, site, faults)
    # only its DMA and times count
    leak = _leak(row | {"kind": ABRUPT, "max_m3h": "", "peakAt": ""}, line, where, site, faults)
    return None if leak is None else KnownEvent(leak.id, leak.dma, outcome, leak.started_ms, leak.ended_ms)


def _leak(row: dict[str, str], line: int, where: str, site: Site, faults: list[str]) -> Leak | None:
    dma, kind = (row["dma"] or "").strip(), (row["kind"] or "").strip()
    if dma not in site.dma_row:
        faults.append(f"{where}: dma {dma!r} is not in network.toml; {nearest(dma, site.dma_row)}")
    if kind not in LEAK_KINDS:
        faults.append(f"{where}: kind {kind!r}; possible: {', '.join(LEAK_KINDS)}")
    texts = {name: (row.get(name) or "").strip() for name in ("startedAt", "endedAt", "peakAt")}
    times = {name: time_of(text, site) for name, text in texts.items()}
    started, ended, peak = times.values()
    unread = [name for name, text in texts.items() if times[name] is None and (text or name == "startedAt")]
    if unread:
        faults.append(f"{where}: time {texts[unread[0]]!r} cannot be read; possible: ISO 8601, from 1990 to 2100")
    elif started is not None:
        for name, time in (("endedAt", ended), ("peakAt", peak)):
            if time is not None and time < started:
                faults.append(f"{where}: {name} {texts[name]!r} is before startedAt; possible: a later time, or nothing")
    size = _size(row.get("max_m3h"))
    if size is not None and not 0 <= size < math.inf:
        faults.append(f"{where}: max_m3h {row['max_m3h']!r}; possible: a finite number from 0 on, or nothing")
    if started is None:
        return None
    return Leak((row.get("id") or "").strip() or f"line-{line}", dma, kind, started, ended, size, peak)


def _size(text: str | None) -> float | None:
    """NaN for what is no number."""
    try:
        return float(text) if text else None
    except ValueError:
        return math.nan


def time_of(text: str, site: Site) -> int | None:
    """Epoch ms of a time as it stands in labels.csv; None for what is none."""
    return _time_of(text, site.timezone) if text else None


@lru_cache(1 << 16)  # parsing one takes 80 µs, and merging asks for each time four times (2026-11-28)
def _time_of(text: str, timezone: str) -> int | None:
    times = parse_times(pa.array([text]), LocalClock(timezone))
    return None if times[0] == NO_TIME else int(times[0])
