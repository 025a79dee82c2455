"""`Engine.step`: the one path from readings to alerts, for live, replay, backtest, training and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import explain
from models.forest import EMPTY
from models.gaps import amend
from models.loop import close_slots
from models.network import longest_lateness_minutes
from models.params import params_of
from models.schema import BAD, BATTERY, FLOW, NEVER, Alert, Readings, Records
from models.slots import LATE, OPEN, PENDING, admit, fill_slots, fit_ring, slot_end
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
    """Readings whose slot was closed already; of customer meters, those beyond their lateness."""
    duplicates: int
    """Readings superseded by a later one of the same meter and time."""


class MeterHealth(NamedTuple):
    """What an engine knows of how a meter reports."""

    meter: str
    last_ms: int | None
    """Newest observedAt, None before the first reading."""
    readings: int
    """Taken in, late ones included."""
    late: int


@dataclass
class _Found:
    """What the slots closed in one step have brought so far."""

    alerts: list[Alert] = field(default_factory=list)
    detections: list[Records] = field(default_factory=list)
    duplicates: int = 0


class Engine:
    """Watches one DMA. Its state is independent of every other DMA's.

    Deterministic: the same readings give the same alerts, however they are cut into blocks and in whatever order they
    come within the meters' lateness.
    """

    def __init__(self, site: Site, dma: str, bundle: Bundle | None = None) -> None:
        self.site, self.dma, self.bundle = site, dma, bundle
        self._params = params_of(site, dma)
        self._fingerprint = site.fingerprint(dma)
        rows = site.channels(dma)
        self._meters = tuple(site.meters[row] for row in rows)
        self._channel_of = np.full(len(site.meters), -1, np.int32)
        self._channel_of[list(rows)] = np.arange(len(rows), dtype=np.int32)
        series = self._params.inflows + self._params.pressure_channel.shape[0]
        slot_minutes, longest = site.dmas[site.dma_row[dma]].slot_minutes, longest_lateness_minutes(self._meters)
        self._buffers = new_buffers(len(rows), series, slot_minutes, longest)
        self._pending: Records = np.zeros(0, PENDING)
        self._forest = EMPTY if bundle is None else bundle.forest

    @property
    def watermark_ms(self) -> int:
        """End of the newest closed slot, epoch ms; NEVER before the first reading."""
        return int(self._buffers.row[0]["frontier_ms"])

    @property
    def open_events(self) -> int:
        """Events that are under way."""
        return int((self._buffers.events["type"] >= 0).sum())

    def step(self, readings: Readings, origin: Literal["live", "replay"] = "live") -> StepResult:
        """Take readings in order of arrival, close what is complete, judge it.

        `readings` (n,) READING with rows of the site's meter table; meters of other DMAs are ignored. A reading that
        comes after its slot was closed is counted as late; it may add to what an open event has lost, and changes nothing
        else.
        """
        channel = self._channel_of[readings["meter"]]
        keep = (channel >= 0) & (readings["kind"] != BATTERY)
        readings, channel = readings[keep], channel[keep]
        verdicts, frontiers_ms = np.zeros(len(readings), np.uint8), np.zeros(len(readings), np.int64)
        p, b = self._params, self._buffers
        closed_ms = int(b.row[0]["frontier_ms"])
        frontier_ms = int(
            admit(
                channel, np.ascontiguousarray(readings["time_ms"]), b.channels, b.heard, p.is_waited_for, p.lateness_ms,
                p.longest_lateness_ms, p.slot_ms, closed_ms, verdicts, frontiers_ms,
            )
        )  # fmt: skip
        is_open = verdicts == OPEN
        fresh = np.zeros(int(is_open.sum()), PENDING)
        for name in ("time_ms", "value", "kind", "quality"):
            fresh[name] = readings[name][is_open]
        fresh["channel"] = channel[is_open]
        self._pending = np.concatenate([self._pending, fresh])
        if closed_ms == NEVER:
            # the grid begins a lateness before the first reading; nothing earlier was ever open
            closed_ms = self._first_frontier(readings["time_ms"][p.is_waited_for[channel]])
        found = _Found()
        is_late = verdicts == LATE
        # a late reading meets the slots that were closed when it came, however the readings were grouped
        filling = is_late & (p.signs[0][channel] != 0) & (readings["kind"] == FLOW) & (readings["quality"] != BAD)
        for at in np.flatnonzero(filling).tolist():
            self._close(closed_ms, int(frontiers_ms[at]), origin, found)
            closed_ms = max(closed_ms, int(frontiers_ms[at]))
            amend(b, p, channel[at], slot_end(int(readings["time_ms"][at]), p.slot_ms), readings["value"][at])
        self._close(closed_ms, frontier_ms, origin, found)
        return StepResult(
            alerts=found.alerts,
            detections=np.concatenate(found.detections) if found.detections else np.zeros(0, DETECTION),
            accepted=int((~is_late).sum()),
            late=int(is_late.sum()),
            duplicates=found.duplicates,
        )

    def _first_frontier(self, times_ms: NDArray[np.int64]) -> int:
        if len(times_ms) == 0:
            return NEVER
        p = self._params
        return int(slot_end(int(times_ms[0]), p.slot_ms) - p.slot_ms - slot_end(p.longest_lateness_ms, p.slot_ms))

    def _close(self, closed_ms: int, frontier_ms: int, origin: Literal["live", "replay"], found: _Found) -> None:
        """Judge the slots that end in (closed_ms, frontier_ms]."""
        p, b = self._params, self._buffers
        b.row[0]["frontier_ms"] = max(frontier_ms, closed_ms)
        while closed_ms < frontier_ms:
            until_ms = min(frontier_ms, closed_ms + CHUNK_SLOTS * p.slot_ms)
            ends_ms = np.arange(closed_ms + p.slot_ms, until_ms + 1, p.slot_ms, dtype=np.int64)
            ready = self._pending["time_ms"] <= until_ms
            due = self._pending[ready]
            self._pending = self._pending[~ready]
            values = np.full((len(ends_ms), len(self._meters)), np.nan)
            order = np.lexsort((due["time_ms"], due["channel"]))
            found.duplicates += int(fill_slots(due, order, b.channels, int(ends_ms[0]), p.slot_ms, values))
            detections = np.zeros(len(ends_ms), DETECTION)
            transitions = np.zeros(REVISIONS_A_SLOT * len(b.events) * len(ends_ms), EVENT)
            written, count = close_slots(b, p, self._forest, values, ends_ms, detections, transitions)
            found.detections.append(detections[:written])
            found.alerts += [
                explain.alert(self.site, self.dma, self._meters, transition, self.bundle, origin)
                for transition in transitions[:count]
            ]
            closed_ms = until_ms

    def meter_health(self) -> list[MeterHealth]:
        """How each meter that this DMA reports on reports, in the site's order; neighbours' meters are left out."""
        return [
            MeterHealth(
                meter.id,
                None if row["latest_ms"] == NEVER else int(row["latest_ms"]),
                int(row["readings"]),
                int(row["late"]),
            )
            for meter, row in zip(self._meters, self._buffers.channels, strict=True)
            if meter.home == self.dma
        ]

    def snapshot(self) -> bytes:
        """All state as one checksummed blob; `restore` of it continues exactly here."""
        return snapshot(self.dma, self._fingerprint, self._arrays())

    def restore(self, blob: bytes) -> None:
        """Continue from a snapshot. Raises ValueError when it is torn or not of this DMA, network and format."""
        arrays = restore(blob, self.dma, self._fingerprint, self._arrays())
        pending = arrays.pop("pending")
        if not 0 <= arrays["row"][0]["position"] < len(arrays["flow_z"]):
            raise ValueError(f"state of {self.dma!r}: found position {arrays['row'][0]['position']} in its rings")
        if len(pending) and not 0 <= pending["channel"].min() <= pending["channel"].max() < len(self._meters):
            raise ValueError(f"state of {self.dma!r}: found readings of meters that it does not have")
        rows = len(self._buffers.heard)
        arrays["heard"] = fit_ring(arrays["heard"], rows, int(arrays["row"][0]["frontier_ms"]), self._params.slot_ms)
        self._pending = pending
        self._buffers = Buffers(**arrays)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {**self._buffers._asdict(), "pending": self._pending}
