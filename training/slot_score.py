"""LeakDB's score: every slot is leak or no leak, and an alarm is right or wrong slot by slot; and how early it came.

Vrachimis, Kyriakou, Eliades, Polycarpou (2018), "LeakDB: a benchmark dataset for leakage diagnosis in water distribution
networks", WDSA/CCWI. A DMA takes the place of a scenario, the labels' intervals that of its label files. Two things are
stricter here than in that scoring's usual use: an alarm counts from when it was raised until it was said to be over, as it
was known then and not as it is known later; and all slots of the data count, those of warm-up too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.labels import Leak
from training.matching import Alarm
from training.watched import Watched

EXTRA_SLOTS: Final = 10
"""After the end of a leak these still belong to its window."""
PERSISTENCE: Final = 0.75
"""Share of the window from the first alarm on that must be in alarm for the leak to count as found."""
STEEPNESS: Final = 5.0


def score_slots(alarms: Sequence[Alarm], leaks: Sequence[Leak], watched: Mapping[str, Watched]) -> dict[str, Any]:
    """TPR, TNR, F1 and early detection in percent, over the slots of all DMAs together; None where nothing counts."""
    counts = np.zeros((2, 2), np.int64)
    early: list[float] = []
    for dma, part in watched.items():
        label, alarm = slots_of(alarms, leaks, dma, part.ends_ms)
        np.add.at(counts, (label.astype(int), alarm.astype(int)), 1)
        early += early_detection(label, alarm)
    (true_negative, false_positive), (false_negative, true_positive) = counts.tolist()
    return {
        "truePositiveRate": _percent(true_positive, true_positive + false_negative),
        "trueNegativeRate": _percent(true_negative, true_negative + false_positive),
        "f1": _percent(2 * true_positive, 2 * true_positive + false_positive + false_negative),
        "earlyDetection": round(100 * sum(early) / len(early), 2) if early else None,
        "slots": int(counts.sum()),
    }


def slots_of(
    alarms: Sequence[Alarm], leaks: Sequence[Leak], dma: str, ends_ms: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(slots,) leak and (slots,) alarm of one DMA; a slot is what was known, and what was true, at its end."""
    label, alarm = np.zeros(len(ends_ms), np.bool_), np.zeros(len(ends_ms), np.bool_)
    for leak in leaks:
        if leak.dma == dma:
            label |= (ends_ms >= leak.started_ms) & (ends_ms <= (np.inf if leak.ended_ms is None else leak.ended_ms))
    for one in alarms:
        if one.dma == dma and one.is_of_a_leak:
            for from_ms, over_ms in one.open_ms:
                alarm |= (ends_ms >= from_ms) & (ends_ms < (np.inf if over_ms is None else over_ms))
    return label, alarm


def early_detection(label: NDArray[np.bool_], alarm: NDArray[np.bool_]) -> list[float]:
    """One score from 0 to 1 for each run of leak slots: 1 at once, 0.013 at the end of the window, 0 for never.

    A run's window goes on for 10 slots more, as far as there are any. A first alarm counts if three quarters of the
    window behind it are in alarm.
    """
    edges = np.flatnonzero(np.diff(label.astype(np.int8), prepend=0, append=0))
    scores = []
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        window = alarm[first : end + EXTRA_SLOTS]
        if not window.any():
            scores.append(0.0)
            continue
        delay = int(window.argmax())
        persists = window[delay:].mean() > PERSISTENCE
        scores.append(2.0 / (1.0 + math.exp(STEEPNESS / max(len(window) - 1, 1) * delay)) if persists else 0.0)
    return scores


def _percent(part: int, of: int) -> float | None:
    return round(100.0 * part / of, 2) if of else None
