"""The scorecard by event: leaks found and missed, how late, how much water that cost, and what else alarmed."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from models.network import Site
from models.schema import LEAK_TYPES
from training.intervals import poisson, wilson
from training.labels import HOUR_MS, LEAK_KINDS, Leak
from training.matching import VERDICTS, Alarm, Matched, Rules, match
from training.watched import Watched

MONTH_MS: Final = 30.44 * 24 * HOUR_MS
MEAN_CLASSES: Final = (0.03, 0.05, 0.1, 0.2, 0.4)
"""Edges of the classes of size, as shares of the DMA's mean inflow."""
NIGHT_CLASSES: Final = (2.0, 4.0, 8.0)
"""Edges of the classes of size, in standard deviations of the DMA's night flow."""


@dataclass(frozen=True)
class Case:
    """A known leak and what became of it."""

    leak: Leak
    counted: bool
    """False for a leak that started in warm-up: it can be found, but nobody is to blame for missing it."""
    alarm: Alarm | None
    late: Alarm | None
    unseen_m3: float | None
    """Lost before the first alarm while it ran; all it lost where there is none."""
    leaked_m3: float | None
    """Lost in all, as far as the data goes."""
    share: float | None
    """Size over the DMA's mean inflow."""
    night_sds: float | None
    """Size over the standard deviation of the DMA's night flow."""

    @property
    def delay_h(self) -> float | None:
        """Hours from the start to the alarm that finds it; None where it is missed."""
        return None if self.alarm is None else (self.alarm.raised_ms - self.leak.started_ms) / HOUR_MS

    @property
    def late_h(self) -> float | None:
        """Hours from the start to its first alarm, which was too late; None where it was found, or never alarmed."""
        if self.late is None or self.alarm is not None:
            return None
        return (self.late.raised_ms - self.leak.started_ms) / HOUR_MS


def score_events(
    site: Site, alarms: Sequence[Alarm], leaks: Sequence[Leak] | None, watched: Mapping[str, Watched], rules: Rules
) -> dict[str, Any]:
    """The scorecard, ready for JSON. `alarms` ascending by time, `watched` has every DMA of the site.

    Without labels (None) only the rates of alarms are told. Leaks that start outside the data are listed, not counted,
    and so are those that start in warm-up.
    """
    inside = [leak for leak in leaks or () if _is_inside(leak, watched)]
    outside = [leak for leak in leaks or () if not _is_inside(leak, watched)]
    known = [*inside, *outside]
    warm_ms = {dma: part.warm_ms for dma, part in watched.items()}
    found = match(alarms, known, rules, warm_ms)
    cases = _cases(site, inside, found, alarms, watched)
    counted = [case for case in cases if case.counted]
    months = {dma: part.judged_ms / MONTH_MS for dma, part in watched.items()}
    labelled = leaks is not None

    def summary(dmas: Iterable[str]) -> dict[str, Any]:
        here = set(dmas)
        ours = [alarm for alarm in alarms if alarm.dma in here or (len(here) == len(watched) and alarm.dma not in watched)]
        rates = _rates(ours, found, sum(months[dma] for dma in here))
        if not labelled:
            return rates
        return rates | _summary([case for case in counted if case.leak.dma in here])

    card: dict[str, Any] = {
        "labelled": labelled,
        "rules": {
            "abruptWithinHours": rules.abrupt_within_hours,
            "incipientWithinDays": rules.incipient_within_days,
            "leakTypes": list(LEAK_TYPES),
            "matching": "raised in the leak's DMA in time after its start, while it runs; one alarm explains one leak",
            "verdicts": VERDICTS,
            "intervals": "95 %: Wilson for shares found, exact Poisson for rates",
        },
        "summary": summary(watched),
        "dmas": {dma: summary([dma]) | _of_dma(site, part) for dma, part in watched.items()},
    }
    return card | {
        "leaks": [_leak_row(case) for case in cases],
        "leaksOutsideTheData": [leak.id for leak in outside],
        "leaksInWarmUp": [case.leak.id for case in cases if not case.counted],
        "bySize": _classes(counted, "share", MEAN_CLASSES) if labelled else [],
        "byNightSd": _classes(counted, "night_sds", NIGHT_CLASSES) if labelled else [],
        "unexplainedAlarms": [_alarm_row(a, found) for a in alarms if _is_unexplained(a, found)] if labelled else [],
        "alarmsInWarmUp": [_alarm_row(a, found) for a in alarms if found.verdicts.get(a.id) == "warm_up"],
    }


