"""What later days say of a forest's score: the threshold that the alert budget allows, and whether it holds afterwards.

The engine calibrates the score in each DMA on that DMA's own past (`models.calibration`); the forest never raises an alert
alone. What is found here is the same law on the same statistic, on days that the forest was not fitted on: what the engine
begins with when the model comes (`models.relearn`), figures for the card, and the measure for the search of settings.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bundle import ScoreCalibration
from models.calibration import threshold
from models.detectors import ISOLATION
from models.detectors.isolation import MIN_MEAN_Z
from models.features import FEATURES
from models.state import no_past
from training.labels import HOUR_MS
from training.local_time import LocalTime

DAY_MS: Final = 24 * HOUR_MS
MIN_DAYS: Final = 7
"""Fewer say nothing of how far a daily maximum goes."""
MIN_SHARE: Final = 0.5
"""Of a day's slots: a maximum over fewer is no day's."""
_HOUR_MEAN: Final = FEATURES.index("flow_z_mean_1h")


def statistic(
    scores: NDArray[np.float64], features: NDArray[np.float32], ends_ms: NDArray[np.int64], slot_ms: int
) -> NDArray[np.float64]:
    """(n,) as `models.detectors.isolation.update` has it: scores averaged over about an hour, NaN without an excess of flow.

    After a gap of rows the mean begins anew.
    """
    gain = min(1.0, slot_ms / HOUR_MS)
    fresh = np.diff(ends_ms, prepend=ends_ms[:1] - 2 * slot_ms) != slot_ms
    smooth, mean = [], 0.0
    for now, begins in zip(scores.tolist(), fresh.tolist(), strict=True):
        mean = now if begins else mean + gain * (now - mean)
        smooth.append(mean)
    return np.where(features[:, _HOUR_MEAN] < MIN_MEAN_Z, np.nan, np.array(smooth, np.float64))


def daily_maxima(
    values: NDArray[np.float64], ends_ms: NDArray[np.int64], slot_ms: int, timezone: str
) -> NDArray[np.float64]:
    """(days,) largest value of each local day that has at least half of its slots; NaN where none has a value."""
    if not len(values):
        return np.zeros(0)
    days = LocalTime(timezone).ms(ends_ms - slot_ms).astype(np.int64) // DAY_MS
    _, starts, sizes = np.unique(days, return_index=True, return_counts=True)
    return np.fmax.reduceat(values, starts)[sizes >= MIN_SHARE * DAY_MS / slot_ms]


def level(mean: float, sd: float, return_days: float) -> float:
    """The engine's threshold for such daily maxima, passed once in `return_days`."""
    calibration = no_past()[ISOLATION].copy()
    calibration["mean"], calibration["variance"] = mean, sd * sd
    return float(threshold.py_func(calibration, return_days))  # one call: compiling it would take seconds


def calibrated(maxima: NDArray[np.float64], later: NDArray[np.float64], return_days: float) -> ScoreCalibration | None:
    """From daily maxima of the period `calibrate`, and `later` of `report`; None of fewer than MIN_DAYS with an excess.

    A day without an excess of flow says nothing, as in the engine.
    """
    maxima = maxima[np.isfinite(maxima)]
    if len(maxima) < MIN_DAYS:
        return None
    mean, sd = float(maxima.mean()), float(maxima.std())
    limit = level(mean, sd, return_days)
    return ScoreCalibration(
        mean=mean, sd=sd, days=len(maxima), return_days=return_days, threshold=limit,
        report_days=len(later), report_alarms=int((later > limit).sum()),
    )  # fmt: skip


def alarms_at(calibration: ScoreCalibration, later: NDArray[np.float64], return_days: float) -> int:
    """Days of `later` above the threshold that another budget would have."""
    return int((later > level(calibration.mean, calibration.sd, return_days)).sum())
