"""How good alerts are against known leaks: by event, by slot as LeakDB scores, and beside what chance and a rule reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.network import Site
from models.schema import Alert
from training.event_score import score_events
from training.floors import floors
from training.labels import Leak
from training.matching import STRICT, Rules, alarms_of
from training.slot_score import score_slots
from training.watched import Watched


def score(
    site: Site,
    alerts: Iterable[Alert],
    leaks: Sequence[Leak] | None,
    watched: Mapping[str, Watched],
    rules: Rules = STRICT,
    *,
    with_floors: bool = True,
) -> dict[str, Any]:
    """The scorecard, ready for JSON; `leaks` None where none are known, and then it tells rates of alarms alone.

    `alerts` hold any revisions in any order; `watched` has every DMA of the site. The floors take a second or two.
    """
    alarms = alarms_of(alerts)
    card = score_events(site, alarms, leaks, watched, rules)
    if leaks is None:
        return card
    card["leakdb"] = score_slots(alarms, leaks, watched)
    if with_floors:
        card["floors"] = floors(site, alarms, leaks, watched, rules)
    return card
