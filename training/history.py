"""History from files, as the engine would have met it: windows of readings in order of time, never ahead of it.

Inputs, each a file or a folder of files, CSV, gzip'd CSV or Parquet: see `training.history_sources` for the two layouts,
`training.history_time` for time zones and daylight saving, `training.history_tables` for separators and rejects; or an
archive that `nightline archive` keeps (`training.archive_history`).

Files that are in order of time are streamed and merged. A file that is not (one meter after the other, corrections
appended) is first sorted by day through a temporary folder: 22 bytes on disk a reading. Memory holds a few blocks per
file, a window, and in the second case a day.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from models.config import ConfigError
from models.network import Site
from models.schema import READING, Readings
from training.archive_history import ArchiveSource, archive_of
from training.history_sources import LongSource, WideSource, open_source
from training.history_tables import Rejects, files_of, open_table
from training.staging import no_room

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Window:
    """All readings of [start_ms, end_ms), in order of time; those of one time in order of files, rows and columns."""

    start_ms: int
    end_ms: int
    readings: Readings


class History:
    """Iterator of windows, over once. `first_ms` and `last_ms` are the span of all files, for a progress bar."""

    def __init__(self, sources: Sequence[_Source], window_ms: int, rejects: Rejects) -> None:
        dated = [source for source in sources if source.count]
        self.first_ms = min(source.first_ms for source in dated)
        self.last_ms = max(source.last_ms for source in dated)
        self.rejects = rejects
        self._windows = _windows(sources, window_ms, rejects)

    def __iter__(self) -> Iterator[Window]:
        return self

    def __next__(self) -> Window:
        return next(self._windows)


def read_history(path: Path, site: Site, window_minutes: int, rejects: Path | None = None) -> History:
    """The readings of a file or folder as time-ordered windows of `window_minutes`, aligned to the epoch.

    Empty windows are left out. A row or cell that no reading can be made of goes to the CSV file `rejects` (file, line,
    reason); without one, `History.rejects` counts them and keeps the first. Each file is looked through once for order
    and span before the first window.

    Raises ConfigError, naming the file, for one that cannot be read, has no time column, no known meter, or no readable
    time in it.
    """
    if window_minutes < 1:
        raise ConfigError([f"window of {window_minutes} minutes; possible: at least 1"])
    archive = archive_of(path)
    if archive is not None:
        return History([ArchiveSource(archive, site)], window_minutes * 60_000, Rejects(rejects))
    sources = [_Ordered(open_source(open_table(file), site)) for file in files_of(path)]
    if not any(source.count for source in sources):
        raise ConfigError([f"{path}: no row has a readable time; possible: ISO 8601 or epoch milliseconds"])
    return History(sources, window_minutes * 60_000, Rejects(rejects))


class _Source(Protocol):
    """What is read in order of time."""

    count: int
    first_ms: int
    last_ms: int

    def chunks(self, rejects: Rejects) -> Iterator[Readings]:
        """The readings in order of time."""


class _Ordered:
    """A source whose chunks come in order of time."""

    def __init__(self, source: WideSource | LongSource) -> None:
        self._source = source
        self.count, self.sorted = 0, True
        self.first_ms, self.last_ms = int(np.iinfo(np.int64).max), int(np.iinfo(np.int64).min)
        for times in source.times():
            if times.size:
                self.sorted &= bool(times[0] >= self.last_ms) and not bool((np.diff(times) < 0).any())
                self.first_ms = min(self.first_ms, int(times.min()))
                self.last_ms = max(self.last_ms, int(times.max()))
                self.count += times.size

    def chunks(self, rejects: Rejects) -> Iterator[Readings]:
        return self._source.chunks(rejects) if self.sorted else _sorted_by_day(self._source.chunks(rejects))


def _sorted_by_day(chunks: Iterator[Readings]) -> Iterator[Readings]:
    """The readings in order of time, one day at a time; equal times stay in the order of arrival."""
    with tempfile.TemporaryDirectory(prefix="nightline-") as name:
        folder = Path(name)
        days: set[int] = set()
        for chunk in chunks:
            day = chunk["time_ms"] // DAY_MS
            order = np.argsort(day, kind="stable")
            found, starts = np.unique(day[order], return_index=True)
            for which, part in zip(found.tolist(), np.split(chunk[order], starts[1:]), strict=False):
                days.add(which)
                _append(folder / str(which), part)
        for which in sorted(days):
            readings = np.fromfile(folder / str(which), READING)
            (folder / str(which)).unlink()
            yield readings[np.argsort(readings["time_ms"], kind="stable")]


def _append(path: Path, part: Readings) -> None:
    """Not `tofile`: numpy keeps up to 4 KiB back and passes over a full disk when it lets go of them."""
    try:
        with path.open("ab") as file:
            file.write(part.tobytes())
    except OSError as error:
        left = "readings that are not in order of time are sorted there, 22 bytes each"
        raise ConfigError([no_room(path.parent.parent, error, left) + ", or TMPDIR elsewhere"]) from None


class _Head:
    """What of an ordered source has been read but not yet handed out."""

    def __init__(self, chunks: Iterator[Readings]) -> None:
        self._chunks = chunks
        self._parts: list[Readings] = []
        self._fill()

    def _fill(self) -> bool:
        for chunk in self._chunks:
            if chunk.size:
                self._parts.append(chunk)
                return True
        return False

    @property
    def next_ms(self) -> int | None:
        """Time of the next reading; None at the end."""
        return int(self._parts[0]["time_ms"][0]) if self._parts else None

    def take(self, end_ms: int) -> list[Readings]:
        """Everything before `end_ms`."""
        taken = []
        while self._parts:
            part = self._parts[0]
            # not np.searchsorted: it copies the whole column out of the records first, 0.8 s of L-Town's year
            cut = bisect_left(part["time_ms"], end_ms)
            if cut:
                taken.append(part[:cut])
            if cut < part.size:
                self._parts[0] = part[cut:]
                break
            self._parts.pop(0)
            self._fill()
        return taken


def _windows(sources: Sequence[_Source], window_ms: int, rejects: Rejects) -> Iterator[Window]:
    try:
        heads = [_Head(source.chunks(rejects)) for source in sources]
        while True:
            waiting = [head.next_ms for head in heads if head.next_ms is not None]
            if not waiting:
                return
            start = min(waiting) // window_ms * window_ms
            parts = [part for head in heads for part in head.take(start + window_ms)]
            readings = np.concatenate(parts)
            if len(heads) > 1:
                readings = readings[np.argsort(readings["time_ms"], kind="stable")]
            yield Window(start, start + window_ms, readings)
    finally:
        rejects.close()
