"""report.html: one file that opens without a network. Alerts on top, then each DMA's inflow against its band."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.network import Dma, Site
from models.phrases import Language
from models.phrases import told as sentences_of
from models.schema import LEAK_TYPES, Alert, Estimate, Explanation
from training.labels import Leak
from training.local_time import LocalTime
from training.matching import first_revisions
from training.page import ROWS_IN_TABLE, TYPE_NAMES, card, row, write_page
from training.report_figure import Curves, Mark, figure_json
from training.scorecard_page import score_cards, score_figures, score_sections

POINTS_A_DMA: Final = 6_000
POINTS_IN_ALL: Final = 110_000
"""At about 70 bytes a point, with the plotting library's 5 MB, the file stays below 15 MB."""
FEWEST_POINTS: Final = 200
MARKS_A_DMA: Final = 300
EXPLAINED: Final = 500
"""Alerts with their explanation: at about 4 kB each they add 2 MB."""
LANGUAGES: Final[tuple[tuple[Language, str], ...]] = (("en", "en"), ("zh", "zh-CN"))
KEY: Final = """\
<p class="key">In the plots: the line is net inflow, the shaded band what was expected, dotted in its middle; over long spans
the dark line is the daily mean. A vertical line is the moment an alert was raised: solid for leaks and bursts, dotted for
everything else. The bars below run from an alert's start to its end, a diamond where it was raised, an arrow where it was
still open. Green bars and dotted frames are known leaks. At the bottom is how far each day's mean was above or below the
expected. Drag to zoom, double-click for all.</p>"""
DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Story:
    """One alert over all its revisions: what was said when it was raised, and the newest revision."""

    title: str
    last: Alert
    raised_ms: int
    revisions: int
    explanation: Explanation | None = None
    """Of the raise, with the water and the end of the newest revision; None in alerts of before there were any."""


def stories(alerts: Iterable[Alert]) -> list[Story]:
    """One per alert id, in order of the raise."""
    all_of = list(alerts)
    last = {alert.alert_id: alert for alert in sorted(all_of, key=lambda alert: alert.revision)}
    return [
        Story(
            first.title.en,
            last[first.alert_id],
            first.detected_at,
            last[first.alert_id].revision,
            _whole(first.explanation, last[first.alert_id].explanation),
        )
        for first in first_revisions(all_of)
    ]


def _whole(first: Explanation | None, last: Explanation | None) -> Explanation | None:
    if first is None or last is None:
        return None
    return msgspec.structs.replace(first, water=last.water, ended=last.ended)


def read_alerts(path: Path) -> list[Alert]:
    """The alerts of an ndjson file."""
    decoder = msgspec.json.Decoder(Alert)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line]


