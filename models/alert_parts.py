"""What alerts of leaks and of meters have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.events import NIGHT_FLOW_LEAK
from models.schema import Estimate, Evidence, Explanation, Sentence, Severity
from models.sizes import Z_90

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


def estimate(site: Site, transition: Any, *, is_of_pressures: bool = False) -> Estimate:
    """Daily loss: a night rate times the night-day factor; a burst's rate is a mean over the day already.

    Of a leak that pressures alone have shown (`is_of_pressures`) the flow has not said yet how large it is.
    """
    excess = max(float(transition["excess_m3h"]), 0.0)
    hours = float(transition["ndf_h"]) if transition["type"] == NIGHT_FLOW_LEAK else 24.0
    lost = float(transition["lost_m3"])
    error = np.nan if is_of_pressures else Z_90 * float(transition["size_sd_m3h"])
    lower, upper = max(excess - error, 0.0) if error >= 0.0 else np.nan, excess + error
    return Estimate(
        excess_flow=round(excess, 3),
        unit="m3/h",
        loss_per_day=round(excess * hours, 1),
        lost_so_far=round(lost, 1),
        cost=None if site.cost_per_m3 is None else round(lost * site.cost_per_m3, 2),
        excess_flow_lower=rounded(lower),
        excess_flow_upper=rounded(upper),
        loss_per_day_lower=rounded(lower * hours, 1),
        loss_per_day_upper=rounded(upper * hours, 1),
    )
