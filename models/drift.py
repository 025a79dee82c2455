"""How far one week of a DMA lies from the weeks that its model was trained on.

Each column (the features, and the forest's score of them) is counted into bins whose edges are quantiles of the training
rows. Two distances of such counts: the population stability index (PSI; Siddiqi 2006, chapter 9) and the
Kolmogorov-Smirnov distance between the bins' edges.

Neither their usual limits (PSI 0.1 and 0.25) nor the p-value of a Kolmogorov-Smirnov test can be used: both take rows for
independent, and slots of a quarter of an hour are not. On six real DMAs every single week after a year of training had a
PSI above 0.25 (2026-11-28). So the training window itself says how far a week usually lies from the others: each of its
weeks is held against the rest, weeks near it left out, and the level is what the largest of all distances passes once in
`RETURN_WEEKS`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.features import FEATURES

COLUMNS: Final[tuple[str, ...]] = (*FEATURES, "forest_score")
QUANTILES: Final[tuple[float, ...]] = (
    0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99,
)  # fmt: skip
BINS: Final = len(QUANTILES) + 1
DISTANCES: Final = ("psi", "ks")
RETURN_WEEKS: Final = 52.0
"""One week in so many is over the level by chance: one a year in each DMA."""
MIN_WEEKS: Final = 8
"""Fewer say too little of how weeks differ."""
MIN_SHARED_WEEKS: Final = 24
"""Of all DMAs together, whose weeks are of the same weather."""
NEAR_WEEKS: Final = 4
"""A week is not held against those so near to it: they are of its season."""
LOWEST_LEVEL: Final = 0.1
"""No smaller distance is called drift: the usual limit of what is worth a look, and a tenth of all slots."""
MOST_DMAS: Final = 1024
"""DMAs with a row of their own, 1.3 kB each; others are held against all together."""
_LEAST_SD: Final = 0.05  # of a distance's logarithm
_LEAST: Final = 1e-4
_SQRT6_PI: Final = 0.7796968012336761
_EULER: Final = 0.5772156649015329


class Reference(NamedTuple):
    """What a model was trained on; R rows, C columns. The last row, `*`, is of all DMAs together where there are several."""

    dmas: tuple[str, ...]  # (R,)
    edges: NDArray[np.float32]  # (R, C, BINS - 1) ascending
    counts: NDArray[np.int32]  # (R, C, BINS) training rows in each bin
    levels: NDArray[np.float64]  # (R, 2, C) of PSI and KS distance; NaN where there were too few weeks
    weeks: tuple[int, ...]  # (R,) weeks that the levels are from; of `*`, of all DMAs
    leak_alarms: tuple[int, ...]  # (R,) raised in the training window
    judged_days: tuple[float, ...]  # (R,) in which they could have been raised

    def row(self, dma: str) -> int | None:
        """Where a DMA is compared: its own row, else that of all; None where neither has levels."""
        for name in (dma, "*"):
            if name in self.dmas:
                at = self.dmas.index(name)
                if np.isfinite(self.levels[at]).all():
                    return at
        return None


def quantile_edges(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, BINS - 1) edges of rows (n, C), which are finite; n >= 1."""
    return np.ascontiguousarray(np.quantile(rows, QUANTILES, axis=0).T, np.float32)


@njit(cache=True)
def count(rows: NDArray[np.float32], edges: NDArray[np.float32], counts: NDArray[np.int32]) -> None:
    """Add rows (n, C) to counts (C, BINS); bin i is above edge i - 1, not above edge i; edges (C, BINS - 1)."""
    for c in range(rows.shape[1]):
        for i in range(rows.shape[0]):
            low, high = 0, edges.shape[1]
            while low < high:
                middle = (low + high) // 2
                if edges[c, middle] < rows[i, c]:
                    low = middle + 1
                else:
                    high = middle
            counts[c, low] += 1


