"""The slots of a history as the engine judged them, one `Engine` a DMA: training cannot compute features otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.engine import Engine, StepResult
from models.network import Site, longest_lateness_minutes
from models.routing import split
from models.schema import LEAK_TYPES, Readings
from training.detector_law import Days
from training.history import Window

if TYPE_CHECKING:
    from training.leave_out import Known

FIT, MISSING, WARMING, OPEN, NOT_FINITE = range(5)
"""What the engine says of a slot: fit to learn from, or the first of these that holds."""
Change = Callable[[str, Readings], Readings]


@dataclass
class Slots:
    """Every slot of one DMA that was closed, in order of time; parts of one step each until `joined`."""

    dma: str
    slot_ms: int
    _ends: list[NDArray[np.int64]] = field(default_factory=list)
    _features: list[NDArray[np.float32]] = field(default_factory=list)
    _states: list[NDArray[np.uint8]] = field(default_factory=list)
    alarms_ms: list[int] = field(default_factory=list)
    """When leak alarms were raised."""
    days: Days | None = None
    """What calibrations are learned from."""

    def take(self, step: StepResult) -> None:
        """Add the slots of one step."""
        found = step.detections
        if self.days is not None:
            self.days.take(step)
        self.alarms_ms += [a.detected_at for a in step.alerts if a.event == "raised" and a.type in LEAK_TYPES]
        if not len(found):
            return
        features = np.ascontiguousarray(found["features"], np.float32)
        state = np.where(found["learnable"], np.where(np.isfinite(features).all(axis=1), FIT, NOT_FINITE), OPEN)
        # a slot without a residual is not learnable either: it has no flow, or nothing that it is held against
        state[~found["learnable"] & np.isnan(features[:, 0])] = WARMING
        state[np.isnan(found["observed_m3h"])] = MISSING
        self._ends.append(found["slot_end_ms"].copy())
        self._features.append(features)
        self._states.append(state.astype(np.uint8))

    def joined(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.uint8]]:
        """Ends (n,) epoch ms, features (n, F) and states (n,)."""
        if not self._ends:
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float32), np.zeros(0, np.uint8)
        if len(self._ends) > 1:
            self._ends = [np.concatenate(self._ends)]
            self._features = [np.concatenate(self._features)]
            self._states = [np.concatenate(self._states)]
        return self._ends[0], self._features[0], self._states[0]


def collect(
    site: Site,
    windows: Iterable[Window],
    dmas: Sequence[str],
    *,
    until_ms: int | None = None,
    known: Sequence[Known] | None = None,
    change: Change | None = None,
    on_window: Callable[[Window], None] | None = None,
) -> dict[str, Slots]:
    """The slots of `dmas`, sorted by id: neither the order in network.toml nor the cut of the windows matters.

    Stops where no slot that ends by `until_ms` can still be open. With `known` days are kept too, to learn calibrations
    from. `change` may alter each DMA's readings before its engine sees them. Memory: 41 bytes a slot, 150 a day.
    """
    lateness_ms = longest_lateness_minutes(site.meters) * 60_000
    engines = {site.dma_row[dma]: Engine(site, dma) for dma in sorted(dmas)}
    found = {row: Slots(site.dmas[row].id, site.dmas[row].slot_minutes * 60_000) for row in engines}
    for slots in found.values() if known is not None else ():
        slots.days = Days(slots.dma, slots.slot_ms, site.timezone, known or ())
    subscribers = site.subscribers()
    for window in windows:
        if until_ms is not None and window.start_ms > until_ms + lateness_ms:
            break
        for row, readings in split(window.readings, subscribers):
            if row in engines:
                block = readings if change is None else change(site.dmas[row].id, readings)
                found[row].take(engines[row].step(block, "replay"))
        if on_window is not None:
            on_window(window)
    return {slots.dma: slots for slots in found.values()}
