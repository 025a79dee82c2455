"""Fit the isolation forest on rows that may be learned from, and say how it does on later ones.

Three periods in time, of the slots that are left: the forest is fitted on the first, its score is calibrated (and settings
are searched) on the second, and of the third nothing is chosen: its figures are what to expect. Deterministic: the same
history, seed and versions give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from models.bundle import SCHEMA_VERSION, Bundle, Manifest, facts_of, pack_arrays
from models.config import ConfigError
from models.features import FEATURES
from models.forest import Forest, score
from training.drift_reference import reference_of
from training.flatten import flatten
from training.leave_out import Rows, said, totals
from training.score_law import calibrated, daily_maxima, statistic

MIN_ROWS: Final = 256
"""Below this a forest says more about the sample than about the site; it is also Liu's sample for one tree."""
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)
PERIODS: Final = ("fit", "calibrate", "report")


@dataclass(frozen=True)
class ForestSettings:
    """Of the isolation forest."""

    trees: int = 100
    max_samples: int = 256
    """Slots in one tree."""
    max_features: int = len(FEATURES)
    """Features that one tree may use."""


@dataclass(frozen=True)
class Shares:
    """Of the slots left: the later ones that calibrate, and the last ones that report. The forest is fitted on the rest."""

    calibrate: float = 0.0
    report: float = 0.0


LATER: Final = Shares(0.15, 0.15)


@dataclass(frozen=True)
class Evidence:
    """What the card draws of one DMA; scores and maxima by period."""

    scores: Mapping[str, NDArray[np.float64]]
    maxima: Mapping[str, NDArray[np.float64]]
    features: NDArray[np.float64]
    """(3, F) quantiles 0.05, 0.5, 0.95 of the fitted rows; NaN without rows."""


@dataclass(frozen=True)
class Trained:
    """A bundle with what it was judged by."""

    bundle: Bundle
    evidence: Mapping[str, Evidence]


def boundaries(rows: Mapping[str, Rows], shares: Shares) -> tuple[int, int, int]:
    """Ends of the periods (epoch ms): the last slot's end of each, one time for all DMAs of the forest. 0s without rows."""
    ends = np.sort(np.concatenate([np.zeros(0, np.int64), *(one.ends_ms for one in rows.values())]))
    if not len(ends):
        return 0, 0, 0
    report, calibrate = shares.report, shares.calibrate
    at = [max(round(len(ends) * share) - 1, 0) for share in (1 - calibrate - report, 1 - report, 1.0)]
    return int(ends[at[0]]), int(ends[at[1]]), int(ends[at[2]])


def in_period(rows: Rows, edges: tuple[int, int, int], period: str) -> NDArray[np.bool_]:
    """(n,) which of the rows lie in it."""
    at = PERIODS.index(period)
    after = edges[at - 1] if at else 0
    return (rows.ends_ms > after) & (rows.ends_ms <= edges[at])


def fitted_rows(rows: Mapping[str, Rows], edges: tuple[int, int, int]) -> dict[str, NDArray[np.float32]]:
    """Rows (n, F) of the first period by DMA, in order of the DMAs' ids."""
    return {dma: rows[dma].features[in_period(rows[dma], edges, "fit")] for dma in sorted(rows)}


def grow(x: NDArray[np.float32], settings: ForestSettings, seed: int) -> Forest:
    """The forest of rows (n, F)."""
    forest = IsolationForest(
        n_estimators=settings.trees,
        max_samples=min(settings.max_samples, len(x)),
        max_features=settings.max_features,
        random_state=seed,
    )
    return flatten(forest.fit(x))


def lack(where: str, rows: Mapping[str, Rows], count: int) -> str:
    """In one line, with what was left out, why `count` fitted rows are too few; empty where they are enough."""
    if count >= MIN_ROWS:
        return ""
    why = said(totals(rows.values()))
    found = f"training {where}: found {count} slots to learn from (left out: {why})"
    return f"{found}; possible: at least {MIN_ROWS}, so more history"


def fit(
    site_name: str,
    scope: str,
    rows: Mapping[str, Rows],
    *,
    seed: int,
    settings: ForestSettings = ForestSettings(),
    shares: Shares = Shares(),
    search: Mapping[str, float] | None = None,
) -> Trained:
    """The model of `scope` from the rows of these DMAs. Raises ConfigError where fewer than MIN_ROWS slots are left."""
    edges = boundaries(rows, shares)
    parts = fitted_rows(rows, edges)
    x = np.concatenate([np.zeros((0, len(FEATURES)), np.float32), *(part for part in parts.values() if len(part))])
    fault = lack(f"{site_name}/{scope}", rows, len(x))
    if fault:
        raise ConfigError([fault])
    forest = grow(x, settings, seed)
    return bundled(site_name, scope, rows, forest, edges, seed, settings, search or {})


