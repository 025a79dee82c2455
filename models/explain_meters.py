"""An alert of a meter, or of all meters of a DMA, in words: what its kind says of it, and what all of them have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from models.alert_parts import Said, estimate, rounded
from models.events import CLOCK_SHIFTED, CUSTOMER_LEAK, DATA_GAP, DRIFTING, REVERSE_FLOW, SPIKING, STUCK, UNKNOWN, ZERO_FLOW
from models.explain_drift import drifting
from models.explain_faults import clock, customer, gap, spiking, stuck
from models.explain_no_flow import no_flow, reverse_flow
from models.meter_facts import MeterFacts, Part
from models.phrases import both, english, joined, length, work_named
from models.schema import NEVER, Evidence, Explanation, Scope, Sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.network import Meter, Site
    from models.planned import PlannedWork

_OF_TYPE: Final[dict[int, Callable[[MeterFacts], Part]]] = {
    DATA_GAP: gap,
    ZERO_FLOW: no_flow,
    REVERSE_FLOW: reverse_flow,
    CUSTOMER_LEAK: customer,
}
_OF_CAUSE: Final[dict[int, Callable[[MeterFacts], Part]]] = {
    CLOCK_SHIFTED: clock,
    DRIFTING: drifting,
    STUCK: stuck,
    SPIKING: spiking,
    UNKNOWN: stuck,
}
"""How each kind of meter_fault is told; the cause of faults raised before causes were kept is a flat line."""


def said(transition: Any, site: Site, dma: str, meters: Sequence[Meter], scope: Scope, work: PlannedWork | None) -> Said:
    """All that is said of one transition (an EVENT record) of a meter of `meters`, or of all of a DMA's."""
    meter = meters[int(transition["channel"])] if transition["channel"] >= 0 else None
    facts = MeterFacts(transition, site, dma, scope, meter)
    kind = int(transition["type"])
    part = _OF_TYPE[kind](facts) if kind in _OF_TYPE else _OF_CAUSE[int(transition["cause"])](facts)
    against, checks = list(part.against), _checks(facts, part)
    if work is not None:
        what = work_named(work)
        against.append(both("Planned work is under way: {what}.", "期间有计划作业：{what}。", what=what))
        if not facts.is_over:
            checks.insert(
                0, both("Ask the crew of the planned work whether this comes from it.", "向计划作业人员核实是否由其引起。")
            )
    return Said(
        title=part.title,
        reasons=part.reasons,
        severity=part.severity,
        confidence=part.confidence,
        evidence=Evidence(
            metric=part.metric,
            unit=part.unit,
            observed=rounded(transition["observed"]),
            expected=rounded(transition["expected"]),
            lower=rounded(transition["lower"]),
            upper=rounded(transition["upper"]),
            coverage=rounded(transition["coverage"]),
            for_=english(part.why),
            against=english(against),
            meters=[scope.id] if meter else [m.id for m in meters if _makes_inflow(m, dma)],
        ),
        estimate=estimate(site, transition) if kind == CUSTOMER_LEAK else None,
        explanation=Explanation(
            observed=part.observed,
            expected=part.expected,
            since=_since(facts, part),
            water=part.water,
            ended=_ended(facts),
            why=part.why,
            against=against,
            why_not=part.why_not,
            meters=_meters(facts, part),
            check_first=checks,
        ),
    )


def _makes_inflow(meter: Meter, dma: str) -> bool:
    """Whether a meter is one of those that make the DMA's net inflow."""
    return (meter.is_network_flow and dma in (meter.from_dma, meter.to_dma)) or (meter.kind == "level" and meter.dma == dma)


def _checks(facts: MeterFacts, part: Part) -> list[Sentence]:
    if facts.is_over:
        return [both("Note down the cause, for the next time.", "请登记原因，以备再次出现时参考。")]
    if facts.is_accepted:
        return [
            both(
                "If it should not be so, see to it: no further alert will tell of it.",
                "若情况不正常，仍需处理：今后不再报警。",
            )
        ]
    return list(part.check_first)


def _since(facts: MeterFacts, part: Part) -> Sentence:
    t = facts.transition
    start = part.first_day or facts.when("started_ms")
    began = both(
        "It began at {start} and was reported {came} later."
        if part.first_day is None
        else "It began on {start} and was reported {came} later.",
        "{start} 开始，{came}后报警。",
        start=start,
        came=length(float(t["detected_ms"] - t["started_ms"])),
    )
    if not facts.is_accepted:
        return began
    return joined(
        began,
        both(
            "By {now} it has lasted {lasted}.",
            "截至 {now}，已持续 {lasted}。",
            now=facts.when("updated_ms"),
            lasted=facts.lasted,
        ),
    )


def _ended(facts: MeterFacts) -> Sentence | None:
    t = facts.transition
    if facts.is_accepted:
        return both(
            "It is no longer reported: after {days} days it is taken as normal, by the site's setting acceptAfterDays.",
            "已满 {days} 天，按站点配置 acceptAfterDays 视为新的常态，不再报警。",
            days=facts.site.accept_after_days,
        )
    if not facts.is_over or t["ended_ms"] == NEVER:
        return None
    return both(
        "It ended at {ended}, after {lasted}.",
        "{ended} 结束，共持续 {lasted}。",
        ended=facts.when("ended_ms"),
        lasted=facts.lasted,
    )


def _meters(facts: MeterFacts, part: Part) -> Sentence:
    """Whose readings it rests on, and what goes unwatched meanwhile."""
    place = facts.place
    if facts.meter is None:
        whose = both("All meters of {place} that report by themselves.", "{place} 内所有自动上报的仪表。", place=place)
    else:
        whose = both("{thing} in {place}.", "{place} 的{thing}。", thing=facts.thing, place=place)
    if facts.is_over or facts.is_accepted or not part.is_blind:
        return whose
    return joined(
        whose,
        both(
            "Until it is back, the net inflow of {dma} is not known, and leaks there may go unnoticed.",
            "恢复之前无法计算 {dma} 的净进水流量，漏损可能无法及时发现。",
            dma=facts.dma,
        ),
    )
