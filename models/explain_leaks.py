"""A burst, a night-flow leak or a boundary valve explained: what was seen, what is normal, since when, how much water.

Every sentence is made of one `LeakFacts` (`leak_facts.py`), for both languages at once.
"""

from __future__ import annotations

import numpy as np

from models.events import (
    BOUNDARY_VALVE,
    CLEARED,
    CLOSED,
    NIGHT_FLOW_LEAK,
    OF_BALANCE,
    OF_NIGHT,
    OF_SLOT,
    RAISED,
    is_reopened,
)
from models.leak_facts import LEAST_RATE_M3H, LeakFacts
from models.phrases import (
    band,
    both,
    clock,
    counted,
    day,
    flow,
    ids,
    joined,
    length,
    number,
    volume,
)
from models.schema import NEVER, Estimate, Sentence


def observed(facts: LeakFacts) -> Sentence:
    """The metric of this revision."""
    t, place = facts.transition, facts.place
    if facts.fall and facts.is_pressure_only:
        return both(
            "Pressure at {logger} in {place} stood {fall} lower than the other loggers suggest.",
            "{place} 压力测点 {logger} 比按其他测点推算的值低 {fall}。",
            logger=facts.fall.loggers[0],
            place=place,
            fall=facts.fall.size,
        )
    if np.isnan(t["observed"]):
        return both(
            "The net inflow of {place} is not known: readings are missing.",
            "{place} 缺少读数，净进水流量未知。",
            place=place,
        )
    if t["noted_ms"] != NEVER and t["noted_of"] == OF_SLOT:
        return _observed_slot(facts)
    return _observed_whole(facts)


def _observed_whole(facts: LeakFacts) -> Sentence:
    """Of a night or a day; or what the inflow was, where a state of before that was noted has it."""
    t, place = facts.transition, facts.place
    value = flow(float(t["observed"]))
    if t["noted_ms"] == NEVER:
        return both("Flow into {place} was {value}.", "{place} 进水流量为 {value}。", place=place, value=value)
    if t["noted_of"] == OF_BALANCE:
        return both(
            "{place} took {value} that no customer's meter shows (mean of {date}).",
            "{date} {place} 供水量比用户表计量平均多 {value}。",
            place=place,
            value=value,
            date=day(t["noted_ms"], facts.site.timezone),
        )
    window = f"{clock(facts.site.night_start_min)}–{clock(facts.site.night_end_min)}"
    return both(
        "The minimum night flow of {place} was {value} in the night of {date} ({window}).",
        "{date} 凌晨（{window}）{place} 夜间最小流量为 {value}。",
        place=place,
        value=value,
        date=day(t["noted_ms"], facts.site.timezone),
        window=window,
    )


def _observed_slot(facts: LeakFacts) -> Sentence:
    t = facts.transition
    then = {"place": facts.place, "value": flow(float(t["observed"])), "time": facts.when("noted_ms")}
    if facts.estimate.excess_flow < LEAST_RATE_M3H:
        return both("Net inflow of {place} was {value} at {time}.", "{time}，{place} 净进水流量为 {value}。", **then)
    # one slot may lie within the band while the mean of many does not
    return both(
        "Net inflow of {place} stood {excess} above normal on average; at {time} it was {value}.",
        "{place} 净进水流量平均比正常值高 {excess}；{time} 为 {value}。",
        **then,
        excess=flow(facts.estimate.excess_flow),
    )


