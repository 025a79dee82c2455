"""What is not learned from: known leaks, planned work, and what the engine itself calls unfit; counted by reason.

A slot has one reason, the first of `REASONS` that holds, so that the counts add up: "event open" are slots that no label
explains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bundle import DetectorCalibration, LeftOutWindow
from models.network import Site
from models.planned import BEFORE_MS, EVERYWHERE
from training.collect import FIT, MISSING, NOT_FINITE, OPEN, WARMING, Slots
from training.detector_law import Days
from training.drift_reference import Past
from training.labels import HOUR_MS, KnownEvent, Leak

RECOVERY_HOURS: Final = 48.0
"""Two nights: `night_z` keeps a night's minimum until the next, and the engine takes two without it for a leak's end."""
BEFORE: Final = "before --since (warm-up)"
DATA_MISSING, WARMING_UP = "data missing", "warming up"
KNOWN_LEAK, KNOWN_EVENT, PLANNED = "known leak", "known event", "planned work"
EVENT_OPEN, FEATURE_NOT_FINITE = "event open", "feature not finite"
NORMAL: Final = "normal by its outcome"
"""Of a `Known` that is learned from though the engine had an event open, or all of an alert but its first hour were lost."""
REASONS: Final = (
    BEFORE, DATA_MISSING, WARMING_UP, KNOWN_LEAK, KNOWN_EVENT, PLANNED, EVENT_OPEN, FEATURE_NOT_FINITE,
)  # fmt: skip
_STATES: Final = {MISSING: DATA_MISSING, WARMING: WARMING_UP, OPEN: EVENT_OPEN, NOT_FINITE: FEATURE_NOT_FINITE}
_EVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Known:
    """A period of one DMA, or of all (`*`), that is not learned from; `until_ms` None: to the end of the history.

    With the reason `NORMAL` it is one that is.
    """

    dma: str
    from_ms: int
    until_ms: int | None
    reason: str
    what: str

    @property
    def is_normal(self) -> bool:
        """True for what a label calls normal: it is kept, although the engine had an event open."""
        return self.reason == NORMAL


@dataclass
class Rows:
    """What may be learned from of one DMA, in order of time, and what was left out."""

    slot_ms: int
    ends_ms: NDArray[np.int64]
    features: NDArray[np.float32]
    """(n, F), finite."""
    return_days: float
    """Of the alert budget in this DMA."""
    timezone: str
    left_out: dict[str, int]
    windows: Sequence[LeftOutWindow] = ()
    leak_alarms_ms: Sequence[int] = ()
    judged_ends_ms: NDArray[np.int64] | None = None
    """Slots in which a leak could have been alarmed; None: those of the rows."""
    days: Days | None = None
    """What the detectors' calibrations are learned from."""
    since_ms: int = 0
    """Nothing before it is learned from."""
    in_event: NDArray[np.bool_] | None = None
    """(n,) rows in which an event was open that its outcome calls normal; None: none."""

    @property
    def left_out_hours(self) -> dict[str, float]:
        """The slots left out as hours."""
        return {reason: round(count * self.slot_ms / HOUR_MS, 2) for reason, count in self.left_out.items()}

    def detectors(self, until_ms: int) -> dict[str, DetectorCalibration]:
        """The detectors' calibrations at a time, by name."""
        return {} if self.days is None else self.days.told(self.return_days, self.since_ms, until_ms)

    def counted(self, until_ms: int) -> NDArray[np.bool_]:
        """(n,) rows up to a time that a worker's drift would count too: it counts none with an event open."""
        return (self.ends_ms <= until_ms) & ~(
            np.zeros(len(self.ends_ms), np.bool_) if self.in_event is None else self.in_event
        )

    def past(self, until_ms: int) -> Past:
        """The training window up to a time, for the drift reference."""
        judged = self.ends_ms if self.judged_ends_ms is None else self.judged_ends_ms
        alarms = sum(alarm_ms <= until_ms for alarm_ms in self.leak_alarms_ms)
        ends = self.ends_ms[self.counted(until_ms)]
        return Past(self.timezone, self.slot_ms, alarms, int((judged <= until_ms).sum()), ends)


