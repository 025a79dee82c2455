"""What every detector says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GUMBEL: Final = 0
EXPONENTIAL: Final = 1


@dataclass(frozen=True, slots=True)
class Detector:
    """Name, and the daily maxima of its statistic expected before the DMA's own past is known."""

    name: str
    prior_mean: float
    prior_sd: float
    law: int = GUMBEL
    """Of the daily maxima (`models/calibration.py`)."""
