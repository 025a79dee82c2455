"""Why an alert of a leak was raised, what speaks against it, and why it is none of the types that look alike."""

from __future__ import annotations

from typing import Final

from models.detectors import ISOLATION, PRESSURE_STEP, PRESSURE_TREND
from models.events import BOUNDARY_VALVE, BURST_EVENT, CLOSED, THRESHOLD
from models.explain_leaks import LeakFacts, is_confirmed, share_of_mean
from models.phrases import DAY_MS, HOUR_MS, both, counted, flow, ids, length, number, work_named
from models.schema import Sentence

STEP_MS: Final = 6 * HOUR_MS  # what showed within this time came at once (`lifecycle.SEEPING_MS`)
LASTING_MS: Final = 3 * DAY_MS  # demand that nobody has ordered seldom stays for longer


def speaks_for(facts: LeakFacts) -> list[Sentence]:
    """What was seen, the strongest first."""
    said = []
    excess, share = facts.estimate.excess_flow, share_of_mean(facts)
    size: object = both(" by {rate}", " {rate}", rate=flow(excess)) if excess > 0.0 else ""
    part: object = ""
    if share:
        part = both(", {share} % of its mean inflow", "，相当于平均进水流量的 {share}%", share=share)
    if is_confirmed(facts.night_score):
        said.append(
            both(
                "The night flow is above that of the last weeks{size}{part}.",
                "夜间最小流量高于近几周水平{size}{part}。",
                size=size,
                part=part,
            )
        )
    if is_confirmed(facts.flow_score):
        first = not said
        if facts.flow_score >= THRESHOLD:
            en, zh = "The inflow has left its normal range{size}{part}.", "进水流量超出正常范围{size}{part}。"
        else:
            en, zh = "The inflow is near the top of its normal range{size}{part}.", "进水流量接近正常范围上限{size}{part}。"
        said.append(both(en, zh, size=size if first else "", part=part if first else ""))
    if facts.neighbour is not None:
        said.append(
            both(
                "{neighbour} lost about as much as this DMA gained, at the same time.",
                "{neighbour} 同期减少的水量与本区增加的水量相近。",
                neighbour=facts.neighbour,
            )
        )
    if facts.fall is not None:
        said += facts.fall.speaks_for
    if facts.pressure_word < 0:
        said.append(_pressure(facts, both("fell", "下降")))
    if ISOLATION not in facts.silent and is_confirmed(float(facts.transition["scores"][ISOLATION])):
        said.append(
            both(
                "To the trained model flow and pressure look unlike any normal hour here.",
                "训练模型判断：流量与压力的变化与本区正常情况不符。",
            )
        )
    return said


def speaks_against(facts: LeakFacts) -> list[Sentence]:
    """What one would expect of such an alert and has not been seen."""
    said, t = [], facts.transition
    if not is_confirmed(facts.night_score):
        is_early = t["updated_ms"] - t["started_ms"] < DAY_MS
        said.append(
            both("No night has confirmed it yet.", "尚无夜间流量佐证。")
            if is_early
            else both("The nights have not confirmed it.", "夜间流量未能佐证。")
        )
    if not is_confirmed(facts.flow_score):
        said.append(
            both("The inflow does not show it yet.", "进水流量尚未反映。")
            if facts.is_pressure_only
            else both("By day the inflow does not stand out.", "白天进水流量未见明显异常。")
        )
    if facts.pressure_word > 0:
        said.append(_pressure(facts, both("rose", "上升")))
    elif facts.is_pressure_unmoved and facts.kind == BURST_EVENT:
        said.append(both("Pressure in the DMA has hardly moved.", "区内压力基本没有变化。"))
    if not {PRESSURE_STEP, PRESSURE_TREND} <= facts.silent and facts.fall is None:
        said.append(both("No pressure logger stands out from the others.", "没有哪个压力测点明显低于其他测点。"))
    if ISOLATION not in facts.silent and not is_confirmed(float(t["scores"][ISOLATION])):
        said.append(both("To the trained model nothing looks unusual.", "训练模型未发现异常。"))
    if facts.work is not None:
        said.append(_planned(facts))
    return said


def _pressure(facts: LeakFacts, moved: Sentence) -> Sentence:
    """What the loggers' mean did."""
    count = len(facts.loggers)
    return both(
        "Pressure {moved} at the same time, {times} times as far as it usually varies ({loggers}).",
        "同期压力{moved}，幅度为平时波动的 {times} 倍（{n} 个测点{mean}）。",
        moved=moved,
        times=number(abs(float(facts.transition["pressure_z"]))),
        loggers="mean of " + counted(count, "logger") if count != 1 else "1 logger",
        n=count,
        mean="平均" if count != 1 else "",
    )


def _planned(facts: LeakFacts) -> Sentence:
    assert facts.work is not None  # noqa: S101 - the caller has looked
    return both(
        "Planned work is under way: {what}.",
        "期间有计划作业：{what}。",
        what=work_named(facts.work),
    )


def why_not(facts: LeakFacts) -> list[Sentence]:
    """Of each type that looks alike: what rules it out, or that nothing does."""
    if facts.kind == BOUNDARY_VALVE:
        return _not_beside_a_valve(facts)
    if facts.kind == BURST_EVENT:
        found = [_not_slow(facts), _not_a_valve(facts), _not_demand(facts)]
    else:
        found = [_not_sudden(facts), _not_a_valve(facts), _not_night_use(facts)]
    return [*(one for one in found if one is not None), _not_the_meter(facts)]


