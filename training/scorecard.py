"""How good the alerts are against known leaks, event by event, strictly.

A leak is found when an alert of a leak type is raised in its DMA within a set time after its start: a day for an abrupt
leak, fourteen days for an incipient one. One alert explains one leak. Every other alert of a leak type is unexplained,
also one raised while a known leak runs; those are counted apart, because a leak's whole duration is so wide a window
that random alarms would "find" most leaks.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from models.config import ConfigError, nearest
from models.network import Site
from models.schema import Alert
from training.history_time import NO_TIME, LocalClock, parse_times

LEAK_TYPES: Final = ("burst", "night_flow_leak")
KINDS: Final = ("abrupt", "incipient")
HOUR_MS: Final = 3_600_000
MONTH_MS: Final = 30.44 * 24 * HOUR_MS
_REQUIRED: Final = ("dma", "kind", "startedAt", "endedAt")


@dataclass(frozen=True)
class Leak:
    """A leak that is known. `ended_ms` is None where it was never repaired."""

    id: str
    dma: str
    kind: str
    started_ms: int
    ended_ms: int | None
    max_m3h: float | None = None


@dataclass(frozen=True)
class Rules:
    """How soon after its start a leak must be found to count."""

    abrupt_within_hours: float = 24.0
    incipient_within_days: float = 14.0

    def deadline_ms(self, leak: Leak) -> float:
        """Latest moment of an alert that finds the leak."""
        hours = self.abrupt_within_hours if leak.kind == "abrupt" else self.incipient_within_days * 24
        return leak.started_ms + hours * HOUR_MS


@dataclass
class _Tally:
    leaks: Counter[str] = field(default_factory=Counter)
    delays_h: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    alarms: int = 0
    unexplained: int = 0
    during_leak: int = 0
    other: Counter[str] = field(default_factory=Counter)
    months: float = 0.0


def read_labels(path: Path, site: Site) -> list[Leak]:
    """The leaks of a labels.csv: `dma,kind,startedAt,endedAt[,id,max_m3h]`; naive times are the site's local time.

    Raises ConfigError naming every faulty line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise ConfigError([f"{path}: no column {name!r}; possible: {', '.join(_REQUIRED)}, id, max_m3h" for name in missing])
    faults: list[str] = []
    leaks = []
    for line, row in enumerate(rows, 2):
        before = len(faults)
        where = f"{path}: line {line}"
        dma, kind = (row["dma"] or "").strip(), (row["kind"] or "").strip()
        if dma not in site.dma_row:
            faults.append(f"{where}: dma {dma!r} is not in network.toml; {nearest(dma, site.dma_row)}")
        if kind not in KINDS:
            faults.append(f"{where}: kind {kind!r}; possible: {', '.join(KINDS)}")
        started = _time(row["startedAt"], site)
        ended = _time(row["endedAt"], site) if (row["endedAt"] or "").strip() else None
        if started is None or (ended is None and (row["endedAt"] or "").strip()):
            shown = row["startedAt"] if started is None else row["endedAt"]
            faults.append(f"{where}: time {shown!r} cannot be read; possible: ISO 8601, from 1990 to 2100")
        elif ended is not None and ended < started:
            faults.append(f"{where}: endedAt {row['endedAt']!r} is before startedAt; possible: a later time, or nothing")
        size = _size(row.get("max_m3h"))
        if size is not None and not math.isfinite(size):
            faults.append(f"{where}: max_m3h {row['max_m3h']!r}; possible: a finite number, or nothing")
        if len(faults) == before and started is not None:
            leaks.append(Leak((row.get("id") or f"line-{line}").strip(), dma, kind, started, ended, size))
    if faults:
        raise ConfigError(faults)
    return leaks


def _size(text: str | None) -> float | None:
    """NaN for what is no number."""
    try:
        return float(text) if text else None
    except ValueError:
        return math.nan


def _time(text: str | None, site: Site) -> int | None:
    times = parse_times(pa.array([(text or "").strip()]), LocalClock(site.timezone))
    return None if times[0] == NO_TIME else int(times[0])


def first_revisions(alerts: Iterable[Alert]) -> list[Alert]:
    """One per alert id, the earliest revision, in order of detection."""
    first: dict[str, Alert] = {}
    for alert in alerts:
        known = first.get(alert.alert_id)
        if known is None or alert.revision < known.revision:
            first[alert.alert_id] = alert
    return sorted(first.values(), key=lambda alert: (alert.detected_at, alert.alert_id))


def match(raised: Sequence[Alert], leaks: Sequence[Leak], rules: Rules) -> dict[str, int]:
    """Alert id -> index of the leak it explains; as many leaks as can be.

    Alerts are taken in order of time, each for the waiting leak of its DMA whose deadline comes first: for windows of
    time this finds the most pairs.
    """
    explained: dict[str, int] = {}
    found: set[int] = set()
    for alert in raised:
        if alert.type not in LEAK_TYPES or alert.scope.type != "dma":
            continue
        waiting = [
            (rules.deadline_ms(leak), at)
            for at, leak in enumerate(leaks)
            if at not in found
            and leak.dma == alert.scope.id
            and leak.started_ms <= alert.detected_at <= rules.deadline_ms(leak)
        ]
        if waiting:
            _, at = min(waiting)
            found.add(at)
            explained[alert.alert_id] = at
    return explained


