"""Readings files with leaks in them: every file written anew in its own form, with nothing changed but the values.

CSV cells that no leak touches, and rows that cannot be read, stay letter for letter.
"""

from __future__ import annotations

import csv
import gzip
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, TextIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.network import Site
from models.schema import ENGINE_UNIT, KINDS, to_engine_value
from training.archive import begin_copy
from training.archive_history import archive_of
from training.archive_tables import READINGS as ARCHIVED
from training.history_sources import LONG_COLUMNS, time_column
from training.history_tables import CsvTable, ParquetTable, files_of, open_table
from training.history_time import NO_TIME, LocalClock, parse_times
from training.importers.site_folder import GZIP_LEVEL
from training.injection.leaks import Additions, added_at

ROWS: Final = 1 << 15
DIGITS: Final = 6
"""Decimals, in the file's own unit, of a value that a leak was added to."""
Changes = dict[str, NDArray[np.float64]]
"""Column -> what is added to it in each row of a chunk, in the column's own unit."""


def rewrite(source: Path, out: Path, site: Site, additions: Additions) -> int:
    """Write the files of `source` into the folder `out`, which exists. Returns how many values were changed.

    Of an archive its readings become an archive again, to be read and not to be gone on with; a value that lies in the files
    of several DMAs counts for each.
    """
    archive = archive_of(source)
    if archive is not None:
        begin_copy(archive, out)
        changed = 0
        for file in sorted((archive / ARCHIVED).glob("*/*.parquet")):
            target = out / file.relative_to(archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            changed += _rewrite(open_table(file), target, site, additions)
        return changed
    return sum(_rewrite(open_table(file), out / file.name, site, additions) for file in files_of(source))


class _Adder:
    """What is to be added to a file, chunk after chunk, in order."""

    def __init__(self, columns: Sequence[str], site: Site, additions: Additions) -> None:
        self._site, self._additions = site, additions
        self.long = set(LONG_COLUMNS) <= set(columns)
        self.time = "observedAt" if self.long else time_column(tuple(columns)) or ""
        self._columns = columns
        self._clock = LocalClock(site.timezone)
        self._meters = {site.meters[row].id: row for row, _ in additions}

    def changes(self, chunk: dict[str, pa.Array]) -> Changes:
        """By column, of a chunk with all columns that `needs` names."""
        if self.long:
            return {"value": self._long(chunk)}
        times = parse_times(chunk[self.time], self._clock)
        found = {}
        for name in self.touches:
            row = self._meters[name]
            parts = self._additions.get((row, KINDS.index(self._site.meters[row].kind)), ())
            found[name] = np.where(times == NO_TIME, 0.0, added_at(parts, times))
        return found

    @property
    def needs(self) -> list[str]:
        """Columns that tell what is added."""
        optional = ("kind", "unit", "intervalSeconds")
        return [*LONG_COLUMNS, *(n for n in optional if n in self._columns)] if self.long else [self.time]

    @property
    def touches(self) -> list[str]:
        """Columns that something may be added to."""
        return ["value"] if self.long else [name for name in self._columns if name in self._meters]

    def _long(self, chunk: dict[str, pa.Array]) -> NDArray[np.float64]:
        names = [(name or "").strip() for name in chunk["meterId"].cast(pa.string()).to_pylist()]
        of = self._site.meter_row
        rows = np.array([of.get(name, -1) for name in names], np.int32)
        times = parse_times(chunk["observedAt"], self._clock, rows)
        touched = np.flatnonzero(np.isin(rows, list(self._meters.values())) & (times != NO_TIME))
        texts = {
            name: [None if text is None else str(text).strip() for text in chunk[name].take(pa.array(touched)).to_pylist()]
            for name in self.needs[len(LONG_COLUMNS) :]
        }
        nothing = [None] * len(touched)
        kinds, units = texts.get("kind", nothing), texts.get("unit", nothing)
        intervals = texts.get("intervalSeconds", nothing)
        added = np.zeros(len(rows))
        groups: dict[tuple[int, str, str, str], list[int]] = {}
        for at, place in enumerate(touched.tolist()):
            row = int(rows[place])
            kind = kinds[at] or self._site.meters[row].kind
            group = row, kind, units[at] or ENGINE_UNIT.get(kind, ""), intervals[at] or ""
            groups.setdefault(group, []).append(place)
        for (row, kind, unit, interval), places in groups.items():
            try:
                code, factor = to_engine_value(kind, unit, 1.0, int(float(interval)) if interval else None)
            except ValueError:
                continue  # no reading can be made of these rows either
            parts = self._additions.get((row, code))
            if parts:
                added[places] = added_at(parts, times[places]) / factor
        return added


def _rewrite(table: CsvTable | ParquetTable, out: Path, site: Site, additions: Additions) -> int:
    adder = _Adder(table.columns, site, additions)
    if not adder.touches:
        shutil.copyfile(table.path, out)
        return 0
    if isinstance(table, ParquetTable):
        return _parquet(table, out, adder)
    with _opened(table.path, "rt") as source, _opened(out, "wt") as target:
        return _csv(source, target, table, adder)


def _opened(path: Path, mode: Literal["rt", "wt"]) -> TextIO:
    encoding = "utf-8-sig" if mode == "rt" else "utf-8"
    if path.suffix == ".gz":
        return cast("TextIO", gzip.open(path, mode, compresslevel=GZIP_LEVEL, encoding=encoding, newline=""))
    return path.open(mode, encoding=encoding, newline="")


def _chunks(rows: Iterator[list[str]]) -> Iterable[list[list[str]]]:
    chunk: list[list[str]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _csv(source: TextIO, target: TextIO, table: CsvTable, adder: _Adder) -> int:
    rows = csv.reader(source, delimiter=table.separator)
    writer = csv.writer(target, delimiter=table.separator, lineterminator="\n")
    head = next(rows)
    writer.writerow(head)
    places = {name: place for place, name in reversed(list(enumerate(column.strip() for column in head)))}
    changed = 0
    for chunk in _chunks(rows):
        whole = [row for row in chunk if len(row) == len(head)]
        cells = {name: pa.array([row[places[name]] or None for row in whole], pa.string()) for name in adder.needs}
        for name, added in adder.changes(cells).items():
            place = places[name]
            for at in np.flatnonzero(added).tolist():
                text = _sum(whole[at][place], float(added[at]), table.separator)
                changed += text is not None
                whole[at][place] = whole[at][place] if text is None else text
        writer.writerows(chunk)
    return changed


def _sum(text: str, added: float, separator: str) -> str | None:
    """The cell with the leak in it; None for a gap, or what is no number."""
    comma = separator != "," and "," in text
    try:
        value = float(text.replace(",", ".") if comma else text)
    except ValueError:
        return None
    if not np.isfinite(value):
        return None
    total = f"{round(value + added, DIGITS):.{DIGITS}f}".rstrip("0").rstrip(".")
    return total.replace(".", ",") if comma else total


def _parquet(table: ParquetTable, out: Path, adder: _Adder) -> int:
    """A column of whole numbers that a leak may be added to becomes one of float64."""
    schema = table.schema
    for name in adder.touches:
        at = schema.get_field_index(name)
        if not pa.types.is_floating(schema.field(at).type):
            schema = schema.set(at, pa.field(name, pa.float64()))
    changed = 0
    with pq.ParquetFile(table.path) as source, pq.ParquetWriter(out, schema) as target:
        for batch in source.iter_batches(batch_size=ROWS):
            columns = {name: batch.column(name) for name in batch.schema.names}
            for name, added in adder.changes(columns).items():
                there = columns[name].is_valid().to_numpy(zero_copy_only=False)
                values = columns[name].cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
                changed += int((there & (added != 0)).sum())
                columns[name] = pa.array(np.where(there, values + added, 0.0), pa.float64(), mask=~there)
            arrays = [columns[field.name].cast(field.type) for field in schema]
            target.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return changed
