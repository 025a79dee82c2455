"""From a detector's raw statistic to a score whose threshold follows from the alert budget.

Each detector emits a statistic >= 0 that grows with evidence; its scale depends on the DMA's noise and autocorrelation.
The daily maxima of such a statistic are close to a Gumbel law, so mean and spread of the DMA's own past maxima give the
level that is passed once in `return_days` (method of moments, e.g. Coles 2001, section 3):

    threshold = mean + sd * (sqrt(6)/pi) * (ln(return_days) - 0.5772)

A CUSUM has a longer tail, exponential beyond its mean (Asmussen 2003, chapter XIII), and days of odd demand make it longer:
of 4,712 days of six real DMAs one in 30, 100, 300 and 900 lies 2.3, 4.9, 9.1 and 14.2 standard deviations above the mean
(2026-11-28). So for these

    threshold = mean + sd * (2 ln(return_days) - 1)

One pass, causal. A day is learned a week or more after it is over, and not at all when it lies within an event: a leak
that is still growing must not raise its own threshold. An alarm itself counts once, at the threshold: noise that alarms
too often for its budget thereby lifts its own threshold, by about a tenth an alarm. (Tried and lost, L-Town zone C, alarms
a year: dropping the week before an alarm, 79; clipping at three sd with no word for alarms, 40.) With a long tail, whose
threshold is so far out that one alarm would lift it by two fifths, no day counts more than three sd above the mean.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from models.schema import Record

LONGEST_QUARANTINE_DAYS: Final = 28
LONG_TAIL: Final = 2.0
MOST_SPREADS: Final = 3.0  # above the mean: what a day's maximum counts at most

CALIBRATION = np.dtype(
    [
        ("mean", "<f8"),  # of past daily maxima, in the statistic's own unit
        ("variance", "<f8"),
        ("days", "<f8"),  # days learned from, the prior's included
        ("day_max", "<f8"),  # of the local day under way; -1 before the first statistic of the day
        ("long_tail", "<i8"),  # 1: exponential law, 0: Gumbel's
        ("quarantine_days", "<i8"),  # so long a day waits until it is learned
        ("share", "<f8"),  # of the alert budget, where an equal part is 1
        ("waiting", "<f8", (LONGEST_QUARANTINE_DAYS,)),  # maxima of the days before, newest first; -1 where there is none
    ]
)
_SQRT6_PI: Final = 0.7796968012336761
_EULER: Final = 0.5772156649015329
MEMORY_DAYS: Final = 90.0


@njit(cache=False)
def threshold(calibration: Record, return_days: float) -> float:
    """Level of the statistic that is passed once in `return_days` days, or as often as its share says."""
    spread, log_days = np.sqrt(calibration["variance"]), np.log(return_days / calibration["share"])
    if calibration["long_tail"]:
        return calibration["mean"] + spread * (LONG_TAIL * log_days - 1.0)
    return calibration["mean"] + spread * _SQRT6_PI * (log_days - _EULER)


@njit(cache=False)
def score(statistic: float, level: float) -> float:
    """Statistic as a score in [0, 1): 0.5 at the threshold, 0 where the statistic is missing or 0."""
    if not statistic > 0.0:
        return 0.0
    return statistic / (statistic + level)


@njit(cache=False)
def observe(calibration: Record, statistic: float) -> None:
    """Keep the day's largest statistic; a missing one (NaN) changes nothing."""
    if statistic > calibration["day_max"]:
        calibration["day_max"] = statistic


@njit(cache=False)
def end_day(calibration: Record, return_days: float, quiet: bool) -> None:
    """Begin a new day: the finished one waits its time out unless an event is open (not `quiet`), the oldest is learned."""
    waiting, last = calibration["waiting"], calibration["quarantine_days"] - 1
    learn(calibration, return_days, waiting[last])
    for i in range(last, 0, -1):
        waiting[i] = waiting[i - 1]
    waiting[0] = calibration["day_max"] if quiet else -1.0
    calibration["day_max"] = -1.0


@njit(cache=False)
def alarm(calibration: Record, return_days: float, score_now: float, days: int) -> None:
    """An event was raised that began `days` days ago: forget these days; learn the alarm where this detector made it."""
    for i in range(min(days, LONGEST_QUARANTINE_DAYS)):
        calibration["waiting"][i] = -1.0
    calibration["day_max"] = -1.0
    if score_now >= 0.5:
        learn(calibration, return_days, threshold(calibration, return_days))


@njit(cache=False)
def learn(calibration: Record, return_days: float, day_max: float) -> None:
    """Take one day's maximum, as far as it counts, into mean and variance; -1 is no day."""
    if day_max < 0.0:
        return
    take(calibration, min(day_max, most(calibration, return_days)))


@njit(cache=False)
def most(calibration: Record, return_days: float) -> float:
    """What a day's maximum counts at most."""
    level = threshold(calibration, return_days)
    if calibration["long_tail"]:  # its threshold is so far out that few days would be all of the variance
        return min(level, calibration["mean"] + MOST_SPREADS * np.sqrt(calibration["variance"]))
    return level


@njit(cache=False)
def take(calibration: Record, day_max: float) -> None:
    """Take one day's maximum into mean and variance as it is."""
    gain = 1.0 / min(calibration["days"] + 1.0, MEMORY_DAYS)
    delta = day_max - calibration["mean"]
    calibration["mean"] += gain * delta
    calibration["variance"] = (1.0 - gain) * (calibration["variance"] + gain * delta * delta)
    calibration["days"] += 1.0
