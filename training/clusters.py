"""DMAs that are alike to a forest: their slots' features have alike distributions.

Features are in units of each DMA's own spread, with its week already divided out, so what is left to tell DMAs apart are the
distributions themselves: tails, roughness, how nights vary. Each DMA is the quantiles of its features, each quantile scaled
over the DMAs; Ward's clustering of these has no random start and no order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

LEVELS: Final = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
MOST_CLUSTERS: Final = 8
LEAST_SILHOUETTE: Final = 0.25
"""Below it no cut is a real one: 10, 20 and 40 made-up DMAs of one kind have 0.13 to 0.18 at their best (2026-11-28)."""


def clusters_of(features: Mapping[str, NDArray[np.float32]], count: int | None = None) -> tuple[list[list[str]], float]:
    """Clusters of DMA ids, sorted within and by their first, and the silhouette (NaN for one cluster).

    `features` (n, F) of each DMA, n >= 1. Without `count` it is the one of 2 to MOST_CLUSTERS with the best silhouette, or
    one cluster where none reaches LEAST_SILHOUETTE.
    """
    names = sorted(features)
    if len(names) < 3 or count == 1:
        alone = count is not None and count >= len(names)
        return ([[name] for name in names] if alone else [names]), float("nan")
    points = np.stack([np.quantile(features[name], LEVELS, axis=0).ravel() for name in names])
    spread = points.std(axis=0)
    points = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if count is not None and count >= len(names):
        return [[name] for name in names], float("nan")
    best, labels = LEAST_SILHOUETTE if count is None else -np.inf, np.zeros(len(names), np.int64)
    found = float("nan")
    for k in [count] if count is not None else range(2, min(MOST_CLUSTERS, len(names) - 1) + 1):
        tried = AgglomerativeClustering(n_clusters=k).fit_predict(points)
        silhouette = float(silhouette_score(points, tried))
        if silhouette > best:
            best, labels, found = silhouette, tried, silhouette
    groups: dict[int, list[str]] = {}
    for name, label in zip(names, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(name)
    return sorted(groups.values()), found
