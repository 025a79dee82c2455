"""What goes from the topics into an archive: a batch of them, and how far it reaches.

`streams` makes batches of records, `training` keeps them in files; neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from models.commands import Command
from models.schema import Alert, Readings

Offsets = dict[str, dict[int, int]]
"""Dataset -> partition -> offset of its first record that is not included."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record, or readings in it, that nothing could be made of."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    """The record's own timestamp."""
    reason: str
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Records [start, end) of a partition that Kafka no longer had, or never showed."""

    dataset: str
    partition: int
    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Slots:
    """Scored slots of one DMA, by one model: `columns` (n,) by name, `slot_end_ms` among them, and what they share."""

    columns: dict[str, NDArray[Any]]
    texts: dict[str, str | None]


@dataclass
class Batch:
    """What was read since the last batch, by DMA and in order of arrival, and where the next begins."""

    readings: dict[str, list[tuple[tuple[str, ...], Readings]]] = field(default_factory=dict)
    """Meter ids, and readings whose `meter` is a place among them."""
    slots: dict[str, list[Slots]] = field(default_factory=dict)
    alerts: list[tuple[Alert, bytes]] = field(default_factory=list)
    """With the JSON they came in; and so the commands."""
    commands: list[tuple[Command, bytes]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Of what was taken and passed over, by name."""
    offsets: Offsets = field(default_factory=dict)
    topic_ids: dict[str, str] = field(default_factory=dict)
    seen: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """DMA -> raw partition -> how far its messages are included: what a router publishes twice is taken once."""
    bytes: int = 0
    """About as much memory as it takes."""

    def count(self, name: str, more: int) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + more


class Store(Protocol):
    """Where batches are kept."""

    offsets: Offsets
    """How far what is kept reaches. Read once, before the first batch; and so the next two."""
    topic_ids: dict[str, str]
    seen: dict[str, dict[str, tuple[int, int]]]

    def commit(self, batch: Batch) -> None:
        """Keep it: all of it or nothing."""
