"""The four forms of an archive's files, and how new rows go into an old file: last received wins, in order of the key.

    readings/dma=<id>/<day>.parquet     meterId, observedAt, value, kind, unit, quality: long form, as any history may have
    detections/dma=<id>/<day>.parquet   slot_end_ms, observed_m3h, …: the columns of a backtest's detections.parquet, and
                                        origin, modelId, modelVersion, challengerId, challengerVersion
    alerts/<day>.parquet                every revision: its plain facts, and `alert`, its JSON
    commands/dma=<id>/<day>.parquet     what people said: its plain facts, and `command`, its JSON

Days are UTC, by observedAt, slot_end_ms, updatedAt and at: they all have 24 hours, blocks of history are cut at them, and
they stay where they are when somebody mends the site's time zone. The same rows always give the same bytes, whatever
came first and however it was cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.archived import Batch, Slots
from models.commands import Command
from models.config import ConfigError
from models.schema import BATTERY, ENGINE_UNIT, KINDS, QUALITIES, Alert, Readings

READINGS, DETECTIONS, ALERTS, COMMANDS = "readings", "detections", "alerts", "commands"
DAY_MS: Final = 86_400_000
_TIME: Final = pa.timestamp("ms", "UTC")
_TEXT: Final = pa.string()

KEYS: Final = {
    READINGS: ("observedAt", "meterId", "kind"),
    DETECTIONS: ("slot_end_ms",),
    ALERTS: ("updatedAt", "alertId", "revision"),
    COMMANDS: ("at", "commandId"),
}
"""Rows of a file are in this order, and there is one of each: the last received."""

READINGS_SCHEMA: Final = pa.schema(
    [
        ("meterId", _TEXT),
        ("observedAt", _TIME),
        ("value", pa.float64()),
        ("kind", _TEXT),
        ("unit", _TEXT),
        ("quality", _TEXT),
    ]
)
ALERTS_SCHEMA: Final = pa.schema(
    [
        ("alertId", _TEXT), ("revision", pa.int64()), ("event", _TEXT), ("type", _TEXT), ("severity", _TEXT),
        ("state", _TEXT), ("scopeType", _TEXT), ("scopeId", _TEXT), ("startedAt", _TIME), ("detectedAt", _TIME),
        ("updatedAt", _TIME), ("endedAt", _TIME), ("excess_m3h", pa.float64()), ("lost_m3", pa.float64()),
        ("confidence", pa.float64()), ("outcome", _TEXT), ("modelVersion", _TEXT), ("origin", _TEXT), ("alert", _TEXT),
    ]
)  # fmt: skip
COMMANDS_SCHEMA: Final = pa.schema(
    [
        ("at", _TIME), ("commandId", _TEXT), ("alertId", _TEXT), ("dma", _TEXT), ("action", _TEXT), ("outcome", _TEXT),
        ("by", _TEXT), ("comment", _TEXT), ("command", _TEXT),
    ]
)  # fmt: skip

_UNITS: Final = pa.array([None if code == BATTERY else ENGINE_UNIT[kind] for code, kind in enumerate(KINDS)], _TEXT)
"""By kind. What a battery's number counts, volts or percent, is not known any more."""
_KINDS: Final = pa.array(KINDS, _TEXT)
_QUALITIES: Final = pa.array(QUALITIES, _TEXT)


def file_name(dataset: str, dma: str | None, day: int) -> str:
    """Relative to the archive, with `/`; `day` counts from the epoch."""
    folder = dataset if dma is None else f"{dataset}/dma={dma}"
    return f"{folder}/{(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()}.parquet"


