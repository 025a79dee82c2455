"""One table of the kernels: what each takes, made of a series. Tests and benchmarks both walk it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import kernels, rings
from tests import naive

WINDOW = 96  # a day of quarter-hours
ALPHA = 0.1
DRIFT = 0.5
SENSORS = 5  # of `roll_block`'s test


class Case(NamedTuple):
    """A kernel, its naive twin, and the arguments of both for a series."""

    name: str
    arguments: Callable[[NDArray[np.float64], int], tuple[Any, ...]]
    """Of a series and a window."""
    kernel: Callable[..., Any]
    oracle: Callable[..., Any]
    peer: str = ""
    """The method of a pandas rolling window that does the same, where there is one."""


def _of_series(function: Callable[..., float]) -> Callable[..., NDArray[np.float64]]:
    """A scalar function at every entry of its array arguments."""

    def mapped(*columns: Any) -> NDArray[np.float64]:
        return np.array([function(*row) for row in zip(*np.broadcast_arrays(*columns), strict=True)], np.float64)

    return mapped


def _block(values: NDArray[np.float64], window: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(values.size)
    sensor = rng.integers(0, SENSORS, values.size)
    expected = rng.normal(size=values.size)
    spread = np.where(rng.random(values.size) < 0.1, 0.0, 1.0)
    return sensor, values, expected, spread, ALPHA, window


def _roll_block(sensor: Any, value: Any, expected: Any, spread: Any, alpha: float, window: int) -> NDArray[np.float64]:
    out = np.empty((len(sensor), len(rings.STATISTICS)))
    rings.roll_block(sensor, value, expected, spread, alpha, np.zeros(SENSORS, rings.ring_dtype(window)), out)
    return out


def _window(name: str) -> Case:
    return Case(name, lambda values, _: (values,), getattr(kernels, name), getattr(naive, name))


def _rolling(name: str, peer: str) -> Case:
    return Case(name, lambda values, window: (values, window), getattr(kernels, name), getattr(naive, name), peer)


def _scalar(name: str, arguments: Callable[[NDArray[np.float64], int], tuple[Any, ...]]) -> Case:
    return Case(name, arguments, _of_series(getattr(kernels, name)), _of_series(getattr(naive, name)))


KERNELS: tuple[Case, ...] = (
    *(_window(f"window_{name}") for name in ("mean", "std", "min", "max", "median", "mad")),
    *(_rolling(f"rolling_{name}", name) for name in ("mean", "std", "min", "max", "median")),
    _rolling("rolling_mad", ""),
    _scalar("ewma", lambda values, _: (values[::-1], values, ALPHA)),
    # a spread of next to nothing would only overflow
    _scalar("seasonal_z", lambda values, _: (values, values[::-1], np.where(np.abs(values) < 1e-9, 0.0, values))),
    _scalar("cusum", lambda values, _: (np.abs(values[::-1]), values, DRIFT)),
    Case("ewma_series", lambda values, _: (values, ALPHA), kernels.ewma_series, naive.ewma_series, "ewm"),
    Case("cusum_series", lambda values, _: (values, DRIFT), kernels.cusum_series, naive.cusum_series),
    Case("roll_block", _block, _roll_block, naive.roll_block),
)
