"""Isolation forest on scale-free features: is this slot unlike this site's own past? Silent without a model bundle.

Liu, Ting, Zhou (2008). A forest has no direction, so only slots with more flow than expected count; alone it never
raises an event, it lets weaker burst evidence through and speaks for or against (see `flow_events.py`).
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
    """Anomaly score averaged over about an hour; NaN when the flow is not above expectation, or it can't tell.

    A day that never had an excess has no maximum. Were it 0, the spread of the daily maxima would be so wide that no score
    could pass the threshold: in 502,455 slots of 18 DMAs none did (2026-11-28).
    """
    if forest.depths.shape[0] == 0:
        return np.nan
    for i in range(features.shape[0]):
        if np.isnan(features[i]):
            return np.nan
    row["forest_score"] = ewma(row["forest_score"], score_row(forest, features), min(1.0, slot_hours))
    if features[1] < MIN_MEAN_Z:
        return np.nan
    return row["forest_score"]
