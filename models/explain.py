"""A transition of an event, said in words: the Alert with its reasons, in English and Chinese from the same facts."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np

from models import explain_balance, explain_meters, explain_pressure
from models.balance import MIN_CUSTOMERS
from models.detectors import BALANCE, BURST, DETECTORS, FLOW_SHIFT, ISOLATION, NIGHT_FLOW, PRESSURE_STEP, PRESSURE_TREND
from models.events import (
    BOUNDARY_VALVE,
    CHANGES,
    CLEARED,
    CLOSED,
    CORROBORATED,
    CUSTOMER_LEAK,
    EVENT_TYPES,
    NIGHT_FLOW_LEAK,
    OF_METERS,
    THRESHOLD,
)  # fmt: skip
from models.pairs import MIN_LOGGERS
from models.planned import during
from models.schema import (
    NEVER,
    SCHEMA_VERSION,
    Alert,
    AlertState,
    AlertType,
    Estimate,
    Evidence,
    ModelRef,
    Scope,
    Severity,
    Title,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bundle import Bundle
    from models.network import Meter, Site

NAMESPACE: Final = uuid.UUID("6e1d7a52-3f5c-5d0e-9b1a-4c2f7a9e8d10")
PRESSURE_SPEAKS_Z: Final = 1.0  # mean residual of the loggers that counts as a word for or against
PLANNED_DOUBT: Final = 0.3  # off the confidence of what happens during planned work
LEAST_CONFIDENCE: Final = 0.05
SEVERITIES: Final = ((0.30, "critical"), (0.15, "high"), (0.05, "medium"))  # excess as a share of the mean inflow
BAND: Final = {"night_flow_leak": "mnf", "burst": "net_inflow", "boundary_valve": "net_inflow"}


def alert_id(site: str, kind: str, scope: str, started_ms: int) -> str:
    """uuid5 of site, type, scope and the event-time start that was frozen when the event was raised."""
    return str(uuid.uuid5(NAMESPACE, f"{site}|{kind}|{scope}|{started_ms}"))


def alert(
    site: Site,
    dma: str,
    meters: Sequence[Meter],
    transition: Any,
    bundle: Bundle | None,
    origin: Literal["live", "replay"],
) -> Alert:
    """The alert revision of one transition (an EVENT record) of one DMA; `meters` are the engine's channels."""
    kind, change = int(transition["type"]), int(transition["change"])
    name = EVENT_TYPES[kind]
    scope = Scope(type="dma", id=dma)
    of_meter = kind in OF_METERS
    if of_meter and transition["channel"] >= 0:
        meter = meters[int(transition["channel"])]
        scope = Scope(type="logger" if meter.kind == "pressure" else "meter", id=meter.id)
    neighbour = site.neighbours(dma)[int(transition["neighbour"]) - 1] if kind == BOUNDARY_VALVE else None
    facts = explain_meters.facts(transition, scope, dma) if of_meter else None
    silent = {ISOLATION} if bundle is None else set()
    if sum(m.kind == "pressure" and m.dma == dma for m in meters) < MIN_LOGGERS:
        silent |= {PRESSURE_STEP, PRESSURE_TREND}
    if sum(m.is_customer for m in meters) < MIN_CUSTOMERS:
        silent |= {BALANCE}
    speaks_for, against = (facts.speaks_for, facts.against) if facts else _words(transition, neighbour, silent)
    title = facts.title if facts else _title(dma, transition, neighbour)
    reasons = facts.reasons if facts else _reasons(transition)
    confidence = facts.confidence if facts else _confidence(transition)
    fall = None if facts else explain_pressure.fall(transition, site, dma, meters)
    if fall:
        speaks_for += fall.speaks_for
    by_pressure = fall if fall and fall.is_alone else None
    if by_pressure:
        title = by_pressure.title
        against.append("the inflow alone does not show it yet")
    balance = explain_balance.NOTHING if facts else explain_balance.metered(transition, dma)
    speaks_for += balance.speaks_for
    against += balance.against
    title = balance.title or title
    reasons += ["customers_use_it"] * balance.is_demand
    work = during(site.planned, dma, int(transition["started_ms"]), int(transition["detected_ms"]))
    if work is not None:
        against.append(f"planned work: {work.what}")
        title = Title(en=f"{title.en}, during planned work: {work.what}", zh=f"{title.zh}（计划作业：{work.what_zh}）")
        reasons.append("planned_work")
        confidence = round(max(confidence - PLANNED_DOUBT, LEAST_CONFIDENCE), 3)
    return Alert(
        schema_version=SCHEMA_VERSION,
        alert_id=alert_id(site.name, name, f"{scope.type}:{scope.id}", int(transition["started_ms"])),
        revision=int(transition["revision"]),
        event=CHANGES[change],
        type=cast("AlertType", name),
        severity=facts.severity if facts else _severity(transition),
        state=cast("AlertState", CHANGES[change] if change in (CLEARED, CLOSED) else "active"),
        scope=scope,
        started_at=int(transition["started_ms"]),
        detected_at=int(transition["detected_ms"]),
        updated_at=int(transition["updated_ms"]),
        ended_at=None if transition["ended_ms"] == NEVER else int(transition["ended_ms"]),
        evidence=Evidence(
            metric=facts.metric
            if facts
            else "pressure_residual"
            if by_pressure
            else "unmetered"
            if balance.is_alone
            else BAND[name],
            unit=facts.unit if facts else "m[H2O]" if by_pressure else "m3/h",
            observed=_number(-by_pressure.fall_m) if by_pressure else _number(transition["observed"]),
            expected=0.0 if by_pressure else _number(transition["expected"]),
            lower=None if by_pressure else _number(transition["lower"]),
            upper=None if by_pressure else _number(transition["upper"]),
            coverage=_number(transition["coverage"]),
            for_=speaks_for,
            against=against,
            meters=[*_rests_on(dma, meters, scope), *(fall.loggers if fall else [])],
        ),
        estimate=None if of_meter and kind != CUSTOMER_LEAK else _estimate(site, transition),
        confidence=confidence,
        title=title,
        reasons=reasons,
        model=ModelRef(
            id=bundle.id if bundle else None,
            version=bundle.version if bundle else None,
            sha256=bundle.sha256 if bundle else None,
        ),
        origin=origin,
    )


