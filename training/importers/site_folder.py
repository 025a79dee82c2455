"""Writes a site folder: commented site.toml and network.toml, readings in the engine's units, labels."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from models.config import ConfigError
from models.network import SLOT_MINUTES, Dma, Meter, parse_site
from training.history_tables import SUFFIXES, CsvTable, Lines, ParquetTable, Rejects
from training.history_time import NO_TIME, LocalClock, parse_times
from training.staging import staged

DIGITS: Final = 6
"""Decimals kept of a converted value: a millilitre an hour, a thousandth of a pascal."""
LARGEST: Final = 1e300
"""A converted value from here on cannot be rounded."""
GZIP_LEVEL: Final = 4  # L-Town's year: 2.2 s and 39 MB; level 9 takes 24 s for 35 MB (2026-11-23)
_MADE: Final = re.compile(r"(readings|(\d{4}_)?(flows|levels|pressures|demands))\.csv\.gz")
"""Names of readings that importers write; nothing else is ever replaced."""
LABEL_COLUMNS: Final = ("dma", "kind", "startedAt", "endedAt", "id", "max_m3h")


@dataclass(frozen=True)
class Column:
    """One column of a source file and the meter it becomes. `factor` leads to the engine's unit."""

    source: str
    meter: Meter
    factor: float
    note: str = ""


@dataclass(frozen=True)
class Label:
    """A leak that is known; times as written in the source, local to the site."""

    dma: str
    kind: str
    started_at: str
    ended_at: str
    id: str
    max_m3h: float | None


def valid_id(text: str, fallback: str) -> str:
    """`text` with everything an id must not hold turned into a hyphen; `fallback` where nothing is left."""
    return re.sub(r"[^A-Za-z0-9._:+-]+", "-", text).strip("-")[:64] or fallback


def slot_of(wanted: int, interval: float) -> int:
    """A slot length somebody asked for. Raises ConfigError for one that is none, or shorter than the data's interval."""
    possible = [slot for slot in SLOT_MINUTES if slot >= interval]
    if wanted not in possible:
        shown = ", ".join(map(str, possible)) or "none, the data is too coarse"
        raise ConfigError([f"slots of {wanted} minutes for readings {interval:g} minutes apart; possible: {shown}"])
    return wanted


def slot_for(interval_minutes: float) -> int:
    """The shortest slot that holds a whole number of intervals, else the shortest that is no shorter than one.

    Raises ConfigError for readings further apart than the longest slot.
    """
    whole = [slot for slot in SLOT_MINUTES if interval_minutes <= slot and slot % max(interval_minutes, 1 / 60) == 0]
    longer = [slot for slot in SLOT_MINUTES if slot >= interval_minutes]
    if not longer:
        raise ConfigError([f"readings are {interval_minutes:g} minutes apart; possible: at most {SLOT_MINUTES[-1]} minutes"])
    return (whole or longer)[0]


def interval_minutes(table: CsvTable | ParquetTable, time: str, pattern: str | None = None) -> float:
    """Median step of the first rows' times.

    Raises ConfigError where fewer than two can be read.
    """
    for batch, _ in table.batches({time: pa.string()}):
        times = parse_times(batch.column(0), LocalClock("UTC"), pattern=pattern)
        steps = np.diff(times[times != NO_TIME])
        if (steps > 0).any():
            return float(np.median(steps[steps > 0])) / 60_000
    raise ConfigError([f"{table.path}: column {time!r}: fewer than two readable times; possible: ISO 8601, or a format"])


@contextmanager
def new_site(folder: Path, source: Path, *, force: bool) -> Iterator[Path]:
    """A fresh folder, with `readings` in it, that becomes the site `folder` once the import has succeeded.

    Under `force` it takes the place of an older import, whose readings go with it; a failed import leaves that whole,
    and no file is ever removed that an import did not make. Raises ConfigError where the folder already is a site,
    unless `force`, where it holds other readings, and where the source itself lies in its readings.
    """
    readings = folder / "readings"
    if readings.resolve() in (source.resolve(), *source.resolve().parents):
        raise ConfigError([f"{source}: lies in {readings}, which the import writes; possible: another folder for --out"])
    is_site = (folder / "site.toml").exists()
    if is_site and not force:
        raise ConfigError([f"{folder}: already holds a site; possible: another folder, or --force to write it anew"])
    there = sorted(readings.iterdir()) if readings.is_dir() else []
    if there and not is_site:
        raise ConfigError(
            [f"{readings}: found {there[0].name!r}, but no site.toml beside; possible: another folder for --out"]
        )
    foreign = [path.name for path in there if path.name.endswith(SUFFIXES) and not _MADE.fullmatch(path.name)]
    if foreign:
        raise ConfigError([f"{readings}: found {foreign[0]!r}, which no import made; possible: move it elsewhere first"])
    with staged(folder, lambda _: [Path("readings", path.name) for path in there if _MADE.fullmatch(path.name)]) as fresh:
        (fresh / "readings").mkdir()
        yield fresh


