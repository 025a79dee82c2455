"""drift.html: one row a DMA, its weeks along; what drifts said in words above."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from training.drift import DISTANCES, IN_A_ROW, WORDS, notes, suggestion
from training.page import card, short, table, write_page

_ROW_PX: Final = 26
_SCALE: Final = [[0.0, "#f7f9fb"], [0.4999, "#a9cbe0"], [0.5, "#f4c95d"], [0.75, "#e07b39"], [1.0, "#8c1d18"]]
"""Over 0 to 2 times the level: pale blues below it, from yellow on above; lightness alone tells them apart as well."""


def write_drift(path: Path, found: Mapping[str, Any]) -> None:
    """The page of `drift_report`."""
    write_page(
        path,
        site=found["site"],
        what="drift",
        subtitle=f"Drift against the training of each model, {len(found['weeks'])} weeks from {found['weeks'][0]}",
        cards=_cards(found),
        body=_body(found),
        figures={"drift-weeks": _figure(found)},
    )


def _cards(found: Mapping[str, Any]) -> str:
    rows = found["dmas"].values()
    watched = sum(row["verdict"] == "watch" for row in rows)
    weeks = [week for row in rows for week in row["weeks"] if week["ratio"] is not None]
    over = sum(week["ratio"] > 1 for week in weeks)
    more = sum(row["alarms"] is not None and row["alarms"]["more"] for row in rows)
    return "".join(
        [
            card(f"{len(found['drifting'])} of {len(rows)}", "DMAs drift", f"{IN_A_ROW} weeks over their level, or alarms"),
            card(str(watched), "DMAs to watch", "their last week is over its level"),
            card(f"{over} of {len(weeks)}", "judged weeks over their level", "by chance one in 52"),
            card(str(more), "DMAs with more leak alarms", "than in training; p below 0.01"),
        ]
    )  # fmt: skip


def _body(found: Mapping[str, Any]) -> str:
    said = []
    for dma, row in found["dmas"].items():
        lines = [html.escape(line) for line in row["says"]]
        if row["verdict"] == "drift":
            lines.append(f"<i>{html.escape(suggestion(dma, row))}</i>")
        said += [f"<li><b>{html.escape(dma)}</b>: {line}</li>" for line in lines]
    words = (
        f"<ul>{''.join(said)}</ul>" if said else '<p class="empty">Every DMA looks like what its model was trained on.</p>'
    )
    noted = "".join(f"<p class='caption'>Note: {html.escape(note)}.</p>" for note in notes(found))
    return (
        f"<section><h2>What has changed</h2>{words}{noted}</section>"
        '<section><h2>Week by week</h2><div class="plot" id="drift-weeks" role="img" aria-label="Drift by week"></div>'
        '<p class="caption">The largest distance of any feature from the training, over its level, by the Monday that a '
        "week began: from 1 on (yellow) the week is over it. Empty: too few slots to judge. Nothing is retrained or "
        "promoted by itself.</p></section>"
        f'<h2 class="plain">By DMA</h2>{_table(found)}{_KEY}'
    )


def _table(found: Mapping[str, Any]) -> str:
    heads = [
        "DMA", "Verdict", "Model", "Weeks<br>trained", "Last week<br>over its level", "Furthest", "PSI<br>(level)",
        "KS<br>(level)", "Leak alarms<br>a month", "95 %", "in training", "Budget",
    ]  # fmt: skip
    rows = []
    for dma, row in found["dmas"].items():
        judged = [week for week in row["weeks"] if week["ratio"] is not None]
        distances = ["–", "–"]
        if judged:
            worst = judged[-1]["worst"]["column"]
            pairs = [judged[-1][distance][worst] for distance in DISTANCES]
            distances = [f"{pair['value']:.2f} ({_level(pair['level'], distance)})"
                         for distance, pair in zip(DISTANCES, pairs, strict=True)]  # fmt: skip
        rates = ["–"] * 4
        if (alarms := row["alarms"]) is not None and alarms["perDmaMonth"] is not None:
            span = " to ".join(short(end) for end in alarms["perDmaMonth95"])
            rates = [
                short(alarms["perDmaMonth"]),
                span,
                short(alarms["trainingPerDmaMonth"]),
                short(alarms["budgetPerDmaMonth"]),
            ]
        verdict = f"<b>{row['verdict']}</b>" if row["verdict"] == "drift" else row["verdict"]
        rows.append(
            [
                html.escape(dma), verdict, row["model"], str(row["trainingWeeks"]), short(row["ratio"]), row["worst"] or "–",
                *distances, *rates,
            ]
        )  # fmt: skip
    return table(heads, rows, "figures")


def _level(level: float, distance: str) -> str:
    """A KS distance is never above 1: a level beyond it is none."""
    return "none" if distance == "ks" and level > 1 else f"{level:.2f}"


_KEY: Final = (
    '<p class="key">PSI: population stability index. KS: largest difference of the cumulative shares. Their levels come '
    "from how far the weeks of the training lie from each other, such that one week a year is over by chance; the usual "
    "0.1 and 0.25 of the PSI are for independent rows, which slots are not. A KS distance whose level is none says nothing: "
    "weeks of the training lie as far from each other as can be.</p>"
    f'<p class="key">{"; ".join(f"{column}: {words}" for column, words in WORDS.items())}.</p>'
)


def _figure(found: Mapping[str, Any]) -> dict[str, Any]:
    dmas = list(found["dmas"])
    ratios, words = [], []
    for dma in dmas:
        weeks = {week["from"]: week for week in found["dmas"][dma]["weeks"]}
        ratios.append([weeks[at]["ratio"] if at in weeks else None for at in found["weeks"]])
        words.append([_hover(weeks.get(at)) for at in found["weeks"]])
    heat = {
        "type": "heatmap", "x": found["weeks"], "y": dmas, "z": ratios, "text": words, "zmin": 0, "zmax": 2, "xgap": 2,
        "ygap": 2, "colorscale": _SCALE, "hovertemplate": "%{y}, week of %{x}<br>%{text}<extra></extra>",
        "colorbar": {"title": {"text": "times<br>the level"}, "tickvals": [0, 0.5, 1, 1.5, 2], "len": 1, "thickness": 14},
    }  # fmt: skip
    layout = {
        "height": max(380, 110 + _ROW_PX * len(dmas)),
        "template": "plotly_white",
        "margin": {"l": 110, "r": 20, "t": 20, "b": 60},
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": "#1f2933"},
        "xaxis": {"type": "category", "automargin": True, "tickangle": 0 if len(found["weeks"]) < 13 else -60},
        "yaxis": {"type": "category", "automargin": True, "autorange": "reversed"},
        "plot_bgcolor": "#ffffff",
    }
    return {"data": [heat], "layout": layout}


def _hover(week: Mapping[str, Any] | None) -> str:
    if week is None:
        return "no slots"
    of = f"{week['share']:.0%} of its slots counted{', in training' if week['inTraining'] else ''}"
    if week["ratio"] is None:
        return f"not judged: {of}"
    column, distance = week["worst"]["column"], week["worst"]["distance"]
    pair = week[distance][column]
    return f"{week['ratio']:.2f} times: {distance.upper()} of {column} {pair['value']:.2f}, level {pair['level']:.2f}; {of}"
