"""Confidence intervals against scipy's."""

from __future__ import annotations

import pytest
from scipy import stats

from training.intervals import poisson, wilson


@pytest.mark.parametrize(("found", "of"), [(0, 1), (1, 1), (6, 6), (3, 8), (0, 10), (95, 100), (412, 1000)])
def test_a_share_has_wilsons_interval(found: int, of: int) -> None:
    expected = stats.binomtest(found, of).proportion_ci(0.95, method="wilson")
    assert wilson(found, of) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_of_no_leaks_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 61, 500, 3000])
def test_a_count_has_the_exact_poisson_interval(count: int) -> None:
    low = 0.0 if count == 0 else stats.chi2.ppf(0.025, 2 * count) / 2
    assert poisson(count) == pytest.approx((low, stats.chi2.ppf(0.975, 2 * count + 2) / 2), rel=1e-9)
