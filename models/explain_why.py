"""Why an alert of a leak was raised, what speaks against it, and why it is none of the types that look alike."""

from __future__ import annotations

from typing import Final

from models.detectors import BURST, ISOLATION, PRESSURE_STEP, PRESSURE_TREND
from models.events import BOUNDARY_VALVE, BURST_EVENT, THRESHOLD
from models.leak_facts import LEAST_RATE_M3H, LeakFacts, is_confirmed, share_of_mean
from models.phrases import DAY_MS, HOUR_MS, both, counted, flow, ids, length, number, volume, work_named
from models.schema import Sentence

STEP_MS: Final = 6 * HOUR_MS  # what showed within this time came at once (`flow_events.SEEPING_MS`)
HOURS_LONG_MS: Final = 12 * HOUR_MS
LASTING_MS: Final = 3 * DAY_MS  # demand that nobody has ordered seldom stays for longer


def speaks_for(facts: LeakFacts) -> list[Sentence]:
    """What was seen, the strongest first."""
    said = []
    excess, share = facts.estimate.excess_flow, share_of_mean(facts)
    above, higher = both("above normal", "高于正常值"), both("above that of the last weeks", "高于近几周水平")
    if excess >= LEAST_RATE_M3H:
        size = both("by {rate}", "{rate}", rate=flow(excess))
        if share:
            size = both(
                "{size} ({share} % of the DMA's mean inflow)",
                "{size}（相当于平均进水流量的 {share}%）",
                size=size,
                share=share,
            )
        above = both("{above} {size}", "比正常值高 {size}", above=above, size=size)
        higher = both("{higher} {size}", "比近几周高 {size}", higher=higher, size=size)
    weak = both("; by itself that would not be an alert", "；仅凭此项尚不足以报警")
    if is_confirmed(facts.night_score):
        said.append(
            both(
                "The night flow stood {higher}{beyond}.",
                "夜间最小流量{higher}{beyond}。",
                higher=higher,
                beyond=weak if facts.night_score < THRESHOLD else both(", more than the nights vary", "，超出夜间正常波动"),
            )
        )
    if is_confirmed(facts.flow_score) and said:
        said.append(
            both(
                "Hour by hour, too, the inflow stood above normal{weak}.",
                "逐时进水流量也高于正常值{weak}。",
                weak=weak if facts.flow_score < THRESHOLD else "",
            )
        )
    elif is_confirmed(facts.flow_score):
        said.append(
            both(
                "For {lasted} the inflow stood {above}{beyond}.",
                "{lasted}内进水流量{above}{beyond}。",
                lasted=length(facts.lasted_ms),
                above=above,
                beyond=weak if facts.flow_score < THRESHOLD else both(", more than it strays by itself", "，超出平时波动"),
            )
        )
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
        said.append(_pressure(facts, both("below", "低于")))
    model_score = 0.0 if ISOLATION in facts.silent else float(facts.transition["scores"][ISOLATION])
    if model_score >= THRESHOLD:
        said.append(
            both(
                "To the trained model, flow and pressure look unlike a normal hour here.",
                "训练模型判断：流量与压力的变化与本区正常情况不符。",
            )
        )
    elif is_confirmed(model_score):
        said.append(
            both(
                "To the trained model, flow and pressure look somewhat unusual.",
                "训练模型判断：流量与压力的变化略有异常。",
            )
        )
    if facts.transition["amended_m3"] > 0.0:
        said.append(
            both(
                "Late readings show {late} more lost than was known before.",
                "迟到的数据表明，漏失水量比此前所知多 {late}。",
                late=volume(float(facts.transition["amended_m3"])),
            )
        )
    return said + facts.metered.speaks_for


