"""The scorecard's two plots, as plotly's JSON: delay against leak size, leaks found against alarms.

Readable without colour: what is told apart has a symbol of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.floors import MNF_RISES
from training.labels import ABRUPT, INCIPIENT
from training.page import hours
from training.report_figure import AMBER, BLUE, INK, QUIET, RED

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
SYMBOLS: Final = {ABRUPT: ("circle", "x"), INCIPIENT: ("triangle-up", "cross")}
"""Of a leak that was alarmed, and of one that never was."""
COLOURS: Final = {ABRUPT: BLUE, INCIPIENT: AMBER}
WIDTH_PX, LETTER_PX = 440, 6.5
"""Of a plot, about, and of a letter on it."""
TICKS: Final = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 2, 5)]


def delay_figure(scorecard: Mapping[str, Any]) -> dict[str, Any] | None:
    """A point a leak: its size across, the time to its first alarm upwards, both on logarithmic scales.

    None where no leak has a size.
    """
    import plotly.graph_objects as go  # noqa: PLC0415 - a second to import, and only a page needs it

    # those that were found first: the first symbol stands in the legend
    leaks = sorted(
        (leak for leak in scorecard["leaks"] if leak["max_m3h"]), key=lambda leak: (not leak["found"], _delay(leak) is None)
    )
    if not leaks:
        return None
    relative = all(leak["shareOfMeanInflow"] for leak in leaks)
    top = 2.5 * max([24.0 * 14, *(delay for leak in leaks if (delay := _delay(leak)) is not None)])
    figure = go.Figure()
    for kind in (ABRUPT, INCIPIENT):
        ours = [leak for leak in leaks if leak["kind"] == kind]
        for counted in (True, False):
            drawn = [leak for leak in ours if leak["counted"] == counted]
            if drawn:
                figure.add_scatter(**_leak_points(drawn, kind, top, counted=counted, relative=relative))
        if ours:
            within_h = (1, 24)[kind != ABRUPT] * scorecard["rules"][f"{kind}Within{'Hours' if kind == ABRUPT else 'Days'}"]
            figure.add_hline(
                y=within_h, line={"dash": "dot" if kind == ABRUPT else "dash", "width": 1, "color": COLOURS[kind]}
            )
            figure.add_annotation(
                text=f"{kind}: in time below", x=1, xref="paper", xanchor="right", y=math.log10(within_h), yanchor="bottom",
                font={"size": 11, "color": COLOURS[kind]}, showarrow=False, yshift=-1,
            )  # fmt: skip
    _layout(figure)
    ticks = [(value, name) for value, name in TICKS_H if value < top / 1.5] + [(top, "never")]
    figure.update_yaxes(
        type="log", title="time from its start to the alarm", tickvals=[value for value, _ in ticks],
        ticktext=[name for _, name in ticks], range=[math.log10(SHORTEST_H * 0.8), math.log10(top * 1.4)],
    )  # fmt: skip
    sizes = [_size(leak, relative=relative) for leak in leaks]
    title = "leak's largest flow, % of the DMA's mean inflow" if relative else "leak's largest flow, m³/h"
    figure.update_xaxes(title=title, **_log_axis(min(sizes) / 2.2, max(sizes) * 2.2))
    return json.loads(figure.to_json())


def _leak_points(
    leaks: Sequence[Mapping[str, Any]], kind: str, top: float, *, counted: bool, relative: bool
) -> dict[str, Any]:
    delays = [_delay(leak) for leak in leaks]
    colour = COLOURS[kind] if counted else QUIET
    return {
        "x": [_size(leak, relative=relative) for leak in leaks],
        "y": [top if delay is None else max(delay, SHORTEST_H) for delay in delays],
        "mode": "markers",
        "name": kind if counted else f"{kind}, in warm-up",
        "marker": {
            "size": 10,
            "color": colour,
            "opacity": 0.8,
            "symbol": [_symbol(leak, kind) for leak in leaks],
            "line": {"width": 1.5, "color": colour},
        },
        "text": [f"{leak['id']}, {leak['dma']}: {leak['max_m3h']:.1f} m³/h, {_said(leak)}" for leak in leaks],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _size(leak: Mapping[str, Any], *, relative: bool) -> float:
    return float(100 * leak["shareOfMeanInflow"] if relative else leak["max_m3h"])


def _delay(leak: Mapping[str, Any]) -> float | None:
    delay: float | None = leak["delayHours"] if leak["found"] else leak["lateHours"]
    return delay


def _symbol(leak: Mapping[str, Any], kind: str) -> str:
    alarmed, never = SYMBOLS[kind]
    return never if _delay(leak) is None else alarmed if leak["found"] else f"{alarmed}-open"


def _said(leak: Mapping[str, Any]) -> str:
    delay = _delay(leak)
    if delay is None:
        return "never alarmed"
    return f"found after {hours(delay)}" if leak["found"] else f"too late, after {hours(delay)}"


def budget_figure(scorecard: Mapping[str, Any]) -> dict[str, Any] | None:
    """Leaks found over unexplained alarms per DMA-month: ours at each budget, the rules, and chance.

    Alarms on a logarithmic scale, or a rule that alarms ten times as often would press all of ours together; where there
    were none, at its left end, which says 0. None where no leak counts, or nothing was judged.
    """
    import plotly.graph_objects as go  # noqa: PLC0415 - a second to import, and only a page needs it

    own = scorecard["summary"]
    months = own["dmaMonths"]
    if not own["leaks"] or not months:
        return None
    zero = 0.4 / months  # one alarm is 1 / months

    def place(part: Mapping[str, Any]) -> float:
        return float(part["unexplained"] / months or zero)

    figure = go.Figure()
    random, *rules = scorecard["floors"]
    ours = scorecard.get("budgets") or [own | {"timesTheBudget": 1.0, "chance": random}]
    figure.add_scatter(**_chance(own["leaks"], [(place(part), part["chance"]) for part in (*ours, *rules)]))
    figure.add_scatter(**_budgets(ours, place))
    for rule in rules:
        figure.add_scatter(
            x=[place(rule)], y=[100 * rule["found"] / own["leaks"]], name=f"MNF {rule['rise']:.0%} too high", mode="markers",
            marker={"size": 10, "symbol": FLOOR_SYMBOLS[rule["rise"]], "color": RED}, customdata=[_counts(rule)],
            hovertemplate="%{fullData.name}: %{y:.0f} %<br>%{customdata}<extra></extra>",
        )  # fmt: skip
    [as_set] = [part for part in ours if part["timesTheBudget"] == 1]
    figure.add_scatter(
        x=[place(as_set)], y=[100 * as_set["found"] / own["leaks"]], name="this site's budget", mode="markers",
        marker={"size": 17, "symbol": "circle-open", "color": BLUE, "line": {"width": 2}}, hoverinfo="skip",
    )  # fmt: skip
    _layout(figure)
    places = [place(part) for part in (*ours, *rules)]
    axis = _log_axis(
        zero / 1.5 if min(places) <= zero else min(places) / 2, max(2 * max(places), 5 / months), least=0.6 / months
    )
    if min(places) <= zero:
        axis["tickvals"], axis["ticktext"] = [zero, *axis["tickvals"]], ["0", *axis["ticktext"]]
    figure.update_xaxes(title="unexplained alarms per DMA-month", **axis)
    _name_points(figure, figure.data[1], axis["range"])
    figure.update_yaxes(title="known leaks found in time, %", range=[-4, 109], dtick=20, tick0=0)
    return json.loads(figure.to_json())


def _budgets(parts: Sequence[Mapping[str, Any]], place: Any) -> dict[str, Any]:
    """Nightline at each of its budgets; budgets that came out alike have one label."""
    points: dict[tuple[float, float], list[Mapping[str, Any]]] = {}
    for part in parts:
        points.setdefault((place(part), 100 * part["found"] / part["leaks"]), []).append(part)
    ends = [same[0]["found95"] for same in points.values()]
    share = [y for _, y in points]
    return {
        "x": [x for x, _ in points],
        "y": share,
        "name": "Nightline at × its budget",
        "mode": "lines+markers",
        "text": [", ".join(f"×{part['timesTheBudget']:g}" for part in same) for same in points.values()],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [100 * end[1] - at for end, at in zip(ends, share, strict=True)],
            "arrayminus": [at - 100 * end[0] for end, at in zip(ends, share, strict=True)],
            "thickness": 1,
            "color": BLUE,
        },
        "line": {"color": BLUE, "width": 1.5},
        "marker": {"size": 8, "symbol": "circle"},
        "customdata": [_counts(same[0]) for same in points.values()],
        "hovertemplate": "%{text} the budget: %{y:.0f} %<br>%{customdata}<extra></extra>",
    }


def _name_points(figure: Any, points: Any, ends: Sequence[float]) -> None:
    """Each point's text to its lower right, further down where it would cover another's."""
    lanes: list[float] = []
    for x, y, text in sorted(zip(points.x, points.y, points.text, strict=True)):
        place = (math.log10(x) - ends[0]) / (ends[1] - ends[0]) * WIDTH_PX
        lane = next((at for at, end in enumerate(lanes) if end <= place), len(lanes))
        lanes[lane:] = [place + 10 + LETTER_PX * len(text), *lanes[lane + 1 :]]
        figure.add_annotation(
            x=math.log10(x), y=y, text=text, showarrow=False, xanchor="left", yanchor="top", xshift=5, yshift=-3 - 14 * lane,
            bgcolor="rgba(255,255,255,0.8)", borderpad=0, font={"size": 11},
        )  # fmt: skip


def _chance(leaks: int, parts: Sequence[tuple[float, Mapping[str, Any]]]) -> dict[str, Any]:
    """What as many random alarms find: median and 95th percentile, over all numbers of alarms."""
    drawn = sorted({(x, part["found"]["median"], part["found"]["p95"]) for x, part in parts})
    return {
        "x": [x for x, _, _ in drawn],
        "y": [100 * median / leaks for _, median, _ in drawn],
        "name": "chance",
        "mode": "lines+markers",
        "line": {"color": QUIET, "width": 1, "dash": "dot"},
        "marker": {"color": QUIET, "symbol": "x-thin-open", "size": 8},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [100 * (p95 - median) / leaks for _, median, p95 in drawn],
            "arrayminus": [0] * len(drawn),
            "thickness": 1,
            "color": QUIET,
        },
        "hovertemplate": "chance: %{y:.0f} %<extra></extra>",
    }


def _counts(part: Mapping[str, Any]) -> str:
    """What hovering tells beside the place."""
    found = ", ".join(f"{part[kind]['found']} of {part[kind]['leaks']} {kind}" for kind in (ABRUPT, INCIPIENT))
    return f"{found}; {part['leakAlarms']} alarms, {part['unexplained']} unexplained"


def _log_axis(low: float, high: float, least: float = 0.0) -> dict[str, Any]:
    """A logarithmic axis from `low` to `high` with ticks at 1, 2 and 5, above `least`."""
    inside = [tick for tick in TICKS if max(low, least) <= tick <= high]
    many = len(inside) > 9  # over three decades: their beginnings alone
    ticks = [tick for tick in inside if not many or f"{tick:e}".startswith("1.0")]
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def _layout(figure: Any) -> None:
    figure.update_layout(
        height=400,
        showlegend=True,
        template="plotly_white",
        margin={"l": 70, "r": 20, "t": 30, "b": 50},
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": INK},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom"},
    )
    figure.update_xaxes(showline=True, linecolor=QUIET, ticks="outside")
    figure.update_yaxes(showline=True, linecolor=QUIET, ticks="outside", zeroline=False)
