"""The site: DMAs, meters, and every topology fact once.

A network meter is an edge: `from` one DMA `to` another; an omitted end is the trunk main or the outside. Roles are derived:
no `from` is an inlet, no `to` an outlet, both a boundary meter, which counts in each of its DMAs with opposite sign.
Pressure loggers, tank levels and customer meters name their DMA instead.

    net inflow (m3/h) = incidence @ flow (m3/h) + storage released (m3/h)        DOMAIN: inlets - outlets + delta storage
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Literal, get_args
from zoneinfo import available_timezones

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.calendar import DayClass, day_codes
from models.config import ConfigError, Key, nearest, read_table
from models.planned import PlannedWork, read_planned
from models.toml import network_pieces, read_toml
from models.topology import Subscribers, Topology
from models.zones import clock_change_days

MeterKind = Literal["flow", "pressure", "level"]
SLOT_MINUTES: Final = (1, 5, 15, 30, 60)
DAY_MIN: Final = 1440

MOST_ALERTS_PER_WEEK: Final = 1000
_LARGEST: Final = sys.float_info.max

_ID = re.compile(r"[A-Za-z0-9._:+-]{1,64}")


class Meter(msgspec.Struct, frozen=True, gc=False):
    """One instrument. `from_dma` and `to_dma` are set for network meters, `dma` for all others."""

    id: str
    kind: MeterKind
    from_dma: str | None = None
    to_dma: str | None = None
    dma: str | None = None
    area_m2: float = 0.0
    lateness_minutes: int = 60
    """How far behind the others a reading may come and still count; so long an incomplete slot waits for the meter."""

    @property
    def is_network_flow(self) -> bool:
        """True for inlets, outlets and boundary meters."""
        return self.kind == "flow" and self.dma is None

    @property
    def is_customer(self) -> bool:
        """True for a flow, volume or register meter at a property."""
        return self.kind == "flow" and self.dma is not None

    @property
    def home(self) -> str:
        """The one DMA that reports this meter's own faults."""
        return self.dma or self.to_dma or self.from_dma or ""


@dataclass(frozen=True, slots=True)
class Dma:
    """A district metered area."""

    id: str
    name: str
    slot_minutes: int


def longest_lateness_minutes(meters: Iterable[Meter]) -> int:
    """Of the meters that slots wait for, which are all but the customers'; 0 where there is none."""
    return max((m.lateness_minutes for m in meters if not m.is_customer), default=0)


@dataclass(frozen=True)
class Site:
    """Everything the engine knows about a place. Built by `parse_site`."""

    name: str
    timezone: str
    dmas: tuple[Dma, ...]
    meters: tuple[Meter, ...]
    valves: tuple[tuple[str, str], ...]
    night_start_min: int
    night_end_min: int
    alerts_per_week: float
    cost_per_m3: float | None
    accept_after_days: int
    reopen_after_days: int
    dma_row: dict[str, int] = field(repr=False)
    meter_row: dict[str, int] = field(repr=False)
    planned: tuple[PlannedWork, ...] = ()
    country: str | None = None
    subdivision: str | None = None
    classes: Mapping[date, DayClass] = field(default_factory=dict, repr=False)
    """Holidays and make-up workdays."""

    @functools.cached_property
    def _topology(self) -> Topology:
        return Topology(self.dma_row, self.meters, self.valves)

    @functools.cached_property
    def days(self) -> NDArray[np.uint8]:
        """What each local day is like (`calendar.day_codes`)."""
        return day_codes(self.classes, clock_change_days(self.timezone))

    @property
    def incidence(self) -> NDArray[np.int8]:
        """(DMAs, meters): +1 where a network flow meter feeds the DMA, -1 where it drains it, else 0."""
        return self.signs([dma.id for dma in self.dmas], range(len(self.meters)))

    def signs(self, dmas: Sequence[str], rows: Sequence[int]) -> NDArray[np.int8]:
        """(dmas, rows): `incidence` of these DMAs and meter rows alone; of a large site the whole fills the memory."""
        place = {dma: number for number, dma in enumerate(dmas)}
        matrix = np.zeros((len(dmas), len(rows)), np.int8)
        for column, row in enumerate(rows):
            meter = self.meters[row]
            if meter.to_dma in place:
                matrix[place[meter.to_dma], column] += 1
            if meter.from_dma in place:
                matrix[place[meter.from_dma], column] -= 1
        return matrix

    def neighbours(self, dma: str) -> tuple[str, ...]:
        """DMAs that share a boundary meter or a boundary valve with this one, in the site's order."""
        return tuple(self.dmas[row].id for row in self._topology.neighbours(self.dma_row[dma]))

    def channels(self, dma: str) -> tuple[int, ...]:
        """Rows of the meters this DMA's engine reads: its own, and its neighbours' flows and levels; ascending.

        A neighbour's inflow is needed to tell an opened boundary valve (one gains what the other loses) from a burst.
        """
        return self._topology.channels(self.dma_row[dma])

    def subscribers(self) -> Subscribers:
        """For each meter row, the DMA rows whose engines read it."""
        return self._topology.subscribers(len(self.meters))

    @property
    def shortest_lateness_minutes(self) -> int:
        """Of the meters that slots wait for: readings that lie further apart must not be taken in the wrong order."""
        return min(m.lateness_minutes for m in self.meters if not m.is_customer)

    def fingerprint(self, dma: str) -> str:
        """Hash of the facts that give meaning to a DMA's saved state: what is new elsewhere leaves it alone.

        Display names, budgets and lateness are left out. Raises KeyError for a DMA that the site does not have.
        """
        slot_minutes = self.dmas[self.dma_row[dma]].slot_minutes
        facts = repr((self.timezone, self.night_start_min, self.night_end_min, dma, slot_minutes, self.neighbours(dma)))
        for row in self.channels(dma):
            m = self.meters[row]
            facts += repr((m.id, m.kind, m.from_dma, m.to_dma, m.dma, m.area_m2))
        return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _clock(text: str) -> int:
    """Minutes after midnight of 'HH:MM'."""
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _is_clock(text: str) -> bool:
    return re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", text) is not None


