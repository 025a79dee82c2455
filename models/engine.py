"""`Engine.step`: the one path from readings to alerts, for live, replay, backtest, training and benchmarks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import explain
from models.balance import judge_customers
from models.customers import AFTER_DAYS, DAY_MS, RING_DAYS
from models.faults import customer_transition
from models.forest import EMPTY
from models.gaps import amend_all
from models.loop import close_until
from models.network import longest_lateness_minutes
from models.params import channel_rows, params_of
from models.relearn import take_over
from models.schema import BAD, FLOW, NEVER, Alert, Readings, Records
from models.slots import LATE, PENDING, admit, fit_ring
from models.snapshots import restore, snapshot
from models.state import DETECTION, EVENT, Buffers, new_buffers

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.network import Site

CHUNK_SLOTS: Final = 256  # slots judged in one call: bounds memory when a long backlog closes at once

ROOM: Final = 64  # readings that may wait before their array grows; it doubles

NO_DETECTIONS: Final[Records] = np.zeros(0, DETECTION)

REVISIONS_A_SLOT: Final = 3  # of one row of the event table: ended, raised anew, revised


class StepResult(NamedTuple):
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
    of_customers: list[Alert] = field(default_factory=list)
    detections: list[Records] = field(default_factory=list)
    duplicates: int = 0


class Engine:
    """Watches one DMA. Its state is independent of every other DMA's.

    Deterministic: the same readings give the same alerts, however they are cut into blocks and in whatever order they
    come within the meters' lateness.

    `silent` names detectors that say nothing, to measure what each is worth; no worker has any. What they look at is
    measured all the same: the size and start of a burst, the nights that tell the end of a leak. A state then fits only an
    engine with the same ones silent. Raises ValueError for a name that is no detector.
    """

    def __init__(self, site: Site, dma: str, bundle: Bundle | None = None, silent: Collection[str] = ()) -> None:
        self.site, self.dma, self.bundle = site, dma, bundle
        self._params = params_of(site, dma, silent)
        self._fingerprint = " without ".join([site.fingerprint(dma), *sorted(set(silent))])
        rows, customers = channel_rows(site, dma)
        self._meters = tuple(site.meters[row] for row in rows)
        self._named = (*self._meters, *(site.meters[row] for row in customers))
        inflows, loggers = self._params.inflows, self._params.pressure_channel.shape[0]
        slot_minutes, longest = site.dmas[site.dma_row[dma]].slot_minutes, longest_lateness_minutes(self._meters)
        self._buffers = new_buffers(len(rows), len(customers), inflows, loggers, slot_minutes, longest)
        self._pending: Records = np.zeros(ROOM, PENDING)
        self._waiting = 0  # so many of them; the rest is room
        self._forest = EMPTY if bundle is None else bundle.forest
        take_over(self._buffers.calibrations, dma, bundle)

    @property
    def watermark_ms(self) -> int:
        """End of the newest closed slot, epoch ms; NEVER before the first reading."""
        return int(self._buffers.row[0]["frontier_ms"])

    @property
    def open_events(self) -> int:
        """Events that are under way."""
        b = self._buffers
        return int((b.events["type"] >= 0).sum() + (b.faults["type"] >= 0).sum() + b.use["is_open"].sum())

    def use(self, bundle: Bundle | None) -> None:
        """Judge with this model, or with none, from the next slot that closes on; alerts name it from there on.

        What the old model's scores have left behind goes with them: the mean of the last hour, and the calibration of the
        forest's score, which begins with what the new one's training says, or at its cautious prior. Other detectors begin
        anew where labels have made a difference (`models.relearn.take_over`). What comes after depends only on when each
        model came.
        """
        take_over(self._buffers.calibrations, self.dma, bundle, self.bundle)
        self.bundle, self._forest = bundle, EMPTY if bundle is None else bundle.forest
        self._buffers.row["forest_score"] = np.nan

    def step(self, readings: Readings, origin: Literal["live", "replay"] = "live") -> StepResult:
        """Take readings in order of arrival, close what is complete, judge it.

        `readings` (n,) READING with rows of the site's meter table; meters of other DMAs are ignored. A reading that
        comes after its slot was closed is counted as late; it may add to what an open event has lost, and changes nothing
        else.
        """
        if not readings.flags.carray:
            readings = readings.copy()  # kernels are compiled for one layout, and compiling takes seconds
        p, b = self._params, self._buffers
        verdicts, frontiers_ms = np.empty(len(readings), np.uint8), np.empty(len(readings), np.int64)
        first = done = accepted = late = 0
        closed_ms, found = NEVER, _Found()
        while True:
            done, self._waiting, more_accepted, more_late, began_ms, frontier_ms = admit(
                readings, done, p.lookup, p.facts, p.longest_lateness_ms, p.slot_ms, b.row, b.channels, b.customers, b.use,
                b.metered, b.heard, self._pending, self._waiting, verdicts, frontiers_ms,
            )  # fmt: skip
            accepted, late = accepted + more_accepted, late + more_late
            if closed_ms == NEVER:
                closed_ms = began_ms
            is_new_day = b.customers.shape[0] > 0 and self._judge_customers(frontier_ms, origin, found)
            if done == len(readings):
                break
            if is_new_day:  # the balance is judged with the slots, and keeps no more than a few days of its customers
                closed_ms = self._amend(readings, slice(first, done), verdicts, frontiers_ms, closed_ms, origin, found)
                self._close(closed_ms, frontier_ms, origin, found)
                first, closed_ms = done, frontier_ms
            if self._waiting == len(self._pending):
                self._pending = np.concatenate([self._pending, np.zeros(max(ROOM, len(self._pending)), PENDING)])
        if frontier_ms == closed_ms and not late and not found.detections:
            return StepResult([], NO_DETECTIONS, accepted, late, 0)
        if late:
            closed_ms = self._amend(readings, slice(first, done), verdicts, frontiers_ms, closed_ms, origin, found)
        self._close(closed_ms, frontier_ms, origin, found)
        if len(self._pending) > 4 * max(ROOM, self._waiting):  # a backlog is over
            self._pending = self._pending[: max(ROOM, self._waiting)].copy()
        detections = found.detections
        if found.of_customers:
            found.alerts = sorted([*found.alerts, *found.of_customers], key=lambda alert: alert.updated_at)
        return StepResult(
            alerts=found.alerts,
            detections=detections[0] if len(detections) == 1 else np.concatenate([NO_DETECTIONS, *detections]),
            accepted=accepted,
            late=late,
            duplicates=found.duplicates,
        )

    def _amend(
        self,
        readings: Readings,
        part: slice,
        verdicts: NDArray[np.uint8],
        frontiers_ms: NDArray[np.int64],
        closed_ms: int,
        origin: Literal["live", "replay"],
        found: _Found,
    ) -> int:
        """Late flows of a part of the readings into the gaps of the slots that were closed when each came, however they were
        grouped.

        Closes what was closed by the last of them; returns its end.
        """
        p = self._params
        at = part.start + np.flatnonzero(verdicts[part] == LATE)
        channels = p.lookup["channel"][np.searchsorted(p.lookup["meter"], readings["meter"][at])]
        at, channels = at[channels < len(self._meters)], channels[channels < len(self._meters)]
        filling = (p.signs[0][channels] != 0) & (readings["kind"][at] == FLOW) & (readings["quality"][at] != BAD)
        at, channels = at[filling], channels[filling]
        if not len(at):
            return closed_ms
        edges = np.flatnonzero(np.diff(frontiers_ms[at])) + 1
        for rows, of in zip(np.split(at, edges), np.split(channels, edges), strict=True):
            until_ms = int(frontiers_ms[rows[0]])
            self._close(closed_ms, until_ms, origin, found)
            closed_ms = max(closed_ms, until_ms)
            amend_all(tuple(self._buffers), tuple(p), readings[rows], of)
        return closed_ms

    def _judge_customers(self, frontier_ms: int, origin: Literal["live", "replay"], found: _Found) -> bool:
        """Judge the customers' days that the frontier (end of the newest closed slot) has left behind for good.

        False where there is none.
        """
        b, due = self._buffers, frontier_ms // DAY_MS - AFTER_DAYS
        if frontier_ms == NEVER or due <= b.judged_day[0]:
            return False
        told = np.empty((len(b.use), 2), np.int64)
        for day in range(max(int(b.judged_day[0]) + 1, due - RING_DAYS + 1), due + 1):
            for row, change in told[: judge_customers(b.use, b.metered, b.balance_days, day, told)]:
                transition = customer_transition(b.use[row], len(b.channels) + int(row), int(change), day)
                found.of_customers.append(explain.alert(self.site, self.dma, self._named, transition, self.bundle, origin))
        b.judged_day[0] = due
        return True

    def _close(self, closed_ms: int, frontier_ms: int, origin: Literal["live", "replay"], found: _Found) -> None:
        """Judge the slots that end in (closed_ms, frontier_ms]."""
        p, b = self._params, self._buffers
        while closed_ms < frontier_ms:
            until_ms = min(frontier_ms, closed_ms + CHUNK_SLOTS * p.slot_ms)
            slots = (until_ms - closed_ms) // p.slot_ms
            detections = np.empty(slots, DETECTION)
            transitions = np.empty(REVISIONS_A_SLOT * (len(b.events) + len(b.faults)) * slots, EVENT)
            self._waiting, duplicates, written, count = close_until(
                tuple(b), tuple(p), tuple(self._forest), self._pending, self._waiting, closed_ms, until_ms, detections,
                transitions,
            )  # fmt: skip
            found.duplicates += duplicates
            found.detections.append(detections[:written])
            for i in range(count):
                found.alerts.append(explain.alert(self.site, self.dma, self._named, transitions[i], self.bundle, origin))
            closed_ms = until_ms

    def meter_health(self) -> list[MeterHealth]:
        """How each meter that this DMA reports on reports, in the site's order; neighbours' meters are left out."""
        p, b = self._params, self._buffers
        health = []
        for place in p.lookup[p.facts["is_home"][p.lookup["channel"]]]:
            c = int(place["channel"]) - len(b.channels)
            row = b.customers[c] if c >= 0 else b.channels[c]  # counted from their end
            latest_ms = None if row["latest_ms"] == NEVER else int(row["latest_ms"])
            meter = self.site.meters[place["meter"]]
            health.append(MeterHealth(meter.id, latest_ms, int(row["readings"]), int(row["late"])))
        return health

    def snapshot(self) -> bytes:
        """All state as one checksummed blob; `restore` of it continues exactly here."""
        return snapshot(self.dma, self._fingerprint, self._arrays())

    def restore(self, blob: bytes) -> None:
        """Continue from a snapshot. Raises ValueError when it is torn or not of this DMA, network and format."""
        is_customer = self._params.lookup["channel"] >= len(self._meters)
        arrays = restore(blob, self.dma, self._fingerprint, self._arrays(), is_customer)
        pending = arrays.pop("pending")
        if not 0 <= arrays["row"][0]["position"] < len(arrays["flow_z"]):
            raise ValueError(f"state of {self.dma!r}: found position {arrays['row'][0]['position']} in its rings")
        if len(pending) and not 0 <= pending["channel"].min() <= pending["channel"].max() < len(self._meters):
            raise ValueError(f"state of {self.dma!r}: found readings of meters that it does not have")
        rows = len(self._buffers.heard)
        arrays["heard"] = fit_ring(arrays["heard"], rows, int(arrays["row"][0]["frontier_ms"]), self._params.slot_ms)
        self._waiting = len(pending)
        self._pending = np.concatenate([pending, np.zeros(ROOM, PENDING)])
        self._buffers = Buffers(**arrays)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {**self._buffers._asdict(), "pending": self._pending[: self._waiting]}
