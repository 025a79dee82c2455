"""What crosses the wire, and the arrays it becomes.

`Reading` and `Alert` are the public contract; the JSON Schemas under docs/schemas are generated from them.

Evolution within v1: only optional fields are added. Nothing is renamed, retyped or given another unit. Readers ignore
unknown fields and unknown values of the open enumerations. Anything else is a new topic. A test compares the generated
schemas with the committed ones and fails on an incompatible difference.

Inside the engine every flow is m3/h, every volume and register m3, every level m and every pressure kPa; `UNITS` is the
only place where another unit is known.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION: Final = "1.0"

Kind = Literal["flow", "volume", "register", "pressure", "level", "battery"]
Quality = Literal["good", "uncertain", "bad"]
AlertType = Literal[
    "night_flow_leak",
    "burst",
    "pressure_drop",
    "pressure_transient",
    "zero_flow",
    "reverse_flow",
    "meter_fault",
    "data_gap",
    "boundary_valve",
    "customer_leak",
]
LEAK_TYPES: Final = ("burst", "night_flow_leak")
"""Of these alerts: water is being lost."""
Severity = Literal["informational", "low", "medium", "high", "critical"]
AlertEvent = Literal["raised", "updated", "cleared", "acked", "shelved", "closed"]
AlertState = Literal["active", "active_acked", "shelved", "cleared", "closed"]
Outcome = Literal[
    "confirmed_leak", "confirmed_burst", "planned_work", "legitimate_use", "meter_fault", "false_alarm", "unknown"
]

KINDS: Final[tuple[str, ...]] = ("flow", "volume", "register", "pressure", "level", "battery")
FLOW, VOLUME, REGISTER, PRESSURE, LEVEL, BATTERY = range(len(KINDS))
QUALITIES: Final[tuple[str, ...]] = ("good", "uncertain", "bad")
GOOD, UNCERTAIN, BAD = range(len(QUALITIES))

_FLOW_UNITS = {"m3/h": 1.0, "L/s": 3.6, "L/h": 1e-3, "L/min": 0.06, "m3/d": 1.0 / 24.0}
_VOLUME_UNITS = {"m3": 1.0, "L": 1e-3}
UNITS: Final[dict[str, dict[str, float]]] = {
    "flow": _FLOW_UNITS,
    "volume": _VOLUME_UNITS,
    "register": _VOLUME_UNITS,
    # 1 m of water at 4 degC under standard gravity is 9.80665 kPa
    "pressure": {"kPa": 1.0, "MPa": 1e3, "bar": 100.0, "m[H2O]": 9.80665},
    "level": {"m": 1.0},
    "battery": {"V": 1.0, "%": 1.0},
}
"""UCUM unit -> factor to the engine's unit, by kind."""
ENGINE_UNIT: Final = {kind: next(unit for unit, factor in units.items() if factor == 1.0) for kind, units in UNITS.items()}

LIMITS: Final[dict[str, tuple[float, float]]] = {
    "flow": (-1e6, 1e6),  # the Amazon carries 7.5e8 m3/h, the largest water mains some 1e5
    # a net register of a boundary meter runs backwards below zero, and only differences are used
    "register": (-1e12, 1e12),
    "pressure": (-200.0, 1e5),  # relative pressure ends at -101 kPa; transients in mains at some 1e4
    "level": (-1e3, 1e4),  # of the water above a gauge's zero, or above sea level
    "battery": (-1.0, 1e3),
}
"""Least and greatest value of a kind in the engine's unit; a volume is held against them as the flow it becomes.

Far beyond anything real: they catch broken transmitters and wrong units before 1e39 m3/h is in a sum, and judge nothing."""
LOWEST: Final = np.array([LIMITS[kind if kind in LIMITS else "flow"][0] for kind in KINDS])
HIGHEST: Final = np.array([LIMITS[kind if kind in LIMITS else "flow"][1] for kind in KINDS])
"""The same by index into KINDS."""

READING = np.dtype(
    [
        ("time_ms", "<i8"),  # end of the interval, Unix epoch, UTC
        ("value", "<f8"),  # m3/h (flow, and volume already divided by its interval), m3 (register), kPa, m
        ("meter", "<i4"),  # row of the site's meter table
        ("kind", "u1"),  # index into KINDS; a volume has become a flow
        ("quality", "u1"),  # index into QUALITIES
    ]
)
"""One reading inside the engine. An array of these, in order of arrival, is what `Engine.step` takes."""

Readings = NDArray[np.void]
Records = NDArray[Any]
"""A structured array of the core; numba knows its fields, numpy's type stubs do not."""
Record = Any
"""One row of `Records`."""

NEVER: Final = np.iinfo(np.int64).min // 4
"""A time that has not come, in every int64 field of milliseconds or days."""


class Reading(msgspec.Struct, rename="camel", frozen=True, kw_only=True, omit_defaults=True):
    """One reading as it is published to `readings.raw.v1`, single form."""

    meter_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    kind: Kind
    value: float
    unit: str
    observed_at: Annotated[datetime, msgspec.Meta(tz=True)] | int
    """End of the interval: RFC 3339 with an offset, or epoch milliseconds."""
    interval_seconds: Annotated[int, msgspec.Meta(gt=0, le=31 * 86400)] | None = None
    quality: Quality = "good"
    seq: int | None = None


