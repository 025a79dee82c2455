"""Calibrations that retraining has learned again, knowing labels; and how an engine takes them over.

The engine counts every alarm once, at its threshold, whatever it was: nobody has told it yet. `relearn` is the same law over
the same days, and may leave out what labels explain, and hear of what they vouch for. Six real DMAs, 13 months learned and
12 judged (2026-11-28, docs/TRAINING.md): nothing labelled gives the engine's own calibrations to the bit; all alarms called
false, 10 % fewer alarms later; all called leaks, 10 % more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import calibration
from models.calibration import MEMORY_DAYS
from models.detectors import DETECTORS, ISOLATION
from models.pressure_events import ALARM_DAYS
from models.schema import Records
from models.state import PRIOR_DAYS, no_past

if TYPE_CHECKING:
    from models.bundle import Bundle, DetectorCalibration

COUNTED: Final = 1
BY_SHARE: Final = 2
"""In DETECTION's `alarmed`: learned as one more day, or as if `ALARM_DAYS` were known."""
VOUCHED: Final = 1.5
"""Thresholds that an alarm which was normal counts at most. One that passed it far would deafen the detector for months:
at 1.5 each, 14 alarms lifted five thresholds by a fifth to a third, and a burst less was found. (2026-11-28)"""
LEAST_DAYS: Final = 14
"""Learned by a bundle; fewer are little beside the prior."""


@njit(cache=True)
def relearn(
    calibrations: Records,
    return_days: float,
    maxima: NDArray[np.float64],
    quiet: NDArray[np.bool_],
    alarm_day: NDArray[np.int64],
    alarm_length: NDArray[np.int64],
    alarmed: NDArray[np.uint8],
    vouched: NDArray[np.float64],
) -> None:
    """Take n days and m alarms, in order of time, into `calibrations` (D,) CALIBRATION, in place.

    `maxima` (n, D): largest statistic of each day after its last alarm, NaN where there was none. `quiet` (n,): no leak open
    at its end. Of each alarm the day it was raised on (0 to n), how many days before that its event began plus one; (m, D)
    whether each detector learned it: 0, COUNTED or BY_SHARE; and (m, D) the statistic that a label vouches for, NaN where
    none does: the alarm then counts at the threshold. Oracle: the calibrations of an `Engine`.
    """
    at = 0
    for day in range(maxima.shape[0] + 1):
        while at < alarm_day.shape[0] and alarm_day[at] == day:
            for d in range(calibrations.shape[0]):
                own, told = calibrations[d], alarmed[at, d]
                known, level = own["days"], calibration.threshold(own, return_days)
                calibration.alarm(own, return_days, 0.0, alarm_length[at])
                if told == BY_SHARE:
                    own["days"] = max(known, ALARM_DAYS)
                if told != 0:
                    usual = calibration.most(own, return_days)
                    calibration.take(own, usual if np.isnan(vouched[at, d]) else min(vouched[at, d], VOUCHED * level))
                if told == BY_SHARE:
                    own["days"] = known
            at += 1
        if day < maxima.shape[0]:
            for d in range(calibrations.shape[0]):
                calibration.observe(calibrations[d], maxima[day, d])
                calibration.end_day(calibrations[d], return_days, quiet[day])


def warm_up() -> None:
    """Compile it."""
    none, of = np.zeros(0, np.int64), len(DETECTORS)
    relearn(
        no_past(),
        100.0,
        np.zeros((0, of)),
        np.zeros(0, np.bool_),
        none,
        none,
        np.zeros((0, of), np.uint8),
        np.zeros((0, of)),
    )


def take_over(calibrations: Records, dma: str, bundle: Bundle | None, before: Bundle | None = None) -> None:
    """Begin the calibrations (D,) of a DMA with what a bundle says of them, in place.

    The forest's own is the new forest's, or at its prior: the old one's scores say nothing of it, nor do the days that wait.

    Another detector's is taken over where labels have made it another one, or had made that of the bundle `before`, whose
    work would else live on after a rollback; and where the engine has learned fewer days. Elsewhere the engine's own is the
    same and newer: the bundle's ends with its training. (Taken over all the same, a model promoted weeks after its training
    would forget the alarms of these weeks.) Its waiting days, and the day under way, stay in any case: a bundle has learned
    nothing of them, since days wait in training as they do here, and a day that waits is later than its last.
    """
    calibrations[ISOLATION] = no_past()[ISOLATION]
    if bundle is None:
        return
    score = bundle.manifest.calibration.get(dma)
    if score is not None and score.sd > 0.0:
        own = calibrations[ISOLATION]
        own["mean"], own["variance"], own["days"] = score.mean, score.sd**2, min(score.days, MEMORY_DAYS)
    said, said_before = _of(bundle, dma), _of(before, dma)
    for own, detector in zip(calibrations, DETECTORS, strict=True):
        new, old = said.get(detector.name), said_before.get(detector.name)
        if new is None or new.days < LEAST_DAYS or not new.sd > 0.0 or detector is DETECTORS[ISOLATION]:
            continue
        if new.is_changed or (old is not None and old.is_changed) or own["days"] < new.days + PRIOR_DAYS:
            own["mean"], own["variance"], own["days"] = new.mean, new.sd**2, new.days + PRIOR_DAYS


def _of(bundle: Bundle | None, dma: str) -> dict[str, DetectorCalibration]:
    return {} if bundle is None else bundle.manifest.detectors.get(dma, {})
