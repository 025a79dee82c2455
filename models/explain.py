"""A transition of an event, said in words: the Alert with its reasons, in English and Chinese from the same facts."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from models import explain_balance, explain_leaks, explain_meters, explain_pressure, explain_why
from models.alert_parts import Said, estimate, rounded
from models.balance import MIN_CUSTOMERS
from models.detectors import BALANCE, BURST, DETECTORS, FLOW_SHIFT, ISOLATION, NIGHT_FLOW, PRESSURE_STEP, PRESSURE_TREND
from models.events import (
    BOUNDARY_VALVE,
    CHANGES,
    CLEARED,
    CLOSED,
    CORROBORATED,
    EVENT_TYPES,
    NIGHT_FLOW_LEAK,
    OF_BALANCE,
    OF_METERS,
    OF_NIGHT,
    OF_SLOT,
    STUCK,
    THRESHOLD,
    is_reopened,
)  # fmt: skip
from models.explain_checks import check_first
from models.leak_facts import LeakFacts, pressure_word
from models.pairs import MIN_LOGGERS
from models.phrases import both, english, flow
from models.planned import during
from models.schema import (
    NEVER,
    SCHEMA_VERSION,
    Alert,
    AlertState,
    AlertType,
    Evidence,
    Explanation,
    ModelRef,
    Scope,
    Sentence,
    Severity,
    Title,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bundle import Bundle
    from models.network import Meter, Site
    from models.planned import PlannedWork

NAMESPACE: Final = uuid.UUID("6e1d7a52-3f5c-5d0e-9b1a-4c2f7a9e8d10")
PLANNED_DOUBT: Final = 0.3  # off the confidence of what happens during planned work
LEAST_CONFIDENCE: Final = 0.05
METRICS: Final = {OF_SLOT: "net_inflow", OF_NIGHT: "mnf", OF_BALANCE: "unmetered"}
SEVERITIES: Final = ((0.30, "critical"), (0.15, "high"), (0.05, "medium"))  # excess as a share of the mean inflow


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
    work = during(site.planned, dma, int(transition["started_ms"]), int(transition["detected_ms"]))
    if of_meter:
        said = explain_meters.said(transition, site, dma, meters, scope, work)
    else:
        said = _of_leak(transition, site, dma, meters, bundle, work)
    title, confidence, reasons = said.title, said.confidence, said.reasons
    if work is not None:
        what = Sentence(en=work.what, zh=work.what_zh)
        title = both("{title}, during planned work: {what}", "{title}（计划作业：{what}）", title=title, what=what)
        confidence = round(max(confidence - PLANNED_DOUBT, LEAST_CONFIDENCE), 3)
        reasons = [*reasons, "planned_work"]
    return Alert(
        schema_version=SCHEMA_VERSION,
        alert_id=alert_id(site.name, name, f"{scope.type}:{scope.id}", int(transition["started_ms"])),
        revision=int(transition["revision"]),
        event=CHANGES[change],
        type=cast("AlertType", name),
        severity=said.severity,
        state=cast("AlertState", CHANGES[change] if change in (CLEARED, CLOSED) else "active"),
        scope=scope,
        started_at=int(transition["started_ms"]),
        detected_at=int(transition["detected_ms"]),
        updated_at=int(transition["updated_ms"]),
        ended_at=None if transition["ended_ms"] == NEVER else int(transition["ended_ms"]),
        evidence=said.evidence,
        estimate=said.estimate,
        confidence=confidence,
        title=Title(en=title.en, zh=title.zh),
        reasons=reasons,
        model=ModelRef(
            id=bundle.id if bundle else None,
            version=bundle.version if bundle else None,
            sha256=bundle.sha256 if bundle else None,
        ),
        origin=origin,
        explanation=said.explanation,
    )


def _of_leak(
    transition: Any, site: Site, dma: str, meters: Sequence[Meter], bundle: Bundle | None, work: PlannedWork | None
) -> Said:
    """All that is said of a transition of a burst, a night-flow leak or a boundary valve."""
    kind = int(transition["type"])
    own = tuple(m for m in meters if not m.is_customer and dma in (m.dma, m.from_dma, m.to_dma))
    silent = {ISOLATION} if bundle is None else set()
    if sum(m.kind == "pressure" for m in own) < MIN_LOGGERS:
        silent |= {PRESSURE_STEP, PRESSURE_TREND}
    if sum(m.is_customer for m in meters) < MIN_CUSTOMERS:
        silent |= {BALANCE}
    fall = explain_pressure.fall(transition, site, dma, meters)
    is_withdrawn = transition["cause"] == STUCK and transition["change"] == CLEARED
    facts = LeakFacts(
        transition=transition,
        site=site,
        dma=dma,
        own=own,
        neighbour=site.neighbours(dma)[int(transition["neighbour"]) - 1] if kind == BOUNDARY_VALVE else None,
        fall=fall,
        work=work,
        estimate=estimate(site, transition, is_of_pressures=fall is not None and fall.is_alone),
        metered=explain_balance.metered(transition, dma),
        stuck=meters[int(transition["channel"])].id if is_withdrawn else None,
        silent=frozenset(silent),
    )
    by_pressure = fall if fall and fall.is_alone else None
    why, against = explain_why.speaks_for(facts), explain_why.speaks_against(facts)
    return Said(
        title=by_pressure.title if by_pressure else _title(facts),
        reasons=_reasons(facts),
        severity=_severity(transition),
        confidence=_confidence(transition),
        evidence=Evidence(
            metric="pressure_residual" if by_pressure else _metric(transition),
            unit="m[H2O]" if by_pressure else "m3/h",
            observed=rounded(-by_pressure.fall_m if by_pressure else transition["observed"]),
            expected=0.0 if by_pressure else rounded(transition["expected"]),
            lower=None if by_pressure else rounded(transition["lower"]),
            upper=None if by_pressure else rounded(transition["upper"]),
            coverage=rounded(transition["coverage"]),
            for_=english(why),
            against=english(against),
            meters=[*(m.id for m in own if m.kind != "pressure"), *(fall.loggers if fall else [])],
            scores={
                detector.name: round(float(transition["scores"][number]), 3)
                for number, detector in enumerate(DETECTORS)
                if number not in silent
            },
        ),
        estimate=facts.estimate,
        explanation=Explanation(
            observed=explain_leaks.observed(facts),
            expected=explain_leaks.expected(facts),
            since=explain_leaks.since(facts),
            water=explain_leaks.water(facts),
            ended=explain_leaks.ended(facts),
            why=why,
            against=against,
            why_not=explain_why.why_not(facts),
            meters=explain_leaks.meters(facts),
            check_first=check_first(facts),
        ),
    )


def _metric(transition: Any) -> str:
    """What `observed` is of; events of before that was noted have their type's."""
    if transition["noted_ms"] == NEVER:
        return "mnf" if transition["type"] == NIGHT_FLOW_LEAK else "net_inflow"
    return METRICS[int(transition["noted_of"])]


