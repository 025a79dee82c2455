"""A campaign: many leaks of drawn sizes, hours and DMAs, none in the way of another, and readings there to see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from models.config import ConfigError
from models.network import Site
from training.importers.site_folder import Label
from training.injection.leaks import Planted
from training.injection.recorded import DAY_MS, HOUR_MS, Recorded
from training.labels import ABRUPT, LEAK_KINDS, Leak

ATTEMPTS: Final = 400
"""Places tried for one leak before the history counts as full."""
MINUTE_MS: Final = 60_000


@dataclass(frozen=True)
class Plan:
    """What is drawn from. Sizes are even on a logarithmic scale, all else is even."""

    kinds: Sequence[str] = LEAK_KINDS
    shares: tuple[float, float] = (0.03, 0.4)
    """Of the DMA's mean inflow."""
    burst_days: tuple[float, float] = (2.0, 7.0)
    ramp_days: tuple[float, float] = (10.0, 30.0)
    hold_days: float = 7.0
    """A growing leak stays at its size for so long."""
    clean_days: float = 42.0
    """At the beginning, without leaks: detectors must have something to learn from."""
    rest_days: float = 7.0
    """Between the end of a leak and the next one of its DMA."""
    readings: float = 0.9
    """Share of the inlets' readings that must be there, while it runs and in its first day."""


def draw(recorded: Recorded, count: int, seed: int, dmas: Sequence[str], plan: Plan = Plan()) -> list[Planted]:
    """`count` leaks, in order of their start. The same seed, history and plan give the same leaks.

    Raises ConfigError where the history has no room for so many.
    """
    rng = np.random.default_rng(seed)
    spans = {dma: recorded.span_ms(dma) for dma in dmas}
    means = {dma: recorded.mean_inflow(dma) for dma in dmas}
    able = [dma for dma in dmas if means[dma] > 0]
    if not able:
        raise ConfigError([f"no net inflow above 0 in {', '.join(dmas)}; possible: DMAs whose inlets have readings"])
    taken: list[Planted] = []
    for number in range(1, count + 1):
        for _ in range(ATTEMPTS):
            leak = _one(rng, f"leak-{number:03}", able, means, spans, plan)
            if leak is not None and _is_free(leak, taken, plan) and _is_seen(recorded, leak, plan.readings):
                taken.append(leak)
                break
        else:
            room = f"found room for {number - 1} of {count} leaks, {plan.rest_days:g} days between two of a DMA"
            raise ConfigError([f"campaign: {room}; possible: fewer leaks, or a longer history with fewer gaps"])
    return sorted(taken, key=lambda leak: (leak.started_ms, leak.id))


def labels_of(leaks: Iterable[Leak], site: Site) -> list[Label]:
    """As labels.csv holds them; times local to the site, with their offset."""
    zone = ZoneInfo(site.timezone)

    def text(time_ms: int | None) -> str:
        return "" if time_ms is None else datetime.fromtimestamp(time_ms / 1000, zone).isoformat(timespec="seconds")

    return [
        Label(leak.dma, leak.kind, text(leak.started_ms), text(leak.ended_ms), leak.id, leak.max_m3h, text(leak.peak_ms))
        for leak in leaks
    ]


def _one(
    rng: np.random.Generator, name: str, dmas: Sequence[str], means: dict[str, float], spans: dict[str, tuple[int, int]],
    plan: Plan,
) -> Planted | None:  # fmt: skip
    """A draw; None where it does not fit between the clean days and the end."""
    dma = dmas[int(rng.integers(len(dmas)))]
    kind = plan.kinds[int(rng.integers(len(plan.kinds)))]
    size = float(np.exp(rng.uniform(*np.log(plan.shares)))) * means[dma]
    ramp_ms = 0 if kind == ABRUPT else int(rng.uniform(*plan.ramp_days) * DAY_MS)
    lasts_ms = int(rng.uniform(*plan.burst_days) * DAY_MS) if kind == ABRUPT else ramp_ms + int(plan.hold_days * DAY_MS)
    first_ms, last_ms = spans[dma][0] + int(plan.clean_days * DAY_MS), spans[dma][1] - lasts_ms
    started_ms = int(first_ms + rng.random() * (last_ms - first_ms))
    started_ms, ramp_ms, lasts_ms = (time // MINUTE_MS * MINUTE_MS for time in (started_ms, ramp_ms, lasts_ms))
    return Planted(name, dma, started_ms, started_ms + lasts_ms, size, ramp_ms) if first_ms < last_ms else None


def _is_free(leak: Planted, taken: Sequence[Planted], plan: Plan) -> bool:
    rest_ms = int(plan.rest_days * DAY_MS)
    return not any(
        other.dma == leak.dma and leak.started_ms < other.ended_ms + rest_ms and other.started_ms < leak.ended_ms + rest_ms
        for other in taken
    )


def _is_seen(recorded: Recorded, leak: Planted, share: float) -> bool:
    """Whether enough of the DMA's meters' readings are there: a gap would be missed by any detector."""
    first_day = min(leak.started_ms + 24 * HOUR_MS, leak.ended_ms)
    for row in recorded.meters(leak.dma):
        series = recorded.flows[row]
        for until_ms in (first_day, leak.ended_ms):
            first, last = np.searchsorted(series.times_ms, [leak.started_ms, until_ms])
            if (last - first) * series.step_ms < share * (until_ms - leak.started_ms):
                return False
    return True
