"""What a model was trained on, kept in its bundle, so that drift can be measured against it later.

A `Past` says of each DMA when its rows were and how often a leak was alarmed; `reference_of` makes the bundle's reference of
that and the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.drift import BINS, COLUMNS, MOST_DMAS, Reference, count, own_levels, quantile_edges, shared_levels
from models.drift_weeks import DAY_MS, ENOUGH, WEEK_MS, week_numbers
from models.forest import Forest, score

ALL: Final = "*"


@dataclass
class Past:
    """The training window of one DMA."""

    timezone: str
    slot_ms: int
    leak_alarms: int = 0
    judged_slots: int = 0
    ends_ms: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Of the rows trained on, ascending."""

    @property
    def judged_days(self) -> float:
        """Time in which a leak could have been alarmed."""
        return self.judged_slots * self.slot_ms / DAY_MS

    def weeks(self) -> NDArray[np.int64]:
        """(rows,) the local week of each row."""
        return week_numbers(self.ends_ms, self.timezone)


def reference_of(
    pasts: Mapping[str, Past], parts: Mapping[str, Sequence[NDArray[np.float32]]], forest: Forest
) -> Reference | None:
    """The reference of DMAs with `parts` of their rows (n, features) in order of time; None where no DMA has rows."""
    names, edges, counts, levels, weeks = [], [], [], [], []
    rows = {dma: np.concatenate(found) for dma, found in parts.items() if found}
    columns = {dma: np.column_stack([x, score(forest, x).astype(np.float32)]) for dma, x in rows.items()}
    if not columns:
        return None
    for dma, x in list(columns.items())[:MOST_DMAS]:
        names.append(dma)
        edges.append(quantile_edges(x))
        numbers, weekly = _weekly(x, pasts[dma], edges[-1])
        counts.append(_counted(x, edges[-1]))
        levels.append(own_levels(weekly, numbers))
        weeks.append(len(numbers))
    named = [pasts[dma] for dma in names]
    alarms, days = [past.leak_alarms for past in named], [past.judged_days for past in named]
    if len(columns) > 1:
        every = np.concatenate(list(columns.values()))
        names.append(ALL)
        edges.append(quantile_edges(every))
        found = [_weekly(x, pasts[dma], edges[-1])[1] for dma, x in columns.items()]
        of = np.repeat(np.arange(len(found)), [len(one) for one in found])
        counts.append(_counted(every, edges[-1]))
        levels.append(shared_levels(np.concatenate(found), of))
        weeks.append(len(of))
        alarms.append(sum(past.leak_alarms for past in pasts.values()))
        days.append(sum(past.judged_days for past in pasts.values()))
    return Reference(
        tuple(names), np.stack(edges), np.stack(counts), np.stack(levels), tuple(weeks), tuple(alarms),
        tuple(round(one, 3) for one in days),
    )  # fmt: skip


def _weekly(x: NDArray[np.float32], past: Past, edges: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Numbers (W,) and counts (W, C, BINS) of the weeks that have enough rows."""
    of_row = past.weeks()
    numbers, starts, sizes = np.unique(of_row, return_index=True, return_counts=True)
    enough = np.flatnonzero(sizes >= ENOUGH * WEEK_MS / past.slot_ms)
    parts = [_counted(x[starts[k] : starts[k] + sizes[k]], edges) for k in enough]
    return numbers[enough], np.stack(parts) if parts else np.zeros((0, len(COLUMNS), BINS), np.int32)


def _counted(x: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.int32]:
    counts = np.zeros((len(COLUMNS), BINS), np.int32)
    count(np.ascontiguousarray(x), edges, counts)
    return counts


def has_no_levels(reference: Reference, dmas: Iterable[str]) -> list[str]:
    """DMAs that cannot be compared: too few whole weeks of their own, and of all."""
    return [dma for dma in dmas if reference.row(dma) is None]
