"""coniferest or isotree: `forest_peer.py DATA.npz` (training, history, counts, trees, peer); names are the rows a call.

A round of so many calls lasts longer than the clock's grain; `calls` beside the counts says how many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from serve import serve

with np.load(sys.argv[1]) as data:
    training, history, trees = data["training"], data["history"], int(data["trees"])
    counts, calls, peer = data["counts"].tolist(), data["calls"].tolist(), str(data["peer"])


def fitted() -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """A scoring function of higher-is-more-abnormal."""
    if peer == "coniferest":
        from coniferest.isoforest import IsolationForest  # noqa: PLC0415 - only one of the two is in this environment

        forest = IsolationForest(n_trees=trees, n_subsamples=256, n_jobs=1, random_seed=1).fit(training)
        return lambda x: -forest.score_samples(x)
    from isotree import IsolationForest  # noqa: PLC0415

    # ndim 1 and no weighing: the same trees as scikit-learn grows
    model = IsolationForest(
        ntrees=trees, sample_size=256, ndim=1, prob_pick_avg_gain=0, missing_action="fail", nthreads=1, random_seed=1
    ).fit(training.astype(np.float64))
    return model.predict


score = fitted()
rows = {count: np.ascontiguousarray(history[:count], np.float32 if peer == "coniferest" else np.float64) for count in counts}


def repeated(count: int, times: int) -> Callable[[], NDArray[np.float64]]:
    """So many calls on the first `count` rows."""

    def work() -> NDArray[np.float64]:
        for _ in range(times - 1):
            score(rows[count])
        return score(rows[count])

    return work


serve({str(count): repeated(count, times) for count, times in zip(counts, calls, strict=True)})
