"""L-Town, the town of the Battle of the Leakage Detection and Isolation Methods: `nightline import battledim`.

Two layouts of a folder, with the network as .inp beside the data:

- the official one: `<year>_SCADA_Flows|Pressures|Levels|Demands.csv`, semicolon and decimal comma, m3/h, m, m, L/h;
- `flows_m3h_level_m.csv`, `pressures_m.csv`, `amr_demands.csv`, comma and point, the same units.

Areas: A and B share their inlets, so they are one DMA, AB = p227 + p235 - PUMP_1. C is what lies behind the pump and
its tank T1: PUMP_1 - what the tank takes. Labels come from `leaks.csv`, else from the official table of leaks (a line
`pipe, start, end, diameter, type, peak` in any .yaml, .yml or .txt), else from `<year>_Leakages.csv` (m3/h by pipe).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from models.config import ConfigError
from models.network import Dma, Meter
from models.schema import UNITS
from training.history_sources import time_column
from training.history_tables import CsvTable, Rejects
from training.importers.epanet import Network, read_inp
from training.importers.site_folder import (
    Column,
    Label,
    Noise,
    interval_minutes,
    new_site,
    slot_for,
    write_labels,
    write_readings,
    write_site,
)
from training.importers.wide_csv import Imported

PUMP: Final = "PUMP_1"
TANK: Final = "T1"
INLETS: Final = ("p227", "p235")
ABRUPT_WITHIN_H: Final = 1.0
"""A leak of the flow table that reaches most of its size this fast is abrupt; the official incipient ones take days."""
MOST: Final = 0.8

_OFFICIAL = re.compile(r"(\d{4})_SCADA_(Flows|Pressures|Levels|Demands)\.csv(\.gz)?", re.IGNORECASE)
_SIMPLE: Final = {"flows_m3h_level_m": "flows", "pressures_m": "pressures", "amr_demands": "demands"}
_ORDER: Final = ("flows", "levels", "pressures", "demands")
_LEAKAGES = re.compile(r"\d{4}_Leakages\.csv(\.gz)?", re.IGNORECASE)
_MOMENT = r"(\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?)"
_LEAK_LINE = re.compile(
    rf"^[\s-]*(\w+)\s*,\s*{_MOMENT}\s*,\s*{_MOMENT}\s*,\s*[\d.]+\s*,\s*(abrupt|incipient)(?:\s*,\s*{_MOMENT})?", re.MULTILINE
)


@dataclass(frozen=True)
class _File:
    table: CsvTable
    kind: str  # flows, pressures, levels, demands
    out: str


def import_battledim(
    source: Path, out: Path, *, flows_only: bool = False, noise_seed: int | None = None, force: bool = False
) -> Imported:
    """A site folder of DMAs AB and C, with readings, and labels where the leaks are known.

    `flows_only` leaves the pressures and the customers' demands out; `noise_seed` adds sensor noise, which the simulation
    has none of.

    Raises ConfigError for a folder without the flows or the network.
    """
    files = _find(source)
    if flows_only:
        files = [file for file in files if file.kind in ("flows", "levels")]
    network = read_inp(_network_file(source))
    behind_pump = network.behind(TANK, {PUMP})
    with_tank = any(_level_column(file, name) for file in files for name in file.table.columns)
    plans: list[tuple[_File, str, list[Column]]] = []
    for file in files:
        time = time_column(file.table.columns)
        if time is None:
            shown = ", ".join(file.table.columns[:8])
            raise ConfigError([f"{file.table.path}: no time column among {shown}; possible: 'Timestamp'"])
        plans.append((file, time, _columns(file, time, network, behind_pump)))
    flow_file, flow_time, _ = next(plan for plan in plans if plan[0].kind == "flows")
    slot = slot_for(interval_minutes(flow_file.table, flow_time))
    plans.sort(key=lambda plan: _ORDER.index(plan[0].kind))
    meters = {column.meter.id: column for _, _, columns in plans for column in columns}

    labels, notes = _labels(source, network, behind_pump)
    note = "The simulated clock has no daylight saving, so local time is kept as UTC; Cyprus itself is Asia/Nicosia."
    dmas = [Dma("AB", "Areas A and B", slot), Dma("C", "Area C, behind the pump and its tank", slot)]
    rows = 0
    noise = None if noise_seed is None else Noise(noise_seed)
    with new_site(out, source, force=force) as fresh:
        write_site(fresh, "L-Town", ("UTC", note), dmas, meters.values())
        with Rejects(fresh / "rejects.csv") as rejects:
            for file, time, columns in plans:
                known = {column.source for column in columns}
                for name in file.table.columns:
                    if name not in known and name != time:
                        rejects.add(file.table.path.name, 1, f"column {name!r} is not placed in the network")
                made = fresh / "readings" / f"{file.out}.csv.gz"
                rows += write_readings(file.table, time, columns, out=made, rejects=rejects, noise=noise)
        if labels:
            write_labels(fresh / "labels.csv", labels)
    if not with_tank:
        notes.append(f"no level of {TANK}: DMA C sees the pump fill the tank as if it were demand")
    return Imported(len(dmas), len(meters), rows, slot, rejects.count, len(labels), tuple(notes))


def _find(source: Path) -> list[_File]:
    if not source.is_dir():
        raise ConfigError([f"{source}: not a folder; possible: a folder with the SCADA files and L-TOWN.inp"])
    found = []
    for path in sorted(source.iterdir()):
        stem = path.name.removesuffix(".gz").removesuffix(".csv")
        official = _OFFICIAL.fullmatch(path.name)
        if official:
            found.append(_File(CsvTable(path), official[2].lower(), f"{official[1]}_{official[2].lower()}"))
        elif stem in _SIMPLE and path.name != stem:
            found.append(_File(CsvTable(path), _SIMPLE[stem], _SIMPLE[stem]))
    if not any(file.kind == "flows" for file in found):
        possible = "<year>_SCADA_Flows.csv or flows_m3h_level_m.csv, and the pressures, levels, demands beside it"
        raise ConfigError([f"{source}: no flows in the folder; possible: {possible}"])
    return found


def _network_file(source: Path) -> Path:
    networks = sorted(path for path in source.iterdir() if path.suffix.lower() == ".inp")
    if not networks:
        raise ConfigError([f"{source}: no .inp in the folder; possible: L-TOWN.inp, it tells which meter is where"])
    return next((path for path in networks if path.stem.lower() == "l-town"), networks[0])


def _level_column(file: _File, name: str) -> bool:
    return name == f"{TANK}_level_m" or (file.kind == "levels" and name == TANK)


def _columns(file: _File, time: str, network: Network, behind_pump: frozenset[str]) -> list[Column]:
    columns = []
    for name in file.table.columns:
        if name == time:
            continue
        area = "C" if name in behind_pump else "AB"
        if _level_column(file, name):
            size = network.tank_area_m2.get(TANK)
            if size is None:
                raise ConfigError([f"{network.path}: no tank {TANK!r}; possible: its [TANKS] line, for its diameter"])
            columns.append(Column(name, Meter(TANK, "level", dma="C", area_m2=size), 1.0))
        elif file.kind == "flows" and name in INLETS:
            columns.append(Column(name, Meter(name, "flow", to_dma="AB"), UNITS["flow"]["m3/h"]))
        elif file.kind == "flows" and name == PUMP:
            columns.append(Column(name, Meter(name, "flow", "AB", "C"), 1.0, "the only way into C"))
        elif file.kind == "pressures" and name in network.nodes:
            columns.append(Column(name, Meter(f"P-{name}", "pressure", dma=area), UNITS["pressure"]["m[H2O]"]))
        elif file.kind == "demands" and name in network.nodes:
            columns.append(Column(name, Meter(f"AMR-{name}", "flow", dma=area), UNITS["flow"]["L/h"]))
    return columns


def _labels(source: Path, network: Network, behind_pump: frozenset[str]) -> tuple[list[Label], list[str]]:
    def dma(pipe: str) -> str:
        return "C" if behind_pump.issuperset(network.ends(pipe)) else "AB"

    simple = source / "leaks.csv"
    if simple.exists():
        try:
            with simple.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError([f"{simple}: cannot be read: {error}"]) from None
        try:
            return [
                Label(
                    dma(r["pipe"]), r["type"], r["start"], r["end"], r["pipe"], _number(r.get("max_m3h")),
                    r.get("peak_time") or "",
                )
                for r in rows
            ], []  # fmt: skip
        except KeyError as error:
            raise ConfigError([f"{simple}: no column {error}; possible: pipe, start, end, type, max_m3h"]) from None
    for path in sorted(p for p in source.iterdir() if p.suffix.lower() in (".yaml", ".yml", ".txt")):
        found = _LEAK_LINE.findall(path.read_text(encoding="utf-8", errors="replace"))
        if found:
            return [Label(dma(pipe), kind, start, end, pipe, None, peak) for pipe, start, end, kind, peak in found], []
    return _labels_from_flows(source, dma)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _labels_from_flows(source: Path, dma: Callable[[str], str]) -> tuple[list[Label], list[str]]:
    """One label per run of a pipe's leak flow above zero; the years are taken as one record."""
    times: dict[str, list[str]] = {}
    flows: dict[str, list[float]] = {}
    for path in sorted(p for p in source.iterdir() if _LEAKAGES.fullmatch(p.name)):
        table = CsvTable(path)
        time = time_column(table.columns)
        pipes = [name for name in table.columns if name != time]
        if time is None or not pipes:
            raise ConfigError([f"{path}: found {', '.join(table.columns[:8])}; possible: 'Timestamp' and a column per pipe"])
        for batch, _ in table.batches({time: pa.string(), **dict.fromkeys(pipes, pa.float64())}):
            stamps = batch.column(0).to_pylist()
            for at, pipe in enumerate(pipes):
                times.setdefault(pipe, []).extend(stamps)
                flows.setdefault(pipe, []).extend(np.nan_to_num(batch.column(at + 1).to_numpy(zero_copy_only=False)))
    labels, notes = [], []
    for pipe, series in flows.items():
        flow = np.asarray(series)
        edges = np.diff((flow > 0).astype(np.int8), prepend=0, append=0)
        for first, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
            if first == 0:
                notes.append(f"{pipe} was leaking before the record begins: no label")
                continue
            run = flow[first:end]
            stamps = np.array([np.datetime64(times[pipe][first]), np.datetime64(times[pipe][first + _reach(run)])])
            fast = (stamps[1] - stamps[0]) <= np.timedelta64(int(ABRUPT_WITHIN_H * 3600), "s")
            kind = "abrupt" if fast else "incipient"
            size, peak = float(run.max()), times[pipe][first + int(run.argmax())]
            labels.append(Label(dma(pipe), kind, times[pipe][first], times[pipe][end - 1], pipe, size, peak))
    return labels, notes


def _reach(run: np.ndarray) -> int:
    """First row at which a leak has most of its largest flow."""
    return int(np.argmax(run >= MOST * run.max()))
