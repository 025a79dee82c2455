"""Runs EPANET over the town, quarter hour by quarter hour, and turns the result into a site, readings and labels.

EPANET is driven through wntr's toolkit binding: before every step the demands, the source heads, the leaks' emitters
and the boundary valve are set, so a leak is a true orifice that opens, grows and closes with the pressure it has.
"""

from __future__ import annotations

import csv
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from models.schema import KINDS, Readings
from training.history import Window
from training.simulation import noise, town
from training.simulation.demand import area_demand, autoregressive, local_hours, weather
from training.simulation.plants import PLANTED_WEEKS, Plant, plan

FIRST_DAY: Final = date(2026, 9, 7)  # a Monday
SLOT_MS: Final = town.SLOT_S * 1000
HOT_WEEKEND: Final = 1.09
LEAK_KINDS: Final = {"burst": "abrupt", "slow_leak": "incipient"}
_DEMAND, _PRESSURE, _ELEVATION, _EMITTER, _BASE_DEMAND = 9, 11, 0, 3, 1  # EPANET node codes
_FLOW, _STATUS = 8, 11  # EPANET link codes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What really happened, before any meter."""

    starts_ms: NDArray[np.int64]  # (steps,) start of each slot
    flow_m3h: Floats  # (steps, flow meters)
    head_m: Floats  # (steps, loggers) pressure
    valve_m3h: Floats  # (steps,) through the boundary valve


