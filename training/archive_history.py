"""The readings of an archive as they lie there, day after day; each reading once.

A boundary meter's reading, or a neighbour's inflow, lies in the files of every DMA whose engine reads it. Of those of one
meter, kind and time one is kept: that of the DMA whose name comes last. They are the same unless a correction has reached
only some of them yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.config import ConfigError
from models.network import Site
from models.schema import Readings
from training.archive import REJECTS, STATE, read_state, refuse_unfinished, rejects_of
from training.archive_tables import READINGS, day_of, read_file, together
from training.history_sources import LongSource
from training.history_tables import Lines, Rejects

_TOPIC: Final = f".{READINGS}.v1"


def archive_of(path: Path) -> Path | None:
    """The archive that `path`, or the folder it lies in as `readings`, is; None where it is none."""
    for folder in (path, path.parent if path.name == READINGS else path):
        if (folder / STATE).is_file():
            return folder
    return None


class ArchiveSource:
    """As `training.history._Ordered`: chunks in order of time."""

    def __init__(self, folder: Path, site: Site) -> None:
        """Raises ConfigError for an archive of another site, or without readings."""
        state = read_state(folder)
        if state is not None and state.site != site.name:
            raise ConfigError(
                [f"{folder}: is the archive of site {state.site!r}, not {site.name!r}; possible: its own site"]
            )
        if state is not None:
            refuse_unfinished(folder, state)
        self._folder, self._site = folder, site
        self._gaps = [] if state is None else state.gaps
        self._days: dict[int, list[Path]] = {}
        for file in sorted((folder / READINGS).glob("*/*.parquet")):
            day = day_of(file)
            if day is not None and not file.name.startswith("."):
                self._days.setdefault(day, []).append(file)
        if not self._days:
            raise ConfigError([f"{folder}: holds no readings yet; possible: nightline archive, with a worker running"])
        self.first_ms = min(self._times(min(self._days)))
        self.last_ms = max(self._times(max(self._days)))
        self.count = sum(map(len, self._days.values()))

    def _times(self, day: int) -> tuple[int, int]:
        times = together([read_file(file).select(["observedAt"]) for file in self._days[day]]).column(0)
        milliseconds = times.cast(pa.int64()).to_numpy()
        return int(milliseconds.min()), int(milliseconds.max())

    def chunks(self, rejects: Rejects) -> Iterator[Readings]:
        """One day at a time. What Kafka had deleted before it was archived, or nobody could read, is among the rejects."""
        for gap in self._gaps:
            rejects.add(STATE, 0, f"gap: {gap.dataset} partition {gap.partition}, {gap.start} to {gap.end}: {gap.reason}")
        for line, topic, reason in rejects_of(self._folder):
            if topic.endswith(_TOPIC):
                rejects.add(REJECTS, line, reason)
        for day in sorted(self._days):
            table = _Day(self._days[day])
            parts = list(LongSource(table, self._site).chunks(rejects))
            yield _each_once(np.concatenate(parts))


def _each_once(readings: Readings) -> Readings:
    """In order of time, then meter and kind; the last of equals."""
    order = np.lexsort((readings["kind"], readings["meter"], readings["time_ms"]))  # stable
    sorted_ = readings[order]
    last = np.ones(len(sorted_), bool)
    if len(sorted_) > 1:
        last[:-1] = ~_same(sorted_)
    return sorted_[last]


def _same(readings: Readings) -> NDArray[np.bool_]:
    same = np.ones(len(readings) - 1, bool)
    for name in ("time_ms", "meter", "kind"):
        same &= readings[name][1:] == readings[name][:-1]
    return same


class _Day:
    """The files of one day as one table (`training.history_tables.Table`); lines are counted through all of them."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self.path = Path(f"*/{files[0].name}")
        self.columns = ("meterId", "observedAt", "value", "kind", "unit", "quality")
        self.repeated = ()

    def batches(
        self,
        types: dict[str, pa.DataType],
        rejects: Rejects | None = None,  # noqa: ARG002 - Table's signature; a typed file has no bad cells
    ) -> Iterator[tuple[pa.RecordBatch, Lines]]:
        table = together([read_file(file) for file in self._files]).select(list(types)).combine_chunks()
        for batch in table.to_batches():
            yield batch, Lines(1)
