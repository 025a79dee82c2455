"""The smallest leak that would be found in each DMA within a day and within a week, at the site's alert budget.

Bursts are added to the DMA's own history at several starts, each drawn from its own part of the history and at any hour;
at each start sizes are halved in on until the smallest is known that raises an alarm in time. The engine runs through the
history once: at each start its state is put aside, and every trial goes on from there with readings that hold the leak.

A start is used only where the history itself is quiet: no leak open, none raised in the week that follows. That larger
leaks are found no later is taken for granted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.config import ConfigError
from models.engine import Engine
from models.network import Site
from models.routing import split
from models.schema import LEAK_TYPES, Readings
from training.event_score import iso
from training.history import Window
from training.injection.leaks import N1, Injector, Planted, add_to
from training.injection.recorded import DAY_MS, HOUR_MS, Recorded
from training.matching import alarms_of

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.schema import Alert

WITHIN_HOURS: Final = (24, 168)
SMALLEST, LARGEST = 0.002, 1.0
"""Shares of the mean inflow between which sizes are tried."""
HALVINGS: Final = 8
"""Of the range, on a logarithmic scale: sizes are known to (1.0 / 0.002)^(1/2^8), 2.5 %."""
CANDIDATES: Final = 4
"""Starts looked at in each part of the history, until one is quiet."""
CLEAN_DAYS: Final = 42.0
MINUTE_MS: Final = 60_000


@dataclass(frozen=True)
class Trial:
    """One start, and the smallest size (m3/h) found within each of WITHIN_HOURS; infinite where even LARGEST is not."""

    started_ms: int
    smallest_m3h: Mapping[int, float]


@dataclass
class Detectability:
    """Of one DMA."""

    dma: str
    mean_m3h: float
    note: str
    trials: list[Trial] = field(default_factory=list)
    not_quiet: int = 0

    def size_m3h(self, within_h: int, share: float) -> float:
        """The size that is found in time at so large a share of the starts; infinite where none is, or without trials."""
        sizes = sorted(trial.smallest_m3h[within_h] for trial in self.trials)
        return sizes[max(math.ceil(share * len(sizes)) - 1, 0)] if sizes else math.inf


@dataclass
class _Waiting:
    """A candidate start whose readings are still coming in."""

    part: int
    started_ms: int
    state: bytes
    blocks: list[Readings] = field(default_factory=list)


def detectability(
    site: Site,
    history: Callable[[str], Iterable[Window]],
    bundle: Bundle | Mapping[str, Bundle] | None = None,
    *,
    dmas: Sequence[str],
    starts: int = 10,
    seed: int = 0,
    n1: float = N1,
) -> list[Detectability]:
    """One row for each of `dmas`. `history` gives the windows from the beginning; it is asked twice, with a word for what.

    Raises ConfigError where the history is too short for a start.
    """
    injector = Injector(Recorded(site, history("read")), n1)
    watches = {
        dma: _Watch(site, dma, bundle.get(dma) if isinstance(bundle, Mapping) else bundle, injector, starts, seed)
        for dma in dmas
    }
    subscribers = site.subscribers()
    for window in history("try leaks"):
        for row, readings in split(window.readings, subscribers):
            if site.dmas[row].id in watches:
                watches[site.dmas[row].id].take(window, readings)
    for watch in watches.values():
        watch.finish()
    return [watch.found for watch in watches.values()]


class _Watch:
    """One DMA on its way through the history."""

    def __init__(self, site: Site, dma: str, bundle: Bundle | None, injector: Injector, starts: int, seed: int) -> None:
        self._site, self._dma, self._injector = site, dma, injector
        self._engine, self._other = Engine(site, dma, bundle), Engine(site, dma, bundle)
        mean = injector.recorded.mean_inflow(dma)
        self.found = Detectability(dma, mean, injector.hydraulics(dma).note)
        self._candidates = self._drawn(starts, seed) if mean > 0 else []
        self._waiting: list[_Waiting] = []
        self._done: set[int] = set()
        self._alerts: list[Alert] = []

    def _drawn(self, starts: int, seed: int) -> list[tuple[int, int]]:
        """(part, start) of all candidates, in order of time."""
        rng = np.random.default_rng([seed, self._site.dma_row[self._dma]])
        first_ms, last_ms = self._injector.recorded.span_ms(self._dma)
        first_ms, last_ms = first_ms + int(CLEAN_DAYS * DAY_MS), last_ms - WITHIN_HOURS[-1] * HOUR_MS
        if last_ms <= first_ms:
            needed = CLEAN_DAYS + WITHIN_HOURS[-1] / 24
            raise ConfigError(
                [f"DMA {self._dma!r}: too short a history to try leaks in; possible: more than {needed:g} days"]
            )
        edges = np.linspace(first_ms, last_ms, starts + 1)
        drawn = [
            (part, int(rng.uniform(edges[part], edges[part + 1])) // MINUTE_MS * MINUTE_MS)
            for part in range(starts)
            for _ in range(CANDIDATES)
        ]
        return sorted(drawn, key=lambda candidate: candidate[1])

    def take(self, window: Window, readings: Readings) -> None:
        """The next window's readings of this DMA."""
        self._conclude(window.start_ms)
        while self._candidates and self._candidates[0][1] < window.end_ms:
            part, started_ms = self._candidates.pop(0)
            if part not in self._done and started_ms >= window.start_ms:
                self._waiting.append(_Waiting(part, started_ms, self._engine.snapshot()))
        for waiting in self._waiting:
            waiting.blocks.append(readings)
        self._alerts += self._engine.step(readings, "replay").alerts

    def finish(self) -> None:
        """The history is over."""
        self._conclude(None)

    def _conclude(self, now_ms: int | None) -> None:
        """Try leaks at the starts whose week is over; of one part only the first that is quiet."""
        for waiting in list(self._waiting):
            if now_ms is not None and now_ms <= waiting.started_ms + WITHIN_HOURS[-1] * HOUR_MS:
                continue
            self._waiting.remove(waiting)
            if waiting.part in self._done:
                continue
            if not self._is_quiet(waiting.started_ms):
                self.found.not_quiet += 1
                continue
            self._done.add(waiting.part)
            self.found.trials.append(Trial(waiting.started_ms, self._smallest(waiting)))

    def _is_quiet(self, started_ms: int) -> bool:
        until_ms = started_ms + WITHIN_HOURS[-1] * HOUR_MS
        return not any(
            alarm.is_of_a_leak and from_ms <= until_ms and (over_ms is None or over_ms > started_ms)
            for alarm in alarms_of(self._alerts)
            for from_ms, over_ms in alarm.open_ms
        )

    def _smallest(self, at: _Waiting) -> dict[int, float]:
        """Halve the range of sizes, on a logarithmic scale, until the smallest that is found in time is known."""
        low, high = SMALLEST * self.found.mean_m3h, LARGEST * self.found.mean_m3h
        found: dict[int, float] = {}
        for within_h in WITHIN_HOURS:
            # what is found within a day is found within a week
            least, most = low, min([high, *found.values()])
            if most == high and self._delay_h(at, high) > within_h:
                found[within_h] = math.inf
                continue
            for _ in range(HALVINGS):
                middle = math.sqrt(least * most)
                if self._delay_h(at, middle) <= within_h:
                    most = middle
                else:
                    least = middle
            found[within_h] = most
        return found

    def _delay_h(self, at: _Waiting, size_m3h: float) -> float:
        """Hours to the first alarm of a leak of this size; infinite without one in the readings that were kept."""
        leak = Planted("trial", self._dma, at.started_ms, at.started_ms + 2 * WITHIN_HOURS[-1] * HOUR_MS, size_m3h)
        additions = self._injector.additions([leak])
        self._other.restore(at.state)
        for block in at.blocks:
            for alert in self._other.step(add_to(block, additions), "replay").alerts:
                is_alarm = alert.event == "raised" or "reopened" in alert.reasons
                if alert.type in LEAK_TYPES and is_alarm and alert.updated_at > at.started_ms:
                    return (alert.updated_at - at.started_ms) / HOUR_MS
        return math.inf


def as_json(site: Site, found: Sequence[Detectability], share: float) -> dict[str, Any]:
    """Ready for JSON; a size that is null is more than the DMA's mean inflow."""

    def sizes(row: Detectability, within_h: int) -> dict[str, Any]:
        size = row.size_m3h(within_h, share)
        return {
            "m3h": _rounded(size),
            "shareOfMeanInflow": _rounded(size / row.mean_m3h),
            "each_m3h": [_rounded(trial.smallest_m3h[within_h]) for trial in row.trials],
        }

    return {
        "site": site.name,
        "alertsPerWeek": round(site.alerts_per_week, 4),
        "foundAtShareOfStarts": share,
        "dmas": {
            row.dma: {
                "meanInflow_m3h": _rounded(row.mean_m3h),
                "trials": len(row.trials),
                "startsNotQuiet": row.not_quiet,
                "startedAt": [iso(trial.started_ms) for trial in row.trials],
                **{f"within{within_h}h": sizes(row, within_h) for within_h in WITHIN_HOURS},
                "hydraulics": row.note,
            }
            for row in found
        },
    }


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