def expected(facts: LeakFacts) -> Sentence | None:
    """What would be normal, and within which limits; None where it is not known."""
    t = facts.transition
    if facts.is_pressure_only:
        return both(
            "Normally the pressure there rises and falls with the other loggers.", "正常情况下该测点与其他测点同升同降。"
        )
    if np.isnan(t["expected"]):
        return None
    value, what = flow(float(t["expected"])), both("that time", "该时刻")
    if t["noted_of"] == OF_NIGHT:
        what = both("such a night", "该夜间")
    elif t["noted_of"] == OF_BALANCE:
        what = both("such a day", "该日")
    lower, upper = float(t["lower"]), float(t["upper"])
    limits = None
    if lower < 0.0 <= float(t["expected"]):
        limits = both("at most {upper}", "不超过 {upper}", upper=flow(upper))
    elif lower < upper:
        limits = band(number(lower), flow(upper))
    if limits is None:
        return both("Normal for {what}: {value}.", "{what}正常值为 {value}。", what=what, value=value)
    return both(
        "Normal for {what}: {value} ({limits}).",
        "{what}正常值为 {value}（正常范围 {limits}）。",
        what=what,
        value=value,
        limits=limits,
    )


def since(facts: LeakFacts) -> Sentence:
    """When it began, how long after it was noticed, and for how long it has lasted."""
    began = both(
        "It began at about {start} and was noticed {came} later.",
        "约 {start} 开始，{came}后发现。",
        start=facts.when("started_ms"),
        came=length(facts.came_ms),
    )
    if is_reopened(facts.transition):
        back = both(
            "It seemed over and came back, by {now}.", "曾判断已结束，{now} 发现再次出现。", now=facts.when("updated_ms")
        )
        return joined(began, back)
    if facts.change in (RAISED, CLEARED):
        return began
    lasts = both(
        "By {now} it has lasted {lasted}.",
        "截至 {now}，已持续 {lasted}。",
        now=facts.when("updated_ms"),
        lasted=length(facts.lasted_ms),
    )
    return joined(began, lasts)


def rate(estimate: Estimate) -> Sentence:
    """The excess flow, with the interval that holds it nine times in ten where that is known."""
    size = flow(estimate.excess_flow)
    if estimate.excess_flow_lower is None or estimate.excess_flow_upper is None:
        return both("about {rate}", "约 {rate}", rate=size)
    limits = band(number(estimate.excess_flow_lower), flow(estimate.excess_flow_upper))
    return both("about {rate} ({limits})", "约 {rate}（{limits}）", rate=size, limits=limits)


def water(facts: LeakFacts) -> Sentence:
    """Rate, volume a day at that rate, and volume so far."""
    estimate, t = facts.estimate, facts.transition
    lost, is_over = volume(estimate.lost_so_far), facts.change == CLEARED
    late = None
    if t["amended_m3"] > 0.0:
        late = both(
            "Readings that came late have added {late} to that.",
            "其中迟到的数据补计 {late}。",
            late=volume(float(t["amended_m3"])),
        )
    if facts.stuck:
        return both("How much water it was is not known.", "水量未知。")
    if estimate.excess_flow < LEAST_RATE_M3H:
        unknown = both("The inflow does not show how much water it is.", "进水流量尚未反映出漏水量，漏量暂无法估计。")
        if estimate.lost_so_far >= 0.1:
            unknown = joined(unknown, both("So far about {lost}.", "累计约 {lost}。", lost=lost))
        return joined(unknown, late)
    size = rate(estimate)
    if is_over and facts.is_pressure_only:
        said = both(
            "From the inflow its size could only be guessed: {size}, {lost} in all.",
            "漏量只能由进水流量粗略推算：{size}，累计约 {lost}。",
            size=size,
            lost=lost,
        )
    elif is_over:
        said = both("It was {size}, {lost} in all.", "多出流量{size}，累计约 {lost}。", size=size, lost=lost)
    else:
        how: Sentence | str = ""
        if facts.kind == NIGHT_FLOW_LEAK:
            how = both(" (the night rate times {hours} h)", "（夜间流量 × {hours} 小时）", hours=f"{float(t['ndf_h']):.1f}")
        begin = both("The excess is", "多出流量")
        if facts.is_pressure_only:
            begin = both("From the inflow its size can only be guessed:", "漏量只能由进水流量粗略推算：")
        said = both(
            "{begin} {size}, some {day} a day{how}, {lost} so far.",
            "{begin}{size}，折合每天约 {day}{how}，至今累计约 {lost}。",
            begin=begin,
            size=size,
            day=volume(estimate.loss_per_day),
            lost=lost,
            how=how,
        )
    moved = None
    if facts.kind == BOUNDARY_VALVE:
        tense = both("is", "") if facts.change != CLEARED else both("was", "")
        moved = both(
            "This water {tense} not lost: it {tense} taken from {neighbour}.",
            "这部分水并未漏失，而是来自 {neighbour}。",
            tense=tense,
            neighbour=facts.neighbour,
        )
    return joined(said, moved, late)