def bundled(
    site_name: str,
    scope: str,
    rows: Mapping[str, Rows],
    forest: Forest,
    edges: tuple[int, int, int],
    seed: int,
    settings: ForestSettings,
    search: Mapping[str, float],
) -> Trained:
    """The forest with everything that is known of it."""
    evidence = {dma: _evidence(rows[dma], forest, edges) for dma in sorted(rows)}
    scores = np.concatenate([one.scores["fit"] for one in evidence.values()])
    until_ms = edges[1]
    used = {dma: one for dma, one in sorted(rows.items()) if (one.ends_ms <= edges[0]).any()}
    reference = reference_of(
        {dma: one.past(until_ms) for dma, one in used.items()},
        {dma: [one.features[counted]] for dma, one in used.items() if (counted := one.counted(until_ms)).any()},
        forest,
    )
    calibration = {
        dma: calibrated(one.maxima["calibrate"], one.maxima["report"], rows[dma].return_days)
        for dma, one in evidence.items()
    }
    later = np.concatenate([one.scores["report"] for one in evidence.values()])
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        id=f"{site_name}/{scope}",
        scope=scope,
        version="",
        features=list(FEATURES),
        trained_from_ms=min(int(one.ends_ms[0]) for one in used.values()),
        trained_until_ms=until_ms,
        data_sha256=_data_sha256(fitted_rows(rows, edges)),
        arrays_sha256=hashlib.sha256(pack_arrays(forest, reference)).hexdigest(),
        code_version=f"nightline {version('nightline')}, scikit-learn {version('scikit-learn')}",
        seed=seed,
        denominator=forest.denominator,
        settings={**asdict(settings), "max_samples": min(settings.max_samples, len(scores))},
        metrics={
            "rows": float(len(scores)),
            "dmas": float(len(used)),
            **{f"score_p{100 * q:g}": float(np.quantile(scores, q)) for q in QUANTILES},
            "score_max": float(scores.max()),
            **{f"report_score_p{100 * q:g}": float(np.quantile(later, q)) for q in QUANTILES if len(later)},
        },
        left_out=totals(rows.values()),
        left_out_by_dma={dma: dict(rows[dma].left_out) for dma in sorted(rows)},
        left_out_hours={dma: rows[dma].left_out_hours for dma in sorted(rows)},
        left_out_windows=[window for dma in sorted(rows) for window in rows[dma].windows],
        members=sorted(used),
        periods=_spans(rows, edges),
        calibration={dma: found for dma, found in calibration.items() if found is not None},
        detectors={dma: found for dma in sorted(rows) if (found := rows[dma].detectors(until_ms))},
        search=dict(search),
        reference=None if reference is None else facts_of(reference),
    )
    return Trained(Bundle(versioned(manifest), forest, reference), evidence)


def versioned(manifest: Manifest) -> Manifest:
    """The manifest with a version made of all that it says: the same training has the same version, and no other."""
    digest = hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, version="")))
    return msgspec.structs.replace(manifest, version=digest.hexdigest()[:12])


def _evidence(rows: Rows, forest: Forest, edges: tuple[int, int, int]) -> Evidence:
    scores, maxima = {}, {}
    for period in PERIODS:
        which = in_period(rows, edges, period)
        x, ends = np.ascontiguousarray(rows.features[which]), rows.ends_ms[which]
        scores[period] = score(forest, x) if len(x) else np.zeros(0)
        if period != "fit":
            values = statistic(scores[period], x, ends, rows.slot_ms)
            maxima[period] = daily_maxima(values, ends, rows.slot_ms, rows.timezone)
    x = rows.features[in_period(rows, edges, "fit")]
    quantiles = np.quantile(x, (0.05, 0.5, 0.95), axis=0) if len(x) else np.full((3, len(FEATURES)), np.nan)
    return Evidence(scores, maxima, quantiles)


def _spans(rows: Mapping[str, Rows], edges: tuple[int, int, int]) -> dict[str, tuple[int, int]]:
    spans = {}
    for period in PERIODS:
        found: Sequence[NDArray[np.int64]] = [one.ends_ms[in_period(one, edges, period)] for one in rows.values()]
        times = [int(at) for ends in found if len(ends) for at in (ends[0], ends[-1])]
        if times:
            spans[period] = (min(times), max(times))
    return spans


def _data_sha256(parts: Mapping[str, NDArray[np.float32]]) -> str:
    digest = hashlib.sha256()
    for dma, part in parts.items():
        digest.update(f"{dma}:{len(part)}\n".encode())
        digest.update(part.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()