def _is_zone(name: str) -> bool:
    """A zone that means the same on every machine."""
    if name in ("localtime", "Factory") or name.startswith(("posix", "right")):
        return False
    return name in available_timezones()


def _is_pair(ends: list[Any]) -> bool:
    return len(ends) == 2 and all(isinstance(end, str) for end in ends) and ends[0] != ends[1]


_SITE_KEYS = {
    "name": Key(str, "a short name of letters, digits and . _ : + -", required=True, check=_ID.fullmatch),  # type: ignore[arg-type]
    "timezone": Key(str, "an IANA zone, e.g. 'Europe/Rome'", required=True, check=_is_zone),
    "night": Key(dict, "a table", {}),
    "stream": Key(dict, "a table", {}),
    "alerts": Key(dict, "a table", {}),
    "calendar": Key(dict, "a table", {}),
}
_CALENDAR_KEYS = {
    "country": Key(str, "an ISO 3166 code of two letters, e.g. 'IT'", check=re.compile(r"[A-Z]{2}").fullmatch),  # type: ignore[arg-type]
    "subdivision": Key(str, "the code of a part of the country, e.g. 'BZ'", check=_ID.fullmatch),  # type: ignore[arg-type]
}
_NIGHT_KEYS = {
    "start": Key(str, "'HH:MM' local time", "02:00", check=_is_clock),
    "end": Key(str, "'HH:MM' local time", "04:00", check=_is_clock),
}
_LATENESS = "whole minutes from 0 to 10080"


def _is_lateness(minutes: int) -> bool:
    return 0 <= minutes <= 7 * DAY_MIN


_STREAM_KEYS = {
    "latenessMinutes": Key(int, _LATENESS, 60, check=_is_lateness),
    "pressureLatenessMinutes": Key(int, _LATENESS, check=_is_lateness),
    "customerLatenessMinutes": Key(int, _LATENESS, 2 * DAY_MIN, check=_is_lateness),
}
_ALERT_KEYS = {
    "budgetPerWeek": Key(
        (int, float),
        "a number above 0, at most 1000: unexplained alerts a week, whole site",
        check=lambda n: 0 < n <= MOST_ALERTS_PER_WEEK,
    ),
    "costPerM3": Key((int, float), "a finite number of at least 0", check=lambda n: 0 <= n <= _LARGEST),
    "acceptAfterDays": Key(int, "whole days from 1 to 3650", 60, check=lambda d: 1 <= d <= 3650),
    "reopenAfterDays": Key(int, "whole days from 0 to 365", 14, check=lambda d: 0 <= d <= 365),
}
_DMA_KEYS = {
    "id": Key(str, "letters, digits and . _ : + -, at most 64", required=True, check=_ID.fullmatch),  # type: ignore[arg-type]
    "name": Key(str, "text"),
    "slotMinutes": Key(int, ", ".join(map(str, SLOT_MINUTES)), 15, check=lambda m: m in SLOT_MINUTES),
}
_METER_KEYS = {
    "id": Key(str, "letters, digits and . _ : + -, at most 64", required=True, check=_ID.fullmatch),  # type: ignore[arg-type]
    "kind": Key(
        str, "'flow', 'pressure', 'level'", "flow", required=True, check=lambda k: k in ("flow", "pressure", "level")
    ),
    "from": Key(str, "the id of a DMA"),
    "to": Key(str, "the id of a DMA"),
    "dma": Key(str, "the id of a DMA"),
    "tankAreaM2": Key((int, float), "a finite number above 0", check=lambda a: 0 < a <= _LARGEST),
    "latenessMinutes": Key(int, _LATENESS, check=_is_lateness),
}
_VALVE_KEYS = {
    "id": Key(str, "text"),
    "between": Key(list, "the ids of two different DMAs", required=True, check=_is_pair),
}
_NETWORK_KEYS = {
    "dma": Key(list, "[[dma]] tables", [], required=True, check=bool),
    "meter": Key(list, "[[meter]] tables", [], required=True, check=bool),
    "valve": Key(list, "[[valve]] tables", []),
}

