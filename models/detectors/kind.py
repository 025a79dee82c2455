"""What every detector says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detector:
    """Name, and the daily maxima of its statistic expected before the DMA's own past is known."""

    name: str
    prior_mean: float
    prior_sd: float
