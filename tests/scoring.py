"""What tests of scoring share: made-up alerts, and DMAs that were watched."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.schema import Alert, Evidence, ModelRef, Scope, Title
from models.state import DETECTION
from training.watched import Watched

HOUR = 3_600_000
DAY = 24 * HOUR


def alert(name: str, dma: str, at: int, kind: str = "burst", **changes: Any) -> Alert:
    """The first revision of an alert raised at `at`."""
    facts: dict[str, Any] = {
        "schema_version": "1.0", "alert_id": name, "revision": 1, "event": "raised", "type": kind, "severity": "high",
        "state": "active", "scope": Scope(type="dma", id=dma), "started_at": at - HOUR, "detected_at": at,
        "updated_at": at, "ended_at": None, "estimate": None, "confidence": 0.9, "reasons": [], "origin": "replay",
        "title": Title(en=f"Something in {dma}", zh=""), "model": ModelRef(id=None, version=None, sha256=None),
        "evidence": Evidence(
            metric="inflow", unit="m3/h", observed=None, expected=None, lower=None, upper=None, coverage=None,
            for_=[], against=[], meters=[],
        ),
    }  # fmt: skip
    return Alert(**(facts | changes))


def watched_of(
    flow: NDArray[np.float64] | float, slots: int, start_ms: int = 0, slot_ms: int = HOUR, warm: int = 0
) -> Watched:
    """`slots` slots from `start_ms`; nothing is expected in the first `warm` of them."""
    rows = np.zeros(slots, DETECTION)
    rows["slot_end_ms"] = start_ms + slot_ms * np.arange(1, slots + 1)
    rows["observed_m3h"] = flow
    rows["expected_m3h"] = 1.0
    rows["expected_m3h"][:warm] = np.nan
    made = Watched(slot_ms)
    half = slots // 2
    made.add(rows[:half])
    made.add(rows[half:])
    return made