def iso(time_ms: int | None) -> str | None:
    """RFC 3339 in UTC."""
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _is_inside(leak: Leak, watched: Mapping[str, Watched]) -> bool:
    start_ms, end_ms = watched[leak.dma].span_ms if leak.dma in watched else (0, 0)
    return start_ms <= leak.started_ms < end_ms


def _is_unexplained(alarm: Alarm, found: Matched) -> bool:
    return found.verdicts.get(alarm.id) in ("late", "repeat", "outside")


def _cases(
    site: Site, leaks: Sequence[Leak], found: Matched, alarms: Sequence[Alarm], watched: Mapping[str, Watched]
) -> list[Case]:
    of = {alarm.id: alarm for alarm in alarms}
    finds = {row: of[name] for name, row in found.explained.items()}
    lates = {row: of[name] for name, row in found.late.items()}
    sds = {dma: watched[dma].nights(site).sd_m3h for dma in {leak.dma for leak in leaks}}
    cases = []
    for row, leak in enumerate(leaks):
        here = watched[leak.dma]
        first = finds.get(row) or lates.get(row)
        size = leak.max_m3h
        cases.append(
            Case(
                leak,
                leak.started_ms >= here.warm_ms,
                finds.get(row),
                lates.get(row),
                leak.lost_m3(here.span_ms[1] if first is None else first.raised_ms),
                leak.lost_m3(here.span_ms[1]),
                None if size is None or not here.mean_m3h > 0 else size / here.mean_m3h,
                None if size is None or not sds[leak.dma] > 0 else size / sds[leak.dma],
            )
        )
    return cases


def _rates(alarms: Sequence[Alarm], found: Matched, months: float) -> dict[str, Any]:
    counted = [alarm for alarm in alarms if alarm.is_of_a_leak and found.verdicts[alarm.id] != "warm_up"]
    other = Counter(alarm.type for alarm in alarms if not alarm.is_of_a_leak)
    return {
        "dmaMonths": round(months, 2),
        "leakAlarms": len(counted),
        "leakAlarmsPerDmaMonth": _rate(len(counted), months),
        "leakAlarmsPerDmaMonth95": _rate_95(len(counted), months),
        "reopened": sum(len(alarm.again_ms) for alarm in counted),
        "otherAlerts": dict(sorted(other.items())),
    } | _unexplained(Counter(found.verdicts[alarm.id] for alarm in counted), months)


def _unexplained(verdicts: Counter[str], months: float) -> dict[str, Any]:
    outside = verdicts["outside"]
    every = outside + verdicts["late"] + verdicts["repeat"]
    return {
        "unexplained": every,
        "unexplainedPerDmaMonth": _rate(every, months),
        "unexplainedPerDmaMonth95": _rate_95(every, months),
        "unexplainedOutsideLeaks": outside,
        "unexplainedOutsideLeaksPerDmaMonth": _rate(outside, months),
        "unexplainedOutsideLeaksPerDmaMonth95": _rate_95(outside, months),
        "unexplainedLate": verdicts["late"],
        "unexplainedRepeats": verdicts["repeat"],
    }


def _summary(cases: Sequence[Case]) -> dict[str, Any]:
    found = sum(case.alarm is not None for case in cases)
    sized = [case for case in cases if case.leaked_m3 is not None and case.unseen_m3 is not None]
    return {
        **_found(cases),
        "missed": len(cases) - found,
        **{kind: _found([case for case in cases if case.leak.kind == kind]) | _delays(cases, kind) for kind in LEAK_KINDS},
        "leaked_m3": _sum(case.leaked_m3 for case in sized),
        "lostBeforeFound_m3": _sum(case.unseen_m3 for case in sized if case.alarm is not None),
        "lostOfMissed_m3": _sum(case.unseen_m3 for case in sized if case.alarm is None),
        "volumesAreBounds": any(case.leak.volume_is_a_bound for case in sized),
    }


