"""What labels change in the detectors' calibrations: the engine's own law, over the days and alarms that labels leave.

The engine learns without labels: every alarm counts once, as noise, at its threshold, a confirmed leak as well as a false
alarm; and days of planned work count. Here the same law (`models.relearn`) goes over the same days once as the engine has,
and once without what labels explain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.detectors import DETECTORS
from models.engine import StepResult
from models.relearn import relearn
from models.schema import Records
from models.state import no_past
from training.local_time import LocalTime

if TYPE_CHECKING:
    from training.leave_out import Known

DAY_MS: Final = 86_400_000
OF_LEAKS: Final = ("burst", "night_flow_leak", "boundary_valve")
"""Alerts of the events that calibrations hear of."""
_EVER: Final = np.iinfo(np.int64).max


class Alarm(NamedTuple):
    """An event that was raised."""

    started_ms: int
    at_ms: int
    alarmed: NDArray[np.uint8]
    """(D,) as in DETECTION."""


@dataclass
class Day:
    """One local day of one DMA."""

    number: int
    """Days since the epoch."""
    start_ms: int
    end_ms: int
    """Of its last slot so far."""
    quiet: bool
    """No leak event open at its end."""
    maxima: NDArray[np.float64]
    """(D,) largest statistic since its last alarm, NaN without one."""
    kept: NDArray[np.float64]
    """(D,) the same outside of known periods."""
    said: NDArray[np.int64]
    """(D,) slots with a statistic,"""
    said_outside: NDArray[np.int64]
    """(D,) of these outside of known periods."""


@dataclass
class Days:
    """The days and alarms of one DMA, in order of time, as its engine's detections and alerts tell; 200 bytes a day.

    `known`: its periods that are no ordinary days.
    """

    timezone: str
    slot_ms: int
    known: Sequence[Known] = ()
    days: list[Day] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)

    def take(self, step: StepResult) -> None:
        """Add the slots and alarms of one step; however the readings were cut into steps, the same comes of it."""
        rows = step.detections
        if not len(rows):
            return
        ends = rows["slot_end_ms"]
        raised = [one for one in step.alerts if one.event == "raised" and one.type in OF_LEAKS]
        for alert in sorted(raised, key=lambda one: one.detected_at):
            at = int(np.searchsorted(ends, alert.detected_at))
            self.alarms.append(Alarm(alert.started_at, alert.detected_at, rows["alarmed"][at].copy()))
        alarm_ends = {alarm.at_ms for alarm in self.alarms[len(self.alarms) - len(raised) :]}
        numbers = LocalTime(self.timezone).ms(ends - self.slot_ms).astype(np.int64) // DAY_MS
        outside = np.ones(len(ends), np.bool_)
        for period in self.known:
            until_ms = _EVER if period.until_ms is None else period.until_ms
            outside &= (ends <= period.from_ms) | (ends - self.slot_ms >= until_ms)
        cuts = np.flatnonzero((np.diff(numbers) != 0) | np.isin(ends[:-1], list(alarm_ends))) + 1
        for part in np.split(np.arange(len(rows)), cuts):
            self._add(int(numbers[part[0]]), rows[part], outside[part])
            if int(ends[part[-1]]) in alarm_ends:
                self.days[-1].maxima[:] = self.days[-1].kept[:] = np.nan

    def _add(self, number: int, rows: Records, outside: NDArray[np.bool_]) -> None:
        """Slots of one day, up to an alarm's at most."""
        if not self.days or self.days[-1].number != number:
            nothing, none = np.full(len(DETECTORS), np.nan), np.zeros(len(DETECTORS), np.int64)
            self.days.append(Day(number, int(rows["slot_end_ms"][0]) - self.slot_ms, 0, True, nothing, nothing.copy(), none, none.copy()))
        day, statistics = self.days[-1], rows["statistics"]
        day.end_ms, day.quiet = int(rows["slot_end_ms"][-1]), not rows["leak_open"][-1]
        day.maxima = np.fmax(day.maxima, np.fmax.reduce(statistics))
        day.said += np.isfinite(statistics).sum(axis=0)
        if outside.any():
            day.kept = np.fmax(day.kept, np.fmax.reduce(statistics[outside]))
            day.said_outside += np.isfinite(statistics[outside]).sum(axis=0)

    def explained(self, alarm: Alarm) -> bool:
        """True where a known period, or the recovery after it, reaches into the time from the event's start to its alarm."""
        return any(
            period.from_ms < alarm.at_ms and (period.until_ms is None or period.until_ms > alarm.started_ms)
            for period in self.known
        )

    def calibrations(self, return_days: float, since_ms: int, until_ms: int, *, with_labels: bool) -> Records:
        """(D,) CALIBRATION learned from what ends after `since_ms` and not after `until_ms`; days that wait are in it still.

        Without labels it is the engine's own, to the bit.
        """
        days = [day for day in self.days if since_ms <= day.start_ms and day.end_ms < until_ms]
        alarms = [alarm for alarm in self.alarms if since_ms < alarm.at_ms <= until_ms]
        found = no_past()
        ends = np.array([day.end_ms for day in days], np.int64)
        alarmed = np.array([alarm.alarmed for alarm in alarms], np.uint8).reshape(-1, len(DETECTORS))
        maxima = np.array([day.maxima for day in days], np.float64).reshape(-1, len(DETECTORS))
        if with_labels:
            alarmed[[self.explained(alarm) for alarm in alarms]] = 0
            maxima = np.array([
                np.where(2 * day.said_outside >= day.said, day.kept, np.nan) for day in days
            ], np.float64).reshape(-1, len(DETECTORS))
        relearn(
            found, return_days, maxima, np.array([day.quiet for day in days], np.bool_),
            np.searchsorted(ends, np.array([alarm.at_ms for alarm in alarms], np.int64)),
            np.array([(alarm.at_ms - alarm.started_ms) // DAY_MS + 1 for alarm in alarms], np.int64), alarmed,
        )  # fmt: skip
        return found
