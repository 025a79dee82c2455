"""A detector, that is a site's settings and models, against known leaks: one causal pass, at several alert budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from models.engine import StepResult
from models.network import MOST_ALERTS_PER_WEEK, Site
from models.schema import Alert
from training.backtest import run_side_by_side
from training.history import Window
from training.labels import LEAK_KINDS, Leak
from training.matching import STRICT, Rules
from training.scorecard import score
from training.watched import Watched

if TYPE_CHECKING:
    from models.bundle import Bundle

BUDGETS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the site's alert budget."""


@dataclass
class Evaluation:
    """What `evaluate` found. `watched` and `alerts` are those at the site's own budget."""

    scorecard: dict[str, Any] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    watched: dict[str, Watched] = field(default_factory=dict)


def evaluate(
    site: Site,
    windows: Iterable[Window],
    leaks: Sequence[Leak],
    rules: Rules = STRICT,
    bundle: Bundle | Mapping[str, Bundle] | None = None,
    budgets: Sequence[float] = BUDGETS,
) -> Evaluation:
    """The scorecard at the site's own alert budget, with `budgets`: what multiples of it would have found and alarmed.

    `bundle` serves all DMAs, or is a mapping from the id of a DMA to its own; with one, `withoutModel` tells what would
    have come of the site's own budget without.
    """
    factors = sorted({1.0, *budgets})
    sites = [dataclasses.replace(site, alerts_per_week=min(site.alerts_per_week * f, MOST_ALERTS_PER_WEEK)) for f in factors]
    contestants: list[tuple[Site, Bundle | Mapping[str, Bundle] | None]] = [(each, bundle) for each in sites]
    if bundle:
        contestants.append((site, None))
    alerts: list[list[Alert]] = [[] for _ in contestants]
    own = factors.index(1.0)
    result = Evaluation(watched={dma.id: Watched(dma.slot_minutes * 60_000) for dma in site.dmas})

    def keep(place: int, dma: str, step: StepResult) -> None:
        alerts[place].extend(step.alerts)
        if place == own and len(step.detections):
            result.watched[dma].add(step.detections)

    run_side_by_side(contestants, windows, keep)
    result.alerts = sorted(alerts[own], key=lambda alert: (alert.updated_at, alert.alert_id, alert.revision))
    result.scorecard = score(site, result.alerts, leaks, result.watched, rules)
    rows = [
        _budget_row(of.alerts_per_week, site, score(site, raised, leaks, result.watched, rules, with_floors=False))
        for (of, _), raised in zip(contestants, alerts, strict=True)
    ]
    result.scorecard["budgets"] = rows[: len(factors)]
    if bundle:
        result.scorecard["withoutModel"] = rows[-1]
    return result


def _budget_row(alerts_per_week: float, site: Site, card: Mapping[str, Any]) -> dict[str, Any]:
    summary = card["summary"]
    names = ("leakAlarms", "leaks", "found", "found95", *LEAK_KINDS)
    rates = ("unexplained", "unexplainedPerDmaMonth", "unexplainedOutsideLeaks", "unexplainedOutsideLeaksPerDmaMonth")
    return {
        "timesTheBudget": round(alerts_per_week / site.alerts_per_week, 4),
        "alertsPerWeek": round(alerts_per_week, 4),
        **{name: summary[name] for name in (*names, *rates)},
        "leakdb": card["leakdb"],
    }
