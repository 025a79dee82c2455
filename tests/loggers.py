"""A made-up DMA for tests of what pressure loggers say of each other: one inlet, loggers whose head loss follows demand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.engine import Engine, StepResult
from models.network import Site, parse_site
from models.schema import FLOW, PRESSURE, READING, Alert
from tests.synthetic import DAY, SITE_TOML, SLOT_MS, START_MS, demand

LOGGERS = 6
LOSS = np.array([2e-3, 4e-3, 6e-3, 8e-3, 5e-3, 3e-3])  # kPa per (m3/h)^2 of the whole demand


def make_site(loggers: int = LOGGERS) -> Site:
    meters = "".join(f'[[meter]]\nid = "p-{i}"\nkind = "pressure"\ndma = "D"\n' for i in range(loggers))
    return parse_site(SITE_TOML, '[[dma]]\nid = "D"\n[[meter]]\nid = "in"\nkind = "flow"\nto = "D"\n' + meters)


def columns(days: int, seed: int = 0, noise_kpa: float = 0.3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inflow (T,) m3/h and pressures (T, loggers) kPa of quiet days."""
    rng = np.random.default_rng(seed)
    flow = demand(days, 60.0, seed)
    head = 450.0 + rng.normal(0.0, 0.5, len(flow))
    local = rng.normal(1.0, 0.02, (len(flow), LOGGERS))
    pressure = head[:, None] - LOSS * local * flow[:, None] ** 2 + rng.normal(0.0, noise_kpa, (len(flow), LOGGERS))
    return flow * (1 + 0.005 * rng.standard_normal(len(flow))), pressure


def leak(flow: NDArray[np.float64], pressure: NDArray[np.float64], size: NDArray[np.float64], at: int) -> None:
    """Add a leak of `size` (T,) m3/h beside logger `at`, in place: it falls most, the next one half as much."""
    flow += size
    pressure -= LOSS * ((flow[:, None]) ** 2 - (flow - size)[:, None] ** 2)
    pressure[:, at] -= 0.8 * size
    pressure[:, (at + 1) % LOGGERS] -= 0.4 * size


def readings(site: Site, flow: NDArray[np.float64], pressure: NDArray[np.float64]) -> NDArray[np.void]:
    """READING array in order of time; NaN is left out."""
    out = np.zeros((len(flow), 1 + LOGGERS), READING)
    out["time_ms"] = (START_MS + SLOT_MS * np.arange(1, len(flow) + 1))[:, None]
    out["value"] = np.round(np.column_stack([flow, pressure]), 3)
    out["meter"] = [site.meter_row[name] for name in ("in", *(f"p-{i}" for i in range(LOGGERS)))]
    out["kind"] = [FLOW] + [PRESSURE] * LOGGERS
    block = out.ravel()
    return block[~np.isnan(block["value"])]


def watch(site: Site, block: NDArray[np.void], blocks: int = 20) -> tuple[list[Alert], list[StepResult], Engine]:
    """One pass over the block."""
    engine = Engine(site, "D")
    steps = [engine.step(part) for part in np.array_split(block, blocks)]
    return [alert for step in steps for alert in step.alerts], steps, engine


def ramp(days: int, start_day: float, end_day: float, size: float, growth_days: float = 0.0) -> NDArray[np.float64]:
    """(T,) m3/h of a leak that grows linearly to `size` within `growth_days`."""
    day = np.arange(days * DAY) / DAY
    share = np.clip((day - start_day) / growth_days, 0.0, 1.0) if growth_days else 1.0
    return size * share * ((day >= start_day) & (day < end_day))
