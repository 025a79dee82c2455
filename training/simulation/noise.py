"""From true flows and pressures to what meters send: errors, resolution, gaps, repeats, late arrivals."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.schema import FLOW, GOOD, PRESSURE, READING, Readings

Floats = NDArray[np.float64]

KPA_PER_M: Final = 9.80665
FLOW_NOISE: Final = 0.0075  # of the reading, standard deviation: within the 0.5-1 % of district meters
FLOW_BIAS: Final = 0.005  # of the reading, one value per meter: calibration
FLOW_RESOLUTION_M3H: Final = 0.01
PRESSURE_NOISE_M: Final = 0.05
PRESSURE_RESOLUTION_M: Final = 0.01
GAP_SHARE: Final = 0.006  # of all readings: half lost one by one, half in outages of an hour or two
DUPLICATE_SHARE: Final = 0.004
LATE_SHARE: Final = 0.01
LATE_MINUTES: Final = (5.0, 25.0)


def measure_flow(rng: np.random.Generator, true_m3h: Floats) -> Floats:
    """(steps, meters) m3/h as the meters read it."""
    bias = rng.normal(1.0, FLOW_BIAS, true_m3h.shape[1])
    read = true_m3h * bias * rng.normal(1.0, FLOW_NOISE, true_m3h.shape)
    return np.round(read / FLOW_RESOLUTION_M3H) * FLOW_RESOLUTION_M3H


def measure_pressure(rng: np.random.Generator, true_m: Floats) -> Floats:
    """(steps, loggers) metres of head as the loggers read it."""
    read = true_m + rng.normal(0.0, PRESSURE_NOISE_M, true_m.shape)
    return np.round(read / PRESSURE_RESOLUTION_M) * PRESSURE_RESOLUTION_M


def stick(read: Floats, stuck: NDArray[np.bool_]) -> None:
    """Repeat, in place, the last value before a stretch of `stuck` slots. Both are (steps,); the first is not stuck."""
    for step in np.flatnonzero(stuck):
        read[step] = read[step - 1]


def lost(rng: np.random.Generator, shape: tuple[int, int], keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(steps, meters) True where a reading never arrives; never where `keep` (steps, meters) is set."""
    steps, meters = shape
    gone = rng.random(shape) < GAP_SHARE / 2
    for _ in range(round(steps * meters * GAP_SHARE / 2 / 6)):
        start, meter = int(rng.integers(steps)), int(rng.integers(meters))
        gone[start : start + int(rng.integers(4, 9)), meter] = True
    return gone & ~keep


def arrivals(
    rng: np.random.Generator,
    ends_ms: NDArray[np.int64],
    flow: Floats,
    head_m: Floats,
    gone: NDArray[np.bool_],
) -> tuple[Readings, NDArray[np.int64]]:
    """READING array in order of arrival and (n,) when each arrived; a meter's row is its column, flow meters first.

    ends_ms: (steps,); flow: (steps, flow meters) m3/h; head_m: (steps, loggers); gone: (steps, all meters).
    """
    values = np.hstack([flow, head_m * KPA_PER_M])
    steps, meters = values.shape
    step, meter = (index.ravel() for index in np.indices((steps, meters)))
    there = ~gone.ravel()
    step, meter = step[there], meter[there]
    readings = np.zeros(len(step), READING)
    readings["time_ms"], readings["meter"] = ends_ms[step], meter
    readings["value"] = np.round(values.ravel()[there], 4)
    readings["kind"] = np.where(meter < flow.shape[1], FLOW, PRESSURE)
    readings["quality"] = GOOD

    arrival_ms = readings["time_ms"] + rng.integers(2_000, 40_000, len(readings))
    late = rng.random(len(readings)) < LATE_SHARE
    arrival_ms[late] += (rng.uniform(*LATE_MINUTES, int(late.sum())) * 60_000).astype(np.int64)
    again = np.flatnonzero(rng.random(len(readings)) < DUPLICATE_SHARE)
    again_ms = arrival_ms[again] + rng.integers(1_000, 1_800_000, len(again))
    everything = np.concatenate([readings, readings[again]])
    arrived_ms = np.concatenate([arrival_ms, again_ms])
    order = np.argsort(arrived_ms, kind="stable")
    return everything[order], arrived_ms[order]
