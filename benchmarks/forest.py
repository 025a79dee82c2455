"""Isolation forest, 100 trees, 8 features: one row, a block, a history, against scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose
from sklearn.ensemble import IsolationForest

from benchmarks.measure import SEED, Row, each, race
from models.forest import score
from training.fit import flatten

TREES, FEATURES = 100, 8
TARGETS_US = {1: 3.0, 256: 1.0, 100_000: 1.0}
REPEATS = {1: (2_000, 10), 256: (100, 3), 100_000: (1, 1)}
"""Calls in one round, ours and scikit-learn's: a round must outlast the clock's grain."""


def run() -> list[Row]:
    """All rows of this workload."""
    rng = np.random.default_rng(SEED)
    grown = IsolationForest(n_estimators=TREES, random_state=SEED % 1000).fit(
        rng.standard_normal((5_000, FEATURES)).astype(np.float32)
    )
    forest = flatten(grown)
    history = rng.standard_normal((100_000, FEATURES)).astype(np.float32)
    rows = []
    for count, target in TARGETS_US.items():
        x = history[:count]
        assert_allclose(score(forest, x), -grown.score_samples(x), rtol=0, atol=1e-12)
        mine, theirs = REPEATS[count]

        def ours(x: np.ndarray = x, calls: int = mine) -> None:
            for _ in range(calls):
                score(forest, x)

        def peer(x: np.ndarray = x, calls: int = theirs) -> None:
            for _ in range(calls):
                grown.score_samples(x)

        seconds = race({"ours": ours, "peer": peer}, rounds=7 if count < 100_000 else 5)
        work = f"isolation forest, {TREES} trees, {count:,} row{'s' * (count > 1)} a call"
        mine_us, theirs_us = each(seconds["ours"], count * mine, 1e6), each(seconds["peer"], count * theirs, 1e6)
        rows.append(Row(work, "us/row", "less", mine_us, theirs_us, "scikit-learn", "equal to 1e-12", target))
    return rows