class ColumnarReadings(msgspec.Struct, rename="camel", frozen=True, kw_only=True, omit_defaults=True):
    """Many readings of one meter, typically a day of them."""

    meter_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    kind: Kind
    unit: str
    observed_at: list[Annotated[datetime, msgspec.Meta(tz=True)] | int]
    value: list[float | None]
    """Same length as observedAt; null is a gap."""
    interval_seconds: Annotated[int, msgspec.Meta(gt=0, le=31 * 86400)] | None = None
    quality: Quality | list[Quality] = "good"


class Scope(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What an alert is about."""

    type: Literal["dma", "meter", "logger"]
    id: str


class Evidence(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """The numbers an alert rests on, and what speaks for and against it."""

    metric: str
    unit: str
    observed: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    coverage: float | None
    for_: list[str] = msgspec.field(name="for")
    against: list[str]
    meters: list[str]
    scores: dict[str, float] | None = None
    """Highest of each detector that has a word here, from 0 to 1; at 0.5 it speaks by itself. Null for meters' events."""


class Estimate(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """How much water: excess flow now, per day at that rate, and since the start.

    `lower` and `upper` are the ends of a 90 % interval; null where nothing is known of the error, as for a leak that
    pressures alone have shown.
    """

    excess_flow: float
    unit: str
    loss_per_day: float
    lost_so_far: float
    cost: float | None = None
    excess_flow_lower: float | None = None
    excess_flow_upper: float | None = None
    loss_per_day_lower: float | None = None
    loss_per_day_upper: float | None = None


class Title(msgspec.Struct, frozen=True, kw_only=True):
    """One plain sentence in each language."""

    en: str
    zh: str


class Sentence(msgspec.Struct, frozen=True, kw_only=True):
    """The same in each language, with the same numbers; of one or a few short sentences."""

    en: str
    zh: str


class Explanation(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """An alert for who has to act on it. Null and empty parts have nothing to say; `phrases.PARTS` has their names."""

    observed: Sentence
    expected: Sentence | None
    since: Sentence
    """With the time it was noticed, and how long it has lasted."""
    water: Sentence | None
    """Rate, volume a day, volume so far."""
    ended: Sentence | None
    """How it ended, of cleared and closed alerts."""
    why: list[Sentence]
    """What speaks for it; in English the same as `evidence.for`."""
    against: list[Sentence]
    """What speaks against it; in English the same as `evidence.against`."""
    why_not: list[Sentence]
    """Of the types that look alike, what rules each out, or that nothing does."""
    meters: Sentence
    """Which meters it rests on."""
    check_first: list[Sentence]
    """In this order."""


class ModelRef(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that scored; null fields where none was loaded."""

    id: str | None
    version: str | None
    sha256: str | None


class Alert(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One revision of one alert, as published to `alerts.v1`.

    Readers upsert by `alert_id` and keep the highest `revision`. All times are event time, epoch milliseconds.
    """

    schema_version: str
    alert_id: str
    revision: int
    event: AlertEvent
    type: AlertType
    severity: Severity
    state: AlertState
    scope: Scope
    started_at: int
    detected_at: int
    updated_at: int
    ended_at: int | None
    evidence: Evidence
    estimate: Estimate | None
    confidence: float
    title: Title
    reasons: list[str]
    model: ModelRef
    origin: Literal["live", "replay"]
    outcome: Outcome | None = None
    explanation: Explanation | None = None
    """In this version of every alert; null in those of earlier ones."""


def value_fault(kind: int, value: float, unit: str, engine_value: float) -> str:
    """Why a value, as it was sent and in the engine's unit, is none; `kind` is the index of what the engine has of it."""
    name = KINDS[kind]
    engine_unit = unit if kind == BATTERY else ENGINE_UNIT[name]
    same = engine_value == value or not np.isfinite(engine_value)
    became = "" if same else f" is {engine_value:.6g} {engine_unit}, which"
    possible = f"{LOWEST[kind]:g} to {HIGHEST[kind]:g} {engine_unit}"
    return f"value {value:.6g} {unit}{became} is beyond what a {name} can be; possible: {possible}"


def to_engine_value(kind: str, unit: str, value: float, interval_seconds: int | None) -> tuple[int, float]:
    """Kind index and value in the engine's unit.

    A volume (m3 in an interval) becomes a mean flow (m3/h).

    Raises ValueError, saying what was found and what was possible, for a unit that is not of the kind, a value that is
    not finite, or a volume without its interval.
    """
    units = UNITS.get(kind)
    if units is None:
        raise ValueError(f"kind {kind!r} is unknown; possible: {', '.join(KINDS)}")
    factor = units.get(unit)
    if factor is None:
        raise ValueError(f"unit {unit!r} is unknown for kind {kind!r}; possible: {', '.join(units)}")
    if not np.isfinite(value):
        raise ValueError(f"value {value} is not finite")
    if kind == "volume":
        if interval_seconds is None:
            raise ValueError("kind 'volume' needs intervalSeconds")
        return FLOW, value * factor * 3600.0 / interval_seconds
    return KINDS.index(kind), value * factor
