"""Search the forest's settings: which finds most of what leaks add, at a given rate of chance alarms.

Leaks are added to the DMAs' own readings in the period `calibrate`, and the engine judges them anew. A trial fits a forest
on the period `fit`, takes its threshold from the clean days of `calibrate`, and counts the slots with a leak that pass it.
No slot of the period `report` is looked at; only how large the added leaks are follows from the whole history's mean. The
same number of trials and seed give the same settings; a limit of time gives as many trials as the machine makes in it.
"""

from __future__ import annotations

import math
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.config import ConfigError
from models.features import FEATURES
from models.forest import score
from models.network import Site
from training.collect import FIT, OPEN, Slots, collect
from training.fit import ForestSettings, fitted_rows, grow, in_period
from training.history import Window
from training.injection.leaks import Additions, Injector, Planted, add_to
from training.injection.recorded import Recorded
from training.leave_out import Rows
from training.score_law import MIN_DAYS, daily_maxima, level, statistic

if TYPE_CHECKING:
    from optuna import Trial

DAY_MS: Final = 86_400_000
MINUTE_MS: Final = 60_000
EVERY_DAYS: Final = 4.0
"""One leak in so many days of a DMA, half of which it runs: the engine must see its end before the next."""
SHARES: Final = (0.03, 0.3)
"""Sizes, of the DMA's mean inflow, even on a logarithmic scale."""
LEAST_LEAK_SLOTS: Final = 96
RETURN_DAYS: Final = 7.0
"""Settings are told apart at a threshold that is passed by chance once a week. At the alert budget's own, once in years, no
score passes with any settings: 0.0 % of the slots with leaks on each of six real DMAs (2026-11-28)."""
TREES: Final = (50, 200)
MAX_SAMPLES: Final = (64, 2048)
LEAST_FEATURES: Final = 3
Edges = tuple[int, int, int]


@dataclass(frozen=True)
class Search:
    """How long to look. `history` gives the windows anew; it is asked twice, with a word for what."""

    history: Callable[[str], Iterable[Window]]
    trials: int | None = None
    seconds: float | None = None
    """For all models together, in equal parts; the trial under way at its end is finished. The passes come on top."""


@dataclass(frozen=True)
class Leaky:
    """What the engine made of one DMA's readings with leaks in them, in the period `calibrate`."""

    ends_ms: NDArray[np.int64]
    features: NDArray[np.float32]
    leaking: NDArray[np.bool_]
    """(n,) in these a leak runs, and the clean history could be learned from."""


@dataclass(frozen=True)
class Found:
    """The best settings, and how they were found."""

    settings: ForestSettings
    facts: dict[str, float]
    seconds: float


def leaky_slots(
    site: Site, search: Search, rows: Mapping[str, Rows], edges: Mapping[str, Edges], seed: int
) -> dict[str, Leaky]:
    """The slots with leaks of every DMA of `edges` with a period `calibrate` long enough."""
    injector = Injector(Recorded(site, search.history("read")))
    planted = {dma: _drawn(dma, injector, *edges[dma][:2], seed) for dma in sorted(edges)}
    planted = {dma: leaks for dma, leaks in planted.items() if leaks}
    additions: dict[str, Additions] = {dma: injector.additions(leaks) for dma, leaks in planted.items()}
    found = collect(
        site, search.history("add leaks"), list(planted),
        until_ms=max((edges[dma][1] for dma in planted), default=None),
        change=lambda dma, readings: add_to(readings, additions[dma]),
    )  # fmt: skip
    return {dma: _leaky(slots, rows[dma], planted[dma], edges[dma]) for dma, slots in found.items()}


