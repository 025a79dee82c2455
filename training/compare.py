"""Champion against challenger: the same readings, the same known leaks, one causal pass, judged on a held-back period.

Held back means that neither was trained on it: it begins after the last slot of both. Both see all of the history before
it, as a worker would have, and serve from the end of their own training on. A challenger is worse, with a margin m (0.1
unless told), where one of these holds:

- it finds a share of the leaks that is lower by more than m;
- it raises more unexplained alarms: by more than m of the champion's, and by more than one;
- over the leaks that both find, its median delay is longer by more than m of the champion's, and by more than an hour.

One alarm and one hour are what chance and the slot grid do to either. The margin speaks of what was counted; how sure one
can be of a difference the 95 % intervals say.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from models.config import ConfigError
from models.engine import StepResult
from models.network import Site
from models.schema import Alert
from training.backtest import Contestant, run_side_by_side
from training.event_score import iso
from training.history import Window
from training.labels import Leak
from training.matching import STRICT, Rules, raised_between
from training.scorecard import score
from training.watched import Watched

if TYPE_CHECKING:
    from models.bundle import Bundle

MARGIN: Final = 0.1
ALARMS_BY_CHANCE: Final = 1
HOURS_BY_CHANCE: Final = 1.0
WORST: Final = 5
ROLES: Final = ("champion", "challenger")


@dataclass(frozen=True)
class Contest:
    """Who is compared, where and when. A DMA without a bundle is judged without a model."""

    scope: str
    champion: Mapping[str, Bundle]
    challenger: Mapping[str, Bundle]
    dmas: Sequence[str]
    since_ms: int
    until_ms: int
    versions: tuple[str | None, str | None]
    """Of champion and challenger in the scope."""


def held_back(bundles: Iterable[Bundle | None], since_ms: int | None, until_ms: int | None, last_ms: int) -> tuple[int, int]:
    """Begin and end (epoch ms) of what none of the bundles was trained on, within what is asked for and there.

    Raises ConfigError where the period asked for was trained on, or nothing is left.
    """
    trained = [bundle for bundle in bundles if bundle is not None]
    latest = max(trained, key=lambda bundle: bundle.manifest.trained_until_ms, default=None)
    trained_ms = 0 if latest is None else latest.manifest.trained_until_ms
    named = "no model" if latest is None else f"model {latest.version}"
    if since_ms is not None and since_ms < trained_ms:
        raise ConfigError(
            [f"--since {iso(since_ms)}: {named} was trained on slots until {iso(trained_ms)}; possible: that or later"]
        )
    begin_ms, end_ms = max(trained_ms, since_ms or 0), min(last_ms, until_ms or last_ms)
    if end_ms <= begin_ms:
        raise ConfigError(
            [
                f"nothing is held back: {named} was trained on slots until {iso(trained_ms)}, and the period ends at "
                f"{iso(end_ms)}; possible: later readings, or models trained with an earlier --until"
            ]
        )
    return begin_ms, end_ms


def compare(
    site: Site, windows: Iterable[Window], leaks: Sequence[Leak] | None, contest: Contest, rules: Rules = STRICT
) -> dict[str, Any]:
    """The comparison, ready for JSON; see `worse`. Without known leaks (None) every leak alarm counts as unexplained."""
    alerts: list[list[Alert]] = [[], []]
    watched = {dma.id: Watched(dma.slot_minutes * 60_000) for dma in site.dmas if dma.id in contest.dmas}

    def keep(place: int, dma: str, step: StepResult) -> None:
        alerts[place].extend(step.alerts)
        if place == 0 and len(step.detections):
            ends = step.detections["slot_end_ms"]
            watched[dma].add(step.detections[(ends > contest.since_ms) & (ends <= contest.until_ms)])

    contestants = [Contestant(site, contest.champion), Contestant(site, contest.challenger)]
    run_side_by_side(contestants, windows, keep, contest.dmas, after_training=True)
    known = None if leaks is None else [leak for leak in leaks if leak.dma in contest.dmas]
    cards = [
        score(site, raised_between(raised, contest.since_ms, contest.until_ms), known, watched, rules, with_floors=False)
        for raised in alerts
    ]
    rows = [{dma: _row(card["dmas"][dma], card, dma) for dma in contest.dmas} for card in cards]
    dmas = {dma: {role: rows[at][dma] for at, role in enumerate(ROLES)} for dma in contest.dmas}
    return {
        "site": site.name,
        "scope": contest.scope,
        "champion": contest.versions[0],
        "challenger": contest.versions[1],
        "period": {"from": iso(contest.since_ms), "until": iso(contest.until_ms)},
        "labelled": leaks is not None,
        "rules": cards[0]["rules"],
        "summary": {role: _row(card["summary"], card) for role, card in zip(ROLES, cards, strict=True)},
        "delaysOfBoth": _delays_of_both(cards),
        "dmas": dmas,
        "worstDmas": worst_dmas(dmas),
        "leaks": _leaks(cards),
    }


_RATES: Final = ("dmaMonths", "leakAlarms", "leakAlarmsPerDmaMonth", "leakAlarmsPerDmaMonth95")
_FOUND: Final = ("leaks", "found", "found95")


def _row(part: Mapping[str, Any], card: Mapping[str, Any], dma: str | None = None) -> dict[str, Any]:
    row = {name: part[name] for name in _RATES}
    if card["labelled"]:
        row |= {name: part[name] for name in (*_FOUND, "unexplained", "unexplainedPerDmaMonth", "unexplainedPerDmaMonth95")}
        delays = [leak["delayHours"] for leak in card["leaks"] if _counts(leak, dma) and leak["found"]]
        row["medianDelayHours"] = round(statistics.median(delays), 2) if delays else None
    else:
        row |= {
            "unexplained": part["leakAlarms"],
            "unexplainedPerDmaMonth": part["leakAlarmsPerDmaMonth"],
            "unexplainedPerDmaMonth95": part["leakAlarmsPerDmaMonth95"],
        }
    return row


def _counts(leak: Mapping[str, Any], dma: str | None = None) -> bool:
    return bool(leak["counted"]) and dma in (None, leak["dma"])


def _leaks(cards: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each leak that counts, with the delay of each contestant; None where it is missed."""
    pairs = zip(*(card["leaks"] for card in cards), strict=True)
    return [
        {name: one[name] for name in ("id", "dma", "kind", "startedAt")}
        | {f"{role}DelayHours": leak["delayHours"] for role, leak in zip(ROLES, (one, other), strict=True)}
        for one, other in pairs
        if _counts(one)
    ]


