"""The shift of the last day that fits best: like its naive twin, with the right start and size; slow ones left to nights."""

from __future__ import annotations

import numpy as np
import pytest

from models.detectors import flow_shift
from models.detectors.flow_shift import (
    MIN_EXCESS,
    STEP,
    WILD,
    WINDOW_HOURS,
    Z_CLIP,
    drift_before,
    excess_m3h,
    locate,
    started_ms,
)
from models.profile import SERIES

SLOT_MINUTES = 15
LONGEST = int(WINDOW_HOURS * 60) // SLOT_MINUTES
MEAN_M3H = 60.0


class Shift:
    """The detector, fed slot by slot with a residual, its spread and what is forgiven of it."""

    def __init__(self, inflows=2):
        self.shift, self.ring, self.rests = flow_shift.new_shift(SLOT_MINUTES, inflows)
        self.series = np.zeros(inflows, SERIES)
        self.series["mean_level"] = MEAN_M3H
        self.now_ms = 0

    def slot(self, residual, spread=1.0, drift=0.0, neighbour=0.0):
        self.series["residual"] = [residual, neighbour]
        self.series["spread"], self.series["drift"] = spread, [drift, 0.0]
        self.series["z"] = (residual - max(drift, 0.0)) / spread
        self.now_ms += SLOT_MINUTES * 60_000
        return flow_shift.update(self.shift[0], self.ring, self.rests, self.series, self.now_ms - SLOT_MINUTES * 60_000)

    def slots(self, residuals, *others):
        columns = [np.broadcast_to(other, len(residuals)) for other in others]
        return np.array([self.slot(*row) for row in zip(residuals, *columns, strict=True)])


def windows():
    found, slots = [], 1
    while slots < LONGEST:
        found.append(slots)
        slots = max(slots + 1, int(slots * STEP))
    return [*found, LONGEST]


def twin(z, spread):
    """Statistic after the last of z (n,), written down from the formula: every window summed anew."""
    best, best_slots, mean = 0.0, 0, 0.0
    for n in {min(n, len(z)) for n in windows()}:
        weight = 1.0 / spread[-n:]
        statistic = np.sum(np.clip(z[-n:], -Z_CLIP, Z_CLIP) * weight) / np.sqrt(np.sum(weight**2))
        if statistic > best:
            best, best_slots = statistic, n
            mean = np.sum(np.clip(z[-n:], -WILD, WILD) * weight) / np.sum(weight**2)
    return 0.0 if best_slots == LONGEST or mean < MIN_EXCESS * MEAN_M3H else best


@pytest.mark.parametrize("seed", range(3))
def test_the_statistic_is_that_of_the_naive_twin(seed):
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.5, 3.0, 260)
    residual = rng.standard_t(3, 260) * spread
    residual[150:200] += 3.0
    got = Shift().slots(residual, spread)
    z = residual / spread
    expected = [twin(z[: n + 1][-LONGEST:], spread[: n + 1][-LONGEST:]) for n in range(260)]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    assert (got > 0).sum() > 50


def test_a_missing_slot_says_nothing_and_is_no_part_of_a_window():
    whole, gapped = Shift(), Shift()
    residual = np.r_[np.zeros(20), np.full(12, 3.0)]
    expected = whole.slots(residual)[-1]
    gapped.slots(residual[:26])
    assert np.isnan(gapped.slot(np.nan))
    assert gapped.slots(residual[26:])[-1] == expected > 0
    slots = locate(gapped.shift[0], gapped.ring)
    assert slots == 12
    assert started_ms(gapped.shift[0], gapped.ring, slots) == 20 * SLOT_MINUTES * 60_000


@pytest.mark.parametrize("size", [3.0, 40.0])
def test_start_and_size_are_those_of_the_shift(size):
    rng, feed = np.random.default_rng(1), Shift()
    feed.slots(rng.normal(size=200))
    feed.slots(size + rng.normal(size=24))
    slots = locate(feed.shift[0], feed.ring)
    assert slots == pytest.approx(24, abs=3)
    assert excess_m3h(feed.shift[0], feed.ring, slots) == pytest.approx(size, abs=0.7)


def test_one_wild_slot_does_not_move_the_size():
    feed = Shift()
    feed.slots(np.zeros(50))
    feed.slots([5.0, 5.0, 500.0, 5.0, 5.0])
    assert excess_m3h(feed.shift[0], feed.ring, 5) == 5.0


def test_what_the_drift_has_followed_of_the_shift_is_part_of_its_size():
    feed = Shift()
    feed.slots(np.full(20, 2.0), 1.0, 2.0)  # weather, forgiven
    for i in range(12):
        feed.slot(10.0, 1.0, 2.0 + 0.3 * i)
    slots = locate(feed.shift[0], feed.ring)
    assert slots == 12
    assert drift_before(feed.shift[0], feed.ring, slots) == 2.0
    assert excess_m3h(feed.shift[0], feed.ring, slots) == 8.0


def test_what_fits_the_whole_day_best_is_left_to_the_nights():
    feed = Shift()
    assert feed.slots(np.full(LONGEST + 40, 3.0))[-1] == 0.0
    assert feed.shift[0]["slots"] == LONGEST


def test_a_shift_that_hardly_counts_in_the_dma_is_none():
    feed = Shift()
    feed.slots(np.zeros(30))
    assert (feed.slots(np.full(20, 0.9 * MIN_EXCESS * MEAN_M3H), 0.3) == 0.0).all()
    assert feed.slots(np.full(20, 1.5 * MIN_EXCESS * MEAN_M3H), 0.3)[-1] > 0.0


def test_evidence_that_was_heard_does_not_count_again():
    feed = Shift()
    feed.slots(np.r_[np.zeros(20), np.full(20, 4.0)])
    flow_shift.reset(feed.shift[0], feed.ring, feed.rests)
    assert locate(feed.shift[0], feed.ring) == 0
    assert feed.slot(-1.0) == 0.0
    assert feed.slot(4.0) == pytest.approx(Z_CLIP)
    assert locate(feed.shift[0], feed.ring) == 1


def test_a_neighbours_loss_is_summed_over_the_same_slots():
    feed = Shift()
    feed.slots(np.zeros(130), 1.0, 0.0, 1.0)
    feed.slots(np.full(8, 5.0), 1.0, 0.0, -5.0)
    newest, length = feed.shift[0]["count"], len(feed.ring)
    assert feed.rests[newest % length, 1] - feed.rests[(newest - 8) % length, 1] == -40.0


def test_a_dma_without_flow_for_months_does_not_stop_the_detector_when_the_flow_is_back():
    """Its spread had shrunk with its mean to nothing, and 1 / spread^2 swallowed what followed: a division by 0."""
    feed = Shift()
    feed.slots(np.zeros(400), 1e-9)
    got = feed.slots(np.r_[np.zeros(40), np.full(20, 4.0)], 1.0)
    assert np.isfinite(got).all()
    assert np.isfinite(feed.slots(np.full(3 * LONGEST, 0.5), 1.0)).all()
    locate(feed.shift[0], feed.ring)


def test_sums_of_years_lose_no_digits():
    """Oracle: the twin, which sums every window anew."""
    feed, spread = Shift(), np.full(4 * LONGEST, 0.7)
    feed.slots(np.full(40 * LONGEST, 1e-5), 3e-5)
    z = np.random.default_rng(4).normal(size=4 * LONGEST)
    got = feed.slots(z * spread, spread)[3 * LONGEST :]
    expected = [twin(z[: n + 1][-LONGEST:], spread[:LONGEST]) for n in range(3 * LONGEST, 4 * LONGEST)]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
