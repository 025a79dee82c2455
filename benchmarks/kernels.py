"""Rolling statistics per event: 10,000 sensors shuffled against river, one series against pandas, bottleneck, numbagg."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from river import stats, utils

from benchmarks.measure import SEED, Row, Sample, each, race
from benchmarks.peers.environment import NotHereError
from benchmarks.peers.remote import Remote
from models.rings import STATISTICS, ring_dtype, roll_block
from tests import naive
from tests.cases import ALPHA, KERNELS, WINDOW, Case

SENSORS = 10_000
EVENTS = 200_000
BLOCK = 1_000
RIVER_SENSORS = 20  # river's objects of 10,000 sensors would take minutes to fill
RIVER_EVENTS = 2_000
SERIES = 50_000
TARGET_NS = 150.0


class Ours:
    """Events in blocks through `roll_block`, windows filled before."""

    def __init__(self, sensors: int, events: int, block: int) -> None:
        rng = np.random.default_rng(SEED)
        turns = -(-(WINDOW * sensors + events) // sensors)
        self.sensor = np.concatenate([rng.permutation(sensors) for _ in range(turns)])
        self.value = 50.0 + 10.0 * rng.standard_normal(len(self.sensor))
        self.expected, self.spread = np.full(len(self.sensor), 50.0), np.full(len(self.sensor), 10.0)
        self.states = np.zeros(sensors, ring_dtype(WINDOW))
        self.first = len(self.sensor) - events
        self.out = np.empty((events, len(STATISTICS)))
        self.block = block
        fill = slice(0, self.first)
        self._push(fill, np.empty((self.first, len(STATISTICS))))

    def _push(self, part: slice, out: NDArray[np.float64]) -> None:
        columns = (self.sensor[part], self.value[part], self.expected[part], self.spread[part])
        roll_block(*columns, ALPHA, self.states, out)

    def __call__(self) -> None:
        for begin in range(0, len(self.out), self.block):
            end = min(begin + self.block, len(self.out))
            self._push(slice(self.first + begin, self.first + end), self.out[begin:end])


class River:
    """The same eight per event. river has no rolling MAD: a rolling median of distances to the rolling median stands in."""

    def __init__(self, ours: Ours) -> None:
        self.sensors = [self._new() for _ in range(len(ours.states))]
        self.sensor, self.value = ours.sensor.tolist(), ours.value.tolist()
        self.first, self.out = ours.first, np.empty_like(ours.out)
        self._push(0, self.first, np.empty((self.first, len(STATISTICS))))

    @staticmethod
    def _new() -> tuple[Any, ...]:
        return (
            utils.Rolling(stats.Mean(), WINDOW),
            utils.Rolling(stats.Var(ddof=0), WINDOW),
            stats.RollingMin(WINDOW),
            stats.RollingMax(WINDOW),
            stats.RollingQuantile(0.5, WINDOW),
            stats.RollingQuantile(0.5, WINDOW),
            stats.EWMean(ALPHA),
        )

    def _push(self, begin: int, end: int, out: NDArray[np.float64]) -> None:
        for row, i in enumerate(range(begin, end)):
            x = self.value[i]
            mean, var, low, high, median, mad, ewma = self.sensors[self.sensor[i]]
            for statistic in (mean, var, low, high, median, ewma):
                statistic.update(x)
            centre = median.get()
            mad.update(abs(x - centre))
            out[row] = (
                mean.get(), var.get() ** 0.5, low.get(), high.get(), centre, mad.get(), ewma.get(), (x - 50.0) / 10.0
            )  # fmt: skip

    def __call__(self) -> None:
        self._push(self.first, len(self.sensor), self.out)


def _check_block(ours: Ours) -> str:
    """The last event of some sensors against the naive twin; run before anything else is pushed."""
    ours()
    sensors = np.unique(ours.sensor)[:: max(1, len(ours.states) // 10)]
    for which in sensors:
        at = np.flatnonzero(ours.sensor == which)
        value = ours.value[at]
        twin = naive.roll_block(np.zeros(len(at), int), value, ours.expected[at], ours.spread[at], ALPHA, WINDOW)
        assert_allclose(ours.out[at[-1] - ours.first], twin[-1], rtol=1e-9, err_msg=f"sensor {which}")
    return f"{len(sensors)} sensors = naive"


def _eight() -> list[Row]:
    large = Ours(SENSORS, EVENTS, BLOCK)
    correct = _check_block(large)
    small = Ours(RIVER_SENSORS, RIVER_EVENTS, BLOCK)
    river = River(small)
    small()
    river()
    # mean, std, min, max and seasonal z are defined alike; river's quantile takes one of the middle two
    assert_allclose(small.out[:, [0, 1, 2, 3, 7]], river.out[:, [0, 1, 2, 3, 7]], rtol=1e-6)
    seconds = race({"ours": large, "small": small, "river": river})
    peer = each(seconds["river"], RIVER_EVENTS, 1e9)
    return [
        Row(
            f"eight rolling statistics, {SENSORS:,} sensors, blocks of {BLOCK:,}", "ns/event", "less",
            each(seconds["ours"], EVENTS, 1e9), peer, f"river, {RIVER_SENSORS} sensors", correct, TARGET_NS,
        ),
        Row(
            f"eight rolling statistics, {RIVER_SENSORS} sensors, blocks of {BLOCK:,}", "ns/event", "less",
            each(seconds["small"], RIVER_EVENTS, 1e9), peer, f"river, {RIVER_SENSORS} sensors", "5 of 8 = river",
        ),
    ]  # fmt: skip


def _pandas(values: NDArray[np.float64], method: str) -> Callable[[], NDArray[np.float64]]:
    series = pd.Series(values)
    if method == "ewm":
        return lambda: series.ewm(alpha=ALPHA, adjust=False, ignore_na=True).mean().to_numpy()
    rolling = series.rolling(WINDOW, min_periods=1)
    if method == "std":
        return lambda: rolling.std(ddof=0).to_numpy()
    return lambda: getattr(rolling, method)().to_numpy()


def _series() -> Iterator[Row]:
    rng = np.random.default_rng(SEED)
    values = 50.0 + 10.0 * rng.standard_normal(SERIES)
    values[rng.random(SERIES) < 0.02] = np.nan
    with contextlib.ExitStack() as stack:
        absent: dict[str, Sample | str] = {}
        remote: Remote | None = None
        try:
            data = {"values": values, "window": np.array(WINDOW)}
            remote = stack.enter_context(Remote("statistics", "series_peer.py", data))
        except NotHereError as error:
            absent = {"bottleneck": str(error), "numbagg": str(error)}
        for case in KERNELS:
            if case.peer:
                yield _one_series(case, values, remote, absent)


def _one_series(case: Case, values: NDArray[np.float64], remote: Remote | None, absent: dict[str, Sample | str]) -> Row:
    arguments = case.arguments(values, WINDOW)
    got = case.kernel(*arguments)
    pandas = _pandas(values, case.peer)
    assert_allclose(got, pandas(), rtol=1e-9, err_msg=f"{case.name}, pandas")
    contestants: dict[str, Callable[[], Any]] = {"ours": lambda: case.kernel(*arguments), "pandas": pandas}
    for name in () if remote is None else remote.names:
        kernel, _, peer = name.partition("/")
        if kernel == case.name:
            # their sums run along the series, ours begin anew with each window
            assert_allclose(remote.result(name), got, rtol=1e-7, err_msg=name)
            contestants[peer] = remote.contestant(name)
    samples = {name: each(seconds, SERIES, 1e9) for name, seconds in race(contestants).items()}
    ours = samples.pop("ours")
    return Row.beside(
        f"{case.name}, one series", "ns/event", "less", ours, {**absent, **samples}, f"= {', '.join(samples)}"
    )  # fmt: skip


def run() -> Iterator[Row]:
    """All rows of this workload."""
    yield from _eight()
    yield from _series()