def write_readings(
    table: CsvTable | ParquetTable,
    time: str,
    columns: Sequence[Column],
    *,
    out: Path,
    rejects: Rejects,
    pattern: str | None = None,
) -> int:
    """Convert to the engine's units into a gzip'd wide CSV. Returns the number of rows.

    Times are written as they were read (so a repeated local hour stays one), with `pattern` as ISO 8601.
    """
    types = {time: pa.string(), **{column.source: pa.float64() for column in columns}}
    names = ["timestamp", *(column.meter.id for column in columns)]
    schema = pa.schema([("timestamp", pa.string()), *((name, pa.float64()) for name in names[1:])])
    rows = 0
    with gzip.open(out, "wb", compresslevel=GZIP_LEVEL) as file:
        file.write((",".join(names) + "\n").encode())
        options = pacsv.WriteOptions(include_header=False, quoting_style="none")
        with pacsv.CSVWriter(file, schema, write_options=options) as writer:
            for batch, lines in table.batches(types, rejects):
                times = batch.column(0).cast(pa.string())
                if pattern is not None:
                    times = _iso(times, pattern)
                    for row in pc.indices_nonzero(pc.is_null(times)).to_pylist():
                        rejects.add(table.path.name, lines[row], f"timestamp {batch.column(0)[row]} is not {pattern!r}")
                values = [
                    _converted(batch.column(at + 1), column, table.path.name, lines, rejects)
                    for at, column in enumerate(columns)
                ]
                writer.write_batch(pa.RecordBatch.from_arrays([times, *values], schema=schema).filter(pc.is_valid(times)))
                rows += batch.num_rows
    return rows


def _converted(cells: pa.Array, column: Column, file: str, lines: Lines, rejects: Rejects) -> pa.Array:
    """In the engine's unit, rounded; a number too large for that is rejected."""
    values = pc.multiply(cells, column.factor)
    large = pc.fill_null(pc.greater_equal(pc.abs(values), LARGEST), fill_value=False)
    for row in pc.indices_nonzero(large).to_pylist():
        rejects.add(file, lines[row], f"column {column.source!r}: {cells[row].as_py()!r} is too large for a measurement")
    return pc.round(pc.if_else(large, pa.scalar(None, pa.float64()), values), DIGITS)


def _iso(times: pa.Array, pattern: str) -> pa.Array:
    parsed = pc.strptime(times, format=pattern, unit="s", error_is_null=True)
    return pc.strftime(parsed, format="%Y-%m-%d %H:%M:%S")


def _table(key: str, values: dict[str, object], comment: str = "") -> str:
    def literal(value: object) -> str:
        text = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f"{value:g}" if isinstance(value, int | float) else f'"{text}"'

    head = f"# {' '.join(comment.split())}\n" if comment else ""
    body = "".join(f"{name} = {literal(value)}\n" for name, value in values.items() if value not in (None, ""))
    return f"{head}[[{key}]]\n{body}"


def _meter_table(column: Column) -> str:
    meter = column.meter
    values: dict[str, object] = {"id": meter.id, "kind": meter.kind, "from": meter.from_dma, "to": meter.to_dma}
    values |= {"dma": meter.dma, "tankAreaM2": round(meter.area_m2, 4) or None}
    return _table("meter", values, column.note)


def _calendar_table(country: str | None, subdivision: str | None) -> str:
    lines = [f'country = "{country}"' if country else '# country = "IT"']
    if subdivision:
        lines.append(f'subdivision = "{subdivision}"')
    return "\n".join(lines)


def write_site(
    folder: Path,
    name: str,
    zone: tuple[str, str],
    dmas: Iterable[Dma],
    columns: Iterable[Column],
    calendar: tuple[str | None, str | None] = (None, None),
) -> None:
    """site.toml and network.toml; `zone` is the time zone and a sentence about it, `calendar` country and subdivision.

    Raises ConfigError, before writing, for a site that would not pass its own check.
    """
    site = f"""\
# A site: how its time runs and how it is watched. `nightline check-config` names every fault in this folder.
name = "{name}"

# {" ".join(zone[1].split())}
timezone = "{zone[0]}"

[calendar]
# Public holidays are expected like Sundays. Days that the country's rules do not know belong into holidays.csv in this
# folder: date,name,class with class holiday or workday (a weekend day that is worked).
{_calendar_table(*calendar)}

[night]
# Local time. The minimum night flow is looked for in here.
start = "02:00"
end = "04:00"

[stream]
# How late a reading may come and still be counted. A day, because history has no latency to lose, and a replay may then
# work in windows of half a day. For live data choose the longest delay that is usual: an alert waits that long for a
# meter that has gone silent.
latenessMinutes = 1440

[alerts]
# budgetPerWeek = 0.5   # unexplained alerts the whole site may raise in a week; default: 0.1 a DMA and month
# costPerM3 = 0.8       # what a lost cubic metre costs, to price a leak
"""
    dma_tables = [
        _table("dma", {"id": d.id, "name": d.name if d.name != d.id else None, "slotMinutes": d.slot_minutes}) for d in dmas
    ]
    network = (
        "# DMAs, and meters as edges between them. A flow meter without `from` is an inlet, without `to` an outlet,\n"
        "# with both a boundary meter. Pressure loggers, tank levels and customer meters name their `dma`.\n"
        "# Readings: flow in m3/h, pressure in kPa, level in m.\n\n"
        + "\n".join(dma_tables)
        + "\n"
        + "\n".join(_meter_table(column) for column in columns)
    )
    parse_site(site, network)
    (folder / "site.toml").write_text(site, encoding="utf-8")
    (folder / "network.toml").write_text(network, encoding="utf-8")


def write_labels(path: Path, labels: Iterable[Label]) -> int:
    """labels.csv, in order of the start. Returns how many."""
    rows = sorted(labels, key=lambda label: (label.started_at, label.id))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(LABEL_COLUMNS)
        for label in rows:
            flow = "" if label.max_m3h is None else f"{label.max_m3h:.3f}"
            writer.writerow((label.dma, label.kind, label.started_at, label.ended_at, label.id, flow))
    return len(rows)
