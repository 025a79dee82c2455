"""A detector, that is a site's settings and models, against known leaks: one causal pass, at several alert budgets."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.config import ConfigError
from models.engine import StepResult
from models.network import Site
from models.schema import NEVER, Alert
from training.ablation import ablation_row, chosen
from training.backtest import Contestant, run_side_by_side
from training.budgets import BUDGETS, budget_row, row_of, sites_at
from training.event_score import iso
from training.history import Window
from training.labels import Leak
from training.matching import STRICT, Rules, raised_between
from training.scorecard import score
from training.watched import Watched

if TYPE_CHECKING:
    from models.bundle import Bundle


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
    *,
    without: Collection[str] = (),
    after_training: bool = False,
) -> Evaluation:
    """The scorecard at the site's own alert budget, with `budgets`: what multiples of it would have found and alarmed.

    `bundle` serves all DMAs, or is a mapping from the id of a DMA to its own; with one, `withoutModel` tells what would
    have come of the site's own budget without. `without`: detectors; `ablation` tells what would have come without each.
    `after_training`: bundles come into use where their training ended, and only what is later than all of it counts.
    Raises ConfigError for a detector that has no word here, and where there is no training for anything to be after.
    """
    sites, own = sites_at(site, budgets)
    contestants = [Contestant(each, bundle) for each in sites]
    contestants += [Contestant(site, None)] if bundle else []
    silent = chosen(site, bundle, without)
    contestants += [Contestant(site, bundle, (name,)) for name in silent]
    since_ms = _trained_until_ms(bundle) if after_training else NEVER
    alerts: list[list[Alert]] = [[] for _ in contestants]
    result = Evaluation(watched={dma.id: Watched(dma.slot_minutes * 60_000) for dma in site.dmas})

    def keep(place: int, dma: str, step: StepResult) -> None:
        alerts[place].extend(step.alerts)
        if place == own and len(step.detections):
            result.watched[dma].add(step.detections[step.detections["slot_end_ms"] > since_ms])

    run_side_by_side(contestants, windows, keep, after_training=after_training)
    if after_training and not any(len(part.ends_ms) for part in result.watched.values()):
        possible = "later readings, or a model trained with an earlier --until"
        raise ConfigError([f"after training: no readings behind {iso(since_ms)}, when it ended; possible: {possible}"])
    counted = [raised_between(raised, since_ms, math.inf) for raised in alerts]
    result.alerts = sorted(counted[own], key=lambda alert: (alert.updated_at, alert.alert_id, alert.revision))
    result.scorecard = score(site, result.alerts, leaks, result.watched, rules)
    rows = [
        budget_row(at.site, site, raised, leaks, result.watched, rules)
        for at, raised in zip(contestants[: len(contestants) - len(silent)], counted, strict=False)
    ]
    result.scorecard["budgets"] = rows[: len(sites)]
    if bundle:
        result.scorecard["withoutModel"] = rows[-1]
    if after_training:
        result.scorecard["trainedUntil"] = iso(since_ms)
    if silent:
        cards = [score(site, raised, leaks, result.watched, rules, with_floors=False) for raised in counted[len(rows) :]]
        result.scorecard["ablation"] = [
            ablation_row(row_of(card, site, site), card["leaks"], rows[own], result.scorecard["leaks"], name)
            for card, name in zip(cards, silent, strict=True)
        ]
    return result


def _trained_until_ms(bundle: Bundle | Mapping[str, Bundle] | None) -> int:
    """Where the training of all the bundles had ended. Raises ConfigError where there is none."""
    bundles = [bundle] if bundle and not isinstance(bundle, Mapping) else list((bundle or {}).values())
    if not bundles:
        raise ConfigError(
            ["after training: no model serves this site; possible: one that `nightline promote` has made champion"]
        )
    return max(each.manifest.trained_until_ms for each in bundles)
