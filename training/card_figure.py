"""The figure of a model's card, as a small PNG."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.score_law import alarms_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from models.bundle import Manifest
    from training.fit import Evidence

MOST_DMAS: Final = 40
FIT, REPORT, LIMIT = "#6b7a90", "#d1495b", "#222222"
BUDGETS: Final = np.geomspace(3, 365, 24)
"""Days between two alarms by chance."""


def draw(manifest: Manifest, evidence: Mapping[str, Evidence]) -> bytes:
    """The PNG's bytes, the same for the same model and version of matplotlib."""
    figure = Figure(figsize=(10, 7), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{manifest.id}, version {manifest.version}", fontsize=11)
    (scores, dmas), (features, budget) = figure.subplots(2, 2)
    _scores(scores, manifest, evidence)
    _dmas(dmas, evidence)
    _features(features, manifest, evidence)
    _budget(budget, manifest, evidence)
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _scores(axes: Axes, manifest: Manifest, evidence: Mapping[str, Evidence]) -> None:
    """How scores are distributed, on the slots fitted on and on those held back."""
    bins = np.linspace(0.3, 1.0, 71).tolist()
    for period, colour, filled in (("fit", FIT, True), ("report", REPORT, False)):
        values = np.concatenate([one.scores[period] for one in evidence.values()])
        if len(values):
            weights = np.full(len(values), 100.0 / len(values))
            axes.hist(
                np.clip(values, bins[0], bins[-1]), bins, weights=weights, color=colour,
                label=f"{period}, {len(values):,} slots", histtype="stepfilled" if filled else "step",
                alpha=0.5 if filled else 1.0,
            )  # fmt: skip
    limits = [one.threshold for one in manifest.calibration.values()]
    if limits:
        limit = float(np.median(limits))
        label = f"threshold {limit:.2f}" + (f", median of {len(limits)} DMAs" if len(limits) > 1 else "")
        label += " (above any score)" if limit > 1 else ""
        axes.axvline(limit, color=LIMIT, linestyle="--", linewidth=1, label=label)
    axes.set_xlim(bins[0], bins[-1])
    axes.set_yscale("log")
    axes.set_ylim(top=10 * axes.get_ylim()[1])  # room for the legend
    axes.set(title="Scores of slots", xlabel="score", ylabel="share of the slots, %")
    axes.legend(fontsize=8, loc="upper right")


def _dmas(axes: Axes, evidence: Mapping[str, Evidence]) -> None:
    """Median to 99.9 % of each DMA's scores: a DMA that stands out has a forest that does not fit it."""
    names = [dma for dma, one in evidence.items() if len(one.scores["fit"])]
    spans = {dma: np.quantile(evidence[dma].scores["fit"], (0.5, 0.99, 0.999)) for dma in names}
    shown = sorted(sorted(names, key=lambda dma: -spans[dma][2])[:MOST_DMAS])
    at = np.arange(len(shown))
    low, middle, high = np.array([spans[dma] for dma in shown]).T
    axes.vlines(at, low, high, color=FIT, linewidth=2, label="50 % to 99.9 %, fit")
    axes.plot(at, middle, "_", color=LIMIT, markersize=8, label="99 %, fit")
    later = [np.quantile(s, 0.99) if len(s := evidence[dma].scores["report"]) else np.nan for dma in shown]
    if np.isfinite(later).any():
        axes.plot(at, later, "o", color=REPORT, markersize=4, label="99 %, report")
    axes.set_xticks(at, shown, rotation=90 if len(shown) > 8 else 0, fontsize=7 if len(shown) > 8 else 9)
    axes.set_xlim(-0.6, len(shown) - 0.4)
    kind = f"the {MOST_DMAS} strangest of {len(names)} DMAs" if len(names) > len(shown) else "DMAs"
    axes.set(title=f"Scores of {kind}", ylabel="score", ylim=(0.3, 1.0))
    axes.legend(fontsize=8, loc="upper right", ncols=2)


def _features(axes: Axes, manifest: Manifest, evidence: Mapping[str, Evidence]) -> None:
    """5, 50 and 95 % of each feature; the range over the DMAs is the band."""
    spans = np.array([one.features for one in evidence.values() if np.isfinite(one.features).all()])
    at = np.arange(len(manifest.features))
    for quantile, name, colour in ((0, "5 %", FIT), (1, "median", LIMIT), (2, "95 %", REPORT)):
        of = spans[:, quantile]
        axes.vlines(at, of.min(axis=0), of.max(axis=0), color=colour, linewidth=5, alpha=0.35)
        axes.plot(at, np.median(of, axis=0), "_", color=colour, markersize=12, label=name)
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axes.set_xticks(at, list(manifest.features), rotation=30, ha="right", fontsize=8)
    title = "Features fitted on" + (", range over the DMAs" if len(spans) > 1 else "")
    axes.set(title=title, ylabel="in the DMA's own spreads")
    axes.legend(fontsize=8)


def _budget(axes: Axes, manifest: Manifest, evidence: Mapping[str, Evidence]) -> None:
    """Days above the threshold in the period held back, against what each budget allows."""
    days = sum(one.report_days for one in manifest.calibration.values())
    axes.set(title="Days above the threshold, held back", xlabel="expected by the budget", ylabel="counted")
    if not days:
        axes.text(0.5, 0.5, "not calibrated: no later period", ha="center", va="center", transform=axes.transAxes)
        return
    expected = days / BUDGETS
    counted = [
        sum(alarms_at(one, evidence[dma].maxima["report"], budget) for dma, one in manifest.calibration.items())
        for budget in BUDGETS.tolist()
    ]
    axes.plot(expected, expected, color="#aaaaaa", linestyle=":", label="as expected")
    axes.plot(expected, counted, "o-", color=REPORT, markersize=3, label=f"counted in {days:,} DMA-days")
    at = sum(one.report_days / one.return_days for one in manifest.calibration.values())
    axes.axvline(at, color=LIMIT, linestyle="--", linewidth=1, label="the site's budget")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