def _not_beside_a_valve(facts: LeakFacts) -> list[Sentence]:
    between = boundary_meters(facts)
    said = [
        both(
            "Not a burst: the water has not left the network, {neighbour} is short of it.",
            "不是爆管：水没有流出管网，{neighbour} 相应减少。",
            neighbour=facts.neighbour,
        ),
        both(
            "Not demand: more use in one DMA takes nothing from its neighbour.",
            "不是用水增加：本区多用水不会使相邻分区少用水。",
        ),
    ]
    if between:
        said.append(
            both(
                "A faulty boundary meter ({ids}) is not ruled out: it would look the same.",
                "不能排除边界流量计（{ids}）故障：现象相同。",
                ids=ids(between),
            )
        )
    else:
        said.append(
            both("Not one faulty meter: meters of two DMAs agree on it.", "不是单个流量计故障：两个分区的流量计相互印证。")
        )
    return said


def _not_slow(facts: LeakFacts) -> Sentence:
    if facts.came_ms <= STEP_MS:
        return both(
            "Not a slow leak: it showed within {came}.", "不像缓慢漏损：{came}内即已显现。", came=length(facts.came_ms)
        )
    return both(
        "Not a slow leak: the flow rose in one step and has not crept up.", "不像缓慢漏损：流量是一步抬升，而非逐步增长。"
    )


def _not_sudden(facts: LeakFacts) -> Sentence:
    if not is_confirmed(facts.flow_score):
        return both("Not a burst: the inflow made no sudden step.", "不像爆管：进水流量没有突然抬升。")
    return both(
        "Not a burst: it took {came} to show, rather than minutes.",
        "不像爆管：经过 {came}才显现，并非瞬间抬升。",
        came=length(facts.came_ms),
    )


def _not_a_valve(facts: LeakFacts) -> Sentence | None:
    neighbours = facts.site.neighbours(facts.dma)
    if not neighbours:
        return None
    if facts.kind == BURST_EVENT and not facts.is_pressure_only:
        return both(
            "Not an open boundary valve: as far as known no neighbour ({ids}) lost as much.",
            "不像边界阀门打开：未发现相邻分区（{ids}）减少相近的水量。",
            ids=ids(neighbours),
        )
    return both(
        "An open boundary valve is not ruled out: look whether {ids} lost as much.",
        "不能排除边界阀门打开：需核对相邻分区 {ids} 是否减少相近的水量。",
        ids=ids(neighbours),
    )


def _not_demand(facts: LeakFacts) -> Sentence:
    if is_confirmed(facts.night_score):
        return both(
            "Not just demand: it shows at night too, when little water is used.", "不像用水增加：夜间用水很少时依然存在。"
        )
    if facts.lasted_ms >= LASTING_MS and facts.change != CLOSED:
        return both(
            "Demand is less likely: it has lasted {lasted}, day and night.",
            "用水增加的可能性较小：已昼夜持续 {lasted}。",
            lasted=length(facts.lasted_ms),
        )
    return both(
        "Demand is not ruled out: fire fighting or a large user would look like this for some hours.",
        "不能排除用水增加：消防或大用户用水在数小时内现象相同。",
    )


def _not_night_use(facts: LeakFacts) -> Sentence:
    if facts.lasted_ms >= LASTING_MS:
        return both(
            "Night use is less likely: it has lasted {lasted} without a break.",
            "夜间用水的可能性较小：已连续 {lasted}。",
            lasted=length(facts.lasted_ms),
        )
    return both(
        "Night use is not ruled out: irrigation or tanks that fill at night would look like this for a night or two.",
        "不能排除夜间用水：绿化浇灌、水箱补水在一两个夜间内现象相同。",
    )


def _not_the_meter(facts: LeakFacts) -> Sentence:
    if facts.is_pressure_only and facts.fall is not None:
        if len(facts.fall.loggers) > 1:
            return both(
                "Not a faulty logger: {second} fell as well.",
                "不像压力记录仪故障：{second} 同时下降。",
                second=facts.fall.loggers[1],
            )
        return both(
            "A faulty logger is not ruled out: no second one shows it clearly.",
            "不能排除压力记录仪故障：没有第二个测点明显印证。",
        )
    if facts.fall is not None or facts.pressure_word < 0:
        return both("Not a faulty flow meter: pressure fell as well.", "不像流量计故障：压力同时下降。")
    if facts.pressure_word > 0:
        return both("Not a faulty flow meter: pressure changed as well.", "不像流量计故障：压力也有变化。")
    doubt = both("the pressure loggers had no word at that time", "当时没有压力读数")
    if not facts.loggers:
        doubt = both("no pressure logger here could tell", "本区没有压力测点可供印证")
    elif facts.is_pressure_unmoved:
        doubt = both("pressure has hardly moved", "压力基本没有变化")
    return both("A faulty flow meter is not ruled out: {doubt}.", "不能排除流量计故障：{doubt}。", doubt=doubt)


def boundary_meters(facts: LeakFacts) -> list[str]:
    """Ids of the flow meters between this DMA and the neighbour of a boundary valve's event."""
    pair = {facts.dma, facts.neighbour}
    return [meter.id for meter in facts.own if {meter.from_dma, meter.to_dma} == pair]
