"""One history file, wide or long, as chunks of READING arrays in file order.

Wide: `timestamp` and one column per meter id; flow in m3/h, pressure in kPa, level in m; an empty cell is a gap.
Long: `meterId,observedAt,value` and optionally `kind,unit,quality,intervalSeconds`; kind and unit default to the
meter's kind and the engine's unit, quality to good; an empty value is a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.config import ConfigError, nearest
from models.network import Site
from models.schema import (
    ENGINE_UNIT,
    GOOD,
    HIGHEST,
    KINDS,
    LOWEST,
    QUALITIES,
    READING,
    Readings,
    to_engine_value,
    value_fault,
)
from training.history_tables import CsvTable, Lines, ParquetTable, Rejects
from training.history_time import NO_TIME, LocalClock, parse_times

LONG_COLUMNS: Final = ("meterId", "observedAt", "value")
_OPTIONAL: Final = ("kind", "unit", "quality", "intervalSeconds")
_KINDS_OF_METER: Final = {
    "flow": ("flow", "volume", "register", "battery"),
    "pressure": ("pressure", "battery"),
    "level": ("level", "battery"),
}
NO_INTERVAL: Final = -1e9  # below everything that could be meant
LONGEST_INTERVAL_S: Final = 31 * 86_400
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_MAX_TEXT_SHOWN: Final = 60


def time_column(columns: tuple[str, ...]) -> str | None:
    """The name of a wide file's time column."""
    return next((name for name in columns if name.lower() == "timestamp"), None)


def open_source(table: CsvTable | ParquetTable, site: Site) -> WideSource | LongSource:
    """The reader of the table's layout. Raises ConfigError where the columns are of neither."""
    if set(LONG_COLUMNS) <= set(table.columns):
        return LongSource(table, site)
    time = time_column(table.columns)
    if time is None:
        shown = ", ".join(table.columns[:8])
        raise ConfigError(
            [
                f"{table.path}: no time column among {shown}{', …' if len(table.columns) > 8 else ''}; "
                f"possible: 'timestamp' and one column per meter id, or {', '.join(LONG_COLUMNS)}"
            ]
        )
    return WideSource(table, site, time)


def _readings(times: NDArray[np.int64], values: NDArray[np.float64], meter: NDArray[np.int32], kind: object) -> Readings:
    out = np.empty(times.size, READING)
    out["time_ms"], out["value"], out["meter"], out["kind"], out["quality"] = times, values, meter, kind, GOOD
    return out


class WideSource:
    """A wide file. Within a row readings are in the order of the columns."""

    def __init__(self, table: CsvTable | ParquetTable, site: Site, time: str) -> None:
        self._table, self._site, self._time = table, site, time
        self._meters = [name for name in table.columns if name in site.meter_row]
        if not self._meters:
            other = next((name for name in table.columns if name != time), None)
            found = f"found {other!r}; {nearest(other, site.meter_row)}" if other else "found only the time column"
            raise ConfigError([f"{table.path}: no column is a meter of network.toml: {found}"])
        self._rows = np.array([site.meter_row[name] for name in self._meters], np.int32)
        self._kinds = np.array([KINDS.index(site.meters[row].kind) for row in self._rows], np.uint8)
        self._units = [ENGINE_UNIT[site.meters[row].kind] for row in self._rows]

    def times(self) -> Iterator[NDArray[np.int64]]:
        """The times alone, without a word about rejects; for a first look at order and span."""
        clock = LocalClock(self._site.timezone)
        for batch, _ in self._table.batches({self._time: pa.string()}):
            times = parse_times(batch.column(0), clock)
            yield times[times != NO_TIME]

    def chunks(self, rejects: Rejects) -> Iterator[Readings]:
        """The readings in file order."""
        name = self._table.path.name
        for column in self._table.columns:
            if column != self._time and column not in self._site.meter_row:
                rejects.add(
                    name, 1, f"column {column!r} is no meter of network.toml; {nearest(column, self._site.meter_row)}"
                )
        for column in self._table.repeated:
            rejects.add(name, 1, f"column {column!r} is there again; possible: one column per meter")
        clock = LocalClock(self._site.timezone)
        types = {self._time: pa.string(), **dict.fromkeys(self._meters, pa.float64())}
        for batch, lines in self._table.batches(types, rejects):
            yield self._chunk(batch, lines, clock, rejects)

    def _chunk(self, batch: pa.RecordBatch, lines: Lines, clock: LocalClock, rejects: Rejects) -> Readings:
        name = self._table.path.name
        times = parse_times(batch.column(0), clock)
        values = np.empty((batch.num_rows, len(self._meters)))
        for at in range(len(self._meters)):
            column = batch.column(at + 1)
            values[:, at] = column.to_numpy(zero_copy_only=False)
            if np.isinf(values[:, at]).any() or np.isnan(values[:, at]).sum() > column.null_count:
                bad = ~np.isfinite(values[:, at]) & pc.is_valid(column).to_numpy(zero_copy_only=False)
                for row in np.flatnonzero(bad):
                    rejects.add(name, lines[row], f"column {self._meters[at]!r}: {values[row, at]} is not a number")
                values[bad, at] = np.nan
            beyond = (values[:, at] < LOWEST[self._kinds[at]]) | (values[:, at] > HIGHEST[self._kinds[at]])
            if beyond.any():
                for row in np.flatnonzero(beyond):
                    fault = value_fault(self._kinds[at], values[row, at], self._units[at], values[row, at])
                    rejects.add(name, lines[row], f"column {self._meters[at]!r}: {fault}")
                values[beyond, at] = np.nan
        present = ~np.isnan(values)
        for row in np.flatnonzero(times == NO_TIME):
            if present[row].any() or batch.column(0)[int(row)].is_valid:
                rejects.add(name, lines[row], _no_time(batch.column(0)[int(row)].as_py()))
            present[row] = False
        row, column = np.nonzero(present)
        return _readings(times[row], values[row, column], self._rows[column], self._kinds[column])


