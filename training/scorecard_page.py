"""The scorecard to read: cards, tables and two plots, inside the report of a backtest and as a page of its own."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from training.ablation import CAPTION, ablation_table
from training.floors import REPEATS
from training.labels import ABRUPT, INCIPIENT, LEAK_KINDS
from training.local_time import LocalTime
from training.page import ROWS_IN_TABLE, TYPE_NAMES, card, hours, short, table, write_page
from training.scorecard_figure import budget_figure, delay_figure

Card = Mapping[str, Any]


def write_scorecard(path: Path, site: str, timezone: str, scorecard: Card, note: str = "") -> None:
    """A page of its own, of a scorecard with labels."""
    figures = score_figures(scorecard)
    write_page(
        path,
        site=site,
        what="scorecard",
        subtitle=f"Scorecard{': ' * bool(note)}{note}",
        cards=score_cards(scorecard),
        body=score_sections(scorecard, LocalTime(timezone), figures),
        figures=figures,
    )


def within(scorecard: Card, kind: str) -> str:
    """The time that leaks of the kind have to be found in."""
    rules = scorecard["rules"]
    return f"{rules['abruptWithinHours']:g} h" if kind == ABRUPT else f"{rules['incipientWithinDays']:g} d"


def percent(ends: Iterable[float]) -> str:
    """An interval of a share."""
    return " to ".join(f"{100 * end:.0f}" for end in ends) + " %"


def interval(ends: Iterable[float] | None) -> str:
    """An interval of a rate."""
    return "–" if ends is None else " to ".join(short(end) for end in ends)


def score_cards(scorecard: Card) -> str:
    """The figures that count most, as cards."""
    summary = scorecard["summary"]
    rate, ends = summary["leakAlarmsPerDmaMonth"], interval(summary["leakAlarmsPerDmaMonth95"])
    cards = [
        card(
            str(summary["leakAlarms"]),
            "alarms of leaks and bursts",
            f"{short(rate)} per DMA-month; {summary['dmaMonths']:g} DMA-months judged",
        )
    ]
    if not scorecard["labelled"]:
        return "".join(cards)
    for kind in LEAK_KINDS:
        part = summary[kind]
        delay = "" if part["medianDelayHours"] is None else f"; median delay {hours(part['medianDelayHours'])}"
        note = f"within {within(scorecard, kind)}{delay}; 95 %: {percent(part['found95'])}" if part["leaks"] else ""
        cards.append(card(f"{part['found']} of {part['leaks']}", f"{kind} leaks found", note))
    ends = interval(summary["unexplainedPerDmaMonth95"])
    during = summary["unexplainedLate"] + summary["unexplainedRepeats"]
    note = f"{summary['unexplained']} in all, {during} of them while a known leak ran; 95 %: {ends}"
    cards.append(card(short(summary["unexplainedPerDmaMonth"]), "unexplained alarms per DMA-month", note))
    bound = "at most, " if summary["volumesAreBounds"] else ""
    note = f"{bound}of {summary['leaked_m3']:,.0f}; {summary['lostOfMissed_m3']:,.0f} by leaks not found in time"
    unseen = summary["lostBeforeFound_m3"] + summary["lostOfMissed_m3"]
    cards.append(card(f"{unseen:,.0f}", "m³ lost before an alarm", note))
    return "".join(cards)


def score_figures(scorecard: Card) -> dict[str, dict[str, Any]]:
    """plotly's figures by the id of their place in `score_sections`; none where there is nothing to draw."""
    figures = {"score-delay": delay_figure(scorecard), "score-budget": budget_figure(scorecard)}
    return {name: figure for name, figure in figures.items() if figure is not None}


def score_sections(scorecard: Card, clock: LocalTime, figures: Collection[str]) -> str:
    """Everything below the cards, as HTML, with places for these figures; only of a scorecard with labels."""
    plots = [_plot(*plot) for plot in _PLOTS if plot[0] in figures]
    parts = [
        f'<div class="pair">{"".join(plots)}</div>' if plots else "",
        "<h2 class='plain'>Beside what chance and a simple rule reach</h2>",
        _floor_table(scorecard),
    ]
    if "budgets" in scorecard:
        parts += ["<h2 class='plain'>At other alert budgets</h2>", _budget_table(scorecard)]
    if "ablation" in scorecard:
        parts += ["<h2 class='plain'>Without each detector</h2>", _ablation_table(scorecard)]
    for key, title in (("bySize", "Share of the mean inflow"), ("byNightSd", "Night-flow standard deviations")):
        if scorecard[key]:
            parts.append(_class_table(scorecard[key], title))
    tables = [_dma_table(scorecard, clock), _leak_table(scorecard, clock), _alarm_table(scorecard, clock)]
    return "\n".join([*parts, *tables, _notes(scorecard)])


