"""What labels make of the detectors' calibrations: the engine's own law, over the days and alarms that labels leave.

The engine learns without labels: every alarm counts once, as noise, at its threshold, a confirmed leak as well as a false
alarm; and days of planned work count. Here the same law (`models.relearn`) goes over the same past twice, as the engine has,
and as labels correct it:

- what a label or planned work explains, with the recovery after it, is no day and no alarm;
- an alarm that a label calls normal counts with what it was, and not just with the threshold;
- an alarm of which no label speaks counts as in the engine.

Days with an open event teach nothing in either: what the event explains is taken off their flow, so their maxima are too
small. (Taken in where a label calls the event normal: thresholds lower by up to a hundredth, the same alarms in six real
DMAs. 2026-11-28)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.bundle import DetectorCalibration
from models.calibration import threshold
from models.detectors import DETECTORS, ISOLATION
from models.engine import StepResult
from models.planned import EVERYWHERE
from models.relearn import relearn
from models.schema import Alert, Record, Records
from models.state import PRIOR_DAYS, no_past
from training.local_time import LocalTime

if TYPE_CHECKING:
    from training.leave_out import Known

DAY_MS: Final = 86_400_000
OF_LEAKS: Final = ("burst", "night_flow_leak", "boundary_valve")
"""Alerts of the events that calibrations hear of."""
_EVER: Final = np.iinfo(np.int64).max
_N: Final = len(DETECTORS)
_DAY: Final = np.dtype(
    [
        ("number", "<i8"),  # local day, days since the epoch
        ("start_ms", "<i8"),  # of its first slot
        ("end_ms", "<i8"),  # of its last slot so far
        ("quiet", "?"),  # no leak event open then
        ("maxima", "<f8", (_N,)),  # largest statistic since the day's last alarm, NaN without one
        ("kept", "<f8", (_N,)),  # the same outside of known periods
        ("said", "<i4", (_N,)),  # slots with a statistic
        ("said_outside", "<i4", (_N,)),  # of these outside of known periods
    ]
)


@dataclass
class Alarm:
    """An event that was raised."""

    id: str
    started_ms: int
    at_ms: int
    alarmed: NDArray[np.uint8]
    """(D,) as in DETECTION,"""
    statistics: NDArray[np.float64]
    """(D,) and of the same slot."""
    until_ms: int | None = None
    """When it was cleared or closed; None while it is open."""

    def is_within(self, period: Known) -> bool:
        """True where the period reaches into the time from the event's start to its alarm."""
        return period.from_ms <= self.at_ms and (period.until_ms is None or period.until_ms >= self.started_ms)


