"""How every workload is timed: the contestants take turns, so that a busy machine hits them alike."""

from __future__ import annotations

import gc
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ROUNDS = 7
SEED = 20261123


@dataclass(frozen=True)
class Sample:
    """Median of the rounds, and the best and worst of them, in the unit of the row."""

    median: float
    low: float
    high: float


class Seconds(float):
    """What a contestant that runs in a process of its own says its round took."""


class SkippedError(Exception):
    """A workload, or a row of it, that this machine cannot run; the message says what it would need."""


def shared_data(name: str) -> Path:
    """Where a data set lies: beside this checkout, or beside the repository that this is a work tree of.

    Raises SkippedError where it does not.
    """
    root = Path(__file__).resolve().parent.parent
    asked = ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"]
    common = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=root).stdout.strip()
    for place in (root, *([Path(common).parent] if common else [])):
        found = place.parent / "shared" / "data" / name
        if found.is_dir():
            return found
    raise SkippedError(f"found no shared/data/{name} beside the repository")


Better = Literal["less", "more"]


@dataclass(frozen=True)
class Row:
    """One line of the scoreboard."""

    work: str
    unit: str
    better: Better
    ours: Sample | None
    """None where the row could not be measured; `correct` then says why."""
    peer: Sample | None
    """The best of the peers."""
    peer_name: str
    correct: str
    """What was held against what, and that it agreed; a workload whose results differ raises instead."""
    target: float | None = None
    """In the unit of the row."""
    peers: dict[str, Sample | str] = field(default_factory=dict)
    """Every peer: its figure, or in words why it has none."""

    @classmethod
    def beside(
        cls, work: str, unit: str, better: Better, ours: Sample, peers: dict[str, Sample | str], correct: str,
        target: float | None = None,
    ) -> Row:  # fmt: skip
        """A row that shows the best of several peers."""
        ran = {name: sample for name, sample in peers.items() if isinstance(sample, Sample)}
        best = (min if better == "less" else max)(ran, key=lambda name: ran[name].median, default="")
        return cls(work, unit, better, ours, ran.get(best), best, correct, target, peers)

    @classmethod
    def without(cls, work: str, why: str, target: float | None = None) -> Row:
        """A row that could not be measured."""
        return cls(work, "", "less", None, None, "", why, target)

    @property
    def absent(self) -> dict[str, str]:
        """Peers that have no figure, and why."""
        return {name: why for name, why in self.peers.items() if isinstance(why, str)}

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer."""
        if self.peer is None or self.ours is None:
            return None
        return self.peer.median / self.ours.median if self.better == "less" else self.ours.median / self.peer.median

    @property
    def met(self) -> bool | None:
        """Whether the target is; None without one."""
        if self.target is None or self.ours is None:
            return None
        return self.ours.median <= self.target if self.better == "less" else self.ours.median >= self.target


def race(contestants: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of every round of every contestant. Each runs once before, unmeasured: that is when numba compiles.

    A contestant that returns `Seconds` has timed itself.
    """
    for work in contestants.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            gc.collect()
            begin = time.perf_counter()
            said = work()
            took = time.perf_counter() - begin
            seconds[name].append(float(said) if isinstance(said, Seconds) else took)
    return seconds


def each(seconds: list[float], count: int, scale: float) -> Sample:
    """Time for one of `count`, in units of 1 / scale seconds."""
    one = [value / count * scale for value in seconds]
    return sample(one)


def rate(seconds: list[float], count: int) -> Sample:
    """How many a second."""
    return sample([count / value for value in seconds])


def sample(figures: list[float]) -> Sample:
    """Of one figure a round."""
    return Sample(statistics.median(figures), min(figures), max(figures))
