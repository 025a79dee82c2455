"""Readings a second through `Engine.step`, from decoded arrays: all detectors, with a trained forest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.measure import SEED, Row, race, rate
from models.bundle import Bundle
from models.engine import Engine
from models.network import Site, parse_site
from models.schema import KINDS, READING, Alert, Readings
from tests import synthetic
from training.history import Window
from training.train import train

DAYS = 120
TOWN = synthetic.make_site()
WIDE_DAYS = 30
WIDE_SLOT_MS = 300_000
TARGET = 12.5e6 / 10
"""L-Town's year of 119 channels, 12.5 million readings, in ten seconds."""


def wide() -> tuple[Site, Readings]:
    """One DMA as wide as L-Town: 2 inlets, 1 tank, 33 pressures, 83 customer meters, every 5 minutes, 2 % missing."""
    kinds = ["flow"] * 2 + ["level"] + ["pressure"] * 33 + ["flow"] * 83
    meters = "".join(
        f'[[meter]]\nid = "M{i:03}"\nkind = "{kind}"\n{"to" if i < 2 else "dma"} = "L"\n'
        + ("tankAreaM2 = 200.0\n" if kind == "level" else "")
        for i, kind in enumerate(kinds)
    )
    site = parse_site(synthetic.SITE_TOML, '[[dma]]\nid = "L"\nslotMinutes = 5\n' + meters)
    rng = np.random.default_rng(SEED)
    slots = WIDE_DAYS * 288
    daily = 1.0 + 0.4 * np.sin(2 * np.pi * np.arange(slots) / 288)
    level = {"flow": 40.0 * daily, "level": 3.0 + 0.5 * daily, "pressure": 400.0 - 20.0 * daily}
    out = np.zeros((slots, len(kinds)), READING)
    for i, kind in enumerate(kinds):
        out["value"][:, i] = level[kind] * (1 + 0.01 * rng.standard_normal(slots))
        out["kind"][:, i] = KINDS.index(kind)
    out["time_ms"] = (synthetic.START_MS + WIDE_SLOT_MS * np.arange(1, slots + 1))[:, None]
    out["meter"] = np.arange(len(kinds))
    block = out.ravel()
    return site, block[rng.random(len(block)) > 0.02]


def _parts(block: Readings, minutes: int) -> list[Readings]:
    """One DMA's readings, cut every so many minutes."""
    cell = (block["time_ms"] - 1) // (minutes * 60_000)
    return np.split(block, np.flatnonzero(np.diff(cell)) + 1)


def _alerts(site: Site, dma: str, parts: list[Readings], bundle: Bundle | None) -> list[Alert]:
    engine = Engine(site, dma, bundle)
    return [alert for part in parts for alert in engine.step(part, "replay").alerts]


def run() -> list[Row]:
    """All rows of this workload."""
    leak = synthetic.step_between(DAYS, 80 * synthetic.DAY, 90 * synthetic.DAY, 12.0)
    town = synthetic.readings(DAYS, SEED, b=leak)
    windows = [Window(int(day["time_ms"][0]), int(day["time_ms"][-1]) + 1, day) for day in synthetic.daily(town)]
    bundle = train(TOWN, windows[:60], seed=SEED % 1000)
    narrow = town[np.isin(town["meter"], TOWN.channels("B"))]
    wide_site, wide_block = wide()
    rows = []
    for site, dma, block, minutes, used in (
        (wide_site, "L", wide_block, 1440, bundle),
        (TOWN, "B", narrow, 1440, bundle),
        (TOWN, "B", narrow, 1440, None),
        (TOWN, "B", narrow, 60, bundle),
    ):
        parts = _parts(block, minutes)
        assert _alerts(site, dma, parts, used) == _alerts(site, dma, [block], used), "alerts depend on block boundaries"
        once: Callable[[], object] = lambda s=site, d=dma, p=parts, u=used: _alerts(s, d, p, u)  # noqa: E731 - bound now
        seconds = race({"ours": once}, rounds=5)
        work = f"Engine.step, {len(site.channels(dma))} channels, blocks of {minutes // 60} h"
        ours = rate(seconds["ours"], len(block))
        target = TARGET if site is wide_site else None
        correct = "alerts = one block's"
        forest = "" if used else ", no forest"
        rows.append(Row(f"{work}{forest}", "readings/s", "more", ours, None, "", correct, target))
    return rows
