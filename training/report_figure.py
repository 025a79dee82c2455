"""One DMA's figure: inflow and band, lanes of alerts and known leaks, daily excess; readable without colour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

INK: Final = "#1f2933"
QUIET: Final = "#7b8794"
BLUE: Final = "#0b69a3"
BAND: Final = "rgba(11,105,163,0.16)"
RED: Final = "#b42318"
AMBER: Final = "#a15c07"
GREEN: Final = "#3f6b35"
INFLOW: Final = "Net inflow"
LONG_DAYS: Final = 45
"""From here on single days are too narrow to follow, and their mean is drawn above them."""
MAX_NAMES: Final = 40
"""With more alerts than this their names on the plot would cover each other; the hover text still tells."""


@dataclass(frozen=True)
class Curves:
    """Series of one length (`time_ms`, local) in m3/h, NaN a gap; `day_ms`, `day_mean` and `excess` one value a day."""

    time_ms: NDArray[np.float64]
    observed: NDArray[np.float64]
    highest: NDArray[np.float64] | None
    expected: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    day_ms: NDArray[np.float64]
    day_mean: NDArray[np.float64]
    excess: NDArray[np.float64]
    slots_a_point: int
    slot_minutes: int
    missing: float


@dataclass(frozen=True)
class Mark:
    """An alert or a known leak on the time axis (local ms)."""

    name: str
    start_ms: float
    raised_ms: float
    end_ms: float
    text: str
    strong: bool
    open: bool


def band_outline(
    time_ms: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Closed outlines of the band, one for each stretch without a gap, NaN between them.

    plotly's fill between two lines would bridge the gaps.
    """
    there = np.isfinite(lower) & np.isfinite(upper)
    edges = np.flatnonzero(np.diff(there.astype(np.int8), prepend=0, append=0))
    xs, ys = [], []
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        part = slice(first, end)
        xs += [time_ms[part], time_ms[part][::-1], [np.nan]]
        ys += [upper[part], lower[part][::-1], [np.nan]]
    if not xs:
        return np.zeros(0), np.zeros(0, np.float32)
    return np.concatenate(xs), np.concatenate(ys).astype(np.float32)


def lanes(marks: Sequence[Mark], room_ms: float = 0.0) -> list[int]:
    """The lowest free lane for each mark, in order of their starts; each needs at least `room_ms`."""
    ends: list[float] = []
    taken = []
    for mark in marks:
        lane = next((at for at, end in enumerate(ends) if end <= mark.start_ms), len(ends))
        if lane == len(ends):
            ends.append(0.0)
        ends[lane] = max(mark.end_ms, mark.start_ms + room_ms)
        taken.append(lane)
    return taken


def figure_json(curves: Curves, alerts: Sequence[Mark], leaks: Sequence[Mark]) -> str:
    """The figure as plotly's JSON: data and layout, and `time` for the curves whose x is that word."""
    import plotly.graph_objects as go  # noqa: PLC0415 - a second to import, and only a report needs it

    figure = go.Figure()
    _inflow(figure, go, curves)
    span = float(curves.time_ms[-1] - curves.time_ms[0]) or 1.0
    ticks, lane_count = _lanes(figure, go, alerts, leaks, span)
    positive = curves.excess >= 0
    figure.add_bar(
        x=curves.day_ms,
        y=curves.excess.astype(np.float32),
        yaxis="y3",
        name="Daily mean above or below expected",
        marker={"color": np.where(positive, RED, QUIET).tolist(), "opacity": 0.75},
        showlegend=False,
        hovertemplate="%{x|%a %d %b %Y}: %{y:+.1f} m³/h<extra></extra>",
    )
    for mark in alerts:
        figure.add_shape(
            type="line", x0=mark.raised_ms, x1=mark.raised_ms, y0=0, y1=1, yref="y domain", layer="above",
            line={"color": RED if mark.strong else AMBER, "width": 1.4, "dash": "solid" if mark.strong else "dot"},
        )  # fmt: skip
    for mark in leaks:
        figure.add_shape(
            type="rect", x0=mark.start_ms, x1=mark.end_ms, y0=0, y1=1, yref="y domain", layer="below",
            fillcolor="rgba(63,107,53,0.045)", line={"color": "rgba(63,107,53,0.45)", "width": 0.8, "dash": "dot"},
        )  # fmt: skip
    _layout(figure, curves, ticks, lane_count)
    return _share_time(figure.to_json())


def _share_time(text: str) -> str:
    """The same times stand in every curve; the page takes them from `time`. Halves the file of a long history."""
    parts = json.loads(text)
    [shared] = [trace["x"] for trace in parts["data"] if trace.get("name") == INFLOW]
    for trace in parts["data"]:
        if trace.get("x") == shared:
            trace["x"] = "time"
    return json.dumps({"data": parts["data"], "layout": parts["layout"], "time": shared})


