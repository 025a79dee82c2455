"""What is said of a flow meter that shows no flow, or flow that runs backwards."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.events import DEAD_METER, INTERRUPTED, REROUTED, UNKNOWN
from models.meter_facts import MeterFacts, Part
from models.phrases import both, flow, length
from models.schema import Sentence, Severity

NO_FLOW: Final[dict[int, tuple[str, Severity, Sentence]]] = {
    UNKNOWN: ("no_flow", "medium", both("supply interrupted or meter dead", "停水或流量计故障")),
    REROUTED: (
        "flow_taken_over",
        "low",
        both("others feed the DMA, a valve may be closed", "由其他进水口供水，可能阀门关闭"),
    ),
    DEAD_METER: (
        "pressure_unchanged",
        "medium",
        both("pressure stays, the meter may be dead", "压力无变化，流量计可能故障"),
    ),
    INTERRUPTED: ("pressure_fell", "high", both("pressure fell too, supply may be interrupted", "压力同时下降，可能停水")),
}
"""By cause: reason, severity, what it means."""
_MEANS: Final[dict[int, Sentence]] = {
    UNKNOWN: both(
        "Nothing else tells whether the supply stopped or the meter died.", "没有其他数据能区分是停水还是流量计故障。"
    ),
    REROUTED: both(
        "The DMA gets its usual water all the same, through its other meters.", "本区总进水量正常，水由其他进水口供给。"
    ),
    DEAD_METER: both(
        "Its water is missing in the sum, but pressure in the DMA is as usual.", "总量中缺少这部分水，但区内压力正常。"
    ),
    INTERRUPTED: both(
        "Its water is missing in the sum, and pressure in the DMA fell.", "总量中缺少这部分水，且区内压力下降。"
    ),
}
_METER_CHECK: Final = both(
    "Read the meter on site: does the register move? Check its power, sensor and cable.",
    "到现场查看流量计：累计值是否走动；检查电源、传感器和信号线。",
)
_SUPPLY_CHECK: Final = both(
    "Ask the control room about supply: pumps, closed valves, work on the main. Expect calls about low pressure.",
    "向调度核实供水情况：水泵、阀门、管线作业；留意水压低、停水来电。",
)
_VALVE_CHECK: Final = both(
    "Ask the control room which valve was closed, and whether on purpose.", "向调度核实哪个阀门被关闭、是否为计划操作。"
)
_CHECKS: Final[dict[int, list[Sentence]]] = {
    UNKNOWN: [_SUPPLY_CHECK, _METER_CHECK],
    REROUTED: [_VALVE_CHECK, _METER_CHECK],
    DEAD_METER: [_METER_CHECK],
    INTERRUPTED: [_SUPPLY_CHECK, _VALVE_CHECK],
}
_RULED_OUT: Final[dict[int, list[Sentence]]] = {
    UNKNOWN: [],
    REROUTED: [both("Not a failure of supply: the DMA is not short of water.", "不是停水：本区并不缺水。")],
    DEAD_METER: [both("Not a failure of supply: pressure would have fallen.", "不是停水：停水时压力会下降。")],
    INTERRUPTED: [both("Not a dead meter: pressure would have stayed.", "不是流量计故障：若仅为故障，压力不会下降。")],
}


def no_flow(facts: MeterFacts) -> Part:
    """A meter that has always carried water carries none."""
    cause = int(facts.transition["cause"])
    reason, severity, meaning = NO_FLOW[cause]
    usual = _usual(facts)
    if usual is None:
        title = both("No flow at {id}: {meaning}", "{id} 无流量：{meaning}", id=facts.id, meaning=meaning)
    else:
        title = both(
            "No flow at {id} (usually {usual}): {meaning}",
            "{id} 无流量（平时 {usual}）：{meaning}",
            id=facts.id,
            usual=usual,
            meaning=meaning,
        )
    return _part(
        facts,
        title=title,
        reasons=["no_flow"] + [reason] * (reason != "no_flow"),
        severity=severity,
        observed=both(
            "{thing} has shown no flow for {run}.",
            "{thing} 已连续 {run}无流量。",
            thing=facts.thing,
            run=length(facts.run_ms),
        ),
        why=[
            both(
                "It has shown no flow for {run}, much longer than it usually does.",
                "已连续 {run}无流量，远超其以往情况。",
                run=length(facts.run_ms),
            ),
            _MEANS[cause],
        ],
        why_not=[
            both("Not a gap in the data: readings still come in.", "不是数据中断：读数仍在上报。"),
            *_RULED_OUT[cause],
        ],
        check_first=_CHECKS[cause],
        over=both("For {lasted} it showed no flow.", "此前连续 {lasted}无流量。", lasted=facts.lasted),
        is_blind=cause != REROUTED,
    )


def reverse_flow(facts: MeterFacts) -> Part:
    """Flow runs backwards where it never did, or for far longer."""
    now = flow(abs(float(facts.transition["observed"])))
    return _part(
        facts,
        title=both("Flow at {id} has reversed: {now} backwards", "{id} 出现反向流量：{now}", id=facts.id, now=now),
        reasons=["reverse_flow"],
        severity="medium",
        observed=both(
            "Water runs backwards through {id}, at {now}.",
            "{thing} 反向过水，流量 {now}。",
            id=facts.id,
            thing=facts.thing,
            now=now,
        ),
        why=[
            both(
                "It has run backwards for {run}: longer than it ever did, or at hours when it never did.",
                "已连续反向 {run}：时长超过以往，或出现在以往从不反向的时段。",
                run=length(facts.run_ms),
            )
        ],
        why_not=[both("Not noise around zero: it is too much for that.", "不是零点附近的波动：流量已超出波动范围。")],
        check_first=[
            both("Ask the control room which valves or pumps were operated.", "向调度核实有无阀门或水泵操作。"),
            both(
                "If the meter was worked on, check that it is mounted and wired the right way round.",
                "若近期检修过流量计，检查安装方向和接线是否正确。",
            ),
        ],
        over=both("For {lasted} water ran backwards.", "此前连续 {lasted}反向过水。", lasted=facts.lasted),
    )


def _usual(facts: MeterFacts) -> str | None:
    """The meter's mean flow, where it is known."""
    usual = float(facts.transition["expected"])
    return None if np.isnan(usual) else flow(usual)


def _part(
    facts: MeterFacts,
    *,
    title: Sentence,
    reasons: list[str],
    severity: Severity,
    observed: Sentence,
    why: list[Sentence],
    why_not: list[Sentence],
    check_first: list[Sentence],
    over: Sentence,
    is_blind: bool = False,
) -> Part:
    """`over` is what is said for an event that has cleared."""
    usual = _usual(facts)
    expected = None if usual is None else both("Usually its flow is about {usual}.", "平时流量约 {usual}。", usual=usual)
    if facts.is_over:
        now = flow(float(facts.transition["observed"]))
        title, reasons = (
            both("Flow at {id} is {now} again", "{id} 流量恢复为 {now}", id=facts.id, now=now),
            ["flow_as_usual"],
        )
        observed = both("{thing} shows {now} again.", "{thing} 流量恢复为 {now}。", thing=facts.thing, now=now)
        why, why_not = [over], []
    elif facts.is_accepted:
        title = both("The flow of {id} is taken as the new normal", "{id} 的流量已视为新的常态", id=facts.id)
        reasons = ["accepted_as_normal"]
    return Part(
        title=title,
        reasons=reasons,
        severity=severity,
        confidence=0.9,
        observed=observed,
        expected=expected,
        why=why,
        why_not=why_not,
        check_first=check_first,
        is_blind=is_blind,
    )
