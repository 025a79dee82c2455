"""The scoreboard as a picture: one panel for each workload and unit, one line for each row, a logarithmic axis."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Sample

INK, QUIET, BLUE, GREY, GREEN = "#1f2933", "#7b8794", "#0b69a3", "#9aa5b1", "#3f6b35"  # as the backtest's report
ROW_INCHES, HEAD_INCHES = 0.46, 0.95
NEAR = 0.16
"""Names of markers that lie closer than this part of the axis go to different heights."""


def draw(rows: dict[str, list[Row]], path: Path) -> bool:
    """Write the PNG; False where there is nothing to draw."""
    panels = list(_panels(rows))
    if not panels:
        return False
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and a failed run has nothing to draw

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    heights = [HEAD_INCHES + ROW_INCHES * len(panel) for _, panel in panels]
    with plt.rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "font.family": "DejaVu Sans"}):
        figure, axes = plt.subplots(
            len(panels), 1, figsize=(11, sum(heights) + 0.7), squeeze=False,
            gridspec_kw={"height_ratios": heights}, layout="constrained",
        )  # fmt: skip
        figure.suptitle(
            "Nightline beside its peers, all in one run: ● ours, ○ peers, green bar: target, line: slowest to fastest round",
            fontsize=9.5, x=0.01, ha="left",
        )  # fmt: skip
        for axis, (name, panel) in zip(axes[:, 0], panels, strict=True):
            _panel(axis, name, panel)
        figure.savefig(path, dpi=130)
        plt.close(figure)
    return True


def _panels(rows: dict[str, list[Row]]) -> Iterator[tuple[str, list[Row]]]:
    """Rows of one workload and unit stand together; those without a figure are left out."""
    for name, found in rows.items():
        measured = [row for row in found if row.ours is not None]
        for unit in dict.fromkeys(row.unit for row in measured):
            yield name, [row for row in measured if row.unit == unit]


def _samples(row: Row) -> dict[str, Sample]:
    """Every peer with a figure."""
    peers = {name: one for name, one in row.peers.items() if isinstance(one, Sample)}
    if row.peer is not None:
        peers.setdefault(row.peer_name, row.peer)
    return peers


def _panel(axis: Any, name: str, rows: list[Row]) -> None:
    axis.set_xscale("log")
    less = rows[0].better == "less"
    axis.set_title(
        f"{name}: {rows[0].unit}, {'◀ less' if less else 'more ▶'} is better", loc="left", fontsize=10, weight="bold"
    )
    figures = []
    for row in rows:
        assert row.ours is not None
        figures += [row.ours.median, *(one.median for one in _samples(row).values())]
        figures += [] if row.target is None else [row.target]
    low, high = min(figures), max(figures)
    # room for the names right of the last marker
    axis.set_xlim(low / 1.6, high * max(1.8, (high / low) ** 0.12))
    for y, row in enumerate(rows):
        _line(axis, y, row)
    axis.set_ylim(len(rows) - 0.45, -0.6)
    axis.set_yticks(range(len(rows)), [textwrap.fill(row.work, 46) for row in rows], fontsize=8)
    axis.xaxis.set_major_formatter(lambda value, _: _short(value))
    axis.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(colors=INK)


def _line(axis: Any, y: int, row: Row) -> None:
    assert row.ours is not None
    if row.target is not None:
        axis.plot([row.target] * 2, [y - 0.36, y + 0.36], color=GREEN, linewidth=2.2, solid_capstyle="butt", zorder=1)
    marks = [(one.median, one, name, False) for name, one in _samples(row).items()]
    marks.append((row.ours.median, row.ours, "ours", True))
    taken: list[tuple[float, int]] = []
    for at, one, name, is_ours in sorted(marks, key=lambda mark: mark[0]):
        colour = BLUE if is_ours else QUIET
        axis.plot([one.low, one.high], [y, y], color=BLUE if is_ours else GREY, linewidth=1.6, alpha=0.6, zorder=2)
        axis.plot(
            [at], [y], "o", markersize=7 if is_ours else 6, color=colour, markerfacecolor=colour if is_ours else "white",
            zorder=4 if is_ours else 3,
        )  # fmt: skip
        place = axis.transLimits.transform(axis.transScale.transform((at, y)))[0]
        # above, below, above …, where the last name is near
        side = -taken[-1][1] if taken and place - taken[-1][0] < NEAR else 1
        taken.append((place, side))
        axis.annotate(
            f"{name} {_short(at)}", (at, y), xytext=(0, 6 * side), textcoords="offset points", ha="center",
            va="bottom" if side > 0 else "top", fontsize=7.5, color=colour, weight="bold" if is_ours else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
        )  # fmt: skip


def _short(value: float) -> str:
    for bound, scale, unit in ((1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if value >= bound:
            return f"{value / scale:.3g}{unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
