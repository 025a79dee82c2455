"""What pressure loggers have shown of a leak, in words: English and Chinese from the same facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from models.detectors import BURST, FLOW_SHIFT, NIGHT_FLOW
from models.events import CLEARED, CLOSED, CORROBORATED, NIGHT_FLOW_LEAK, is_reopened
from models.phrases import both, moment, number
from models.schema import Sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.network import Meter, Site

KPA_PER_M: Final = 9.80665


@dataclass(frozen=True)
class Fall:
    """What an alert of a leak says of the loggers that showed it."""

    loggers: list[str]
    """Ids, the most affected first."""
    fall_m: float
    """How far the first stood below what the others say, metres of water."""
    size: Sentence
    """The same in words."""
    is_alone: bool
    """Whether the flow has not confirmed it."""
    title: Sentence
    """For a leak that pressures alone show."""
    speaks_for: list[Sentence]


def fall(transition: Any, site: Site, dma: str, meters: Sequence[Meter]) -> Fall | None:
    """What loggers showed of a leak's transition (an EVENT record); None where none did."""
    if transition["logger"] < 0:
        return None
    names = [meter.id for meter in meters if meter.kind == "pressure" and meter.dma == dma]
    loggers = [names[int(transition[name])] for name in ("logger", "second_logger") if transition[name] >= 0]
    since, fall_m = moment(transition["fall_ms"], site.timezone), abs(float(transition["fall_kpa"])) / KPA_PER_M
    size = both("{fall} m", "{fall} m 水柱", fall=f"{fall_m:.2f}" if fall_m >= 0.01 else number(fall_m))
    said = [
        both(
            "Pressure at {logger} has stood {fall} lower than the other loggers suggest since {since}.",
            "压力测点 {logger} 自 {since} 起比按其他测点推算的值低 {fall}。",
            logger=loggers[0], fall=size, since=since,
        )
    ]  # fmt: skip
    said += [
        both("Pressure at {second} fell with it.", "压力测点 {second} 同时下降。", second=second) for second in loggers[1:]
    ]
    return Fall(
        loggers=loggers,
        fall_m=fall_m,
        size=size,
        is_alone=bool(max(transition["scores"][[BURST, FLOW_SHIFT, NIGHT_FLOW]]) < CORROBORATED),
        title=_title(dma, transition, loggers[0], size, since),
        speaks_for=said,
    )


def _title(dma: str, transition: Any, logger: str, size: Sentence, since: str) -> Sentence:
    """One sentence in English and in Chinese."""
    facts = {"dma": dma, "logger": logger, "fall": size, "since": since.partition(" (")[0]}
    if transition["change"] == CLEARED:
        return both(
            "Pressure at {logger} in {dma} is back from {fall} too low",
            "{dma} 压力测点 {logger} 已恢复正常（此前偏低 {fall}）",
            **facts,
        )
    if transition["change"] == CLOSED:
        return both(
            "Pressure at {logger} in {dma}, {fall} lower, is taken as the new normal",
            "{dma} 压力测点 {logger} 偏低 {fall} 已视为新的常态",
            **facts,
        )
    likely = both("leak", "漏损") if transition["type"] == NIGHT_FLOW_LEAK else both("burst", "爆管")
    if is_reopened(transition):
        return both(
            "Pressure at {logger} in {dma} is {fall} lower than the others suggest again, since {since}: likely {likely}",
            "{dma} 压力测点 {logger} 自 {since} 起再次比其他测点推算值低 {fall}：疑似{likely}",
            **facts,
            likely=likely,
        )
    return both(
        "Pressure at {logger} in {dma} is {fall} lower than the other loggers suggest since {since}: likely {likely}",
        "{dma} 压力测点 {logger} 自 {since} 起比其他测点推算值低 {fall}：疑似{likely}",
        **facts,
        likely=likely,
    )
