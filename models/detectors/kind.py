"""What every detector says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detector:
    """Name, the daily maxima of its statistic expected before the DMA's own past is known, and how long a day waits until
    it is past."""

    name: str
    prior_mean: float
    prior_sd: float
    quarantine_days: int = 7
    long_tail: bool = False  # of the law of these maxima, see `calibration.py`
    share: float = 1.0
    """Of the alert budget, where an equal part is 1: of a detector whose alarms another one mostly raises too, more."""
    raises_alone: bool = True  # an event; one that does not needs none of the alert budget
