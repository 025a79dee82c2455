"""The town: EPANET's Net3 (from `wntr.library`), rebuilt as four district metered areas on one trunk main.

What was changed, and why:

- The three tanks and both pumps are removed. River and Lake feed by gravity; their heads follow the waterworks' day, so
  no storage hides inside a DMA and every hour of demand passes an inlet meter.
- The 762 and 610 mm pipes from River are the trunk main; nobody draws from it.
- Net3 moves ten times the water of a town this size: inside the DMAs pipes are narrower (`Area.diameters`),
  demands are scaled to `Area.mean_m3h` with Net3's own demands as weights, so velocities and head losses are those of a
  real district.
- Pipes that would feed a DMA past its meters are closed for good (`CUT`).

    River ── trunk ──┬── FM-N1 ──┐
                     ├── FM-N2 ──┴ NORTH
                     └── FM-M1 ─── MIDTOWN ── FM-MH ── HARBOUR
                                      ╳ V-1, a closed boundary valve
    Lake ──────────────── FM-L1 ─── LAKE
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import wntr

TIMEZONE: Final = "Europe/Athens"
SLOT_S: Final = 900
LATENESS_MIN: Final = 120

SOURCES: Final = {"River": 58.0, "Lake": 50.0}
"""Reservoir -> mean head (m)."""

CUT: Final = ("120", "122", "169", "191", "221", "231", "235", "309", "311")
"""Pipes closed for good: other ways from the trunk into a DMA, and a second link between LAKE and MIDTOWN."""

VALVE_PIPE: Final = "213"
"""The boundary valve V-1 between MIDTOWN and LAKE stands on this pipe, an 80 mm main."""
VALVE_PIPE_M: Final = 0.08

EMITTER_EXPONENT: Final = 1.0
"""FAVAD N1 of every leak, background and planted: mixed pipe materials."""
REFERENCE_HEAD_M: Final = 45.0
"""Pressure at which leak sizes are stated."""


@dataclass(frozen=True)
class Area:
    """A DMA of the town: which junctions, which meters, how much water."""

    id: str
    name: str
    mean_m3h: float  # mean inflow without planted events, background leakage included
    diameters: float  # against Net3's
    background: float  # share of the mean inflow that leaks all the time
    junctions: tuple[str, ...]
    loggers: tuple[str, ...]  # junctions with a pressure logger
    night_users: tuple[tuple[str, float, float, float, tuple[int, ...]], ...]
    """(junction, m3/h, from local hour, to local hour, weekdays with Monday 0)"""


_DAILY = tuple(range(7))
AREAS: Final = (
    Area(
        id="NORTH",
        name="North Gate",
        mean_m3h=55.0,
        diameters=0.5,
        background=0.11,
        junctions=("127", "129", "131", "139", "141", "143", "145", "147", "149", "15", "151", "153"),
        loggers=("131", "143", "147"),
        night_users=(("153", 1.1, 2.5, 6.5, (0, 1, 2, 3, 4, 5)),),  # a bakery
    ),
    Area(
        id="LAKE",
        name="Lakeside",
        mean_m3h=85.0,
        diameters=0.65,
        background=0.13,
        junctions=(
            *("101", "103", "105", "107", "109", "111", "113", "115", "117", "120"),
            *("191", "193", "195", "197", "257", "259", "261", "263"),
        ),
        loggers=("109", "117", "191"),
        night_users=(("107", 1.6, 4.0, 5.5, (0, 2, 4)),),  # a park is watered
    ),
    Area(
        id="MIDTOWN",
        name="Midtown",
        mean_m3h=70.0,
        diameters=0.65,
        background=0.12,
        junctions=(
            *("267", "269", "271", "189", "187", "204", "184", "185", "183", "177", "179", "181", "35"),
            *("205", "207", "206", "208", "273", "275", "201", "203"),
        ),
        loggers=("187", "177", "207"),
        night_users=(("185", 1.8, 0.0, 24.0, _DAILY),),  # a hospital
    ),
    Area(
        id="HARBOUR",
        name="Harbour",
        mean_m3h=48.0,
        diameters=0.65,
        background=0.10,
        junctions=(
            *("209", "211", "213", "215", "217", "219", "225", "229", "231", "237", "239", "241", "243"),
            *("247", "249", "251", "253", "255"),
        ),
        loggers=("217", "231", "251"),
        night_users=(("247", 1.3, 3.5, 7.0, (0, 1, 2, 3, 4, 5)),),  # the fish market
    ),
)
AREA: Final = {area.id: area for area in AREAS}


@dataclass(frozen=True)
class FlowMeter:
    """A meter on a pipe. `sign` is -1 where EPANET draws the pipe against the meter's direction."""

    id: str
    pipe: str
    from_dma: str | None
    to_dma: str | None
    sign: int = 1


