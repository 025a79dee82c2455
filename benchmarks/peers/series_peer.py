"""bottleneck and numbagg over one series: `series_peer.py DATA.npz` (values, window, alpha); names are `kernel/peer`.

numbagg has no moving minimum, maximum or median, and its exponential mean weights otherwise (pandas' `adjust=True`).
bottleneck has no exponential mean. Neither has a MAD.
"""

from __future__ import annotations

import sys
from functools import partial

import bottleneck
import numbagg
import numpy as np
from serve import serve

with np.load(sys.argv[1]) as data:
    values, window = data["values"], int(data["window"])

contestants = {
    f"rolling_{name}/bottleneck": partial(getattr(bottleneck, f"move_{name}"), values, window, min_count=1)
    for name in ("mean", "min", "max", "median")
}
contestants["rolling_std/bottleneck"] = partial(bottleneck.move_std, values, window, min_count=1, ddof=0)
for name in ("mean", "std"):
    contestants[f"rolling_{name}/numbagg"] = partial(getattr(numbagg, f"move_{name}"), values, window=window, min_count=1)


def population(std: np.ndarray) -> np.ndarray:
    """numbagg's standard deviation divides by one less than the count."""
    count = np.convolve(~np.isnan(values), np.ones(window), "full")[: len(values)]
    return np.where(count == 1, 0.0, std * np.sqrt((count - 1) / np.maximum(count, 1)))


serve(contestants, {"rolling_std/numbagg": population})
