"""How well the size of a leak is known: standard errors from the DMA's own past, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from models.night_level import LAG_NIGHTS, new_nights
from models.sizes import PRIOR_SD, Z_90, end_day, learn_night, mean_sd, new_sizing, night_sd, note_night, note_slot
from models.state import EVENT, new_buffers
from tests.synthetic import DAY, daily, make_site, readings, run


def learned(correlation: float, days: int = 400, slots: int = 96) -> np.ndarray:
    """SIZING after days of AR(1) residuals of standard deviation 1."""
    rng, sizing, z = np.random.default_rng(3), new_sizing(), 0.0
    for _ in range(days):
        for _ in range(slots):
            z = correlation * z + np.sqrt(1.0 - correlation**2) * rng.standard_normal()
            note_slot.py_func(sizing[0], z)
        end_day.py_func(sizing[0], slots)
    return sizing


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_the_day_tells_how_much_of_the_noise_a_mean_takes_out(correlation):
    b = new_buffers(1, 0, 1, 0, 15, 60)._replace(sizing=learned(correlation))
    of_a_day = np.sqrt((1 + correlation) / (1 - correlation) / 96)  # of many AR(1) slots
    assert mean_sd.py_func(b, 2.0, 96.0) == pytest.approx(2.0 * of_a_day, rel=0.25)
    assert mean_sd.py_func(b, 2.0, 1.0) == 2.0
    errors = [mean_sd.py_func(b, 2.0, n) for n in (1.0, 4.0, 16.0, 96.0)]
    assert errors == sorted(errors, reverse=True)
    assert mean_sd.py_func(b, 2.0, 400.0) == errors[-1]  # of more than a day nothing is known


def test_days_with_a_leak_or_gaps_teach_nothing():
    sizing = new_sizing()
    for slot in range(96):
        note_slot.py_func(sizing[0], 5.0 if slot < 80 else np.nan)
    end_day.py_func(sizing[0], 96)
    assert sizing["variance"][0] == PRIOR_SD**2
    assert (sizing["slots"][0], sizing["z_sum"][0]) == (0, 0.0)


def test_one_strange_day_hardly_counts():
    sizing = learned(0.6)
    before = sizing["variance"][0]
    for _ in range(96):
        note_slot.py_func(sizing[0], 30.0)
    end_day.py_func(sizing[0], 96)
    assert sizing["variance"][0] < 1.2 * before


def test_nights_that_wander_further_than_they_should_say_less():
    sizing, nights, rng = new_sizing(), new_nights(56), np.random.default_rng(1)
    for day in range(300):
        nights[day % 56]["day"], nights[day % 56]["z"] = day, 2.0 * rng.standard_normal()
        learn_night.py_func(sizing[0], nights, day)
    b = new_buffers(1, 0, 1, 0, 15, 60)._replace(sizing=sizing)
    b.row["mnf_spread_m3h"] = 3.0
    assert night_sd.py_func(b) == pytest.approx(6.0, rel=0.2)
    sizing["night_spread"] = 0.3
    assert night_sd.py_func(b) == 3.0


def test_nights_of_a_leak_that_is_found_in_time_teach_nothing():
    sizing, nights = new_sizing(), new_nights(56)
    before = sizing.copy()
    for day in range(LAG_NIGHTS):
        nights[day]["day"], nights[day]["z"] = day, 20.0
        learn_night.py_func(sizing[0], nights, day)
    nights["z"] = np.nan  # as `night_flow.consume` leaves them
    learn_night.py_func(sizing[0], nights, LAG_NIGHTS)
    assert sizing.tobytes() == before.tobytes()


def test_a_night_behind_which_the_expectation_has_not_caught_up_says_the_whole_size():
    event = np.zeros(1, EVENT)
    event["size_sd_m3h"] = 4.0
    note_night.py_func(event[0], 3.0, True)
    assert event["size_sd_m3h"][0] == 3.0
    event["size_sd_m3h"] = 4.0
    note_night.py_func(event[0], 3.0, False)
    assert event["size_sd_m3h"][0] == 5.0


@pytest.fixture(scope="module")
def bursts():
    """Size, and alerts of B, of six bursts in as many towns."""
    found, site = [], make_site()
    for seed in range(6):
        more = np.zeros(28 * DAY)
        more[24 * DAY + 17 * seed : 26 * DAY] = size = 8.0 + seed
        found.append((size, [a for a in run(site, daily(readings(28, seed, b=more)))[0] if a.scope.id == "B"]))
    return found


def test_most_intervals_hold_the_size_and_they_narrow_as_more_slots_come_in(bursts):
    held = []
    for size, alerts in bursts:
        first, last = alerts[0].estimate, alerts[-1].estimate
        held += [of.excess_flow_lower <= size <= of.excess_flow_upper for of in (first, last)]
        assert last.excess_flow_upper - last.excess_flow_lower < first.excess_flow_upper - first.excess_flow_lower
        assert 0.0 <= first.excess_flow_lower < first.excess_flow < first.excess_flow_upper < 2.5 * size
    assert sum(held) >= 10


def test_the_loss_of_a_day_has_the_ends_of_the_flow(bursts):
    of = bursts[0][1][0].estimate
    assert (of.loss_per_day_lower, of.loss_per_day_upper) == pytest.approx(
        (24.0 * of.excess_flow_lower, 24.0 * of.excess_flow_upper), abs=0.1
    )
    assert of.excess_flow_upper + of.excess_flow_lower == pytest.approx(2.0 * of.excess_flow, abs=0.01)
    assert abs(Z_90 - 1.645) < 1e-3