class Days:
    """The days and alarms of one DMA, in order of time, as its engine's detections and alerts tell; 150 bytes a day.

    `known`: periods of the site that are no ordinary days, and events that labels call normal.
    """

    def __init__(self, dma: str, slot_ms: int, timezone: str, known: Sequence[Known] = ()) -> None:
        self._slot_ms, self._local = slot_ms, LocalTime(timezone)
        own = [period for period in known if period.dma in (dma, EVERYWHERE)]
        self._explained = [period for period in own if not period.is_normal]
        self._normal = [period for period in own if period.is_normal]
        self._days, self._count = np.zeros(64, _DAY), 0
        self.alarms: list[Alarm] = []

    @property
    def days(self) -> Records:
        """What came of each day so far."""
        return self._days[: self._count]

    def take(self, step: StepResult) -> None:
        """Add the slots and alarms of one step; however the readings were cut into steps, the same comes of it."""
        rows = step.detections
        if not len(rows):
            return
        ends = rows["slot_end_ms"]
        alarm_ends = self._note_alarms(step.alerts, rows)
        numbers = self._local.ms(ends - self._slot_ms).astype(np.int64) // DAY_MS
        outside = np.ones(len(ends), np.bool_)
        for period in self._explained:
            until_ms = _EVER if period.until_ms is None else period.until_ms
            outside &= (ends <= period.from_ms) | (ends - self._slot_ms >= until_ms)
        cuts = np.flatnonzero((np.diff(numbers) != 0) | np.isin(ends[:-1], alarm_ends)) + 1
        starts = [0, *cuts.tolist(), len(rows)]
        for start, stop in pairwise(starts):
            day = self._add(int(numbers[start]), rows[start:stop], outside[start:stop])
            if int(ends[stop - 1]) in alarm_ends:  # it wipes the day's maximum out
                day["maxima"] = day["kept"] = np.nan

    def _note_alarms(self, alerts: Sequence[Alert], rows: Records) -> list[int]:
        """Keep what was raised and what has ended; the ends of the slots with an alarm."""
        at = []
        for alert in alerts:
            if alert.type not in OF_LEAKS:
                continue
            if alert.event == "raised" or "reopened" in alert.reasons:  # re-opened, it teaches nothing but wipes days out
                row = rows[np.searchsorted(rows["slot_end_ms"], alert.updated_at)]
                told = row["alarmed"].copy(), row["statistics"].copy()
                self.alarms.append(Alarm(alert.alert_id, alert.started_at, alert.updated_at, *told))
                at.append(alert.updated_at)
            elif alert.event in ("cleared", "closed"):
                for alarm in self.alarms:
                    if alarm.id == alert.alert_id and alarm.until_ms is None:
                        alarm.until_ms = alert.updated_at
        return at

    def _add(self, number: int, rows: Records, outside: NDArray[np.bool_]) -> Record:
        """Take slots of one day, up to an alarm's at most; the day."""
        if not self._count or self._days[self._count - 1]["number"] != number:
            if self._count == len(self._days):
                self._days = np.concatenate([self._days, np.zeros_like(self._days)])
            day: Record = self._days[self._count]
            day["number"], day["start_ms"] = number, rows["slot_end_ms"][0] - self._slot_ms
            day["maxima"] = day["kept"] = np.nan
            self._count += 1
        day, statistics = self._days[self._count - 1], rows["statistics"]
        day["end_ms"], day["quiet"] = rows["slot_end_ms"][-1], not rows["leak_open"][-1]
        day["maxima"] = np.fmax(day["maxima"], np.fmax.reduce(statistics))
        day["said"] += np.isfinite(statistics).sum(axis=0)
        if outside.any():
            day["kept"] = np.fmax(day["kept"], np.fmax.reduce(statistics[outside]))
            day["said_outside"] += np.isfinite(statistics[outside]).sum(axis=0)
        return day

    def is_explained(self, alarm: Alarm) -> bool:
        """True for an alarm that is not learned: of a leak, planned work, a meter fault, an unknown outcome."""
        return any(alarm.is_within(period) for period in self._explained)

    def is_normal(self, alarm: Alarm) -> bool:
        """True for one that a label calls normal."""
        return not self.is_explained(alarm) and any(alarm.is_within(period) for period in self._normal)

    def open_but_normal(self, ends_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) slots in which an event was open that a label calls normal, and no other."""
        normal, other = np.zeros(len(ends_ms), np.bool_), np.zeros(len(ends_ms), np.bool_)
        for alarm in self.alarms if self._normal else ():
            span = (ends_ms > alarm.at_ms) & (ends_ms <= (_EVER if alarm.until_ms is None else alarm.until_ms))
            if self.is_normal(alarm):
                normal |= span
            else:
                other |= span
        return normal & ~other

    def calibrations(self, return_days: float, since_ms: int, until_ms: int, *, with_labels: bool) -> Records:
        """(D,) CALIBRATION learned from the days that begin at `since_ms` or later and are over before `until_ms`.

        Without labels it is what an engine has that began then, to the bit; days that still wait included.
        """
        days, alarms = self._within(since_ms, until_ms)
        maxima, vouched = days["maxima"].copy(), np.full((len(alarms), _N), np.nan)
        alarmed = np.array([alarm.alarmed for alarm in alarms], np.uint8).reshape(-1, _N)
        if with_labels:
            maxima = np.where(_is_excluded(days), np.nan, days["kept"])
            for at, alarm in enumerate(alarms):
                if self.is_explained(alarm):
                    alarmed[at] = 0
                elif self.is_normal(alarm):
                    vouched[at] = alarm.statistics
        found = no_past()
        relearn(
            found, return_days, maxima, days["quiet"].copy(),
            np.searchsorted(days["end_ms"], np.array([alarm.at_ms for alarm in alarms], np.int64)),
            np.array([(alarm.at_ms - alarm.started_ms) // DAY_MS + 1 for alarm in alarms], np.int64), alarmed, vouched,
        )  # fmt: skip
        return found

    def told(self, return_days: float, since_ms: int, until_ms: int) -> dict[str, DetectorCalibration]:
        """What the manifest says, by name of the detectors that have learned something; the forest's own is elsewhere."""
        plain, corrected = (
            self.calibrations(return_days, since_ms, until_ms, with_labels=labelled) for labelled in (False, True)
        )
        days, alarms = self._within(since_ms, until_ms)
        excluded = _is_excluded(days)
        found = {}
        for at, detector in enumerate(DETECTORS):
            learned = round(float(corrected[at]["days"]) - PRIOR_DAYS)
            if at == ISOLATION or not learned > 0:
                continue
            heard = [alarm for alarm in alarms if alarm.alarmed[at]]
            kinds = [(self.is_explained(alarm), self.is_normal(alarm)) for alarm in heard]
            found[detector.name] = DetectorCalibration(
                mean=float(corrected[at]["mean"]), sd=float(np.sqrt(corrected[at]["variance"])), days=learned,
                return_days=return_days, threshold=_level(corrected[at], return_days),
                engine_threshold=_level(plain[at], return_days),
                days_excluded=int((excluded[:, at] & days["quiet"]).sum()),
                alarms=kinds.count((False, False)), alarms_normal=kinds.count((False, True)),
                alarms_excluded=sum(explained for explained, _ in kinds),
            )  # fmt: skip
        return found

    def _within(self, since_ms: int, until_ms: int) -> tuple[Records, list[Alarm]]:
        """A day is over with the first slot of the next; alarms of one that is not yet count, as in the engine."""
        days = self.days[(self.days["start_ms"] >= since_ms) & (self.days["end_ms"] < until_ms)]
        return days, [alarm for alarm in self.alarms if since_ms < alarm.at_ms <= until_ms]


def _is_excluded(days: Records) -> NDArray[np.bool_]:
    """(n, D) days of whose slots with a statistic less than half lie outside of known periods."""
    found: NDArray[np.bool_] = 2 * days["said_outside"] < days["said"]
    return found


def _level(calibration: Record, return_days: float) -> float:
    return float(threshold.py_func(calibration, return_days))
