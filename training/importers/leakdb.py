"""LeakDB, simulated years of one network with and without leaks: `nightline import leakdb`.

One site with a DMA for every scenario, so that one run judges them all; the scenarios know nothing of each other. Two
layouts of a folder:

- LeakDB's own: `Scenario-N/Flows/Link_*.csv` (m3/h), `Pressures/Node_*.csv` (m), each `Timestamp,Value`, and of each leak
  `Leaks/Leak_*_info.csv` (`Description,Value` with type, start, end, peak) and `Leak_*_demand.csv` (m3/h); `Labels.csv`
  (`Timestamp,Label`) tells of leaks where the others do not. The links that feed the network are named by `--inlet`; 1,
  as in LeakDB's own baseline, is Hanoi's only one. Made from the published generator and baseline of that data set.
- one file a scenario, `scenario_*.csv`: `timestamp`, `inflow_m3h`, a column of pressure (m) each node, and `label`, with
  `leaks.csv` beside them (`scenario,node,start,end,type,peak_time,max_leak_m3h`).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from models.config import ConfigError
from models.network import Dma, Meter
from models.schema import UNITS
from training.history_sources import time_column
from training.history_tables import CsvTable, Lines, Rejects
from training.importers.site_folder import (
    Column,
    Label,
    interval_minutes,
    new_site,
    slot_for,
    write_labels,
    write_readings,
    write_site,
)
from training.importers.wide_csv import Imported
from training.labels import ABRUPT

HEAD: Final = UNITS["pressure"]["m[H2O]"]
ACCEPT_DAYS: Final = 3650
"""A LeakDB leak runs for months and nobody answers; an alert that is closed as the new normal would count as a miss."""
_FOLDER = re.compile(r"scenario[-_ ]?(\d+)", re.IGNORECASE)
_FILE = re.compile(r"scenario[-_ ]?(\d+)\.csv(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class _Scenario:
    """`table` has a time column, the inlets' flows and the nodes' pressures."""

    number: int
    table: CsvTable | _Joined
    time: str
    columns: list[Column]
    labels: list[Label]
    left_out: tuple[str, ...] = ()

    @property
    def dma(self) -> str:
        return _dma(self.number)


def _dma(number: int) -> str:
    return f"S{number:03}"


def import_leakdb(source: Path, out: Path, *, inlets: Sequence[str] = ("1",), force: bool = False) -> Imported:
    """A site folder with one DMA a scenario, readings, and labels of all leaks.

    Raises ConfigError for a folder without scenarios, or a scenario without an inflow.
    """
    if not source.is_dir():
        raise ConfigError([f"{source}: not a folder; possible: a folder with Scenario-1, Scenario-2, … or scenario_*.csv"])
    files = sorted((int(found[1]), path) for path in source.iterdir() if (found := _FILE.fullmatch(path.name)))
    folders = sorted(
        (int(found[1]), path) for path in source.iterdir() if path.is_dir() and (found := _FOLDER.fullmatch(path.name))
    )
    if files:
        known = _leaks_csv(source / "leaks.csv")
        scenarios = [_from_file(number, path, known) for number, path in files]
    elif folders:
        scenarios = [_from_folder(number, path, inlets) for number, path in folders]
    else:
        raise ConfigError([f"{source}: no scenarios in the folder; possible: folders Scenario-N, or files scenario_N.csv"])
    slot = slot_for(interval_minutes(scenarios[0].table, scenarios[0].time))
    dmas = [Dma(scenario.dma, f"Scenario {scenario.number}", slot) for scenario in scenarios]
    note = "Simulated, without daylight saving."
    rows = 0
    labels = [label for scenario in scenarios for label in scenario.labels]
    columns = [column for scenario in scenarios for column in scenario.columns]
    with new_site(out, source, force=force) as fresh:
        write_site(fresh, "LeakDB", ("UTC", note), dmas, columns, accept_after_days=ACCEPT_DAYS)
        with Rejects(fresh / "rejects.csv") as rejects:
            for scenario in scenarios:
                for name in scenario.left_out:
                    rejects.add(scenario.table.path.name, 1, f"column {name!r} is neither an inflow nor a pressure")
                made = fresh / "readings" / f"scenario_{scenario.number:03}.csv.gz"
                rows += write_readings(scenario.table, scenario.time, scenario.columns, out=made, rejects=rejects)
        write_labels(fresh / "labels.csv", labels)
    return Imported(len(dmas), len(columns), rows, slot, rejects.count, len(labels))


def _columns(number: int, flows: Iterable[str], pressures: Iterable[tuple[str, str]]) -> list[Column]:
    """`pressures`: source column and node."""
    dma = _dma(number)
    return [
        *(
            Column(name, Meter(f"FM-{dma}" + (f"-{at}" * (at > 1)), "flow", to_dma=dma), 1.0)
            for at, name in enumerate(flows, 1)
        ),
        *(Column(name, Meter(f"P-{dma}-{node}", "pressure", dma=dma), HEAD) for name, node in pressures),
    ]


def _from_file(number: int, path: Path, known: dict[int, list[Label]] | None) -> _Scenario:
    table = CsvTable(path)
    time = time_column(table.columns)
    flows = [name for name in table.columns if name.lower() in ("inflow_m3h", "inflow")]
    if time is None or not flows:
        shown = ", ".join(table.columns[:8])
        raise ConfigError([f"{path}: found {shown}; possible: 'timestamp', 'inflow_m3h' and pressures 'P_<node>'"])
    pressures = [(name, name[2:]) for name in table.columns if name.startswith("P_")]
    used = {time, "label", *flows, *(name for name, _ in pressures)}
    if known is None:
        labels = _runs(number, table, time, "label") if "label" in table.columns else []
    else:
        labels = known.get(number, [])
    left_out = tuple(name for name in table.columns if name not in used)
    return _Scenario(number, table, time, _columns(number, flows, pressures), labels, left_out)


def _runs(number: int, table: CsvTable, time: str, label: str) -> list[Label]:
    """One leak a run of rows with a label of 1; how it began is not told, so it counts as abrupt."""
    times, leaking = [], []
    for batch, _ in table.batches({time: pa.string(), label: pa.float64()}):
        times += batch.column(0).to_pylist()
        leaking += (np.nan_to_num(batch.column(1).to_numpy(zero_copy_only=False)) > 0).tolist()
    edges = np.flatnonzero(np.diff(np.asarray(leaking, np.int8), prepend=0, append=0))
    return [
        Label(_dma(number), ABRUPT, times[first], times[end - 1], f"{number}-{at}", None)
        for at, (first, end) in enumerate(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True), 1)
    ]


def _leaks_csv(path: Path) -> dict[int, list[Label]] | None:
    """The leaks by scenario; None where the file is not there."""
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.DictReader(file) if (row.get("start") or "").strip()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    found: dict[int, list[Label]] = {}
    try:
        for row in rows:
            number = int(row["scenario"])
            name, size = f"{number}-{row['node']}", float(row["max_leak_m3h"])
            label = Label(_dma(number), row["type"], row["start"], row["end"], name, size, row["peak_time"])
            found.setdefault(number, []).append(label)
    except (KeyError, ValueError) as error:
        possible = "scenario, node, start, end, type, peak_time, max_leak_m3h"
        raise ConfigError([f"{path}: found a row with {error}; possible: {possible}"]) from None
    return found


class _Joined:
    """The `Value` columns of several files of the same times, side by side: a table of one scenario's folder."""

    def __init__(self, path: Path, files: dict[str, CsvTable]) -> None:
        self.path, self._files = path, files
        self.columns = ("Timestamp", *files)

    def batches(
        self, types: Mapping[str, pa.DataType], rejects: Rejects | None = None
    ) -> Iterator[tuple[pa.RecordBatch, Lines]]:
        """One batch of all rows. Raises ConfigError for files whose times differ."""
        times: pa.Array | None = None
        columns: dict[str, pa.Array] = {}
        for name in [name for name in types if name != "Timestamp"] or list(self._files)[:1]:
            table = self._files[name]
            parts = [batch for batch, _ in table.batches({"Timestamp": pa.string(), "Value": pa.float64()}, rejects)]
            whole = pa.Table.from_batches(parts).combine_chunks()
            ours = whole.column("Timestamp").combine_chunks()
            if times is not None and not ours.equals(times):
                raise ConfigError([f"{table.path}: other times than in {next(iter(self._files.values())).path.name}"])
            times, columns[name] = ours, whole.column("Value").combine_chunks()
        arrays = [times if name == "Timestamp" else columns[name] for name in types]
        yield pa.RecordBatch.from_arrays(arrays, names=list(types)), Lines(2)


