"""What alerts of leaks and of meters have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.events import NIGHT_FLOW_LEAK
from models.schema import Estimate, Evidence, Explanation, Sentence, Severity

if TYPE_CHECKING:
    from models.network import Site


@dataclass(frozen=True)
class Said:
    """All that an alert says beside its ids and times, planned work not yet in its title, reasons and confidence."""

    title: Sentence
    reasons: list[str]
    """Machine-readable, most important first."""
    severity: Severity
    confidence: float
    evidence: Evidence
    estimate: Estimate | None
    explanation: Explanation


def rounded(value: Any, digits: int = 3) -> float | None:
    """None where it is missing."""
    return None if np.isnan(value) else round(float(value), digits)


def estimate(site: Site, transition: Any) -> Estimate:
    """Daily loss: a night rate times the night-day factor; a burst's rate is a mean over the day already."""
    excess = max(float(transition["excess_m3h"]), 0.0)
    hours = float(transition["ndf_h"]) if transition["type"] == NIGHT_FLOW_LEAK else 24.0
    lost = float(transition["lost_m3"])
    return Estimate(
        excess_flow=round(excess, 3),
        unit="m3/h",
        loss_per_day=round(excess * hours, 1),
        lost_so_far=round(lost, 1),
        cost=None if site.cost_per_m3 is None else round(lost * site.cost_per_m3, 2),
    )
