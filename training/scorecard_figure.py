"""The scorecard's two plots, as plotly's JSON: delay against leak size, leaks found against alarms."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.floors import MNF_RISES
from training.labels import ABRUPT, LEAK_KINDS
from training.page import hours
from training.report_figure import AMBER, BLUE, INK, QUIET, RED

COLOURS: Final = {"abrupt": BLUE, "incipient": AMBER}
TICKS_H: Final = (
    (0.25, "15 min"),
    (1, "1 h"),
    (6, "6 h"),
    (24, "1 d"),
    (24 * 7, "7 d"),
    (24 * 30, "30 d"),
    (24 * 180, "180 d"),
)
SHORTEST_H: Final = 0.1
FLOOR_SYMBOLS: Final = dict(zip(MNF_RISES, ("diamond", "square"), strict=True))


def delay_figure(scorecard: Mapping[str, Any]) -> dict[str, Any]:
    """A point a leak: its size across, the time to its first alarm upwards, both on logarithmic scales."""
    import plotly.graph_objects as go  # noqa: PLC0415 - a second to import, and only a page needs it

    leaks = [leak for leak in scorecard["leaks"] if leak["max_m3h"]]
    relative = all(leak["shareOfMeanInflow"] for leak in leaks)
    delays = [leak["delayHours"] if leak["found"] else leak["lateHours"] for leak in leaks]
    top = 2.5 * max([24.0 * 14, *(delay for delay in delays if delay is not None)])
    figure = go.Figure()
    for kind in LEAK_KINDS:
        ours = [(leak, delay) for leak, delay in zip(leaks, delays, strict=True) if leak["kind"] == kind]
        if not ours:
            continue
        figure.add_scatter(
            x=[100 * leak["shareOfMeanInflow"] if relative else leak["max_m3h"] for leak, _ in ours],
            y=[top if delay is None else max(delay, SHORTEST_H) for _, delay in ours],
            mode="markers",
            name=kind,
            marker={
                "size": 10,
                "color": COLOURS[kind],
                "symbol": [_symbol(leak, delay) for leak, delay in ours],
                "line": {"width": 1.5, "color": COLOURS[kind]},
            },
            text=[f"{leak['id']}, {leak['dma']}: {leak['max_m3h']:.1f} m³/h, {_said(leak, delay)}" for leak, delay in ours],
            hovertemplate="%{text}<extra></extra>",
        )
        within_h = (1, 24)[kind != ABRUPT] * scorecard["rules"][f"{kind}Within{'Hours' if kind == ABRUPT else 'Days'}"]
        figure.add_hline(y=within_h, line={"dash": "dot", "width": 1, "color": COLOURS[kind]})
    _layout(figure)
    ticks = [(value, name) for value, name in TICKS_H if value < top / 1.5] + [(top, "never")]
    figure.update_yaxes(
        type="log", title="time to the alarm", tickvals=[value for value, _ in ticks], ticktext=[name for _, name in ticks],
        range=[math.log10(SHORTEST_H * 0.8), math.log10(top * 1.4)],
    )  # fmt: skip
    title = "size, % of the DMA's mean inflow" if relative else "size, m³/h"
    figure.update_xaxes(type="log", title=title, tickvals=[0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
    return json.loads(figure.to_json())


def _symbol(leak: Mapping[str, Any], delay: float | None) -> str:
    return "x" if delay is None else "circle" if leak["found"] else "circle-open"


def _said(leak: Mapping[str, Any], delay: float | None) -> str:
    if delay is None:
        return "never alarmed"
    return f"found after {hours(delay)}" if leak["found"] else f"too late, after {hours(delay)}"


def budget_figure(scorecard: Mapping[str, Any]) -> dict[str, Any]:
    """Leaks found over unexplained alarms per DMA-month: ours at each budget, the rules, and chance."""
    import plotly.graph_objects as go  # noqa: PLC0415 - a second to import, and only a page needs it

    figure = go.Figure()
    own = scorecard["summary"]
    ours = scorecard.get("budgets") or [own | {"timesTheBudget": 1.0}]
    _points(figure, "Nightline", [(part, f"×{part['timesTheBudget']:g}") for part in ours], BLUE, "circle")
    for floor in scorecard["floors"]:
        if "unexplained" in floor:
            leaks = own["leaks"]
            part = floor | {"leaks": leaks}
            _points(figure, f"MNF + {floor['rise']:.0%}", [(part, "")], RED, FLOOR_SYMBOLS[floor["rise"]])
            continue
        if own["unexplainedPerDmaMonth"] is not None and own["leaks"]:
            share = {name: 100 * value / own["leaks"] for name, value in floor["found"].items()}
            figure.add_scatter(
                x=[own["unexplainedPerDmaMonth"]], y=[share["median"]], name="chance", mode="markers",
                marker={"color": QUIET, "symbol": "x", "size": 9}, hovertemplate="chance: %{y:.0f} %<extra></extra>",
                error_y={"type": "data", "symmetric": False, "array": [share["p95"] - share["median"]], "arrayminus": [0]},
            )  # fmt: skip
    _layout(figure)
    farthest = max([x for trace in figure.data for x in trace.x], default=1.0) or 1.0
    figure.update_xaxes(title="unexplained alarms per DMA-month", range=[-0.03 * farthest, 1.12 * farthest])
    figure.update_yaxes(title="known leaks found in time, %", range=[-3, 108])
    return json.loads(figure.to_json())


def _points(figure: Any, name: str, parts: Sequence[tuple[Mapping[str, Any], str]], colour: str, symbol: str) -> None:
    drawn = [(part, label) for part, label in parts if part["unexplainedPerDmaMonth"] is not None and part["leaks"]]
    if not drawn:
        return
    share = [100 * part["found"] / part["leaks"] for part, _ in drawn]
    ends = [part.get("found95") for part, _ in drawn]
    bars = None
    if all(ends):
        above = [100 * end[1] - at for end, at in zip(ends, share, strict=True)]
        below = [at - 100 * end[0] for end, at in zip(ends, share, strict=True)]
        bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "color": QUIET}
    figure.add_scatter(
        x=[part["unexplainedPerDmaMonth"] for part, _ in drawn], y=share, name=name, mode="lines+markers+text", error_y=bars,
        text=[label for _, label in drawn], textposition="top right", line={"color": colour, "width": 1.5},
        marker={"size": 9, "symbol": symbol}, customdata=[part["leakAlarms"] for part, _ in drawn],
        hovertemplate="%{fullData.name} %{text}: %{y:.0f} %, %{x:.2f} unexplained, %{customdata} alarms<extra></extra>",
    )  # fmt: skip


def _layout(figure: Any) -> None:
    figure.update_layout(
        height=380,
        template="plotly_white",
        margin={"l": 70, "r": 20, "t": 30, "b": 50},
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": INK},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
    )
