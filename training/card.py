"""A model's card: one page for people, with a figure beside it. Nothing checks it and nothing reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from models.bundle import CARD, Manifest, ReferenceFacts, ScoreCalibration
from training.card_calibration import HEADING, detector_rows

if TYPE_CHECKING:
    from training.fit import Trained

FIGURE: Final = "card.png"
MOST_ROWS: Final = 20
"""Of a table; the manifest has them all."""
_SEARCHED: Final = {"trials", "leak_slots", "found", "found_with_usual_settings", "found_at_budget"}
_PURPOSE: Final = {
    "fit": "the forest was fitted on these",
    "calibrate": "its score was calibrated on these, and the settings searched",
    "report": "held back: nothing was chosen by these",
}


def card_files(trained: Trained, *, figure: bool = True, search_seconds: float = 0.0) -> dict[str, bytes]:
    """File name -> content: card.md, and its figure."""
    manifest = trained.bundle.manifest
    files = {CARD: card(manifest, figure=figure, search_seconds=search_seconds).encode()}
    if figure:
        from training.card_figure import draw  # noqa: PLC0415 - matplotlib takes half a second

        files[FIGURE] = draw(manifest, trained.evidence)
    return files


def card(manifest: Manifest, *, figure: bool = False, search_seconds: float = 0.0) -> str:
    """The text of card.md."""
    m = manifest
    served = "the whole site" if m.scope == "*" else f"DMA {m.scope}"
    lines = [
        f"# {m.id}, version {m.version}",
        "",
        f"Isolation forest for {served}, over the engine's scale-free features of one slot. It says how unlike its own past",
        "a slot is, not why. Score in (0, 1], higher is stranger. Alone it raises no alert: it lets weaker evidence of a",
        "burst through, and speaks for or against.",
        "",
        *(["![Scores, DMAs, features, alarms against budget](card.png)", ""] if figure else []),
        "## What it was trained on",
        "",
        *_table(("", ""), _facts(m)),
        *_periods(m),
        *_left_out(m),
        *_settings(m, search_seconds),
        *_later(m),
        *_detectors(m),
        *_limits(m),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    shown = [heading, ("---",) * len(heading), *rows[:MOST_ROWS]]
    # what people wrote of a planned work, or a leak's id, may hold a bar or a second line
    plain = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in shown]
    lines = [f"| {' | '.join(row)} |" for row in plain]
    if len(rows) > MOST_ROWS:
        lines += ["", f"… and {len(rows) - MOST_ROWS} more in manifest.json."]
    return [*lines, ""]


def _facts(m: Manifest) -> list[tuple[str, ...]]:
    members = ", ".join(m.members[:MOST_ROWS]) + (", …" if len(m.members) > MOST_ROWS else "")
    return [
        ("DMAs fitted on", f"{len(m.members)}: {members}" if m.members else f"{m.metrics.get('dmas', 0):.0f}"),
        ("Slots fitted on", f"{m.metrics.get('rows', 0):,.0f}"),
        ("Trained on", f"{_utc(m.trained_from_ms)} to {_utc(m.trained_until_ms)}"),
        ("Features", ", ".join(m.features)),
        ("Data sha256", m.data_sha256),
        ("Arrays sha256", m.arrays_sha256),
        ("Code", m.code_version),
        ("Drift reference", _reference(m.reference)),
    ]


def _reference(facts: ReferenceFacts | None) -> str:
    if facts is None:
        return "none"
    of = [f"{dma} {weeks}" for dma, weeks in zip(facts.dmas, facts.weeks, strict=False) if dma != "*"]
    return f"whole weeks by DMA: {', '.join(of[:MOST_ROWS])}{', …' * (len(of) > MOST_ROWS)}"


def _periods(m: Manifest) -> list[str]:
    rows = [
        (period, _utc(m.periods[period][0]), _utc(m.periods[period][1]), _PURPOSE[period])
        for period in _PURPOSE
        if period in m.periods
    ]
    return _table(("period", "first slot ends", "last slot ends", ""), rows) if rows else []


def _left_out(m: Manifest) -> list[str]:
    hours = {reason: sum(of.get(reason, 0.0) for of in m.left_out_hours.values()) for reason in m.left_out}
    lines = ["## What was left out", ""]
    lines += _table(
        ("reason", "slots", "hours"),
        [(reason, f"{count:,}", f"{hours[reason]:,.0f}") for reason, count in m.left_out.items()],
    )
    if len(m.left_out_by_dma) > 1:
        reasons = list(m.left_out)
        of = [
            (
                dma,
                *(
                    f"{count.get(reason, 0):,} ({m.left_out_hours.get(dma, {}).get(reason, 0.0):,.0f} h)"
                    for reason in reasons
                ),
            )
            for dma, count in m.left_out_by_dma.items()
        ]
        lines += _table(("slots (hours) by DMA", *reasons), of)
    lines.append(
        "A slot counts for the first reason that holds. *Event open* is what the engine suspected and no label explains."
    )
    if not m.left_out_windows:
        return [*lines, "No label and no planned work fell into the history.", ""]
    windows = [
        (w.dma, w.reason, w.what, _utc(w.from_ms), "the end" if w.until_ms is None else _utc(w.until_ms), f"{w.slots:,}")
        for w in m.left_out_windows
    ]
    return [*lines, "", *_table(("DMA", "known period", "which", "from", "until, with recovery", "slots"), windows)]


def _settings(m: Manifest, search_seconds: float) -> list[str]:
    lines = ["## Settings", ""]
    rows = [("Seed", str(m.seed)), *((name, str(value)) for name, value in m.settings.items())]
    lines += _table(("setting", "value"), rows)
    if not m.search.keys() >= _SEARCHED:
        return [*lines, "They were given, not searched.", ""]
    s = m.search
    limit = f", limit {s['limit_seconds']:.0f} s" if "limit_seconds" in s else ", no limit of time"
    return [
        *lines,
        f"Searched with {s['trials']:.0f} trials in {search_seconds:.0f} s{limit}. A threshold that chance passes once a",
        f"week is passed by {s['found']:.1%} of {s['leak_slots']:,.0f} slots with a leak added to the period `calibrate`;",
        f"with the usual settings by {s['found_with_usual_settings']:.1%}. The alert budget's own threshold is passed by",
        f"{s['found_at_budget']:.1%}. The best of many trials on one period flatters itself.",
        "",
    ]


def _later(m: Manifest) -> list[str]:
    lines = ["## How it does on later days", ""]
    rows = [(name, f"{value:.6g}") for name, value in m.metrics.items() if name not in {"rows", "dmas"}]
    lines += _table(("score", ""), rows)
    if not m.calibration:
        return [
            *lines,
            "Not calibrated: no later period was kept, or it had fewer than seven days with more flow than usual.",
            "",
        ]
    of = [
        (
            dma, f"{c.days}", f"{c.threshold:.3f}", f"{c.return_days:,.0f}", f"{c.report_alarms} in {c.report_days}",
            f"{_expected(c):.1f}",
        )
        for dma, c in m.calibration.items()
    ]  # fmt: skip
    alarms, days = sum(c.report_alarms for c in m.calibration.values()), sum(c.report_days for c in m.calibration.values())
    expected = sum(_expected(c) for c in m.calibration.values())
    return [
        *lines,
        f"Held back: {alarms} of {days} days pass the threshold of the alert budget; {expected:.1f} are expected by chance.",
        "",
        *_table(("DMA", "days", "threshold", "once in, days", "days above, held back", "expected"), of),
        "An engine begins with this when the model comes, and goes on with each DMA's own days.",
        "",
    ]


def _detectors(m: Manifest) -> list[str]:
    if not m.detectors:
        return []
    return [
        "## Thresholds of the other detectors",
        "",
        "Learned from the past until the end of `calibrate` as the engine does it, but knowing the labels: days and alarms",
        "that a label or planned work explains are left out, and what a label calls normal counts as it was.",
        "",
        *_table(HEADING, detector_rows(m)),
        "An engine takes over what labels have changed; of the rest it has the same, and newer.",
        "",
    ]


def _limits(m: Manifest) -> list[str]:
    days = (m.trained_until_ms - m.trained_from_ms) / 86_400_000
    lines = ["## Known limits", "", f"- It has seen {days:.0f} days; of seasons beyond them it knows nothing."]
    lines.append("- A leak that nobody labelled and the engine did not suspect was learned as normal.")
    if m.scope != "*" and len(m.members) > 1:
        lines.append(
            f"- The forest is shared by {len(m.members)} alike DMAs; for those with few slots it speaks of the others."
        )
    never = sum(c.threshold >= m.metrics.get("score_max", 1.0) for c in m.calibration.values())
    if never:
        lines.append(
            f"- In {never} of {len(m.calibration)} DMAs the threshold is above every score of the slots fitted on: at"
        )
        lines.append("  this budget the forest hardly ever speaks.")
    lines.append(
        "- Leaks in the search are added by calculation, not real." if m.search else "- The settings were not searched."
    )
    lines.append("- Whether alerts get better with it, `nightline compare` says, not this card.")
    return lines


def plain(manifest: Manifest) -> Mapping[str, bytes]:
    """The card without a figure, from what the manifest says."""
    return {CARD: card(manifest).encode()}


def _expected(calibration: ScoreCalibration) -> float:
    return calibration.report_days / max(calibration.return_days, 1.0)


def _utc(epoch_ms: int) -> str:
    return f"{np.datetime64(epoch_ms // 1000, 's')}Z"
