"""Calibrations learned again: from what a past brought day by day, as the engine has learned it, or as labels correct it."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import calibration
from models.pressure_events import ALARM_DAYS
from models.schema import Records

COUNTED, BY_SHARE = 1, 2
"""In DETECTION's `alarmed`: as one more day, or as if `ALARM_DAYS` were known."""


@njit(cache=True)
def relearn(
    calibrations: Records,
    return_days: float,
    maxima: NDArray[np.float64],
    quiet: NDArray[np.bool_],
    alarm_day: NDArray[np.int64],
    alarm_length: NDArray[np.int64],
    alarmed: NDArray[np.uint8],
) -> None:
    """Take n days and m alarms, in order of time, into `calibrations` (D,) CALIBRATION, in place.

    `maxima` (n, D): largest statistic of each day after its last alarm, NaN where there was none. `quiet` (n,): no leak open
    at its end. Of each alarm the day it was raised on (0 to n), how many days before that its event began plus one, and
    (m, D) whether each detector learned it: 0, COUNTED or BY_SHARE. Oracle: the calibrations of an `Engine`.
    """
    at = 0
    for day in range(maxima.shape[0] + 1):
        while at < alarm_day.shape[0] and alarm_day[at] == day:
            for d in range(calibrations.shape[0]):
                own, told = calibrations[d], alarmed[at, d]
                known = own["days"]
                if told == BY_SHARE:
                    own["days"] = max(known, ALARM_DAYS)
                calibration.alarm(own, return_days, 1.0 if told != 0 else 0.0, alarm_length[at])
                if told == BY_SHARE:
                    own["days"] = known
            at += 1
        if day < maxima.shape[0]:
            for d in range(calibrations.shape[0]):
                calibration.observe(calibrations[d], maxima[day, d])
                calibration.end_day(calibrations[d], return_days, quiet[day])
