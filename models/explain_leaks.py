"""A burst, a night-flow leak or a boundary valve explained: what was seen, what is normal, since when, how much water.

One `LeakFacts` holds all that is known of a transition; every sentence, here and in `explain_why.py` and
`explain_checks.py`, is made of it, for both languages at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.detectors import BURST, FLOW_SHIFT, NIGHT_FLOW
from models.events import BOUNDARY_VALVE, CLEARED, CLOSED, CORROBORATED, NIGHT_FLOW_LEAK, RAISED, is_back
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
    moment,
    named,
    nights,
    number,
    volume,
)
from models.schema import NEVER, Estimate, Sentence

if TYPE_CHECKING:
    from models.explain_pressure import Fall
    from models.network import Meter, Site
    from models.planned import PlannedWork

PRESSURE_SPEAKS_Z: Final = 1.0  # mean residual of the loggers that counts as a word for or against
LEAST_RATE_M3H: Final = 1e-3  # less is no size: pressures may tell of a leak before the inflow does


@dataclass(frozen=True)
class LeakFacts:
    """What is known of one transition (an EVENT record) of a leak."""

    transition: Any
    site: Site
    dma: str
    own: tuple[Meter, ...]
    """The meters of this DMA alone, customers' left out."""
    neighbour: str | None
    """Of a boundary valve: the DMA that lost what this one gained."""
    fall: Fall | None
    """What pressure loggers showed."""
    work: PlannedWork | None
    estimate: Estimate
    silent: frozenset[int]
    """Detectors that can say nothing here: without a model, or with too few loggers."""

    @property
    def kind(self) -> int:
        """Its type, index into events.EVENT_TYPES."""
        return int(self.transition["type"])

    @property
    def change(self) -> int:
        """Index into events.CHANGES."""
        return int(self.transition["change"])

    @property
    def place(self) -> Sentence:
        """The DMA by name and id."""
        return named(self.dma, self.site.dmas[self.site.dma_row[self.dma]].name)

    @property
    def flow_meters(self) -> list[str]:
        """Ids of the flow meters at its borders."""
        return [meter.id for meter in self.own if meter.kind == "flow"]

    @property
    def levels(self) -> list[str]:
        """Ids of the level gauges of its tanks."""
        return [meter.id for meter in self.own if meter.kind == "level"]

    @property
    def loggers(self) -> list[str]:
        """Ids of the pressure loggers."""
        return [meter.id for meter in self.own if meter.kind == "pressure"]

    @property
    def is_pressure_only(self) -> bool:
        """Whether pressures alone have shown it so far."""
        return self.fall is not None and self.fall.is_alone

    @property
    def pressure_word(self) -> int:
        """-1: the loggers' mean fell, as in a burst; +1: it rose; 0: it says nothing."""
        return pressure_word(self.transition)

    @property
    def is_pressure_unmoved(self) -> bool:
        """Whether there is a word of the loggers, and it is that nothing has changed."""
        return self.fall is None and self.pressure_word == 0 and not np.isnan(self.transition["pressure_z"])

    @property
    def flow_score(self) -> float:
        """The stronger score of the two detectors that look at the inflow slot by slot."""
        return float(max(self.transition["scores"][BURST], self.transition["scores"][FLOW_SHIFT]))

    @property
    def night_score(self) -> float:
        """Score of the nights."""
        return float(self.transition["scores"][NIGHT_FLOW])

    @property
    def came_ms(self) -> int:
        """From its start to its detection."""
        return int(self.transition["detected_ms"] - self.transition["started_ms"])

    @property
    def lasted_ms(self) -> int:
        """From its start to its end, or to this revision."""
        end_ms = self.transition["updated_ms"] if self.transition["ended_ms"] == NEVER else self.transition["ended_ms"]
        return int(end_ms - self.transition["started_ms"])

    @property
    def nights(self) -> int:
        """Whole nights that it has lasted."""
        begin_ms, site = int(self.transition["started_ms"]), self.site
        return nights(begin_ms, begin_ms + self.lasted_ms, site.timezone, site.night_start_min, site.night_end_min)

    def when(self, name: str) -> str:
        """A time of the transition as local time."""
        return moment(self.transition[name], self.site.timezone)


def pressure_word(transition: Any) -> int:
    """-1: the loggers' mean fell, as in a burst; +1: it rose; 0: it says nothing."""
    z = float(transition["pressure_z"])
    return 0 if np.isnan(z) or abs(z) < PRESSURE_SPEAKS_Z else int(np.sign(z))


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
    value = flow(float(t["observed"]))
    if t["noted_ms"] == NEVER:
        return both("Flow into {place} was {value}.", "{place} 进水流量为 {value}。", place=place, value=value)
    if t["at_night"]:
        window = f"{clock(facts.site.night_start_min)}–{clock(facts.site.night_end_min)}"
        return both(
            "The minimum night flow of {place} was {value} in the night of {date} ({window}).",
            "{date} 凌晨（{window}）{place} 夜间最小流量为 {value}。",
            place=place,
            value=value,
            date=day(t["noted_ms"], facts.site.timezone),
            window=window,
        )
    then = {"place": place, "value": value, "time": facts.when("noted_ms")}
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
    if t["at_night"]:
        what = both("such a night", "该夜间")
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
    if is_back(facts.transition):
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


def share_of_mean(facts: LeakFacts) -> str | None:
    """The excess in per cent of the DMA's mean inflow; None where that is not known."""
    mean = float(facts.transition["mean_m3h"])
    excess = facts.estimate.excess_flow
    if not mean > 0.0 or not excess > 0.0:
        return None
    return f"{max(100.0 * excess / mean, 1.0):,.0f}"


def is_confirmed(score: float) -> bool:
    """Whether a detector has at least seconded it."""
    return score >= CORROBORATED