FLOW_METERS: Final = (
    FlowMeter("FM-N1", "131", None, "NORTH"),
    FlowMeter("FM-N2", "171", None, "NORTH"),
    FlowMeter("FM-L1", "101", None, "LAKE"),
    FlowMeter("FM-M1", "211", None, "MIDTOWN"),
    FlowMeter("FM-MH", "241", "MIDTOWN", "HARBOUR"),
)
PRESSURE_LOGGERS: Final = tuple((f"PL-{node}", node, area.id) for area in AREAS for node in area.loggers)
"""(meter id, junction, DMA)"""
METER_IDS: Final = (*(m.id for m in FLOW_METERS), *(logger for logger, _, _ in PRESSURE_LOGGERS))
"""In the order of network.toml, so an index here is a row of the site's meter table."""


def build_network() -> wntr.network.WaterNetworkModel:
    """Net3 as the module's docstring describes it; base demands are the weights within a DMA.

    Demands, heads and leaks are set step by step while it runs.
    """
    import wntr  # noqa: PLC0415 - an optional dependency, and two seconds to import

    network = wntr.network.WaterNetworkModel("Net3")
    for control in list(network.control_name_list):
        network.remove_control(control)
    for link in ("10", "335", "20", "40", "50", "133", "201", "289"):  # both pumps, and the pipes to the tanks
        network.remove_link(link)
    for node in ("1", "2", "3", "20", "40", "50"):
        network.remove_node(node)
    network.add_pipe("10", "Lake", "10", length=30.0, diameter=0.457, roughness=110)
    for pipe in CUT:
        network.get_link(pipe).initial_status = "Closed"
    network.get_link("330").initial_status = "Open"  # the by-pass of the removed river pump

    inside = {node: area for area in AREAS for node in area.junctions}
    for _, pipe in network.pipes():
        area = inside.get(pipe.end_node_name) or inside.get(pipe.start_node_name)
        pipe.diameter *= area.diameters if area else 1.0
    valve = network.get_link(VALVE_PIPE)
    valve.diameter, valve.initial_status = VALVE_PIPE_M, "Closed"

    for name, junction in network.junctions():
        weight = junction.base_demand if name in inside else 0.0
        junction.demand_timeseries_list.clear()
        junction.add_demand(weight, None)
    for name, reservoir in network.reservoirs():
        reservoir.base_head, reservoir.head_pattern_name = SOURCES[name], None
    for _, pattern in network.patterns():  # EPANET applies the one named "1" to every demand that names none
        pattern.multipliers = [1.0]
    options = network.options
    options.hydraulic.pattern = None
    options.hydraulic.inpfile_units = "CMH"
    options.hydraulic.demand_model = "PDA"
    options.hydraulic.required_pressure = 15.0
    options.hydraulic.minimum_pressure = 0.0
    options.hydraulic.emitter_exponent = EMITTER_EXPONENT
    options.time.hydraulic_timestep = options.time.pattern_timestep = options.time.report_timestep = SLOT_S
    return network


def site_toml() -> str:
    """site.toml of the town."""
    return (
        f'name = "demo-town"\ntimezone = "{TIMEZONE}"\n\n'
        f"[stream]\nlatenessMinutes = {LATENESS_MIN}\n\n"
        "[alerts]\ncostPerM3 = 1.2\n"
    )


def network_toml() -> str:
    """network.toml of the town, meters in the order of `METER_IDS`."""
    lines = []
    for area in AREAS:
        lines += ["[[dma]]", f'id = "{area.id}"', f'name = "{area.name}"', f"slotMinutes = {SLOT_S // 60}", ""]
    for meter in FLOW_METERS:
        lines += ["[[meter]]", f'id = "{meter.id}"', 'kind = "flow"']
        lines += [f'from = "{meter.from_dma}"'] if meter.from_dma else []
        lines += [f'to = "{meter.to_dma}"'] if meter.to_dma else []
        lines.append("")
    for logger, _, dma in PRESSURE_LOGGERS:
        lines += ["[[meter]]", f'id = "{logger}"', 'kind = "pressure"', f'dma = "{dma}"', ""]
    lines += ["[[valve]]", 'id = "V-1"', 'between = ["MIDTOWN", "LAKE"]', ""]
    return "\n".join(lines)
