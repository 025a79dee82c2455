"""Whether leak alarms come more often than before: two Poisson counts, and one against a budget."""

from __future__ import annotations

import math


def more_than_before(now: int, now_days: float, before: int, before_days: float) -> float | None:
    """Probability of `now` alarms or more in `now_days`, were the rate that of `before` in `before_days`.

    Exact: given their sum, `now` is binomial with the share of the time (Przyborowski and Wilenski 1940), so that few alarms
    before mean little can be said. None without time on both sides.
    """
    if now_days <= 0 or before_days <= 0:
        return None
    share, total = now_days / (now_days + before_days), now + before
    terms = (
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        + k * math.log(share) + (total - k) * math.log1p(-share)
        for k in range(now, total + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, terms)))


def more_than_budget(now: int, expected: float) -> float:
    """Probability of `now` alarms or more where `expected` are."""
    below = math.fsum(math.exp(k * math.log(expected) - expected - math.lgamma(k + 1)) for k in range(now))
    return max(0.0, 1.0 - below)
