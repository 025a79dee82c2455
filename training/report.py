"""report.html: one file that opens without a network. Alerts on top, then each DMA's inflow against its band."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.network import Dma, Site, utc_offsets_s
from models.schema import Alert
from training.report_figure import Curves, Mark, figure_json
from training.scorecard import LEAK_TYPES, Leak, first_revisions
from training.warm_up import warm_up_told

POINTS_A_DMA: Final = 6_000
POINTS_IN_ALL: Final = 110_000
"""At about 70 bytes a point, with the plotting library's 5 MB, the file stays below 15 MB."""
FEWEST_POINTS: Final = 200
MARKS_A_DMA: Final = 300
ROWS_IN_TABLE: Final = 1_000
DAY_MS: Final = 86_400_000
TYPE_NAMES: Final = {
    "night_flow_leak": "Leak (night flow)",
    "burst": "Burst",
    "pressure_drop": "Pressure drop",
    "pressure_transient": "Pressure transient",
    "zero_flow": "No flow",
    "reverse_flow": "Reverse flow",
    "meter_fault": "Meter fault",
    "data_gap": "Data gap",
    "boundary_valve": "Boundary valve",
    "customer_leak": "Customer leak",
}


class LocalTime:
    """Epoch ms to the site's clock: as ms for axes, as text for tables."""

    def __init__(self, timezone: str) -> None:
        self._changes, self._offsets = utc_offsets_s(timezone)

    def ms(self, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """Local wall time as if it were UTC, which is how plotly shows a number on a time axis."""
        at = np.searchsorted(self._changes, times_ms, side="right") - 1
        return (times_ms + self._offsets[at] * 1000).astype(np.float64)

    def text(self, time_ms: int | None) -> str:
        """`2026-11-23 02:15`; a dash for None."""
        if time_ms is None:
            return "–"
        local = float(self.ms(np.array([time_ms]))[0])
        return str(np.datetime64(int(local), "ms").astype("datetime64[m]")).replace("T", " ")


@dataclass(frozen=True)
class Story:
    """One alert over all its revisions: what was said when it was raised, and the newest revision."""

    title: str
    last: Alert
    raised_ms: int
    revisions: int


def stories(alerts: Iterable[Alert]) -> list[Story]:
    """One per alert id, in order of the raise."""
    all_of = list(alerts)
    last = {alert.alert_id: alert for alert in sorted(all_of, key=lambda alert: alert.revision)}
    return [
        Story(first.title.en, last[first.alert_id], first.detected_at, last[first.alert_id].revision)
        for first in first_revisions(all_of)
    ]


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
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - a second to import, and only a report needs it

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
        caption = f"{_caption(curves, len(ours))} {warm_up_told(detections, dma.id, clock)}"
        sections.append(_section(number, dma, caption, len(ours), True))
    template = Template(files("training").joinpath("report_template.html").read_text(encoding="utf-8"))
    page = template.substitute(
        site=html.escape(site.name),
        subtitle=html.escape(_subtitle(site, detections, clock)),
        cards=_cards(scorecard, told),
        alerts=_alert_table(told, site, clock, found, labelled=leaks is not None),
        leaks=_leak_table(scorecard, clock) if leaks else "",
        sections="\n".join(sections),
        plotly=get_plotlyjs(),
        figures=json.dumps(figures, separators=(",", ":")).replace("</", "<\\/"),
    )
    path.write_text(page, encoding="utf-8")


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


def _alert_mark(story: Story, clock: LocalTime, found: dict[str | None, str]) -> Mark:
    alert = story.last
    until = alert.ended_at if alert.ended_at is not None else alert.updated_at
    start, raised, end = clock.ms(np.array([alert.started_at, story.raised_ms, max(until, story.raised_ms)])).tolist()
    excess = "" if alert.estimate is None else f"<br>excess {alert.estimate.excess_flow:.1f} {alert.estimate.unit}"
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


def _card(value: str, name: str, note: str = "") -> str:
    extra = f"<small>{html.escape(note)}</small>" if note else ""
    return f'<div class="card"><b>{html.escape(value)}</b><span>{html.escape(name)}</span>{extra}</div>'


def _cards(scorecard: dict[str, Any], told: Sequence[Story]) -> str:
    summary = scorecard["summary"]
    leaks = sum(story.last.type in LEAK_TYPES for story in told)
    still = sum(is_open(story.last) for story in told)
    cards = [
        _card(str(len(told)), f"alert{'s' * (len(told) != 1)}", f"{still} still open at the end"),
        _card(str(leaks), "of them leaks and bursts", f"{_or_dash(summary['leakAlarmsPerDmaMonth'])} per DMA-month"),
    ]
    if scorecard["labelled"]:
        rules = scorecard["rules"]
        within = {"abrupt": f"{rules['abruptWithinHours']:g} h", "incipient": f"{rules['incipientWithinDays']:g} d"}
        for kind in ("abrupt", "incipient"):
            part = summary[kind]
            delay = "" if part["medianDelayHours"] is None else f"; median delay {_hours(part['medianDelayHours'])}"
            cards.append(
                _card(f"{part['found']} of {part['leaks']}", f"{kind} leaks found", f"within {within[kind]}{delay}")
            )
        rate = _or_dash(summary["unexplainedPerDmaMonth"])
        cards.append(
            _card(
                rate,
                "unexplained alarms per DMA-month",
                f"{summary['unexplained']} in all, "
                f"{summary['unexplained'] - summary['unexplainedOutsideLeaks']} of them while a known leak ran",
            )
        )
    return "".join(cards)


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"


def _row(cells: Iterable[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


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
        rows.append(_row(cells))
    more = len(told) - ROWS_IN_TABLE
    note = f'<p class="caption">{more:,} more are in alerts.ndjson.</p>' if more > 0 else ""
    heads = _row([*head, "Explains<br>leak"] if labelled else head, "th")
    body = f"<thead>{heads}</thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table class="alerts">{body}</table></div>{note}'


def _leak_table(scorecard: dict[str, Any], clock: LocalTime) -> str:
    def text(moment: str | None) -> str:
        return "–" if moment is None else clock.text(int(np.datetime64(moment.rstrip("Z"), "ms").astype(np.int64)))

    head = _row(["Leak", "DMA", "Kind", "Started", "Ended", "Largest<br>m³/h", "Found", "Delay"], "th")
    rows = [
        _row(
            [
                html.escape(leak["id"]),
                html.escape(leak["dma"]),
                leak["kind"],
                text(leak["startedAt"]),
                text(leak["endedAt"]),
                "–" if leak["max_m3h"] is None else f"{leak['max_m3h']:.1f}",
                "✓ found" if leak["found"] else "✗ missed",
                "–" if leak["delayHours"] is None else _hours(leak["delayHours"]),
            ]
        )
        for leak in scorecard["leaks"]
    ]
    return (
        '<h2 class="plain">Known leaks</h2><div class="scroll"><table class="leaks">'
        f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="caption">Found: an alert of a leak type raised in the DMA soon enough after the start; '
        "one alert explains one leak.</p>"
    )
