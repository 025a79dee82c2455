"""What each pressure logger of a DMA should show, by what the other loggers show: pair regression, recursive and causal.

Each logger is regressed on every other (LILA: Daniel et al. 2022, "A sequential pressure-based algorithm for data-driven
leakage identification and model-based localization"), after both have been regressed on the squared net inflow, which
leaves heads that move at the source and demand apart. The residual of a logger is the median over its pairs, so a few
dead, wild or leaking partners do not move it. All moments are exponentially weighted sums over hourly means: no past is
kept, and an hour of 33 loggers costs some 600 multiplications.

A leak must not be learned. While a leak event is open, the moments rest; levels are told apart from them: the `offset` of a
logger is what its residual usually is, and follows the daily means of a week ago. When an event begins or ends, the
offsets are learned anew within three days: a second leak is then seen above the first.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

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
SD_PER_MEAN_ABS: Final = 1.2533141373155001  # sqrt(pi/2), of a normal variable

LOGGER = np.dtype(
    [
        ("mean", "<f8"),  # exponentially weighted mean, kPa; (m3/h)^2 in the last row
        ("hours", "<f8"),  # learned into it
        ("pivot", "<f8"),  # the mean when the slopes were last taken over
        ("flow_slope", "<f8"),  # kPa per (m3/h)^2
        ("hour_sum", "<f8"),  # of the hour under way
        ("hour_slots", "<i4"),
        ("day_total", "<f8"),  # of the local day under way
        ("day_slots", "<i4"),
        ("offset_hours", "<f8"),  # that the offsets were learned from since they were set back
        ("quiet_hours", "<f8"),  # the same of the offsets that were kept when the first of the open leaks was raised
        ("moved", "<f8"),  # how far the offsets have moved since the last quiet time, kPa
        ("level", "<f8"),  # rest, averaged over some 24 hours
        ("rest", "<f8"),  # this slot: residual less offset, kPa; NaN when it can't be told
        ("z", "<f8"),  # this slot: rest in spreads; NaN also while warming up
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
    ]
)
"""One row per pressure logger; the last row is the squared net inflow, of which only the moments are used."""


def new_loggers(loggers: int) -> tuple[Records, dict[str, NDArray[Any]]]:
    """LOGGER rows and the arrays beside them, fresh; none at all where there are too few loggers to tell them apart."""
    count = loggers if loggers >= MIN_LOGGERS else 0
    rows = np.zeros(count + 1 if count else 0, LOGGER)
    rows["rest"] = rows["z"] = rows["days"] = np.nan
    rows["since_ms"] = NEVER
    partners = min(max(count - 1, 0), MOST_PARTNERS)
    return rows, {
        "logger_cov": np.zeros((len(rows), len(rows))),
        "logger_partners": np.full((count, partners), -1, np.int32),
        "logger_slopes": np.zeros((count, partners)),
        "logger_offsets": np.zeros((count, 24)),
        "logger_quiet_offsets": np.zeros((count, 24)),
        "logger_spreads": np.zeros((count, 24), np.float32),
        "logger_spread_hours": np.zeros((count, 24), np.float32),
    }


@njit(cache=False)
def residual(partners: NDArray[np.int32], slopes: NDArray[np.float64], lifted: NDArray[np.float64], i: int) -> float:
    """Median over the partners of logger i of (own - slope * partner's), kPa; NaN with fewer than two partners.

    `lifted` (L,): pressures less pivot and less what the inflow explains, NaN when missing. Oracle: tests/naive_pairs.py.
    """
    if np.isnan(lifted[i]):
        return np.nan
    ordered = np.empty(partners.shape[1])
    n = 0
    for k in range(partners.shape[1]):
        j = partners[i, k]
        if j < 0 or np.isnan(lifted[j]):
            continue
        value = lifted[i] - slopes[i, k] * lifted[j]
        at = n
        while at > 0 and ordered[at - 1] > value:
            ordered[at] = ordered[at - 1]
            at -= 1
        ordered[at] = value
        n += 1
    if n < LEAST_PARTNERS:
        return np.nan
    return 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])


@njit(cache=False)
def lift(loggers: Records, values: NDArray[np.float64], lifted: NDArray[np.float64]) -> None:
    """Pressures less their pivot and less what the squared inflow (the last of `values`) explains, into `lifted` (L,)."""
    last = loggers.shape[0] - 1
    flow = values[last] - loggers[last]["pivot"]
    for i in range(last):
        lifted[i] = values[i] - loggers[i]["pivot"] - loggers[i]["flow_slope"] * flow


@njit(cache=False)
def spread_of(logger: Record, spread: float) -> float:
    """Standard deviation of a slot's rest, kPa."""
    return np.sqrt(max(spread, SPREAD_FLOOR * abs(logger["mean"])) ** 2 + (MOVED_SHARE * logger["moved"]) ** 2)


@njit(cache=False)
def read_slot(
    loggers: Records,
    partners: NDArray[np.int32],
    slopes: NDArray[np.float64],
    offsets: NDArray[np.float64],
    spreads: NDArray[np.float32],
    spread_hours: NDArray[np.float32],
    values: NDArray[np.float64],
    hour: int,
    slot_hours: float,
) -> None:
    """Fill rest and z of every logger for a slot of local `hour`; `values` (L + 1,) kPa and squared inflow, NaN missing."""
    last = loggers.shape[0] - 1
    lifted = np.empty(last)
    lift(loggers, values, lifted)
    for i in range(last):
        logger = loggers[i]
        rest = residual(partners, slopes, lifted, i) - offsets[i, hour]
        logger["rest"] = rest
        logger["z"] = np.nan
        if np.isnan(rest):
            continue
        logger["recent"] += min(1.0, slot_hours / 3.0) * (rest - logger["recent"])
        is_ready = logger["hours"] >= READY_HOURS and logger["offset_hours"] >= QUIET_HOURS
        if is_ready and spread_hours[i, hour] >= 2.0:
            logger["z"] = rest / spread_of(logger, spreads[i, hour])


@njit(cache=False)
def learn_slot(
    loggers: Records,
    spreads: NDArray[np.float32],
    spread_hours: NDArray[np.float32],
    values: NDArray[np.float64],
    hour: int,
    slot_hours: float,
    teach: bool,
) -> None:
    """Add this slot to the hour and the day under way and, where `teach`, its rests to the spreads of its hour."""
    for i in range(loggers.shape[0]):
        logger = loggers[i]
        if not np.isnan(values[i]):
            logger["hour_sum"] += values[i]
            logger["hour_slots"] += 1
            logger["day_total"] += values[i]
            logger["day_slots"] += 1
        rest = logger["rest"]
        if i == loggers.shape[0] - 1 or np.isnan(rest):
            continue
        logger["hour_rest"] += rest
        logger["hour_rests"] += 1
        known = float(spreads[i, hour])
        if spread_hours[i, hour] >= 2.0:
            weight = 1.0 / spread_of(logger, known) ** 2
            logger["day_rest"] += weight * rest
            logger["day_weight"] += weight
            logger["day_rests"] += 1
            limit = CLIP_SPREADS * spread_of(logger, known)
            rest = min(max(rest, -limit), limit)
        if teach and logger["offset_hours"] >= QUIET_HOURS:
            spread_hours[i, hour] += slot_hours
            pace = slot_hours / min(float(spread_hours[i, hour]), SPREAD_MEMORY_HOURS)
            spreads[i, hour] += min(pace, 1.0) * (abs(rest) * SD_PER_MEAN_ABS - known)


@njit(cache=False)
def end_hour(loggers: Records, cov: NDArray[np.float64], offsets: NDArray[np.float64], hour: int, teach: bool) -> None:
    """Take the hour's means into the moments, where `teach`, and its rests into the offset of that hour of the day."""
    for i in range(loggers.shape[0] - 1):
        offsets[i, hour] += offset_step(loggers[i])
    if teach:
        learn_moments(loggers, cov)
    for i in range(loggers.shape[0]):
        loggers[i]["hour_sum"], loggers[i]["hour_slots"] = 0.0, 0


@njit(cache=False)
def offset_step(logger: Record) -> float:
    """What the rests of the hour under way move its offset by, kPa; begins a new hour of rests."""
    if not logger["hour_rests"]:
        return 0.0
    rest = logger["hour_rest"] / logger["hour_rests"]
    logger["hour_rest"], logger["hour_rests"] = 0.0, 0
    logger["level"] += (rest - logger["level"]) / 24.0
    if logger["offset_hours"] >= SETTLE_HOURS and logger["hours"] >= READY_HOURS:
        return (rest - logger["level"]) / SHAPE_DAYS  # the shape of the day alone
    step = rest / (logger["offset_hours"] // 24.0 + 1.0)
    logger["offset_hours"] += 1.0
    logger["moved"] += step / 24.0
    return step


@njit(cache=False)
def learn_moments(loggers: Records, cov: NDArray[np.float64]) -> None:
    """Take the means of the hour under way into means and covariances; a logger without any is left as it is.

    Exponentially weighted over four weeks, less while there are fewer. Oracle: tests/naive_pairs.py.
    """
    n = loggers.shape[0]
    delta, gain = np.full(n, np.nan), np.zeros(n)
    for i in range(n):
        logger = loggers[i]
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
    for i in range(n):
        if not np.isnan(delta[i]):
            loggers[i]["mean"] += gain[i] * delta[i]
            loggers[i]["hours"] += 1.0


@njit(cache=False)
def end_day(
    loggers: Records,
    cov: NDArray[np.float64],
    partners: NDArray[np.int32],
    slopes: NDArray[np.float64],
    offsets: NDArray[np.float64],
    slots_of_day: int,
    quiet: bool,
) -> None:
    """Close the local day: its mean of rests joins the ring, what is a week old teaches, slopes are taken over.

    New slopes and pivots must not look like a shift: offsets move by what they change at yesterday's mean pressures.
    """
    last = loggers.shape[0] - 1
    yesterday, before = np.full(last + 1, np.nan), np.full(last, np.nan)
    for i in range(last + 1):
        logger = loggers[i]
        if logger["day_slots"]:
            yesterday[i] = logger["day_total"] / logger["day_slots"]
        logger["day_total"], logger["day_slots"] = 0.0, 0
    for i in range(last):
        offsets[i, :] += close_day(loggers[i], slots_of_day)
        if quiet:
            loggers[i]["moved"] = 0.0
    if not quiet:
        return
    lifted = np.empty(last)
    lift(loggers, yesterday, lifted)
    for i in range(last):
        before[i] = residual(partners, slopes, lifted, i)
    take_over(loggers, cov, partners, slopes)
    lift(loggers, yesterday, lifted)
    for i in range(last):
        change = residual(partners, slopes, lifted, i) - before[i]
        if not np.isnan(change):
            offsets[i, :] += change


@njit(cache=False)
def close_day(logger: Record, slots_of_day: int) -> float:
    """The day's mean of rests into the ring; the one of a week ago into the spread, and the step of the offsets."""
    step = 0.0
    days = logger["days"]
    is_whole = logger["day_rests"] * 2 >= slots_of_day and logger["offset_hours"] >= QUIET_HOURS
    today = logger["day_rest"] / logger["day_weight"] if is_whole else np.nan
    logger["day_rest"], logger["day_weight"], logger["day_rests"] = 0.0, 0.0, 0
    is_warming_up = logger["hours"] < READY_HOURS
    lesson = today if is_warming_up else days[LAG_DAYS - 1]
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
    for back in range(DAYS - 1, 0, -1):
        days[back] = days[back - 1]
    is_settled = not is_warming_up and logger["offset_hours"] >= SETTLE_HOURS
    days[0] = today if is_settled else np.nan
    return step


@njit(cache=False)
def take_over(loggers: Records, cov: NDArray[np.float64], partners: NDArray[np.int32], slopes: NDArray[np.float64]) -> None:
    """Partners, slopes and pivots from the moments: those with the highest correlation once the inflow is explained."""
    last = loggers.shape[0] - 1
    flow_variance = cov[last, last]
    for i in range(last + 1):
        loggers[i]["pivot"] = loggers[i]["mean"]
        loggers[i]["flow_slope"] = cov[i, last] / flow_variance if flow_variance > 0.0 else 0.0
    merit = np.empty(last)
    for i in range(last):
        for j in range(last):
            merit[j] = -1.0
            both = cov[i, j] - loggers[i]["flow_slope"] * cov[j, last]
            own = cov[j, j] - loggers[j]["flow_slope"] * cov[j, last]
            if i != j and min(loggers[i]["hours"], loggers[j]["hours"]) >= FIRST_HOURS and own > 1e-12:
                merit[j] = both * both / own
        for k in range(partners.shape[1]):
            j = int(np.argmax(merit))
            partners[i, k] = j if merit[j] >= 0.0 else -1
            if merit[j] >= 0.0:
                own = cov[j, j] - loggers[j]["flow_slope"] * cov[j, last]
                slopes[i, k] = (cov[i, j] - loggers[i]["flow_slope"] * cov[j, last]) / own
            merit[j] = -1.0


@njit(cache=False)
def refresh(loggers: Records) -> None:
    """An event has begun or ended: what the residuals usually are is learned anew, from here on."""
    for i in range(loggers.shape[0] - 1):
        forget(loggers[i])
        if loggers[i]["hours"] >= READY_HOURS:
            loggers[i]["offset_hours"] = 0.0


@njit(cache=False)
def refresh_falling(loggers: Records, most: int) -> None:
    """A leak has grown: as `refresh`, for logger `most` and those that fall with it."""
    least = 0.5 * loggers[most]["cusum"]
    for i in range(loggers.shape[0] - 1):
        if i == most or (least > 0.0 and loggers[i]["cusum"] >= least):
            forget(loggers[i])
            if loggers[i]["hours"] >= READY_HOURS:
                loggers[i]["offset_hours"] = 0.0


@njit(cache=False)
def keep(loggers: Records, offsets: NDArray[np.float64], quiet_offsets: NDArray[np.float64]) -> None:
    """The first leak was raised: keep what the residuals were without it."""
    quiet_offsets[:] = offsets
    for i in range(loggers.shape[0] - 1):
        loggers[i]["quiet_hours"] = loggers[i]["offset_hours"]


@njit(cache=False)
def bring_back(loggers: Records, offsets: NDArray[np.float64], quiet_offsets: NDArray[np.float64]) -> None:
    """The last leak is gone: what was kept holds again, but may be weeks old, and is believed like three days."""
    offsets[:] = quiet_offsets
    for i in range(loggers.shape[0] - 1):
        forget(loggers[i])
        loggers[i]["offset_hours"] = min(loggers[i]["quiet_hours"], SETTLE_HOURS)
        loggers[i]["moved"] = 0.0


@njit(cache=False)
def forget(logger: Record) -> None:
    """Forget the logger's days and its evidence; the hour under way counts from the next slot."""
    logger["recent"] = logger["level"] = 0.0
    logger["days"][:] = np.nan
    logger["hour_rest"], logger["hour_rests"] = 0.0, 0
    logger["day_rest"], logger["day_weight"], logger["day_rests"] = 0.0, 0.0, 0
    forget_fall(logger)


@njit(cache=False)
def forget_fall(logger: Record) -> None:
    """Begin the CUSUM anew."""
    logger["cusum"] = logger["fall"] = logger["flow_z"] = logger["raw"] = 0.0
    logger["slots"] = 0
    logger["since_ms"] = NEVER
