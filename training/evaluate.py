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

    `bundle` serves all DMAs, or is a mapping from the id of a DMA to its own.
    """
    factors = sorted({1.0, *budgets})
    sites = [dataclasses.replace(site, alerts_per_week=min(site.alerts_per_week * f, MOST_ALERTS_PER_WEEK)) for f in factors]
    alerts: list[list[Alert]] = [[] for _ in sites]
    own = factors.index(1.0)
    result = Evaluation(watched={dma.id: Watched(dma.slot_minutes * 60_000) for dma in site.dmas})

    def keep(place: int, dma: str, step: StepResult) -> None:
        alerts[place].extend(step.alerts)
        if place == own and len(step.detections):
            result.watched[dma].add(step.detections)

    run_side_by_side(sites, windows, bundle, keep)
    result.alerts = sorted(alerts[own], key=lambda alert: (alert.updated_at, alert.alert_id, alert.revision))
    result.scorecard = score(site, result.alerts, leaks, result.watched, rules)
    result.scorecard["budgets"] = [
        _budget_row(factor, sites[place], score(site, alerts[place], leaks, result.watched, rules, with_floors=False))
        for place, factor in enumerate(factors)
    ]
    return result


def _budget_row(factor: float, site: Site, card: Mapping[str, Any]) -> dict[str, Any]:
    summary = card["summary"]
    names = ("leakAlarms", "leaks", "found", "found95", *LEAK_KINDS)
    rates = ("unexplained", "unexplainedPerDmaMonth", "unexplainedOutsideLeaks", "unexplainedOutsideLeaksPerDmaMonth")
    return {
        "timesTheBudget": factor,
        "alertsPerWeek": round(site.alerts_per_week, 4),
        **{name: summary[name] for name in (*names, *rates)},
        "leakdb": card["leakdb"],
    }
