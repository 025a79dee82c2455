"""Leaks as `nightline inject` adds them, beside the same leaks in EPANET's town: how far is the arithmetic from hydraulics?

    .venv/bin/python -m benchmarks.injection [--every 3]

The town of `nightline demo` runs three weeks without a leak; what its meters read of these, noise included, is all that the
injection knows. Then it runs again, with an orifice of 15 % of a DMA's inflow at one junction in the last week.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.network import parse_site
from models.schema import FLOW, PRESSURE, READING
from training.history import Window
from training.injection.leaks import Injector, Planted, added_at
from training.injection.recorded import DAY_MS, Recorded
from training.simulation import noise, run, town
from training.simulation.demand import local_hours

WEEKS: Final = 3
SHARE: Final = 0.15
"""Of the DMA's mean inflow."""
FLOWS: Final = len(town.FLOW_METERS)


@dataclass(frozen=True)
class Outcome:
    """What a leak does, in the mean of a week: in EPANET, and as it is injected."""

    dma: str
    junction: str
    inflow_m3h: tuple[float, float]
    """Of the DMA, net."""
    swing_m3h: tuple[float, float]
    """Standard deviation of the same, as the pressure moves it."""
    falls_kpa: dict[str, tuple[float, float]]
    """By logger."""


class Twin:
    """The town without a leak, and what its meters read."""

    def __init__(self, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.starts_ms = run.slot_starts(WEEKS)
        base = {name: junction.base_demand for name, junction in town.build_network().junctions()}
        self._names, self._demand = run.demands(rng, base, self.starts_ms, [])
        self._heads = run.source_heads(rng, local_hours(self.starts_ms, town.TIMEZONE))
        self._calm = run.emitter_coefficients(self._names, self.starts_ms, [])
        self.flow_m3h, self.pressure_m = self._solved(self._calm)
        self.last_week = self.starts_ms >= self.starts_ms[-1] - 7 * DAY_MS
        site = parse_site(town.site_toml(), town.network_toml())
        read_m = noise.measure_pressure(rng, self.pressure_m)
        block = np.zeros((len(self.starts_ms), len(town.METER_IDS)), READING)
        block["time_ms"] = (self.starts_ms + run.SLOT_MS)[:, np.newaxis]
        block["meter"] = np.arange(len(town.METER_IDS))
        block["kind"][:, :FLOWS], block["kind"][:, FLOWS:] = FLOW, PRESSURE
        block["value"] = np.hstack([noise.measure_flow(rng, self.flow_m3h), read_m * noise.KPA_PER_M])
        self.injector = Injector(Recorded(site, [Window(0, 1, block.ravel())]), town.EMITTER_EXPONENT)

    def _solved(self, coefficients: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        closed, watched = np.zeros(len(self.starts_ms), np.bool_), [node for _, node, _ in town.PRESSURE_LOGGERS]
        flow, _, pressure = run.solve(
            self._names, self._demand, coefficients, self._heads, closed, watched, lambda _: None
        )  # fmt: skip
        return flow, pressure

    def leak_at(self, dma: str, junction: str) -> Outcome:
        """One leak, both ways."""
        size = SHARE * town.AREA[dma].mean_m3h
        columns = [at for at, (_, _, area) in enumerate(town.PRESSURE_LOGGERS) if area == dma]
        # FAVAD's L0 is the flow at the loggers' mean pressure P0
        coefficients = self._calm.copy()
        coefficients[self.last_week, self._names.index(junction)] += size / self.pressure_m[:, columns].mean()
        flow, pressure = self._solved(coefficients)
        started_ms = int(self.starts_ms[self.last_week][0])
        added = self.injector.additions([Planted("x", dma, started_ms, int(self.starts_ms[-1]) + run.SLOT_MS, size)])
        times_ms = self.starts_ms[self.last_week] + run.SLOT_MS
        signs = np.array([(m.to_dma == dma) - 1.0 * (m.from_dma == dma) for m in town.FLOW_METERS])
        real = ((flow - self.flow_m3h) @ signs)[self.last_week]
        ours = sum((sign * added_at(added.get((at, FLOW), []), times_ms) for at, sign in enumerate(signs)), np.zeros(1))
        fell = (pressure - self.pressure_m)[self.last_week].mean(axis=0) * noise.KPA_PER_M
        falls = {
            town.METER_IDS[FLOWS + at]: (
                float(fell[at]), float(added_at(added.get((FLOWS + at, PRESSURE), []), times_ms).mean())
            )
            for at in columns
        }  # fmt: skip
        means, swings = (float(real.mean()), float(ours.mean())), (float(real.std()), float(ours.std()))
        return Outcome(dma, junction, means, swings, falls)


def rows_of(outcomes: Iterable[Outcome]) -> list[list[str]]:
    """A row a logger: what leaks all over its DMA do to it in EPANET, and what ours does."""
    rows = [["DMA", "leaks at", "inflow: EPANET", "ours", "logger", "falls by, kPa: EPANET", "ours"]]
    every = list(outcomes)
    for dma in dict.fromkeys(outcome.dma for outcome in every):
        ours = [outcome for outcome in every if outcome.dma == dma]
        inflow = _spread([outcome.inflow_m3h[0] for outcome in ours])
        for logger in ours[0].falls_kpa:
            falls = _spread([-outcome.falls_kpa[logger][0] for outcome in ours])
            added = -ours[0].falls_kpa[logger][1]
            rows.append(
                [dma, f"{len(ours)} junctions", inflow, f"{ours[0].inflow_m3h[1]:.1f}", logger, falls, f"{added:.1f}"]
            )
    return rows


def _spread(values: Sequence[float]) -> str:
    return f"{np.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Leaks at every n-th junction of every DMA, as a table."""
    from benchmarks.accuracy import markdown  # noqa: PLC0415 - a table needs it, a test of the twin does not

    parser = argparse.ArgumentParser(prog="python -m benchmarks.injection", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=3, help="every so many junctions have a leak")
    every: Any = parser.parse_args(arguments).every
    twin = Twin()
    places = [(area.id, junction) for area in town.AREAS for junction in area.junctions[::every]]
    print(markdown(rows_of(twin.leak_at(*place) for place in places)))


if __name__ == "__main__":
    main()