def ended(facts: LeakFacts) -> Sentence | None:
    """How it ended, when, and how long it had lasted; None while it lasts."""
    t = facts.transition
    if facts.change == CLOSED:
        return both(
            "It is no longer reported: after {days} days it is taken as normal, by the site's setting acceptAfterDays. "
            "The water may still be running.",
            "已满 {days} 天，按站点配置 acceptAfterDays 视为新的常态，不再报警；水可能仍在流失。",
            days=facts.site.accept_after_days,
        )
    if facts.change != CLEARED or t["ended_ms"] == NEVER:
        return None
    if facts.stuck:
        return both(
            "It is withdrawn: all it rested on was flow meter {id}, which is stuck.",
            "予以撤销：其唯一依据为流量计 {id}，而该表读数卡死。",
            id=facts.stuck,
        )
    if facts.metered.is_demand:
        return both(
            "It is no leak: customers' meters show the water. It is taken as normal from now on.",
            "不是漏损：这部分水已由用户表计量，今后视为正常用水。",
        )
    gone_ms = int(t["updated_ms"] - t["ended_ms"])
    over = both(
        "It ended at about {ended}, after {lasted}.",
        "约 {ended} 结束，共持续 {lasted}。",
        ended=facts.when("ended_ms"),
        lasted=length(facts.lasted_ms),
    )
    if facts.fall and facts.is_pressure_only:
        how = both(
            "Pressure at {logger} has been back for {gone}.",
            "压力测点 {logger} 已恢复 {gone}。",
            logger=facts.fall.loggers[0],
            gone=length(gone_ms),
        )
    elif t["nights_gone"] > 0:
        count = int(t["nights_gone"])
        how = both(
            "The extra flow has been gone for {gone}, {nights} included.",
            "多出流量已消失 {gone}，其中包括 {n} 个夜间。",
            gone=length(gone_ms),
            nights=counted(count, "night"),
            n=count,
        )
    else:
        how = both("The extra flow has been gone for {gone}.", "多出流量已消失 {gone}。", gone=length(gone_ms))
    return joined(over, how)


def meters(facts: LeakFacts) -> Sentence:
    """Which meters it rests on, and whether all of them reported."""
    parts = [both("Flow of {place}: {ids}.", "{place} 流量：{ids}。", place=facts.place, ids=ids(facts.flow_meters))]
    if facts.levels:
        parts.append(both("Tank level: {ids}.", "水池水位：{ids}。", ids=ids(facts.levels)))
    if facts.fall is not None:
        parts.append(
            both(
                "Pressure: {ids}, compared with the others ({loggers} in all).",
                "压力：{ids}，与其他测点比较（共 {n} 个测点）。",
                ids=ids(facts.fall.loggers),
                n=len(facts.loggers),
                loggers=counted(len(facts.loggers), "logger"),
            )
        )
    elif facts.loggers:
        parts.append(both("Pressure: {ids}.", "压力：{ids}。", ids=ids(facts.loggers)))
    coverage = float(facts.transition["coverage"])
    if coverage < 0.995 and facts.is_pressure_only is False:  # NaN: not known
        parts.append(
            both(
                "{share} % of the flow readings were there.",
                "流量数据完整率 {share}%。",
                share=f"{100.0 * coverage:.0f}",
            )
        )
    return joined(*parts)