def write_report(
    path: Path,
    site: Site,
    alerts: Iterable[Alert],
    *,
    detections: Path,
    leaks: Sequence[Leak] | None,
    scorecard: dict[str, Any],
) -> None:
    """`detections` is the Parquet file of the backtest; `scorecard` what `training.scorecard.score` gave."""
    clock = LocalTime(site.timezone)
    told = stories(alerts)
    found = {row["alertId"]: row["id"] for row in scorecard.get("leaks", []) if row["found"]}
    limit = max(FEWEST_POINTS, min(POINTS_A_DMA, POINTS_IN_ALL // len(site.dmas)))
    sections, figures = [], {}
    for number, dma in enumerate(site.dmas):
        ours = [story for story in told if _dma_of(story.last, site) == dma.id]
        known = [leak for leak in leaks or () if leak.dma == dma.id]
        curves = read_curves(detections, dma, limit, clock)
        if curves is None:
            sections.append(_section(number, dma, "No slot was closed: no readings, or too few to begin.", len(ours), False))
            continue
        marks = [_alert_mark(story, clock, found) for story in ours[:MARKS_A_DMA]]
        figures[f"plot-{number}"] = json.loads(
            figure_json(curves, marks, [_leak_mark(leak, clock, curves) for leak in known])
        )
        sections.append(_section(number, dma, _caption(curves, len(ours)), len(ours), True))
    table = _alert_table(told, site, clock, found, labelled=leaks is not None)
    known_leaks = ""
    if leaks:
        of_score = score_figures(scorecard)
        known_leaks = score_sections(scorecard, clock, of_score)
        figures |= of_score
    write_page(
        path,
        site=site.name,
        what="backtest",
        subtitle=f"Backtest: {_subtitle(site, detections, clock)}",
        cards=_cards(told) + score_cards(scorecard),
        body="\n".join(["<h2>Alerts</h2>", table, known_leaks, KEY, *sections]),
        figures=figures,
    )


def _cards(told: Sequence[Story]) -> str:
    still = sum(is_open(story.last) for story in told)
    return card(str(len(told)), f"alert{'s' * (len(told) != 1)}", f"{still} still open at the end")


def _dma_of(alert: Alert, site: Site) -> str:
    if alert.scope.type == "dma":
        return alert.scope.id
    row = site.meter_row.get(alert.scope.id)
    return alert.scope.id if row is None else site.meters[row].home


def read_curves(path: Path, dma: Dma, limit: int, clock: LocalTime) -> Curves | None:
    """One DMA's slots, put together to at most `limit` points; None where there are none."""
    columns = ["slot_end_ms", "observed_m3h", "expected_m3h", "lower_m3h", "upper_m3h"]
    table = pq.read_table(path, columns=columns, filters=pc.field("dma") == dma.id)
    if table.num_rows == 0:
        return None
    ends, observed, expected, lower, upper = (table.column(name).to_numpy() for name in columns)
    each = -(-len(ends) // limit)
    means = [bucket_mean(series, each) for series in (observed, expected, lower, upper)]
    days, day_mean, excess = daily_means(clock.ms(ends), observed, expected)
    return Curves(
        time_ms=clock.ms(ends[each - 1 :: each] if len(ends) % each == 0 else np.append(ends[each - 1 :: each], ends[-1])),
        observed=means[0],
        highest=bucket_max(observed, each) if each > 1 else None,
        expected=means[1],
        lower=means[2],
        upper=means[3],
        day_ms=days,
        day_mean=day_mean,
        excess=excess,
        slots_a_point=each,
        slot_minutes=dma.slot_minutes,
        missing=float(np.isnan(observed).mean()),
    )


def _buckets(series: NDArray[np.float64], each: int) -> NDArray[np.float64]:
    padded = np.full(-(-len(series) // each) * each, np.nan)
    padded[: len(series)] = series
    return padded.reshape(-1, each)


def bucket_mean(series: NDArray[np.float64], each: int) -> NDArray[np.float64]:
    """Mean of what is there in each run of `each` values; NaN where less than half is."""
    rows = _buckets(series, each)
    there = np.isfinite(rows)
    count = there.sum(axis=1)
    width = np.minimum(each, len(series) - np.arange(len(rows)) * each)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, rows, 0.0).sum(axis=1) / count
    return np.where((count > 0) & (count * 2 >= width), mean, np.nan)


def bucket_max(series: NDArray[np.float64], each: int) -> NDArray[np.float64]:
    """Largest value in each run of `each`; NaN where there is none."""
    highest = np.where(np.isfinite(rows := _buckets(series, each)), rows, -np.inf).max(axis=1)
    return np.where(np.isfinite(highest), highest, np.nan)


def daily_means(
    local_ms: NDArray[np.float64], observed: NDArray[np.float64], expected: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Local days (ms at noon), their mean inflow, and their mean of observed less expected (m3/h).

    Only days with at least half their slots; the excess is NaN where nothing is expected yet.
    """
    day = (local_ms - 1) // DAY_MS  # a slot that ends at midnight belongs to the day before
    days, which, size = np.unique(day, return_inverse=True, return_counts=True)
    means = []
    for series in (observed, observed - expected):
        there = np.isfinite(series)
        count = np.bincount(which[there], minlength=len(days))
        total = np.bincount(which[there], weights=series[there], minlength=len(days))
        means.append(np.where(count * 2 >= size.max(), total / np.maximum(count, 1), np.nan))
    good = np.isfinite(means[0])
    return days[good] * DAY_MS + DAY_MS / 2, means[0][good], means[1][good]


def is_open(alert: Alert) -> bool:
    """True where its newest revision neither cleared nor closed it."""
    return alert.state not in ("cleared", "closed")


def _ended(alert: Alert, clock: LocalTime) -> str:
    if is_open(alert):
        return "still open"
    # closed without an end: the water still runs, and is accepted as the new normal
    return clock.text(alert.ended_at) if alert.ended_at is not None else f"accepted {clock.text(alert.updated_at)}"


def _size(of: Estimate) -> str:
    """Excess flow, with its 90 % interval where there is one."""
    if of.excess_flow_lower is None or of.excess_flow_upper is None:
        return f"{of.excess_flow:.1f} {of.unit}"
    return f"{of.excess_flow:.1f} ({of.excess_flow_lower:.1f} to {of.excess_flow_upper:.1f}) {of.unit}"


def _alert_mark(story: Story, clock: LocalTime, found: dict[str | None, str]) -> Mark:
    alert = story.last
    until = alert.ended_at if alert.ended_at is not None else alert.updated_at
    start, raised, end = clock.ms(np.array([alert.started_at, story.raised_ms, max(until, story.raised_ms)])).tolist()
    excess = "" if alert.estimate is None else f"<br>excess {_size(alert.estimate)}"
    now = "" if alert.title.en == story.title else f"{html.escape(alert.title.en)}<br>"
    leak = f"<br>explains leak {html.escape(found[alert.alert_id])}" if alert.alert_id in found else ""
    text = (
        f"<b>{html.escape(story.title)}</b><br>{now}raised {clock.text(story.raised_ms)}, "
        f"started {clock.text(alert.started_at)}{excess}<br>"
        f"{story.revisions} revision{'s' * (story.revisions != 1)}, {alert.state}{leak}<br>{alert.alert_id}"
    )
    name = TYPE_NAMES.get(alert.type, alert.type)
    return Mark(name, start, raised, end, text, strong=alert.type in LEAK_TYPES, open=is_open(alert))


def _leak_mark(leak: Leak, clock: LocalTime, curves: Curves) -> Mark:
    start = float(clock.ms(np.array([leak.started_ms]))[0])
    end = float(curves.time_ms[-1]) if leak.ended_ms is None else float(clock.ms(np.array([leak.ended_ms]))[0])
    size = "" if leak.max_m3h is None else f", up to {leak.max_m3h:.1f} m³/h"
    span = f"{clock.text(leak.started_ms)} to {clock.text(leak.ended_ms)}"
    text = f"<b>Known leak {html.escape(leak.id)}</b><br>{leak.kind}{size}<br>{span}"
    return Mark(leak.id, start, start, end, text, strong=leak.kind == "abrupt", open=leak.ended_ms is None)


def _caption(curves: Curves, alerts: int) -> str:
    minutes = curves.slots_a_point * curves.slot_minutes
    length = f"{minutes / 60:g} h" if minutes >= 60 else f"{minutes} min"
    if curves.slots_a_point == 1:
        drawn = f"Every slot of {length} is drawn."
    else:
        drawn = (
            f"Each point is the mean of {curves.slots_a_point} slots ({length}); the highest slot of each can be "
            "switched on in the legend."
        )
    gaps = f" {curves.missing:.1%} of the slots have no net inflow and are left blank." if curves.missing else ""
    cut = f" Only the first {MARKS_A_DMA} of {alerts} alerts are drawn." if alerts > MARKS_A_DMA else ""
    return drawn + gaps + cut


def _section(number: int, dma: Dma, caption: str, alerts: int, drawn: bool) -> str:
    name = html.escape(dma.name)
    identity = "" if dma.name == dma.id else f' <span class="id">{html.escape(dma.id)}</span>'
    plot = f'<div class="plot" id="plot-{number}" role="img" aria-label="Net inflow of {name}"></div>' if drawn else ""
    count = f'<span class="count">{alerts} alert{"s" * (alerts != 1)}</span>'
    return (
        f'<section id="dma-{number}"><h2>{name}{identity}{count}</h2>'
        f'{plot}<p class="caption">{html.escape(caption)}</p></section>'
    )


def _subtitle(site: Site, detections: Path, clock: LocalTime) -> str:
    count = f"{len(site.dmas)} DMA{'s' * (len(site.dmas) != 1)}, {len(site.meters)} meters"
    ends = pq.read_table(detections, columns=["slot_end_ms"]).column(0)
    if len(ends) == 0:
        return f"{count}; no slot was closed"
    span = pc.min_max(ends).as_py()
    return f"{count}; {clock.text(span['min'])} to {clock.text(span['max'])}, local time ({site.timezone})"


def _explained(explanation: Explanation | None, columns: int) -> str:
    """A row with what the alert says for itself, folded, in both languages."""
    if explanation is None:
        return ""
    said = []
    for language, code in LANGUAGES:
        lines = "".join(
            (f"<dt>{html.escape(name)}</dt>" if name else "") + f"<dd>{html.escape(text)}</dd>"
            for name, text in sentences_of(explanation, language)
        )
        said.append(f'<dl lang="{code}">{lines}</dl>')
    folded = f'<details><summary>Why, and what to check</summary><div class="told">{"".join(said)}</div></details>'
    return f'<tr class="why"><td colspan="{columns}">{folded}</td></tr>'


def _alert_table(
    told: Sequence[Story], site: Site, clock: LocalTime, found: dict[str | None, str], *, labelled: bool
) -> str:
    if not told:
        return '<p class="empty">No alert was raised.</p>'
    head = ["Raised", "DMA", "What happened", "Kind", "Severity", "Excess<br>m³/h", "Lost<br>m³", "Ended", "Revisions"]
    rows = []
    for story in told[:ROWS_IN_TABLE]:
        alert = story.last
        dma = _dma_of(alert, site)
        number = site.dma_row.get(dma)
        link = html.escape(dma) if number is None else f'<a href="#dma-{number}">{html.escape(dma)}</a>'
        excess, lost = (
            ("–", "–")
            if alert.estimate is None
            else (f"{alert.estimate.excess_flow:.1f}", f"{alert.estimate.lost_so_far:,.0f}")
        )
        cells = [
            clock.text(story.raised_ms),
            link,
            html.escape(story.title),
            TYPE_NAMES.get(alert.type, alert.type),
            f'<span class="severity {alert.severity}">{alert.severity}</span>',
            excess,
            lost,
            _ended(alert, clock),
            str(story.revisions),
        ]
        if labelled:
            cells.append(html.escape(found.get(alert.alert_id, "")) or ("–" if alert.type in LEAK_TYPES else ""))
        rows.append(row(cells) + (_explained(story.explanation, len(cells)) if len(rows) < EXPLAINED else ""))
    more, unexplained = len(told) - ROWS_IN_TABLE, len(rows) - EXPLAINED
    note = f'<p class="caption">{more:,} more are in alerts.ndjson.</p>' if more > 0 else ""
    if unexplained > 0:
        note += f'<p class="caption">The explanations of the last {unexplained:,} are in alerts.ndjson.</p>'
    heads = row([*head, "Explains<br>leak"] if labelled else head, "th")
    body = f"<thead>{heads}</thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table class="alerts">{body}</table></div>{note}'
