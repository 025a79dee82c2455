"""The weekly drift report: each DMA's last weeks against what its model was trained on, in figures and in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.cloudevents import rfc3339
from models.config import ConfigError
from models.drift import COLUMNS, DISTANCES, QUANTILES
from models.drift_weeks import DAY_MS, Week, Weeks, week_numbers, week_start_ms
from models.network import Site
from training.alarm_rate import more_than_before, more_than_budget
from training.intervals import poisson
from training.local_time import LocalTime

SCHEMA_VERSION: Final = "1.0"
IN_A_ROW: Final = 2
"""Judged weeks over their level before drift is said: one may be a holiday or a heat wave."""
RARE: Final = 0.01
"""So improbable a number of alarms, were the rate still that of the training, is called more."""
MOVED: Final = 0.03
"""Share of slots more or less in a tenth that is worth a word."""
MONTH_DAYS: Final = 365.25 / 12
YEAR_DAYS: Final = 350
_LOW, _HIGH = QUANTILES.index(0.1) + 1, QUANTILES.index(0.9) + 1
"""Bins below the first: the lowest tenth of the training rows. From the second on: their highest tenth."""
WORDS: Final = {
    "flow_z": "inflow of single slots, against what is expected",
    "flow_z_mean_1h": "inflow of an hour, against what is expected",
    "flow_z_median_6h": "inflow of six hours, against what is expected",
    "flow_z_mad_6h": "roughness of the inflow",
    "flow_z_slope_3h": "rise of the inflow within three hours",
    "night_z": "minimum night flow, against its own past",
    "pressure_z_1h": "pressure, against what is expected",
    "flow_pressure_z": "inflow up while pressure is down",
    "forest_score": "strangeness, by the model",
}


@dataclass
class Followed:
    """One DMA of the report."""

    weeks: Weeks
    found: list[Week] = field(default_factory=list)
    judged: dict[int, int] = field(default_factory=dict)
    """Slots in which a leak could have been alarmed, by week."""
    alarms: list[NDArray[np.int64]] = field(default_factory=list)
    """When leaks were alarmed, epoch ms."""
    has_alarms: bool = True
    """False: nothing is known of alarms."""
    first_ms: int = 0
    last_ms: int = 0

    def take(self, detections: NDArray[np.void]) -> None:
        """DETECTION rows, which follow on those before."""
        if not len(detections):
            return
        ends = detections["slot_end_ms"]
        self.first_ms, self.last_ms = self.first_ms or int(ends[0]), int(ends[-1])
        judged = np.isfinite(detections["observed_m3h"]) & np.isfinite(detections["expected_m3h"])
        numbers, counts = np.unique(week_numbers(ends[judged], self.weeks.timezone), return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            self.judged[number] = self.judged.get(number, 0) + count
        self.found += self.weeks.take(detections)

    def end(self) -> None:
        """The history is over: a week that it fills to its last slot has ended too."""
        self.found += self.weeks.finish()


def follow(site: Site, bundles: Mapping[str, Bundle]) -> dict[str, Followed]:
    """What is to be filled, by DMA. Raises ConfigError where no DMA has anything to be compared with."""
    if not bundles:
        raise ConfigError(
            [f"{site.name}: no model serves; possible: nightline train SITE --readings PATH --promote, or --model VERSION"]
        )
    followed = {
        dma: Followed(Weeks(bundle, dma, site.timezone, site.dmas[site.dma_row[dma]].slot_minutes * 60_000))
        for dma, bundle in bundles.items()
    }
    if not any(one.weeks.has_reference for one in followed.values()):
        raise ConfigError([why_not(next(iter(followed.values())))])
    return followed


def why_not(one: Followed) -> str:
    """Why a DMA cannot be compared."""
    bundle = one.weeks.bundle
    if bundle.reference is None:
        return f"model {bundle.version} has no reference of what it was trained on; possible: train again to have one"
    return (
        f"model {bundle.version} was trained on too few whole weeks to say how weeks differ; possible: train on 8 and more, "
        "best on a year"
    )


def drift_report(site: Site, followed: Mapping[str, Followed], weeks: int) -> dict[str, Any]:
    """The last `weeks` whole weeks. Raises ConfigError where there is none."""
    numbers = sorted({week.number for one in followed.values() for week in one.found})[-weeks:]
    if not numbers:
        spans = [(one.last_ms - one.first_ms) / DAY_MS for one in followed.values() if one.last_ms]
        longest = max(spans, default=0)
        raise ConfigError(
            [f"found {longest:.1f} days of slots; possible: a whole week and more, Monday to Monday local time"]
        )
    clock = LocalTime(site.timezone)
    rows = {dma: _of_dma(site, one, numbers, clock) for dma, one in followed.items() if one.found}
    return {
        "schemaVersion": SCHEMA_VERSION,
        "site": site.name,
        "weeks": [_date(number, clock, site.timezone) for number in numbers],
        "from": rfc3339(week_start_ms(numbers[0], site.timezone)),
        "until": rfc3339(week_start_ms(numbers[-1] + 1, site.timezone)),
        "drifting": [dma for dma, row in rows.items() if row["verdict"] == "drift"],
        "notCompared": {
            dma: "no slots" if one.weeks.has_reference else why_not(one) for dma, one in followed.items() if not one.found
        },
        "dmas": rows,
    }


def _of_dma(site: Site, one: Followed, numbers: Sequence[int], clock: LocalTime) -> dict[str, Any]:
    bundle, zone = one.weeks.bundle, site.timezone
    reference, at = bundle.reference, one.weeks.reference_row
    found = [week for week in one.found if week.number in numbers]
    judged = [week for week in one.found if week.ratio is not None]
    run = judged[len(judged) - one.weeks.in_a_row :] if one.weeks.in_a_row and judged[-1].number in numbers else []
    alarms = _alarms(site, one, numbers) if one.has_alarms else None
    since = _date(run[0].number, clock, zone) if run else None
    says = []
    if run:
        says.append(
            f"since the week of {since} ({len(run)} week{'s' * (len(run) != 1)}): {how(run[-1], reference.counts[at])}"
        )
    says += [
        f"was over its level for {len(past)} weeks from {_date(past[0].number, clock, zone)}, and is no longer: "
        f"{how(past[-1], reference.counts[at])}"
        for past in runs([week for week in found if week.ratio is not None])
        if len(past) >= IN_A_ROW and past[-1] is not judged[-1]
    ]
    more = alarms is not None and alarms["more"]
    if alarms is not None and more:
        says.append(
            f"{alarms['count']} leak alarms in {alarms['judgedDays']:.0f} days, where the training window had "
            f"{alarms['trainingCount']} in {alarms['trainingDays']:.0f} (p = {alarms['pTraining']:.2g})"
        )
    if found and found[-1].ratio is None:
        says.append(f"last week not judged: {found[-1].share:.0%} of its slots counted (an event was open, or data missing)")
    drifts = len(run) >= IN_A_ROW or more
    nothing = not any(week.ratio is not None for week in found)
    last = next((week for week in reversed(found) if week.ratio is not None), None)
    return {
        "model": bundle.version,
        "trainedFrom": rfc3339(bundle.manifest.trained_from_ms),
        "trainedUntil": rfc3339(bundle.manifest.trained_until_ms),
        "trainedDays": round((bundle.manifest.trained_until_ms - bundle.manifest.trained_from_ms) / DAY_MS, 1),
        "trainingWeeks": reference.weeks[at],
        "comparedWith": "its own past" if reference.dmas[at] == one.weeks.dma else "all DMAs of the training",
        "verdict": "drift" if drifts else "not judged" if nothing else "watch" if run else "as trained",
        "since": since,
        "weeksInARow": len(run),
        "ratio": None if last is None else _round(last.ratio),
        "worst": None if last is None else last.worst[0],
        "says": says,
        "alarms": alarms,
        "weeks": [_of_week(week, bundle, clock, zone) for week in found],
    }


def runs(weeks: Iterable[Week]) -> list[list[Week]]:
    """Judged weeks over their level, those one after the other together."""
    found: list[list[Week]] = [[]]
    for week in weeks:
        if week.ratio is not None and week.ratio > 1:
            found[-1].append(week)
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def _of_week(week: Week, bundle: Bundle, clock: LocalTime, zone: str) -> dict[str, Any]:
    start_ms = week_start_ms(week.number, zone)
    told: dict[str, Any] = {
        "from": _date(week.number, clock, zone),
        "slots": week.rows,
        "share": round(week.share, 3),
        "inTraining": bundle.manifest.trained_from_ms <= start_ms < bundle.manifest.trained_until_ms,
        "strangeShare": _round(float(week.counts[-1, -1]) / week.rows) if week.rows else None,
        "ratio": _round(week.ratio),
        "worst": None,
        "psi": None,
        "ks": None,
    }
    if week.found is not None and week.worst is not None:
        told["worst"] = dict(zip(("column", "distance"), week.worst, strict=True))
        for which, name in enumerate(DISTANCES):
            told[name] = {
                column: {"value": _round(week.found[which, c]), "level": _round(week.levels[which, c])}
                for c, column in enumerate(COLUMNS)
            }
    return told


def _alarms(site: Site, one: Followed, numbers: Sequence[int]) -> dict[str, Any]:
    """Leak alarms of these weeks, a month of judged time, beside the training window's and the budget's."""
    reference, at = one.weeks.bundle.reference, one.weeks.reference_row
    times = np.concatenate([np.zeros(0, np.int64), *one.alarms])
    count = int(np.isin(week_numbers(times, site.timezone), numbers).sum())
    days = sum(one.judged.get(number, 0) for number in numbers) * one.weeks.slot_ms / DAY_MS
    before, before_days = reference.leak_alarms[at], reference.judged_days[at]
    p = more_than_before(count, days, before, before_days)
    budget = site.alerts_per_week / len(site.dmas) / 7
    return {
        "count": count,
        "judgedDays": round(days, 1),
        "perDmaMonth": _rate(count, days),
        "perDmaMonth95": [_rate(end, days) for end in poisson(count)],
        "trainingCount": before,
        "trainingDays": round(before_days, 1),
        "trainingPerDmaMonth": _rate(before, before_days),
        "trainingPerDmaMonth95": [_rate(end, before_days) for end in poisson(before)],
        "budgetPerDmaMonth": round(budget * MONTH_DAYS, 3),
        "pTraining": None if p is None else _round(p),
        "pBudget": _round(more_than_budget(count, budget * days)) if days else None,
        "more": p is not None and p < RARE,
    }


def how(week: Week, reference: NDArray[np.int32]) -> str:
    """What the worst column of a judged week does, in words: where its slots lie among the training's tenths."""
    assert week.found is not None and week.worst is not None  # noqa: S101, PT018 - the caller has a judged week
    column, distance = week.worst
    c = COLUMNS.index(column)
    low, high = (float(week.counts[c, part].sum() / week.counts[c].sum()) for part in (slice(0, _LOW), slice(_HIGH, None)))
    ref_low, ref_high = (
        float(reference[c, part].sum() / reference[c].sum()) for part in (slice(0, _LOW), slice(_HIGH, None))
    )
    more_low, more_high = low - ref_low, high - ref_high
    outer = f"{low + high:.0%} of slots lie in the outer tenths of the training, where {ref_low + ref_high:.0%} did"
    if min(more_low, more_high) > MOVED:
        said = f"spreads wider: {outer}"
    elif max(more_low, more_high) < -MOVED:
        said = f"spreads less: {outer}"
    elif more_high >= more_low:
        said = f"is higher: {high:.0%} of slots lie in the highest tenth of the training, where {ref_high:.0%} did"
    else:
        said = f"is lower: {low:.0%} of slots lie in the lowest tenth of the training, where {ref_low:.0%} did"
    value, level = (float(some[DISTANCES.index(distance), c]) for some in (week.found, week.levels))
    figures = f"{distance.upper()} {value:.2f}, level {level:.2f}"
    return f"{WORDS[column]} ({column}) {said} ({figures})"


def suggestion(dma: str, row: Mapping[str, Any]) -> str:
    """What a person may do; nothing here does it."""
    since = f" --since {row['since']}" if row["since"] else ""
    return (
        f"suggest: find out what changed in {dma}; where it stays, nightline train SITE --readings PATH{since}; compare; "
        "promote"
    )


def notes(found: Mapping[str, Any]) -> Iterable[str]:
    """What limits the verdicts."""
    days = {row["model"]: row["trainedDays"] for row in found["dmas"].values() if row["trainedDays"] < YEAR_DAYS}
    for model, trained in days.items():
        yield f"model {model} was trained on {trained:.0f} days, less than a year: seasons it has not seen are drift too"
    for dma, why in found["notCompared"].items():
        yield f"{dma}: not compared: {why}"


def _date(number: int, clock: LocalTime, zone: str) -> str:
    return clock.text(week_start_ms(number, zone))[:10]


def _rate(count: float, days: float) -> float | None:
    return round(count * MONTH_DAYS / days, 3) if days > 0 else None


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