def score(
    alerts: Iterable[Alert],
    leaks: Sequence[Leak] | None,
    span_ms: Mapping[str, tuple[int, int]],
    rules: Rules = Rules(),
    judged_ms: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The scorecard, ready for JSON. `span_ms`: for each DMA, start and end of what was judged.

    `judged_ms` is how much time of that span had a net inflow, all of it by default: what the rates of alarms refer to.
    Without labels (None) only the rates of alarms are told. Leaks that start outside the span are listed, not counted.
    """
    raised = first_revisions(alerts)
    inside = [leak for leak in leaks or () if _is_inside(leak, span_ms)]
    explained = match(raised, inside, rules)
    by_leak = {at: alert for alert in raised if (at := explained.get(alert.alert_id)) is not None}
    watched_ms = {dma: end - start for dma, (start, end) in span_ms.items()}
    watched_ms |= {dma: judged_ms.get(dma, 0) for dma in watched_ms if judged_ms is not None}
    tallies = {dma: _Tally(months=time_ms / MONTH_MS) for dma, time_ms in watched_ms.items()}
    total = _Tally(months=sum(tally.months for tally in tallies.values()))
    alarms = []
    for alert in raised:
        if alert.type in LEAK_TYPES and alert.alert_id not in explained:
            alarms.append(_unexplained(alert, inside))
        for tally in (total, tallies.get(alert.scope.id) or _Tally()):
            if alert.type not in LEAK_TYPES:
                tally.other[alert.type] += 1
                continue
            tally.alarms += 1
            if alert.alert_id not in explained:
                tally.unexplained += 1
                tally.during_leak += alarms[-1]["duringLeak"]
    rows = []
    for at, leak in enumerate(inside):
        delay_h = (by_leak[at].detected_at - leak.started_ms) / HOUR_MS if at in by_leak else None
        rows.append(_leak_row(leak, by_leak.get(at), delay_h, span_ms[leak.dma][1]))
        for tally in (total, tallies[leak.dma]):
            tally.leaks[leak.kind] += 1
            if delay_h is not None:
                tally.delays_h[leak.kind].append(delay_h)
    return {
        "labelled": leaks is not None,
        "rules": {
            "abruptWithinHours": rules.abrupt_within_hours,
            "incipientWithinDays": rules.incipient_within_days,
            "leakTypes": list(LEAK_TYPES),
            "matching": "raised in the leak's DMA within the time after its start; one alert explains one leak",
        },
        "summary": _summary(total, labelled=leaks is not None),
        "dmas": {dma: _summary(tally, labelled=leaks is not None) for dma, tally in tallies.items()},
        "leaks": rows,
        "leaksOutsideTheData": [leak.id for leak in leaks or () if not _is_inside(leak, span_ms)],
        "unexplainedAlarms": alarms if leaks is not None else [],
    }


def _is_inside(leak: Leak, span_ms: Mapping[str, tuple[int, int]]) -> bool:
    start, end = span_ms.get(leak.dma, (0, 0))
    return start <= leak.started_ms < end


def iso(time_ms: int | None) -> str | None:
    """RFC 3339 in UTC."""
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _unexplained(alert: Alert, leaks: Sequence[Leak]) -> dict[str, Any]:
    running = any(
        leak.dma == alert.scope.id and leak.started_ms <= alert.detected_at <= (leak.ended_ms or np.inf) for leak in leaks
    )
    return {
        "alertId": alert.alert_id,
        "dma": alert.scope.id,
        "type": alert.type,
        "raisedAt": iso(alert.detected_at),
        "duringLeak": running,
    }


def _leak_row(leak: Leak, alert: Alert | None, delay_h: float | None, end_ms: int) -> dict[str, Any]:
    lasted_h = (min(leak.ended_ms or end_ms, end_ms) - leak.started_ms) / HOUR_MS
    unseen_h = lasted_h if delay_h is None else min(delay_h, lasted_h)
    return {
        "id": leak.id,
        "dma": leak.dma,
        "kind": leak.kind,
        "startedAt": iso(leak.started_ms),
        "endedAt": iso(leak.ended_ms),
        "max_m3h": leak.max_m3h,
        "found": alert is not None,
        "delayHours": None if delay_h is None else round(delay_h, 2),
        "alertId": alert.alert_id if alert else None,
        # at the leak's largest flow: exact for an abrupt leak, too much for one that grows
        "lostUnseenAtMost_m3": None if leak.max_m3h is None else round(leak.max_m3h * unseen_h, 1),
    }


def _summary(tally: _Tally, *, labelled: bool) -> dict[str, Any]:
    rates: dict[str, Any] = {
        "dmaMonths": round(tally.months, 2),
        "leakAlarms": tally.alarms,
        "leakAlarmsPerDmaMonth": _rate(tally.alarms, tally.months),
        "otherAlerts": dict(sorted(tally.other.items())),
    }
    if not labelled:
        return rates
    found = {kind: len(tally.delays_h[kind]) for kind in KINDS}
    return rates | {
        "leaks": tally.leaks.total(),
        "found": sum(found.values()),
        "missed": tally.leaks.total() - sum(found.values()),
        **{
            kind: {
                "leaks": tally.leaks[kind],
                "found": found[kind],
                "medianDelayHours": round(statistics.median(tally.delays_h[kind]), 2) if found[kind] else None,
                "longestDelayHours": round(max(tally.delays_h[kind]), 2) if found[kind] else None,
            }
            for kind in KINDS
        },
        "unexplained": tally.unexplained,
        "unexplainedPerDmaMonth": _rate(tally.unexplained, tally.months),
        "unexplainedOutsideLeaks": tally.unexplained - tally.during_leak,
        "unexplainedOutsideLeaksPerDmaMonth": _rate(tally.unexplained - tally.during_leak, tally.months),
    }


def _rate(count: int, months: float) -> float | None:
    return round(count / months, 3) if months > 0 else None