def _drawn(dma: str, injector: Injector, first_ms: int, last_ms: int, seed: int) -> list[Planted]:
    """Bursts and growing leaks by turns; drawn by the DMA's name, so that no other DMA matters."""
    mean = injector.recorded.mean_inflow(dma)
    if not mean > 0:
        return []
    rng = np.random.default_rng([seed, zlib.crc32(dma.encode())])
    period_ms = int(EVERY_DAYS * DAY_MS)
    leaks = []
    for number, begin_ms in enumerate(range(first_ms, last_ms - period_ms + 1, period_ms)):
        started_ms = (begin_ms + int(rng.uniform(0, period_ms / 4))) // MINUTE_MS * MINUTE_MS
        size = float(np.exp(rng.uniform(*np.log(SHARES)))) * mean
        ramp_ms = (number % 2) * period_ms // 4
        leaks.append(Planted(f"{dma}-{number}", dma, started_ms, started_ms + period_ms // 2, size, ramp_ms))
    return leaks


def _leaky(slots: Slots, rows: Rows, leaks: list[Planted], edges: Edges) -> Leaky:
    ends, features, states = slots.joined()
    keep = (ends > edges[0]) & (ends <= edges[1]) & np.isin(states, (FIT, OPEN)) & np.isfinite(features).all(axis=1)
    ends, features = ends[keep], np.ascontiguousarray(features[keep])
    leaking = np.zeros(len(ends), np.bool_)
    for leak in leaks:
        leaking |= (ends - slots.slot_ms >= leak.started_ms) & (ends <= leak.ended_ms)
    return Leaky(ends, features, leaking & np.isin(ends, rows.ends_ms))


def best_settings(
    where: str, rows: Mapping[str, Rows], leaky: Mapping[str, Leaky], edges: Edges, search: Search, seed: int,
    seconds: float | None,
) -> Found:  # fmt: skip
    """The settings of one forest. Raises ConfigError where the period `calibrate` is too short to judge by."""
    import optuna  # noqa: PLC0415 - half a second, and only a search needs it

    judged = {dma: found for dma, found in leaky.items() if dma in rows and found.leaking.any()}
    slots = sum(int(found.leaking.sum()) for found in judged.values())
    days = (edges[1] - edges[0]) / DAY_MS
    if slots < LEAST_LEAK_SLOTS or days < MIN_DAYS:
        found = f"{days:.1f} days to calibrate on, {slots} slots with an added leak"
        raise ConfigError(
            [f"search of {where}: found {found}; possible: {MIN_DAYS} days and {LEAST_LEAK_SLOTS} slots, so more history or "
             "a larger --calibrate"]
        )  # fmt: skip
    parts = fitted_rows(rows, edges)
    x = np.concatenate(list(parts.values()))

    def objective(trial: Trial) -> float:
        return _share_found(x, rows, judged, edges, _suggested(trial), seed)

    began = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optuna's own experiments
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        first = ForestSettings()
        study.enqueue_trial({"trees": first.trees, "max_samples": first.max_samples, "max_features": first.max_features})
        study.optimize(objective, n_trials=search.trials, timeout=seconds)
    best, usual = study.best_trial, study.trials[0].value
    settings = ForestSettings(**best.params)
    facts = {
        "trials": float(len(study.trials)), "leak_slots": float(slots), "found": float(best.value or 0.0),
        "found_with_usual_settings": float(usual or 0.0),
        "found_at_budget": _share_found(x, rows, judged, edges, settings, seed, None),
    }  # fmt: skip
    if seconds is not None:
        facts["limit_seconds"] = round(seconds, 3)
    return Found(settings, facts, time.monotonic() - began)


def _suggested(trial: Trial) -> ForestSettings:
    return ForestSettings(
        trees=trial.suggest_int("trees", *TREES, step=50),
        max_samples=trial.suggest_int("max_samples", *MAX_SAMPLES, log=True),
        max_features=trial.suggest_int("max_features", LEAST_FEATURES, len(FEATURES)),
    )


def _share_found(
    x: NDArray[np.float32], rows: Mapping[str, Rows], judged: Mapping[str, Leaky], edges: Edges, settings: ForestSettings,
    seed: int, return_days: float | None = RETURN_DAYS,
) -> float:  # fmt: skip
    """Share of the slots with a leak whose statistic passes the threshold of `return_days`; None: of the alert budget."""
    forest = grow(x, settings, seed)
    found = total = 0
    for dma, leaky in judged.items():
        clean = rows[dma]
        which = in_period(clean, edges, "calibrate")
        features, ends = np.ascontiguousarray(clean.features[which]), clean.ends_ms[which]
        values = statistic(score(forest, features), features, ends, clean.slot_ms)
        maxima = daily_maxima(values, ends, clean.slot_ms, clean.timezone)
        maxima = maxima[np.isfinite(maxima)]
        days = return_days or clean.return_days
        limit = level(float(maxima.mean()), float(maxima.std()), days) if len(maxima) else math.inf
        passed = statistic(score(forest, leaky.features), leaky.features, leaky.ends_ms, clean.slot_ms) > limit
        found, total = found + int((passed & leaky.leaking).sum()), total + int(leaky.leaking.sum())
    return found / total if total else 0.0