def _number(value: Any, digits: int = 3) -> float | None:
    return None if np.isnan(value) else round(float(value), digits)


def _rests_on(dma: str, meters: Sequence[Meter], scope: Scope) -> list[str]:
    """Ids of the meters whose readings make the metric."""
    if scope.type != "dma":
        return [scope.id]
    return [
        m.id for m in meters if (m.is_network_flow and dma in (m.from_dma, m.to_dma)) or (m.kind == "level" and m.dma == dma)
    ]


def _estimate(site: Site, transition: Any) -> Estimate:
    """Daily loss: a night rate times the night-day factor; a burst's rate is a mean over the day already."""
    excess = max(float(transition["excess_m3h"]), 0.0)
    hours = float(transition["ndf_h"]) if transition["type"] == NIGHT_FLOW_LEAK else 24.0
    lost = float(transition["lost_m3"])
    return Estimate(
        excess_flow=round(excess, 3),
        unit="m3/h",
        loss_per_day=round(excess * hours, 1),
        lost_so_far=round(lost, 1),
        cost=None if site.cost_per_m3 is None else round(lost * site.cost_per_m3, 2),
    )


def _severity(transition: Any) -> Severity:
    share = float(transition["excess_m3h"]) / max(float(transition["mean_m3h"]), 1e-9)
    for least, severity in SEVERITIES:
        if share >= least:
            return cast("Severity", severity)
    return "low"


def _pressure_word(transition: Any) -> int:
    """-1: pressure fell, as in a burst; +1: it rose; 0: it says nothing."""
    z = float(transition["pressure_z"])
    return 0 if np.isnan(z) or abs(z) < PRESSURE_SPEAKS_Z else int(np.sign(z))


