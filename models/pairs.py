"""What each pressure logger of a DMA should show, by what the other loggers show: pair regression, recursive and causal.

Each logger is regressed on every other (LILA: Daniel et al. 2022, "A sequential pressure-based algorithm for data-driven
leakage identification and model-based localization"), after both have been regressed on the squared net inflow, which
leaves heads that move at the source and demand apart. The residual of a logger is the median over its pairs, so a few
dead, wild or leaking partners do not move it. All moments are exponentially weighted sums over hourly means: no past is
kept, and an hour of 33 loggers costs some 600 multiplications.

A leak must not be learned, nor a holiday. Then moments and spreads rest; levels are told apart from them: the `offset` of a
logger is what its residual usually is, and follows the daily means of a week ago. When an event begins or ends, the
offsets are learned anew, in silence for a day and within three: a second leak is then seen above the first, and the way
back from a repair is no evidence of anything. (Tried and lost: the offsets from before the leak, kept for its end. They are
weeks old by then, and raised an alarm 20 min after a repair on L-Town and 90 min after one on Hanoi, 2026-11-28.) So are
they at once, from yesterday's means, where loggers have moved while nobody knew of a leak and one of them further up than
any down: what was repaired had never been found.

All that is known of a logger is in its one LOGGER row: an array more is seven arguments more of every function of the loop.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.profile import SD_PER_MEAN_ABS
from models.schema import NEVER, Record, Records

MIN_LOGGERS: Final = 5  # a median of fewer partners follows one of them; L-Town's C with three: 9 false alarms (2026-11-27)
LEAST_PARTNERS: Final = 2  # of these, with a value in a slot
MOST_PARTNERS: Final = 15  # the best by correlation; of 29 all were no better (L-Town, noise 0.05 m, 2026-11-27)
FIRST_HOURS: Final = 7 * 24.0  # learned before there is a first residual
READY_HOURS: Final = 14 * 24.0  # and before it counts
MEMORY_HOURS: Final = 28 * 24.0
SPREAD_MEMORY_HOURS: Final = 20.0  # four weeks of one workday hour
SETTLE_HOURS: Final = 72.0  # an offset that was set back is learned within
QUIET_HOURS: Final = 24.0  # and says nothing for so long
DAYS: Final = 14
LAG_DAYS: Final = 7
SHAPE_DAYS: Final = 14.0
OFFSET_DAYS: Final = 21.0  # with a lag of 7 days this follows without swinging (7 / 21 < 1 / e)
SPREAD_DAYS: Final = 28.0
SPREAD_FLOOR: Final = 1e-3  # of the mean pressure: the accuracy of a good logger
CLIP_SPREADS: Final = 3.0
MOVED_SHARE: Final = 0.25  # of what a leak has moved a logger by: so much its effect varies with demand from day to day

LOGGER = np.dtype(
    [
        ("value", "<f8"),  # this slot: kPa; (m3/h)^2 in the last row; NaN when missing
        ("lifted", "<f8"),  # this slot: value less pivot and less what the inflow explains
        ("residual", "<f8"),  # this slot: median over its partners of own less slope times theirs, kPa
        ("rest", "<f8"),  # this slot: residual less offset, kPa; NaN when it can't be told
        ("z", "<f8"),  # this slot: rest in spreads; NaN also while warming up
        ("mean", "<f8"),  # exponentially weighted mean, kPa; (m3/h)^2 in the last row
        ("hours", "<f8"),  # learned into it
        ("pivot", "<f8"),  # the mean when the slopes were last taken over
        ("flow_slope", "<f8"),  # kPa per (m3/h)^2
        ("hour_sum", "<f8"),  # of the hour under way
        ("hour_slots", "<i4"),
        ("day_total", "<f8"),  # of the local day under way
        ("day_slots", "<i4"),
        ("offset_hours", "<f8"),  # that the offsets were learned from since they were set back
        ("moved", "<f8"),  # how far the offsets have moved since the last quiet time, kPa
        ("level", "<f8"),  # rest, averaged over some 24 hours
        ("recent", "<f8"),  # rest, averaged over some three hours
        ("hour_rest", "<f8"),  # sum of rests of the hour under way
        ("hour_rests", "<i4"),
        ("day_rest", "<f8"),  # sum of rests of the day under way, weighted by precision
        ("day_weight", "<f8"),
        ("day_rests", "<i4"),
        ("day_spread", "<f8"),  # standard deviation of a daily mean of rests
        ("day_count", "<f8"),  # days that it was learned from
        ("days", "<f4", (DAYS,)),  # daily means of rests, newest first; NaN when there is none
        ("cusum", "<f8"),
        ("since_ms", "<i8"),  # start of the first slot that counts in it
        ("slots", "<i4"),
        ("fall", "<f8"),  # sum of rests since then
        ("flow_z", "<f8"),  # sum of the net inflow's z since then
        ("raw", "<f8"),  # sum of the logger's residuals against its own week since then, kPa
        ("partners", "<i4", (MOST_PARTNERS,)),  # rows of the loggers that it is compared with, -1 when none
        ("slopes", "<f8", (MOST_PARTNERS,)),
        ("offsets", "<f8", (24,)),  # by local hour: what its residual usually is, kPa
        ("spreads", "<f4", (24,)),  # by local hour, kPa
        ("spread_hours", "<f4", (24,)),  # learned into them
    ]
)
"""One row per pressure logger; the last row is the squared net inflow, of which only value and moments are used."""


def new_loggers(loggers: int) -> tuple[Records, NDArray[np.float64]]:
    """LOGGER rows (L + 1,) and their covariances (L + 1, L + 1), fresh; none where there are too few to tell them apart."""
    rows = np.zeros(loggers + 1 if loggers >= MIN_LOGGERS else 0, LOGGER)
    for name in ("value", "lifted", "residual", "rest", "z", "days"):
        rows[name] = np.nan
    rows["since_ms"] = NEVER
    rows["partners"] = -1
    return rows, np.zeros((len(rows), len(rows)))


@njit(cache=False)
def compare(loggers: Records) -> None:
    """Fill `lifted` and `residual` of every logger from the values; NaN where it or all but one partner are missing.

    Oracle: tests/naive_pairs.py.
    """
    last = loggers.shape[0] - 1
    flow = loggers[last]["value"] - loggers[last]["pivot"]
    for i in range(last):
        loggers[i]["lifted"] = loggers[i]["value"] - loggers[i]["pivot"] - loggers[i]["flow_slope"] * flow
    ordered = np.empty(MOST_PARTNERS)
    for i in range(last):
        logger = loggers[i]
        n = 0
        for k in range(MOST_PARTNERS):
            j = logger["partners"][k]
            if j < 0:
                break
            value = logger["lifted"] - logger["slopes"][k] * loggers[j]["lifted"]
            if np.isnan(value):
                continue
            at = n
            while at > 0 and ordered[at - 1] > value:
                ordered[at] = ordered[at - 1]
                at -= 1
            ordered[at] = value
            n += 1
        logger["residual"] = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2]) if n >= LEAST_PARTNERS else np.nan


@njit(cache=False)
def spread_of(logger: Record, hour: int) -> float:
    """Standard deviation of a slot's rest in a local hour, kPa."""
    known = max(float(logger["spreads"][hour]), SPREAD_FLOOR * abs(logger["mean"]))
    return np.sqrt(known**2 + (MOVED_SHARE * logger["moved"]) ** 2)


