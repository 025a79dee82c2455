"""What other alert budgets would have brought: the same history at multiples of the site's own, in the same pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from models.network import MOST_ALERTS_PER_WEEK, Site
from models.schema import Alert
from training.floors import random_floor
from training.labels import LEAK_KINDS, Leak
from training.matching import Rules, alarms_of
from training.scorecard import score
from training.watched import Watched

BUDGETS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the site's alert budget."""


def sites_at(site: Site, budgets: Iterable[float]) -> tuple[list[Site], int]:
    """The site at each of these multiples of its alert budget and at its own, ascending; and the place of its own."""
    factors = sorted({1.0, *budgets})
    rates = [min(site.alerts_per_week * factor, MOST_ALERTS_PER_WEEK) for factor in factors]
    return [dataclasses.replace(site, alerts_per_week=rate) for rate in rates], factors.index(1.0)


def row_of(card: Mapping[str, Any], at: Site, own: Site) -> dict[str, Any]:
    """Of a scorecard what is compared between settings; `at`: the site with the budget it came of, `own`: with its own."""
    summary = card["summary"]
    names = ("leakAlarms", "leaks", "found", "found95", *LEAK_KINDS)
    rates = ("unexplained", "unexplainedPerDmaMonth", "unexplainedOutsideLeaks", "unexplainedOutsideLeaksPerDmaMonth")
    return {
        "timesTheBudget": round(at.alerts_per_week / own.alerts_per_week, 4),
        "alertsPerWeek": round(at.alerts_per_week, 4),
        **{name: summary[name] for name in (*names, *rates)},
        "lostUnseen_m3": round(summary["lostBeforeFound_m3"] + summary["lostOfMissed_m3"], 1),
        "leakdb": card["leakdb"],
    }


def budget_row(
    at: Site, own: Site, alerts: Sequence[Alert], leaks: Sequence[Leak], watched: Mapping[str, Watched], rules: Rules
) -> dict[str, Any]:
    """What the site `at` another budget than its `own` has found, and what as many random alarms would have."""
    card = score(own, alerts, leaks, watched, rules, with_floors=False)
    return row_of(card, at, own) | {"chance": random_floor(alarms_of(alerts), leaks, watched, rules)}