def _from_folder(number: int, path: Path, inlets: Sequence[str]) -> _Scenario:
    flows = {f"Link_{link}": path / "Flows" / f"Link_{link}.csv" for link in inlets}
    for file in flows.values():
        if not file.exists():
            there = ", ".join(sorted(f.stem for f in (path / "Flows").glob("Link_*.csv"))[:8]) or "none"
            raise ConfigError([f"{file}: no such file; possible with --inlet: {there}"])
    nodes = sorted((path / "Pressures").glob("Node_*.csv"), key=lambda file: (len(file.stem), file.stem))
    pressures = {file.stem: file for file in nodes}
    tables = {name: CsvTable(file) for name, file in (flows | pressures).items()}
    columns = _columns(number, flows, [(name, name.removeprefix("Node_")) for name in pressures])
    return _Scenario(number, _Joined(path, tables), "Timestamp", columns, _leaks_of(number, path))


def _leaks_of(number: int, path: Path) -> list[Label]:
    infos = sorted((path / "Leaks").glob("Leak_*_info.csv"))
    if not infos and (path / "Labels.csv").exists():
        table = CsvTable(path / "Labels.csv")
        return _runs(number, table, "Timestamp", table.columns[-1])
    labels = []
    for info in infos:
        with info.open(encoding="utf-8-sig", newline="") as file:
            said = {row[0].strip(): row[1].strip() for row in csv.reader(file) if len(row) >= 2}
        try:
            node, kind, start, end = (said[name] for name in ("Leak Node", "Leak Type", "Leak Start", "Leak End"))
        except KeyError as error:
            raise ConfigError([f"{info}: found no {error}; possible: Leak Node, Leak Type, Leak Start, Leak End"]) from None
        size = _largest(info.with_name(info.name.replace("_info", "_demand")))
        labels.append(Label(_dma(number), kind, start, end, f"{number}-{node}", size, said.get("Peak Time", "")))
    return labels


def _largest(path: Path) -> float | None:
    if not path.exists():
        return None
    table = CsvTable(path)
    flows = [batch.column(0).to_numpy(zero_copy_only=False) for batch, _ in table.batches({table.columns[-1]: pa.float64()})]
    return float(np.nanmax(np.concatenate(flows))) if flows else None