@dataclass(frozen=True)
class Town:
    """A simulated town: its site folder's texts, its readings in order of arrival, and what was planted."""

    site_toml: str
    network_toml: str
    readings: Readings
    arrived_ms: NDArray[np.int64]  # (readings,) ascending
    plants: tuple[Plant, ...]
    clean_until_ms: int  # before this nothing was planted but a hot weekend
    truth: Truth

    def windows(self, minutes: int) -> Iterator[Window]:
        """The readings cut by time of arrival, late ones and repeats included: the stream as a concentrator sends it."""
        cell = self.arrived_ms // (minutes * 60_000)
        for part in np.split(np.arange(len(cell)), np.flatnonzero(np.diff(cell)) + 1):
            start_ms = int(cell[part[0]]) * minutes * 60_000
            yield Window(start_ms, start_ms + minutes * 60_000, self.readings[part])

    def write(self, folder: Path) -> None:
        """Write a site folder and its history into `folder`.

        site.toml, network.toml; readings.csv (long form, in order of arrival); labels.csv (the leaks, as `nightline
        backtest --labels` takes them); planted.csv (every planted event and the alert that it must raise).
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "site.toml").write_text(self.site_toml, encoding="utf-8")
        (folder / "network.toml").write_text(self.network_toml, encoding="utf-8")
        unit = ["m3/h" if kind == "flow" else "kPa" if kind == "pressure" else "" for kind in KINDS]
        readings = (
            (town.METER_IDS[meter], time_ms, f"{value:.10g}", KINDS[kind], unit[kind])
            for time_ms, value, meter, kind, _ in self.readings.tolist()
        )
        _write_csv(folder / "readings.csv", ("meterId", "observedAt", "value", "kind", "unit"), readings)
        leaks = (
            (p.scope, LEAK_KINDS[p.kind], _iso(p.started_ms), _iso(p.ended_ms), p.kind, round(p.size_m3h, 2))
            for p in self.plants
            if p.kind in LEAK_KINDS
        )
        _write_csv(folder / "labels.csv", ("dma", "kind", "startedAt", "endedAt", "id", "max_m3h"), leaks)
        planted = (
            (
                *(p.kind, p.scope_type, p.scope, _iso(p.started_ms), _iso(p.ended_ms)),
                *("|".join(p.expected), p.within_h, round(p.size_m3h, 2), p.place),
            )
            for p in self.plants
        )
        columns = ("kind", "scopeType", "scope", "startedAt", "endedAt", "expected", "withinHours", "size_m3h", "place")
        _write_csv(folder / "planted.csv", columns, planted)


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, ZoneInfo(town.TIMEZONE)).isoformat(timespec="seconds")


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)


def slot_starts(weeks: int) -> NDArray[np.int64]:
    """(steps,) start of each slot, epoch ms, from local midnight of the first day."""
    local = datetime.combine(FIRST_DAY, datetime.min.time(), ZoneInfo(town.TIMEZONE))
    return int(local.timestamp() * 1000) + SLOT_MS * np.arange(weeks * 7 * 86400 // town.SLOT_S, dtype=np.int64)


def demands(
    rng: np.random.Generator, weights: dict[str, float], starts_ms: NDArray[np.int64], plants: list[Plant]
) -> tuple[list[str], Floats]:
    """Junction names and their (steps, junctions) demand in m3/h, with the hot weekend and the fire draw in it."""
    hours = local_hours(starts_ms, town.TIMEZONE)
    warmth = weather(rng, len(starts_ms), 86400 // town.SLOT_S)
    for plant in plants:
        if plant.kind == "hot_weekend":
            warmth = warmth * (1.0 + (HOT_WEEKEND - 1.0) * plant.share(starts_ms, SLOT_MS))
    names: list[str] = []
    columns = []
    for area in town.AREAS:
        share = np.array([weights.get(junction, 0.0) for junction in area.junctions])
        names += area.junctions
        columns.append(area_demand(rng, area, share / share.sum(), hours, warmth, town.SLOT_S))
    demand = np.hstack(columns)
    for plant in plants:
        if plant.kind == "fire_draw":
            demand[:, names.index(plant.place)] += plant.size_m3h * plant.share(starts_ms, SLOT_MS)
    return names, demand


def source_heads(rng: np.random.Generator, hours: Floats) -> dict[str, Floats]:
    """(steps,) head of each source in m: held higher by day, and never quite still."""
    by_day = 0.8 * np.sin((hours % 24 - 8.0) / 24.0 * 2.0 * np.pi)
    return {name: mean + by_day + autoregressive(rng, len(hours), phi=0.9, sd=0.15) for name, mean in town.SOURCES.items()}


def emitter_coefficients(names: list[str], starts_ms: NDArray[np.int64], plants: list[Plant]) -> Floats:
    """(steps, junctions) emitter coefficients, m3/h per m: background leakage everywhere, and the planted leaks."""
    steady = np.array(
        [
            area.mean_m3h * area.background / len(area.junctions) / town.REFERENCE_HEAD_M
            for area in town.AREAS
            for _ in area.junctions
        ]
    )
    emitters = np.tile(steady, (len(starts_ms), 1))
    for plant in plants:
        if plant.kind in ("burst", "slow_leak"):
            emitters[:, names.index(plant.place)] += plant.coefficient() * plant.share(starts_ms, SLOT_MS)
    return emitters


def solve(
    names: list[str],
    demand: Floats,
    emitters: Floats,
    heads: dict[str, Floats],
    valve_open: NDArray[np.bool_],
    watched: list[str],
    progress: Callable[[float], None],
) -> tuple[Floats, Floats, Floats]:
    """EPANET's answer: (steps, flow meters) m3/h, (steps,) m3/h through the valve, (steps, watched junctions) pressure in m.

    Raises RuntimeError naming the step and EPANET's words if a step does not balance.
    """
    import wntr  # noqa: PLC0415
    from wntr.epanet.toolkit import ENepanet  # noqa: PLC0415

    logging.getLogger("wntr").setLevel(logging.ERROR)
    steps = len(demand)
    flow, valve, pressure = np.empty((steps, len(town.FLOW_METERS))), np.empty(steps), np.empty((steps, len(watched)))
    with tempfile.TemporaryDirectory(prefix="nightline-epanet-") as folder:
        inp = str(Path(folder, "town.inp"))
        network = town.build_network()
        network.options.time.duration = steps * town.SLOT_S
        wntr.network.write_inpfile(network, inp, units="CMH")
        epanet = ENepanet()
        epanet.ENopen(inp, str(Path(folder, "town.rpt")), "")
        nodes = [epanet.ENgetnodeindex(name) for name in names]
        sources = [(epanet.ENgetnodeindex(name), head) for name, head in heads.items()]
        meters = [(epanet.ENgetlinkindex(m.pipe), m.sign) for m in town.FLOW_METERS]
        loggers = [epanet.ENgetnodeindex(name) for name in watched]
        valve_pipe = epanet.ENgetlinkindex(town.VALVE_PIPE)
        epanet.ENopenH()
        epanet.ENinitH(0)
        for step in range(steps):
            for column, node in enumerate(nodes):
                epanet.ENsetnodevalue(node, _BASE_DEMAND, demand[step, column])
                if step == 0 or emitters[step, column] != emitters[step - 1, column]:
                    epanet.ENsetnodevalue(node, _EMITTER, emitters[step, column])
            for node, head in sources:
                epanet.ENsetnodevalue(node, _ELEVATION, head[step])
            epanet.ENsetlinkvalue(valve_pipe, _STATUS, float(valve_open[step]))
            epanet.ENrunH()
            if epanet.Warnflag:
                raise RuntimeError(f"EPANET, step {step}: {epanet.errcodelist[-1]}")
            flow[step] = [sign * epanet.ENgetlinkvalue(link, _FLOW) for link, sign in meters]
            valve[step] = epanet.ENgetlinkvalue(valve_pipe, _FLOW)
            pressure[step] = [epanet.ENgetnodevalue(node, _PRESSURE) for node in loggers]
            epanet.ENnextH()
            if step % 96 == 95:
                progress((step + 1) / steps)
        epanet.ENcloseH()
        epanet.ENclose()
    return flow, valve, pressure


def _measured(plant: Plant, truth: Truth, leak_head_m: Floats) -> Plant:
    """The plant with the flow it really had: leaks depend on the pressure, the valve on both sides' heads."""
    share = plant.share(truth.starts_ms, SLOT_MS)
    if plant.kind in ("burst", "slow_leak"):
        full = share > 0.99 * share.max()
        return plant.sized(float((plant.coefficient() * share * leak_head_m)[full].mean()))
    if plant.kind == "valve_opened":
        return plant.sized(float(np.abs(truth.valve_m3h[share > 0]).mean()))
    return plant