def _severity(transition: Any) -> Severity:
    share = float(transition["excess_m3h"]) / max(float(transition["mean_m3h"]), 1e-9)
    for least, severity in SEVERITIES:
        if share >= least:
            return cast("Severity", severity)
    return "low"


def _confidence(transition: Any) -> float:
    """The strongest score, moved a tenth by each further voice; never certain."""
    scores = transition["scores"]
    others = int((scores >= CORROBORATED).sum()) - 1
    value = float(transition["score"]) + 0.1 * max(others, 0) - 0.1 * pressure_word(transition)
    return round(min(max(value, LEAST_CONFIDENCE), 0.99), 3)


def _reasons(facts: LeakFacts) -> list[str]:
    """Machine-readable reasons, most important first."""
    transition = facts.transition
    change, kind, scores = transition["change"], transition["type"], transition["scores"]
    reasons = ["reopened"] if is_reopened(transition) else []
    if change == CLOSED:
        reasons.append("accepted_as_normal")
    elif facts.stuck:
        reasons.append("meter_stuck")
    elif facts.metered.is_demand:
        reasons.append("customers_use_it")
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
    word = pressure_word(transition)
    if word:
        reasons.append("pressure_fell" if word < 0 else "pressure_rose")
    return reasons


def _title(facts: LeakFacts) -> Sentence:
    """One sentence in English and in Chinese."""
    if facts.stuck or facts.change in (CLEARED, CLOSED):
        return _title_of_end(facts)
    said = _named(facts)
    again, once_more = ("again ", "再次") if is_reopened(facts.transition) else ("", "")
    if facts.kind == BOUNDARY_VALVE:
        return both(
            "{dma} {again}takes {excess} that {neighbour} no longer gets: likely an open boundary valve",
            "{dma} {again}多进 {excess}，{neighbour} 相应减少：疑似边界阀门打开",
            **said,
            again=Sentence(en=again, zh=once_more),
        )
    if again:
        return both(
            "The leak in {dma} is back: {excess} above normal again", "{dma} 漏损复现：流量再次高于正常 {excess}", **said
        )
    if facts.metered.title:
        return facts.metered.title
    if facts.kind == NIGHT_FLOW_LEAK:
        return both(
            "Night flow in {dma} is {excess} above normal: likely leak", "{dma} 夜间流量高于正常 {excess}：疑似漏损", **said
        )
    return both("Burst likely in {dma}: inflow {excess} above expected", "{dma} 疑似爆管：流量高于预期 {excess}", **said)


def _title_of_end(facts: LeakFacts) -> Sentence:
    said = _named(facts)
    if facts.stuck:
        return both(
            "No leak in {dma}: flow meter {stuck} is stuck",
            "{dma} 并非漏损：流量计 {stuck} 读数卡死",
            **said,
            stuck=facts.stuck,
        )
    if facts.change == CLOSED:
        return both("{excess} extra in {dma} is taken as the new normal", "{dma} 多出的 {excess} 已视为新的常态", **said)
    if facts.metered.title:
        return facts.metered.title
    return both("{dma} is back to normal after {excess} too much", "{dma} 恢复正常（此前多出 {excess}）", **said)


def _named(facts: LeakFacts) -> dict[str, Any]:
    """What titles name."""
    return {"dma": facts.dma, "excess": flow(float(facts.transition["excess_m3h"])), "neighbour": facts.neighbour}
