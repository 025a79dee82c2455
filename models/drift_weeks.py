"""A DMA's weeks against what its model was trained on, slot after slot: the same for a report and for a running worker.

Weeks begin on Monday 00:00 local time. Only slots that training would take are counted: learnable, all features finite.
Event time alone decides, so it does not matter how slots come in blocks, and a state continues where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.drift import BINS, COLUMNS, DISTANCES, count, distances
from models.forest import score
from models.zones import utc_offsets_s

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.schema import Records

DAY_MS: Final = 86_400_000
WEEK_MS: Final = 7 * DAY_MS
_MONDAY: Final = 3  # days from the Monday before 1970-01-01 to it
ENOUGH: Final = 0.5
"""Share of a week's slots that must count, or it is not judged."""
_CELLS: Final = len(COLUMNS) * BINS


def week_numbers(ends_ms: NDArray[np.int64], timezone: str) -> NDArray[np.int64]:
    """(n,) local weeks since the one with 1970-01-01, of slots that end at (n,) epoch ms."""
    changes, offsets = utc_offsets_s(timezone)
    within = ends_ms - 1
    local = within + offsets[np.searchsorted(changes, within, "right") - 1] * 1000
    return (local // DAY_MS + _MONDAY) // 7


def week_start_ms(number: int, timezone: str) -> int:
    """Epoch ms at which a local week begins."""
    changes, offsets = utc_offsets_s(timezone)
    local = (number * 7 - _MONDAY) * DAY_MS
    guess = local - int(offsets[np.searchsorted(changes, local, "right") - 1]) * 1000
    return local - int(offsets[np.searchsorted(changes, guess, "right") - 1]) * 1000


@dataclass(frozen=True)
class Week:
    """One whole week of one DMA."""

    number: int
    rows: int
    """Slots that counted."""
    share: float
    """Of all slots of the week."""
    counts: NDArray[np.int32]
    """(C, BINS)"""
    found: NDArray[np.float64] | None
    """(2, C) PSI and KS distances; None where too few slots counted."""
    levels: NDArray[np.float64]
    """(2, C)"""

    @property
    def ratio(self) -> float | None:
        """The largest distance over its level: above 1 it is drift."""
        return None if self.found is None else float((self.found / self.levels).max())

    @property
    def worst(self) -> tuple[str, str] | None:
        """Column and distance that are furthest over (or nearest to) their level."""
        if self.found is None:
            return None
        which, column = np.unravel_index(int((self.found / self.levels).argmax()), self.found.shape)
        return COLUMNS[column], DISTANCES[which]


class Saved(msgspec.Struct, array_like=True, frozen=True):
    """What a checkpoint keeps of a week under way, and of the last one."""

    model: str
    """SHA-256 of the model's arrays: a state of another model says nothing."""
    number: int
    whole: bool
    newest_ms: int
    rows: int
    counts: Annotated[bytes, msgspec.Meta(max_length=8 * _CELLS)]
    last_number: int
    last_rows: int
    last_counts: Annotated[bytes, msgspec.Meta(max_length=8 * _CELLS)]
    in_a_row: int


class _Against(NamedTuple):
    """The row of a reference that a DMA is compared with."""

    row: int
    edges: NDArray[np.float32]
    counts: NDArray[np.int32]
    levels: NDArray[np.float64]


@dataclass
class Weeks:
    """Counts the week under way against one model; `take` gives the weeks that have ended."""

    bundle: Bundle
    dma: str
    timezone: str
    slot_ms: int
    last: Week | None = None
    """The newest week that has ended and could be judged."""
    in_a_row: int = 0
    """So many judged weeks up to it were over their level."""
    _number: int | None = None
    _end_ms: int = 0
    _newest_ms: int = 0
    _whole: bool = False
    _rows: int = 0
    _counts: NDArray[np.int32] = field(default_factory=lambda: np.zeros((len(COLUMNS), BINS), np.int32))
    _against: _Against | None = field(init=False)

    def __post_init__(self) -> None:
        reference = self.bundle.reference
        row = None if reference is None else reference.row(self.dma)
        if reference is not None and row is not None:
            self._against = _Against(row, reference.edges[row], reference.counts[row], reference.levels[row])
        else:
            self._against = None

    @property
    def has_reference(self) -> bool:
        """Whether there is anything to compare with."""
        return self._against is not None

    @property
    def reference_row(self) -> int | None:
        """The row of the reference that this DMA is compared with."""
        return None if self._against is None else self._against.row

    def take(self, detections: Records) -> list[Week]:
        """Count DETECTION rows (n,), which follow on those before; the weeks that ended with them."""
        if self._against is None or not len(detections):
            return []
        ended = []
        ends = detections["slot_end_ms"]
        start = 0
        while start < len(ends):
            if self._number is None or ends[start] > self._end_ms:
                ended += self._begin(int(ends[start]))
            stop = int(np.searchsorted(ends, self._end_ms, "right"))
            self._add(self._against, detections[start:stop])
            start = stop
        self._newest_ms = int(ends[-1])
        return ended

    def finish(self) -> list[Week]:
        """The week under way, where its last slot has been: no later one need come."""
        return self._end() if self._number is not None and self._newest_ms + self.slot_ms > self._end_ms else []

    def _end(self) -> list[Week]:
        """The week under way, if it was seen from its begin."""
        if self._number is None or self._against is None or not self._whole:
            return []
        week = self._judge(self._against, self._number, self._rows, self._counts)
        if week.ratio is not None:
            self.in_a_row = self.in_a_row + 1 if week.ratio > 1 else 0
            self.last = week
        return [week]

    def _begin(self, slot_end_ms: int) -> list[Week]:
        """Begin the week that a slot ends in; the one before."""
        ended = self._end()
        number = int(week_numbers(np.array([slot_end_ms]), self.timezone)[0])
        # a later week was seen from its begin whatever is missing of it: silence is no late start
        self._whole = self._number is not None or (slot_end_ms - self.slot_ms <= week_start_ms(number, self.timezone))
        self._number, self._end_ms = number, week_start_ms(number + 1, self.timezone)
        self._rows, self._counts = 0, np.zeros_like(self._counts)
        return ended

    def _add(self, against: _Against, detections: Records) -> None:
        features = detections["features"]
        kept = detections["learnable"] & np.isfinite(features).all(axis=1)
        if not kept.any():
            return
        features = np.ascontiguousarray(features[kept])
        rows = np.column_stack([features, score(self.bundle.forest, features).astype(np.float32)])
        self._rows += len(rows)
        count(rows, against.edges, self._counts)

    def _judge(self, against: _Against, number: int, rows: int, counts: NDArray[np.int32]) -> Week:
        slots = (week_start_ms(number + 1, self.timezone) - week_start_ms(number, self.timezone)) // self.slot_ms
        found = distances(counts, against.counts) if rows >= ENOUGH * slots else None
        return Week(number, rows, rows / slots, counts, found, against.levels)

    def save(self) -> Saved | None:
        """What `restore` continues from; None where nothing was counted."""
        if self._number is None:
            return None
        last = self.last
        return Saved(
            self.bundle.sha256, self._number, self._whole, self._newest_ms, self._rows,
            self._counts.tobytes(),
            -1 if last is None else last.number, 0 if last is None else last.rows,
            b"" if last is None else last.counts.tobytes(), self.in_a_row,
        )  # fmt: skip

    def restore(self, saved: Saved) -> None:
        """Continue from there; a state of another model, or of other bins, is left alone and counting begins anew."""
        size = self._counts.nbytes
        if self._against is None or saved.model != self.bundle.sha256 or len(saved.counts) != size:
            return
        self._number, self._whole, self._newest_ms, self._rows = saved.number, saved.whole, saved.newest_ms, saved.rows
        self._end_ms = week_start_ms(saved.number + 1, self.timezone)
        self._counts = np.frombuffer(saved.counts, np.int32).reshape(self._counts.shape).copy()
        if len(saved.last_counts) == size:
            counts = np.frombuffer(saved.last_counts, np.int32).reshape(self._counts.shape)
            self.last, self.in_a_row = self._judge(self._against, saved.last_number, saved.last_rows, counts), saved.in_a_row
