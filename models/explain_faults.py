"""What is said of a meter that is silent, stuck, spiking or displaced in time, and of a house where water never stops."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.meter_facts import MeterFacts, Part
from models.phrases import both, counted, day, household, length, number, volume
from models.schema import Sentence

_BREAK_CHECKS: Final = [
    both("Check its battery or power supply.", "检查电池或供电。"),
    both("Check modem, antenna, SIM card and coverage.", "检查通信模块、天线、SIM 卡和信号。"),
    both(
        "If it is gone for good, take it out of network.toml: until then every verdict waits for it.",
        "若已永久停用，请从 network.toml 中删除：否则每次研判都会等待该表数据。",
    ),
]
_COMMON_CHECKS: Final = [
    both(
        "Check what they share: gateway, mobile network, data platform, power.",
        "检查共用环节：网关、移动网络、数据平台、供电。",
    ),
    both("Until they report again, take calls from this DMA seriously.", "恢复之前，请特别留意该区的报漏和低压来电。"),
]


def gap(facts: MeterFacts) -> Part:
    """Silence of one meter, or of most of a DMA's at once."""
    return _common_gap(facts) if facts.meter is None else _own_gap(facts)


def _common_gap(facts: MeterFacts) -> Part:
    t, silence = facts.transition, facts.hours("observed")
    count = {"n": int(t["slots"]), "known": int(t["nights_gone"])}
    title = both(
        "{dma}: {n} of {known} meters silent for {silence}: not watched",
        "{dma}：{known} 个仪表中有 {n} 个已 {silence}无数据，无法监测",
        **count,
        dma=facts.id,
        silence=silence,
    )
    observed = both(
        "{n} of {known} meters of {place} have sent nothing for {silence}.",
        "{place} 的 {known} 个仪表中，{n} 个已 {silence}无数据。",
        **count,
        place=facts.place,
        silence=silence,
    )
    if facts.is_over:
        title = both(
            "{dma} reports again after {silence} of silence", "{dma} 中断 {silence}后恢复上报", dma=facts.id, silence=silence
        )
        observed = both(
            "Most meters of {place} report again, after {silence} of silence.",
            "{place} 的大部分仪表在中断 {silence}后恢复上报。",
            place=facts.place,
            silence=silence,
        )
    return Part(
        title=title,
        reasons=["reports_again"] if facts.is_over else ["all_silent"],
        severity="high",
        metric="silence",
        unit="h",
        confidence=0.99,
        observed=observed,
        expected=both("They are not usually silent for so long.", "这些仪表平时都不会中断这么久。"),
        why=[
            both(
                "{n} of {known} meters fell silent within an hour of each other: one cause for all is likely.",
                "{known} 个仪表中有 {n} 个在一小时内相继中断，很可能是同一原因。",
                **count,
            )
        ],
        why_not=[both("Not single meters: those fail one by one.", "不像个别仪表故障：个别故障不会同时发生。")],
        check_first=_COMMON_CHECKS,
        is_blind=True,
    )


def _own_gap(facts: MeterFacts) -> Part:
    t, silence = facts.transition, facts.hours("observed")
    title = both(
        "{noun} {id} silent for {silence}", "{noun} {id} 已 {silence}无数据", noun=facts.noun, id=facts.id, silence=silence
    )
    observed = both(
        "{thing} has sent nothing for {silence}.", "{thing} 已 {silence}无数据。", thing=facts.thing, silence=silence
    )
    if facts.is_over:
        again = {"noun": facts.noun, "id": facts.id, "silence": silence}
        title = both("{noun} {id} reports again after {silence} of silence", "{noun} {id} 中断 {silence}后恢复上报", **again)
        observed = both(
            "{thing} reports again, after {silence} of silence.",
            "{thing} 中断 {silence}后恢复上报。",
            thing=facts.thing,
            silence=silence,
        )
    usual = float(t["expected"])
    why = [both("This is much longer than it was ever silent before.", "中断时间远超以往。")]
    if not np.isnan(t["upper"]) and t["upper"] > 0.0:
        why = [
            both(
                "Given its past, breaks of up to {allowed} are not reported.",
                "按其以往情况，{allowed}以内的中断不会报警。",
                allowed=facts.hours("upper"),
            )
        ]
    is_pressure = facts.scope.type == "logger"
    why_not = (
        [] if is_pressure else [both("Not a stop of the flow: it would then report zero.", "不是断流：断流时仍会上报零值。")]
    )
    if t["nights_gone"] > 1:
        why_not.append(
            both(
                "Not a common failure: most other meters did not fall silent with it.",
                "不是共同故障：其他仪表大多没有同时中断。",
            )
        )
    return Part(
        title=title,
        reasons=["reports_again"] if facts.is_over else ["silent"],
        severity="low" if is_pressure else "medium",
        metric="silence",
        unit="h",
        confidence=0.99,
        observed=observed,
        expected=both("Its usual breaks last {usual} at most.", "平时中断最长约 {usual}。", usual=facts.hours("expected"))
        if usual > 0.0
        else both("Usually it has no breaks.", "平时没有中断。"),
        why=why,
        why_not=why_not,
        check_first=_BREAK_CHECKS,
        is_blind=not is_pressure,
    )