def _delays_of_both(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median delays over the leaks that both find: of different leaks they would say little."""
    both = [leak for leak in _leaks(cards) if all(leak[f"{role}DelayHours"] is not None for role in ROLES)]
    medians = [statistics.median(leak[f"{role}DelayHours"] for leak in both) if both else None for role in ROLES]
    return {"leaks": len(both)} | dict(zip(ROLES, medians, strict=True))


def worst_dmas(dmas: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The DMAs where the challenger finds less or alarms more than the champion, the worst first."""
    rows = []
    for dma, row in dmas.items():
        champion, challenger = row["champion"], row["challenger"]
        missed = champion.get("found", 0) - challenger.get("found", 0)
        more = challenger["unexplained"] - champion["unexplained"]
        if missed > 0 or more > 0:
            rows.append({"dma": dma, "foundLess": max(missed, 0), "unexplainedMore": max(more, 0)})
    return sorted(rows, key=lambda row: (-row["foundLess"], -row["unexplainedMore"], row["dma"]))[:WORST]


def worse(comparison: Mapping[str, Any], margin: float = MARGIN) -> list[str]:
    """In what the challenger is worse than the champion by more than the margin; nothing where it may be promoted."""
    champion, challenger = (comparison["summary"][role] for role in ROLES)
    faults = []
    if comparison["labelled"] and champion["leaks"]:
        shares = [row["found"] / row["leaks"] for row in (champion, challenger)]
        if shares[0] - shares[1] > margin:
            faults.append(
                f"it finds {challenger['found']} of {challenger['leaks']} leaks in time, the champion {champion['found']}"
            )
    before, after = champion["unexplained"], challenger["unexplained"]
    if after - before > max(margin * before, ALARMS_BY_CHANCE):
        faults.append(f"it raises {after} unexplained alarms, the champion {before}")
    delays = comparison["delaysOfBoth"]
    if delays["leaks"] and delays["challenger"] - delays["champion"] > max(margin * delays["champion"], HOURS_BY_CHANCE):
        faults.append(
            f"its median delay over the {delays['leaks']} leaks that both find is {delays['challenger']:.1f} h, the "
            f"champion's {delays['champion']:.1f} h"
        )
    return faults