def simulate(seed: int = 1, weeks: int = 5, progress: Callable[[float], None] = lambda _: None) -> Town:
    """The town over `weeks` weeks from Monday 2026-09-07; the last two hold the planted events.

    The same seed gives the same readings, byte for byte. `progress` is called with the share done, 0 to 1, once a day.
    Raises ValueError for fewer than 5 weeks.
    """
    rng = np.random.default_rng(seed)
    plants = plan(rng, FIRST_DAY, weeks)
    starts_ms = slot_starts(weeks)
    base = {name: junction.base_demand for name, junction in town.build_network().junctions()}
    names, demand = demands(rng, base, starts_ms, plants)
    heads = source_heads(rng, local_hours(starts_ms, town.TIMEZONE))
    emitters = emitter_coefficients(names, starts_ms, plants)
    opened = np.zeros(len(starts_ms), bool)
    for plant in plants:
        if plant.kind == "valve_opened":
            opened |= plant.share(starts_ms, SLOT_MS) > 0.5
    watched = [node for _, node, _ in town.PRESSURE_LOGGERS] + [p.place if p.place in names else names[0] for p in plants]
    flow, valve, pressure = solve(names, demand, emitters, heads, opened, watched, progress)
    loggers = len(town.PRESSURE_LOGGERS)
    truth = Truth(starts_ms, flow, pressure[:, :loggers], valve)
    plants = [_measured(plant, truth, pressure[:, loggers + row]) for row, plant in enumerate(plants)]

    read_flow, read_head = noise.measure_flow(rng, flow), noise.measure_pressure(rng, truth.head_m)
    keep = np.zeros((len(starts_ms), len(town.METER_IDS)), bool)
    for plant in plants:
        if plant.kind == "stuck_meter":
            column = town.METER_IDS.index(plant.scope)
            stuck = plant.share(starts_ms, SLOT_MS) > 0.5
            noise.stick(read_flow[:, column], stuck)
            keep[stuck, column] = True
    gone = noise.lost(rng, keep.shape, keep)
    readings, arrived_ms = noise.arrivals(rng, starts_ms + SLOT_MS, read_flow, read_head, gone)
    clean_until_ms = int(starts_ms[(weeks - PLANTED_WEEKS) * 7 * 86400 // town.SLOT_S])
    return Town(town.site_toml(), town.network_toml(), readings, arrived_ms, tuple(plants), clean_until_ms, truth)
