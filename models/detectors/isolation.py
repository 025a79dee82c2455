"""Isolation forest on scale-free features: is this slot unlike this site's own past? Silent without a model bundle.

Liu, Ting, Zhou (2008). A forest has no direction, so only slots with more flow than expected count; alone it never
raises an event, it lets weaker burst evidence through and speaks for or against (see `lifecycle.py`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.detectors.kind import Detector
from models.forest import Forest, score_row
from models.kernels import ewma
from models.schema import Record

DETECTOR: Final = Detector("isolation", prior_mean=0.55, prior_sd=0.05, raises_alone=False)
MIN_MEAN_Z: Final = 1.0  # of the last hour


@njit(cache=False)
def update(row: Record, features: NDArray[np.float32], forest: Forest, slot_hours: float) -> float:
    """Anomaly score averaged over about an hour; 0 when the flow is not above expectation, NaN when it can't tell."""
    if forest.depths.shape[0] == 0:
        return np.nan
    for i in range(features.shape[0]):
        if np.isnan(features[i]):
            return np.nan
    row["forest_score"] = ewma(row["forest_score"], score_row(forest, features), min(1.0, slot_hours))
    if features[1] < MIN_MEAN_Z:
        return 0.0
    return row["forest_score"]
