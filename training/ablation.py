"""What each detector is worth: the same history without it, in the same pass, held against the whole.

A silent detector's part of the alert budget goes to the others, so a row tells what a site would have without it, not
what it alone has found. Delays are compared over the leaks that both find: over others they would say little.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from models.config import ConfigError
from models.detectors import DETECTORS
from models.network import Site
from models.params import speaking
from training.labels import ABRUPT, INCIPIENT, LEAK_KINDS
from training.page import hours, short

if TYPE_CHECKING:
    from models.bundle import Bundle

Row = Mapping[str, Any]
DELAYS: Final = ("medianDelayHours", "medianDelayHoursOfAll")


def able(site: Site, bundle: Bundle | Mapping[str, Bundle] | None) -> list[str]:
    """Detectors that have a word in some DMA of the site; those that second others only with a model."""
    voices = {name for dma in site.dmas for name in speaking(site, dma.id)}
    return [d.name for d in DETECTORS if d.name in voices or (bundle and not d.raises_alone)]


def chosen(site: Site, bundle: Bundle | Mapping[str, Bundle] | None, names: Collection[str]) -> list[str]:
    """The named detectors, in the order of the scores. Raises ConfigError for one that has no word here."""
    possible = able(site, bundle)
    for name in names:
        if name not in possible:
            known = name in [detector.name for detector in DETECTORS]
            why = f"{name!r} has no word in this site" if known else f"{name!r} is no detector"
            raise ConfigError([f"without: {why}; possible: {', '.join(possible)}"])
    return [name for name in possible if name in names]


def ablation_row(row: Row, leaks: Sequence[Row], whole: Row, leaks_of_whole: Sequence[Row], without: str) -> dict[str, Any]:
    """The `row` of the same history without a detector, with its difference to the `whole`.

    `leaks`: of either scorecard, in the same order.
    """
    return {"without": without, **row, "difference": _difference(row, leaks, whole, leaks_of_whole)}


def _difference(row: Row, leaks: Sequence[Row], whole: Row, leaks_of_whole: Sequence[Row]) -> dict[str, Any]:
    return {
        **{f"{kind}Found": row[kind]["found"] - whole[kind]["found"] for kind in LEAK_KINDS},
        **{f"{kind}MedianDelayHoursOfBoth": _later(leaks, leaks_of_whole, kind) for kind in LEAK_KINDS},
        **{name: _less(row[name], whole[name]) for name in ("leakAlarms", "unexplainedPerDmaMonth", "lostUnseen_m3")},
        "leakdbF1": _less(row["leakdb"]["f1"], whole["leakdb"]["f1"]),
    }


def _later(leaks: Sequence[Row], leaks_of_whole: Sequence[Row], kind: str) -> float | None:
    """Median delay without less the median with, over the leaks that both find; None where there are none."""
    both = [
        (one["delayHours"], other["delayHours"])
        for one, other in zip(leaks, leaks_of_whole, strict=True)
        if one["counted"] and one["kind"] == kind and one["found"] and other["found"]
    ]
    if not both:
        return None
    without, with_it = (statistics.median(delays) for delays in zip(*both, strict=True))
    return round(without - with_it, 2)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else round(one - other, 3)


CAPTION: Final = (
    "In brackets the difference to all detectors; of delays that of the medians over the leaks both find. "
    "A silent detector's part of the alert budget goes to the others."
)
HEADS: Final = (
    "", "abrupt found", "median delay", "incipient found", "median delay", "alarms", "unexplained a DMA-month",
    "lost before an alarm, m³", "LeakDB's F1",
)  # fmt: skip


def ablation_table(scorecard: Row) -> list[list[str]]:
    """Head and rows, the whole first; beside each figure of the others its difference to it, in brackets.

    Empty where no detector was left out.
    """
    if not scorecard.get("ablation"):
        return []
    [whole] = [row for row in scorecard["budgets"] if row["timesTheBudget"] == 1]
    rows = [["all detectors", *_cells(whole, {})]]
    rows += [[f"without {row['without']}", *_cells(row, row["difference"])] for row in scorecard["ablation"]]
    return [list(HEADS), *rows]


def _cells(row: Row, change: Row) -> list[str]:
    cells = []
    for kind in (ABRUPT, INCIPIENT):
        part, later = row[kind], change.get(f"{kind}MedianDelayHoursOfBoth")
        found = f"{part['found']} of {part['leaks']}" if part["leaks"] else "–"
        moved = f" ({_sign(later)}{hours(abs(later))})" if later else " (=)" if later == 0 else ""
        cells += [found + _changed(change.get(f"{kind}Found") if part["leaks"] else None), hours(part[DELAYS[0]]) + moved]
    score = row["leakdb"]["f1"]
    return [
        *cells,
        str(row["leakAlarms"]) + _changed(change.get("leakAlarms")),
        short(row["unexplainedPerDmaMonth"]) + _changed(change.get("unexplainedPerDmaMonth")),
        f"{row['lostUnseen_m3']:,.0f}" + _changed(change.get("lostUnseen_m3")),
        ("–" if score is None else f"{score:.1f}") + _changed(change.get("leakdbF1")),
    ]


def _changed(by: float | None) -> str:
    """A difference in brackets; nothing for None."""
    if by is None:
        return ""
    return f" ({_sign(by)}{short(abs(by))})" if by else " (=)"


def _sign(by: float) -> str:
    return "+" if by > 0 else "\N{MINUS SIGN}"
