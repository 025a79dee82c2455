"""A made-up utility for tests: three DMAs, a boundary meter, a boundary valve, weekly demand with correlated noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.engine import Engine, StepResult
from models.network import Site, parse_site
from models.routing import split
from models.schema import FLOW, PRESSURE, READING, Alert

SITE_TOML = 'name = "testville"\ntimezone = "Africa/Tunis"\n[stream]\nlatenessMinutes = 240\n'
NETWORK_TOML = """
[[dma]]
id = "A"
[[dma]]
id = "B"
[[dma]]
id = "C"
[[meter]]
id = "in-A"
kind = "flow"
to = "A"
[[meter]]
id = "A-B"
kind = "flow"
from = "A"
to = "B"
[[meter]]
id = "in-C"
kind = "flow"
to = "C"
[[meter]]
id = "p-B"
kind = "pressure"
dma = "B"
[[valve]]
between = ["B", "C"]
"""
START_MS = (
    1_767_567_600_000  # Monday 2026-01-05 00:00 in Tunis, which keeps no summer time: the made-up demand does not either
)
SLOT_MS = 900_000
DAY = 96


def make_site() -> Site:
    return parse_site(SITE_TOML, NETWORK_TOML)


def demand(days: int, mean_m3h: float, seed: int, noise: float = 0.03) -> NDArray[np.float64]:
    """Net inflow (m3/h) of one DMA at 15 min: night low, two peaks, busier weekends, AR(1) noise."""
    rng = np.random.default_rng(seed)
    hour = np.arange(days * DAY) % DAY / 4.0
    shape = (
        0.45 + 0.75 * np.exp(-((hour - 8) ** 2) / 5) + 0.65 * np.exp(-((hour - 19.5) ** 2) / 8) + 0.3 * (abs(hour - 13) < 4)
    )
    weekend = np.where(np.arange(days * DAY) // DAY % 7 >= 5, 1.15, 1.0)
    ar = np.zeros(days * DAY)
    shocks = rng.standard_normal(days * DAY) * noise * np.sqrt(1 - 0.5**2)
    for i in range(1, len(ar)):
        ar[i] = 0.5 * ar[i - 1] + shocks[i]
    return mean_m3h * shape * weekend * (1 + ar)


def readings(days: int = 35, seed: int = 0, **extra: NDArray[np.float64]) -> NDArray[np.void]:
    """READING array, ordered by time, of a quiet town; `extra` adds m3/h to a DMA's demand (a, b, c) slot by slot."""
    own = {name: demand(days, mean, seed + i) for i, (name, mean) in enumerate({"a": 60.0, "b": 40.0, "c": 50.0}.items())}
    for name, more in extra.items():
        own[name] = own[name] + more
    rng = np.random.default_rng(seed + 99)
    columns = {
        "in-A": (FLOW, own["a"] + own["b"]),
        "A-B": (FLOW, own["b"]),
        "in-C": (FLOW, own["c"]),
        "p-B": (PRESSURE, 400.0 - 0.01 * own["b"] ** 2 + rng.normal(0, 0.5, days * DAY)),
    }
    site = make_site()
    out = np.zeros((days * DAY, len(columns)), READING)
    for column, (meter, (kind, values)) in enumerate(columns.items()):
        out["time_ms"][:, column] = START_MS + SLOT_MS * np.arange(1, days * DAY + 1)
        out["value"][:, column] = np.round(
            values * (1 + (0.002 * rng.standard_normal(len(values)) if kind == FLOW else 0)), 2
        )
        out["meter"][:, column] = site.meter_row[meter]
        out["kind"][:, column] = kind
    return out.ravel()


def step_between(days: int, start_slot: int, end_slot: int, size: float) -> NDArray[np.float64]:
    """`size` between two slots, 0 elsewhere."""
    more = np.zeros(days * DAY)
    more[start_slot:end_slot] = size
    return more


def run(site: Site, blocks: list[NDArray[np.void]]) -> tuple[list[Alert], dict[str, list[StepResult]]]:
    """Alerts of all DMAs in order of update, and every step's result, of one pass over the blocks."""
    engines = {dma.id: Engine(site, dma.id) for dma in site.dmas}
    results: dict[str, list[StepResult]] = {dma.id: [] for dma in site.dmas}
    subscribers = site.subscribers()
    for block in blocks:
        for row, part in split(block, subscribers):
            dma = site.dmas[row].id
            results[dma].append(engines[dma].step(part))
    alerts = [alert for steps in results.values() for step in steps for alert in step.alerts]
    return sorted(alerts, key=lambda a: (a.updated_at, a.alert_id, a.revision)), results


def daily(block: NDArray[np.void]) -> list[NDArray[np.void]]:
    """The readings cut at every day."""
    days = (block["time_ms"] - 1) // 86_400_000
    return np.split(block, np.flatnonzero(np.diff(days)) + 1)