@njit(cache=False)
def read_slot(loggers: Records, hour: int, slot_hours: float, width: float) -> None:
    """Fill residual, rest and z of every logger for a slot of local `hour` from the values.

    `width`: of this kind of day, in usual spreads; infinite where the slot is no evidence.
    """
    compare(loggers)
    for i in range(loggers.shape[0] - 1):
        logger = loggers[i]
        rest = logger["residual"] - logger["offsets"][hour]
        logger["rest"] = rest
        logger["z"] = np.nan
        if np.isnan(rest):
            continue
        logger["recent"] += min(1.0, slot_hours / 3.0) * (rest - logger["recent"])
        is_ready = logger["hours"] >= READY_HOURS and logger["offset_hours"] >= QUIET_HOURS
        if is_ready and logger["spread_hours"][hour] >= 2.0 and width < np.inf:
            logger["z"] = rest / (width * spread_of(logger, hour))


@njit(cache=False)
def learn_slot(loggers: Records, hour: int, slot_hours: float, usual: bool, teach: bool) -> None:
    """Add this slot to the hour and, on a `usual` day, to the day under way; where `teach`, to the spreads of its hour."""
    for i in range(loggers.shape[0]):
        logger = loggers[i]
        if not np.isnan(logger["value"]):
            logger["hour_sum"] += logger["value"]
            logger["hour_slots"] += 1
            logger["day_total"] += logger["value"]
            logger["day_slots"] += 1
        rest = logger["rest"]
        if np.isnan(rest) or not usual:
            continue
        logger["hour_rest"] += rest
        logger["hour_rests"] += 1
        if logger["spread_hours"][hour] >= 2.0:
            spread = spread_of(logger, hour)
            logger["day_rest"] += rest / spread**2
            logger["day_weight"] += 1.0 / spread**2
            logger["day_rests"] += 1
            rest = min(max(rest, -CLIP_SPREADS * spread), CLIP_SPREADS * spread)
        if teach and logger["offset_hours"] >= QUIET_HOURS:
            logger["spread_hours"][hour] += slot_hours
            pace = min(slot_hours / min(float(logger["spread_hours"][hour]), SPREAD_MEMORY_HOURS), 1.0)
            logger["spreads"][hour] += pace * (abs(rest) * SD_PER_MEAN_ABS - float(logger["spreads"][hour]))


