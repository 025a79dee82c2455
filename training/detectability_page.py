"""Detectability to read: a table and a plot, as one page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.page import short, table, write_page
from training.report_figure import AMBER, BLUE, INK, QUIET

NAMES = {"within24h": "within 24 h", "within168h": "within 7 days"}


def write_detectability(path: Path, found: Mapping[str, Any]) -> None:
    """A page of what `detectability.as_json` gave."""
    share = f"{100 * found['foundAtShareOfStarts']:.0f} %"
    note = (
        f'<p class="key">The smallest burst that would be found, at {share} of the starts tried. Each start is another '
        "moment of the DMA's own history, at any hour, with no leak known there; its own smallest burst is a dot in the "
        "plot. More than the mean inflow was not tried.</p>"
    )
    plot = '<section><div class="plot" id="sizes" role="img" aria-label="Smallest burst found by DMA"></div></section>'
    heads = [
        "DMA", "Mean inflow<br>m³/h", "Starts", "Within 24 h<br>m³/h", "of mean<br>inflow", "Within 7 days<br>m³/h",
        "of mean<br>inflow", "Pressure",
    ]  # fmt: skip
    rows = [
        [html.escape(dma), short(part["meanInflow_m3h"]), str(part["trials"]), *cells(part), html.escape(part["hydraulics"])]
        for dma, part in found["dmas"].items()
    ]
    write_page(
        path,
        site=found["site"],
        what="detectability",
        subtitle=f"Detectability at {found['alertsPerWeek']:g} unexplained alerts a week for the whole site",
        cards="",
        body="\n".join([note, table(heads, rows, "figures"), plot]),
        figures={"sizes": _figure(found)},
    )


def cells(part: Mapping[str, Any]) -> list[str]:
    """Size and share for each time, as text."""
    made = []
    for name in NAMES:
        size, share = part[name]["m3h"], part[name]["shareOfMeanInflow"]
        if not part["trials"]:
            made += ["not tried", "–"]
        else:
            made += ["not found", "> 100 %"] if size is None else [f"{size:.3g}", f"{100 * share:.1f} %"]
    return made


def _figure(found: Mapping[str, Any]) -> dict[str, Any]:
    import plotly.graph_objects as go  # noqa: PLC0415 - a second to import, and only a page needs it

    figure = go.Figure()
    for (name, title), colour, side in zip(NAMES.items(), (BLUE, AMBER), (-0.15, 0.15), strict=True):
        for kind in ("each", "most"):
            xs, ys = [], []
            for place, part in enumerate(found["dmas"].values()):
                mean, sizes = part["meanInflow_m3h"], part[name]
                shown = sizes["each_m3h"] if kind == "each" else [sizes["m3h"]] * bool(part["trials"])
                xs += [place + side] * len(shown)
                ys += [130.0 if size is None else 100 * size / mean for size in shown]
            figure.add_scatter(
                x=xs, y=ys, mode="markers", name=title, showlegend=kind == "most", hovertemplate="%{y:.2g} %<extra></extra>",
                marker={"color": colour, "size": 6 if kind == "each" else 15, "opacity": 0.45 if kind == "each" else 1.0,
                        "symbol": "circle" if kind == "each" else "line-ew-open", "line": {"width": 3, "color": colour}},
            )  # fmt: skip
    names = list(found["dmas"])
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4])
    figure.update_yaxes(
        type="log", title="smallest burst found, % of mean inflow", tickvals=[0.5, 1, 2, 5, 10, 20, 50, 100, 130],
        ticktext=["0.5", "1", "2", "5", "10", "20", "50", "100", "not found"], gridcolor="#e4e7eb",
    )  # fmt: skip
    figure.update_layout(
        height=420, template="plotly_white", margin={"l": 80, "r": 20, "t": 30, "b": 50}, font={"size": 12, "color": INK},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
        hoverlabel={"bordercolor": QUIET},
    )  # fmt: skip
    return json.loads(figure.to_json())
