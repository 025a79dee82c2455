"""Supplied less metered: leaks that no customer's meter shows, and demand that they do show."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from models import balance
from models.balance import COVERAGE, DRIFT, SHARE, USUAL_DAYS, WHOLE_HOURS, judge_customers, new_balance
from models.customers import AFTER_DAYS, DAY_MS, HOUR_MS, new_use, note_use
from models.detectors import BALANCE, DETECTORS
from models.engine import Engine
from models.network import parse_site
from models.night_level import SURPRISE
from models.params import params_of
from models.schema import READING
from tests import naive_balance
from tests.synthetic import DAY, SITE_TOML, SLOT_MS, START_MS, demand, step_between

HOUSES = 40
DAYS = 56


def network(houses):
    return parse_site(
        SITE_TOML,
        '[[dma]]\nid = "D"\n[[meter]]\nid = "inlet"\nkind = "flow"\nto = "D"\n'
        + "".join(f'[[meter]]\nid = "house-{n}"\nkind = "flow"\ndma = "D"\n' for n in range(houses)),
    )


SITE = network(HOUSES)


@cache
def town(seed=0, leak=(0, 0, 0.0), more=(0, 0, 0.0), hot=(0, 0), metered=1.0, silent=(0, 0, 0)):
    """Readings in order of arrival: the inlet as it happens, a day of each house once, up to 20 h after it is over.

    `leak`, `more`: from day, until day, m3/h that no house and that house 0 takes; `hot`: days with 9 % more use; `metered`:
    share of the use that houses have; `silent`: from day, until day, how many houses say nothing.
    """
    rng = np.random.default_rng([seed, 5])
    weather = np.repeat(1.0 + 0.04 * np.random.default_rng([seed, 6]).standard_normal(DAYS), DAY)
    use = (
        demand(DAYS, 50.0, seed, noise=0.06)
        * weather
        * np.where(step_between(DAYS, hot[0] * DAY, hot[1] * DAY, 1.0) > 0, 1.09, 1.0)
    )
    extra = step_between(DAYS, more[0] * DAY, more[1] * DAY, more[2])
    inlet = np.zeros(DAYS * DAY, READING)
    inlet["time_ms"], inlet["meter"] = START_MS + SLOT_MS * np.arange(1, DAYS * DAY + 1), SITE.meter_row["inlet"]
    flow = use + extra + 5.0 + step_between(DAYS, leak[0] * DAY, leak[1] * DAY, leak[2])
    inlet["value"] = flow * (1.0 + 0.005 * rng.standard_normal(len(flow)))
    hours = DAYS * 24
    shares = rng.gamma(np.tile(rng.uniform(20.0, 90.0, HOUSES), (hours, 1)))
    house = np.zeros((hours, HOUSES), READING)
    house["value"] = shares / shares.sum(axis=1, keepdims=True) * metered * use.reshape(-1, 4).mean(axis=1)[:, None]
    house["value"][:, 0] += extra.reshape(-1, 4).mean(axis=1)
    house["value"] = np.round(house["value"] * rng.normal(0.99, 0.02, HOUSES), 3)
    house["time_ms"] = (START_MS + HOUR_MS * np.arange(1, hours + 1))[:, None]
    house["meter"] = [SITE.meter_row[f"house-{n}"] for n in range(HOUSES)]
    day = (house["time_ms"] - START_MS - 1) // DAY_MS
    uploaded = START_MS + (day + 1) * DAY_MS + rng.integers(0, 20 * HOUR_MS, (DAYS, HOUSES))[day[:, 0]]
    kept = ~((day >= silent[0]) & (day < silent[1]) & (np.arange(HOUSES) < silent[2]))
    both = np.concatenate([inlet, house[kept]])
    return both[np.argsort(np.concatenate([inlet["time_ms"], uploaded[kept]]), kind="stable")]


def watch(block, parts=DAYS):
    engine = Engine(SITE, "D")
    steps = [engine.step(part) for part in np.array_split(block, parts)]
    alerts = [alert for step in steps for alert in step.alerts if alert.type != "customer_leak"]
    return engine, alerts, np.concatenate([step.detections for step in steps])


def raised(alerts):
    return [alert for alert in alerts if alert.event == "raised"]


def day_of(time_ms):
    return (time_ms - START_MS) / DAY_MS


def statistics(detections):
    said = detections["statistics"][:, BALANCE]
    return said[~np.isnan(said)]


# the sums


def test_a_customers_day_agrees_with_its_naive_twin_whatever_the_order_and_however_often_it_comes():
    rng, customers, days = np.random.default_rng(1), 12, 20
    hours, first = days * 24, 20_000
    times = np.repeat(first * DAY_MS + HOUR_MS * np.arange(1, hours + 1), customers)
    meters, flows = np.tile(np.arange(customers), hours), rng.gamma(2.0, 0.01, hours * customers)
    kept = rng.random(len(times)) > 0.02
    times, meters, flows = times[kept], meters[kept], flows[kept]
    expected = naive_balance.metered_days(times, meters, flows, customers, first, days, USUAL_DAYS, WHOLE_HOURS)
    assert (expected[1:, 2] < customers).any()
    use, (_, ring, metered) = new_use(customers), new_balance(customers)
    got, reading = [], np.zeros(1, READING)
    for day in range(first, first + days):
        own = np.flatnonzero((times - 1) // DAY_MS == day)
        for at in rng.permutation(np.concatenate([own, own[rng.random(len(own)) < 0.3]])):
            reading["time_ms"], reading["value"] = times[at], flows[at]
            note_use(use[meters[at]], metered, meters[at], reading[0], (day + 1) * DAY_MS)
        judge_customers(use, metered, ring, day, np.empty((customers, 2), np.int64))
        row = ring[day % len(ring)]
        got.append((row["metered_m3h"], row["whole"], row["customers"]))
    np.testing.assert_allclose(np.array(got), expected, rtol=1e-6)


def test_what_is_supplied_agrees_with_its_naive_twin():
    rng, days, first = np.random.default_rng(2), 8, 20_000
    ends = first * DAY_MS + SLOT_MS * np.arange(1, days * DAY + 1)
    inflow, due = rng.gamma(50.0, 1.0, len(ends)), rng.gamma(50.0, 1.0, len(ends))
    inflow[rng.random(len(ends)) < 0.03] = np.nan
    inflow[3 * DAY + 10 : 3 * DAY + 40] = np.nan
    due[:DAY] = np.nan
    _, ring, _ = new_balance(HOUSES)
    for value, expected, end in zip(inflow, due, ends, strict=True):
        balance.note_supply(ring, value, expected, end)
    got = [balance.supplied_m3h(ring[day % len(ring)], DAY) for day in range(first, first + days)]
    expected = naive_balance.supplied_days(ends, inflow, due, first, days, COVERAGE)
    assert np.isnan(expected).sum() == 1
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_level_and_share_agree_with_a_kalman_filter_of_matrices():
    """Its days are those that lie more than two weeks back and have no known leak."""
    rng, last = np.random.default_rng(3), 20_055
    state, ring, _ = new_balance(HOUSES)
    ring["day"] = last - (last - np.arange(len(ring))) % len(ring)
    order = np.argsort(ring["day"])
    ring["metered_m3h"] = 40.0 + rng.normal(0.0, 2.0, len(ring))
    values = 5.0 + 0.3 * (ring["metered_m3h"] - 40.0) + rng.normal(0.0, 0.3, len(ring))
    values[order[7]] = np.nan
    begun = 20_020
    noise = balance.judge(state[0], ring, np.where(ring["day"] <= begun, values, np.nan), begun, 1.0)
    start, usual = (state[0]["level_m3h"], state[0]["level_variance"]), state[0]["usual_m3h"]
    known = (ring["day"] == begun + 5) | (ring["day"] == begun + 6)
    ring["known_m3h"][known] = 3.0
    noise = balance.judge(state[0], ring, values, last, 1.0)
    taught = order[(ring["day"][order] >= begun) & (ring["day"][order] <= last - balance.LAG_DAYS)]
    expected = naive_balance.level_and_share(
        np.where(known, np.nan, values)[taught], ring["metered_m3h"][taught] - usual, start, SHARE, noise, DRIFT, SURPRISE
    )
    np.testing.assert_allclose([state[0]["level_m3h"], state[0]["share"]], expected, rtol=1e-9)
    assert 0.3 < noise < 1.0  # of a share that is not known yet
    assert 0.1 < expected[1] < 0.5


def test_a_meter_finer_than_a_quarter_of_an_hour_adds_up_alike_in_any_order():
    rng, customers, days, first = np.random.default_rng(4), 12, 12, 20_000
    times = first * DAY_MS + 300_000 * np.arange(1, days * 288 + 1)
    flows = rng.gamma(2.0, 0.01, (len(times), customers))
    sums = []
    for _ in range(2):
        use, (_, ring, metered) = new_use(customers), new_balance(customers)
        reading = np.zeros(1, READING)
        for day in range(first, first + days):
            ahead = [np.flatnonzero((times - 1) // DAY_MS == day + more) for more in (0, 1)]
            for at in rng.permutation(np.concatenate([ahead[0], rng.choice(ahead[1], min(len(ahead[1]), 99), False)])):
                for i in rng.permutation(customers):
                    reading["time_ms"], reading["value"] = times[at], flows[at, i]
                    note_use(use[i], metered, i, reading[0], (day + 1) * DAY_MS)
            if day - 2 >= first:
                judge_customers(use, metered, ring, day - 2, np.empty((customers, 2), np.int64))
        sums.append(ring["metered_m3h"].copy())
    np.testing.assert_array_equal(sums[0], sums[1])
    even = (times % 900_000 == 0) & ((times - 1) // DAY_MS == first + days - 3)
    usual = np.array([np.round(flows, 4)[even].mean()]) * customers
    assert np.nanmax(sums[0]) > 0.0
    np.testing.assert_allclose(ring["metered_m3h"][(first + days - 3) % len(ring)], usual, rtol=1e-6)


# what comes of them


def test_a_leak_too_small_for_the_inflow_is_told_with_size_and_start_and_ends_with_its_repair():
    _, alerts, detections = watch(town(1, leak=(36, 48, 1.8)))
    first = next(alert for alert in raised(alerts) if "unmetered_above_band" in alert.reasons)
    assert (first.type, first.reasons[0]) == ("night_flow_leak", "unmetered_above_band")
    assert "than customers' meters show" in first.title.en
    assert "用户表" in first.title.zh
    assert first.evidence.metric == "unmetered"
    assert first.estimate.excess_flow == pytest.approx(1.8, rel=0.35)
    assert 36.0 - 2.0 <= day_of(first.started_at) <= 36.0 + 2.0
    assert 36.0 + AFTER_DAYS <= day_of(first.detected_at) <= 36.0 + AFTER_DAYS + 5.0
    last = [alert for alert in alerts if alert.alert_id == first.alert_id][-1]
    assert last.event == "cleared"
    assert 48.0 - 1.0 <= day_of(last.ended_at) <= 48.0 + 1.5
    assert any("Customers' meters show" in said for said in last.evidence.for_)
    assert np.nanmax(statistics(detections)) > 3.0


def test_a_hot_week_raises_nothing_through_it():
    """With all houses metered, and with two thirds of the use."""
    for metered in (1.0, 0.66):
        _, alerts, detections = watch(town(2, hot=(40, 47), metered=metered))
        assert all("unmetered_above_band" not in alert.reasons for alert in alerts)
        assert len(statistics(detections)) > 30


def test_a_large_user_with_a_meter_is_no_leak_and_the_alert_says_so():
    _, alerts, _ = watch(town(4, more=(38, 56, 8.0)))
    first = next(alert for alert in raised(alerts) if day_of(alert.detected_at) > 38)
    last = [alert for alert in alerts if alert.alert_id == first.alert_id][-1]
    assert (last.event, "customers_use_it" in last.reasons) == ("cleared", True)
    assert "no leak" in last.title.en
    assert "非漏损" in last.title.zh
    assert any("Customers' meters show" in said for said in last.evidence.against)
    assert day_of(last.updated_at) <= 38 + AFTER_DAYS + 3
    later = [alert for alert in raised(alerts) if alert.detected_at > last.updated_at]
    assert not later  # it is normal from then on


def test_a_burst_that_no_meter_shows_is_confirmed_and_stays():
    _, alerts, _ = watch(town(4, leak=(38, 52, 9.0)))
    first = next(alert for alert in raised(alerts) if day_of(alert.detected_at) > 37.9)
    own = [alert for alert in alerts if alert.alert_id == first.alert_id]
    assert day_of(own[-1].updated_at) > 51.9
    assert "unmetered_above_band" in own[-1].reasons
    assert any("Customers' meters show none of the" in said for said in own[-1].evidence.for_)


def test_a_day_on_which_many_customers_are_silent_says_nothing():
    _, alerts, detections = watch(town(5, silent=(40, 44, 30)))
    quiet = watch(town(5))[2]
    assert len(statistics(detections)) == len(statistics(quiet)) - 4
    assert not any("unmetered_above_band" in alert.reasons for alert in alerts)


def test_with_half_of_the_use_unmetered_or_few_meters_it_is_silent_and_takes_no_share_of_the_budget():
    assert not len(statistics(watch(town(6, metered=0.4))[2]))
    few = network(balance.MIN_CUSTOMERS - 1)
    alone = sum(detector.raises_alone for detector in DETECTORS) - 3  # the pressures' two speak neither
    assert params_of(few, "D").return_days == pytest.approx(7 * alone / few.alerts_per_week)
    assert params_of(SITE, "D").return_days == pytest.approx(7 * (alone + 1) / SITE.alerts_per_week)
    assert Engine(few, "D")._buffers.metered.nbytes == 0


@pytest.mark.parametrize("seed", range(3))
def test_uploads_in_any_order_twice_and_cut_anywhere_leave_no_trace(seed):
    """Alerts and detections byte for byte, restarts and late slots included."""
    block = town(1, leak=(36, 48, 1.8))
    expected = watch(block, parts=1)
    rng = np.random.default_rng(seed)
    twice = rng.random(len(block)) < 0.1
    both = np.concatenate([block, block[twice]])
    is_house = both["meter"] != SITE.meter_row["inlet"]
    day = (both["time_ms"] - START_MS - 1) // DAY_MS
    arrival = np.where(is_house, START_MS + (day + 1) * DAY_MS, both["time_ms"])
    arrival = arrival + rng.uniform(0, 1, len(both)) * np.where(is_house, 23 * HOUR_MS, 3.5 * HOUR_MS)
    shuffled = both[np.argsort(arrival, kind="stable")]
    cuts = np.sort(rng.integers(0, len(shuffled), 60))
    engine, alerts, rows = Engine(SITE, "D"), [], []
    for part in np.split(shuffled, cuts):
        step = engine.step(part)
        alerts, rows = alerts + step.alerts, [*rows, step.detections]
        if rng.random() < 0.4:
            blob = engine.snapshot()
            engine = Engine(SITE, "D")
            engine.restore(blob)
    assert [alert for alert in alerts if alert.type != "customer_leak"] == expected[1]
    got = np.concatenate(rows)
    assert len(expected[1]) >= 2
    assert got.tobytes() == expected[2][: len(got)].tobytes()
    assert len(got) > (DAYS - 1) * DAY


def test_late_readings_come_out_the_same_however_they_are_cut_where_days_of_customers_cut_them_too():
    block = town(4, leak=(38, 52, 9.0))
    rng = np.random.default_rng(9)
    is_house = block["meter"] != SITE.meter_row["inlet"]
    late = np.where(~is_house & (rng.random(len(block)) < 0.03), 8 * HOUR_MS, 0)
    day = (block["time_ms"] - START_MS - 1) // DAY_MS
    arrival = np.where(is_house, START_MS + (day + 1) * DAY_MS + 12 * HOUR_MS, block["time_ms"]) + late
    shuffled = block[np.argsort(arrival, kind="stable")]
    expected = watch(shuffled, parts=1)
    assert any("late_readings" in alert.reasons for alert in expected[1])
    for parts in (7, 100):
        got = watch(shuffled, parts)
        assert got[1] == expected[1]
        assert got[2].tobytes() == expected[2].tobytes()


def test_a_leak_that_begins_where_an_ended_one_began_has_an_id_of_its_own():
    """Days begin at midnight for every leak; what is found out to be demand may be followed by a leak of the same days."""
    block = town(1336, leak=(33, 38, 1.8), more=(37, 56, 8.0)).copy()
    day = (block["time_ms"] - START_MS) / DAY_MS
    block["value"][(block["meter"] == SITE.meter_row["inlet"]) & (day > 39) & (day < 43)] += 1.8
    _, alerts, _ = watch(block)
    told = {}
    for alert in alerts:
        assert alert.revision == told.get(alert.alert_id, 0) + 1
        told[alert.alert_id] = alert.revision
    starts = sorted(alert.started_at for alert in raised(alerts) if alert.type == "night_flow_leak")
    assert 1000 in np.diff(starts)  # ms


@pytest.mark.parametrize("drip_m3h", [0.0, 0.02])
def test_a_dma_that_takes_nothing_is_watched_on(drip_m3h):
    block = town(2).copy()
    block["value"] = np.where(block["meter"] == SITE.meter_row["house-0"], drip_m3h, 0.0)
    _, alerts, detections = watch(block)
    assert not [alert for alert in alerts if alert.scope.type == "dma"]
    assert len(detections) > 50 * 96
