"""A wide CSV of flows, and pressures perhaps, of any utility: `nightline import csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from models.config import ConfigError, nearest
from models.network import Dma, Meter
from models.schema import UNITS
from training.history_tables import CsvTable, ParquetTable, Rejects, open_table
from training.importers.site_folder import (
    Column,
    interval_minutes,
    new_site,
    slot_for,
    slot_of,
    valid_id,
    write_readings,
    write_site,
)

SUFFIX_UNITS: Final = {
    "_lps": ("flow", "L/s"),
    "_l_s": ("flow", "L/s"),
    "_m3h": ("flow", "m3/h"),
    "_m3_h": ("flow", "m3/h"),
    "_m3d": ("flow", "m3/d"),
    "_lph": ("flow", "L/h"),
    "_l_h": ("flow", "L/h"),
    "_kpa": ("pressure", "kPa"),
    "_mpa": ("pressure", "MPa"),
    "_bar": ("pressure", "bar"),
    "_mh2o": ("pressure", "m[H2O]"),
}
"""Endings of column names that tell kind and unit; they are left out of the ids."""
_TIME_NAMES: Final = ("timestamp", "datetime", "date_time", "time", "date", "observedat")


@dataclass(frozen=True)
class CsvOptions:
    """What the file itself does not tell."""

    name: str
    timezone: str | None = None
    country: str | None = None
    subdivision: str | None = None
    unit: str = "m3/h"
    pressure: tuple[str, ...] = ()
    pressure_unit: str = "kPa"
    skip: tuple[str, ...] = ()
    one_dma: str | None = None
    time_column: str | None = None
    time_format: str | None = None
    slot_minutes: int | None = None
    force: bool = False


@dataclass(frozen=True)
class Imported:
    """What an import made."""

    dmas: int
    meters: int
    rows: int
    slot_minutes: int
    rejects: int
    labels: int = 0
    notes: tuple[str, ...] = ()


def import_csv(source: Path, out: Path, options: CsvOptions) -> Imported:
    """A site folder with every flow column the inlet of a DMA of its own, or all of them inlets of one.

    Raises ConfigError for a file that cannot be read, a unit or column that does not exist, or a pressure column whose
    DMA cannot be known.
    """
    table = open_table(source)
    time = _time_column(table, options.time_column)
    dmas, columns = _plan(table, time, options)
    interval = interval_minutes(table, time, options.time_format)
    slot = slot_for(interval) if options.slot_minutes is None else slot_of(options.slot_minutes, interval)
    zone = options.timezone or "UTC"
    note = "Times without an offset in the readings are local to this zone, and so is the night."
    if options.timezone is None:
        note += " It was not given at the import, so UTC was taken: set it to the utility's own."
    with new_site(out, source, force=options.force) as fresh:
        write_site(
            fresh,
            valid_id(options.name, "site"),
            (zone, note),
            [Dma(d, n, slot) for d, n in dmas],
            columns,
            calendar=(options.country, options.subdivision),
        )
        with Rejects(fresh / "rejects.csv") as rejects:
            made = fresh / "readings" / "readings.csv.gz"
            rows = write_readings(table, time, columns, out=made, rejects=rejects, pattern=options.time_format)
    notes = () if options.timezone else ("no --timezone given: times are taken as UTC",)
    return Imported(len(dmas), len(columns), rows, slot, rejects.count, notes=notes)


def _time_column(table: CsvTable | ParquetTable, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in table.columns:
            raise ConfigError([f"{table.path}: no column {wanted!r}; {nearest(wanted, table.columns)}"])
        return wanted
    lower = {name.lower(): name for name in reversed(table.columns)}
    for name in _TIME_NAMES:
        if name in lower:
            return lower[name]
    for name in table.columns:
        if name.lower().startswith(("timestamp", "datetime")):
            return name
    shown = ", ".join(table.columns[:8])
    raise ConfigError([f"{table.path}: no time column among {shown}; possible: 'timestamp', or --time-column NAME"])


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _kind_unit_stem(name: str, options: CsvOptions) -> tuple[str, str, str]:
    ending = next((end for end in SUFFIX_UNITS if name.lower().endswith(end) and len(name) > len(end)), None)
    kind, unit = SUFFIX_UNITS[ending] if ending else ("flow", options.unit)
    stem = name[: -len(ending)] if ending else name
    if _matches(name, options.pressure):
        return "pressure", unit if ending and kind == "pressure" else options.pressure_unit, stem
    return kind, unit, stem


def _plan(table: CsvTable | ParquetTable, time: str, options: CsvOptions) -> tuple[list[tuple[str, str]], list[Column]]:
    """DMAs as (id, name), and the column of every meter."""
    for kind, unit in (("flow", options.unit), ("pressure", options.pressure_unit)):
        if unit not in UNITS[kind]:
            raise ConfigError([f"unit {unit!r} is unknown for kind {kind!r}; possible: {', '.join(UNITS[kind])}"])
    for pattern in (*options.pressure, *options.skip):
        if not any(fnmatchcase(name, pattern) for name in table.columns):
            raise ConfigError([f"{table.path}: no column matches {pattern!r}; {nearest(pattern, table.columns)}"])
    found = [
        (name, *_kind_unit_stem(name, options))
        for name in table.columns
        if name not in ("", time) and not _matches(name, options.skip)
    ]
    dmas: list[tuple[str, str]] = []
    if options.one_dma:
        dmas.append((valid_id(options.one_dma, "DMA-1"), options.one_dma))
    columns: list[Column] = []
    taken: set[str] = set()
    for number, (name, kind, unit, stem) in enumerate(found, 1):
        base = _free(valid_id(stem, f"{number}"), taken)
        note = f"column {name!r}, {unit}"
        if kind == "flow":
            if not options.one_dma:
                dmas.append((base, stem))
            dma = base if not options.one_dma else dmas[0][0]
            columns.append(Column(name, Meter(f"FM-{base}"[:64], "flow", to_dma=dma), UNITS[kind][unit], note))
        else:
            columns.append(Column(name, Meter(base, "pressure", dma=""), UNITS[kind][unit], note))
    if not dmas or not any(column.meter.kind == "flow" for column in columns):
        raise ConfigError([f"{table.path}: no flow column; possible: at least one beside {time!r}"])
    if len(dmas) > 1 and any(column.meter.kind == "pressure" for column in columns):
        raise ConfigError([f"{table.path}: pressures beside {len(dmas)} DMAs: whose are they? possible: --one-dma NAME"])
    return dmas, [
        Column(c.source, Meter(c.meter.id, "pressure", dma=dmas[0][0]), c.factor, c.note)
        if c.meter.kind == "pressure"
        else c
        for c in columns
    ]


def _free(base: str, taken: set[str]) -> str:
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base[:58]}-{number}"
    taken.add(name)
    return name
