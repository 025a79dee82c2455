"""Detectors: each turns one closed slot into a statistic >= 0; calibration turns that into a score, events decide.

Every detector file holds a `DETECTOR` (its name and cautious prior) and one njit `update(state, params, slot…)` that gives
the statistic, and of some also what it speaks of. Their order here is the order of the scores in a detection.
"""

from __future__ import annotations

from typing import Final

from models.detectors.balance import DETECTOR as BALANCE_DETECTOR
from models.detectors.burst import DETECTOR as BURST_DETECTOR
from models.detectors.flow_shift import DETECTOR as FLOW_SHIFT_DETECTOR
from models.detectors.isolation import DETECTOR as ISOLATION_DETECTOR
from models.detectors.kind import Detector
from models.detectors.night_flow import DETECTOR as NIGHT_FLOW_DETECTOR
from models.detectors.pressure_step import DETECTOR as PRESSURE_STEP_DETECTOR
from models.detectors.pressure_trend import DETECTOR as PRESSURE_TREND_DETECTOR
from models.numbers import numbered

DETECTORS: Final[tuple[Detector, ...]] = (
    NIGHT_FLOW_DETECTOR,
    BURST_DETECTOR,
    ISOLATION_DETECTOR,
    PRESSURE_STEP_DETECTOR,
    PRESSURE_TREND_DETECTOR,
    FLOW_SHIFT_DETECTOR,
    BALANCE_DETECTOR,
)
NIGHT_FLOW, BURST, ISOLATION, PRESSURE_STEP, PRESSURE_TREND, FLOW_SHIFT, BALANCE = numbered(len(DETECTORS))
