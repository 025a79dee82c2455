"""`Engine.step`: the one path from readings to alerts, for live, replay, backtest, training and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models import explain
from models.forest import EMPTY
from models.loop import close_slots
from models.params import params_of
from models.schema import BATTERY, NEVER, Alert, Readings, Records
from models.slots import PENDING, admit, fill_slots, slot_end
from models.state import DETECTION, EVENT, Buffers, new_buffers, restore, snapshot

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.network import Site

CHUNK_SLOTS: Final = 256  # slots judged in one call: bounds memory when a long backlog closes at once

REVISIONS_A_SLOT: Final = 3  # of one row of the event table: ended, raised anew, revised


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one block of readings brought about."""

    alerts: list[Alert]
    """Every new revision, in event-time order."""
    detections: Records
    """One DETECTION row per closed slot."""
    accepted: int
    late: int
    """Readings whose slot was closed already."""
    duplicates: int
    """Readings superseded by a later one of the same meter and time."""


class Engine:
    """Watches one DMA. Its state is independent of every other DMA's.

    Deterministic: the same readings give the same alerts, however they are cut into blocks and in whatever order they
    come within the site's lateness.
    """

    def __init__(self, site: Site, dma: str, bundle: Bundle | None = None) -> None:
        self.site, self.dma, self.bundle = site, dma, bundle
        self._params = params_of(site, dma)
        rows = site.channels(dma)
        self._meters = tuple(site.meters[row] for row in rows)
        self._channel_of = np.full(len(site.meters), -1, np.int32)
        self._channel_of[list(rows)] = np.arange(len(rows), dtype=np.int32)
        series = self._params.inflows + self._params.pressure_channel.shape[0]
        self._buffers = new_buffers(len(rows), series, site.dmas[site.dma_row[dma]].slot_minutes, site.lateness_minutes)
        self._pending: Records = np.zeros(0, PENDING)
        self._forest = EMPTY if bundle is None else bundle.forest

    @property
    def watermark_ms(self) -> int:
        """End of the newest closed slot, epoch ms; NEVER before the first reading."""
        return int(self._buffers.row[0]["frontier_ms"])

    def step(self, readings: Readings, origin: Literal["live", "replay"] = "live") -> StepResult:
        """Take readings in order of arrival, close what is complete, judge it.

        `readings` (n,) READING with rows of the site's meter table; meters of other DMAs are ignored. A reading that
        comes after its slot was closed is counted as late and changes nothing.
        """
        channel = self._channel_of[readings["meter"]]
        keep = (channel >= 0) & (readings["kind"] != BATTERY)
        readings, channel = readings[keep], channel[keep]
        accepted = np.zeros(len(readings), np.bool_)
        p, b = self._params, self._buffers
        closed_ms = int(b.row[0]["frontier_ms"])
        frontier_ms = int(
            admit(
                channel,
                np.ascontiguousarray(readings["time_ms"]),
                b.channels,
                b.heard,
                p.is_waited_for,
                closed_ms,
                p.slot_ms,
                p.lateness_ms,
                accepted,
            )
        )
        waited = p.is_waited_for[channel]
        fresh = np.zeros(int(accepted.sum()), PENDING)
        for name in ("time_ms", "value", "kind", "quality"):
            fresh[name] = readings[name][accepted]
        fresh["channel"] = channel[accepted]
        self._pending = np.concatenate([self._pending, fresh])
        if closed_ms == NEVER:
            # the grid begins a lateness before the first reading; nothing earlier was ever open
            closed_ms = self._first_frontier(readings["time_ms"][waited])
        alerts, detections, duplicates = self._close(closed_ms, frontier_ms, origin)
        return StepResult(
            alerts=alerts,
            detections=detections,
            accepted=int(accepted.sum() + (~waited).sum()),
            late=int((waited & ~accepted).sum()),
            duplicates=duplicates,
        )

    def _first_frontier(self, times_ms: NDArray[np.int64]) -> int:
        if len(times_ms) == 0:
            return NEVER
        p = self._params
        return int(slot_end(int(times_ms[0]), p.slot_ms) - p.slot_ms - slot_end(p.lateness_ms, p.slot_ms))

    def _close(
        self, closed_ms: int, frontier_ms: int, origin: Literal["live", "replay"]
    ) -> tuple[list[Alert], Records, int]:
        """Judge the slots that end in (closed_ms, frontier_ms]."""
        p, b = self._params, self._buffers
        b.row[0]["frontier_ms"] = frontier_ms
        alerts: list[Alert] = []
        judged: list[Records] = []
        duplicates = 0
        while closed_ms < frontier_ms:
            until_ms = min(frontier_ms, closed_ms + CHUNK_SLOTS * p.slot_ms)
            ends_ms = np.arange(closed_ms + p.slot_ms, until_ms + 1, p.slot_ms, dtype=np.int64)
            ready = self._pending["time_ms"] <= until_ms
            due = self._pending[ready]
            self._pending = self._pending[~ready]
            values = np.full((len(ends_ms), len(self._meters)), np.nan)
            order = np.lexsort((due["time_ms"], due["channel"]))
            duplicates += int(fill_slots(due, order, b.channels, int(ends_ms[0]), p.slot_ms, values))
            detections = np.zeros(len(ends_ms), DETECTION)
            transitions = np.zeros(REVISIONS_A_SLOT * len(b.events) * len(ends_ms), EVENT)
            written, count = close_slots(b, p, self._forest, values, ends_ms, detections, transitions)
            judged.append(detections[:written])
            alerts += [
                explain.alert(self.site, self.dma, self._meters, transition, self.bundle, origin)
                for transition in transitions[:count]
            ]
            closed_ms = until_ms
        return alerts, np.concatenate(judged) if judged else np.zeros(0, DETECTION), duplicates

    def snapshot(self) -> bytes:
        """All state as one checksummed blob; `restore` of it continues exactly here."""
        return snapshot(self.dma, self.site.fingerprint, {**self._buffers._asdict(), "pending": self._pending})

    def restore(self, blob: bytes) -> None:
        """Continue from a snapshot. Raises ValueError when it is torn or not of this DMA, network and format."""
        now = {**self._buffers._asdict(), "pending": self._pending}
        arrays = restore(blob, self.dma, self.site.fingerprint, {name: array.dtype for name, array in now.items()})
        self._pending = arrays.pop("pending")
        self._buffers = Buffers(**arrays)