DEFAULT_ALERTS_PER_DMA_WEEK: Final = 0.1 * 7 / 30.44
"""0.1 unexplained alerts per DMA-month, what a live platform achieves (TARGETS: false alarms everywhere)."""


def _read_dmas(tables: list[Any], faults: list[str]) -> dict[str, Dma]:
    dmas: dict[str, Dma] = {}
    for number, table in enumerate(tables, 1):
        where = f"network.toml: [[dma]] {table.get('id', number)!r}" if isinstance(table, dict) else "network.toml: dma"
        values = read_table(table, _DMA_KEYS, where, faults)
        if values["id"] in dmas:
            faults.append(f"{where}: key 'id': {values['id']!r} is there twice; possible: one table per DMA")
        elif values["id"] is not None:
            dmas[values["id"]] = Dma(values["id"], values["name"] or values["id"], values["slotMinutes"])
    return dmas


def _meter_faults(table: Any, values: dict[str, Any], dmas: dict[str, Dma], where: str) -> list[str]:
    """What is wrong with the meter's place in the network; what `read_table` has named already is not named again."""
    if not isinstance(table, dict):
        return []
    named = [(key, values[key]) for key in ("from", "to", "dma") if values[key] is not None]
    faults = [f"{where}: key {key!r}: found {dma!r}; {nearest(dma, dmas)}" for key, dma in named if dma not in dmas]
    edge = "from" in table or "to" in table
    if edge == ("dma" in table):
        faults.append(f"{where}: found {'both' if edge else 'none'}; possible: 'from' and/or 'to', or else 'dma'")
    if edge and values["kind"] != "flow":
        faults.append(f"{where}: key 'kind': found {values['kind']!r} with 'from' or 'to'; possible: 'flow'")
    if values["from"] is not None and values["from"] == values["to"]:
        faults.append(f"{where}: key 'to': found the same DMA as 'from'; possible: another DMA")
    if values["kind"] == "level" and "tankAreaM2" not in table:
        faults.append(f"{where}: key 'tankAreaM2' is missing; possible: the tank's water surface in m2")
    if values["kind"] != "level" and values["kind"] == table.get("kind") and "tankAreaM2" in table:
        faults.append(f"{where}: key 'tankAreaM2': found with kind {values['kind']!r}; possible: only with 'level'")
    return faults


def _lateness_minutes(values: dict[str, Any], stream: dict[str, Any]) -> int:
    """The meter's own, else that of its class, else the site's."""
    own: int | None = values["latenessMinutes"]
    if own is None and values["kind"] == "pressure":
        own = stream["pressureLatenessMinutes"]
    if own is None and values["kind"] == "flow" and values["dma"] is not None:
        own = stream["customerLatenessMinutes"]
    return stream["latenessMinutes"] if own is None else own


def _read_meters(
    tables: Iterable[Any], dmas: dict[str, Dma], stream: dict[str, Any], faults: list[str]
) -> tuple[list[Meter], dict[str, int]]:
    """The meters, and the row of each by its id."""
    meters: list[Meter] = []
    rows: dict[str, int] = {}
    # one text for all that name a DMA or a kind, where the file has one each: 120 bytes a meter
    same: dict[Any, Any] = {None: None, **{text: text for text in (*dmas, *get_args(MeterKind))}}
    for number, table in enumerate(tables, 1):
        name = table.get("id", number) if isinstance(table, dict) else number
        where = f"network.toml: [[meter]] {name!r}"
        before = len(faults)
        values = read_table(table, _METER_KEYS, where, faults)
        faults += _meter_faults(table, values, dmas, where)
        if values["id"] in rows:
            faults.append(f"{where}: key 'id': {values['id']!r} is there twice; possible: one table per meter")
        if len(faults) == before:
            rows[values["id"]] = len(meters)
            start, end, dma = (same[values[key]] for key in ("from", "to", "dma"))
            area, lateness = values["tankAreaM2"] or 0.0, _lateness_minutes(values, stream)
            meters.append(Meter(values["id"], same[values["kind"]], start, end, dma, area, lateness))
    return meters, rows


