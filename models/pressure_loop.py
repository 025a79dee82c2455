"""One slot of a DMA's pressure loggers: compared with each other before events are judged, heard and learned after that.

Both parts are functions of their own that are called for a DMA with loggers to compare, not compiled into the loop: there,
with arrays of their own and inlined, they cost 65 s of compiling (2026-11-27).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models import calibration, pairs
from models.detectors import PRESSURE_STEP, PRESSURE_TREND, pressure_step, pressure_trend
from models.events import is_any_leak_open, known_excess
from models.meters import watch_flat
from models.params import Params
from models.pressure_events import follow_pressure, judge_pressure, refresh_after, tell_drifts
from models.schema import Records
from models.state import PRIOR_DAYS, Buffers

DAY_MS = 86_400_000
MINUTE_MS = 60_000
LEAST_DAYS = 3.0  # L-Town: without them one alarm in the first three hours that are judged (2026-11-28)


@njit(cache=False)
def fill_loggers(b: Buffers, p: Params, slot_end_ms: int) -> None:
    """Values of this slot: pressures, NaN where a logger is dead or stuck, and the squared net inflow."""
    own, last = b.series[0], b.loggers.shape[0] - 1
    # a DMA whose inlet meter is silent still has its pressures
    flow = own["value"] if not np.isnan(own["value"]) else own["foreseen"] + known_excess(b.events)
    b.loggers[last]["value"] = flow * abs(flow)
    for i in range(last):
        value = b.series[p.inflows + i]["value"]
        is_flat = watch_flat(b.channels[p.pressure_channel[i]], value, slot_end_ms, p.slot_hours)
        b.loggers[i]["value"] = np.nan if is_flat or not value > 0.0 else value  # no water at the logger, or a dead one


@njit(cache=False)
def observe_pressure(
    b: Buffers,
    p: Params,
    scores: NDArray[np.float32],
    statistics: NDArray[np.float64],
    slot_end_ms: int,
    day: int,
    minute: int,
    width: float,
    is_new: bool,
) -> tuple[int, int, int, int]:
    """Compare the loggers in the slot that begins at `minute` of the local `day`, the first of its day where `is_new`.

    `width`: of this kind of day, in usual spreads; infinite where the slot is no evidence. Fills the scores and statistics
    of pressures.
    Returns the logger that shows a step most and the next, that of the trend, and the days since it began; -1 for none.

    A step, judged in every slot, says nothing before its threshold rests on quiet days of this DMA.
    """
    if is_new:
        pairs.end_day(b.loggers, b.logger_cov, DAY_MS // p.slot_ms, not is_any_leak_open(b.events))
    fill_loggers(b, p, slot_end_ms)
    pairs.read_slot(b.loggers, minute // 60, p.slot_hours, width)
    sudden, following, growing, days = -1, -1, -1, 0
    for detector in (PRESSURE_TREND, PRESSURE_STEP):  # a trend may make the loggers forget their steps
        own, statistic = b.calibrations[detector], np.nan
        level = calibration.threshold(own, p.return_days)
        if detector == PRESSURE_STEP:
            statistic, sudden, following = pressure_step.update(
                b.loggers, b.series, p.inflows, slot_end_ms - p.slot_ms, 3.0 * level
            )
        elif is_new:
            statistic, growing, days = pressure_trend.update(
                b.loggers, b.lone, b.nights, day - 1, slot_end_ms - p.slot_ms, level
            )
        if p.silent[detector]:
            statistic = np.nan
        calibration.observe(own, statistic)
        statistics[detector] = statistic
        is_known = detector != PRESSURE_STEP or own["days"] >= PRIOR_DAYS + LEAST_DAYS
        scores[detector] = calibration.score(statistic, level) if is_known else 0.0
    return sudden, following, growing, days


@njit(cache=False)
def conclude_pressure(
    b: Buffers,
    p: Params,
    scores: NDArray[np.float32],
    said: tuple[int, int, int, int],
    slot_end_ms: int,
    minute: int,
    usual: bool,
    coverage: float,
    out: Records,
    before: int,
    count: int,
) -> int:
    """Hear what the loggers `said`, end what they alone had shown, and teach the pairs; returns the new count.

    `before`: count before the leaks of this slot were judged by the flow. Nothing is learned on a day that is not `usual`,
    nor moments and spreads while a leak is open.
    """
    count = judge_pressure(b, p, scores, said, slot_end_ms, coverage, out, count)
    count = follow_pressure(b, slot_end_ms, out, count)
    count = tell_drifts(b, p, slot_end_ms, out, count)
    teach = usual and not is_any_leak_open(b.events)
    pairs.learn_slot(b.loggers, minute // 60, p.slot_hours, usual, teach)
    if (minute + p.slot_ms // MINUTE_MS) % 60 == 0:
        pairs.end_hour(b.loggers, b.logger_cov, minute // 60, teach)
    refresh_after(b, out, before, count)
    return count