def stuck(facts: MeterFacts) -> Part:
    """The same value again and again."""
    value = f"{float(facts.transition['observed']):,.2f} m³/h"
    title = both("Meter {id} is stuck at {value}", "流量计 {id} 读数停在 {value}", id=facts.id, value=value)
    observed = both(
        "{thing} has sent the same value for {run}: {value}.",
        "{thing} 已连续 {run}上报同一数值：{value}。",
        thing=facts.thing,
        run=length(facts.run_ms),
        value=value,
    )
    why = both(
        "Not even the last digit has changed for {run}, longer than it ever stayed the same.",
        "已连续 {run}末位数字都未变化，时长超过以往。",
        run=length(facts.run_ms),
    )
    if facts.is_over:
        title = both("Meter {id} measures again", "流量计 {id} 恢复正常", id=facts.id)
        observed = both("{thing} measures again: {value}.", "{thing} 恢复正常：{value}。", thing=facts.thing, value=value)
        why = both("For {lasted} it sent one and the same value.", "此前连续 {lasted}上报同一数值。", lasted=facts.lasted)
    return Part(
        title=title,
        reasons=["values_vary_again"] if facts.is_over else ["flat_line"],
        severity="medium",
        observed=observed,
        expected=both("A working meter changes from reading to reading.", "正常情况下每次读数都会有变化。"),
        why=[why],
        why_not=[]
        if facts.is_over
        else [
            both("Not a gap in the data: readings still come in.", "不是数据中断：读数仍在上报。"),
            both(
                "Not steady use: even the quietest night changes the last digits.",
                "不是用水平稳：再平稳的夜间末位数字也会变化。",
            ),
        ],
        check_first=[
            both("Compare the display on site with what arrives.", "到现场核对示数与上报值是否一致。"),
            both(
                "Check pulse cable, converter and logger; restart the logger.", "检查脉冲线、转换器和记录仪，并重启记录仪。"
            ),
        ],
        is_blind=True,
    )


def spiking(facts: MeterFacts) -> Part:
    """Values that jump and come straight back."""
    count, usual = f"{float(facts.transition['observed']):,.0f}", float(facts.transition["expected"])
    title = both(
        "{noun} {id} spikes: {count} wild values in a day",
        "{noun} {id} 跳变：一天内 {count} 个异常值",
        noun=facts.noun,
        id=facts.id,
        count=count,
    )
    observed = both(
        "{thing} sent {count} wild values within a day.",
        "{thing} 一天内上报 {count} 个异常跳变值。",
        thing=facts.thing,
        count=count,
    )
    if facts.is_over:
        title = both("{noun} {id} has stopped spiking", "{noun} {id} 不再跳变", noun=facts.noun, id=facts.id)
        observed = both("{thing} sends no more wild values.", "{thing} 不再上报异常跳变值。", thing=facts.thing)
    expected = both("Usually it sends hardly any.", "平时几乎没有。")
    if usual >= 0.05:
        expected = both("Usually there are {usual} a day.", "平时每天 {usual} 个。", usual=number(usual))
    return Part(
        title=title,
        reasons=["spikes_gone"] if facts.is_over else ["spikes"],
        severity="low",
        metric="spikes",
        unit="1/d",
        confidence=0.9,
        observed=observed,
        expected=expected,
        why=[both("They jump far out of its range and come straight back.", "数值突然跳出正常范围，随即恢复。")],
        why_not=[
            both("Not a burst: what a burst changes does not come straight back.", "不是爆管：爆管引起的变化不会立即恢复。")
        ],
        check_first=[
            both(
                "Check cable, plugs and earthing, and what disturbs it nearby (pumps, inverters).",
                "检查信号线、接头和接地，以及附近的干扰源（水泵、变频器）。",
            ),
            both(
                "Until it is mended its wild values are left out; all others count.",
                "修复之前，异常值不参与计算，其余数据照常使用。",
            ),
        ],
    )


