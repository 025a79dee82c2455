"""What pressure loggers have shown of a leak, in words: English and Chinese from the same facts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from models.detectors import BURST, FLOW_SHIFT, NIGHT_FLOW
from models.events import CLEARED, CLOSED, CORROBORATED, NIGHT_FLOW_LEAK, is_back
from models.schema import Title

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
    is_alone: bool
    """Whether the flow has not confirmed it."""
    title: Title
    """For a leak that pressures alone show."""
    speaks_for: list[str]


def fall(transition: Any, site: Site, dma: str, meters: Sequence[Meter]) -> Fall | None:
    """What loggers showed of a leak's transition (an EVENT record); None where none did."""
    if transition["logger"] < 0:
        return None
    names = [meter.id for meter in meters if meter.kind == "pressure" and meter.dma == dma]
    loggers = [names[int(transition[name])] for name in ("logger", "second_logger") if transition[name] >= 0]
    began = datetime.fromtimestamp(int(transition["fall_ms"]) / 1000, UTC).astimezone(ZoneInfo(site.timezone))
    since, fall_m = f"{began:%Y-%m-%d %H:%M}", abs(float(transition["fall_kpa"])) / KPA_PER_M
    return Fall(
        loggers=loggers,
        fall_m=fall_m,
        is_alone=bool(max(transition["scores"][[BURST, FLOW_SHIFT, NIGHT_FLOW]]) < CORROBORATED),
        title=_title(dma, transition, loggers[0], f"{fall_m:.2f} m", since),
        speaks_for=[
            f"pressure at {loggers[0]} is {fall_m:.2f} m below what its neighbours say since {since}",
            *(f"pressure at {second} fell with it" for second in loggers[1:]),
        ],
    )


def _title(dma: str, transition: Any, logger: str, fall_m: str, since: str) -> Title:
    """One sentence in English and in Chinese."""
    if transition["change"] == CLEARED:
        return Title(
            en=f"Pressure at {logger} in {dma} is back from {fall_m} below its neighbours",
            zh=f"{dma} 压力点 {logger} 已由低于相邻测点 {fall_m} 恢复正常",
        )
    if transition["change"] == CLOSED:
        return Title(
            en=f"Pressure at {logger} in {dma}, {fall_m} lower, is taken as the new normal",
            zh=f"{dma} 压力点 {logger} 偏低 {fall_m} 已视为新的常态",
        )
    en, zh = ("leak", "漏损") if transition["type"] == NIGHT_FLOW_LEAK else ("burst", "爆管")
    if is_back(transition):
        return Title(
            en=f"Pressure at {logger} in {dma} is {fall_m} below what its neighbours say again, since {since}: likely {en}",
            zh=f"{dma} 压力点 {logger} 自 {since} 起再次比相邻测点推算值低 {fall_m}：疑似{zh}",
        )
    return Title(
        en=f"Pressure at {logger} in {dma} is {fall_m} below what its neighbours say since {since}: likely {en}",
        zh=f"{dma} 压力点 {logger} 自 {since} 起比相邻测点推算值低 {fall_m}：疑似{zh}",
    )
