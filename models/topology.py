"""Which meters a DMA touches and which DMAs lie beside it, found in one pass over the site and then looked up."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.network import Meter


class Subscribers(NamedTuple):
    """The DMA rows of meter row m are `dma[start[m] : start[m + 1]]`, ascending; 8 bytes a meter of one DMA."""

    start: NDArray[np.int32]
    """(meters + 1,)"""
    dma: NDArray[np.int32]
    """(pairs,)"""


class Topology:
    """By row of the DMA table. Four bytes for each end of a meter, and for each of a network flow or level meter again."""

    def __init__(self, dma_row: Mapping[str, int], meters: Iterable[Meter], valves: Iterable[tuple[str, str]]) -> None:
        self._near: list[set[int]] = [set() for _ in dma_row]
        self._touching = [array("i") for _ in dma_row]
        self._shared = [array("i") for _ in dma_row]
        for row, meter in enumerate(meters):
            ends = [dma_row[end] for end in (meter.dma, meter.from_dma, meter.to_dma) if end is not None]
            for end in ends:
                self._touching[end].append(row)
                if meter.is_network_flow or meter.kind == "level":
                    self._shared[end].append(row)
            if len(ends) == 2:
                self._join(*ends)
        for a, b in valves:
            self._join(dma_row[a], dma_row[b])

    def _join(self, a: int, b: int) -> None:
        self._near[a].add(b)
        self._near[b].add(a)

    def neighbours(self, dma: int) -> list[int]:
        """Rows of the DMAs that share a boundary meter or valve with this one, ascending."""
        return sorted(self._near[dma])

    def channels(self, dma: int) -> tuple[int, ...]:
        """Rows of the DMA's own meters and of its neighbours' flows and levels, ascending."""
        rows = set(self._touching[dma])
        return tuple(sorted(rows.union(*(self._shared[near] for near in self._near[dma]))))

    def subscribers(self, meters: int) -> Subscribers:
        """For each of so many meter rows, the DMA rows whose channels it is in."""
        channels = [self.channels(dma) for dma in range(len(self._near))]
        sizes = np.array([len(rows) for rows in channels], np.int64)
        meter = np.fromiter((row for rows in channels for row in rows), np.int32, int(sizes.sum()))
        dma = np.repeat(np.arange(len(channels), dtype=np.int32), sizes)
        start = np.zeros(meters + 1, np.int32)
        np.cumsum(np.bincount(meter, minlength=meters), out=start[1:])
        return Subscribers(start, dma[np.argsort(meter, kind="stable")])
