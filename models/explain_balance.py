"""What customers' meters say of a leak, in words: English and Chinese from the same facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from models.detectors import BALANCE, BURST, FLOW_SHIFT, NIGHT_FLOW
from models.events import CLEARED, CLOSED, CORROBORATED, GONE, NIGHT_FLOW_LEAK
from models.schema import Title


@dataclass(frozen=True)
class Metered:
    """What an alert of a leak says of the customers' meters."""

    title: Title | None = None
    """Where they alone tell of it, or tell that it is none."""
    is_alone: bool = False
    is_demand: bool = False
    speaks_for: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)


NOTHING: Final = Metered()


def metered(transition: Any, dma: str) -> Metered:
    """What the balance has said of a leak's transition (an EVENT record)."""
    days, left = int(transition["metered_days"]), float(transition["unmetered"])
    scores, excess = transition["scores"], f"{float(transition['excess_m3h']):.1f} m³/h"
    is_of_night = transition["type"] == NIGHT_FLOW_LEAK
    rate = float(transition["excess_m3h"]) * (float(transition["ndf_h"]) / 24.0 if is_of_night else 1.0)
    others = max(scores[[BURST, FLOW_SHIFT, NIGHT_FLOW]])
    is_alone = bool(scores[BALANCE] >= CORROBORATED > others and transition["logger"] < 0)
    speaks_for: list[str] = []
    against: list[str] = []
    if days:
        spell = "a day" if days == 1 else f"{days} days"
        shown = min(max(1.0 - left, 0.0), 1.0) * rate
        text = f"customers' meters show {shown:.1f} of {rate:.1f} m³/h ({spell})"
        (speaks_for if left >= GONE else against).append(text)
    found_demand = bool(transition["change"] == CLEARED and days and left < GONE)
    title = None
    if found_demand:
        title = Title(
            en=f"{excess} more in {dma} is used by customers, as their meters show: no leak",
            zh=f"{dma} 多出的 {excess} 为用户用水（用户表已计量）：非漏损",
        )
    elif is_alone and transition["change"] not in (CLEARED, CLOSED):
        title = Title(
            en=f"{dma} takes {excess} more than customers' meters show: likely leak",
            zh=f"{dma} 供水量比用户表计量多出 {excess}：疑似漏损",
        )
    return Metered(title, is_alone, found_demand, speaks_for, against)