def clock(facts: MeterFacts) -> Part:
    """Times of readings that are hours off."""
    off_min = float(facts.transition["observed"])
    minutes = f"{abs(off_min):,.0f}"
    is_ahead = off_min > 0
    noun = Sentence(en=facts.noun.en.lower(), zh=facts.noun.zh)
    whose = both("Clock of {noun} {id}", "{noun} {id} 时钟", noun=noun, id=facts.id)
    if is_ahead:
        title = both("{whose} is about {minutes} min ahead", "{whose}约快 {minutes} 分钟", whose=whose, minutes=minutes)
    else:
        title = both("{whose} is about {minutes} min behind", "{whose}约慢 {minutes} 分钟", whose=whose, minutes=minutes)
    observed, reason = both("{title}.", "{title}。", title=title), "clock_shifted"
    if facts.is_over:
        title, reason = both("{whose} is right again", "{whose}恢复正常", whose=whose), "clock_right"
        observed = both("{title}.", "{title}。", title=title)
    elif facts.is_accepted:
        title, reason = both("{whose} is taken as it is", "{whose}偏差已视为常态", whose=whose), "accepted_as_normal"
    days = int(facts.transition["slots"])
    return Part(
        title=title,
        reasons=[reason],
        severity="low",
        metric="clock",
        unit="min",
        confidence=0.9,
        observed=observed,
        expected=both("Its peaks used to come at their usual hours.", "以往用水高峰出现在固定时段。"),
        why=[
            both(
                "For {days} its curve has fitted its usual workday only when moved by {minutes} min.",
                "连续 {n} 个工作日，曲线平移 {minutes} 分钟后才与平时吻合。",
                days=counted(days, "workday"),
                n=days,
                minutes=minutes,
            )
        ],
        why_not=[
            both(
                "Not a change of use: the shape of the day is the same, only displaced.",
                "不是用水变化：曲线形状未变，只是整体平移。",
            )
        ],
        check_first=[
            both("Compare clock and time zone of the logger with the true time.", "核对记录仪的时钟和时区。"),
            both(
                "After a change to or from summer time, see whether it was set twice or not at all.",
                "若刚经历夏令时切换，检查是否重复调整或漏调。",
            ),
        ],
    )


def customer(facts: MeterFacts) -> Part:
    """A house whose water no longer comes to rest."""
    t = facts.transition
    days, low = int(t["slots"]), household(float(t["observed"]))
    title = both(
        "Water runs without rest at customer meter {id}: at least {low} for {days}",
        "用户表 {id} 连续 {n} 天不间断用水：至少 {low}",
        id=facts.id,
        low=low,
        days=counted(days, "day"),
        n=days,
    )
    observed = both(
        "At customer meter {id} the flow has not fallen below {low} for {days}.",
        "用户表 {id} 连续 {n} 天流量未低于 {low}。",
        id=facts.id,
        low=low,
        days=counted(days, "day"),
        n=days,
    )
    if facts.is_over:
        title = both("Customer meter {id} comes to rest again", "用户表 {id} 恢复正常", id=facts.id)
        observed = both(
            "At customer meter {id} the water comes to rest again.", "用户表 {id} 又出现不用水的时段。", id=facts.id
        )
    return Part(
        title=title,
        reasons=["comes_to_rest"] if facts.is_over else ["never_at_rest"],
        severity="informational",
        confidence=0.8,
        observed=observed,
        expected=both("Before, the flow came to rest for some time on nearly every day.", "以往几乎每天都有不用水的时段。"),
        first_day=day(t["started_ms"], facts.site.timezone),
        water=both(
            "At least {low}: {daily} a day, {lost} so far.",
            "至少 {low}，折合每天 {daily}，至今累计 {lost}。",
            low=low,
            daily=volume(24.0 * float(t["observed"])),
            lost=volume(float(t["lost_m3"])),
        ),
        why=[
            both(
                "The smallest hourly flow of {days} was {low}.",
                "{n} 天中最小小时流量为 {low}。",
                days=counted(days, "day"),
                n=days,
                low=low,
            )
        ],
        why_not=[
            both(
                "Not a leak of the mains: the water runs behind the customer's meter.",
                "不是管网漏损：漏水点在用户表之后。",
            )
        ],
        check_first=[
            both(
                "Tell the customer: toilet cistern, float valve of a roof tank, or a pipe behind the meter.",
                "通知用户自查：马桶水箱、屋顶水箱浮球阀、表后管道。",
            ),
            both("Ask whether something there runs day and night on purpose.", "询问是否有设备需昼夜连续用水。"),
        ],
    )