def distances(week: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """(…, 2, C) PSI and KS distance of counts (…, C, BINS) from those of the reference (…, C, BINS); both hold rows.

    PSI = sum over bins of (p - q) ln(p / q). An empty bin would make it infinite: p and q are both shrunk towards the share
    of the bin in both together, by half a row a bin, which leaves equal ones equal.
    """
    n, m = week.sum(-1, keepdims=True), reference.sum(-1, keepdims=True)
    both, more = (week + reference) / (n + m), BINS / 2
    p, q = (week + more * both) / (n + more), (reference + more * both) / (m + more)
    ratio = np.divide(p, q, out=np.ones_like(p), where=both > 0)
    psi = ((p - q) * np.log(ratio)).sum(-1)
    ks = np.abs(np.cumsum(week / n, -1) - np.cumsum(reference / m, -1)).max(-1)
    return np.stack([psi, ks], -2)


def own_levels(counts: NDArray[Any], weeks: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2, C) levels of one DMA's training weeks: counts (W, C, BINS) of week numbers `weeks` (W,), ascending.

    Each week is held against those further away than `NEAR_WEEKS` (fewer of a short window). NaN of fewer than MIN_WEEKS.
    """
    if len(weeks) < MIN_WEEKS:
        return np.full((2, counts.shape[1]), np.nan)
    near = min(NEAR_WEEKS, len(weeks) // 4)
    before = np.concatenate([np.zeros((1, *counts.shape[1:])), np.cumsum(counts, 0)])
    first, last = np.searchsorted(weeks, weeks - near), np.searchsorted(weeks, weeks + near, "right")
    return levels(distances(counts, before[-1] - (before[last] - before[first])))


def shared_levels(counts: NDArray[Any], of: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2, C) levels for a DMA not trained on: each week of counts (W, C, BINS) against all other DMAs (`of` (W,))."""
    if len(of) < MIN_SHARED_WEEKS or len(np.unique(of)) < 2:
        return np.full((2, counts.shape[1]), np.nan)
    _, place = np.unique(of, return_inverse=True)
    own = np.zeros((place.max() + 1, *counts.shape[1:]))
    np.add.at(own, place, counts)
    return levels(distances(counts, own.sum(0) - own[place]))


def levels(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, C) levels such that in one of RETURN_WEEKS weeks any of the distances `found` (W, 2, C) is over its own.

    The logarithms of distances are close to normal. Each week's largest standardised one (by mean and deviation of the other
    weeks) follows about Gumbel's law, whose level is that of `calibration.py`; sqrt(1 + 1 / W) for what W weeks leave open.
    """
    logs, n = np.log(np.maximum(found, _LEAST)), len(found)
    mean, sd = logs.mean(0), logs.std(0, ddof=1) + _LEAST_SD
    others = (n * mean - logs) / (n - 1)
    spread = np.sqrt(np.maximum(((n * (logs.var(0) + mean**2) - logs**2) / (n - 1) - others**2) * (n - 1) / (n - 2), 0.0))
    largest = ((logs - others) / (spread + _LEAST_SD)).reshape(n, -1).max(1)
    gumbel = _SQRT6_PI * (np.log(RETURN_WEEKS) - _EULER)
    far = largest.mean() + largest.std(ddof=1) * np.sqrt(1 + 1 / n) * gumbel
    return np.maximum(np.exp(mean + far * sd), LOWEST_LEVEL)


def check(reference: Reference) -> None:
    """Raises ValueError for what cannot be compared with."""
    r, c = len(reference.dmas), len(COLUMNS)
    shapes = {"edges": (r, c, BINS - 1), "counts": (r, c, BINS), "levels": (r, 2, c)}
    for name, shape in shapes.items():
        found = getattr(reference, name).shape
        if found != shape:
            raise ValueError(f"drift_{name} is {found}; possible: {shape}")
    for name in ("weeks", "leak_alarms", "judged_days"):
        if len(getattr(reference, name)) != r:
            raise ValueError(f"reference: {len(getattr(reference, name))} {name} of {r} DMAs")
    if min(reference.leak_alarms, default=0) < 0 or not all(0 <= days < np.inf for days in reference.judged_days):
        raise ValueError("reference: leak_alarms and judged_days must not be negative, nor without end")
    if not (np.isfinite(reference.edges).all() and (np.diff(reference.edges, axis=-1) >= 0).all()):
        raise ValueError("drift_edges must be finite and rise")
    if not ((reference.counts >= 0).all() and (reference.counts.sum(-1, dtype=np.int64) > 0).all()):
        raise ValueError("drift_counts must not be negative, nor all 0")
    if (reference.levels <= 0).any() or np.isinf(reference.levels).any():
        raise ValueError("drift_levels must be positive")
