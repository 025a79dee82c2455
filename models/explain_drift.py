"""What is said of a pressure logger that drifts away from all others."""

from __future__ import annotations

from typing import Final

from models.meter_facts import MeterFacts, Part
from models.phrases import both, counted

KPA_PER_M: Final = 9.80665


def drifting(facts: MeterFacts) -> Part:
    """A logger that moves alone, slowly."""
    t = facts.transition
    shift_m, days = float(t["observed"]) / KPA_PER_M, int(t["slots"])
    more = both("higher", "偏高") if shift_m > 0 else both("lower", "偏低")
    said = {"id": facts.id, "shift": f"{abs(shift_m):.2f} m", "more": more}
    title, reason = (
        both(
            "Logger {id} drifts: {shift} {more} than the other loggers suggest",
            "压力记录仪 {id} 漂移：比其他测点推算值{more} {shift}",
            **said,
        ),
        "drifting",
    )
    if facts.is_accepted:
        title, reason = both("Logger {id} is taken as it is", "压力记录仪 {id} 偏差已视为常态", **said), "accepted_as_normal"
    return Part(
        title=title,
        reasons=[reason],
        severity="low",
        metric="pressure",
        unit="kPa",
        confidence=0.9,
        observed=both(
            "Pressure at {id} is {shift} {more} than the other loggers suggest.",
            "压力测点 {id} 比按其他测点推算的值{more} {shift}。",
            **said,
        ),
        expected=both("Normally it rises and falls with the other loggers.", "正常情况下该测点与其他测点同升同降。"),
        why=[
            both(
                "It has moved away slowly, over {days}, and no other logger has moved with it.",
                "{n} 天内缓慢偏离，其他测点均未随之变化。",
                days=counted(days, "day"),
                n=days,
            )
        ],
        why_not=[both("Not a leak: that would have moved several loggers.", "不像漏损：漏损会使多个测点同时变化。")],
        check_first=[
            both(
                "Compare it with a reference gauge on site, and recalibrate or replace it.",
                "到现场与标准压力表比对，校准或更换。",
            ),
            both("Check whether it was moved, or its elevation entered anew.", "核实是否移位，或高程设置是否改动。"),
        ],
    )