def speaks_against(facts: LeakFacts) -> list[Sentence]:
    """What one would expect of such an alert and has not been seen."""
    said, t = [], facts.transition
    if not is_confirmed(facts.night_score):
        said.append(
            both(
                "The night flow has not confirmed it ({nights} so far).",
                "已过 {n} 个夜间，夜间最小流量未能佐证。",
                nights=counted(facts.nights, "night"),
                n=facts.nights,
            )
            if facts.nights
            else both("No night has been able to confirm it yet.", "尚无夜间流量可供佐证。")
        )
    if not is_confirmed(facts.flow_score):
        said.append(
            both("The inflow does not show it yet.", "进水流量尚未反映。")
            if facts.is_pressure_only
            else both("By day the inflow does not stand out.", "白天进水流量未见明显异常。")
        )
    if facts.pressure_word > 0:
        said.append(_pressure(facts, both("above", "高于")))
    elif facts.is_pressure_unmoved and facts.kind == BURST_EVENT:
        said.append(both("Pressure in the DMA has hardly moved.", "区内压力基本没有变化。"))
    if not {PRESSURE_STEP, PRESSURE_TREND} <= facts.silent and facts.fall is None:
        said.append(both("No pressure logger stands out from the others.", "没有哪个压力测点明显低于其他测点。"))
    if ISOLATION not in facts.silent and not is_confirmed(float(t["scores"][ISOLATION])):
        said.append(both("To the trained model, nothing looks unusual.", "训练模型未发现异常。"))
    if facts.work is not None:
        said.append(_planned(facts))
    said += facts.metered.against
    if facts.stuck:
        said.append(
            both(
                "Flow meter {id} has sent the same value since it began.",
                "自事件开始以来，流量计 {id} 一直上报同一数值。",
                id=facts.stuck,
            )
        )
    return said


def _pressure(facts: LeakFacts, moved: Sentence) -> Sentence:
    """What the loggers' mean did."""
    count = len(facts.loggers)
    return both(
        "Pressure stood {moved} normal by {times} times what it usually varies ({loggers}).",
        "压力{moved}正常值，偏离幅度为平时波动的 {times} 倍（{n} 个测点{mean}）。",
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
                "不能排除边界流量计（{ids}）故障：表现相同。",
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
    if is_confirmed(float(facts.transition["scores"][BURST])):  # `flow_events.raise_burst` has not asked whether it grows
        return both("Not a slow leak: the flow rose too fast for one.", "不像缓慢漏损：流量上升较快。")
    return both(
        "Not a slow leak: the flow rose in one step and has not crept up.", "不像缓慢漏损：流量是一步抬升，而非逐步增长。"
    )


def _not_sudden(facts: LeakFacts) -> Sentence:
    if not is_confirmed(facts.flow_score):
        return both("Not a burst: the inflow made no sudden step.", "不像爆管：进水流量没有突然抬升。")
    if facts.came_ms <= STEP_MS:
        return both("Not a burst: it shows at night more than by day.", "不像爆管：夜间比白天明显。")
    return both(
        "Not a burst: it took {came} to show, instead of coming at once.",
        "不像爆管：经过 {came}才显现，并非突然出现。",
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
    if facts.lasted_ms >= LASTING_MS:
        return both(
            "Demand is less likely: the extra flow has lasted {lasted}.",
            "用水增加的可能性较小：已持续 {lasted}。",
            lasted=length(facts.lasted_ms),
        )
    if facts.lasted_ms >= HOURS_LONG_MS:
        return both(
            "Demand is not ruled out, though {lasted} is long for fire fighting or a single user.",
            "不能排除用水增加，但消防或单个用户用水很少持续 {lasted}。",
            lasted=length(facts.lasted_ms),
        )
    return both(
        "Demand is not ruled out: fire fighting or a large user would look like this for some hours.",
        "不能排除用水增加：消防或大用户集中用水，头几个小时表现相同。",
    )


def _not_night_use(facts: LeakFacts) -> Sentence:
    if facts.lasted_ms >= LASTING_MS:
        return both(
            "Night use is less likely: the extra flow has lasted {lasted}.",
            "夜间用水的可能性较小：已持续 {lasted}。",
            lasted=length(facts.lasted_ms),
        )
    return both(
        "Night use is not ruled out: irrigation or tanks that fill at night would look like this for a night or two.",
        "不能排除夜间用水：绿化浇灌、水箱补水，头一两夜表现相同。",
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
