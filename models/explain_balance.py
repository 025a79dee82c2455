"""What customers' meters say of a leak, in words: English and Chinese from the same facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from models.detectors import BALANCE, BURST, FLOW_SHIFT, NIGHT_FLOW
from models.events import CLEARED, CLOSED, CORROBORATED, GONE, NIGHT_FLOW_LEAK
from models.phrases import both, counted, flow, number
from models.schema import Sentence


@dataclass(frozen=True)
class Metered:
    """What an alert of a leak says of the customers' meters."""

    title: Sentence | None = None
    """Where they alone tell of it, or tell that it is none."""
    is_alone: bool = False
    is_demand: bool = False
    speaks_for: list[Sentence] = field(default_factory=list)
    against: list[Sentence] = field(default_factory=list)


NONE: Final = both("none", "未计量到")
NEXT_TO_NOTHING: Final = 0.02  # of a leak: less is within what the meters resolve


def metered(transition: Any, dma: str) -> Metered:
    """What the balance has said of a leak's transition (an EVENT record) of `dma`."""
    days, left = int(transition["metered_days"]), float(transition["unmetered"])
    scores, excess = transition["scores"], float(transition["excess_m3h"])
    is_over = bool(transition["change"] in (CLEARED, CLOSED))
    others = max(scores[[BURST, FLOW_SHIFT, NIGHT_FLOW]])
    is_alone = bool(scores[BALANCE] >= CORROBORATED > others and transition["logger"] < 0)
    speaks_for: list[Sentence] = []
    against: list[Sentence] = []
    if days:
        rate = excess * (float(transition["ndf_h"]) / 24.0 if transition["type"] == NIGHT_FLOW_LEAK else 1.0)
        share = min(max(1.0 - left, 0.0), 1.0)
        shown = both(
            "Customers' meters show {shown} of the {rate} ({days}).",
            "多出的 {rate} 中，用户表{shown}（{n} 天）。",
            shown=both("{shown}", "计量到 {shown}", shown=number(share * rate)) if share >= NEXT_TO_NOTHING else NONE,
            rate=flow(rate),
            days=counted(days, "day"),
            n=days,
        )
        (speaks_for if left >= GONE else against).append(shown)
    elif scores[BALANCE] >= CORROBORATED:
        speaks_for.append(
            both("The DMA takes more than its customers' meters show.", "供水量高于区内用户表计量水量，差值超出平时。")
        )
    is_demand = bool(transition["change"] == CLEARED and days and left < GONE)
    title = None
    if is_demand:
        title = both(
            "{excess} more in {dma} is used by customers, as their meters show: no leak",
            "{dma} 多出的 {excess} 为用户用水（用户表已计量）：非漏损",
            excess=flow(excess),
            dma=dma,
        )
    elif is_alone and not is_over:
        title = both(
            "{dma} takes {excess} more than customers' meters show: likely leak",
            "{dma} 供水量比用户表计量多出 {excess}：疑似漏损",
            excess=flow(excess),
            dma=dma,
        )
    return Metered(title, is_alone, is_demand, speaks_for, against)