def _read_valves(tables: list[Any], dmas: dict[str, Dma], faults: list[str]) -> list[tuple[str, str]]:
    valves = []
    for number, table in enumerate(tables, 1):
        where = f"network.toml: [[valve]] {number}"
        values = read_table(table, _VALVE_KEYS, where, faults)
        ends = values["between"] or []
        unknown = [end for end in ends if end not in dmas]
        faults += [f"{where}: key 'between': found {end!r}; {nearest(str(end), dmas)}" for end in unknown]
        if len(ends) == 2 and not unknown:
            valves.append((ends[0], ends[1]))
    return valves


def _read_network(
    pieces: Iterator[dict[str, Any]], stream: dict[str, Any], faults: list[str]
) -> tuple[dict[str, Dma], list[Meter], dict[str, int], list[tuple[str, str]]]:
    """DMAs, meters with their rows, and valves; only the first piece holds anything but meters and valves."""
    network = read_table(next(pieces), _NETWORK_KEYS, "network.toml", faults)
    dmas = _read_dmas(network["dma"], faults)
    valves = list(network["valve"])

    def meter_tables() -> Iterator[Any]:
        yield from network.pop("meter")
        for piece in pieces:
            valves.extend(piece.get("valve", ()))
            yield from piece["meter"]

    meters, rows = _read_meters(meter_tables(), dmas, stream, faults)
    return dmas, meters, rows, _read_valves(valves, dmas, faults)


def parse_site(site_toml: str, network_toml: str, planned_csv: str = "") -> Site:
    """The site of the texts of site.toml and network.toml, and of planned.csv where there is one.

    Raises ConfigError naming every fault: the file, the table, the key, what was found and what was possible.
    """
    faults: list[str] = []
    site = read_table(read_toml(site_toml, "site.toml"), _SITE_KEYS, "site.toml", faults)
    night = read_table(site["night"], _NIGHT_KEYS, "site.toml: [night]", faults)
    stream = read_table(site["stream"], _STREAM_KEYS, "site.toml: [stream]", faults)
    alerts = read_table(site["alerts"], _ALERT_KEYS, "site.toml: [alerts]", faults)
    calendar = read_table(site["calendar"], _CALENDAR_KEYS, "site.toml: [calendar]", faults)
    if calendar["subdivision"] is not None and calendar["country"] is None:
        faults.append("site.toml: [calendar]: key 'country' is missing; possible: the country of the subdivision")
    if _clock(night["end"]) - _clock(night["start"]) < 60:
        found = f"{night['start']} to {night['end']}"
        faults.append(f"site.toml: [night]: key 'end': found {found}; possible: at least an hour after 'start'")

    known = len(faults)
    try:
        dmas, meters, meter_row, valves = _read_network(network_pieces(network_toml), stream, faults)
    except (ValueError, RecursionError):
        whole = read_toml(network_toml, "network.toml")
        faults = faults[:known]
        dmas, meters, meter_row, valves = _read_network(iter([whole]), stream, faults)
    if not faults:
        metered = {end for m in meters if m.is_network_flow for end in (m.from_dma, m.to_dma)}
        faults += [
            f"network.toml: [[dma]] {d!r}: found no flow meter; possible: a [[meter]] with 'to' or 'from' = {d!r}"
            for d in dmas
            if d not in metered
        ]
    planned: tuple[PlannedWork, ...] = ()
    if planned_csv and not faults:
        planned = read_planned(planned_csv, site["timezone"], dmas)
    if faults:
        raise ConfigError(faults)
    return Site(
        name=site["name"],
        timezone=site["timezone"],
        dmas=tuple(dmas.values()),
        meters=tuple(meters),
        valves=tuple(valves),
        night_start_min=_clock(night["start"]),
        night_end_min=_clock(night["end"]),
        alerts_per_week=float(alerts["budgetPerWeek"] or DEFAULT_ALERTS_PER_DMA_WEEK * len(dmas)),
        cost_per_m3=alerts["costPerM3"],
        accept_after_days=alerts["acceptAfterDays"],
        reopen_after_days=alerts["reopenAfterDays"],
        dma_row={dma: row for row, dma in enumerate(dmas)},
        meter_row=meter_row,
        planned=planned,
        country=calendar["country"],
        subdivision=calendar["subdivision"],
    )
