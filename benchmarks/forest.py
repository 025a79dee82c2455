"""Isolation forest, 100 trees, 8 features: one row, a block, a history, against scikit-learn, coniferest and isotree."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.ensemble import IsolationForest

from benchmarks.measure import SEED, Row, Sample, each, race
from benchmarks.peers.environment import NotHereError
from benchmarks.peers.remote import Remote
from models.forest import Forest, score
from training.flatten import flatten

TREES, FEATURES = 100, 8
TARGETS_US = {1: 3.0, 256: 1.0, 100_000: 1.0}
CALLS = {1: (2_000, 10, 500), 256: (100, 3, 20), 100_000: (1, 1, 1)}
"""In one round, ours, scikit-learn's and the other peers': a round must outlast the clock's grain."""
LIKE_OURS = 0.9
"""Rank correlation: another library's forest grows other trees of the same rows, and must find the same ones odd."""


def _remotes(
    stack: contextlib.ExitStack, training: NDArray[np.float32], history: NDArray[np.float32]
) -> tuple[dict[str, Remote], dict[str, Sample | str]]:
    """The peers with an environment of their own, and why some are not there."""
    remotes: dict[str, Remote] = {}
    absent: dict[str, Sample | str] = {}
    data = {
        "training": training, "history": history, "trees": np.array(TREES), "counts": np.array(list(CALLS)),
        "calls": np.array([calls for *_, calls in CALLS.values()]),
    }  # fmt: skip
    for name, environment in (("coniferest", "forest"), ("isotree", "isotree")):
        try:
            remotes[name] = stack.enter_context(Remote(environment, "forest_peer.py", {**data, "peer": np.array(name)}))
        except NotHereError as error:
            absent[name] = str(error)
    return remotes, absent


def _repeat(score_rows: Callable[[NDArray[np.float32]], Any], x: NDArray[np.float32], calls: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(calls):
            score_rows(x)

    return work


def _row(
    count: int, x: NDArray[np.float32], grown: IsolationForest, forest: Forest, remotes: dict[str, Remote],
    absent: dict[str, Sample | str],
) -> Row:  # fmt: skip
    mine, sklearns, others = CALLS[count]
    got = score(forest, x)
    assert_allclose(got, -grown.score_samples(x), rtol=0, atol=1e-12)
    if count > 1:
        for name, remote in remotes.items():
            alike = spearmanr(got, remote.result(str(count))).statistic
            assert alike >= LIKE_OURS, f"{name} ranks {count} rows otherwise: {alike:.3f}"
    contestants = {
        "ours": _repeat(lambda rows: score(forest, rows), x, mine),
        "scikit-learn": _repeat(grown.score_samples, x, sklearns),
        **{name: remote.contestant(str(count)) for name, remote in remotes.items()},
    }
    calls = {"ours": mine, "scikit-learn": sklearns}
    seconds = race(contestants, rounds=7 if count < 100_000 else 5)
    samples = {name: each(took, count * calls.get(name, others), 1e6) for name, took in seconds.items()}
    work = f"isolation forest, {TREES} trees, {count:,} row{'s' * (count > 1)} a call"
    ours = samples.pop("ours")
    return Row.beside(
        work, "us/row", "less", ours, {**absent, **samples}, "= scikit-learn to 1e-12", TARGETS_US[count]
    )  # fmt: skip


def run() -> Iterator[Row]:
    """All rows of this workload."""
    rng = np.random.default_rng(SEED)
    training = rng.standard_normal((5_000, FEATURES)).astype(np.float32)
    grown = IsolationForest(n_estimators=TREES, random_state=SEED % 1000).fit(training)
    forest = flatten(grown)
    history = rng.standard_normal((100_000, FEATURES)).astype(np.float32)
    with contextlib.ExitStack() as stack:
        remotes, absent = _remotes(stack, training, history)
        for count in TARGETS_US:
            yield _row(count, history[:count], grown, forest, remotes, absent)