def _inflow(figure: object, go: object, curves: Curves) -> None:
    x, y = band_outline(curves.time_ms, curves.lower, curves.upper)
    add = figure.add_trace  # type: ignore[attr-defined]
    scatter = go.Scatter  # type: ignore[attr-defined]
    add(
        scatter(
            x=x,
            y=y,
            fill="toself",
            fillcolor=BAND,
            line={"width": 0},
            mode="lines",
            name="Expected band, 95 %",
            hoverinfo="skip",
        )
    )
    small = {"dash": "dot", "width": 1, "color": QUIET}
    add(
        scatter(
            x=curves.time_ms,
            y=curves.expected.astype(np.float32),
            name="Expected",
            line=small,
            mode="lines",
            hoverinfo="skip",
        )
    )
    if curves.highest is not None:
        light = {"width": 0.8, "color": "#829ab1"}
        add(
            scatter(
                x=curves.time_ms, y=curves.highest.astype(np.float32), name="Highest slot", line=light, mode="lines",
                visible="legendonly", hovertemplate="highest %{y:.1f}<extra></extra>",
            )
        )  # fmt: skip
    is_long = len(curves.day_ms) > LONG_DAYS
    around = np.column_stack((curves.lower, curves.upper)).astype(np.float32)
    add(
        scatter(
            x=curves.time_ms, y=curves.observed.astype(np.float32), name=INFLOW, mode="lines", connectgaps=False,
            line={"width": 1.3, "color": BLUE}, customdata=around,
            hovertemplate="%{x|%a %d %b %Y %H:%M}<br><b>%{y:.1f} m³/h</b>, "
            "band %{customdata[0]:.1f} to %{customdata[1]:.1f}<extra></extra>",
        )
    )  # fmt: skip
    if is_long:
        ink = {"width": 1.8, "color": INK}
        add(
            scatter(
                x=curves.day_ms, y=curves.day_mean.astype(np.float32), name="Daily mean", line=ink, mode="lines",
                hovertemplate="%{x|%a %d %b %Y}: daily mean %{y:.1f} m³/h<extra></extra>",
            )
        )  # fmt: skip


def _lanes(
    figure: object, go: object, alerts: Sequence[Mark], leaks: Sequence[Mark], span: float
) -> tuple[list[tuple[float, str]], int]:
    """Bars of alerts above bars of known leaks on axis y2; the ticks of that axis, and how many lanes there are."""
    ticks: list[tuple[float, str]] = []
    base = 0
    for group, title, colour in ((leaks, "Known leaks", GREEN), (alerts, "Alerts", RED)):
        if not group:
            continue
        order = sorted(group, key=lambda mark: mark.start_ms)
        rows = lanes(order, span / 14)
        for mark, row in zip(order, rows, strict=True):
            level = base + row
            shade = colour if colour == GREEN or mark.strong else AMBER
            end = max(mark.end_ms, mark.start_ms + span / 600)
            named = len(group) <= MAX_NAMES
            figure.add_trace(  # type: ignore[attr-defined]
                go.Scatter(  # type: ignore[attr-defined]
                    x=[mark.start_ms, mark.raised_ms, end],
                    y=[level] * 3,
                    yaxis="y2",
                    mode="lines+markers+text" if named else "lines+markers",
                    line={"width": 6 if mark.strong else 3, "color": shade},
                    opacity=0.9,
                    marker={
                        "symbol": [
                            "line-ns",
                            "diamond" if colour == RED else "line-ns",
                            "triangle-right" if mark.open else "line-ns",
                        ],
                        "size": [0, 9 if colour == RED else 0, 9 if mark.open else 0],
                        "color": "#ffffff",
                        "line": {"width": 1.5, "color": shade},
                    },
                    text=[f" {mark.name}" if named else "", "", ""],
                    textposition="top right",
                    textfont={"size": 10.5, "color": shade},
                    cliponaxis=True,
                    showlegend=False,
                    hovertemplate=mark.text + "<extra></extra>",
                )
            )
        ticks.append((base + max(rows) / 2, title))
        base += max(rows) + 1
    return ticks, base


def _layout(figure: object, curves: Curves, ticks: list[tuple[float, str]], lane_count: int) -> None:
    lane_px = 26 * lane_count + 10 if ticks else 0
    top_px, low_px, gap_px = 300, 90, 26
    whole = top_px + lane_px + low_px + 2 * gap_px
    low = low_px / whole
    lane_from, lane_to = low + gap_px / whole, low + (gap_px + lane_px) / whole
    axis = {"tickformat": ",", "gridcolor": "#e4e7eb", "zeroline": False, "tickfont": {"color": QUIET}, "fixedrange": True}
    figure.update_layout(  # type: ignore[attr-defined]
        height=whole + 110,
        template="plotly_white",
        margin={"l": 96, "r": 20, "t": 44, "b": 36},
        font={
            "family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
            "size": 12,
            "color": INK,
        },
        hovermode="closest",
        hoverlabel={"align": "left", "bgcolor": "#ffffff", "font": {"color": INK}},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
        bargap=0.1,
        xaxis={
            "type": "date",
            "anchor": "y3",
            "range": [float(curves.time_ms[0]), float(curves.time_ms[-1])],
            "gridcolor": "#eef1f4",
            "showspikes": True,
            "spikemode": "across",
            "spikethickness": 1,
            "spikecolor": QUIET,
            "spikedash": "dot",
            "rangeselector": {
                "x": 0,
                "y": 1.0,
                "yanchor": "bottom",
                "bgcolor": "#f0f4f8",
                "activecolor": "#d9e2ec",
                "buttons": [
                    {"step": "day", "count": 7, "label": "1 week", "stepmode": "backward"},
                    {"step": "month", "count": 1, "label": "1 month", "stepmode": "backward"},
                    {"step": "month", "count": 3, "label": "3 months", "stepmode": "backward"},
                    {"step": "all", "label": "all"},
                ],
            },
        },
        yaxis={
            **axis,
            "domain": [lane_to + gap_px / whole if ticks else lane_from, 1],
            "title": {"text": "net inflow, m³/h"},
        },
        yaxis2={
            "domain": [lane_from, max(lane_to, lane_from + 0.001)],
            "anchor": "x",
            "tickvals": [level for level, _ in ticks],
            "ticktext": [name for _, name in ticks],
            "range": [-0.5, lane_count - 0.1],
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
            "visible": bool(ticks),
        },
        yaxis3={
            **axis,
            "domain": [0, low],
            "anchor": "x",
            "title": {"text": "daily<br>excess"},
            "zeroline": True,
            "zerolinecolor": QUIET,
        },
    )