def day_of(path: Path) -> int | None:
    """The day of a file of the archive; None of one that is none."""
    try:
        return (datetime.strptime(path.name, "%Y-%m-%d.parquet").replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    except ValueError:
        return None


def tables_of(batch: Batch) -> Iterator[tuple[str, str, pa.Table]]:
    """Dataset, name of the file, and the rows for it in order of arrival; one file at a time."""
    for dma, parts in sorted(batch.readings.items()):
        yield from _by_day(READINGS, dma, *_readings(parts))
    for dma, slots in sorted(batch.slots.items()):
        for name, tables in _slots_by_day(dma, slots).items():
            yield DETECTIONS, name, together(tables)
    if batch.alerts:
        table = pa.Table.from_pylist([_alert_row(*one) for one in batch.alerts], ALERTS_SCHEMA)
        yield from _by_day(ALERTS, None, np.array([alert.updated_at for alert, _ in batch.alerts]), table)
    for dma in sorted({command.dma for command, _ in batch.commands}):
        mine = [one for one in batch.commands if one[0].dma == dma]
        table = pa.Table.from_pylist([_command_row(*one) for one in mine], COMMANDS_SCHEMA)
        yield from _by_day(COMMANDS, dma, np.array([command.at for command, _ in mine]), table)


def _by_day(dataset: str, dma: str | None, times: NDArray[np.int64], table: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    days = times // DAY_MS
    order = np.argsort(days, kind="stable")
    found, starts = np.unique(days[order], return_index=True)
    table = table.take(pa.array(order))
    for day, start, end in zip(found.tolist(), starts, [*starts[1:], len(days)], strict=True):
        yield dataset, file_name(dataset, dma, day), table.slice(start, end - start)


def _readings(parts: list[tuple[tuple[str, ...], Readings]]) -> tuple[NDArray[np.int64], pa.Table]:
    rows = np.concatenate([readings for _, readings in parts])
    lists = dict.fromkeys(meters for meters, _ in parts)  # the same few come again and again
    starts: dict[tuple[str, ...], int] = {}
    names: list[str] = []
    for meters in lists:
        starts[meters] = len(names)
        names += meters
    at = np.concatenate([readings["meter"].astype(np.int64) + starts[meters] for meters, readings in parts])
    kind = pa.array(np.ascontiguousarray(rows["kind"]))
    columns = [
        pa.array(names, _TEXT).take(pa.array(at)),
        pa.array(np.ascontiguousarray(rows["time_ms"])).cast(_TIME),
        pa.array(np.ascontiguousarray(rows["value"])),
        _KINDS.take(kind),
        _UNITS.take(kind),
        _QUALITIES.take(pa.array(np.ascontiguousarray(rows["quality"]))),
    ]
    return rows["time_ms"], pa.Table.from_arrays(columns, schema=READINGS_SCHEMA)


def _slots_by_day(dma: str, slots: list[Slots]) -> dict[str, list[pa.Table]]:
    """Neighbours of one form are put together as arrays first: live, each slot is a message of its own."""
    by_day: dict[str, list[pa.Table]] = {}
    start = 0
    for end in range(1, len(slots) + 1):
        if end < len(slots) and _form(slots[end]) == _form(slots[start]):
            continue
        alike = slots[start:end]
        columns: dict[str, Any] = {
            name: pa.array(np.concatenate([one.columns[name] for one in alike])) for name in alike[0].columns
        }
        times = columns["slot_end_ms"].to_numpy().astype(np.int64)
        columns["slot_end_ms"] = pa.array(times)
        columns |= {name: pa.array([text] * len(times), _TEXT) for name, text in alike[0].texts.items()}
        for _, name, table in _by_day(DETECTIONS, dma, times, pa.table(columns)):
            by_day.setdefault(name, []).append(table)
        start = end
    return by_day


def _form(slots: Slots) -> Any:
    return slots.texts, [(name, column.dtype) for name, column in slots.columns.items()]


def _alert_row(alert: Alert, value: bytes) -> dict[str, Any]:
    of = alert.estimate if alert.estimate is not None and alert.estimate.unit == "m3/h" else None
    return {
        "alertId": alert.alert_id, "revision": alert.revision, "event": alert.event, "type": alert.type,
        "severity": alert.severity, "state": alert.state, "scopeType": alert.scope.type, "scopeId": alert.scope.id,
        "startedAt": alert.started_at, "detectedAt": alert.detected_at, "updatedAt": alert.updated_at,
        "endedAt": alert.ended_at, "excess_m3h": of and of.excess_flow, "lost_m3": of and of.lost_so_far,
        "confidence": alert.confidence, "outcome": alert.outcome, "modelVersion": alert.model.version,
        "origin": alert.origin, "alert": value.decode(),
    }  # fmt: skip


def _command_row(command: Command, value: bytes) -> dict[str, Any]:
    return {
        "at": command.at, "commandId": command.command_id, "alertId": command.alert_id, "dma": command.dma,
        "action": command.action, "outcome": command.outcome, "by": command.by, "comment": command.comment,
        "command": value.decode(),
    }  # fmt: skip


def together(tables: Iterable[pa.Table]) -> pa.Table:
    """Rows of all; a column that some lack is null there.

    One whose type a version has changed becomes float64, or text where it is no number in one of them.
    """
    parts = list(tables)
    if any(part.schema != parts[0].schema for part in parts):
        types: dict[str, list[pa.DataType]] = {}
        for part in parts:
            for field in part.schema:
                types.setdefault(field.name, []).append(field.type)
        schema = pa.schema([(name, _common(found)) for name, found in types.items()])
        parts = [_as(part, schema) for part in parts]
    return parts[0] if len(parts) == 1 else pa.concat_tables(parts)


def _common(types: list[pa.DataType]) -> pa.DataType:
    if all(kind == types[0] for kind in types):
        return types[0]
    if all(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) for kind in types):
        return pa.float64()
    return _TEXT


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    there = set(table.column_names)
    columns = [
        table.column(field.name).cast(field.type, safe=False) if field.name in there else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def merged(old: pa.Table | None, new: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Old rows and new in the order of the key, one of each: the last of `new`, else that of `old`."""
    table = new if old is None else together([old, new])
    table = table.append_column("\0row", pa.array(np.arange(len(table))))
    order = pc.sort_indices(table, [(name, "ascending") for name in (*key, "\0row")])
    table = table.drop_columns(["\0row"]).take(order).combine_chunks()
    last = np.ones(len(table), bool)
    if len(table) > 1:
        same = np.ones(len(table) - 1, bool)
        for name in key:
            column = table.column(name)
            same &= pc.equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
        last[:-1] = ~same
    return table if last.all() else table.filter(pa.array(last))


def read_file(path: Path) -> pa.Table:
    """Raises ConfigError for one that cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read(use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        said = " ".join(str(error).split())
        raise ConfigError([f"{path}: cannot be read: {said}; possible: put it back from a copy, or move it away"]) from None


def write_file(path: Path, table: pa.Table) -> None:
    """The same rows give the same bytes: nothing in them tells when or from what they were written."""
    table = table.select(sorted(table.column_names)) if table.schema.get_field_index("slot_end_ms") >= 0 else table
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd", version="2.6")