def _confidence(transition: Any) -> float:
    """The strongest score, moved a tenth by each further voice; never certain."""
    scores = transition["scores"]
    others = int((scores >= CORROBORATED).sum()) - 1
    value = float(transition["score"]) + 0.1 * max(others, 0) - 0.1 * _pressure_word(transition)
    return round(min(max(value, LEAST_CONFIDENCE), 0.99), 3)


def _reasons(transition: Any) -> list[str]:
    """Machine-readable reasons, most important first."""
    change, kind, scores = transition["change"], transition["type"], transition["scores"]
    reasons = []
    if change == CLOSED:
        reasons.append("accepted_as_normal")
    elif change == CLEARED:
        reasons.append("excess_gone")
    if scores[NIGHT_FLOW] >= THRESHOLD:
        reasons.append("mnf_above_band")
    if max(scores[BURST], scores[FLOW_SHIFT]) >= CORROBORATED:
        reasons.append("inflow_above_band")
    if scores[BALANCE] >= CORROBORATED:
        reasons.append("unmetered_above_band")
    if transition["logger"] >= 0:
        reasons.append("pressure_below_neighbours")
    if scores[ISOLATION] >= THRESHOLD:
        reasons.append("isolation_forest")
    if kind == BOUNDARY_VALVE:
        reasons.append("neighbour_lost_flow")
    if transition["amended_m3"] > 0.0:
        reasons.append("late_readings")
    word = _pressure_word(transition)
    if word:
        reasons.append("pressure_fell" if word < 0 else "pressure_rose")
    return reasons


def _words(transition: Any, neighbour: str | None, silent: set[int]) -> tuple[list[str], list[str]]:
    """Plain sentences for and against, each with its number, but of the detectors that are `silent` in this DMA."""
    speaks_for: list[str] = []
    against: list[str] = []
    scores = transition["scores"]
    for number, detector in enumerate(DETECTORS):
        if number in silent:
            continue
        text = f"{detector.name} score {scores[number]:.2f} (threshold 0.50)"
        (speaks_for if scores[number] >= CORROBORATED else against).append(text)
    if neighbour is not None:
        speaks_for.append(f"{neighbour} lost what this DMA gained")
    if transition["amended_m3"] > 0.0:
        speaks_for.append(f"late readings show {float(transition['amended_m3']):.1f} m³ more lost")
    word = _pressure_word(transition)
    if word:
        text = f"pressure {'fell' if word < 0 else 'rose'} by {abs(float(transition['pressure_z'])):.1f} of its usual spread"
        (speaks_for if word < 0 else against).append(text)
    return speaks_for, against


def _title(dma: str, transition: Any, neighbour: str | None) -> Title:
    """One sentence in English and in Chinese."""
    kind, change = int(transition["type"]), int(transition["change"])
    excess = f"{float(transition['excess_m3h']):.1f} m³/h"
    if kind == NIGHT_FLOW_LEAK:
        en, zh = (
            f"Night flow in {dma} is {excess} above normal: likely leak",
            f"{dma} 夜间流量高于正常 {excess}：疑似漏损",
        )
    elif kind == BOUNDARY_VALVE:
        en = f"{dma} takes {excess} that {neighbour} no longer gets: likely an open boundary valve"
        zh = f"{dma} 多进 {excess}，{neighbour} 相应减少：疑似边界阀门打开"
    else:
        en, zh = f"Burst likely in {dma}: inflow {excess} above expected", f"{dma} 疑似爆管：流量高于预期 {excess}"
    if change == CLEARED:
        return Title(en=f"{dma} is back to normal after {excess} too much", zh=f"{dma} 恢复正常（此前多 {excess}）")
    if change == CLOSED:
        return Title(en=f"{excess} extra in {dma} is taken as the new normal", zh=f"{dma} 多出的 {excess} 已视为新的常态")
    return Title(en=en, zh=zh)