@njit(cache=False)
def end_hour(loggers: Records, cov: NDArray[np.float64], hour: int, teach: bool) -> None:
    """Take the hour's means into the moments, where `teach`, and its rests into the offset of that hour of the day."""
    if teach:
        learn_moments(loggers, cov)
    for i in range(loggers.shape[0]):
        logger = loggers[i]
        logger["hour_sum"], logger["hour_slots"] = 0.0, 0
        if logger["hour_rests"] == 0:
            continue
        rest = logger["hour_rest"] / logger["hour_rests"]
        logger["hour_rest"], logger["hour_rests"] = 0.0, 0
        logger["level"] += (rest - logger["level"]) / 24.0
        if logger["offset_hours"] >= SETTLE_HOURS and logger["hours"] >= READY_HOURS:
            logger["offsets"][hour] += (rest - logger["level"]) / SHAPE_DAYS  # the shape of the day alone
        else:
            step = rest / (logger["offset_hours"] // 24.0 + 1.0)
            logger["offset_hours"] += 1.0
            logger["moved"] += step / 24.0
            logger["offsets"][hour] += step


@njit(cache=False)
def learn_moments(loggers: Records, cov: NDArray[np.float64]) -> None:
    """Take the means of the hour under way into means and covariances; a logger without any is left as it is.

    Exponentially weighted over four weeks, less while there are fewer. Oracle: tests/naive_pairs.py.
    """
    n = loggers.shape[0]
    delta, gain = np.empty(n), np.zeros(n)
    for i in range(n):
        logger = loggers[i]
        delta[i] = np.nan
        if logger["hour_slots"]:
            mean = logger["hour_sum"] / logger["hour_slots"]
            if logger["hours"] == 0.0:
                logger["mean"] = mean
            delta[i] = mean - logger["mean"]
            gain[i] = 1.0 / min(logger["hours"] + 1.0, MEMORY_HOURS)
    for i in range(n):
        if np.isnan(delta[i]):
            continue
        for j in range(i + 1):
            if not np.isnan(delta[j]):
                pace = max(gain[i], gain[j])
                cov[i, j] = cov[j, i] = (1.0 - pace) * (cov[i, j] + pace * delta[i] * delta[j])
        loggers[i]["mean"] += gain[i] * delta[i]
        loggers[i]["hours"] += 1.0


@njit(cache=False)
def end_day(loggers: Records, cov: NDArray[np.float64], slots_of_day: int, quiet: bool) -> None:
    """Close the local day: its mean of rests joins the ring, what is a week old teaches, slopes are taken over.

    New slopes and pivots must not look like a shift: offsets move by what they change at yesterday's mean pressures.
    """
    for i in range(loggers.shape[0]):
        logger = loggers[i]
        logger["value"] = logger["day_total"] / logger["day_slots"] if logger["day_slots"] else np.nan
        logger["day_total"], logger["day_slots"] = 0.0, 0
        if i < loggers.shape[0] - 1:
            close_day(logger, slots_of_day)
        if quiet:
            logger["moved"] = 0.0
    if not quiet:
        return
    for is_after in range(2):
        compare(loggers)
        for i in range(loggers.shape[0] - 1):
            logger = loggers[i]
            change = logger["residual"] - logger["rest"]
            logger["rest"] = logger["residual"]
            if is_after and not np.isnan(change):
                move(logger, change)
        if not is_after:
            take_over(loggers, cov)


@njit(cache=False)
def close_day(logger: Record, slots_of_day: int) -> None:
    """The day's mean of rests into the ring; the one of a week ago into the spread, and a step of the offsets."""
    days = logger["days"]
    is_whole = logger["day_rests"] * 2 >= slots_of_day and logger["offset_hours"] >= QUIET_HOURS
    today = logger["day_rest"] / logger["day_weight"] if is_whole else np.nan
    logger["day_rest"], logger["day_weight"], logger["day_rests"] = 0.0, 0.0, 0
    is_warming_up = logger["hours"] < READY_HOURS
    lesson = today if is_warming_up else float(days[LAG_DAYS - 1])
    if not np.isnan(lesson):
        logger["day_count"] += 1.0
        size = abs(lesson)
        if logger["day_count"] > LAG_DAYS:
            size = min(size, CLIP_SPREADS * logger["day_spread"])
        logger["day_spread"] += (size * SD_PER_MEAN_ABS - logger["day_spread"]) / min(logger["day_count"], SPREAD_DAYS)
        if not is_warming_up:
            step = lesson / min(logger["offset_hours"] / 24.0 + 1.0, OFFSET_DAYS)
            logger["offset_hours"] += 24.0
            logger["moved"] += step
            move(logger, step)
    for back in range(DAYS - 1, 0, -1):
        days[back] = days[back - 1]
    is_settled = not is_warming_up and logger["offset_hours"] >= SETTLE_HOURS
    days[0] = today if is_settled else np.nan


@njit(cache=False)
def move(logger: Record, step: float) -> None:
    """Move the offsets of all hours by `step`, kPa."""
    for hour in range(24):
        logger["offsets"][hour] += step


@njit(cache=False)
def take_over(loggers: Records, cov: NDArray[np.float64]) -> None:
    """Partners, slopes and pivots from the moments: those with the highest correlation once the inflow is explained."""
    last = loggers.shape[0] - 1
    flow_variance = cov[last, last]
    for i in range(last + 1):
        loggers[i]["pivot"] = loggers[i]["mean"]
        loggers[i]["flow_slope"] = cov[i, last] / flow_variance if flow_variance > 0.0 else 0.0
    merit, slope = np.empty(last), np.zeros(last)
    for i in range(last):
        logger = loggers[i]
        for j in range(last):
            both = cov[i, j] - logger["flow_slope"] * cov[j, last]
            own = cov[j, j] - loggers[j]["flow_slope"] * cov[j, last]
            merit[j] = -1.0
            if i != j and min(logger["hours"], loggers[j]["hours"]) >= FIRST_HOURS and own > 1e-12:
                merit[j], slope[j] = both * both / own, both / own
        for k in range(MOST_PARTNERS):
            best = 0
            for j in range(1, last):
                if merit[j] > merit[best]:
                    best = j
            logger["partners"][k], logger["slopes"][k] = best if merit[best] >= 0.0 else -1, slope[best]
            merit[best] = -1.0


@njit(cache=False)
def refresh(loggers: Records, one: int, least: float) -> None:
    """Learn what residuals usually are anew: of logger `one`, and of all that have fallen with a CUSUM of `least`."""
    for i in range(loggers.shape[0]):
        logger = loggers[i]
        if i == one or logger["cusum"] >= least:
            forget(logger)
            if logger["hours"] >= READY_HOURS:
                logger["offset_hours"] = 0.0


@njit(cache=False)
def rebase(loggers: Records) -> None:
    """What yesterday's mean was is usual from here on: a leak has spread, or one is gone that nobody had known of."""
    for i in range(loggers.shape[0]):
        logger = loggers[i]
        yesterday = float(logger["days"][0])
        if not np.isnan(yesterday):
            move(logger, yesterday)
            logger["moved"] += yesterday
            logger["offset_hours"] = SETTLE_HOURS
            forget(logger)


@njit(cache=False)
def forget(logger: Record) -> None:
    """Forget the logger's days and its evidence; the hour under way counts from the next slot."""
    logger["recent"] = logger["level"] = 0.0
    for back in range(DAYS):
        logger["days"][back] = np.nan
    logger["hour_rest"], logger["hour_rests"] = 0.0, 0
    logger["day_rest"], logger["day_weight"], logger["day_rests"] = 0.0, 0.0, 0
    forget_fall(logger)


@njit(cache=False)
def forget_fall(logger: Record) -> None:
    """Begin the CUSUM anew."""
    logger["cusum"] = logger["fall"] = logger["flow_z"] = logger["raw"] = 0.0
    logger["slots"] = 0
    logger["since_ms"] = NEVER