def _no_time(text: object) -> str:
    shown = repr(text)[:_MAX_TEXT_SHOWN]
    possible = "ISO 8601, e.g. '2026-11-23 02:15', or epoch milliseconds, from 1990 to 2100"
    return f"timestamp {shown} cannot be read; possible: {possible}"


class LongSource:
    """A long file."""

    def __init__(self, table: CsvTable | ParquetTable, site: Site) -> None:
        self._table, self._site = table, site
        self._types: dict[str, pa.DataType] = {
            "meterId": _TEXT,
            "observedAt": pa.string(),
            "value": pa.float64(),
            **{name: _TEXT for name in _OPTIONAL if name in table.columns},
        }
        if "intervalSeconds" in self._types:
            self._types["intervalSeconds"] = pa.float64()

    def times(self) -> Iterator[NDArray[np.int64]]:
        """The times alone, without a word about rejects; for a first look at order and span."""
        clock = LocalClock(self._site.timezone)
        for batch, _ in self._table.batches({"meterId": _TEXT, "observedAt": pa.string()}):
            codes, names = _codes(batch.column(0))
            times = parse_times(batch.column(1), clock, self._meter_rows(names)[codes])
            yield times[times != NO_TIME]

    def chunks(self, rejects: Rejects) -> Iterator[Readings]:
        """The readings in file order."""
        clock = LocalClock(self._site.timezone)
        for batch, lines in self._table.batches(self._types, rejects):
            yield self._chunk(batch, lines, clock, rejects)

    def _meter_rows(self, names: list[str | None]) -> NDArray[np.int32]:
        rows = self._site.meter_row
        return np.array([-1 if name is None else rows.get(name, -1) for name in names], np.int32)

    def _chunk(self, batch: pa.RecordBatch, lines: Lines, clock: LocalClock, rejects: Rejects) -> Readings:
        sieve = _Sieve(batch.num_rows, self._table.path.name, lines, rejects)
        codes, names = _codes(batch.column(0))
        meter = self._meter_rows(names)[codes]
        value = batch.column(2).to_numpy(zero_copy_only=False)
        written = pc.is_valid(batch.column(2)).to_numpy(zero_copy_only=False)
        blank = ~written & ~pc.is_valid(batch.column(1)).to_numpy(zero_copy_only=False)  # an empty line
        sieve.keep &= ~blank
        sieve.drop(meter < 0, lambda row: _unknown_meter(names[codes[row]], self._site))
        times = parse_times(batch.column(1), clock, meter)
        sieve.drop(times == NO_TIME, lambda row: _no_time(batch.column(1)[int(row)].as_py()))
        sieve.keep &= written
        sieve.drop(~np.isfinite(value), lambda row: f"value {value[row]} is not a number")
        kind, factor, unit = self._conversion(batch, meter, sieve)
        with np.errstate(over="ignore", invalid="ignore"):
            engine = value * factor
        sieve.drop(
            (engine < LOWEST[kind]) | (engine > HIGHEST[kind]),
            lambda row: value_fault(kind[row], value[row], unit(row), engine[row]),
        )
        quality = self._quality(batch, sieve)
        keep = sieve.keep
        out = _readings(times[keep], engine[keep], meter[keep], kind[keep])
        out["quality"] = quality[keep]
        return out

    def _conversion(
        self, batch: pa.RecordBatch, meter: NDArray[np.int32], sieve: _Sieve
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], Callable[[int], str]]:
        """Engine kind and factor of each row, and what tells the unit of one; looked up once per distinct meter kind,
        kind, unit and interval."""
        blank = (np.zeros(batch.num_rows, np.int64), [None])
        kinds, kind_names = _codes(batch.column("kind")) if "kind" in self._types else blank
        units, unit_names = _codes(batch.column("unit")) if "unit" in self._types else blank
        written = np.full(batch.num_rows, np.nan)
        if "intervalSeconds" in self._types:
            written = batch.column("intervalSeconds").to_numpy(zero_copy_only=False)
        meter_kinds = ("flow", "pressure", "level")
        of_meter = np.array([meter_kinds.index(m.kind) for m in self._site.meters], np.int64)[meter]
        intervals, interval = np.unique(np.where(np.isnan(written), NO_INTERVAL, written), return_inverse=True)
        shape = (len(meter_kinds), len(kind_names), len(unit_names), len(intervals))
        keys = np.ravel_multi_index((of_meter, kinds, units, interval), shape)
        distinct, which = np.unique(keys, return_inverse=True)
        kind = np.zeros(len(distinct), np.uint8)
        factor = np.ones(len(distinct))
        reasons: list[str | None] = [None] * len(distinct)
        unit_of: list[str] = []
        for at, key in enumerate(distinct):
            meter_code, kind_code, unit_code, interval_code = np.unravel_index(key, shape)
            of = meter_kinds[meter_code]
            wanted = kind_names[kind_code] or of
            unit = unit_names[unit_code] or ENGINE_UNIT.get(wanted, "")
            unit_of.append(unit)
            seconds = float(intervals[interval_code])
            try:
                if wanted in KINDS and wanted not in _KINDS_OF_METER[of]:
                    possible = ", ".join(_KINDS_OF_METER[of])
                    raise ValueError(f"kind {wanted!r} from a {of} meter; possible: {possible}")
                if seconds != NO_INTERVAL and not (1 <= seconds <= LONGEST_INTERVAL_S and seconds == int(seconds)):
                    raise ValueError(f"intervalSeconds {seconds:g}; possible: whole seconds from 1 to {LONGEST_INTERVAL_S}")
                interval_s = None if seconds == NO_INTERVAL else int(seconds)
                kind[at], factor[at] = to_engine_value(wanted, unit, 1.0, interval_s)
            except ValueError as error:
                reasons[at] = str(error)
        failed = np.array([reason is not None for reason in reasons], bool)[which]
        sieve.drop(failed, lambda row: reasons[which[row]] or "")
        return kind[which], factor[which], lambda row: unit_of[which[row]]

    def _quality(self, batch: pa.RecordBatch, sieve: _Sieve) -> NDArray[np.uint8]:
        if "quality" not in self._types:
            return np.zeros(batch.num_rows, np.uint8)
        codes, names = _codes(batch.column("quality"))
        table = np.array([GOOD if not n else QUALITIES.index(n) if n in QUALITIES else -1 for n in names])[codes]
        sieve.drop(table < 0, lambda row: f"quality {names[codes[row]]!r} is unknown; possible: {', '.join(QUALITIES)}")
        return np.maximum(table, 0).astype(np.uint8)


class _Sieve:
    """Which rows of a chunk are still good; each row is rejected for its first fault only."""

    def __init__(self, rows: int, file: str, lines: Lines, rejects: Rejects) -> None:
        self.keep = np.ones(rows, bool)
        self._file, self._lines, self._rejects = file, lines, rejects

    def drop(self, bad: NDArray[np.bool_], reason: Callable[[int], str]) -> None:
        for row in np.flatnonzero(bad & self.keep):
            self._rejects.add(self._file, self._lines[row], reason(row))
        self.keep &= ~bad


def _unknown_meter(name: str | None, site: Site) -> str:
    return f"meter {name!r} is not in network.toml; {nearest(name or '', site.meter_row)}"


def _codes(column: pa.Array) -> tuple[NDArray[np.int64], list[str | None]]:
    """Index of each row into the list of distinct texts; None is the last of them."""
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    names = [None if name is None else name.strip() for name in column.dictionary.to_pylist()]
    return pc.fill_null(column.indices, len(names)).to_numpy(zero_copy_only=False).astype(np.int64), [*names, None]
