"""Which alarm explains which known leak, strictly: by event, one alarm one leak, soon after its start.

With a leak's whole duration as the window, random alarms "find" most leaks; so an alarm that comes later, or again, is
not explained by the leak that runs, and is told apart from one with no known leak at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from models.schema import LEAK_TYPES, Alert
from training.labels import ABRUPT, HOUR_MS, Leak

Verdict = Literal["explains", "late", "repeat", "outside", "warm_up"]
VERDICTS: Final[dict[str, str]] = {
    "explains": "finds a known leak in time",
    "late": "the first alarm of a known leak that runs, but after its time was over",
    "repeat": "while a known leak runs that was found, or is already late",
    "outside": "no known leak runs",
    "warm_up": "before anything was expected of the DMA; in no count and no rate",
}


@dataclass(frozen=True)
class Rules:
    """How soon after its start a leak must be found to count."""

    abrupt_within_hours: float = 24.0
    incipient_within_days: float = 14.0

    def within_ms(self, kind: str) -> int:
        """The time that a leak of the kind has."""
        return int((self.abrupt_within_hours if kind == ABRUPT else self.incipient_within_days * 24) * HOUR_MS)

    def deadline_ms(self, leak: Leak) -> int:
        """Latest moment of an alarm that finds the leak: within its time, and while it runs."""
        deadline_ms = leak.started_ms + self.within_ms(leak.kind)
        return deadline_ms if leak.ended_ms is None else min(deadline_ms, leak.ended_ms)


STRICT: Final = Rules()


@dataclass(frozen=True)
class Alarm:
    """One alert, or one alarm of a rule: raised, and over; `over_ms` None while it lasts.

    `again_ms`: (from, over) for each time that it was re-opened. Such a time is no further alarm, and finds no leak.
    """

    id: str
    dma: str
    type: str
    raised_ms: int
    over_ms: int | None = None
    again_ms: tuple[tuple[int, int | None], ...] = ()

    @property
    def open_ms(self) -> tuple[tuple[int, int | None], ...]:
        """Every time, (from, over), that it was open."""
        return ((self.raised_ms, self.over_ms), *self.again_ms)

    @property
    def is_of_a_leak(self) -> bool:
        """True for a burst or a night-flow leak of a DMA."""
        return self.type in LEAK_TYPES


@dataclass(frozen=True)
class Matched:
    """`explained`: alarm id -> row of the leak it finds; `late`: of the leak it finds too late; `verdicts`: of all."""

    explained: dict[str, int]
    late: dict[str, int]
    verdicts: dict[str, Verdict]


def first_revisions(alerts: Iterable[Alert]) -> list[Alert]:
    """One per alert id, the earliest revision, in order of detection."""
    first: dict[str, Alert] = {}
    for alert in alerts:
        known = first.get(alert.alert_id)
        if known is None or alert.revision < known.revision:
            first[alert.alert_id] = alert
    return sorted(first.values(), key=lambda alert: (alert.detected_at, alert.alert_id))


def raised_between(alerts: Iterable[Alert], since_ms: int, until_ms: float) -> list[Alert]:
    """All revisions of the alerts that were raised in (since_ms, until_ms]."""
    every = list(alerts)
    ours = {alert.alert_id for alert in first_revisions(every) if since_ms < alert.detected_at <= until_ms}
    return [alert for alert in every if alert.alert_id in ours]


def alarms_of(alerts: Iterable[Alert]) -> list[Alarm]:
    """One per alert, in order of detection. It is over when it was said to be, not at the end then found for it."""
    all_of = list(alerts)
    changes: dict[str, dict[int, Alert]] = {}
    for alert in all_of:
        changes.setdefault(alert.alert_id, {})[alert.revision] = alert
    alarms = []
    for a in first_revisions(all_of):
        times: list[tuple[int, int | None]] = [(a.detected_at, None)]
        for _, alert in sorted(changes[a.alert_id].items()):
            from_ms, over_ms = times[-1]
            is_over = alert.event in ("cleared", "closed")
            if over_ms is None and is_over:
                times[-1] = (from_ms, alert.updated_at)
            elif over_ms is not None and not is_over and alert.state not in ("cleared", "closed"):
                times.append((alert.updated_at, None))
        name = a.type if a.scope.type == "dma" else f"{a.type} of a {a.scope.type}"
        alarms.append(Alarm(a.alert_id, a.scope.id, name, *times[0], tuple(times[1:])))
    return alarms


def assign(times_ms: Sequence[int], windows: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Place of a time -> place of the window (start, end), both ends in, that it takes; as many as can be.

    `times_ms` ascending. Each takes the free window that ends first: for windows of time this finds the most pairs.
    """
    taken: dict[int, int] = {}
    free = set(range(len(windows)))
    for place, time in enumerate(times_ms):
        open_now = [(windows[w][1], windows[w][0], w) for w in free if windows[w][0] <= time <= windows[w][1]]
        if open_now:
            taken[place] = min(open_now)[2]
            free.discard(taken[place])
    return taken


def match(alarms: Sequence[Alarm], leaks: Sequence[Leak], rules: Rules, warm_ms: Mapping[str, int]) -> Matched:
    """Every alarm of a leak type (ascending by time) with its verdict. `warm_ms`: end of each DMA's warm-up."""
    found = Matched({}, {}, {})
    for dma in {alarm.dma for alarm in alarms if alarm.is_of_a_leak}:
        ours = [alarm for alarm in alarms if alarm.dma == dma and alarm.is_of_a_leak]
        rows = [row for row, leak in enumerate(leaks) if leak.dma == dma]
        counted = [alarm for alarm in ours if alarm.raised_ms >= warm_ms.get(dma, 0)]
        found.verdicts.update((alarm.id, "warm_up") for alarm in ours if alarm not in counted)
        windows = [(leaks[row].started_ms, rules.deadline_ms(leaks[row])) for row in rows]
        taken = assign([alarm.raised_ms for alarm in counted], windows)
        known = {rows[window] for window in taken.values()}
        for place, alarm in enumerate(counted):
            if place in taken:
                found.explained[alarm.id] = rows[taken[place]]
                found.verdicts[alarm.id] = "explains"
                continue
            running = [row for row in rows if leaks[row].runs_at(alarm.raised_ms)]
            unknown = [row for row in running if row not in known]
            if unknown:
                known.add(unknown[0])
                found.late[alarm.id] = unknown[0]
            found.verdicts[alarm.id] = "late" if unknown else "repeat" if running else "outside"
    return found
