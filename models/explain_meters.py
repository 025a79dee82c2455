"""What is said of a meter's event: words, severity and metric, in English and Chinese from the same facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from models.events import (
    CLEARED,
    CLOCK_SHIFTED,
    CLOSED,
    CUSTOMER_LEAK,
    DATA_GAP,
    DEAD_METER,
    DRIFTING,
    INTERRUPTED,
    REROUTED,
    REVERSE_FLOW,
    SPIKING,
    STUCK,
    UNKNOWN,
    ZERO_FLOW,
)  # fmt: skip
from models.schema import Scope, Severity, Title

KPA_PER_M: Final = 9.80665
NO_FLOW: Final = {
    UNKNOWN: ("no_flow", "medium", "supply interrupted or meter dead", "停水或流量计故障"),
    REROUTED: ("flow_taken_over", "low", "others feed the DMA, a valve may be closed", "由其他进水口供水，可能阀门关闭"),
    DEAD_METER: ("pressure_unchanged", "medium", "pressure stays, the meter may be dead", "压力无变化，流量计可能故障"),
    INTERRUPTED: ("pressure_fell", "high", "pressure fell too, supply may be interrupted", "压力同时下降，可能停水"),
}
"""By cause: reason, severity, what it means in English and in Chinese."""


@dataclass(frozen=True)
class Facts:
    """All that an alert of a meter's event says beside its ids and times."""

    title: Title
    reasons: list[str]
    severity: Severity
    metric: str = "flow"
    unit: str = "m3/h"
    confidence: float = 0.95
    speaks_for: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)


def facts(transition: Any, scope: Scope, dma: str) -> Facts:
    """What to say of one transition (an EVENT record) of a meter, or of all meters of a DMA."""
    kind, cause = transition["type"], transition["cause"]
    if kind == DATA_GAP:
        return _gap(transition, scope, dma)
    if kind == ZERO_FLOW:
        return _no_flow(transition, scope.id)
    if kind == REVERSE_FLOW:
        return _reverse_flow(transition, scope.id)
    if kind == CUSTOMER_LEAK:
        return _customer(transition, scope.id)
    return _SAID[int(cause)](transition, scope)


def _gap(transition: Any, scope: Scope, dma: str) -> Facts:
    hours, usual = float(transition["observed"]), float(transition["expected"])
    count, known = int(transition["slots"]), int(transition["nights_gone"])
    over = transition["change"] == CLEARED
    if scope.type == "dma":
        title = Title(
            en=f"{dma}: {count} of {known} meters silent for {hours:.1f} h: not watched",
            zh=f"{dma}：{known} 个仪表中有 {count} 个已 {hours:.1f} 小时无数据，无法监测",
        )
        if over:
            title = Title(
                en=f"{dma} reports again after {hours:.1f} h of silence", zh=f"{dma} 中断 {hours:.1f} 小时后恢复上报"
            )
        speaks_for = [f"{count} of {known} meters fell silent within an hour: the cause is likely common"]
        severity: Severity = "high"
    else:
        noun, word = ("Logger", "压力记录仪") if scope.type == "logger" else ("Meter", "流量计")
        title = Title(en=f"{noun} {scope.id} silent for {hours:.1f} h", zh=f"{word} {scope.id} 已 {hours:.1f} 小时无数据")
        if over:
            title = Title(
                en=f"{noun} {scope.id} reports again after {hours:.1f} h of silence",
                zh=f"{word} {scope.id} 中断 {hours:.1f} 小时后恢复上报",
            )
        speaks_for = [f"longest usual silence {usual:.1f} h"]
        severity = "low" if scope.type == "logger" else "medium"
    return Facts(
        title=title,
        reasons=["reports_again"] if over else ["all_silent"] if scope.type == "dma" else ["silent"],
        severity=severity,
        metric="silence",
        unit="h",
        confidence=0.99,
        speaks_for=speaks_for,
    )


def _no_flow(transition: Any, meter: str) -> Facts:
    reason, severity, meaning, meaning_zh = NO_FLOW[int(transition["cause"])]
    usual = f"{float(transition['expected']):.2f} m³/h"
    title = Title(en=f"No flow at {meter} (usually {usual}): {meaning}", zh=f"{meter} 无流量（平时 {usual}）：{meaning_zh}")
    reasons = ["no_flow"] + [reason] * (reason != "no_flow")
    return _flow_facts(transition, meter, title, reasons, severity, f"no flow in {int(transition['slots'])} slots in a row")


def _reverse_flow(transition: Any, meter: str) -> Facts:
    now = f"{abs(float(transition['observed'])):.2f} m³/h"
    title = Title(en=f"Flow at {meter} has reversed: {now} backwards", zh=f"{meter} 出现反向流量：{now}")
    words = f"reversed in {int(transition['slots'])} slots in a row"
    return _flow_facts(transition, meter, title, ["reverse_flow"], "medium", words)


def _flow_facts(transition: Any, meter: str, title: Title, reasons: list[str], severity: Any, words: str) -> Facts:
    change = transition["change"]
    if change == CLEARED:
        now = f"{float(transition['observed']):.2f} m³/h"
        title, reasons = Title(en=f"Flow at {meter} is {now} again", zh=f"{meter} 流量恢复为 {now}"), ["flow_as_usual"]
    elif change == CLOSED:
        title = Title(en=f"The flow of {meter} is taken as the new normal", zh=f"{meter} 的流量已视为新的常态")
        reasons = ["accepted_as_normal"]
    return Facts(title=title, reasons=reasons, severity=severity, confidence=0.9, speaks_for=[words])


