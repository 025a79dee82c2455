"""Made-up slots whose features drift as one likes, without an engine; and a model trained on them. Weeks differ a little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.features import FEATURES
from models.state import DETECTION
from tests.synthetic import START_MS
from training.fit import ForestSettings, fit
from training.leave_out import Rows

HOUR_MS = 3_600_000
WEEK_SLOTS = 168
ZONE = "Africa/Tunis"
"""Of tests.synthetic's site; slots here are of an hour, and begin where its do: on a Monday."""
SITE_TOML = 'name = "testville"\ntimezone = "Africa/Tunis"\n'
NETWORK_TOML = "".join(
    f'[[dma]]\nid = "{dma}"\nslotMinutes = 60\n[[meter]]\nid = "in-{dma}"\nkind = "flow"\nto = "{dma}"\n' for dma in "AB"
)


def slots(weeks: int, seed: int, first_week: int = 0, shift: float = 0.0, wider: float = 1.0) -> NDArray[np.void]:
    """DETECTION rows of whole weeks; each week has a level of its own, and slots follow on each other."""
    rng = np.random.default_rng(seed)
    count = weeks * WEEK_SLOTS
    rows = np.zeros(count, DETECTION)
    rows["slot_end_ms"] = START_MS + (first_week * WEEK_SLOTS + np.arange(1, count + 1)) * HOUR_MS
    rows["observed_m3h"] = rows["expected_m3h"] = 10.0
    rows["learnable"] = True
    level = np.repeat(rng.normal(scale=0.15, size=(weeks, len(FEATURES))), WEEK_SLOTS, axis=0)
    noise = rng.normal(size=(count, len(FEATURES)))
    for k in range(1, count):
        noise[k] = 0.8 * noise[k - 1] + 0.6 * noise[k]
    rows["features"] = wider * (level + noise) + shift
    return rows


def trained(weeks: int = 30, dmas: str = "AB", alarms: int = 1, trees: int = 10, samples: int = 64) -> Bundle:
    """A small forest and its reference; DMA k is trained on `slots(weeks, k)`."""
    rows = {}
    for seed, dma in enumerate(dmas):
        found = slots(weeks, seed)
        raised_ms = [int(found["slot_end_ms"][0])] * alarms
        rows[dma] = Rows(
            HOUR_MS, found["slot_end_ms"].copy(), found["features"].copy(), 30.0, ZONE, {}, leak_alarms_ms=raised_ms
        )
    return fit("testville", "*", rows, seed=0, settings=ForestSettings(trees, samples)).bundle
