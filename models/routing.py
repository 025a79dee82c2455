"""Which DMA's engine reads what: readings of many meters -> the readings of each DMA."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.schema import Readings
from models.topology import Subscribers


class Shares(NamedTuple):
    """The readings of DMA row `dmas[i]` are those at `order[edges[i] : edges[i + 1]]`, in order of arrival."""

    dmas: NDArray[np.int64]
    """(k,) ascending: the DMAs that read any of the readings."""
    order: NDArray[np.int64]
    """(m,) places of readings; one of a boundary meter or of a neighbour's inflow is there for each of its DMAs."""
    edges: NDArray[np.int64]
    """(k + 1,)"""


def shares(readings: Readings, subscribers: Subscribers) -> Shares:
    """Who reads what of READING (n,). Readings of a meter without a subscriber appear nowhere."""
    return Shares(*deal(readings["meter"], subscribers.start, subscribers.dma))


def split(readings: Readings, subscribers: Subscribers) -> list[tuple[int, Readings]]:
    """DMA row and its readings, in order of arrival, for every DMA that reads any of them; ascending DMA rows."""
    dmas, order, edges = shares(readings, subscribers)
    by_dma = gather(readings, order)
    return [
        (dma, by_dma[begin:end])
        for dma, begin, end in zip(dmas.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]


@njit(cache=True)
def gather(readings: Readings, order: NDArray[np.int64]) -> Readings:
    """`readings[order]`, which costs numpy 65 ns for each row of 22 bytes, against 2 (2026-11-27)."""
    found = np.empty(len(order), readings.dtype)
    for i in range(len(order)):
        found[i] = readings[order[i]]
    return found


@njit(cache=True)
def deal(
    meters: NDArray[np.int32], start: NDArray[np.int32], dma: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """`Shares` of readings of these meter rows (n,): a counting sort by DMA row, stable, two passes.

    Cost follows the readings and the highest DMA row. Oracle: the loop in tests/test_routing.py.
    """
    most, copies = -1, 0
    for meter in meters:
        for k in range(start[meter], start[meter + 1]):
            most = max(most, dma[k])
            copies += 1
    at = np.zeros(most + 2, np.int64)  # at[d + 1] counts DMA d, and is then where its next reading goes
    for meter in meters:
        for k in range(start[meter], start[meter + 1]):
            at[dma[k] + 1] += 1
    present = 0
    for d in range(most + 1):
        present += at[d + 1] > 0
    dmas, edges = np.empty(present, np.int64), np.zeros(present + 1, np.int64)
    row = 0
    for d in range(most + 1):
        if at[d + 1] > 0:
            dmas[row] = d
            edges[row + 1] = edges[row] + at[d + 1]
            row += 1
        at[d + 1] += at[d]
    order = np.empty(copies, np.int64)
    for reading in range(len(meters)):
        meter = meters[reading]
        for k in range(start[meter], start[meter + 1]):
            order[at[dma[k]]] = reading
            at[dma[k]] += 1
    return dmas, order, edges
