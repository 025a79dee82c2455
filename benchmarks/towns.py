"""Towns of any size: DMAs of the same shape, and what their meters say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import SEED
from models.network import Site, parse_site
from models.schema import READING, Readings

SLOT_MS = 900_000
DAY_SLOTS = 96
START_MS = 1_767_567_600_000  # Monday 2026-01-05 00:00 in Tunis, which keeps no summer time: neither does the demand


def texts(dmas: int, inlets: int, customers: int, lateness_minutes: int = 120) -> tuple[str, str]:
    """site.toml and network.toml. The meters of a DMA follow each other, its inlets first."""
    own = inlets + customers
    areas = "".join(f'[[dma]]\nid = "D{i:04}"\n' for i in range(dmas))
    meters = "".join(
        f'[[meter]]\nid = "FM-{i:07}"\nkind = "flow"\n{"to" if i % own < inlets else "dma"} = "D{i // own:04}"\n'
        for i in range(dmas * own)
    )
    stream = f"[stream]\nlatenessMinutes = {lateness_minutes}\n"
    return f'name = "bench"\ntimezone = "Africa/Tunis"\n{stream}', areas + meters


def town(dmas: int, inlets: int, customers: int, lateness_minutes: int = 120) -> Site:
    """The site of these texts."""
    return parse_site(*texts(dmas, inlets, customers, lateness_minutes))


def folder(path: Path, dmas: int, inlets: int, customers: int) -> Path:
    """The texts as a site folder."""
    path.mkdir()
    for name, text in zip(("site.toml", "network.toml"), texts(dmas, inlets, customers), strict=True):
        (path / name).write_text(text)
    return path


def demand(slots: int, dmas: int, seed: int = SEED) -> NDArray[np.float64]:
    """(slots, DMAs) m3/h at 15 min: low at night, two peaks, AR(1) noise of 3 %."""
    rng = np.random.default_rng(seed)
    hour = np.arange(slots) % DAY_SLOTS / 4.0
    shape = 0.45 + 0.75 * np.exp(-((hour - 8) ** 2) / 5) + 0.65 * np.exp(-((hour - 19.5) ** 2) / 8)
    noise = np.zeros((slots, dmas))
    shocks = rng.standard_normal((slots, dmas)) * 0.03 * np.sqrt(0.75)
    for i in range(1, slots):
        noise[i] = 0.5 * noise[i - 1] + shocks[i]
    return 60.0 * shape[:, None] * (1 + noise)


def flows(place: Site, slots: int, first: int, own: int, inlets: int, m3h: NDArray[np.float64]) -> Readings:
    """Inlets' readings of some slots, slot by slot: each DMA's inflow in equal parts. `own` meters has a DMA."""
    dmas = len(place.dmas)
    rows = (np.arange(dmas) * own)[:, None] + np.arange(inlets)
    out = np.zeros((slots, dmas, inlets), READING)
    out["meter"] = rows
    out["time_ms"] = (START_MS + SLOT_MS * (first + 1 + np.arange(slots)))[:, None, None]
    out["value"] = np.round(m3h[first : first + slots, :, None] / inlets, 3)
    return out.ravel()
