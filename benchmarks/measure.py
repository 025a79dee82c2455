"""How every workload is timed: the contestants take turns, so that a busy machine hits them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

ROUNDS = 7
SEED = 20261123


@dataclass(frozen=True)
class Sample:
    """Median of the rounds, and the best and worst of them, in the unit of the row."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One line of the scoreboard."""

    work: str
    unit: str
    better: Literal["less", "more"]
    ours: Sample
    peer: Sample | None
    peer_name: str
    correct: str
    """What was held against what, and that it agreed; a workload whose results differ raises instead."""
    target: float | None = None
    """In the unit of the row."""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer."""
        if self.peer is None:
            return None
        return self.peer.median / self.ours.median if self.better == "less" else self.ours.median / self.peer.median

    @property
    def met(self) -> bool | None:
        """Whether the target is; None without one."""
        if self.target is None:
            return None
        return self.ours.median <= self.target if self.better == "less" else self.ours.median >= self.target


def race(contestants: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of every round of every contestant. Each runs once before, unmeasured: that is when numba compiles."""
    for work in contestants.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            gc.collect()
            begin = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def each(seconds: list[float], count: int, scale: float) -> Sample:
    """Time for one of `count`, in units of 1 / scale seconds."""
    one = [value / count * scale for value in seconds]
    return Sample(statistics.median(one), min(one), max(one))


def rate(seconds: list[float], count: int) -> Sample:
    """How many a second."""
    rates = [count / value for value in seconds]
    return Sample(statistics.median(rates), min(rates), max(rates))