def _stuck(transition: Any, scope: Scope) -> Facts:
    value = f"{float(transition['observed']):.2f} m³/h"
    title = Title(en=f"Meter {scope.id} is stuck at {value}", zh=f"流量计 {scope.id} 读数停在 {value}")
    if transition["change"] == CLEARED:
        title = Title(en=f"Meter {scope.id} measures again", zh=f"流量计 {scope.id} 恢复正常")
    return Facts(
        title=title,
        reasons=["values_vary_again"] if transition["change"] == CLEARED else ["flat_line"],
        severity="medium",
        speaks_for=[f"the same value in {int(transition['slots'])} slots in a row"],
    )


def _spiking(transition: Any, scope: Scope) -> Facts:
    noun, word = ("Logger", "压力记录仪") if scope.type == "logger" else ("Meter", "流量计")
    count = f"{float(transition['observed']):.0f}"
    title = Title(
        en=f"{noun} {scope.id} spikes: {count} wild values in a day", zh=f"{word} {scope.id} 跳变：一天内 {count} 个异常值"
    )
    if transition["change"] == CLEARED:
        title = Title(en=f"{noun} {scope.id} has stopped spiking", zh=f"{word} {scope.id} 不再跳变")
    usual = float(transition["expected"])
    return Facts(
        title=title,
        reasons=["spikes_gone"] if transition["change"] == CLEARED else ["spikes"],
        severity="low",
        metric="spikes",
        unit="1/d",
        confidence=0.9,
        speaks_for=[f"{count} values in a day that jump and come straight back, usually {usual:.1f}"],
    )


def _clock(transition: Any, scope: Scope) -> Facts:
    noun, word = ("logger", "压力记录仪") if scope.type == "logger" else ("meter", "流量计")
    whose, whose_zh = f"Clock of {noun} {scope.id}", f"{word} {scope.id} 时钟"
    minutes = f"{abs(float(transition['observed'])):.0f}"
    off, off_zh = ("ahead", "快") if transition["observed"] > 0 else ("behind", "慢")
    title, reason = (
        Title(en=f"{whose} is about {minutes} min {off}", zh=f"{whose_zh}约{off_zh} {minutes} 分钟"),
        "clock_shifted",
    )
    if transition["change"] == CLEARED:
        title, reason = Title(en=f"{whose} is right again", zh=f"{whose_zh}恢复正常"), "clock_right"
    elif transition["change"] == CLOSED:
        title, reason = Title(en=f"{whose} is taken as it is", zh=f"{whose_zh}偏差已视为常态"), "accepted_as_normal"
    days = int(transition["slots"])
    return Facts(
        title=title,
        reasons=[reason],
        severity="low",
        metric="clock",
        unit="min",
        confidence=0.9,
        speaks_for=[f"{days} workdays in a row look as usual only when moved by {minutes} min"],
    )


def _customer(transition: Any, meter: str) -> Facts:
    days, low = int(transition["slots"]), f"{1000.0 * float(transition['observed']):.1f} L/h"
    title = Title(
        en=f"Water runs without rest at customer meter {meter}: at least {low} for {days} days",
        zh=f"用户表 {meter} 连续 {days} 天不间断用水：至少 {low}",
    )
    over = transition["change"] == CLEARED
    if over:
        title = Title(en=f"Customer meter {meter} comes to rest again", zh=f"用户表 {meter} 恢复正常")
    return Facts(
        title=title,
        reasons=["comes_to_rest"] if over else ["never_at_rest"],
        severity="informational",
        confidence=0.8,
        speaks_for=[f"the smallest hourly flow of {days} days was {low}, where the house used to come to rest"],
    )


def _drifting(transition: Any, scope: Scope) -> Facts:
    shift_m, days = float(transition["observed"]) / KPA_PER_M, int(transition["slots"])
    more, more_zh = ("higher", "偏高") if shift_m > 0 else ("lower", "偏低")
    title = Title(
        en=f"Logger {scope.id} drifts: {abs(shift_m):.2f} m {more} than its neighbours say",
        zh=f"压力记录仪 {scope.id} 漂移：比相邻测点推算值{more_zh} {abs(shift_m):.2f} m",
    )
    reason = "drifting"
    if transition["change"] == CLOSED:
        title = Title(en=f"Logger {scope.id} is taken as it is", zh=f"压力记录仪 {scope.id} 偏差已视为常态")
        reason = "accepted_as_normal"
    return Facts(
        title=title,
        reasons=[reason],
        severity="low",
        metric="pressure",
        unit="kPa",
        confidence=0.9,
        speaks_for=[f"no other logger has moved with it in {days} days: a leak would have moved several"],
    )


_SAID: Final = {CLOCK_SHIFTED: _clock, DRIFTING: _drifting, STUCK: _stuck, SPIKING: _spiking, UNKNOWN: _stuck}
"""How each kind of meter_fault is told; the cause of faults raised before causes were kept is a flat line."""