def known_periods(
    site: Site, leaks: Iterable[Leak] = (), events: Sequence[KnownEvent] = (), recovery_hours: float = RECOVERY_HOURS
) -> list[Known]:
    """Everything that is known of a site's past, each with the recovery after it.

    What an outcome calls normal (`Known.is_normal`) is learned from its start to its end and has no recovery; another event
    whose end nobody knows is left out for its recovery only. Planned work begins an hour early, as its events may.
    """
    recovery_ms, events = round(recovery_hours * HOUR_MS), list(events)
    found = [
        Known(leak.dma, leak.started_ms, None if leak.ended_ms is None else leak.ended_ms + recovery_ms, KNOWN_LEAK, leak.id)
        for leak in leaks
    ]
    found += [
        Known(event.dma, event.started_ms, (event.ended_ms or event.started_ms) + recovery_ms, KNOWN_EVENT, event.id)
        for event in events
        if not event.is_normal
    ]
    found += [
        Known(event.dma, event.started_ms, event.ended_ms or event.started_ms, NORMAL, event.id)
        for event in events
        if event.is_normal
    ]
    found += [
        Known(work.dma, work.start_ms - BEFORE_MS, work.end_ms + recovery_ms, PLANNED, work.what) for work in site.planned
    ]
    return found


def clean(
    slots: Slots,
    known: Iterable[Known],
    *,
    since_ms: int | None,
    until_ms: int | None,
    return_days: float,
    timezone: str,
) -> Rows:
    """The rows of one DMA that may be learned from: slots that end after `since_ms` and not after `until_ms`.

    Later slots are in no count: how many were read depends on the windows, and on how much history there is by now.
    """
    ends, features, states = slots.joined()
    if until_ms is not None:
        asked_for = int(np.searchsorted(ends, until_ms, "right"))
        ends, features, states = ends[:asked_for], features[:asked_for], states[:asked_for]
    here = [period for period in known if period.dma in (slots.dma, EVERYWHERE)]
    in_event = np.zeros(len(ends), np.bool_)
    if slots.days is not None:
        in_event = slots.days.open_but_normal(ends) & (states == OPEN) & np.isfinite(features).all(axis=1)
    states = np.where(in_event, FIT, states)
    why = np.zeros(len(ends), np.uint8)  # 0: learned from, else 1 + its place in REASONS

    def mark(which: NDArray[np.bool_], reason: str) -> None:
        why[which & (why == 0)] = 1 + REASONS.index(reason)

    asked = np.ones(len(ends), np.bool_)
    if since_ms is not None:
        asked &= ends > since_ms
        mark(ends <= since_ms, BEFORE)
    judged = asked & (states != MISSING) & (states != WARMING)
    for state in (MISSING, WARMING):
        mark(states == state, _STATES[state])
    windows = []
    not_learned = [period for period in here if not period.is_normal]
    for period in sorted(not_learned, key=lambda one: (REASONS.index(one.reason), one.from_ms, one.what)):
        last = _EVER if period.until_ms is None else period.until_ms
        inside = (ends > period.from_ms) & (ends - slots.slot_ms < last)
        count = int((inside & (why == 0)).sum())
        mark(inside, period.reason)
        if (inside & asked).any():
            windows.append(_window(slots.dma, period, count))
    for state in (OPEN, NOT_FINITE):
        mark(states == state, _STATES[state])
    counts = np.bincount(why, minlength=len(REASONS) + 1)[1:].tolist()
    first, last = (since_ms or 0), (_EVER if until_ms is None else until_ms)
    return Rows(
        slots.slot_ms, ends[why == 0], features[why == 0], return_days, timezone,
        {reason: count for reason, count in zip(REASONS, counts, strict=True) if count},
        windows, [at for at in slots.alarms_ms if first < at <= last], ends[judged],
        slots.days, since_ms or 0, in_event[why == 0],
    )  # fmt: skip


def _window(dma: str, period: Known, slots: int) -> LeftOutWindow:
    return LeftOutWindow(
        dma=dma,
        from_ms=max(period.from_ms, 0),
        until_ms=period.until_ms,
        reason=period.reason,
        what=period.what,
        slots=slots,
    )


def totals(rows: Iterable[Rows]) -> dict[str, int]:
    """Slots by reason over several DMAs."""
    found = list(rows)
    sums = {reason: sum(one.left_out.get(reason, 0) for one in found) for reason in REASONS}
    return {reason: count for reason, count in sums.items() if count}


def said(left_out: Mapping[str, int], hours: Mapping[str, float] | None = None) -> str:
    """As one line: `41,190 warming up (3,433 h), 24 feature not finite (2 h)`; without the hours where there are none."""
    spans = {} if hours is None else {reason: f" ({of:,.0f} h)" for reason, of in hours.items()}
    return ", ".join(f"{count:,} {reason}{spans.get(reason, '')}" for reason, count in left_out.items()) or "none"