_PLOTS = (
    ("score-delay", "Delay against size", "A symbol a leak. Crosses on top: never alarmed. Open: alarmed too late."),
    (
        "score-budget",
        "Leaks found against alarms",
        "Up and left is better. ×1 is the alert budget as it is set. Bars are 95 % intervals; of chance, as many random "
        "alarms, from the median to the 95th percentile. MNF: rules on the minimum night flow, as below.",
    ),
)


def _plot(name: str, title: str, note: str) -> str:
    return (
        f'<section><h2>{title}</h2><div class="plot" id="{name}" role="img" aria-label="{title}"></div>'
        f'<p class="caption">{note}</p></section>'
    )


def _of(part: Mapping[str, Any]) -> str:
    return f"{part['found']} of {part['leaks']}"


def _percents(leakdb: Mapping[str, Any] | None) -> list[str]:
    names = ("truePositiveRate", "trueNegativeRate", "f1", "earlyDetection")
    return ["–" if leakdb is None or leakdb[name] is None else f"{leakdb[name]:.1f}" for name in names]


_LEAKDB_HEADS = ("TPR<br>%", "TNR<br>%", "F1<br>%", "Early<br>detection")
_FOUND_HEADS = (
    "Alarms", "Abrupt<br>found", "by chance", "Incipient<br>found", "by chance", "Unexplained<br>a DMA-month",
    "of these without<br>a leak",
)  # fmt: skip


def _floor_table(scorecard: Card) -> str:
    random, *rules = scorecard["floors"]
    named = [("<b>Nightline</b>", scorecard["summary"] | {"leakdb": scorecard["leakdb"], "chance": random})]
    if "withoutModel" in scorecard:
        named.append(("Nightline without its model", scorecard["withoutModel"]))
    named += [(html.escape(floor["name"]), floor) for floor in rules]
    rows = [[name, *_found_cells(part), *_percents(part["leakdb"])] for name, part in named]
    note = (
        '<p class="caption">Chance: what as many alarms in the same DMAs find at random times, median and 95th percentile '
        f"of {REPEATS:,} draws. TPR, TNR, F1 and early detection are LeakDB's: by slot, an alarm counting from its raise "
        "until it was said to be over, warm-up included.</p>"
    )
    return table(["", *_FOUND_HEADS, *_LEAKDB_HEADS], rows, "figures") + note


def chance(part: Mapping[str, Any], kind: str) -> str:
    """What as many random alarms find of the kind; a dash where it was not drawn."""
    if "chance" not in part:
        return "–"
    found = part["chance"][kind]["found"]
    return f"{found['median']:g} (≤ {found['p95']:g})"


def _found_cells(part: Mapping[str, Any]) -> list[str]:
    return [
        str(part["leakAlarms"]),
        _of(part[ABRUPT]),
        chance(part, ABRUPT),
        _of(part[INCIPIENT]),
        chance(part, INCIPIENT),
        short(part["unexplainedPerDmaMonth"]),
        short(part["unexplainedOutsideLeaksPerDmaMonth"]),
    ]


def _budget_table(scorecard: Card) -> str:
    heads = ["Times the<br>budget", "Alerts a week<br>asked for", *_FOUND_HEADS, *_LEAKDB_HEADS]
    rows = [
        [f"{part['timesTheBudget']:g}", short(part["alertsPerWeek"]), *_found_cells(part), *_percents(part["leakdb"])]
        for part in scorecard["budgets"]
    ]
    return table(heads, rows, "figures")


def _ablation_table(scorecard: Card) -> str:
    heads, *rows = ablation_table(scorecard)
    cells = [[html.escape(cell) for cell in row] for row in rows]
    heads = [f"{head[:1].upper()}{head[1:]}".replace(" ", "<br>", 1) for head in heads]
    return table(heads, cells, "figures") + f'<p class="caption">{html.escape(CAPTION)}</p>'


def class_name(part: Mapping[str, Any], *, share: bool) -> str:
    """A class of sizes in words."""
    low, high = (
        None if end is None else f"{100 * end:g} %" if share else f"{end:g}" for end in (part["from"], part["below"])
    )
    return f"from {low}" if high is None else f"below {high}" if not part["from"] else f"{low} to {high}"


def _class_table(parts: Iterable[Mapping[str, Any]], title: str) -> str:
    rows = [
        [
            class_name(part, share=title.startswith("Share")),
            part["kind"],
            _of(part),
            percent(part["found95"]),
            hours(part["medianDelayHours"]),
            hours(part["medianDelayHoursOfAll"]),
        ]
        for part in parts
    ]
    heads = [title, "Kind", "Found", "95 %", "Median delay<br>of those found", "of all, missed ones<br>taking for ever"]
    return f"<h2 class='plain'>Leaks by size: {title[0].lower()}{title[1:]}</h2>" + table(heads, rows, "figures")


