"""Which DMA's engine reads what: readings of many meters -> one array for each DMA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.schema import Readings


def split(readings: Readings, subscribers: Sequence[Sequence[int]]) -> list[tuple[int, Readings]]:
    """DMA row and its readings, in order of arrival, for every DMA that reads any of them; ascending DMA rows.

    `readings` is a READING array (n,); `subscribers` is `Site.subscribers()`: for each meter row, its DMA rows. A
    boundary meter's readings appear in each of its DMAs. Readings of a meter without a subscriber appear nowhere.
    """
    return [(row, readings[which]) for row, which in shares(readings, subscribers)]


def shares(readings: Readings, subscribers: Sequence[Sequence[int]]) -> list[tuple[int, NDArray[np.int64]]]:
    """As `split`, with the places of the readings in place of the readings.

    Cost follows the readings and the meters present, not the meters of the site.
    """
    if not len(readings):
        return []
    # meters present, and for each reading which of them
    meters, which = np.unique(readings["meter"], return_inverse=True)
    wanted = [subscribers[meter] for meter in meters.tolist()]
    fanout = np.array([len(dmas) for dmas in wanted], np.int64)
    if not fanout.any():
        return []
    flat = np.array([dma for dmas in wanted for dma in dmas], np.int64)
    start = np.cumsum(fanout) - fanout

    # copy k of reading i goes to the k-th subscriber of its meter
    copies = fanout[which]
    reading = np.repeat(np.arange(len(readings)), copies)
    copy = np.arange(len(reading)) - np.repeat(np.cumsum(copies) - copies, copies)
    dma = flat[start[which[reading]] + copy]

    order = np.argsort(dma, kind="stable")  # stable: arrival order is kept within a DMA
    dma, reading = dma[order], reading[order]
    edges = np.flatnonzero(np.diff(dma)) + 1
    rows = dma[np.concatenate(([0], edges))].tolist()
    return list(zip(rows, np.split(reading, edges), strict=True))