def _found(cases: Sequence[Case]) -> dict[str, Any]:
    found = sum(case.alarm is not None for case in cases)
    return {"leaks": len(cases), "found": found, "found95": [round(end, 3) for end in wilson(found, len(cases))]}


def _delays(cases: Sequence[Case], kind: str) -> dict[str, Any]:
    ours = [case for case in cases if case.leak.kind == kind]
    delays = [case.delay_h for case in ours if case.delay_h is not None]
    # over all leaks, a missed one taking for ever: the median of those found alone gets better the more are missed. Late
    # alarms do not count here: of a leak that runs for months, some alarm or other comes some day
    every = statistics.median(math.inf if case.delay_h is None else case.delay_h for case in ours) if ours else math.inf
    return {
        "medianDelayHours": round(statistics.median(delays), 2) if delays else None,
        "longestDelayHours": round(max(delays), 2) if delays else None,
        "medianDelayHoursOfAll": round(every, 2) if math.isfinite(every) else None,
    }


def _classes(cases: Sequence[Case], name: str, edges: Sequence[float]) -> list[dict[str, Any]]:
    """Leaks found by class of size and kind; classes are [from, below), and the last has no end."""
    rows = []
    for low, high in zip((0.0, *edges), (*edges, None), strict=True):
        for kind in LEAK_KINDS:
            sizes = [(case, getattr(case, name)) for case in cases if case.leak.kind == kind]
            ours = [case for case, size in sizes if size is not None and low <= size < (math.inf if high is None else high)]
            if ours:
                rows.append({"from": low, "below": high, "kind": kind} | _found(ours) | _delays(ours, kind))
    return rows


def _of_dma(site: Site, part: Watched) -> dict[str, Any]:
    night_sd = part.nights(site).sd_m3h
    return {
        "warmUpUntil": iso(part.warm_ms) if len(part.ends_ms) else None,
        "meanInflow_m3h": round(part.mean_m3h, 3) if math.isfinite(part.mean_m3h) else None,
        "nightFlowSd_m3h": round(night_sd, 3) if math.isfinite(night_sd) else None,
    }


def _alarm_row(alarm: Alarm, found: Matched) -> dict[str, Any]:
    verdict = found.verdicts[alarm.id]
    return {
        "alertId": alarm.id,
        "dma": alarm.dma,
        "type": alarm.type,
        "raisedAt": iso(alarm.raised_ms),
        "verdict": verdict,
        "duringLeak": verdict in ("late", "repeat"),
    }


def _leak_row(case: Case) -> dict[str, Any]:
    leak = case.leak
    return {
        "id": leak.id,
        "dma": leak.dma,
        "kind": leak.kind,
        "startedAt": iso(leak.started_ms),
        "endedAt": iso(leak.ended_ms),
        "max_m3h": leak.max_m3h,
        "shareOfMeanInflow": None if case.share is None else round(case.share, 4),
        "nightFlowSds": None if case.night_sds is None else round(case.night_sds, 2),
        "counted": case.counted,
        "found": case.alarm is not None,
        "delayHours": None if case.delay_h is None else round(case.delay_h, 2),
        "lateHours": None if case.late_h is None else round(case.late_h, 2),
        "alertId": case.alarm.id if case.alarm else None,
        "lostUnseen_m3": None if case.unseen_m3 is None else round(case.unseen_m3, 1),
        "leaked_m3": None if case.leaked_m3 is None else round(case.leaked_m3, 1),
        "volumesAreBounds": leak.volume_is_a_bound,
    }


def _sum(volumes: Iterable[float | None]) -> float:
    return round(math.fsum(volume for volume in volumes if volume is not None), 1)


def _rate(count: int, months: float) -> float | None:
    return round(count / months, 3) if months > 0 else None


def _rate_95(count: int, months: float) -> list[float] | None:
    return [round(end / months, 3) for end in poisson(count)] if months > 0 else None