def _dma_table(scorecard: Card, clock: LocalTime) -> str:
    rows = [
        [
            html.escape(dma),
            short(part["meanInflow_m3h"]),
            short(part["nightFlowSd_m3h"]),
            clock.text_of(part["warmUpUntil"]),
            f"{part['dmaMonths']:g}",
            _of(part[ABRUPT]),
            _of(part[INCIPIENT]),
            str(part["unexplained"]),
            str(part["unexplainedOutsideLeaks"]),
            short(part["unexplainedPerDmaMonth"]),
        ]
        for dma, part in scorecard["dmas"].items()
    ]
    heads = [
        "DMA", "Mean inflow<br>m³/h", "Night-flow sd<br>m³/h", "Warm-up until", "Months<br>judged", "Abrupt<br>found",
        "Incipient<br>found", "Unexplained<br>alarms", "of these without<br>a leak", "Unexplained<br>per month",
    ]  # fmt: skip
    return "<h2 class='plain'>By DMA</h2>" + table(heads, rows, "figures")


def _leak_table(scorecard: Card, clock: LocalTime) -> str:
    heads = [
        "Leak", "DMA", "Kind", "Started", "Ended", "Largest<br>m³/h", "of mean<br>inflow", "Night-flow<br>sds", "Found",
        "Delay", "Lost before<br>an alarm, m³",
    ]  # fmt: skip
    rows = [
        [
            html.escape(leak["id"]),
            html.escape(leak["dma"]),
            leak["kind"],
            clock.text_of(leak["startedAt"]),
            clock.text_of(leak["endedAt"]),
            "–" if leak["max_m3h"] is None else f"{leak['max_m3h']:.1f}",
            "–" if leak["shareOfMeanInflow"] is None else f"{100 * leak['shareOfMeanInflow']:.1f} %",
            "–" if leak["nightFlowSds"] is None else f"{leak['nightFlowSds']:.1f}",
            _verdict(leak),
            hours(leak["delayHours"] if leak["found"] else leak["lateHours"]),
            "–" if leak["lostUnseen_m3"] is None else f"{'≤ ' * leak['volumesAreBounds']}{leak['lostUnseen_m3']:,.0f}",
        ]
        for leak in scorecard["leaks"]
    ]
    note = (
        '<p class="caption">Found: an alarm of a leak type raised in the DMA soon enough after the start, while the leak '
        "ran; one alarm explains one leak.</p>"
    )
    return '<h2 class="plain">Known leaks</h2>' + table(heads, rows, "leaks") + note


def _alarm_table(scorecard: Card, clock: LocalTime) -> str:
    alarms = scorecard["unexplainedAlarms"]
    if not alarms:
        return ""
    verdicts = scorecard["rules"]["verdicts"]
    rows = [
        [
            clock.text_of(alarm["raisedAt"]),
            html.escape(alarm["dma"]),
            html.escape(TYPE_NAMES.get(alarm["type"], alarm["type"])),
            html.escape(verdicts[alarm["verdict"]]),
            f'<span class="id">{html.escape(alarm["alertId"])}</span>',
        ]
        for alarm in alarms[:ROWS_IN_TABLE]
    ]
    more = len(alarms) - ROWS_IN_TABLE
    note = f'<p class="caption">{more:,} more are in scorecard.json.</p>' if more > 0 else ""
    heads = ["Raised", "DMA", "Kind", "Why it is unexplained", "Alert"]
    return '<h2 class="plain">Unexplained alarms</h2>' + table(heads, rows, "alarms") + note


def _verdict(leak: Mapping[str, Any]) -> str:
    if leak["found"]:
        return "✓ found"
    if not leak["counted"]:
        return "in warm-up"
    return "✗ too late" if leak["lateHours"] is not None else "✗ missed"


def notes(scorecard: Card) -> list[str]:
    """What is left out of the figures, in words."""
    said = []
    for key, why in (
        ("leaksInWarmUp", "started in a DMA's warm-up"),
        ("leaksOutsideTheData", "started outside of what is judged"),
    ):
        if scorecard[key]:
            said.append(f"not counted: {len(scorecard[key])} known leaks {why} ({', '.join(scorecard[key][:12])})")
    if scorecard["alarmsInWarmUp"]:
        said.append(f"not counted: {len(scorecard['alarmsInWarmUp'])} alarms in warm-up")
    others = scorecard["summary"]["otherAlerts"]
    if others:
        kinds = ", ".join(f"{count} {name}" for name, count in others.items())
        said.append(f"alerts of other causes, in no rate above: {kinds}")
    return said


def _notes(scorecard: Card) -> str:
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in notes(scorecard))
    return f'<ul class="caption">{lines}</ul>' if lines else ""
